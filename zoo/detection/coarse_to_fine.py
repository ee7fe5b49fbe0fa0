"""An offset net that can only align: one field of displacements for all channels, found from coarse to fine.

    d = 2 up(d of the coarser step) + what f_A and f_B sampled at that tell, from d = 0 at the coarsest step
    DiMoFs = confidence * d

as in SpyNet (Ranjan and Black, CVPR 2017) and PWC-Net (Sun et al., CVPR 2018), so that small windows see large motions.

The paper's offset net gives each channel its own displacement, without bound, from f_A - f_B. Such offsets need not be
motion: they can fetch from Frame B, whatever it shows, the values that the heads expect for A. This net reads only how
A and B match, moves all channels together, and returns 0 where nothing in B is like A.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dimofs.kernels.deform import deform_sample
from dimofs.zoo.detection.fields import enlarged, kept_on_map, pooled_to, reduced
from dimofs.zoo.detection.matching import Differences, Embedding, Matching

# Features of likeness that the confidence is computed from.
LIKENESS = 8


class Alignment(NamedTuple):
    """What an offset net finds between Frames A and B.

    dimofs: displacements [N, 2G, h, w] of each level, finest first, (dy, dx) in cells.
    steps: the shared displacements [N, 2, h, w] before they are multiplied by the confidence, coarsest level first.
    confidence: logits [N, 1, h, w] of the last step's level: whether what A shows is there in B.
    """

    dimofs: list[Tensor]
    steps: Sequence[Tensor] = ()
    confidence: Tensor | None = None


def alignment(offset_net: nn.Module, levels_a: Sequence[Tensor], levels_b: Sequence[Tensor]) -> Alignment:
    """What any offset net finds between the levels of Frames A and B."""
    if isinstance(offset_net, CoarseToFine):
        return offset_net.align(levels_a, levels_b)
    return Alignment(offset_net(levels_a, levels_b))


class CoarseToFine(nn.Module):
    """DiMoFs of each level: f_A, f_B [N, C, h, w], finest first -> [N, 2G, h, w], (dy, dx) in cells of the level.

    Every step reads all levels of the pyramid on the grid of its own. Levels finer than the last step's get its field,
    enlarged, coarser ones its means. Equal frames have not moved: no convolution on the way to d has a bias.

    steps: the level of each step, from coarse to fine, counted from the finest level, 0, and the radius of `Matching`
    in its cells; with radius 0 the step looks at `Differences` instead. width: channels that are compared. hidden:
    width of the convolutions that find what the evidence tells beyond its own guess; 0 leaves it at that.
    confident: multiply d by the confidence; without, d is taken as it is.
    deviation: with a number above 0, every channel deviates from d by up to so many cells at the last step's level.
    """

    def __init__(
        self,
        channels: int,
        levels: int = 4,
        *,
        steps: Sequence[tuple[int, int]] = ((2, 8), (1, 4)),
        width: int = 64,
        hidden: int = 64,
        confident: bool = True,
        deviation: float = 0.0,
    ):
        super().__init__()
        self.grids, self.deviation = [level for level, _ in steps], deviation
        read, self.steps = channels * levels, nn.ModuleList()
        for number, (_, radius) in enumerate(steps):
            source = Matching(read, width=width, radius=radius) if radius else Differences(read, width=width)
            self.steps.append(Step(source, hidden, first=number == 0))
        self.deviate = nn.Conv2d(hidden, 2 * channels, 3, padding=1, bias=False) if deviation else None
        self.confidence = nn.Conv2d(LIKENESS, 1, 1) if confident else None
        self.reset()

    def reset(self) -> None:
        """Give everything its initial weights. The last convolutions then add nothing to what matching guesses."""
        for kind in (nn.Conv2d, Embedding, Matching):
            for module in self.modules():
                if isinstance(module, kind):
                    module.reset_parameters()
        for step in self.steps:
            if step.residual is not None:
                nn.init.zeros_(step.residual.weight)  # type: ignore[union-attr, arg-type]
        if self.deviate is not None:
            nn.init.zeros_(self.deviate.weight)
        if self.confidence is not None:
            nn.init.ones_(self.confidence.bias)  # type: ignore[arg-type]

    def forward(self, levels_a: Sequence[Tensor], levels_b: Sequence[Tensor]) -> list[Tensor]:
        return self.align(levels_a, levels_b).dimofs

    def align(self, levels_a: Sequence[Tensor], levels_b: Sequence[Tensor]) -> Alignment:
        """The DiMoFs and what they were made from."""
        state, found = None, []
        for grid, step in zip(self.grids, self.steps, strict=True):
            state = step(_gathered(levels_a, grid), _gathered(levels_b, grid), state)
            found.append(state.field)
        assert state is not None
        confidence = None if self.confidence is None else self.confidence(state.likeness)
        # No loss of motion or poses reaches the confidence, which would learn to choose rather than to tell.
        field = state.field if confidence is None else confidence.sigmoid().detach() * state.field
        if self.deviate is not None:
            own = self.deviation * self.deviate(state.hidden).tanh()
            field = field.repeat(1, own.shape[1] // 2, 1, 1) + own
        return Alignment(_on_all_levels(field, self.grids[-1], levels_a), found, confidence)


class State(NamedTuple):
    """What a step hands to the next, on its own grid.

    field: d [N, 2, h, w] in cells. hidden: [N, H, h, w], what was found beside it. likeness: [N, LIKENESS, h, w].
    """

    field: Tensor
    hidden: Tensor
    likeness: Tensor


class Step(nn.Module):
    """One step of `CoarseToFine`: f_A, f_B [N, C, h, w] on its grid and the coarser step's `State` -> its own.

    source: the evidence. hidden: width of the convolutions, 0 for none. first: there is no coarser step.
    """

    def __init__(self, source: Matching | Differences, hidden: int, first: bool):
        super().__init__()
        self.source, before = source, 0 if first else 1
        self.convs = nn.Sequential(
            nn.Conv2d(source.evidence + 4 + before * hidden, hidden, 3, padding=1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, hidden, 3, padding=1, bias=False),
            nn.ReLU(inplace=True),
        ) if hidden else None  # fmt: skip
        self.residual = nn.Conv2d(hidden, 2, 3, padding=1, bias=False) if hidden else None
        self.similar = nn.Sequential(
            nn.Conv2d(source.likeness + before * LIKENESS, 2 * LIKENESS, 3, padding=2, dilation=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(2 * LIKENESS, LIKENESS, 3, padding=3, dilation=3),
            nn.ReLU(inplace=True),
        )

    def forward(self, a: Tensor, b: Tensor, coarser: State | None) -> State:
        size = (a.shape[-2], a.shape[-1])
        # a.shape[0] and not len(a), which torch.export would make a constant.
        before = a.new_zeros(a.shape[0], 2, *size) if coarser is None else enlarged(coarser.field, size)
        if coarser is not None:
            b = deform_sample(b, kept_on_map(before))
        found = self.source(a, b)
        field, hidden = before + found.guess, a.new_zeros(a.shape[0], 0, *size)
        if self.convs is not None and self.residual is not None:
            # Costs and displacements are brought to the size of features.
            read = [3 * found.evidence, before / 8, found.guess / 4]
            hidden = self.convs(torch.cat(read + _upsampled(coarser, "hidden", size), dim=1))
            field = field + 4 * self.residual(hidden)
        # Cosines of what matches lie between 0.8 and 1: this spreads them. They teach nothing to what is compared.
        spread = -(1.05 - found.likeness.detach()).log()
        alike = torch.cat([spread, *_upsampled(coarser, "likeness", size)], dim=1)
        return State(field, hidden, self.similar(alike))


def _upsampled(state: State | None, name: str, size: tuple[int, int]) -> list[Tensor]:
    """One entry of the coarser step's state on a finer grid; nothing without such a step."""
    if state is None:
        return []
    return [F.interpolate(getattr(state, name), size, mode="bilinear", align_corners=False)]


def _gathered(levels: Sequence[Tensor], grid: int) -> Tensor:
    """All levels on the grid of one of them, each feature normalized: [N, C * levels, h, w]."""
    size = (levels[grid].shape[-2], levels[grid].shape[-1])
    maps = [
        pooled_to(x, size) if level <= grid else F.interpolate(x, size, mode="bilinear", align_corners=False)
        for level, x in enumerate(levels)
    ]
    return torch.cat([F.normalize(x, dim=1, eps=1e-2) for x in maps], dim=1)


def _on_all_levels(field: Tensor, level: int, levels: Sequence[Tensor]) -> list[Tensor]:
    """The field of one level on all of them, finest first."""
    sizes = [(x.shape[-2], x.shape[-1]) for x in levels]
    fields = {level: field}
    for finer in range(level - 1, -1, -1):
        fields[finer] = enlarged(fields[finer + 1], sizes[finer])
    for coarser in range(level + 1, len(levels)):
        fields[coarser] = reduced(fields[coarser - 1], sizes[coarser])
    return [fields[number] for number in range(len(levels))]
