"""Scores of people that box and joints decide together: the body says whether somebody is there.

    score = sigmoid(bias + box * logit(box's score) + joints * mean of the surest joints' logits)

A box head alone finds people in fruit and butterflies; no joints are there.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

# So many of a person's joints are looked at, the surest, since others may be hidden.
SUREST = 5
# The mean logit of joints is taken as at most this, so that a low score of the box suffices to leave a person out.
HIGHEST = 5.0


class PersonScore(NamedTuple):
    """The numbers of the formula; `dimofs.zoo.training.calibration` finds them."""

    bias: float
    box: float
    joints: float

    def __call__(self, scores: Tensor, peaks: Tensor) -> Tensor:
        """Scores [P] of boxes and peak logits [P, J] -> scores [P] of people."""
        logits = self.box * torch.logit(scores, eps=1e-6) + self.joints * evidence(peaks)
        return (self.bias + logits).sigmoid()

    def least_box(self, score: float) -> float:
        """The score of a box below which no joints make a person of this score."""
        if not 0 < score < 1:
            return score
        wanted = math.log(score / (1 - score)) - self.bias - max(self.joints, 0.0) * HIGHEST
        return 1 / (1 + math.exp(-wanted / self.box))


def evidence(peaks: Tensor) -> Tensor:
    """The mean of the SUREST largest of the peak logits [P, J] of each person: [P]."""
    return peaks.topk(min(SUREST, peaks.shape[1]), dim=1).values.mean(dim=1).clamp(max=HIGHEST)
