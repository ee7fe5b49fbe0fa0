"""Deformable convolution: each tap of a K x K kernel is a bilinear sample at its own position plus a learned offset.

    out[n, o, i, j] = bias[o] + sum over c, k of weight[o, c, k] * mask[n, k, i, j]
                      * bilinear(input[n, c], stride * i - padding + dilation * k_y + offset[n, 2k, i, j],
                                              stride * j - padding + dilation * k_x + offset[n, 2k + 1, i, j])

The arguments, their order and the meaning of offsets are those of torchvision.ops.deform_conv2d. Borders and offsets
that are not finite are treated as in `dimofs.kernels.deform`.
"""

from torch import Tensor

from dimofs.kernels.deform_conv_torch import conv_groups, convolve_torch


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
    input). Raises ValueError for shapes, dtypes or devices that do not match.
    """
    _check_tensors(input=(input, 4), offset=(offset, 4), weight=(weight, 4), bias=(bias, 1), mask=(mask, 4))
    kernel = weight.shape[2], weight.shape[3]
    geometry = kernel, _pair(stride), _pair(padding), _pair(dilation)
    size = _output_size(input, *geometry)
    _check_shapes(input, offset, weight, bias, mask, size)
    if input.is_cuda:
        from dimofs.kernels.deform_conv_triton import convolve_triton as convolve
    else:
        convolve = convolve_torch
    out = convolve(input, offset, mask, weight, geometry)
    return (out if bias is None else out + bias[:, None, None]).to(input.dtype)


def _check_tensors(**tensors: tuple[Tensor | None, int]) -> None:
    """ValueError unless the tensors, each with its number of axes, hold floating point numbers on one device."""
    devices = {tensor.device for tensor, _ in tensors.values() if tensor is not None}
    if len(devices) > 1:
        raise ValueError(f"tensors on {', '.join(sorted(map(str, devices)))}: expected one device")
    for name, (tensor, axes) in tensors.items():
        if tensor is not None and tensor.ndim != axes:
            raise ValueError(f"{name} {[*tensor.shape]} does not fit: expected {axes} axes")
        if tensor is not None and not tensor.is_floating_point():
            raise ValueError(f"{name} of {tensor.dtype}: expected floating point")


def _output_size(input: Tensor, kernel, stride, padding, dilation) -> tuple[int, int]:
    """Height and width of the result. ValueError if there is none."""
    if min(*stride, *dilation, *kernel) < 1 or min(padding) < 0:
        raise ValueError(
            f"kernel {kernel}, stride {stride}, dilation {dilation} and padding {padding}: "
            "expected at least 1, and 0 for the padding"
        )
    spans = (d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    h, w = ((s + 2 * p - k) // r + 1 for s, p, k, r in zip(input.shape[2:], padding, spans, stride, strict=True))
    if h < 1 or w < 1 or not all(input.shape[2:]):
        raise ValueError(f"input {[*input.shape]} does not fit: smaller than the kernel {kernel} with its dilation")
    return h, w


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _check_shapes(
    input: Tensor, offset: Tensor, weight: Tensor, bias: Tensor | None, mask: Tensor | None, size: tuple[int, int]
) -> None:
    """ValueError unless the shapes fit together. `size` is that of the result."""
    (n, c), outputs, taps = input.shape[:2], weight.shape[0], weight.shape[2] * weight.shape[3]
    offset_groups = offset.shape[1] // (2 * taps)
    if (weight.shape[1] == 0) != (c == 0) or c % max(weight.shape[1], 1) or outputs % conv_groups(c, weight):
        raise ValueError(f"weight {[*weight.shape]} does not fit an input of {c} channels")
    if offset_groups == 0 or c % offset_groups or offset.shape != (n, 2 * offset_groups * taps, *size):
        raise ValueError(
            f"offset {[*offset.shape]} does not fit: [N, 2 G taps, h, w] = [{n}, 2 G {taps}, {size[0]}, {size[1]}]"
        )
    if mask is not None and mask.shape != (n, offset_groups * taps, *size):
        raise ValueError(f"mask {[*mask.shape]} does not fit: expected {[n, offset_groups * taps, *size]}")
    if bias is not None and len(bias) != outputs:
        raise ValueError(f"bias {[*bias.shape]} does not fit: expected [{outputs}]")
