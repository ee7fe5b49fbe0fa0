"""Triton kernel of deformable convolution that keeps sampled taps in registers and never writes them to memory.

    out[n, o, i, j] = sum over c, k of weight[o, c, k] * mask[n, g, k, i, j] * bilinear(input[n, c], y, x)
    (y, x) = stride * (i, j) - padding + dilation * tap(k) + offset[n, g, k, :, i, j]

Tap by tap, a program samples a tile [channels, pixels] and multiplies the tile [outputs, channels] of the weight by it.
Float64 inputs, and the backward pass of all inputs, write their taps to memory; the backward pass does so for one part
of the channels at a time.
"""

from math import gcd
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import wrap_triton

from dimofs.kernels.deform_conv_torch import channel_parts, conv_groups, convolve_columns, multiply
from dimofs.kernels.deform_torch import derivatives
from dimofs.kernels.deform_triton import TILE_H, TILE_W, blend, cell, corners, gather, scatter, tile_of, tiles
from dimofs.kernels.operators import INTERPRETED, operator

# Output channels per program, and input channels per step.
OUTPUTS, INPUTS = 64, 16
# One stage: prefetching the samples of the next tile would need more registers than there are.
OPTIONS: Any = {"num_warps": 8, "num_stages": 1}


def convolve_triton(input: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, geometry) -> Tensor:
    """`deform_conv2d` of checked arguments on a GPU, without the bias."""
    numbers = [number for pair in geometry for number in pair]
    if input.dtype == torch.float64:
        columns = gather(input, offset, mask, numbers)
        return multiply(columns, weight).view(-1, weight.shape[0], *offset.shape[2:])
    return _convolve(input, offset, mask, weight, numbers)


def _convolve_fake(x: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, geometry: list[int]) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[0], *offset.shape[2:])


