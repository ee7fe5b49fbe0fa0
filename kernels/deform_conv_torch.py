"""PyTorch twin of the Triton kernels of deformable convolution, and the CPU path; the formula is in `deform_conv`."""

from typing import NamedTuple

import torch
from torch import Tensor

from dimofs.kernels.deform_torch import SamplingGrid, bilinear, derivatives, sample, sample_backward

PARTS = 16  # of the channels, sampled one after the other: all at once would take Ky Kx maps
SMALL = 2**18  # samples that are taken at once even so


def convolve_torch(input: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, geometry) -> Tensor:
    """The twin of the Triton kernels in plain PyTorch, and the CPU path: all but the bias."""
    if torch.compiler.is_compiling():  # compilers fuse the whole formula
        return convolve_columns(input, offset, mask, weight, geometry)
    return _Convolve.apply(input, offset, mask, weight, geometry)


def convolve_columns(input: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, geometry) -> Tensor:
    """The formula written down: sample every tap, then multiply."""
    columns = deform_columns_torch(input, offset, mask, *geometry)
    return multiply(columns, weight).view(-1, weight.shape[0], *offset.shape[2:])


def multiply(columns: Tensor, weight: Tensor) -> Tensor:
    """The convolution of sampled taps: [N, C, Ky Kx, h w] with [O, C / groups, Ky, Kx] -> [N, O, h w]."""
    n, c, _, pixels = columns.shape
    groups = c // weight.shape[1]
    kernel = weight.to(columns.dtype).view(groups, weight.shape[0] // groups, -1)
    return (kernel @ columns.view(n, groups, kernel.shape[2], pixels)).view(n, -1, pixels)


def deform_columns_torch(
    input: Tensor, offset: Tensor, mask: Tensor | None, kernel, stride, padding, dilation
) -> Tensor:
    """Every tap of every output pixel.

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
    """`convolve_columns` for a part of the channels at a time."""

    @staticmethod
    def forward(ctx, input: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, geometry) -> Tensor:
        ctx.save_for_backward(input, offset, mask, weight)
        ctx.geometry = geometry
        work = _Work(input, offset, mask, weight, geometry)
        out = work.kernel.new_zeros(len(input), *work.kernel.shape[:2], work.offset.shape[-1])
        for image in range(len(input)):
            grid = work.frame.grid(work.offset[image])
            for part in work.parts:
                columns = sample(work.planes(image, part), grid[part.moved])
                if work.mask is not None:
                    columns *= work.mask[image, part.moved]
                kernel = work.kernel[part.heads, :, part.rows]
                out[image, part.heads].baddbmm_(kernel, columns.view(len(kernel), kernel.shape[2], -1))
        return out.view(len(input), len(weight), *offset.shape[2:])

    @staticmethod
    def backward(ctx, grad: Tensor):
        input, offset, mask, weight = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody differentiates twice
            function = lambda x, o, m, k: convolve_columns(x, o, m, k, ctx.geometry)  # noqa: E731
            return *derivatives(function, (input, offset, mask, weight), grad), None
        work = _Work(input, offset, mask, weight, ctx.geometry)
        sums = _Sums(work)
        grad = grad.to(work.frame.dtype).reshape(len(input), *work.kernel.shape[:2], work.offset.shape[-1])
        for image in range(len(input)):
            grid = work.frame.grid(work.offset[image])
            for part in work.parts:
                sums.add(image, part, grid[part.moved], grad[image, part.heads])
        moved = sums.offset.transpose(2, 3).reshape(offset.shape).to(offset.dtype)
        factor = None if mask is None or sums.mask is None else sums.mask.view(mask.shape).to(mask.dtype)
        return sums.input, moved, factor, sums.kernel.view(weight.shape).to(weight.dtype), None


class Part(NamedTuple):
    """Some channels, their groups of offsets, their groups of the convolution, and their rows of those kernels."""

    channels: slice
    moved: slice
    heads: slice
    rows: slice


class _Work:
    """The tensors by group, in the type of the sums, and the parts in which they are worked on.

    offset [N, G, 2, Ky Kx, h w], mask [N, G, 1, Ky Kx, h w] or None, kernel [groups, O / groups, C / groups * Ky Kx].
    """

    def __init__(self, input: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, geometry):
        n, c = input.shape[:2]
        taps, pixels = weight.shape[2] * weight.shape[3], offset.shape[2] * offset.shape[3]
        self.input = input
        self.frame = SamplingGrid(input, tap_positions(offset.shape[2:], *geometry, device=input.device))
        dtype, moved = self.frame.dtype, offset.shape[1] // (2 * taps)
        self.offset = offset.to(dtype).reshape(n, moved, taps, 2, pixels).transpose(2, 3)
        self.mask = None if mask is None else mask.to(dtype).reshape(n, moved, 1, taps, pixels)
        heads = c // weight.shape[1]
        self.kernel = weight.to(dtype).reshape(heads, weight.shape[0] // heads, -1)
        self.parts = channel_parts(c, taps, pixels, moved, heads)

    def planes(self, image: int, part: Part) -> Tensor:
        """The part's channels by group of offsets, [groups, channels, H, W]."""
        groups = part.moved.stop - part.moved.start
        return self.input[image, part.channels].to(self.frame.dtype).unflatten(0, (groups, -1))


class _Sums:
    """The gradients, shaped as the tensors of `_Work`."""

    def __init__(self, work: _Work):
        self.work = work
        self.input = torch.empty_like(work.input)
        self.kernel, self.offset = torch.zeros_like(work.kernel), torch.zeros_like(work.offset)
        self.mask = None if work.mask is None else torch.zeros_like(work.mask)

    def add(self, image: int, part: Part, grid: Tensor, flow: Tensor) -> None:
        """What reaches a part of an image from `flow`, the gradient [groups, O / groups, h w] of the result."""
        work, planes, kernel = self.work, self.work.planes(image, part), self.work.kernel[part.heads, :, part.rows]
        columns = sample(planes, grid)
        factor = 1 if work.mask is None else work.mask[image, part.moved]
        rows = (columns if work.mask is None else columns * factor).view(len(kernel), kernel.shape[2], -1)
        self.kernel[part.heads, :, part.rows].baddbmm_(flow, rows.mT)
        del rows
        upstream = (kernel.mT @ flow).view_as(columns)
        if self.mask is not None:
            self.mask[image, part.moved] += columns.mul_(upstream).sum(dim=1, keepdim=True)
            upstream *= factor
        del columns
        part_x, turned = sample_backward(upstream, planes, grid)
        self.input[image, part.channels] = part_x.flatten(0, 1)
        self.offset[image, part.moved] += work.frame.pixels(turned)


def channel_parts(channels: int, taps: int, pixels: int, moved: int, heads: int) -> list[Part]:
    """Parts that lie in one group of either kind or are several whole ones."""
    groups = channels // moved, channels // heads  # sizes
    most = max(channels // PARTS, SMALL // (taps * max(pixels, 1)), 1)
    fits = (s for s in range(1, channels + 1) if channels % s == 0 and all(s % g == 0 or g % s == 0 for g in groups))
    size = max(s for s in fits if s <= most)
    covered = [[slice(i // g, max(i // g + 1, (i + size) // g)) for i in range(0, channels, size)] for g in groups]
    rows = [
        slice(i % groups[1] * taps, (i % groups[1] + min(size, groups[1])) * taps) for i in range(0, channels, size)
    ]
    starts = range(0, channels, size)
    return [Part(slice(i, i + size), m, k, r) for i, m, k, r in zip(starts, *covered, rows, strict=True)]


def tap_positions(size, kernel, stride, padding, dilation, device: torch.device) -> Tensor:
    """Row and column of every tap of every output pixel before it moves -> [2, Ky Kx, h w]."""
    axes = [
        torch.arange(k, device=device)[:, None] * d - p + torch.arange(s, device=device) * r
        for s, k, r, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
    ]  # [Ky, h], [Kx, w]
    shape = (*kernel, *size)
    rows, columns = axes[0][:, None, :, None].expand(shape), axes[1][None, :, None, :].expand(shape)
    return torch.stack((rows, columns)).flatten(3).flatten(1, 2)
