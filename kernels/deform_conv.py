"""Deformable convolution: each tap of a K x K kernel reads its own pixel plus a learned offset, bilinearly.

    out[n, o, i, j] = bias[o] + sum over c, k of weight[o, c, k] * mask[n, k, i, j]
                      * bilinear(input[n, c], stride * i - padding + dilation * k_y + offset[n, 2k, i, j],
                                              stride * j - padding + dilation * k_x + offset[n, 2k + 1, i, j])

Semantics, arguments and offset order are torchvision.ops.deform_conv2d's; the sampling is `dimofs.kernels.deform`'s.
"""

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
    geometry = weight.shape[2:], _pair(stride), _pair(padding), _pair(dilation)
    _check(input, offset, weight, mask, _output_size(input, *geometry))
    if input.is_cuda:
        from dimofs.kernels.deform_triton import deform_columns_triton

        columns = deform_columns_triton(input, offset, mask, *geometry)
    else:
        columns = deform_columns_torch(input, offset, mask, *geometry)
    return multiply(columns, weight, bias).view(-1, weight.shape[0], *offset.shape[2:])


def multiply(columns: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The convolution of sampled taps: [N, C, Ky Kx, h w] with [O, C / groups, Ky, Kx] -> [N, O, h w]."""
    n, c, _, pixels = columns.shape
    groups = c // weight.shape[1]
    kernel = weight.to(columns.dtype).view(groups, weight.shape[0] // groups, -1)
    out = (kernel @ columns.view(n, groups, kernel.shape[2], pixels)).view(n, -1, pixels)
    return (out if bias is None else out + bias[:, None]).to(columns.dtype)


def deform_columns_torch(
    input: Tensor, offset: Tensor, mask: Tensor | None, kernel, stride, padding, dilation
) -> Tensor:
    """The twin of the Triton kernels in plain PyTorch, and the CPU path: every tap of every output pixel.

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


def tap_positions(size, kernel, stride, padding, dilation, device: torch.device) -> Tensor:
    """Row and column of every tap of every output pixel before it moves -> [2, Ky Kx, h w]."""
    axes = [
        torch.arange(k, device=device)[:, None] * d - p + torch.arange(s, device=device) * r
        for s, k, r, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
    ]  # [Ky, h], [Kx, w]
    shape = (*kernel, *size)
    rows, columns = axes[0][:, None, :, None].expand(shape), axes[1][None, :, None, :].expand(shape)
    return torch.stack((rows, columns)).flatten(3).flatten(1, 2)


def _output_size(input: Tensor, kernel, stride, padding, dilation) -> tuple[int, int]:
    spans = (d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    h, w = ((s + 2 * p - k) // r + 1 for s, p, k, r in zip(input.shape[2:], padding, spans, stride, strict=True))
    return h, w


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
