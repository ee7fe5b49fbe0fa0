"""Whole backbones: a body and a feature pyramid on it, normalized image -> P2..P5."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dimofs.zoo.backbones import movenet
from dimofs.zoo.backbones.fpn import FeaturePyramid
from dimofs.zoo.backbones.mobilenet import MobileNetV2, MoveNetFPN


class PyramidBackbone(nn.Module):
    """A backbone's C2..C5 through a feature pyramid: normalized image -> P2..P5."""

    def __init__(self, body: nn.Module, fpn: FeaturePyramid):
        super().__init__()
        self.body, self.fpn = body, fpn

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.fpn(self.body(x))

    def first_maps(self, x: Tensor) -> list[Tensor]:
        """The body's C2 and C3."""
        return self.body.first_maps(x)  # type: ignore[operator]


class KeypointPyramidBackbone(nn.Module):
    """MoveNet as a backbone: its C2..C5, its top-down maps and what its heads see become P2..P5 of `channels`.

    The heads (joint heatmaps, person centres, box sizes in cells) read only the finest map; coarser levels get their
    maxima. Logits are clamped to at least -6, which means that nothing is there, and shifted so that this is 0.
    """

    HINTS = {"kpt_heatmap": movenet.JOINTS, "center": 1, "box_scale": 2}

    def __init__(self, channels: int):
        super().__init__()
        self.body, self.top_down = MobileNetV2(), MoveNetFPN()
        self.hints = nn.ModuleDict({name: movenet.Head(MoveNetFPN.channels[0], n) for name, n in self.HINTS.items()})
        hints = sum(self.HINTS.values())
        widths = zip(MobileNetV2.channels, MoveNetFPN.channels, strict=True)
        self.fpn = FeaturePyramid([a + b + hints for a, b in widths], channels)

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.late(self.early(x))

    def early(self, x: Tensor) -> list[Tensor]:
        """The body's C2, C3 and C4."""
        # Depthwise convolutions on a CPU are faster in this format.
        return self.body.early(x.contiguous(memory_format=torch.channels_last))

    def late(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """P2..P5 from the maps that `early` gives."""
        features = self.body.late(maps)
        maps = self.top_down(features)
        joints, center, size = (head(maps[0]) for head in self.hints.values())
        hints = torch.cat(((joints + 6).relu(), (center + 6).relu(), size / 32), dim=1)
        # A map of one channel is in both orders, so what it is joined to may come out in the other one.
        hints = hints.contiguous(memory_format=torch.channels_last)
        joined = [
            torch.cat((c, m, F.max_pool2d(hints, 2**level) if level else hints), dim=1)
            for level, (c, m) in enumerate(zip(features, maps, strict=True))
        ]
        return self.fpn(joined)

    def first_maps(self, x: Tensor) -> list[Tensor]:
        """The body's C2 and C3."""
        return self.body.first_maps(x.contiguous(memory_format=torch.channels_last))
