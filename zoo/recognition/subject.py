"""The person whom a clip is about, and what its features say at the person's joints (section 5.2, Figure 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Self

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
# Frames after which it is settled who a frame's subject is.
LAG = 64
# What an overlap of 1 with the person of the frame before counts, in scores.
OVERLAP = 1.0


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A person in P frames of a clip, in pixels of the network's input.

    numbers: [P] int64, of the frames, ascending. boxes: [P, 4]. scores: [P].
    """

    numbers: Tensor
    boxes: Tensor
    scores: Tensor

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, rows: slice) -> Self:
        """Some of the frames."""
        return replace(self, **{name: tensor[rows] for name, tensor in self.tensors().items() if name != "to_frame"})

    def tensors(self) -> dict[str, Tensor]:
        """The fields by name, for a file."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, kw_only=True)
class Subject(Placed):
    """The main person in P frames of a clip; frames without people are left out.

    joints: [P, J, 2]. confidences: [P, J], 0 to 1. to_frame: [2], pixels of the frame per pixel of the input, x and y.
    """

    joints: Tensor
    confidences: Tensor
    to_frame: Tensor

    def poses(self) -> Tensor:
        """[P, 2 J], joints from the upper left (0, 0) to the lower right corner (1, 1) of the box, x before y."""
        size = (self.boxes[:, 2:] - self.boxes[:, :2]).clamp(min=1)
        return ((self.joints - self.boxes[:, None, :2]) / size[:, None]).flatten(1)


def together(parts: Sequence[Subject]) -> Subject:
    """One subject of the frames of all parts, of which there is one at least."""
    names = [name for name in parts[0].tensors() if name != "to_frame"]
    return replace(parts[0], **{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


def candidates(model: ActionLocalizer, features: Features) -> list[Boxes]:
    """Those of each frame who may be the subject, on the CPU, from each frame alone (delta = 0)."""
    levels = model.mixed(features)
    found = model.find_boxes(levels, features.geometry, min_score=LEAST_SCORE, max_people=CANDIDATES)
    return [Boxes(people.boxes.cpu(), people.scores.cpu()) for people in found]


def posed(model: ActionLocalizer, features: Features, person: Placed) -> Subject:
    """The joints of a person in the frames of these features. ValueError: the model has no keypoint head."""
    if model.keypoint_head is None:
        raise ValueError("the model has no keypoint head; a subject needs joints")
    boxes = person.boxes.to(features.levels[0])
    logits = model.keypoint_head(model.mixed(features), list(boxes[:, None]))
    points, peaks = decode(logits, boxes, model.keypoint_head.smoothing)
    geometry = features.geometry
    return Subject(
        **person.tensors(),
        joints=points.cpu(),
        confidences=peaks.sigmoid().cpu(),
        to_frame=torch.tensor([geometry.frame[i] / geometry.resized[i] for i in (1, 0)]),
    )


class SubjectPath:
    """The subject of frames that come one after the other: the best path through their people.

    Who it is in a frame is settled once LAG more have come, as later ones hardly change it; paths that do not pass
    through what is settled are given up.

    numbers, people: of the frames that are not settled.
    """

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.people: list[Boxes] = []
        self.before: list[Boxes] = []

    def add(self, numbers: Sequence[int], people: Sequence[Boxes]) -> None:
        """Frames that follow, and the people of each."""
        self.numbers += numbers
        self.people += people

    def settled(self, ended: bool) -> Placed:
        """The subject in the frames that are settled, or with `ended` in all that are left; each is given once."""
        count = len(self.people) if ended else max(0, len(self.people) - LAG)
        path = [(frame - len(self.before), person) for frame, person in best_path([*self.before, *self.people])]
        chosen = [(frame, self.people[frame], person) for frame, person in path if 0 <= frame < count]
        numbers = torch.tensor([self.numbers[frame] for frame, _, _ in chosen], dtype=torch.int64)
        none = [torch.zeros(0, 4)]
        boxes = torch.cat(none + [people.boxes[person : person + 1] for _, people, person in chosen])
        scores = torch.tensor([float(people.scores[person]) for _, people, person in chosen])
        if chosen:
            self.before = [Boxes(boxes[-1:], torch.zeros(1))]
        self.numbers, self.people = self.numbers[count:], self.people[count:]
        return Placed(numbers=numbers, boxes=boxes, scores=scores)


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
