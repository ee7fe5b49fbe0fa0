"""Deformable convolution in plain PyTorch: the twin of `deform_conv_triton`, and the CPU path.

The formula is in `deform_conv`. `geometry` is always (kernel, stride, padding, dilation), each a pair (y, x).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from dimofs.kernels.deform_torch import SamplingGrid, bilinear, derivatives, sample, sample_backward

# The channels are sampled in up to this many parts, one after the other: all taps of all channels at once would need
# the memory of Ky Kx maps.
PARTS = 16
# A part takes at least this many samples, as smaller parts save no memory worth the overhead.
MIN_PART_SAMPLES = 2**18


def conv_groups(channels: int, weight: Tensor) -> int:
    """The groups of a convolution of `channels` channels by `weight` [O, C / groups, Ky, Kx]; 1 without channels."""
    return max(1, channels // max(1, weight.shape[1]))


def convolve_torch(input: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, geometry) -> Tensor:
    """`deform_conv2d` of checked arguments, without the bias."""
    if torch.compiler.is_compiling():
        # Compilers fuse the whole formula, so parts would only get in their way.
        return convolve_columns(input, offset, mask, weight, geometry)
    return _Convolve.apply(input, offset, mask, weight, geometry)


def convolve_columns(input: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, geometry) -> Tensor:
    """The formula as it stands: sample all taps, then multiply."""
    columns = deform_columns_torch(input, offset, mask, *geometry)
    return multiply(columns, weight).view(-1, weight.shape[0], *offset.shape[2:])


def multiply(columns: Tensor, weight: Tensor) -> Tensor:
    """Multiply sampled taps [N, C, Ky Kx, h w] by `weight` [O, C / groups, Ky, Kx] -> [N, O, h w]."""
    n, c, taps, pixels = columns.shape
    groups = conv_groups(c, weight)
    kernel = weight.to(columns.dtype).reshape(groups, weight.shape[0] // groups, weight.shape[1] * taps)
    return (kernel @ columns.view(n, groups, kernel.shape[2], pixels)).view(n, weight.shape[0], pixels)


def deform_columns_torch(
    input: Tensor, offset: Tensor, mask: Tensor | None, kernel, stride, padding, dilation
) -> Tensor:
    """Sample all taps of all output pixels.

    input [N, C, H, W], offset [N, 2 G Ky Kx, h, w], mask [N, G Ky Kx, h, w] or None -> [N, C, Ky Kx, h w].
    """
    n, c = input.shape[:2]
    taps, pixels = kernel[0] * kernel[1], offset.shape[2] * offset.shape[3]
    groups = offset.shape[1] // (2 * taps)
    planes = bilinear(
        input.reshape(n * groups, c // groups, *input.shape[2:]),
        offset.reshape(n * groups, taps, 2, pixels).transpose(1, 2),
        tap_positions(offset.shape[2:], kernel, stride, padding, dilation, input.device),
    )
    if mask is not None:
        planes = planes * mask.reshape(n * groups, 1, taps, pixels).to(planes.dtype)
    return planes.view(n, c, taps, pixels)


class _Convolve(torch.autograd.Function):
    """`convolve_columns`, one part of the channels at a time."""

    @staticmethod
    def forward(ctx, input: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, geometry) -> Tensor:
        ctx.save_for_backward(input, offset, mask, weight)
        ctx.geometry = geometry
        grouped = _Grouped(input, offset, mask, weight, geometry)
        out = grouped.kernel.new_zeros(len(input), *grouped.kernel.shape[:2], grouped.offset.shape[-1])
        for image in range(len(input)):
            grid = grouped.sampling.grid(grouped.offset[image])
            for part in grouped.parts:
                columns = sample(grouped.planes(image, part), grid[part.offset_groups])
                if grouped.mask is not None:
                    columns *= grouped.mask[image, part.offset_groups]
                kernel = grouped.kernel[part.groups, :, part.columns]
                out[image, part.groups].baddbmm_(kernel, columns.view(len(kernel), kernel.shape[2], -1))
        return out.view(len(input), len(weight), *offset.shape[2:])

    @staticmethod
    def backward(ctx, grad: Tensor):
        input, offset, mask, weight = ctx.saved_tensors
        if torch.is_grad_enabled():
            # Second derivatives were asked for (create_graph=True).
            function = lambda x, o, m, k: convolve_columns(x, o, m, k, ctx.geometry)  # noqa: E731
            return *derivatives(function, (input, offset, mask, weight), grad), None
        grouped = _Grouped(input, offset, mask, weight, ctx.geometry)
        sums = _Gradients(grouped)
        grad = grad.to(grouped.sampling.dtype).reshape(len(input), *grouped.kernel.shape[:2], grouped.offset.shape[-1])
        for image in range(len(input)):
            grid = grouped.sampling.grid(grouped.offset[image])
            for part in grouped.parts:
                sums.add(image, part, grid[part.offset_groups], grad[image, part.groups])
        moved = sums.offset.transpose(2, 3).reshape(offset.shape).to(offset.dtype)
        factor = None if mask is None or sums.mask is None else sums.mask.view(mask.shape).to(mask.dtype)
        return sums.input, moved, factor, sums.kernel.view(weight.shape).to(weight.dtype), None


class Part(NamedTuple):
    """A part of the input channels, and where the other tensors hold what belongs to it."""

    channels: slice
    # Groups of channels that share an offset.
    offset_groups: slice
    # Groups of the convolution.
    groups: slice
    # The columns of each group's weight matrix [O / groups, C / groups * Ky Kx].
    columns: slice


class _Grouped:
    """The inputs reshaped by group, in the dtype of the sums, and the parts in which they are processed.

    offset [N, G, 2, Ky Kx, h w], mask [N, G, 1, Ky Kx, h w] or None, kernel [groups, O / groups, C / groups * Ky Kx].
    """

    def __init__(self, input: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, geometry):
        n, c = input.shape[:2]
        taps, pixels = weight.shape[2] * weight.shape[3], offset.shape[2] * offset.shape[3]
        self.input = input
        self.sampling = SamplingGrid(input, tap_positions(offset.shape[2:], *geometry, device=input.device))
        dtype, offset_groups = self.sampling.dtype, offset.shape[1] // (2 * taps)
        self.offset = offset.to(dtype).reshape(n, offset_groups, taps, 2, pixels).transpose(2, 3)
        self.mask = None if mask is None else mask.to(dtype).reshape(n, offset_groups, 1, taps, pixels)
        groups = conv_groups(c, weight)
        self.kernel = weight.to(dtype).reshape(groups, weight.shape[0] // groups, weight.shape[1] * taps)
        self.parts = channel_parts(c, taps, pixels, offset_groups, groups)

    def planes(self, image: int, part: Part) -> Tensor:
        """The part's channels of an image by offset group, [groups, channels, H, W]."""
        groups = part.offset_groups.stop - part.offset_groups.start
        return self.input[image, part.channels].to(self.sampling.dtype).unflatten(0, (groups, -1))


