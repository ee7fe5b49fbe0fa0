"""Keypoint branch: one heatmap a joint over each person's region, the ICCV 2017 PoseTrack winner's design ([16]).

Coordinates are continuous: a heatmap of S x S cells spans the region exactly, cell i covers [i, i + 1) / S of it.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dimofs.kernels.roi_align import roi_align


class KeypointHead(nn.Module):
    """RoIAlign, 3x3 convs of `hidden` channels, one a dilation, deconvolution x2, bilinear x`bilinear`: logits a joint.

    The defaults are [16]'s: 14x14 regions, eight convs of 512 channels, 56x56 logits.

    `canonical_scale` is the region size (pixels) that reads pyramid level P4; twice that of the box branch pools each
    person one level finer.
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
    ):
        super().__init__()
        self.joints, self.canonical_scale = joints, canonical_scale
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

    def forward(self, levels: Sequence[Tensor], regions: Sequence[Tensor], scales: Sequence[float]) -> Tensor:
        """Regions of N images, [K_n, 4] each -> logits [K, J, S, S]."""
        x = roi_align(levels, regions, self.resolution, scales, sampling_ratio=2, canonical_scale=self.canonical_scale)
        for conv in self.convs:
            x = conv(x).relu_()
        return F.interpolate(self.deconv(x).float(), scale_factor=self.bilinear, mode="bilinear", align_corners=False)


def decode(logits: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
    """Joints at the peaks: logits [K, J, S, S] over regions [K, 4] -> points [K, J, 2], peak logits [K, J].

    As [16] and torchvision do: each heatmap is resized (bicubic) to one cell a pixel of its region, and the largest
    cell's centre is the joint.
    """
    size = (regions[:, 2:] - regions[:, :2]).clamp(min=1)
    cells = size.ceil()
    points, peaks = [logits.new_zeros((0, logits.shape[1], 2))], [logits.new_zeros((0, logits.shape[1]))]
    for heatmaps, (width, height) in zip(logits, cells.long().tolist(), strict=True):
        full = F.interpolate(heatmaps[None], size=(height, width), mode="bicubic", align_corners=False)[0]
        peak, where = full.flatten(1).max(1)
        points.append(torch.stack((where % width, where // width), dim=1)[None] + 0.5)
        peaks.append(peak[None])
    return torch.cat(points) * (size / cells)[:, None] + regions[:, None, :2], torch.cat(peaks)


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
