"""Which anchor or region learns which person: matching by IoU and balanced sampling (Ren et al., NIPS 2015)."""

import torch
from torch import Tensor

from dimofs import boxes as box

NEGATIVE, BETWEEN = -1, -2


def match(
    candidates: Tensor, people: Tensor, ignore: Tensor, *, positive: float, negative: float, keep_best: bool = False
) -> Tensor:
    """Index of each candidate's person, or NEGATIVE, or BETWEEN (trains nothing): [K, 4], [P, 4], [Q, 4] -> [K].

    A candidate is its best person's from IoU `positive` on and background below `negative`; candidates that lie by
    more than half in an `ignore` region are never background. `keep_best` gives every person its best candidates
    however far (the RPN's low-quality matches).
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
    """At most `count` indices of `matched` [K] that train, positives first: at most `positive_fraction` of `count`
    random positives, the rest random negatives."""
    positives, negatives = (matched >= 0).nonzero()[:, 0], (matched == NEGATIVE).nonzero()[:, 0]
    some = _choose(positives, int(count * positive_fraction), generator)
    return torch.cat((some, _choose(negatives, count - len(some), generator)))


def _choose(indices: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    order = torch.randperm(len(indices), generator=generator)[:count]
    return indices[order.to(indices.device)]
