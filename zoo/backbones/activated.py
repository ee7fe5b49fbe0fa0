"""A convolution and the activation after it in one pass over memory, for inference on a CPU.

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
# Older and other builds of PyTorch may lack it.
_FUSED = getattr(torch.ops.mkldnn, "_convolution_pointwise", None)


def activated(conv: nn.Conv2d, x: Tensor, activation: Activation = "none", weight: Tensor | None = None) -> Tensor:
    """The activation of conv(x). weight: in place of the convolution's own, as by padding its kernel."""
    kernel = conv.weight if weight is None else weight
    return convolved(x, kernel, conv.bias, conv, activation)


def convolved(
    x: Tensor, weight: Tensor, bias: Tensor | None, like: nn.Conv2d, activation: Activation = "none"
) -> Tensor:
    """The activation of a convolution with the stride, padding, dilation and groups of another."""
    stride, padding, dilation, groups = like.stride, like.padding, like.dilation, like.groups
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    if _FUSED is None or not _fits(x, weight, dtype):
        y = F.conv2d(x, weight, bias, stride, padding, dilation, groups)  # type: ignore[arg-type]
        if activation == "none":
            return y
        return y.relu_() if activation == "relu" else F.relu6(y, inplace=True)
    bias = None if bias is None else bias.to(dtype)
    name, limits = _NAMES[activation]
    x, weight = x.to(dtype), weight.to(dtype)
    return _FUSED(x, weight, bias, list(padding), list(stride), list(dilation), groups, name, limits, "")


def _fits(x: Tensor, weight: Tensor, dtype: torch.dtype) -> bool:
    """Whether oneDNN may compute it, with nothing that follows gradients or traces."""
    if x.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    if dtype not in (torch.float32, torch.bfloat16) or not torch.backends.mkldnn.enabled or not x.numel():
        return False
    return weight.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16)
