"""Where every feature moved: the offset net that predicts the DiMoFs, and the layer that samples Frame B by them.

Section 3 of the paper: per pyramid level, d = f_A - f_B, a convolution predicts one displacement (dy, dx) per channel
and pixel, and f_B sampled there must serve to find the poses of Frame A.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from dimofs.kernels.deform import deform_sample


class OffsetNet(nn.Module):
    """DiMoFs of each level: f_A, f_B [N, C, h, w] -> [N, 2C, h, w], (dy, dx) in pixels of the level, per channel.

    One 3x3 convolution a level, zero at the start, without bias: equal frames have not moved.
    """

    def __init__(self, channels: int, levels: int = 4):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels, 2 * channels, 3, padding=1, bias=False) for _ in range(levels))
        for conv in self.convs:
            nn.init.zeros_(conv.weight)  # type: ignore[arg-type]

    def forward(self, levels_a: Sequence[Tensor], levels_b: Sequence[Tensor]) -> list[Tensor]:
        return [conv(a - b) for conv, a, b in zip(self.convs, levels_a, levels_b, strict=True)]


class DeformableLayer(nn.Module):
    """g = W sample(f_B, offsets) per level; W, a 1x1 convolution, is the identity at the start."""

    def __init__(self, channels: int, levels: int = 4):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 1, bias=False) for _ in range(levels))
        for conv in self.convs:
            nn.init.dirac_(conv.weight)  # type: ignore[arg-type]

    def forward(self, levels_b: Sequence[Tensor], offsets: Sequence[Tensor] | None) -> list[Tensor]:
        """Levels of [N, C, h, w] sampled by offsets of [N, 2C, h, w]; without offsets each pixel is its own sample."""
        sampled = levels_b if offsets is None else map(deform_sample, levels_b, offsets)
        return [conv(x) for conv, x in zip(self.convs, sampled, strict=True)]
