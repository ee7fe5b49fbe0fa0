"""Feature Pyramid Network (Lin et al., CVPR 2017): P2..P5 of one channel count from a backbone's C2..C5."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from dimofs.zoo.backbones.activated import activated

# Cells of P2..P5 per pixel of the network's input.
SCALES = (1 / 4, 1 / 8, 1 / 16, 1 / 32)


class FeaturePyramid(nn.Module):
    """1x1 lateral convolutions, a nearest-neighbour top-down sum, 3x3 output convolutions.

    Takes maps of `in_channels` at strides 4, 8, 16, 32 and returns as many maps of `channels`, finest first.
    """

    def __init__(self, in_channels: Sequence[int], channels: int):
        super().__init__()
        self.channels = channels
        self.lateral = nn.ModuleList(nn.Conv2d(c, channels, 1) for c in in_channels)
        self.output = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels)
        for conv in (*self.lateral, *self.output):
            nn.init.kaiming_uniform_(conv.weight, a=1)  # type: ignore[arg-type]
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        maps = [activated(lateral, x) for lateral, x in zip(self.lateral, features, strict=True)]  # type: ignore[arg-type]
        for i in range(len(maps) - 1, 0, -1):
            maps[i - 1] = maps[i - 1] + F.interpolate(maps[i], size=maps[i - 1].shape[-2:])
        return [activated(output, x) for output, x in zip(self.output, maps, strict=True)]  # type: ignore[arg-type]


def pooled(levels: Sequence[Tensor]) -> list[Tensor]:
    """The levels and one more at twice the last stride (every second pixel), which only the RPN reads."""
    return [*levels, F.max_pool2d(levels[-1], kernel_size=1, stride=2)]
