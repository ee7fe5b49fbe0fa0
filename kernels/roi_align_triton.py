"""Triton kernels of RoIAlign: each output cell is a weighted sum of rows of a table of pixels, channels last.

    out[r, i, j, :] = mean over samples (a, b) of bilinear(map(r), y, x)
    y = start_y + i * bin_y + (a + 1/2) * bin_y / samples_y,    x likewise

All channels of a pixel lie together in memory, so every read and every atomic addition is contiguous. Coordinates and
sums are float32, or float64 for a float64 table.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import wrap_triton

from dimofs.kernels.operators import operator
from dimofs.kernels.roi_align_torch import cells_first, pixel_table
from dimofs.kernels.roi_place import Regions, place
from dimofs.kernels.scatter import new_sums, read_sums, scatter_add

# The most channels per program.
CHANNELS = 256


def pool_triton(maps: Sequence[Tensor], regions: Regions) -> Tensor:
    """`roi_align` of checked arguments on a GPU: maps of [N, C, H, W] -> [K, C, *size]."""
    origin, extent, start, bins, samples = place(maps, regions)
    geometry = torch.stack((extent, start, bins, samples.to(bins.dtype)), dim=1)
    return cells_first(_pool(pixel_table(maps), origin, geometry, *regions.size), regions.size)


def _pool_fake(table: Tensor, origin: Tensor, geometry: Tensor, height: int, width: int) -> Tensor:
    return table.new_empty(origin.shape[0] * height * width, table.shape[1])


@operator("roi_pool", _pool_fake)
def _pool(table: Tensor, origin: Tensor, geometry: Tensor, height: int, width: int) -> Tensor:
    """`geometry` [K, 4, 2] holds extent, start, bins and samples of `Placed`."""
    out = _pool_fake(table, origin, geometry, height, width)
    if out.numel():
        grid, block = _launch(out)
        wrap_triton(pool_kernel)[grid](
            table.contiguous(), origin, geometry, out, table.shape[1], height, width, BLOCK=block
        )
    return out


def _spread_fake(grad: Tensor, rows: int, origin: Tensor, geometry: Tensor, height: int, width: int) -> Tensor:
    return grad.new_empty(rows, grad.shape[1])


@operator("roi_pool_backward", _spread_fake)
def _spread(grad: Tensor, rows: int, origin: Tensor, geometry: Tensor, height: int, width: int) -> Tensor:
    sums, scale = new_sums((rows, grad.shape[1]), grad.shape[0], grad)
    if grad.numel():
        grid, block = _launch(grad)
        wrap_triton(spread_kernel)[grid](
            grad.contiguous(), origin, geometry, sums, scale, grad.shape[1], height, width, BLOCK=block
        )
    return read_sums(sums, scale, grad.dtype)


def _keep(ctx, inputs, output) -> None:
    table, origin, geometry, ctx.height, ctx.width = inputs
    ctx.rows = table.shape[0]
    ctx.save_for_backward(origin, geometry)


def _backward(ctx, grad: Tensor):
    return _spread(grad, ctx.rows, *ctx.saved_tensors, ctx.height, ctx.width), None, None, None, None


_pool.register_autograd(_backward, setup_context=_keep)


def _keep_transposed(ctx, inputs, output) -> None:
    _, _, origin, geometry, ctx.height, ctx.width = inputs
    ctx.save_for_backward(origin, geometry)


def _backward_transposed(ctx, grad: Tensor):
    return _pool(grad.contiguous(), *ctx.saved_tensors, ctx.height, ctx.width), None, None, None, None, None


_spread.register_autograd(_backward_transposed, setup_context=_keep_transposed)


def _launch(cells: Tensor) -> tuple[tuple[int], int]:
    """The launch grid and the block of channels per program for `cells` [K * cells, C]."""
    block = min(triton.next_power_of_2(cells.shape[1]), CHANNELS)
    return (cells.shape[0] * triton.cdiv(cells.shape[1], block),), block


@triton.jit
def pool_kernel(table, origin, geometry, out, channels, size_y, size_x, BLOCK: tl.constexpr):
    """One program: one output cell and a block of channels."""
    cell, channel, exists = _program(channels, BLOCK)
    roi = cell // (size_y * size_x)
    box = geometry + roi * 8
    height, y, step_y, count_y = tl.load(box), tl.load(box + 2), tl.load(box + 4), tl.load(box + 6)
    width, x, step_x, count_x = tl.load(box + 1), tl.load(box + 3), tl.load(box + 5), tl.load(box + 7)
    y, x = y + cell // size_x % size_y * step_y, x + cell % size_x * step_x
    pixels = table + tl.load(origin + roi) * channels + channel
    stride = width.to(tl.int64) * channels
    total = tl.zeros([BLOCK], step_y.dtype)
    first_y, end_y = _on_map(y, step_y, count_y, height)
    first_x, end_x = _on_map(x, step_x, count_x, width)
    for a in range(first_y, end_y):
        y0, y1, wy0, wy1, inside_y = _tap(y, step_y, a, count_y, height)
        for b in range(first_x, end_x):
            x0, x1, wx0, wx1, inside_x = _tap(x, step_x, b, count_x, width)
            # Nothing is read outside the map, not even with a weight of 0, as 0 * NaN is NaN.
            read = channel < tl.where(inside_y & inside_x, channels, 0)
            above, below = pixels + y0 * stride, pixels + y1 * stride
            v00 = tl.load(above + x0 * channels, mask=read, other=0.0)
            v01 = tl.load(above + x1 * channels, mask=read, other=0.0)
            v10 = tl.load(below + x0 * channels, mask=read, other=0.0)
            v11 = tl.load(below + x1 * channels, mask=read, other=0.0)
            total += wy0 * (wx0 * v00 + wx1 * v01) + wy1 * (wx0 * v10 + wx1 * v11)
    tl.store(out + cell * channels + channel, total, mask=exists)


@triton.jit
def spread_kernel(grad, origin, geometry, sums, scale, channels, size_y, size_x, BLOCK: tl.constexpr):
    """The transpose of `pool_kernel`: add the gradient of one output cell to the pixels that it reads."""
    cell, channel, exists = _program(channels, BLOCK)
    roi = cell // (size_y * size_x)
    box = geometry + roi * 8
    height, y, step_y, count_y = tl.load(box), tl.load(box + 2), tl.load(box + 4), tl.load(box + 6)
    width, x, step_x, count_x = tl.load(box + 1), tl.load(box + 3), tl.load(box + 5), tl.load(box + 7)
    y, x = y + cell // size_x % size_y * step_y, x + cell % size_x * step_x
    pixels = tl.load(origin + roi) * channels + channel
    stride = width.to(tl.int64) * channels
    flow = tl.load(grad + cell * channels + channel, mask=exists, other=0.0).to(step_y.dtype)
    first_y, end_y = _on_map(y, step_y, count_y, height)
    first_x, end_x = _on_map(x, step_x, count_x, width)
    for a in range(first_y, end_y):
        y0, y1, wy0, wy1, inside_y = _tap(y, step_y, a, count_y, height)
        for b in range(first_x, end_x):
            x0, x1, wx0, wx1, inside_x = _tap(x, step_x, b, count_x, width)
            # Nothing is read outside the map, not even with a weight of 0, as 0 * NaN is NaN.
            read = channel < tl.where(inside_y & inside_x, channels, 0)
            above, below = pixels + y0 * stride, pixels + y1 * stride
            scatter_add(sums, scale, above + x0 * channels, flow * (wy0 * wx0), read)
            scatter_add(sums, scale, above + x1 * channels, flow * (wy0 * wx1), read)
            scatter_add(sums, scale, below + x0 * channels, flow * (wy1 * wx0), read)
            scatter_add(sums, scale, below + x1 * channels, flow * (wy1 * wx1), read)


@triton.jit
def _program(channels, BLOCK: tl.constexpr):
    """The cell of this program, its channels, and a mask of those that exist."""
    blocks = tl.cdiv(channels, BLOCK)
    channel = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    return (tl.program_id(0) // blocks).to(tl.int64), channel, channel < channels


@triton.jit
def _on_map(begin, step, count, extent):
    """The first sample of a bin that may lie on the map, and the one after the last: the loop over a giant bin ends."""
    pitch = step / tl.maximum(count, 1.0)
    first = tl.where(pitch > 0.5, tl.floor((-1 - begin) / pitch) - 2, 0.0)
    end = tl.where(pitch > 0.5, tl.ceil((extent - begin) / pitch) + 2, count)
    first, end = (tl.minimum(tl.maximum(first, 0.0), count), tl.minimum(tl.maximum(end, 0.0), count))
    return first.to(tl.int32), end.to(tl.int32)


@triton.jit
def _tap(begin, step, sample, count, extent):
    """The two pixels that a sample reads along one axis, their weights, and whether it lies on the map at all."""
    position = begin + (sample + 0.5) * step / count
    inside = (position >= -1) & (position <= extent)
    position = tl.where(inside, tl.minimum(tl.maximum(position, 0.0), extent - 1), 0.0)
    low = tl.floor(position)
    high = tl.minimum(low + 1, extent - 1)
    share = position - low
    return low.to(tl.int64), high.to(tl.int64), (1 - share) / count, share / count, inside
