"""Deformable convolution: each tap of a K x K kernel reads its own pixel plus a learned offset, bilinearly.

    out[n, o, i, j] = bias[o] + sum over c, k of weight[o, c, k] * mask[n, k, i, j]
                      * bilinear(input[n, c], stride * i - padding + dilation * k_y + offset[n, 2k, i, j],
                                              stride * j - padding + dilation * k_x + offset[n, 2k + 1, i, j])

Semantics, arguments and offset order are torchvision.ops.deform_conv2d's; the sampling is `dimofs.kernels.deform`'s.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from dimofs.kernels.deform import bilinear


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    mask: Tensor | None = None,
) -> Tensor:
    """Convolve `input` [N, C, H, W] at moved taps -> [N, O, h, w], in the type of `input`.

    `weight` [O, C / groups, Ky, Kx] and `bias` [O] are a convolution's; `offset` [N, 2 G Ky Kx, h, w] holds, for each
    of G contiguous groups of channels and each tap, (dy, dx) in pixels, `mask` [N, G Ky Kx, h, w] an optional factor.
    Coordinates are float32 (float64 for a float64 input). Raises ValueError for shapes that do not fit.
    """
    strides, paddings, dilations = _pair(stride), _pair(padding), _pair(dilation)
    _check(input, offset, weight, mask, output_size(input, weight, strides, paddings, dilations))
    return deform_conv2d_torch(input, offset, weight, bias, strides, paddings, dilations, mask)


def deform_conv2d_torch(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    mask: Tensor | None,
) -> Tensor:
    """The twin of the Triton kernels in plain PyTorch, and the CPU path: sample every tap, then multiply matrices."""
    n, c, out_channels = input.shape[0], input.shape[1], weight.shape[0]
    h, w = offset.shape[2:]
    taps = weight.shape[2] * weight.shape[3]
    groups = c // weight.shape[1]
    columns = sample_taps(input, offset, weight.shape[2:], stride, padding, dilation)  # [N, C, taps, h * w]
    if mask is not None:
        columns = _modulate(columns, mask)
    columns = columns.view(n, groups, c // groups * taps, h * w)
    out = weight.to(input.dtype).view(groups, out_channels // groups, -1) @ columns
    out = out.view(n, out_channels, h, w)
    return (out if bias is None else out + bias.view(-1, 1, 1)).to(input.dtype)


def sample_taps(input: Tensor, offset: Tensor, kernel: Sequence[int], stride, padding, dilation) -> Tensor:
    """Every tap of every output pixel: [N, C, H, W] -> [N, C, Ky * Kx, h * w]."""
    n, c = input.shape[:2]
    h, w = offset.shape[2:]
    taps = kernel[0] * kernel[1]
    groups = offset.shape[1] // (2 * taps)
    tap = torch.arange(taps, device=input.device)
    tap_y, tap_x = tap // kernel[1] * dilation[0] - padding[0], tap % kernel[1] * dilation[1] - padding[1]
    rows = (torch.arange(h, device=input.device) * stride[0])[:, None].expand(h, w) + tap_y[:, None, None]
    columns = (torch.arange(w, device=input.device) * stride[1]).expand(h, w) + tap_x[:, None, None]
    planes = bilinear(
        input.reshape(n * groups, c // groups, *input.shape[2:]),
        offset.reshape(n * groups, taps, 2, h * w).transpose(1, 2),
        torch.stack((rows.reshape(taps, h * w), columns.reshape(taps, h * w))),
    )
    return planes.view(n, c, taps, h * w)


def output_size(input: Tensor, weight: Tensor, stride, padding, dilation) -> tuple[int, int]:
    """(h, w) of a convolution."""
    spans = (d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True))
    h, w = ((s + 2 * p - k) // r + 1 for s, p, k, r in zip(input.shape[2:], padding, spans, stride, strict=True))
    return h, w


def _modulate(columns: Tensor, mask: Tensor) -> Tensor:
    n, c, taps, pixels = columns.shape
    groups = mask.shape[1] // taps
    factor = mask.to(columns.dtype).reshape(n, groups, 1, taps, pixels)
    return (columns.view(n, groups, c // groups, taps, pixels) * factor).view(columns.shape)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _check(input: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None, size: tuple[int, int]) -> None:
    (n, c), taps = input.shape[:2], weight.shape[2] * weight.shape[3]
    groups = offset.shape[1] // (2 * taps)
    if c % weight.shape[1] or weight.shape[0] % (c // weight.shape[1]):
        raise ValueError(f"weight {[*weight.shape]} does not fit an input of {c} channels")
    if groups == 0 or c % groups or offset.shape != (n, 2 * groups * taps, *size):
        raise ValueError(
            f"offset {[*offset.shape]} does not fit: [N, 2 G taps, h, w] = [{n}, 2 G {taps}, {size[0]}, {size[1]}]"
        )
    if mask is not None and mask.shape != (n, groups * taps, *size):
        raise ValueError(f"mask {[*mask.shape]} does not fit: expected {[n, groups * taps, *size]}")
