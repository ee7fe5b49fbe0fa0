"""MobileNetV2 (Sandler et al., CVPR 2018) and feature pyramid in the layout of MoveNet MultiPose Lightning.

Width 1.5 with an unscaled last layer; BatchNorm is folded, so every convolution has a bias. TensorFlow's SAME padding
is kept: at stride 2 an even map is padded by one on the right and at the bottom only, so that the centre of output i
lies on input 2i + 1, where symmetric padding would put it on 2i. Heights and widths are multiples of 32.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from dimofs.zoo.backbones.activated import Activation, activated
from dimofs.zoo.backbones.inverted_residual import ConvReLU6, InvertedResidual, SameConv2d


class Stem(SameConv2d):
    """The first convolution and its ReLU6."""

    def forward(self, x: Tensor, activation: Activation = "relu6") -> Tensor:
        return super().forward(x, activation)


class MobileNetV2(nn.Module):
    """[N, 3, H, W] RGB in [-1, 1] -> four maps of `channels` channels at `strides`, finest first.

    The map of stride 16 leaves after the 96-channel blocks, before those of 144 channels.
    """

    channels = (40, 48, 96, 1280)
    strides = (4, 8, 16, 32)

    def __init__(self) -> None:
        super().__init__()
        stem = (Stem(3, 48), nn.Identity(), InvertedResidual(48, 24, stride=1, expansion=1))
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
        return self.late(self.early(x))

    def early(self, x: Tensor) -> list[Tensor]:
        """All maps but the last."""
        return self._maps(x, len(self.stages) - 1)

    def late(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """All maps, from those that `early` gives."""
        return [*maps, self.stages[-1](maps[-1])]

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


def _conv1x1(inputs: int, outputs: int) -> nn.Sequential:
    return ConvReLU6(nn.Conv2d(inputs, outputs, 1))


def _blocks(inputs: int, outputs: int, repeats: int, stride: int) -> list[InvertedResidual]:
    first = InvertedResidual(inputs, outputs, stride)
    return [first, *(InvertedResidual(outputs, outputs, stride=1) for _ in range(repeats - 1))]
