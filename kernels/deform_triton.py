"""Triton kernels that gather the taps of deformable sampling and convolution, and scatter their gradients.

    columns[n, c, k, i, j] = mask[n, g, k, i, j] * bilinear(x[n, c], y, x),    g = c // (C / G)
    (y, x) = stride * (i, j) - padding + dilation * tap(k) + offset[n, g, k, :, i, j]

`deform_sample` is the case of a single tap. A program handles a tile of 16 x 8 output pixels, each of its warps 4 x 8,
because the samples of neighbouring pixels share sectors of memory in both directions. Coordinates and sums are float32,
or float64 for float64 inputs.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import wrap_triton

from dimofs.kernels.deform_conv_torch import deform_columns_torch
from dimofs.kernels.deform_torch import derivatives
from dimofs.kernels.operators import operator
from dimofs.kernels.scatter import new_sums, read_sums, scatter_add

TILE_H, TILE_W = 16, 8
# In deterministic mode, planes whose largest offset is at most this many pixels are collected (each input pixel looks
# for the samples that read it) instead of scattered in fixed point.
NEAR = tl.constexpr(4)
# The geometry of `deform_sample`: kernel, stride, padding and dilation, each (y, x).
SAMPLE = [1, 1, 1, 1, 0, 0, 1, 1]


def deform_sample_triton(x: Tensor, offset: Tensor) -> Tensor:
    """`deform_sample` of checked arguments on a GPU."""
    return deform_columns_triton(x, offset, None, (1, 1), (1, 1), (0, 0), (1, 1)).view(x.shape)


def deform_columns_triton(x: Tensor, offset: Tensor, mask: Tensor | None, kernel, stride, padding, dilation) -> Tensor:
    """Sample all taps of all output pixels.

    x [N, C, H, W], offset [N, 2 G Ky Kx, h, w], mask [N, G Ky Kx, h, w] or None -> [N, C, Ky Kx, h w].
    """
    return gather(x, offset, mask, [*kernel, *stride, *padding, *dilation])


def _gather_fake(x: Tensor, offset: Tensor, mask: Tensor | None, geometry: list[int]) -> Tensor:
    return x.new_empty(x.shape[0], x.shape[1], geometry[0] * geometry[1], offset.shape[2] * offset.shape[3])


@operator("deform_columns", _gather_fake)
def gather(x: Tensor, offset: Tensor, mask: Tensor | None, geometry: list[int]) -> Tensor:
    columns = _gather_fake(x, offset, mask, geometry)
    if columns.numel():
        grid = (x.shape[0] * x.shape[1] * geometry[0] * geometry[1] * tiles(offset),)
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
def scatter(
    grad: Tensor, x: Tensor, offset: Tensor, mask: Tensor | None, geometry: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    grad_offset, grad_mask = _motion_like(offset, mask)
    terms = geometry[0] * geometry[1] * offset.shape[2] * offset.shape[3]
    sums, scale = new_sums(x.shape, terms, *((grad,) if mask is None else (grad, mask)))
    collected = sums.dtype == torch.int64 and mask is None and geometry == SAMPLE
    reach = reaches(offset) if collected else scale
    if grad.numel():
        grad, x, offset = grad.contiguous(), x.contiguous(), offset.contiguous()
        wrap_triton(scatter_kernel)[(offset.shape[0] * offset.shape[1] // 2 * tiles(offset),)](
            grad,
            x,
            offset,
            offset if mask is None else mask.contiguous(),
            sums,
            scale,
            reach,
            grad_offset,
            grad_mask,
            *_sizes(x, offset, geometry),
            MASKED=mask is not None,
            COLLECTED=collected,
            DOUBLE=x.dtype == torch.float64,
            TILE_H=TILE_H,
            TILE_W=TILE_W,
        )
    else:
        grad_offset.zero_()
        grad_mask.zero_()
    if not collected:
        return read_sums(sums, scale, x.dtype), grad_offset, grad_mask
    return _collect(grad, offset, sums, scale, reach), grad_offset, grad_mask


def _collect(grad: Tensor, offset: Tensor, sums: Tensor, scale: Tensor, reach: Tensor) -> Tensor:
    """The gradient with respect to the x of `deform_sample`: near planes are collected, others read from `sums`."""
    grad_x = grad.new_empty(sums.shape)
    if grad.numel():
        wrap_triton(collect_kernel)[(sums.shape[0] * sums.shape[1] * tiles(sums),)](
            grad,
            offset,
            sums,
            scale,
            reach,
            grad_x,
            *(sums.shape[1], offset.shape[1] // 2, *sums.shape[2:]),
            DOUBLE=grad.dtype == torch.float64,
            TILE_H=TILE_H,
            TILE_W=TILE_W,
        )
    return grad_x


def reaches(offset: Tensor) -> Tensor:
    """The largest absolute offset of each group of `offset` [N, 2 G, h, w], rounded up to pixels -> int32 [N G].

    Samples outside the map count too. Offsets that are not finite do not, because they sample nothing.
    """
    groups = offset.reshape(offset.shape[0] * offset.shape[1] // 2, -1).nan_to_num(0, 0, 0).abs()
    return groups.amax(dim=1).float().ceil().clamp(max=2**20).int() if groups.numel() else groups[:, :1].int()


def _keep(ctx, inputs, output) -> None:
    *tensors, ctx.geometry = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx, grad: Tensor):
    x, offset, mask = ctx.saved_tensors
    if torch.is_grad_enabled():
        # Second derivatives were asked for (create_graph=True).
        pairs = [ctx.geometry[i : i + 2] for i in range(0, 8, 2)]
        return *derivatives(lambda *t: deform_columns_torch(*t, *pairs), (x, offset, mask), grad), None
    grad_x, grad_offset, grad_mask = scatter(grad, x, offset, mask, ctx.geometry)
    return grad_x, grad_offset, None if mask is None else grad_mask, None


gather.register_autograd(_backward, setup_context=_keep)


def _motion_like(offset: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Tensors to be filled with the gradients of offset and mask. Without a mask the second has no elements."""
    return offset.new_empty(offset.shape), offset.new_empty(0) if mask is None else mask.new_empty(mask.shape)


