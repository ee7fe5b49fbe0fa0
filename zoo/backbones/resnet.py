"""Residual networks (He et al., CVPR 2016) with frozen batch normalization, parameters named as torchvision's.

The stride of a bottleneck sits in its 3x3 convolution, as in torchvision. Each convolution and its normalization are
computed as one convolution, in training too: its weights change, their normalization does not.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FrozenBatchNorm(nn.Module):
    """(x - mean) / sqrt(var + 1e-5) * weight + bias with constants per channel, which no training changes."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor
    eps = 1e-5

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def fold(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Weights [C, ...] and bias [C] of the convolution that does what one with `weight`, then this, would."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return weight * scale[:, None, None, None], self.bias - self.running_mean * scale


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = _conv(inputs, width, 3, stride), FrozenBatchNorm(width)
        self.conv2, self.bn2 = _conv(width, width, 3), FrozenBatchNorm(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = _normed(x, self.conv1, self.bn1).relu_()
        return _normed(y, self.conv2, self.bn2).add_(self.downsample(x)).relu_()


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, the last four times as wide, and a shortcut."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        outputs = width * self.expansion
        self.conv1, self.bn1 = _conv(inputs, width, 1), FrozenBatchNorm(width)
        self.conv2, self.bn2 = _conv(width, width, 3, stride), FrozenBatchNorm(width)
        self.conv3, self.bn3 = _conv(width, outputs, 1), FrozenBatchNorm(outputs)
        self.downsample = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = _normed(x, self.conv1, self.bn1).relu_()
        y = _normed(y, self.conv2, self.bn2).relu_()
        return _normed(y, self.conv3, self.bn3).add_(self.downsample(x)).relu_()


class Projection(nn.Sequential):
    """A normalized 1x1 convolution, the shortcut where shapes differ."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__(_conv(inputs, outputs, 1, stride), FrozenBatchNorm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return _normed(x, self[0], self[1])  # type: ignore[arg-type]


class ResNet(nn.Module):
    """Normalized images [N, 3, H, W] -> C2..C5 at strides 4, 8, 16, 32, as wide as `channels` says.

    `depths` counts the blocks of each of the four stages.
    """

    def __init__(self, block: type[BasicBlock] | type[Bottleneck], depths: Sequence[int]):
        super().__init__()
        widths = (64, 128, 256, 512)
        self.channels = tuple(width * block.expansion for width in widths)
        inputs = (64, *self.channels)
        self.conv1, self.bn1 = _conv(3, 64, 7, stride=2), FrozenBatchNorm(64)
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            _stage(block, inputs[i], widths[i], depths[i], stride=1 if i == 0 else 2) for i in range(4)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        return self._maps(x, 4)

    def first_maps(self, x: Tensor) -> list[Tensor]:
        """C2 and C3 alone."""
        return self._maps(x, 2)

    def _maps(self, x: Tensor, stages: int) -> list[Tensor]:
        x = F.max_pool2d(_normed(x, self.conv1, self.bn1).relu_(), kernel_size=3, stride=2, padding=1)
        features = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4)[:stages]:
            x = stage(x)
            features.append(x)
        return features


def resnet18() -> ResNet:
    return ResNet(BasicBlock, (2, 2, 2, 2))


def resnet50() -> ResNet:
    return ResNet(Bottleneck, (3, 4, 6, 3))


def resnet101() -> ResNet:
    return ResNet(Bottleneck, (3, 4, 23, 3))


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


def _normed(x: Tensor, conv: nn.Conv2d, norm: FrozenBatchNorm) -> Tensor:
    weight, bias = norm.fold(conv.weight)
    return F.conv2d(x, weight, bias, conv.stride, conv.padding)  # type: ignore[arg-type]


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    """The input itself where shapes agree, else projected."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return Projection(inputs, outputs, stride)


def _stage(block: type[BasicBlock] | type[Bottleneck], inputs: int, width: int, depth: int, stride: int) -> nn.Module:
    rest = (block(width * block.expansion, width, stride=1) for _ in range(depth - 1))
    return nn.Sequential(block(inputs, width, stride), *rest)
