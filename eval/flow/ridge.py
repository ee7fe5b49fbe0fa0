"""Linear regression in closed form: ridge, and ridge that minimizes mean distances instead of mean squares."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Rounds of reweighting, and the distance below which an error no longer gains weight, in the unit of the targets.
ROUNDS, NEAR = 4, 1.0
# Strengths of the penalty that cross-validation chooses from, relative to each input's own mean square.
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)
FOLDS = 4


def ridge(inputs: Tensor, targets: Tensor, strength: float, weights: Tensor | None = None) -> Tensor:
    """W [D, F] that minimizes sum_k w_k |W x_k - y_k|^2 + strength * sum_f (sum_k w_k x_kf^2) |W_f|^2.

    inputs: x [K, F]; targets: y [K, D]; weights: w [K], default 1. The penalty is relative to each input's own mean
    square, so the scale of the inputs does not matter. Inputs that are always 0 get the weight 0.
    """
    x, y = inputs.double(), targets.double()
    weighted = x if weights is None else x * weights.double()[:, None]
    return _solved(weighted.T @ x, weighted.T @ y, strength).T.float()


def least_distance(inputs: Tensor, targets: Tensor, strength: float) -> Tensor:
    """Like `ridge`, but for the mean of |W x - y| rather than of its square, by reweighting: an error of e weighs
    1 / max(e, NEAR)."""
    weights = None
    for _ in range(ROUNDS):
        found = ridge(inputs, targets, strength, weights)
        weights = 1 / (inputs @ found.T - targets).norm(dim=1).clamp(min=NEAR)
    return ridge(inputs, targets, strength, weights)


def cross_validated(inputs: Tensor, targets: Tensor, groups: Tensor, strengths: Sequence[float] = STRENGTHS) -> float:
    """The strength with the least mean distance on groups (int64 [K]) that were left out, of FOLDS folds."""
    x, y = inputs.double(), targets.double()
    folds = [groups % FOLDS == fold for fold in range(FOLDS)]
    parts = [(x[held].T @ x[held], x[held].T @ y[held]) for held in folds]
    gram, moment = (torch.stack(sums).sum(dim=0) for sums in zip(*parts, strict=True))
    errors = dict.fromkeys(strengths, 0.0)
    for held, (own, its) in zip(folds, parts, strict=True):
        for strength in strengths:
            found = _solved(gram - own, moment - its, strength)
            errors[strength] += (x[held] @ found - y[held]).norm(dim=1).sum().item()
    return min(errors, key=lambda strength: errors[strength])


def _solved(gram: Tensor, moment: Tensor, strength: float) -> Tensor:
    """(gram + strength * its diagonal)^-1 moment; inputs that are always 0 get the weight 0."""
    squares = gram.diagonal()
    return torch.linalg.solve(gram + torch.diag(strength * squares + (squares == 0)), moment)