@operator("deform_convolve", _convolve_fake)
def _convolve(x: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, geometry: list[int]) -> Tensor:
    out = _convolve_fake(x, offset, mask, weight, geometry)
    channels, groups = x.shape[1], conv_groups(x.shape[1], weight)
    offset_groups = offset.shape[1] // (2 * geometry[0] * geometry[1])
    run = gcd(channels // offset_groups, channels // groups)
    if channels == 0:
        out.zero_()
    elif out.numel():
        x, offset = x.contiguous(), offset.contiguous()
        grid = (x.shape[0] * groups * triton.cdiv(weight.shape[0] // groups, OUTPUTS) * tiles(offset),)
        wrap_triton(convolve_kernel)[grid](
            x,
            offset,
            offset if mask is None else mask.contiguous(),
            weight.to(x.dtype).flatten(2).permute(2, 0, 1).contiguous(),  # [Ky Kx, O, C / groups]
            out,
            *(channels, offset_groups, groups, weight.shape[0], run),
            *(*x.shape[2:], *offset.shape[2:], *geometry),
            MASKED=mask is not None,
            WIDEN=INTERPRETED,
            PRECISION=_precision(),
            TILE_H=TILE_H,
            TILE_W=TILE_W,
            OUTPUTS=OUTPUTS,
            INPUTS=INPUTS,
            **OPTIONS,
        )
    return out


def _precision() -> str:
    """How float32 products are computed: "tf32" where PyTorch allows it and the GPU can, else "ieee"."""
    matmul = torch.backends.cuda.matmul
    # PyTorch before 2.9 has no fp32_precision. Where it exists, allow_tf32 may raise.
    allowed = matmul.fp32_precision == "tf32" if hasattr(matmul, "fp32_precision") else matmul.allow_tf32
    if not allowed or INTERPRETED:
        return "ieee"
    return "tf32" if has_tf32(triton.runtime.driver.active.get_current_target()) else "ieee"


def has_tf32(target: Any) -> bool:
    """Whether Triton compiles TF32 products for a `GPUTarget`: NVIDIA GPUs from Ampere on, and AMD's CDNA 3."""
    return target.arch >= 80 if target.backend == "cuda" else target.arch == "gfx942"


def _keep(ctx, inputs, output) -> None:
    *tensors, ctx.geometry = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx, grad: Tensor):
    x, offset, mask, weight = ctx.saved_tensors
    if torch.is_grad_enabled():
        # Second derivatives were asked for (create_graph=True).
        pairs = [ctx.geometry[i : i + 2] for i in range(0, 8, 2)]
        function = lambda x, o, m, k: convolve_columns(x, o, m, k, pairs)  # noqa: E731
        return *derivatives(function, (x, offset, mask, weight), grad), None
    return *_gradients(grad, x, offset, mask, weight, ctx.geometry), None


_convolve.register_autograd(_backward, setup_context=_keep)


def _gradients(grad: Tensor, x: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, geometry: list[int]):
    """The gradients with respect to the four tensors, one part of the channels at a time."""
    taps, pixels, groups = geometry[0] * geometry[1], grad.shape[2] * grad.shape[3], conv_groups(x.shape[1], weight)
    offset_groups = offset.shape[1] // (2 * taps)
    kernel = weight.to(x.dtype).reshape(groups, weight.shape[0] // groups, weight.shape[1] * taps)
    flow = grad.to(x.dtype).reshape(len(x), *kernel.shape[:2], pixels)
    grad_x, grad_kernel = torch.zeros_like(x), torch.zeros_like(kernel)
    grad_offset, grad_mask = torch.zeros_like(offset), None if mask is None else torch.zeros_like(mask)
    for part in channel_parts(x.shape[1], taps, pixels, offset_groups, groups):
        turned = slice(part.offset_groups.start * 2 * taps, part.offset_groups.stop * 2 * taps)
        factors = slice(part.offset_groups.start * taps, part.offset_groups.stop * taps)
        inputs = x[:, part.channels], offset[:, turned], None if mask is None else mask[:, factors]
        columns = gather(*inputs, geometry).view(len(x), part.groups.stop - part.groups.start, -1, pixels)
        grad_kernel[part.groups, :, part.columns] += (flow[:, part.groups] @ columns.mT).sum(dim=0)
        upstream = (kernel[part.groups, :, part.columns].mT @ flow[:, part.groups]).view(len(x), -1, taps, pixels)
        part_x, part_offset, part_mask = scatter(upstream, *inputs, geometry)
        grad_x[:, part.channels] = part_x
        grad_offset[:, turned] += part_offset
        if grad_mask is not None:
            grad_mask[:, factors] += part_mask
    return grad_x, grad_offset, grad_mask, grad_kernel.view(weight.shape).to(weight.dtype)


@triton.jit
def convolve_kernel(
    x, offset, mask, weight, out,
    channels, offset_groups, conv_groups, outputs, run, height, width, out_h, out_w,
    kernel_y, kernel_x, stride_y, stride_x, padding_y, padding_x, dilation_y, dilation_x,
    MASKED: tl.constexpr, WIDEN: tl.constexpr, PRECISION: tl.constexpr,
    TILE_H: tl.constexpr, TILE_W: tl.constexpr, OUTPUTS: tl.constexpr, INPUTS: tl.constexpr,
):  # fmt: skip
    """One program: a tile of output pixels and a block of output channels.

    Each `run` of consecutive input channels belongs to one offset group and one group of the convolution.
    """
    i, j, tile, program = tile_of(out_h, out_w, TILE_H, TILE_W)
    area, taps, pixel = out_h * out_w, kernel_y * kernel_x, i * out_w + j
    per_group, members = outputs // conv_groups, channels // conv_groups
    blocks = tl.cdiv(per_group, OUTPUTS)
    o = program % blocks * OUTPUTS + tl.arange(0, OUTPUTS)
    conv_group, image = program // blocks % conv_groups, (program // blocks // conv_groups).to(tl.int64)
    total = tl.zeros([OUTPUTS, TILE_H * TILE_W], tl.float32)
    for step in range(members // run * taps):
        start, tap = step // taps * run, step % taps
        first = conv_group * members + start
        group = image * offset_groups + first // (channels // offset_groups)
        moved = (group * taps + tap) * 2 * area + pixel
        dy = tl.load(offset + moved, mask=tile, other=0.0).to(tl.float32)
        dx = tl.load(offset + moved + area, mask=tile, other=0.0).to(tl.float32)
        y = dy + i * stride_y - padding_y + tap // kernel_x * dilation_y
        x_ = dx + j * stride_x - padding_x + tap % kernel_x * dilation_x
        corner, fy, fx, m00, m01, m10, m11 = cell(y, x_, height, width, tile)
        for c in range(0, run, INPUTS):
            channel = c + tl.arange(0, INPUTS)
            has = (channel < run)[:, None]
            at = x + ((image * channels + first + channel) * height * width)[:, None] + corner[None]
            v00, v01, v10, v11 = corners(at, width, has & m00[None], has & m01[None], has & m10[None], has & m11[None])
            column = blend(v00, v01, v10, v11, fy[None], fx[None])
            if MASKED:
                factor = tl.load(mask + (group * taps + tap) * area + pixel, mask=tile, other=0.0)
                column *= factor[None].to(tl.float32)
            row = (tap * outputs + conv_group * per_group + o)[:, None] * members + start + channel[None]
            kernel = tl.load(weight + row, mask=(o < per_group)[:, None] & (channel < run)[None], other=0.0)
            kernel = kernel.to(tl.float32) if WIDEN else kernel
            total = tl.dot(kernel, column.to(kernel.dtype), total, input_precision=PRECISION)
    to = (image * outputs + conv_group * per_group + o)[:, None] * area + pixel[None]
    tl.store(out + to, total, mask=(o < per_group)[:, None] & tile[None])
