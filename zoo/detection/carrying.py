"""People carried from two frames around a third into it, by what their joints look like in all three.

    place = (1 - s) place in A + s place in B + mean of u under softmax(SHARPNESS * likeness(u) - PULL * |u|^2 / area)
    likeness(u) = (1 - s) <f_A(joint in A), f_T(place + u)> + s <f_B(joint in B), f_T(place + u)>

s is where the frame T lies between A and B, 0 to 1; u are displacements of up to RADIUS cells of the finest maps, and
f the maps' features, each of unit length. What is alike everywhere leaves the interpolated place as it is. This is the
matching that `detector.motion` reads (`pyramid_matching`), at joints instead of everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from dimofs import boxes
from dimofs.detections import Detections
from dimofs.tracking import Tracker, assign, pair_costs
from dimofs.zoo.detection.features import Features

# Chosen on training clips of JHMDB.
SHARPNESS, PULL, RADIUS = 160.0, 30.0, 6
# How the people of two frames are paired.
PAIRING = Tracker(gate=0.9, patience=0, oks=1.0)


@dataclass(frozen=True)
class Carried:
    """P people in the frame they were carried to.

    people: their boxes, scores and joints.
    apart:  [P, J] how far the two frames disagree about where each joint is, in units of the square root of the area
            of the person's box.
    """

    people: Detections
    apart: Tensor

    @property
    def dissent(self) -> Tensor:
        """[P] the mean of `apart`, joints weighted by their confidence."""
        weight = self.people.confidences.nan_to_num(0)
        return (weight * self.apart).sum(dim=1) / weight.sum(dim=1).clamp(min=1e-6)


def paired(a: Detections, b: Detections) -> tuple[Tensor, Tensor]:
    """The people of two frames who are the same: two index lists of equal length."""
    return assign(pair_costs(a, b, PAIRING), PAIRING.gate)


def interpolated(a: Detections, b: Detections, share: float) -> Detections:
    """People between two frames on straight lines; `share` of the time from A to B has passed."""
    fields = ("boxes", "scores", "keypoints", "keypoint_scores")
    return replace(a, **{name: getattr(a, name).lerp(getattr(b, name), share) for name in fields})


def carry(a: Detections, b: Detections, share: float, seen_a: Features, seen: Features, seen_b: Features) -> Carried:
    """The people of frames A and B, in the same order, in a frame between them.

    share: how much of the time from A to B has passed, 0 to 1. seen_a, seen, seen_b: what the three frames show, one
    frame each, any levels from fine to coarse. Joints at places that are not finite stay such.
    """
    straight = interpolated(a, b, share)
    if not len(a):
        return Carried(straight, straight.keypoint_scores)
    geometry, device = seen.geometry, seen.levels[0].device
    here, in_a, in_b = (geometry.to_input(p.keypoints.to(device)).float() for p in (straight, a, b))
    cell = geometry.padded[0] / seen.levels[0].shape[-2]
    line = torch.arange(-RADIUS, RADIUS + 1.0, device=device) * cell
    moves = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1).flatten(0, 1)  # [U, 2]
    found = described(seen, here[:, :, None] + moves)
    like_a, like_b = (
        torch.einsum("pjc,pjuc->pju", described(view, points), found)
        for view, points in ((seen_a, in_a), (seen_b, in_b))
    )
    area = boxes.area(geometry.to_input(straight.boxes.to(device))).clamp(min=1)
    pull = PULL * moves.square().sum(dim=1) / area[:, None, None]

    def step(likeness: Tensor) -> Tensor:
        chance = (SHARPNESS * likeness - pull).softmax(dim=2)
        return geometry.to_frame(chance @ moves).nan_to_num(0).to(straight.keypoints)

    both = step(like_a.lerp(like_b, share))
    weight = straight.confidences.nan_to_num(0)[..., None]
    shift = (weight * both).sum(dim=1) / weight.sum(dim=1).clamp(min=1e-6)
    people = replace(straight, keypoints=straight.keypoints + both, boxes=straight.boxes + shift.repeat(1, 2))
    size = boxes.area(straight.boxes).clamp(min=1).sqrt()
    return Carried(people, (step(like_a) - step(like_b)).norm(dim=2) / size[:, None])


def described(view: Features, points: Tensor) -> Tensor:
    """What one frame shows at points [..., 2] of the network's input: [..., C] of unit length, all levels alike."""
    height, width = view.geometry.padded
    grid = (2 * points / points.new_tensor([width, height]) - 1).reshape(1, 1, -1, 2)
    parts = []
    for level in view.levels:
        read = F.grid_sample(level.float(), grid, padding_mode="border", align_corners=False)
        parts.append(F.normalize(read[0, :, 0], dim=0))
    return (torch.cat(parts) / len(parts) ** 0.5).T.reshape(*points.shape[:-1], -1)
