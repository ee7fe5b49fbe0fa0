"""The head of action localization (section 5.1, Figure 4): an MLP for each stream of pooled features, box and class.

A stream is what one kind of feature says about a region: its RoIAlign, flattened. Each passes two layers of its own,
the results are concatenated, and from them come the class and a correction of the region.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dimofs.kernels.roi_align import roi_align
from dimofs.zoo.backbones.fpn import SCALES

# Cells of a side of the RoIAlign, which are then averaged to the stream's own resolution.
POOLED = 7
# A spread below this is rounding: between equal frames an aligning offset net finds displacements of a millionth.
LEAST_SPREAD = 1e-4
# Standardized values are limited to this: displacements at the border of a map can be far out.
LIMIT = 5.0


def pool(levels: Sequence[Tensor], regions: Sequence[Tensor], cells: int) -> Tensor:
    """RoIAlign of maps P2.. [N, C, h, w] in the regions [K_n, 4] of N images -> [K, C * cells * cells].

    Each region reads the level of its size. It is pooled to 7x7 and averaged to `cells` x `cells`.
    """
    pooled = roi_align(levels, regions, POOLED, SCALES[: len(levels)], sampling_ratio=2)
    return F.adaptive_avg_pool2d(pooled, cells).flatten(1)


class ActionHead(nn.Module):
    """Streams [K, width] each -> class logits [K, 1 + actions], background first, and box deltas [K, 4].

    widths: of the streams. hidden: of both layers of each stream. dropout: shares of the streams' values, and of the
    hidden values before class and box, that training drops.

    Each number of a stream is standardized first, since displacements reach a hundred times the size of features.
    """

    def __init__(
        self, widths: Sequence[int], actions: int, hidden: int = 1024, dropout: tuple[float, float] = (0.2, 0.5)
    ):
        super().__init__()
        self.standardize = nn.ModuleList(map(Standardize, widths))
        self.streams = nn.ModuleList(
            nn.Sequential(
                nn.Dropout(dropout[0]), nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
            )
            for width in widths
        )
        self.dropout = nn.Dropout(dropout[1])
        self.logits = nn.Linear(hidden * len(widths), 1 + actions)
        self.deltas = nn.Linear(hidden * len(widths), 4)
        for layer in (self.logits, self.deltas):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, pooled: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        parts = zip(self.streams, self.standardize, pooled, strict=True)
        hidden = self.dropout(torch.cat([stream(standard(x)) for stream, standard, x in parts], dim=1))
        return self.logits(hidden).float(), self.deltas(hidden).float()

    def fit(self, pooled: Sequence[Tensor]) -> None:
        """Take means and spreads of the streams from training data, [K, width] each."""
        for standard, x in zip(self.standardize, pooled, strict=True):
            assert isinstance(standard, Standardize)
            standard.fit(x)


class Standardize(nn.Module):
    """(x - mean) / spread of each number, limited to -5..5; until `fit`, x itself within these limits."""

    mean: Tensor
    spread: Tensor

    def __init__(self, width: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return ((x.float() - self.mean) / self.spread).clamp(-LIMIT, LIMIT)

    def fit(self, x: Tensor) -> None:
        """Mean and standard deviation of the columns of x [K, width]; numbers that do not change are not scaled."""
        spread, mean = torch.std_mean(x.float(), dim=0, correction=0)
        self.mean.copy_(mean)
        self.spread.copy_(torch.where(spread > LEAST_SPREAD, spread, 1))
