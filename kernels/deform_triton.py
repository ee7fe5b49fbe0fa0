"""Triton kernels of deformable sampling and convolution: gather every tap of every output pixel.

    columns[n, c, k, i, j] = mask[n, g, k, i, j] * bilinear(x[n, c], y, x),    g = c // (C / G)
    (y, x) = stride * (i, j) - padding + dilation * tap(k) + offset[n, g, k, :, i, j]

`deform_sample` is the case of one tap. A program takes a tile of 16 x 8 output pixels, each warp 4 x 8 of them: the
samples of neighbours share sectors of memory in both directions. Coordinates and sums are float32, float64 for float64.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import wrap_triton

from dimofs.kernels.operators import operator
from dimofs.kernels.scatter import new_sums, read_sums, scatter_add

TILE_H, TILE_W = 16, 8


def deform_sample_triton(x: Tensor, offset: Tensor) -> Tensor:
    """`deform_sample` by Triton."""
    return deform_columns_triton(x, offset, None, (1, 1), (1, 1), (0, 0), (1, 1)).view(x.shape)


def deform_columns_triton(x: Tensor, offset: Tensor, mask: Tensor | None, kernel, stride, padding, dilation) -> Tensor:
    """x [N, C, H, W], offset [N, 2 G Ky Kx, h, w], mask [N, G Ky Kx, h, w] or None -> [N, C, Ky Kx, h w]."""
    return _gather(x, offset, mask, [*kernel, *stride, *padding, *dilation])


def _gather_fake(x: Tensor, offset: Tensor, mask: Tensor | None, geometry: list[int]) -> Tensor:
    return x.new_empty(x.shape[0], x.shape[1], geometry[0] * geometry[1], offset.shape[2] * offset.shape[3])


@operator("deform_columns", _gather_fake)
def _gather(x: Tensor, offset: Tensor, mask: Tensor | None, geometry: list[int]) -> Tensor:
    columns = _gather_fake(x, offset, mask, geometry)
    if columns.numel():
        grid = (x.shape[0] * x.shape[1] * geometry[0] * geometry[1] * _tiles(offset),)
        x, offset = x.contiguous(), offset.contiguous()
        wrap_triton(gather_kernel)[grid](
            x,
            offset,
            offset if mask is None else mask.contiguous(),
            columns,
            *_sizes(x, offset, geometry),
            MASKED=mask is not None,
            DOUBLE=x.dtype == torch.float64,
            TILE_H=TILE_H,
            TILE_W=TILE_W,
        )
    return columns


def _scatter_fake(grad: Tensor, x: Tensor, offset: Tensor, mask: Tensor | None, geometry: list[int]):
    return x.new_empty(x.shape), *_motion_like(offset, mask)


@operator("deform_columns_backward", _scatter_fake)
def _scatter(
    grad: Tensor, x: Tensor, offset: Tensor, mask: Tensor | None, geometry: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    grad_offset, grad_mask = _motion_like(offset, mask)
    terms = geometry[0] * geometry[1] * offset.shape[2] * offset.shape[3]
    sums, scale = new_sums(x.shape, terms, *((grad,) if mask is None else (grad, mask)))
    if grad.numel():
        x, offset = x.contiguous(), offset.contiguous()
        wrap_triton(scatter_kernel)[(offset.shape[0] * offset.shape[1] // 2 * _tiles(offset),)](
            grad.contiguous(),
            x,
            offset,
            offset if mask is None else mask.contiguous(),
            sums,
            scale,
            grad_offset,
            grad_mask,
            *_sizes(x, offset, geometry),
            MASKED=mask is not None,
            DOUBLE=x.dtype == torch.float64,
            TILE_H=TILE_H,
            TILE_W=TILE_W,
        )
    return read_sums(sums, scale, x.dtype), grad_offset, grad_mask


def _keep(ctx, inputs, output) -> None:
    *tensors, ctx.geometry = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx, grad: Tensor):
    x, offset, mask = ctx.saved_tensors
    grad_x, grad_offset, grad_mask = _scatter(grad, x, offset, mask, ctx.geometry)
    return grad_x, grad_offset, None if mask is None else grad_mask, None


_gather.register_autograd(_backward, setup_context=_keep)


def _motion_like(offset: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Empty tensors for the gradients of the offsets and the mask; one of no elements stands for no mask."""
    return offset.new_empty(offset.shape), offset.new_empty(0) if mask is None else mask.new_empty(mask.shape)


