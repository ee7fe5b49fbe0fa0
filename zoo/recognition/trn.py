"""TRN, multi-scale (Zhou et al., ECCV 2018): relations between two, three, ... frames in their order."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations
from math import comb

import torch
from torch import Tensor, nn

from dimofs.zoo.detection.action_head import Standardize
from dimofs.zoo.recognition.tsn import DROPOUT, HIDDEN, SEGMENTS

# At most so many tuples of frames of each size are looked at, spread evenly over all of them.
TUPLES = 3


class TRN(nn.Module):
    """Snippets [N, K, D] in order -> class logits [N, classes]: the sum of those of tuples of 2 to K frames.

    Tuples of one size share two layers, which read their frames one after the other.
    """

    def __init__(self, width: int, classes: int, segments: int = SEGMENTS, hidden: int = HIDDEN):
        super().__init__()
        self.standardize = Standardize(width)
        self.tuples = [chosen_tuples(segments, size) for size in range(2, segments + 1)]
        self.relations = nn.ModuleList(
            nn.Sequential(
                nn.Dropout(0.2),
                nn.Linear(size * width, hidden),
                nn.ReLU(),
                nn.Dropout(DROPOUT),
                nn.Linear(hidden, classes),
            )
            for size in range(2, segments + 1)
        )

    def forward(self, snippets: Tensor) -> Tensor:
        x = self.standardize(snippets)
        logits = [
            torch.stack([relation(x[:, list(frames)].flatten(1)) for frames in tuples]).mean(0)
            for relation, tuples in zip(self.relations, self.tuples, strict=True)
        ]
        return torch.stack(logits).sum(0)


def chosen_tuples(segments: int, size: int, most: int = TUPLES) -> list[tuple[int, ...]]:
    """At most `most` of the ascending tuples of `size` segments, spread evenly over all of them."""
    count = comb(segments, size)
    if count <= most:
        return list(combinations(range(segments), size))
    places = [round(Fraction(place * (count - 1), most - 1)) for place in range(most)] if most > 1 else [0]
    return [_tuple_at(place, segments, size) for place in places]


def _tuple_at(place: int, segments: int, size: int) -> tuple[int, ...]:
    """The tuple at this place among all, which are too many to be listed: there are 2 * 10^12 of 22 of 44 segments."""
    chosen: list[int] = []
    for segment in range(segments):
        # So many tuples go on with this segment.
        count = comb(segments - 1 - segment, size - len(chosen) - 1) if len(chosen) < size else 0
        if place < count:
            chosen.append(segment)
        else:
            place -= count
    return tuple(chosen)
