"""Joints that two people claim: a detector that mixes up limbs gives the same wrist to both of two who overlap.

A joint in the place of another person's same joint stays with the better claim: the joint's confidence times the
person's score, by how near the joint is to where its track had it, and by how often the track kept it of late. The
other person loses it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dimofs import boxes
from dimofs.detections import Detections

# The claim of a track that always kept the joint, beside one that never did; and the claim of people without a track.
KEPT, NEW = 3.0, 0.5
# Two joints are in one place up to this distance, in units of the square root of the smaller box's area.
PLACE = 0.1
# The weight of the latest frame in how often a joint was kept.
LATEST = 0.3


def claims(people: Detections, index: Tensor, last: Detections, kept: Tensor, reach: float) -> Tensor:
    """[P, J] how well each of P people claims each joint.

    index: [L] int64, those who continue tracks. last: where these L tracks were expected. kept: [L, J], how often they
    kept each joint. reach: the distance at which a claim falls to exp(-1/2), in units of the square root of the track's
    area.
    """
    unit = reach * boxes.area(last.boxes).clamp(min=1).sqrt()
    distance = (people.keypoints[index] - last.keypoints).norm(dim=2) / unit[:, None]
    factors = torch.full_like(people.keypoint_scores, NEW)
    # Joints whose place was not known are judged as those of new people.
    factors[index] = (1 + (KEPT - 1) * kept) * (distance.square() / -2).exp().nan_to_num(NEW)
    return people.confidences.nan_to_num(0) * people.scores[:, None] * factors


def lost(people: Detections, claim: Tensor) -> Tensor:
    """[P, J] bool: the joints that somebody else has in the same place with a better claim [P, J]."""
    size = boxes.area(people.boxes).clamp(min=1).sqrt()
    reach = PLACE * torch.minimum(size[:, None], size)
    distance = (people.keypoints[:, None] - people.keypoints).norm(dim=3)
    return ((distance < reach[..., None]) & (claim[:, None] < claim)).any(dim=1)