def tiles(offset: Tensor) -> int:
    """The number of tiles that cover the last two axes of `offset`."""
    return triton.cdiv(offset.shape[2], TILE_H) * triton.cdiv(offset.shape[3], TILE_W)


def _sizes(x: Tensor, offset: Tensor, geometry: list[int]) -> tuple[int, ...]:
    """The integer arguments of the kernels: channels, groups, H, W, h, w and the geometry."""
    groups = offset.shape[1] // (2 * geometry[0] * geometry[1])
    return (x.shape[1], groups, *x.shape[2:], *offset.shape[2:], *geometry)


@triton.jit
def gather_kernel(
    x, offset, mask, columns,
    channels, groups, height, width, out_h, out_w,
    kernel_y, kernel_x, stride_y, stride_x, padding_y, padding_x, dilation_y, dilation_x,
    MASKED: tl.constexpr, DOUBLE: tl.constexpr, TILE_H: tl.constexpr, TILE_W: tl.constexpr,
):  # fmt: skip
    """One program: a tile of output pixels for one tap of one channel."""
    i, j, tile, program = tile_of(out_h, out_w, TILE_H, TILE_W)
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
    corner, fy, fx, m00, m01, m10, m11 = cell(y, x_, height, width, tile)
    v00, v01, v10, v11 = corners(x + plane * height * width + corner, width, m00, m01, m10, m11)
    value = blend(v00, v01, v10, v11, fy, fx)
    if MASKED:
        value *= tl.load(mask + (group * taps + tap) * area + pixel, mask=tile, other=0.0).to(fy.dtype)
    tl.store(columns + (plane * taps + tap) * area + pixel, value, mask=tile)