class _Gradients:
    """The sums of the gradients, shaped like the tensors of `_Grouped`."""

    def __init__(self, grouped: _Grouped):
        self.grouped = grouped
        self.input = torch.empty_like(grouped.input)
        self.kernel, self.offset = torch.zeros_like(grouped.kernel), torch.zeros_like(grouped.offset)
        self.mask = None if grouped.mask is None else torch.zeros_like(grouped.mask)

    def add(self, image: int, part: Part, grid: Tensor, flow: Tensor) -> None:
        """Add the gradients of one part of an image, given those of the result, `flow` [groups, O / groups, h w]."""
        grouped, planes, kernel = (
            self.grouped,
            self.grouped.planes(image, part),
            self.grouped.kernel[part.groups, :, part.columns],
        )
        columns = sample(planes, grid)
        factor = 1 if grouped.mask is None else grouped.mask[image, part.offset_groups]
        rows = (columns if grouped.mask is None else columns * factor).view(len(kernel), kernel.shape[2], -1)
        self.kernel[part.groups, :, part.columns].baddbmm_(flow, rows.mT)
        del rows
        upstream = (kernel.mT @ flow).view_as(columns)
        if self.mask is not None:
            self.mask[image, part.offset_groups] += columns.mul_(upstream).sum(dim=1, keepdim=True)
            upstream *= factor
        del columns
        part_x, turned = sample_backward(upstream, planes, grid)
        self.input[image, part.channels] = part_x.flatten(0, 1)
        self.offset[image, part.offset_groups] += grouped.sampling.pixels(turned)


def channel_parts(channels: int, taps: int, pixels: int, offset_groups: int, groups: int) -> list[Part]:
    """Split the channels into parts of equal size.

    `offset_groups` and `groups` are how many groups of either kind there are. A part never crosses the border of a
    group: it lies inside one, or holds several whole ones.
    """
    if channels == 0:
        return []
    moved, convolved = channels // offset_groups, channels // groups

    def fits(size: int) -> bool:
        return channels % size == 0 and all(size % group == 0 or group % size == 0 for group in (moved, convolved))

    most = max(channels // PARTS, MIN_PART_SAMPLES // (taps * max(pixels, 1)), 1)
    size = max(s for s in range(1, channels + 1) if s <= most and fits(s))
    parts = []
    for start in range(0, channels, size):
        first = start % convolved
        parts.append(
            Part(
                channels=slice(start, start + size),
                offset_groups=_covered(start, size, moved),
                groups=_covered(start, size, convolved),
                columns=slice(first * taps, (first + min(size, convolved)) * taps),
            )
        )
    return parts


def _covered(start: int, size: int, group: int) -> slice:
    """Which groups of `group` channels the channels from `start` to `start + size` belong to."""
    return slice(start // group, max(start // group + 1, (start + size) // group))


def tap_positions(size, kernel, stride, padding, dilation, device: torch.device) -> Tensor:
    """The row and column of each tap of each output pixel, without its offset -> [2, Ky Kx, h w]."""
    axes = [
        torch.arange(k, device=device)[:, None] * d - p + torch.arange(s, device=device) * r
        for s, k, r, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
    ]  # [Ky, h], [Kx, w]
    shape = (*kernel, *size)
    rows, columns = axes[0][:, None, :, None].expand(shape), axes[1][None, :, None, :].expand(shape)
    return torch.stack((rows, columns)).flatten(3).flatten(1, 2)
