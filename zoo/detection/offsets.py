"""Where every feature moved: the offset net that predicts the DiMoFs, and the layer that samples Frame B with them.

Section 3 of the paper: per pyramid level, d = f_A - f_B, a convolution predicts one displacement (dy, dx) per channel
and pixel, and f_B sampled there must serve to find the poses of Frame A.
"""

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from dimofs.kernels.deform import deform_sample
from dimofs.zoo.detection.fields import kept_on_map


class OffsetNet(nn.Module):
    """DiMoFs of each level: f_A, f_B [N, C, h, w] -> [N, 2G, h, w], (dy, dx) in pixels of the level.

    One 3x3 convolution per level. Its weights start at zero, and it has no bias, so equal frames have not moved.

    groups: G groups of channels share one displacement each (default: each channel has its own). shared: one
    convolution for all levels. zero: if False, start from PyTorch's random weights. dilation: of every convolution.
    """

    def __init__(
        self,
        channels: int,
        levels: int = 4,
        *,
        groups: int | None = None,
        shared: bool = False,
        zero: bool = True,
        dilation: int = 1,
    ):
        super().__init__()
        self.levels, width = levels, 2 * (groups or channels)
        count = 1 if shared else levels
        kind = partial(nn.Conv2d, channels, width, 3, padding=dilation, dilation=dilation, bias=False)
        self.convs = nn.ModuleList(kind() for _ in range(count))
        if zero:
            self.reset()

    def reset(self) -> None:
        """Give the convolutions weights of zero, with which nothing moves."""
        for conv in self.convs:
            nn.init.zeros_(conv.weight)  # type: ignore[arg-type]

    def forward(self, levels_a: Sequence[Tensor], levels_b: Sequence[Tensor]) -> list[Tensor]:
        convs = self.convs if len(self.convs) == self.levels else [self.convs[0]] * self.levels
        return [conv(a - b) for conv, a, b in zip(convs, levels_a, levels_b, strict=True)]


class DeformableLayer(nn.Module):
    """g = W sample(f_B, offsets) per level, where W is a 1x1 convolution that starts as the identity.

    mixing: if False, W is the identity throughout. border: samples that would lie outside the map are taken at its
    border; without, they are 0.
    """

    def __init__(self, channels: int, levels: int = 4, *, mixing: bool = True, border: bool = False):
        super().__init__()
        self.border = border
        if not mixing:
            self.convs = nn.ModuleList(nn.Identity() for _ in range(levels))
            return
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 1, bias=False) for _ in range(levels))
        for conv in self.convs:
            nn.init.dirac_(conv.weight)  # type: ignore[arg-type]

    def forward(self, levels_b: Sequence[Tensor], offsets: Sequence[Tensor] | None) -> list[Tensor]:
        """Levels [N, C, h, w] sampled at offsets [N, 2G, h, w]; without offsets each pixel is sampled at its place."""
        if offsets is not None and self.border:
            offsets = [kept_on_map(field) for field in offsets]
        sampled = levels_b if offsets is None else map(deform_sample, levels_b, offsets)
        return [conv(x) for conv, x in zip(self.convs, sampled, strict=True)]