@triton.jit
def scatter_kernel(
    grad, x, offset, mask, grad_x, scale, reach, grad_offset, grad_mask,
    channels, groups, height, width, out_h, out_w,
    kernel_y, kernel_x, stride_y, stride_x, padding_y, padding_x, dilation_y, dilation_x,
    MASKED: tl.constexpr, COLLECTED: tl.constexpr, DOUBLE: tl.constexpr, TILE_H: tl.constexpr, TILE_W: tl.constexpr,
):  # fmt: skip
    """One program: a tile of output pixels for one tap of one group of channels, which share an offset."""
    i, j, tile, program = tile_of(out_h, out_w, TILE_H, TILE_W)
    area, taps = out_h * out_w, kernel_y * kernel_x
    tap, group = program % taps, (program // taps).to(tl.int64)
    pixel = i * out_w + j
    kind = tl.float64 if DOUBLE else tl.float32
    moved = (group * taps + tap) * 2 * area + pixel
    dy = tl.load(offset + moved, mask=tile, other=0.0).to(kind)
    dx = tl.load(offset + moved + area, mask=tile, other=0.0).to(kind)
    y = dy + i * stride_y - padding_y + tap // kernel_x * dilation_y
    x_ = dx + j * stride_x - padding_x + tap % kernel_x * dilation_x
    corner, fy, fx, m00, m01, m10, m11 = cell(y, x_, height, width, tile)
    factor = tl.load(mask + (group * taps + tap) * area + pixel, mask=tile, other=0.0).to(fy.dtype) if MASKED else 1.0
    sum_y, sum_x, sum_mask = tl.zeros_like(fy), tl.zeros_like(fy), tl.zeros_like(fy)
    members = channels // groups
    if COLLECTED:
        far = tl.load(reach + group) + 0 * i > NEAR
        s00, s01, s10, s11 = m00 & far, m01 & far, m10 & far, m11 & far
    else:
        s00, s01, s10, s11 = m00, m01, m10, m11
    for plane in range(group * members, (group + 1) * members):
        at = plane * height * width + corner
        v00, v01, v10, v11 = corners(x + at, width, m00, m01, m10, m11)
        flow = tl.load(grad + (plane * taps + tap) * area + pixel, mask=tile, other=0.0).to(fy.dtype)
        if MASKED:
            sum_mask += flow * blend(v00, v01, v10, v11, fy, fx)
            flow *= factor
        sum_y += flow * ((v10 * (1 - fx) + v11 * fx) - (v00 * (1 - fx) + v01 * fx))
        sum_x += flow * ((v01 * (1 - fy) + v11 * fy) - (v00 * (1 - fy) + v10 * fy))
        scatter_add(grad_x, scale, at, flow * (1 - fy) * (1 - fx), s00)
        scatter_add(grad_x, scale, at + 1, flow * (1 - fy) * fx, s01)
        scatter_add(grad_x, scale, at + width, flow * fy * (1 - fx), s10)
        scatter_add(grad_x, scale, at + width + 1, flow * fy * fx, s11)
    tl.store(grad_offset + moved, sum_y, mask=tile)
    tl.store(grad_offset + moved + area, sum_x, mask=tile)
    if MASKED:
        tl.store(grad_mask + (group * taps + tap) * area + pixel, sum_mask, mask=tile)


@triton.jit
def collect_kernel(
    grad, offset, sums, scale, reach, grad_x, channels, groups, height, width,
    DOUBLE: tl.constexpr, TILE_H: tl.constexpr, TILE_W: tl.constexpr,
):  # fmt: skip
    """One program: a tile of input pixels p of one channel. It visits all samples q that may read p, in a fixed order.

    grad_x[p] = sum over q within reach of grad[q] * hat(q + offset[q] - p),    hat(y, x) = (1 - |y|)+ (1 - |x|)+
    """
    i, j, tile, plane = tile_of(height, width, TILE_H, TILE_W)
    plane, area = plane.to(tl.int64), height * width
    group = plane // channels * groups + plane % channels // (channels // groups)
    kind = tl.float64 if DOUBLE else tl.float32
    at, far = plane * area + i * width + j, tl.load(reach + group)
    if far > NEAR:
        total = (tl.load(sums + at, mask=tile, other=0).to(tl.float64) / tl.load(scale)).to(kind)
    else:
        total = tl.zeros([TILE_H * TILE_W], kind)
        for step in range((2 * far + 1) * (2 * far + 1)):
            a, b = i + step // (2 * far + 1) - far, j + step % (2 * far + 1) - far
            has = tile & (a >= 0) & (a < height) & (b >= 0) & (b < width)
            from_ = group * 2 * area + a * width + b
            y = tl.load(offset + from_, mask=has, other=0.0).to(kind) + a
            x = tl.load(offset + from_ + area, mask=has, other=0.0).to(kind) + b
            flow = tl.load(grad + plane * area + a * width + b, mask=has, other=0.0).to(kind)
            top, left = tl.floor(y), tl.floor(x)
            wy = tl.where(top == i, 1 - (y - top), tl.where(top + 1 == i, y - top, 0.0))
            wx = tl.where(left == j, 1 - (x - left), tl.where(left + 1 == j, x - left, 0.0))
            total += tl.where((wy > 0) & (wx > 0), flow * wy * wx, 0.0)
    tl.store(grad_x + at, total, mask=tile)


@triton.jit
def tile_of(out_h, out_w, TILE_H: tl.constexpr, TILE_W: tl.constexpr):
    """Rows and columns of a tile's pixels, a mask of those inside the map, and the remaining index of the program."""
    across = tl.cdiv(out_w, TILE_W)
    tiles = across * tl.cdiv(out_h, TILE_H)
    tile = tl.program_id(0) % tiles
    lane = tl.arange(0, TILE_H * TILE_W)
    i = tile // across * TILE_H + lane // TILE_W
    j = tile % across * TILE_W + lane % TILE_W
    return i, j, (i < out_h) & (j < out_w), tl.program_id(0) // tiles


@triton.jit
def cell(y, x, height, width, tile):
    """The cell around (y, x): the index of its first corner, the position inside it, and which corners are in the map.

    Comparisons with NaN are false, so a sample that is not finite has no corner.
    """
    inside = tile & (y >= -1) & (y < height) & (x >= -1) & (x < width)
    y, x = tl.where(inside, y, 0.0), tl.where(inside, x, 0.0)
    top, left = tl.floor(y), tl.floor(x)
    i, j = top.to(tl.int32), left.to(tl.int32)
    above, below = inside & (i >= 0), inside & (i + 1 < height)
    before, behind = j >= 0, j + 1 < width
    return i * width + j, y - top, x - left, above & before, above & behind, below & before, below & behind


@triton.jit
def corners(at, width, m00, m01, m10, m11):
    """The values at the corners of a cell, 0 outside the map."""
    v00 = tl.load(at, mask=m00, other=0.0)
    v01 = tl.load(at + 1, mask=m01, other=0.0)
    v10 = tl.load(at + width, mask=m10, other=0.0)
    v11 = tl.load(at + width + 1, mask=m11, other=0.0)
    return v00, v01, v10, v11


@triton.jit
def blend(v00, v01, v10, v11, fy, fx):
    """The bilinear value. 16-bit values are promoted by the 32-bit fractions."""
    return (v00 * (1 - fx) + v01 * fx) * (1 - fy) + (v10 * (1 - fx) + v11 * fx) * fy
