"""MobileNetV2 (Sandler et al., CVPR 2018) and feature pyramid in the layout of MoveNet MultiPose Lightning.

Width 1.5 with an unscaled last layer; BatchNorm is folded, so every convolution has a bias. TensorFlow's SAME padding
is kept: at stride 2 an even map is padded by one on the right and at the bottom only, so that the centre of output i
lies on input 2i + 1, where symmetric padding would put it on 2i. Heights and widths are multiples of 32.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class SameConv2d(nn.Conv2d):
    """3x3 convolution of stride 2 with TensorFlow's SAME padding: an odd map gets one on each side, an even one none
    before and one after. For the latter the kernel, not the map, is padded: its first of four weights is zero."""

    def __init__(self, inputs: int, outputs: int, groups: int = 1) -> None:
        super().__init__(inputs, outputs, 3, stride=2, padding=1, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        weight = F.pad(self.weight, (1 - width % 2, 0, 1 - height % 2, 0))
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, groups=self.groups)  # type: ignore[arg-type]


class InvertedResidual(nn.Module):
    """1x1 expansion (left out at `expansion` 1), 3x3 depthwise, linear 1x1; a residual where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int = 6) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        self.expand = _conv1x1(inputs, hidden) if expansion > 1 else nn.Identity()
        depthwise = SameConv2d if stride == 2 else _Conv3x3
        self.depthwise = nn.Sequential(depthwise(hidden, hidden, groups=hidden), nn.ReLU6(inplace=True))
        self.project = nn.Conv2d(hidden, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
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
        features = []
        for stage in self.stages:
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
        *finer, x = (lateral(f) for lateral, f in zip(self.laterals, features, strict=True))
        maps = [x]
        for lateral, smooth in zip(reversed(finer), reversed(self.smooth), strict=True):
            x = smooth(F.interpolate(x, scale_factor=2, mode="bilinear") + lateral)
            maps.insert(0, x)
        return maps


class _Conv3x3(nn.Conv2d):
    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1, groups=groups)


def _conv1x1(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1), nn.ReLU6(inplace=True))


def _blocks(inputs: int, outputs: int, repeats: int, stride: int) -> list[InvertedResidual]:
    first = InvertedResidual(inputs, outputs, stride)
    return [first, *(InvertedResidual(outputs, outputs, stride=1) for _ in range(repeats - 1))]
