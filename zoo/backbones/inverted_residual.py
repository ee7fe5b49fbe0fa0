"""An inverted residual (Sandler et al., CVPR 2018) and how it is trained on a CPU.

The maps inside a block have six times as many channels as those between blocks, and for a whole batch they fit in no
cache. So with gradients, too, convolutions and activations are computed in one pass, forth and back, a few images at a
time: the same sums in another order. Depthwise convolutions of stride 2 get the gradients of their weights from a
padded map and those of their input in float32, as oneDNN (PyTorch 2.14) takes 5 to 40 times as long otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dimofs.zoo.backbones.activated import Activation, activated, computed_in, convolved, has_gradient, is_fused

# Values of a map inside a block for as many images as are computed at a time.
VALUES = 2**20


class SameConv2d(nn.Conv2d):
    """3x3 convolution of stride 2 with TensorFlow's SAME padding: an odd map gets one on each side, an even one none
    before and one after. For the latter the kernel, not the map, is padded: its first of four weights is zero."""

    def __init__(self, inputs: int, outputs: int, groups: int = 1) -> None:
        super().__init__(inputs, outputs, 3, stride=2, padding=1, groups=groups)

    def forward(self, x: Tensor, activation: Activation = "none") -> Tensor:
        return activated(self, x, activation, same_kernel(self.weight, x))


def same_kernel(weight: Tensor, x: Tensor) -> Tensor:
    """The kernel of stride 2 that, padded by one on each side, does what `weight` would with SAME padding on `x`."""
    height, width = x.shape[-2:]
    return F.pad(weight, (1 - width % 2, 0, 1 - height % 2, 0))


class ConvReLU6(nn.Sequential):
    """A convolution and a ReLU6."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv, nn.ReLU6(inplace=True))

    @property
    def conv(self) -> nn.Conv2d:
        conv = self[0]
        assert isinstance(conv, nn.Conv2d)
        return conv

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.conv, SameConv2d):
            return self.conv(x, "relu6")
        return activated(self.conv, x, "relu6")


class InvertedResidual(nn.Module):
    """1x1 expansion (left out at `expansion` 1), 3x3 depthwise, linear 1x1; a residual where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int = 6) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        self.expand = ConvReLU6(nn.Conv2d(inputs, hidden, 1)) if expansion > 1 else nn.Identity()
        depthwise = SameConv2d(hidden, hidden, hidden) if stride == 2 else _conv3x3(hidden)
        self.depthwise = ConvReLU6(depthwise)
        self.project = nn.Conv2d(hidden, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        if is_fused(x, self.project.weight) and has_gradient(x, *self.parameters()):
            y = self._trained(x)
        else:
            y = activated(self.project, self.depthwise(self.expand(x)))
        return x + y if self.residual else y

    def _trained(self, x: Tensor) -> Tensor:
        expand = (self.expand.conv,) if isinstance(self.expand, ConvReLU6) else ()
        convs = (*expand, self.depthwise.conv, self.project)
        parameters = [parameter for conv in convs for parameter in (conv.weight, conv.bias)]
        y = _Trained.apply(convs, x.to(computed_in(x)), *parameters)
        assert isinstance(y, Tensor)
        return y


class _Trained(torch.autograd.Function):
    """The convolutions of a block of x [N, C, H, W], each but the last with its ReLU6, and then their parameters."""

    @staticmethod
    def forward(ctx: Any, convs: Sequence[nn.Conv2d], x: Tensor, *parameters: Tensor) -> Tensor:
        weights = [parameter.to(x.dtype) for parameter in parameters]
        ctx.convs, ctx.dtypes = convs, [parameter.dtype for parameter in parameters]
        ctx.save_for_backward(x, *weights)
        steps = _steps(convs, weights)
        return torch.cat([steps[-1].forward(_maps(part, steps)[-1], "none") for part in _parts(x, convs)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (of_x, *wanted), (x, *weights) = ctx.needs_input_grad[1:], ctx.saved_tensors
        steps, parts = _steps(ctx.convs, weights), _parts(x, ctx.convs)
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        inputs, sums = [], [torch.zeros_like(w, dtype=d) for w, d in zip(weights, ctx.dtypes, strict=True)]
        for part, g in zip(parts, gradient.split([len(part) for part in parts]), strict=True):
            # What was computed before is computed again: that is faster than to read it from memory.
            maps = _maps(part, steps)
            for number in range(len(steps) - 1, -1, -1):
                needed = bool(number or of_x), *wanted[2 * number : 2 * number + 2]
                back, *own = steps[number].backward(g, maps[number], needed)
                for total, more in zip(sums[2 * number :], own, strict=False):
                    if more is not None:
                        total += more
                if number:
                    # Nobody else has this gradient, so its memory can be used again.
                    torch.ops.aten.hardtanh_backward.grad_input(back, maps[number], 0, 6, grad_input=back)
                g = back
            inputs.append(g)
        found = (total if one else None for total, one in zip(sums, wanted, strict=True))
        return None, torch.cat(inputs) if of_x else None, *found


class Step(NamedTuple):
    """A convolution of a block, with its parameters in the type that is computed in."""

    conv: nn.Conv2d
    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor, activation: Activation) -> Tensor:
        """x [N, C, H, W] -> its convolution and activation."""
        weight = same_kernel(self.weight, x) if isinstance(self.conv, SameConv2d) else self.weight
        return convolved(x, weight, self.bias, self.conv, activation)

    def backward(self, g: Tensor, x: Tensor, wanted: tuple[bool, ...]) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The gradients of x, weight and bias; those not `wanted` are None, and undefined for x."""
        if not isinstance(self.conv, SameConv2d):
            padding = [size // 2 for size in self.conv.kernel_size]
            return _gradients(self.conv, g, x, self.weight, padding, wanted)
        back, weight, bias = g, None, None
        if wanted[0]:
            kernel, like = same_kernel(self.weight, x).float(), torch.empty_like(x, dtype=torch.float32)
            back, _, _ = _gradients(self.conv, g.float(), like, kernel, (1, 1), (True, False, False))
        if any(wanted[1:]):
            height, width = x.shape[-2:]
            padded = F.pad(x, (width % 2, 1, height % 2, 1))
            _, weight, bias = _gradients(self.conv, g, padded, self.weight, (0, 0), (False, *wanted[1:]))
        return back.to(x.dtype), weight, bias


def _steps(convs: Sequence[nn.Conv2d], parameters: Sequence[Tensor]) -> list[Step]:
    return [Step(*each) for each in zip(convs, parameters[::2], parameters[1::2], strict=True)]


def _parts(x: Tensor, convs: Sequence[nn.Conv2d]) -> Sequence[Tensor]:
    """As many images at a time as have `VALUES` values inside the block."""
    values = x.shape[-2] * x.shape[-1] * convs[-1].in_channels
    return x.split(max(1, VALUES // values))


def _maps(x: Tensor, steps: Sequence[Step]) -> list[Tensor]:
    """What each step reads."""
    maps = [x]
    for step in steps[:-1]:
        maps.append(step.forward(maps[-1], "relu6"))
    return maps


def _gradients(
    conv: nn.Conv2d, g: Tensor, x: Tensor, weight: Tensor, padding: Sequence[int], wanted: tuple[bool, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the input, weight and bias of a convolution like `conv`, of another weight and padding."""
    return torch.ops.aten.convolution_backward(
        g, x, weight, [conv.out_channels], [*conv.stride], [*padding], [1, 1], False, [0, 0], conv.groups, [*wanted]
    )


def _conv3x3(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
