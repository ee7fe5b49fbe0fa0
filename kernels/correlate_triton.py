"""Triton kernels of local correlation: a product of two maps for every displacement, and its transposes.

    volume[u, p] = sum over c of a[c, p] * b[c, p + u]
    grad_a[c, p] = sum over u of grad[u, p] * b[c, p + u]
    grad_b[c, p] = sum over u of grad[-u, p + u] * a[c, p + u]

All three gather and add in a fixed order: no atomics, and the same bits on every run. Maps are read planar, NCHW, so
that the pixels of a row are neighbours in memory. Sums are float32, float64 for float64.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import wrap_triton

from dimofs.kernels.correlate_torch import correlate_torch
from dimofs.kernels.deform_torch import derivatives
from dimofs.kernels.operators import operator

# Pixels of a row per program.
PIXELS = 32
# Channels per program of the backward kernel.
CHANNELS = 16


def correlate_triton(a: Tensor, b: Tensor, radius: int) -> Tensor:
    """`correlate` by Triton."""
    return correlate_maps(a, b, radius)


def _volume(a: Tensor, b: Tensor, radius: int) -> Tensor:
    return a.new_empty(a.shape[0], (2 * radius + 1) ** 2, *a.shape[2:])


@operator("correlate", _volume)
def correlate_maps(a: Tensor, b: Tensor, radius: int) -> Tensor:
    volume = _volume(a, b, radius)
    if volume.numel():
        span = 2 * radius + 1
        wrap_triton(correlate_kernel)[(_blocks(a) * span,)](
            a.contiguous(), b.contiguous(), volume,
            *a.shape[1:], radius, SPAN=triton.next_power_of_2(span), DOUBLE=a.dtype == torch.float64, PIXELS=PIXELS,
        )  # fmt: skip
    return volume


def _maps(grad: Tensor, a: Tensor, b: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    return a.new_empty(a.shape), b.new_empty(b.shape)


@operator("correlate_backward", _maps)
def correlate_backward(grad: Tensor, a: Tensor, b: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    grad_a, grad_b = _maps(grad, a, b, radius)
    if a.numel():
        grad, parts = grad.contiguous(), triton.cdiv(a.shape[1], CHANNELS)
        for map_, result, turned in ((b, grad_a, False), (a, grad_b, True)):
            wrap_triton(mix_kernel)[(_blocks(a) * parts,)](
                grad, map_.contiguous(), result,
                *a.shape[1:], radius, TURNED=turned, DOUBLE=a.dtype == torch.float64, PIXELS=PIXELS, CHANNELS=CHANNELS,
            )  # fmt: skip
    return grad_a, grad_b


def _keep(ctx, inputs, output) -> None:
    *maps, ctx.radius = inputs
    ctx.save_for_backward(*maps)


def _backward(ctx, grad: Tensor):
    a, b = ctx.saved_tensors
    if torch.is_grad_enabled():
        # Second derivatives were asked for (create_graph=True).
        return *derivatives(lambda a, b: correlate_torch(a, b, ctx.radius), (a, b), grad), None
    return *correlate_backward(grad, a, b, ctx.radius), None


correlate_maps.register_autograd(_backward, setup_context=_keep)


def _blocks(a: Tensor) -> int:
    """Programs that together take every pixel of every map once."""
    return a.shape[0] * a.shape[2] * triton.cdiv(a.shape[3], PIXELS)


@triton.jit
def correlate_kernel(
    a, b, volume, channels, height, width, radius,
    SPAN: tl.constexpr, DOUBLE: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    """One program: PIXELS pixels of a row of `a` with one row of `b`, at every horizontal displacement."""
    span, blocks = 2 * radius + 1, tl.cdiv(width, PIXELS)
    program = tl.program_id(0)
    step, block = program % span, program // span
    row, image = block // blocks % height, (block // blocks // height).to(tl.int64)
    pixel = block % blocks * PIXELS + tl.arange(0, PIXELS)
    move = tl.arange(0, SPAN)
    other_row, other = row + step - radius, pixel[None, :] + move[:, None] - radius
    inside = (other_row >= 0) & (other_row < height) & (other >= 0) & (other < width) & (move[:, None] < span)
    kind = tl.float64 if DOUBLE else tl.float32
    total = tl.zeros([SPAN, PIXELS], kind)
    for channel in range(channels):
        plane = (image * channels + channel) * height * width
        value = tl.load(a + plane + row * width + pixel, mask=pixel < width, other=0.0).to(kind)
        near = tl.load(b + plane + other_row * width + other, mask=inside, other=0.0).to(kind)
        total += value[None, :] * near
    out = ((image * span * span + step * span + move[:, None]) * height + row) * width + pixel[None, :]
    tl.store(volume + out, total, mask=(move[:, None] < span) & (pixel[None, :] < width))


@triton.jit
def mix_kernel(
    grad, other, out, channels, height, width, radius,
    TURNED: tl.constexpr, DOUBLE: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """One program: PIXELS pixels of a row and CHANNELS channels of a map's gradient, from all displacements."""
    span, blocks = 2 * radius + 1, tl.cdiv(width, PIXELS)
    parts = tl.cdiv(channels, CHANNELS)
    program = tl.program_id(0)
    part, block = program % parts, program // parts
    row, image = block // blocks % height, (block // blocks // height).to(tl.int64)
    pixel = block % blocks * PIXELS + tl.arange(0, PIXELS)
    channel = part * CHANNELS + tl.arange(0, CHANNELS)
    plane = (image * channels + channel[:, None]) * height * width
    kind = tl.float64 if DOUBLE else tl.float32
    total = tl.zeros([CHANNELS, PIXELS], kind)
    for step in range(span * span):
        other_row, other_pixel = row + step // span - radius, pixel + step % span - radius
        inside = (other_row >= 0) & (other_row < height) & (other_pixel >= 0) & (other_pixel < width) & (pixel < width)
        if TURNED:
            source = (image * span * span + span * span - 1 - step) * height * width + other_row * width + other_pixel
        else:
            source = (image * span * span + step) * height * width + row * width + pixel
        weight = tl.load(grad + source, mask=inside, other=0.0).to(kind)
        at = plane + other_row * width + other_pixel[None, :]
        near = tl.load(other + at, mask=inside[None, :] & (channel[:, None] < channels), other=0.0).to(kind)
        total += weight[None, :] * near
    at = plane + row * width + pixel[None, :]
    tl.store(out + at, total, mask=(channel[:, None] < channels) & (pixel[None, :] < width))
