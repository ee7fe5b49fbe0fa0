"""Deformable convolution: each tap of a K x K kernel is a bilinear sample at its own position plus a learned offset.

    out[n, o, i, j] = bias[o] + sum over c, k of weight[o, c, k] * mask[n, k, i, j]
                      * bilinear(input[n, c], stride * i - padding + dilation * k_y + offset[n, 2k, i, j],
                                              stride * j - padding + dilation * k_x + offset[n, 2k + 1, i, j])

The arguments, their order and the meaning of offsets are those of torchvision.ops.deform_conv2d. Borders and offsets
that are not finite are treated as in `dimofs.kernels.deform`.
"""

from torch import Tensor

from dimofs.kernels.deform_conv_torch import convolve_torch


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
    """Convolve `input` [N, C, H, W] with taps moved by `offset` -> [N, O, h, w], in the dtype of `input`.

    `weight` [O, C / groups, Ky, Kx], `bias` [O], `stride`, `padding` and `dilation` are those of conv2d. `offset`
    [N, 2 G Ky Kx, h, w] holds (dy, dx) in pixels for each tap of each of G contiguous groups of channels; `mask`
    [N, G Ky Kx, h, w] is an optional factor for each tap. Coordinates are computed in float32 (float64 for a float64
    input). Raises ValueError for shapes that do not match.
    """
    geometry = weight.shape[2:], _pair(stride), _pair(padding), _pair(dilation)
    _check(input, offset, weight, mask, _output_size(input, *geometry))
    if input.is_cuda:
        from dimofs.kernels.deform_conv_triton import convolve_triton as convolve
    else:
        convolve = convolve_torch
    out = convolve(input, offset, mask, weight, geometry)
    return (out if bias is None else out + bias[:, None, None]).to(input.dtype)


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
