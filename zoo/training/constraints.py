"""Losses of the motion parts beside those of poses: what keeps an offset net from doing anything but aligning.

Each is a `Term`; `Weights` says how much each counts. All but `follow` need no labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from dimofs.cli import InputError
from dimofs.zoo.backbones.fpn import SCALES
from dimofs.zoo.detection.coarse_to_fine import Alignment
from dimofs.zoo.detection.fields import displacements
from dimofs.zoo.training.terms import Term

# Errors of motion are divided by so many pixels, so that a usual one counts about 1.
PIXELS = 10.0
# Weight of each step's own field beside the DiMoFs in `follow`.
EACH_STEP = 0.4


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The factor of each loss; those of 0 are not computed.

    follow:  how far the motion read from the DiMoFs is from where labelled points go, in units of PIXELS.
    still:   the mean size of the displacements, in cells.
    smooth:  the mean difference between displacements of neighbouring cells.
    rebuild: the mean |g - f_A|, the gradient of which reaches only g, the aligned features.
    apart:   for frames of different scenes, the cross-entropy of the confidence, 1 for frames of one scene and 0 for
             others; where the offset net has none, the mean size of the displacements between different scenes.
    """

    follow: float = 0.0
    still: float = 0.0
    smooth: float = 0.0
    rebuild: float = 0.0
    apart: float = 0.0

    def names(self) -> list[str]:
        """Those that count."""
        return [field.name for field in fields(self) if getattr(self, field.name)]


def constrained(given: Sequence[str] | None) -> Weights | None:
    """The weights of --constrain, such as ["follow=1"]; None without.

    InputError: not a known name and a number, or a name twice.
    """
    if given is None:
        return None
    known, weights = [field.name for field in fields(Weights)], {}
    for text in given:
        name, _, value = text.partition("=")
        try:
            weight = float(value)
        except ValueError:
            weight = math.nan
        if name not in known or not 0 <= weight < math.inf:
            raise InputError(f"--constrain {text}: expected NAME=WEIGHT of {', '.join(known)}, a weight of at least 0")
        if name in weights:
            raise InputError(f"--constrain {text}: {name} has another weight too; give one")
        weights[name] = weight
    return Weights(**weights)


def constraint_losses(
    found: Alignment,
    levels_a: Sequence[Tensor],
    aligned: Sequence[Tensor],
    moves: Sequence[Tensor],
    apart: Tensor,
    weights: Weights,
) -> dict[str, Term]:
    """The losses of N pairs by name, those whose weight is above 0.

    levels_a, aligned: f_A and g of each level, [N, C, h, w], finest first. moves: of each pair [K, 2, 2], in pixels of
    the network's input (see `Pair`). apart: [N] bool, whether the frames show different scenes.
    """
    together = ~apart
    dimofs = [field[together] for field in found.dimofs]
    losses: dict[str, Term] = {}
    if weights.follow:
        losses["follow"] = _scaled(follow(found, moves, apart), weights.follow)
    if weights.still:
        losses["still"] = _scaled(_mean_size(dimofs), weights.still)
    if weights.smooth:
        steps = [field.diff(dim=axis).abs().mean() for field in dimofs for axis in (2, 3) if field.numel()]
        losses["smooth"] = _scaled(_mean(steps, found.dimofs[0]), weights.smooth)
    if weights.rebuild:
        pairs = zip(aligned, levels_a, strict=True)
        errors = [(g[together] - a[together].detach()).abs().mean() for g, a in pairs if together.any()]
        losses["rebuild"] = _scaled(_mean(errors, found.dimofs[0]), weights.rebuild)
    if weights.apart:
        losses["apart"] = _scaled(separate(found, apart), weights.apart)
    return losses


def follow(found: Alignment, moves: Sequence[Tensor], apart: Tensor) -> Term:
    """The distance, in PIXELS, of the motion at labelled points from their own: of the finest DiMoFs and each step."""
    finest = found.dimofs[0]
    total, count = finest.sum() * 0.0, 0
    for number, points in enumerate(moves):
        if apart[number] or not len(points):
            continue
        start, true = points[:, 0], points[:, 1] - points[:, 0]
        read = [(1.0, displacements(finest[number].float(), start, 1 / SCALES[0]))]
        for field in found.steps:
            cell = finest.shape[-1] / field.shape[-1] / SCALES[0]
            read.append((EACH_STEP, displacements(field[number].float(), start, cell)))
        for weight, moved in read:
            total = total + weight / PIXELS * ((moved - true).square().sum(dim=1) + 0.25).sqrt().sum()
        count += len(points)
    return Term(total, count)


def separate(found: Alignment, apart: Tensor) -> Term:
    """The cross-entropy of the confidence with whether the scene is one; without a confidence the mean size of
    displacements, in cells of the finest level, between frames of different scenes."""
    if found.confidence is None:
        return _mean_size([found.dimofs[0][apart]])
    same = (~apart).to(found.confidence)[:, None, None, None].expand_as(found.confidence)
    return Term(F.binary_cross_entropy_with_logits(found.confidence, same), 1)


def _mean_size(dimofs: Sequence[Tensor]) -> Term:
    """The mean size of displacements in cells, over levels."""
    sizes = [(f.unflatten(1, (-1, 2)).square().sum(dim=2) + 1e-4).sqrt().mean() for f in dimofs if f.numel()]
    return _mean(sizes, dimofs[0])


def _mean(values: Sequence[Tensor], like: Tensor) -> Term:
    return Term(torch.stack(list(values)).mean() if values else like.sum() * 0.0, 1)


def _scaled(term: Term, weight: float) -> Term:
    return Term(weight * term.total, term.count)
