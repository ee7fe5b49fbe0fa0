"""The person whom a clip is about, and what its features say at the person's joints (section 5.2, Figure 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from dimofs import boxes as box
from dimofs.zoo.backbones.fpn import SCALES
from dimofs.zoo.detection.action_localizer import ActionLocalizer
from dimofs.zoo.detection.box_detector import Boxes
from dimofs.zoo.detection.features import Features
from dimofs.zoo.detection.keypoint_head import decode
from dimofs.zoo.detection.offsets import OffsetNet

# People of a frame who may be the clip's subject, and the least score of those.
CANDIDATES, LEAST_SCORE = 3, 0.05
# What an overlap of 1 with the person of the frame before counts, in scores.
OVERLAP = 1.0


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The main person in P frames of a clip, in pixels of the network's input.

    numbers: [P] int64, of the frames, ascending; frames without people are left out. boxes: [P, 4]. scores: [P].
    joints: [P, J, 2]. confidences: [P, J], 0 to 1. to_frame: [2], pixels of the frame per pixel of the input, x and y.
    """

    numbers: Tensor
    boxes: Tensor
    scores: Tensor
    joints: Tensor
    confidences: Tensor
    to_frame: Tensor

    def __len__(self) -> int:
        return len(self.numbers)

    def tensors(self) -> dict[str, Tensor]:
        """The fields by name, for a file."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def poses(self) -> Tensor:
        """[P, 2 J], joints from the upper left (0, 0) to the lower right corner (1, 1) of the box, x before y."""
        size = (self.boxes[:, 2:] - self.boxes[:, :2]).clamp(min=1)
        return ((self.joints - self.boxes[:, None, :2]) / size[:, None]).flatten(1)


def find_subject(model: ActionLocalizer, features: Features, numbers: Sequence[int]) -> Subject:
    """The subject in the frames of these numbers, from each frame alone (delta = 0).

    ValueError: the model has no keypoint head.
    """
    if model.keypoint_head is None:
        raise ValueError("the model has no keypoint head; a subject needs joints")
    levels = model.mixed(features)
    found = model.find_boxes(levels, features.geometry, min_score=LEAST_SCORE, max_people=CANDIDATES)
    path = best_path(found)
    frames = [frame for frame, _ in path]
    regions = [people.boxes[:0] for people in found]
    for frame, person in path:
        regions[frame] = found[frame].boxes[person : person + 1]
    chosen = torch.cat(regions)
    points, peaks = decode(model.keypoint_head(levels, regions), chosen, model.keypoint_head.smoothing)
    geometry = features.geometry
    return Subject(
        numbers=torch.tensor([numbers[frame] for frame in frames], dtype=torch.int64),
        boxes=chosen,
        scores=torch.tensor([found[frame].scores[person] for frame, person in path]),
        joints=points,
        confidences=peaks.sigmoid(),
        to_frame=torch.tensor([geometry.frame[i] / geometry.resized[i] for i in (1, 0)]),
    )


def best_path(people: Sequence[Boxes]) -> list[tuple[int, int]]:
    """(frame, person) of the subject in each frame that has people.

    It is the path of the largest sum of scores and overlaps of successive boxes, as tubes of actions are linked
    (Gkioxari and Malik, CVPR 2015).
    """
    frames = [number for number, found in enumerate(people) if len(found.boxes)]
    if not frames:
        return []
    value, back = people[frames[0]].scores, []
    for before, now in pairwise(frames):
        best, came_from = (value[:, None] + OVERLAP * box.iou(people[before].boxes, people[now].boxes)).max(0)
        value = best + people[now].scores
        back.append(came_from)
    place = int(value.argmax())
    path = [(frames[-1], place)]
    for frame, came_from in zip(reversed(frames[:-1]), reversed(back), strict=True):
        place = int(came_from[place])
        path.append((frame, place))
    return path[::-1]


def at_points(levels: Sequence[Tensor], points: Tensor, scales: Sequence[float] = SCALES) -> Tensor:
    """Maps [P, C_l, h_l, w_l] of each level at points [P, J, 2], in pixels of the input -> [P, J, sum of all C_l].

    A cell's value belongs to its centre; between centres it is interpolated bilinearly, and points outside a map take
    the value at its border. scales: cells per pixel of each level.
    """
    found = []
    for level, scale in zip(levels, scales, strict=True):
        size = points.new_tensor([level.shape[-1], level.shape[-2]])
        grid = (2 * scale * points / size - 1)[:, :, None]
        sampled = F.grid_sample(level, grid, padding_mode="border", align_corners=False)
        found.append(sampled[..., 0].transpose(1, 2))
    return torch.cat(found, dim=2)


def offsets_at(net: OffsetNet, differences: Sequence[Tensor], points: Tensor) -> Tensor:
    """`at_points` of the offset net's output, from f_A - f_B of each level, without the rest of the maps.

    Interpolation and convolution can change places, so the differences are sampled at each of the nine taps.
    """
    found = []
    for level, (difference, scale) in enumerate(zip(differences, SCALES, strict=True)):
        conv = net.convs[level % len(net.convs)]
        weight, (reach, _) = conv.weight, conv.dilation  # type: ignore[union-attr]
        size = points.new_tensor([difference.shape[-1], difference.shape[-2]])
        cells = (scale * points).clamp(points.new_tensor(0.5), size - 0.5)
        step = reach * torch.arange(-1.0, 2.0).to(points)  # type: ignore[operator]
        taps = torch.stack(torch.meshgrid(step, step, indexing="xy"), dim=-1).flatten(0, 1)
        grid = 2 * (cells[:, :, None] + taps) / size - 1
        sampled = F.grid_sample(difference, grid, padding_mode="zeros", align_corners=False)
        found.append(torch.einsum("pcjk,dck->pjd", sampled, weight.flatten(2)))  # type: ignore[union-attr, operator]
    return torch.cat(found, dim=2)


def nobody(joints: int) -> Subject:
    """The subject of a clip that shows nobody."""
    none = torch.zeros(0)
    return Subject(
        numbers=torch.zeros(0, dtype=torch.int64),
        boxes=none.view(0, 4),
        scores=none,
        joints=none.new_zeros(0, joints, 2),
        confidences=none.new_zeros(0, joints),
        to_frame=torch.ones(2),
    )
