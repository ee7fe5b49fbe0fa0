"""A convolution and the activation after it in one pass over memory, where no gradient is wanted, on a CPU.

PyTorch runs the two one after the other and, with one thread, computes 1x1 convolutions of float32 by another library,
for which it copies maps that are channels last to the other order and back. oneDNN, which Inductor calls by the same
operator, does neither. Results differ by rounding alone.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Literal["none", "relu", "relu6"]
_NAMES: dict[Activation, tuple[str, list[float]]] = {
    "none": ("none", []),
    "relu": ("relu", []),
    "relu6": ("hardtanh", [0.0, 6.0]),
}
FUSED = (torch.float32, torch.bfloat16)
# Older and other builds of PyTorch may lack it.
_FUSED = getattr(torch.ops.mkldnn, "_convolution_pointwise", None)
# What convolutions are to the dispatcher; their input and weight come first.
CONVOLUTIONS = (
    torch.ops.aten.convolution.default,
    torch.ops.aten.conv2d.default,
    *(() if _FUSED is None else (_FUSED.default,)),
)


def activated(conv: nn.Conv2d, x: Tensor, activation: Activation = "none", weight: Tensor | None = None) -> Tensor:
    """The activation of conv(x). weight: in place of the convolution's own, as by padding its kernel."""
    kernel = conv.weight if weight is None else weight
    return convolved(x, kernel, conv.bias, conv, activation)


def convolved(
    x: Tensor, weight: Tensor, bias: Tensor | None, like: nn.Conv2d, activation: Activation = "none"
) -> Tensor:
    """The activation of a convolution with the stride, padding, dilation and groups of another."""
    stride, padding, dilation, groups = like.stride, like.padding, like.dilation, like.groups
    if not is_fused(x, weight) or has_gradient(x, weight, bias):
        y = F.conv2d(x, weight, bias, stride, padding, dilation, groups)  # type: ignore[arg-type]
        if activation == "none":
            return y
        return y.relu_() if activation == "relu" else F.relu6(y, inplace=True)
    dtype = computed_in(x)
    bias = None if bias is None else bias.to(dtype)
    name, limits = _NAMES[activation]
    x, weight = x.to(dtype), weight.to(dtype)
    return _FUSED(x, weight, bias, list(padding), list(stride), list(dilation), groups, name, limits, "")  # type: ignore


def computed_in(x: Tensor) -> torch.dtype:
    """The type in which a convolution of x on a CPU is computed: that of autocast, if it is on."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def is_fused(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN may compute a convolution of x, with nothing that traces. It gives no gradients."""
    if _FUSED is None or x.device.type != "cpu" or weight.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    return computed_in(x) in FUSED and x.dtype in FUSED and torch.backends.mkldnn.enabled and x.numel() > 0


def has_gradient(*tensors: Tensor | None) -> bool:
    """Whether autograd follows one of them."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
