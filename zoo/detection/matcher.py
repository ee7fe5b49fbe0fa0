"""Assignment of anchors and regions to people by IoU, and balanced sampling (Faster R-CNN, Ren et al., 2015)."""

import torch
from torch import Tensor

from dimofs import boxes as box

NEGATIVE, BETWEEN = -1, -2


def match(
    candidates: Tensor, people: Tensor, ignore: Tensor, *, positive: float, negative: float, keep_best: bool = False
) -> Tensor:
    """The person that each candidate is assigned to: boxes [K, 4], [P, 4], [Q, 4] -> indices [K].

    A candidate is assigned to the person with the highest IoU if that is at least `positive`. It is NEGATIVE
    (background) if that is below `negative`, unless more than half of it lies in an `ignore` region. Otherwise it is
    BETWEEN and not used. `keep_best` also assigns to each person the candidates with the highest IoU, however low (the
    RPN's low-quality matches).
    """
    result = candidates.new_full((len(candidates),), NEGATIVE, dtype=torch.int64)
    if len(people):
        overlap = box.iou(candidates, people)
        best, person = overlap.max(1)
        result = torch.where(best >= positive, person, torch.where(best < negative, NEGATIVE, BETWEEN))
        if keep_best:
            highest = overlap.max(0).values
            close = ((overlap == highest) & (highest > 0)).any(1)
            result = torch.where(close, person, result)
    if len(ignore):
        hidden = box.covered(candidates, ignore).amax(1) > 0.5
        result = torch.where(hidden & (result == NEGATIVE), BETWEEN, result)
    return result


def sample(matched: Tensor, count: int, positive_fraction: float, generator: torch.Generator | None) -> Tensor:
    """At most `count` random indices of `matched` [K]: first at most `positive_fraction` of `count` positives, then
    negatives."""
    positives, negatives = (matched >= 0).nonzero()[:, 0], (matched == NEGATIVE).nonzero()[:, 0]
    some = _choose(positives, int(count * positive_fraction), generator)
    return torch.cat((some, _choose(negatives, count - len(some), generator)))


def _choose(indices: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    order = torch.randperm(len(indices), generator=generator)[:count]
    return indices[order.to(indices.device)]
