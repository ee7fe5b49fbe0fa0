"""MobileNetV2 (Sandler et al., CVPR 2018) and feature pyramid in the layout of MoveNet MultiPose Lightning.

Width 1.5 with an unscaled last layer; BatchNorm is folded, so every convolution has a bias. TensorFlow's SAME padding
is kept: at stride 2 an even map is padded by one on the right and at the bottom only, so that the centre of output i
lies on input 2i + 1, where symmetric padding would put it on 2i. Heights and widths are multiples of 32.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dimofs.zoo.backbones.activated import Activation, activated


class SameConv2d(nn.Conv2d):
    """3x3 convolution of stride 2 with TensorFlow's SAME padding: an odd map gets one on each side, an even one none
    before and one after. For the latter the kernel, not the map, is padded: its first of four weights is zero."""

    def __init__(self, inputs: int, outputs: int, groups: int = 1) -> None:
        super().__init__(inputs, outputs, 3, stride=2, padding=1, groups=groups)

    def forward(self, x: Tensor, activation: Activation = "none") -> Tensor:
        if self._has_slow_gradient(x):
            y = _BFloat16Depthwise.apply(x.bfloat16(), self.weight.bfloat16(), self.bias.bfloat16())  # type: ignore
            assert isinstance(y, Tensor)
            return y if activation == "none" else F.relu6(y, inplace=True)
        height, width = x.shape[-2:]
        return activated(self, x, activation, F.pad(self.weight, (1 - width % 2, 0, 1 - height % 2, 0)))

    def _has_slow_gradient(self, x: Tensor) -> bool:
        """Whether this is a depthwise convolution on a CPU, with autocast to bfloat16, that needs a gradient."""
        if self.groups == 1 or x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return False
        needs_gradient = torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad)
        return needs_gradient and torch.get_autocast_dtype("cpu") == torch.bfloat16


class _BFloat16Depthwise(torch.autograd.Function):
    """Depthwise 3x3 convolution of stride 2 with SAME padding in bfloat16, for training on a CPU.

    oneDNN computes the gradient of the input of such a convolution many times more slowly in bfloat16 than in float32.
    At stride 1 it does not, so the gradient is computed as that of a convolution of stride 1, with zeros between the
    rows and columns of the output's gradient.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """x [N, C, H, W], weight [C, 1, 3, 3], bias [C] -> [N, C, ceil(H / 2), ceil(W / 2)]."""
        height, width = x.shape[-2:]
        padded = F.pad(x, (width % 2, 1, height % 2, 1))
        ctx.save_for_backward(x, padded if ctx.needs_input_grad[1] else x, weight)
        return F.conv2d(padded, weight, bias, stride=2, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, padded, weight = ctx.saved_tensors
        of_x = of_weight = of_bias = None
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        if ctx.needs_input_grad[0]:
            # Output i has its centre on input 2i + 1 of an even map and on 2i of an odd one.
            spread = torch.zeros_like(x)
            spread[..., 1 - x.shape[2] % 2 :: 2, 1 - x.shape[3] % 2 :: 2] = gradient
            of_x, _, _ = _depthwise_gradients(spread, x, weight, stride=1, wanted=(True, False, False))
        if ctx.needs_input_grad[1]:
            wanted = (False, True, True)
            _, of_weight, of_bias = _depthwise_gradients(gradient, padded, weight, stride=2, wanted=wanted)
        return of_x, of_weight, of_bias


def _depthwise_gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, *, stride: int, wanted: tuple[bool, bool, bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of a depthwise 3x3 convolution's input, weight and bias; those not `wanted` are None.

    It pads its input by one at stride 1, and not at all at stride 2.
    """
    count, padding = len(weight), 1 if stride == 1 else 0
    return torch.ops.aten.convolution_backward(
        gradient, x, weight, [count], [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], count, wanted
    )


class InvertedResidual(nn.Module):
    """1x1 expansion (left out at `expansion` 1), 3x3 depthwise, linear 1x1; a residual where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int = 6) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        self.expand = _conv1x1(inputs, hidden) if expansion > 1 else nn.Identity()
        depthwise = SameConv2d if stride == 2 else _Conv3x3
        self.depthwise = _ConvReLU6(depthwise(hidden, hidden, groups=hidden))
        self.project = nn.Conv2d(hidden, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = activated(self.project, self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """[N, 3, H, W] RGB in [-1, 1] -> four maps of `channels` channels at `strides`, finest first.

    The map of stride 16 leaves after the 96-channel blocks, before those of 144 channels.
    """

    channels = (40, 48, 96, 1280)
    strides = (4, 8, 16, 32)

    def __init__(self) -> None:
        super().__init__()
        stem = (SameConv2d(3, 48), nn.ReLU6(inplace=True), InvertedResidual(48, 24, stride=1, expansion=1))
        self.stages = nn.ModuleList((
            nn.Sequential(*stem, *_blocks(24, 40, 2, stride=2)),
            nn.Sequential(*_blocks(40, 48, 3, stride=2)),
            nn.Sequential(*_blocks(48, 96, 4, stride=2)),
            nn.Sequential(
                *_blocks(96, 144, 3, stride=1),
                *_blocks(144, 240, 3, stride=2),
                *_blocks(240, 480, 1, stride=1),
                _conv1x1(480, 1280),
            ),
        ))  # fmt: skip

    def forward(self, x: Tensor) -> list[Tensor]:
        return self._maps(x, len(self.stages))

    def first_maps(self, x: Tensor) -> list[Tensor]:
        """The maps of strides 4 and 8 alone."""
        return self._maps(x, 2)

    def _maps(self, x: Tensor, stages: int) -> list[Tensor]:
        features = []
        for stage in self.stages[:stages]:
            x = stage(x)
            features.append(x)
        return features


class SeparableConv(nn.Sequential):
    """3x3 depthwise without bias, 1x1 with bias, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False),
            nn.Conv2d(inputs, outputs, 1),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        depthwise, pointwise, _ = self
        assert isinstance(depthwise, nn.Conv2d) and isinstance(pointwise, nn.Conv2d)
        return activated(pointwise, activated(depthwise, x), "relu")


class MoveNetFPN(nn.Module):
    """MoveNet's top-down pyramid: 1x1 laterals, bilinear upsampling, sums smoothed by separable convolutions.

    `forward` takes the backbone's maps at strides 4, 8, 16, 32 and returns as many of `channels` channels, finest
    first: the smoothed sums at strides 4, 8 and 16, and the lateral it starts from at stride 32. Every smoothing
    already has the width of the next finer lateral.
    """

    channels = (24, 24, 32, 64)
    strides = MobileNetV2.strides

    def __init__(self, inputs: Sequence[int] = MobileNetV2.channels) -> None:
        super().__init__()
        widths = (24, 32, 64, 64)
        self.laterals = nn.ModuleList(nn.Conv2d(n, width, 1) for n, width in zip(inputs, widths, strict=True))
        self.smooth = nn.ModuleList(map(SeparableConv, widths, self.channels[:-1]))

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        *finer, x = (activated(lateral, f) for lateral, f in zip(self.laterals, features, strict=True))  # type: ignore
        maps = [x]
        for lateral, smooth in zip(reversed(finer), reversed(self.smooth), strict=True):
            x = smooth(F.interpolate(x, scale_factor=2, mode="bilinear") + lateral)
            maps.insert(0, x)
        return maps


class _Conv3x3(nn.Conv2d):
    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1, groups=groups)


class _ConvReLU6(nn.Sequential):
    """A convolution and a ReLU6."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv, nn.ReLU6(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        conv = self[0]
        if isinstance(conv, SameConv2d):
            return conv(x, "relu6")
        assert isinstance(conv, nn.Conv2d)
        return activated(conv, x, "relu6")


def _conv1x1(inputs: int, outputs: int) -> nn.Sequential:
    return _ConvReLU6(nn.Conv2d(inputs, outputs, 1))


def _blocks(inputs: int, outputs: int, repeats: int, stride: int) -> list[InvertedResidual]:
    first = InvertedResidual(inputs, outputs, stride)
    return [first, *(InvertedResidual(outputs, outputs, stride=1) for _ in range(repeats - 1))]
