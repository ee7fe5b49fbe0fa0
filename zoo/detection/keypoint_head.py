"""Keypoint branch: one heatmap per joint over each person's region.

The design is that of the ICCV 2017 PoseTrack winner, Detect-and-Track (Girdhar et al., 2018).

Coordinates are continuous: a heatmap of S x S cells spans the region exactly, cell i covers [i, i + 1) / S of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dimofs.kernels.roi_align import roi_align
from dimofs.zoo.backbones.fpn import SCALES


class KeypointHead(nn.Module):
    """RoIAlign, 3x3 convolutions of `hidden` channels, deconvolution x2, bilinear x`bilinear`: logits of each joint.

    The defaults are those of Detect-and-Track: 14x14 regions, eight convolutions of 512 channels, 56x56 logits.

    dilations: one per convolution. canonical_scale: the region size (pixels) that is pooled from pyramid level P4;
    twice the box branch's value pools each person one level finer. smoothing: how `decode` finds joints.
    """

    def __init__(
        self,
        channels: int,
        joints: int,
        *,
        hidden: int = 512,
        dilations: Sequence[int] = (1,) * 8,
        resolution: int = 14,
        bilinear: int = 2,
        canonical_scale: int = 224,
        smoothing: float | None = None,
    ):
        super().__init__()
        self.joints, self.canonical_scale, self.smoothing = joints, canonical_scale, smoothing
        self.resolution, self.bilinear = resolution, bilinear
        widths = [channels] + [hidden] * (len(dilations) - 1)
        self.convs = nn.ModuleList(
            nn.Conv2d(width, hidden, 3, padding=d, dilation=d) for width, d in zip(widths, dilations, strict=True)
        )
        self.deconv = nn.ConvTranspose2d(hidden, joints, 4, stride=2, padding=1)
        for conv in (*self.convs, self.deconv):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")  # type: ignore[arg-type]
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    @property
    def heatmap_size(self) -> int:
        return 2 * self.bilinear * self.resolution

    def forward(self, levels: Sequence[Tensor], regions: Sequence[Tensor]) -> Tensor:
        """P2..P5 and regions of N images, [K_n, 4] each -> logits [K, J, S, S], K the sum of all K_n."""
        x = roi_align(levels, regions, self.resolution, SCALES, sampling_ratio=2, canonical_scale=self.canonical_scale)
        # See `_convolve` for the compilers' case.
        fast = torch.contiguous_format if torch.compiler.is_compiling() else torch.channels_last
        x = x.contiguous(memory_format=fast)
        for conv in self.convs:
            x = _convolve(conv, x).relu_()
        logits = _convolve(self.deconv, x).float()
        if self.bilinear == 1:
            return logits
        return F.interpolate(logits, scale_factor=self.bilinear, mode="bilinear", align_corners=False)


def _convolve(conv: nn.Module, x: Tensor) -> Tensor:
    """`conv(x)`; under a compiler, the same as a 3-d convolution over volumes one pixel deep.

    On a CPU, Inductor (torch 2.14) gets the strides of 2-d convolutions over an unknown number of regions wrong:
    torch.compile fails and AOTInductor computes wrong numbers.
    """
    assert isinstance(conv, (nn.Conv2d, nn.ConvTranspose2d))
    if not torch.compiler.is_compiling():
        return conv(x)
    convolve: Any = F.conv_transpose3d if isinstance(conv, nn.ConvTranspose2d) else F.conv3d
    stride, padding, dilation = (1, *conv.stride), (0, *conv.padding), (1, *conv.dilation)
    x, weight = x[:, :, None], conv.weight[:, :, None]
    return convolve(x, weight, conv.bias, stride, padding, dilation=dilation)[:, :, 0]


def decode(logits: Tensor, regions: Tensor, smoothing: float | None = None) -> tuple[Tensor, Tensor]:
    """Joints at the peaks: logits [K, J, S, S] over regions [K, 4] -> points [K, J, 2], peak logits [K, J].

    Without `smoothing`, as in Detect-and-Track and torchvision, each heatmap is resized (bicubic) to one cell per pixel
    of its region, and the joint is the centre of the largest cell. With it, see `smooth_peaks`.
    """
    if smoothing is not None:
        size = (regions[:, 2:] - regions[:, :2]) / logits.shape[-1]
        with torch.autocast(logits.device.type, enabled=False):
            peaks = smooth_peaks(logits, smoothing)
        return peaks * size[:, None] + regions[:, None, :2], logits.amax((2, 3))
    size = (regions[:, 2:] - regions[:, :2]).clamp(min=1)
    cells = size.ceil()
    with torch.autocast(logits.device.type, enabled=False):
        x, y, peaks = _resized_peaks(logits, cells).unbind(1)
    points = (torch.stack((x, y), dim=-1) + 0.5) * (size / cells)[:, None] + regions[:, None, :2]
    return points, peaks


def smooth_peaks(logits: Tensor, smoothing: float) -> Tensor:
    """Where the probability of each joint is highest: logits [K, J, S, S] -> x and y [K, J, 2] in cells.

    As in DARK (Zhang et al., CVPR 2020), a Gaussian with a standard deviation of `smoothing` cells smooths each
    softmax, and a Newton step on its logarithm, at most a cell long, leads from the largest cell to the peak: the exact
    one if the smoothed probability is a Gaussian itself.
    """
    cells = logits.shape[-1]
    blur = _gaussian(cells, smoothing).to(logits)
    # In this order a softmax reads its map from end to end.
    probabilities = logits.contiguous().flatten(2).softmax(2).view_as(logits)
    smoothed = (blur @ probabilities @ blur.mT).flatten(2)
    index = smoothed.argmax(2)
    # At the border, the step starts from the cell beside it, whose neighbours all exist.
    x, y = (index % cells).clamp(1, cells - 2), (index // cells).clamp(1, cells - 2)

    def height(right: int, down: int) -> Tensor:
        found = smoothed.gather(2, ((y + down) * cells + x + right)[..., None])[..., 0]
        return found.clamp(min=torch.finfo(found.dtype).tiny).log()

    middle = height(0, 0)
    dx, dy = (height(1, 0) - height(-1, 0)) / 2, (height(0, 1) - height(0, -1)) / 2
    dxx, dyy = height(1, 0) - 2 * middle + height(-1, 0), height(0, 1) - 2 * middle + height(0, -1)
    dxy = (height(1, 1) - height(1, -1) - height(-1, 1) + height(-1, -1)) / 4
    step = torch.stack((dxy * dy - dyy * dx, dxy * dx - dxx * dy), dim=-1)
    determinant = (dxx * dyy - dxy * dxy)[..., None]
    # Only a surface that is curved down in all directions has a peak.
    peaked = (determinant > 1e-9) & (dxx < 0)[..., None]
    step = torch.where(peaked, step / determinant.where(peaked, 1.0), 0.0).clamp(-1, 1)
    return torch.stack((x, y), dim=-1) + 0.5 + step


def _gaussian(cells: int, deviation: float) -> Tensor:
    """A matrix [cells, cells] that smooths as many values; its rows sum to 1."""
    place = torch.arange(cells, dtype=torch.float32)
    weights = torch.exp(-((place[:, None] - place) ** 2) / (2 * deviation**2))
    # Numbers too small for float32 to hold normally would make every product with them many times as slow.
    weights = weights.where(weights > 1e-12, 0.0)
    return weights / weights.sum(dim=1, keepdim=True)


def _resized_peaks(logits: Tensor, cells: Tensor) -> Tensor:
    """x, y and value [K, 3, J] of the largest cell of each heatmap resized to `cells` [K, 2] (width, height)."""
    width, height = torch.cat((cells, cells.new_full((1, 2), 2))).amax(0).long().tolist()
    for most in (width, height):
        # Compilers specialize on a size of 1.
        torch._check(most > 1)
    across, down = (bicubic(logits.shape[-1], cells[:, i], n).to(logits) for i, n in enumerate((width, height)))
    if torch.compiler.is_compiling():
        # A loop over people cannot be traced; a loop over joints saves memory.
        return torch.stack([_peak(down @ (one @ across.mT)) for one in logits.unbind(1)], dim=2)
    found = logits.new_empty(len(logits), 3, logits.shape[1])
    for i, (w, h) in enumerate(cells.long().tolist()):
        found[i] = _peak(down[i, :h] @ (logits[i] @ across[i, :w].T)).T
    return found


def _peak(maps: Tensor) -> Tensor:
    """Maps [B, H, W] -> x, y and value [B, 3] of the largest cell, the first one if several are equal."""
    value, y = maps.amax(2).max(1)
    x = maps[torch.arange(maps.shape[0], device=maps.device), y].argmax(1)
    return torch.stack((x.to(value), y.to(value), value), dim=1)


def bicubic(cells: int, sizes: Tensor, most: int) -> Tensor:
    """Matrices [K, most, cells] that resize `cells` values to `sizes` [K] values as F.interpolate does.

    Rows beyond a matrix's own size repeat its last row. Keys' kernel with a = -0.75: each sample reads the four values
    around it, and values beyond an end equal the last one.
    """
    pixel = torch.arange(most, device=sizes.device).minimum(sizes[:, None] - 1)
    position = (pixel + 0.5) * (cells / sizes)[:, None] - 0.5
    tap = position.floor()[..., None] + torch.arange(-1, 3, device=sizes.device)
    d = (position[..., None] - tap).abs()
    weight = torch.where(d <= 1, (1.25 * d - 2.25) * d * d + 1, ((-0.75 * d + 3.75) * d - 6) * d + 3)
    index = tap.long().clamp(0, cells - 1)
    return weight.new_zeros(*pixel.shape, cells).scatter_add(2, index, weight)


def encode(points: Tensor, regions: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Training targets: points [K, J, 2] in regions [K, 4] -> cell index [K, J] in S * S, and whether it lies inside.

    Points on the far border belong to the last cell.
    """
    low, extent = regions[:, None, :2], (regions[:, 2:] - regions[:, :2]).clamp(min=1e-6)[:, None]
    cell = ((points - low) * (size / extent)).floor()
    cell = torch.where(points == regions[:, None, 2:], torch.full_like(cell, size - 1), cell).long()
    inside = ((cell >= 0) & (cell < size)).all(-1)
    cell = cell.clamp(0, size - 1)
    return cell[..., 1] * size + cell[..., 0], inside