def _tiles(offset: Tensor) -> int:
    return triton.cdiv(offset.shape[2], TILE_H) * triton.cdiv(offset.shape[3], TILE_W)


def _sizes(x: Tensor, offset: Tensor, geometry: list[int]) -> tuple[int, ...]:
    """The kernels' integers: channels, groups, H, W, h, w and the geometry."""
    groups = offset.shape[1] // (2 * geometry[0] * geometry[1])
    return (x.shape[1], groups, *x.shape[2:], *offset.shape[2:], *geometry)


@triton.jit
def gather_kernel(
    x, offset, mask, columns,
    channels, groups, height, width, out_h, out_w,
    kernel_y, kernel_x, stride_y, stride_x, padding_y, padding_x, dilation_y, dilation_x,
    MASKED: tl.constexpr, DOUBLE: tl.constexpr, TILE_H: tl.constexpr, TILE_W: tl.constexpr,
):  # fmt: skip
    """One program: a tile of output pixels, one tap, one channel."""
    i, j, tile, program = _tile(out_h, out_w, TILE_H, TILE_W)
    area, taps = out_h * out_w, kernel_y * kernel_x
    tap, plane = program % taps, (program // taps).to(tl.int64)
    group = plane // channels * groups + plane % channels // (channels // groups)
    pixel = i * out_w + j
    kind = tl.float64 if DOUBLE else tl.float32
    moved = (group * taps + tap) * 2 * area + pixel
    dy = tl.load(offset + moved, mask=tile, other=0.0).to(kind)
    dx = tl.load(offset + moved + area, mask=tile, other=0.0).to(kind)
    y = dy + i * stride_y - padding_y + tap // kernel_x * dilation_y
    x_ = dx + j * stride_x - padding_x + tap % kernel_x * dilation_x
    corner, fy, fx, m00, m01, m10, m11 = _cell(y, x_, height, width, tile)
    v00, v01, v10, v11 = _corners(x + plane * height * width + corner, width, m00, m01, m10, m11)
    value = _blend(v00, v01, v10, v11, fy, fx)
    if MASKED:
        value *= tl.load(mask + (group * taps + tap) * area + pixel, mask=tile, other=0.0).to(fy.dtype)
    tl.store(columns + (plane * taps + tap) * area + pixel, value, mask=tile)


@triton.jit
def scatter_kernel(
    grad, x, offset, mask, grad_x, scale, grad_offset, grad_mask,
    channels, groups, height, width, out_h, out_w,
    kernel_y, kernel_x, stride_y, stride_x, padding_y, padding_x, dilation_y, dilation_x,
    MASKED: tl.constexpr, DOUBLE: tl.constexpr, TILE_H: tl.constexpr, TILE_W: tl.constexpr,
):  # fmt: skip
    """One program: a tile of output pixels, one tap, one group of channels, which share the offset and its gradient."""
    i, j, tile, program = _tile(out_h, out_w, TILE_H, TILE_W)
    area, taps = out_h * out_w, kernel_y * kernel_x
    tap, group = program % taps, (program // taps).to(tl.int64)
    pixel = i * out_w + j
    kind = tl.float64 if DOUBLE else tl.float32
    moved = (group * taps + tap) * 2 * area + pixel
    dy = tl.load(offset + moved, mask=tile, other=0.0).to(kind)
    dx = tl.load(offset + moved + area, mask=tile, other=0.0).to(kind)
    y = dy + i * stride_y - padding_y + tap // kernel_x * dilation_y
    x_ = dx + j * stride_x - padding_x + tap % kernel_x * dilation_x
    corner, fy, fx, m00, m01, m10, m11 = _cell(y, x_, height, width, tile)
    factor = tl.load(mask + (group * taps + tap) * area + pixel, mask=tile, other=0.0).to(fy.dtype) if MASKED else 1.0
    sum_y, sum_x, sum_mask = tl.zeros_like(fy), tl.zeros_like(fy), tl.zeros_like(fy)
    members = channels // groups
    for plane in range(group * members, (group + 1) * members):
        at = plane * height * width + corner
        v00, v01, v10, v11 = _corners(x + at, width, m00, m01, m10, m11)
        flow = tl.load(grad + (plane * taps + tap) * area + pixel, mask=tile, other=0.0).to(fy.dtype)
        if MASKED:
            sum_mask += flow * _blend(v00, v01, v10, v11, fy, fx)
            flow *= factor
        sum_y += flow * ((v10 * (1 - fx) + v11 * fx) - (v00 * (1 - fx) + v01 * fx))
        sum_x += flow * ((v01 * (1 - fy) + v11 * fy) - (v00 * (1 - fy) + v10 * fy))
        scatter_add(grad_x, scale, at, flow * (1 - fy) * (1 - fx), m00)
        scatter_add(grad_x, scale, at + 1, flow * (1 - fy) * fx, m01)
        scatter_add(grad_x, scale, at + width, flow * fy * (1 - fx), m10)
        scatter_add(grad_x, scale, at + width + 1, flow * fy * fx, m11)
    tl.store(grad_offset + moved, sum_y, mask=tile)
    tl.store(grad_offset + moved + area, sum_x, mask=tile)
    if MASKED:
        tl.store(grad_mask + (group * taps + tap) * area + pixel, sum_mask, mask=tile)


@triton.jit
def _tile(out_h, out_w, TILE_H: tl.constexpr, TILE_W: tl.constexpr):
    """Rows and columns of a tile's pixels, which of them exist, and the rest of the program's index."""
    across = tl.cdiv(out_w, TILE_W)
    tiles = across * tl.cdiv(out_h, TILE_H)
    tile = tl.program_id(0) % tiles
    lane = tl.arange(0, TILE_H * TILE_W)
    i = tile // across * TILE_H + lane // TILE_W
    j = tile % across * TILE_W + lane % TILE_W
    return i, j, (i < out_h) & (j < out_w), tl.program_id(0) // tiles


@triton.jit
def _cell(y, x, height, width, tile):
    """The cell around (y, x): index of its first corner, position inside it, and which of its four corners exist.

    A comparison with NaN is false, so a sample that is not finite has no corner.
    """
    inside = tile & (y >= -1) & (y < height) & (x >= -1) & (x < width)
    y, x = tl.where(inside, y, 0.0), tl.where(inside, x, 0.0)
    top, left = tl.floor(y), tl.floor(x)
    i, j = top.to(tl.int32), left.to(tl.int32)
    above, below = inside & (i >= 0), inside & (i + 1 < height)
    before, behind = j >= 0, j + 1 < width
    return i * width + j, y - top, x - left, above & before, above & behind, below & before, below & behind


@triton.jit
def _corners(cell, width, m00, m01, m10, m11):
    """The values at a cell's corners, 0 outside the map."""
    v00 = tl.load(cell, mask=m00, other=0.0)
    v01 = tl.load(cell + 1, mask=m01, other=0.0)
    v10 = tl.load(cell + width, mask=m10, other=0.0)
    v11 = tl.load(cell + width + 1, mask=m11, other=0.0)
    return v00, v01, v10, v11


@triton.jit
def _blend(v00, v01, v10, v11, fy, fx):
    """The bilinear value: a value of 16 bits times a fraction of 32 is one of 32."""
    return (v00 * (1 - fx) + v01 * fx) * (1 - fy) + (v10 * (1 - fx) + v11 * fx) * fy
