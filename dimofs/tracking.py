"""Tracks: people joined from frame to frame by Hungarian assignment, on boxes, poses, or poses moved by the DiMoFs.

    tracks = NONE
    for people in ...:
        tracks, people = follow(tracks, people, TRACKERS["default"], height, width)

A pair of a track and a person costs the weighted mean of

    1 - IoU   of their boxes
    1 - OKS   of their joints: mean of exp(-d^2 / (2 k^2 area)), d the joint's distance, area that of the track's box
    1 - PCK   of their joints: share of those with d <= k sqrt(area)

where a joint counts as much as the product of its two confidences, and k = 0.2 allows for a frame's motion.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from dimofs import boxes
from dimofs.cli import InputError, check_ranges
from dimofs.detections import Detections
from dimofs.motion import Motion

REACH = 0.2  # k


@dataclass(frozen=True)
class Tracker:
    """How people are joined.

    iou, oks, pck: weights of the three costs.
    gate:     pairs that cost more are not joined; 1 joins whatever the assignment pairs.
    patience: frames that a track may miss before it dies; it waits where it was last seen.
    motion:   tracks first move as the model says that the picture moved since the frame before.
    birth:    people below this score join tracks but begin none, and are dropped where they join none.
    score, area: people below this score, or below this many square pixels in the frame, are dropped.
    smooth:   the part of a track's last pose in its next one, 0 to 1; 0 leaves poses as they are found.
    """

    gate: float
    patience: int
    iou: float = 1.0
    oks: float = 0.0
    pck: float = 0.0
    motion: bool = False
    birth: float = 0.0
    score: float = 0.0
    area: float = 0.0
    smooth: float = 0.0


TRACKERS = {
    "default": Tracker(gate=0.9, patience=10, oks=1.0),
    "iou": Tracker(gate=0.9, patience=10),
    "oks": Tracker(gate=0.9, patience=10, iou=0.0, oks=1.0),
    "pck": Tracker(gate=0.9, patience=10, iou=0.0, pck=1.0),
    "dimofs": Tracker(gate=0.9, patience=10, iou=0.0, oks=1.0, motion=True),
    "iou+dimofs": Tracker(gate=0.9, patience=10, oks=1.0, motion=True),
    # [16]: the previous frame only, no gate. (Its boxes are inclusive and its IoU adds 1 to sizes: the IoU of these.)
    "detect-and-track": Tracker(gate=1.0, patience=0, score=0.95, area=50.0),
}


def tracker_named(
    name: str,
    *,
    gate: float | None = None,
    patience: int | None = None,
    birth: float | None = None,
    smooth: float | None = None,
) -> Tracker:
    """TRACKERS[name], changed where something is given. InputError: no such tracker, or a value out of range."""
    if name not in TRACKERS:
        raise InputError(f"--tracker {name}: is unknown; choose one of {', '.join(TRACKERS)}")
    check_ranges(gate=(gate, 0, 1), patience=(patience, 0, inf), birth=(birth, -inf, inf), smooth=(smooth, 0, 1))
    given = {"gate": gate, "patience": patience, "birth": birth, "smooth": smooth}
    return replace(TRACKERS[name], **{option: value for option, value in given.items() if value is not None})


@dataclass(frozen=True)
class Tracks:
    """T tracks that may go on: where each was last, with its id; the frames [T] since then; and the next new id."""

    last: Detections
    missed: Tensor
    next_id: int

    def __len__(self) -> int:
        return len(self.missed)


_NO_IDS = torch.zeros(0, dtype=torch.int64)
NONE = Tracks(replace(Detections.empty(0), ids=_NO_IDS), _NO_IDS, 0)


def follow(
    tracks: Tracks, people: Detections, tracker: Tracker, height: float, width: float, motion: Motion | None = None
) -> tuple[Tracks, Detections]:
    """The tracks after a frame of `height` x `width` pixels with these people (on the CPU), and the people with ids.

    People keep their order; boxes are clipped to the frame. Ids count from 0 and are never used twice. `motion` is from
    the frame before to this one, for trackers that use it.
    """
    people = people[people.scores >= tracker.score]
    people.boxes = boxes.clip(people.boxes, height, width)
    people = people[boxes.area(people.boxes) >= tracker.area]
    last = tracks.last if len(tracks) else replace(people[:0], ids=_NO_IDS)
    if tracker.motion and motion is not None:
        last = moved(last, motion)
    old, new = assign(pair_costs(last, people, tracker), tracker.gate)

    ids = torch.full((len(people),), -1)
    assert last.ids is not None
    ids[new] = last.ids[old]
    if tracker.smooth:
        _smooth(people, new, last[old], tracker.smooth)
    known = (ids >= 0) | (people.scores >= tracker.birth)
    people, ids = people[known], ids[known]
    fresh = ids < 0
    next_id = tracks.next_id + int(fresh.sum())
    ids[fresh] = torch.arange(tracks.next_id, next_id)
    people.ids = ids

    waits = tracks.missed < tracker.patience
    waits[old] = False
    missed = torch.cat((torch.zeros_like(ids), tracks.missed[waits] + 1))
    return Tracks(Detections.join((people, last[waits])), missed, next_id), people


def moved(people: Detections, motion: Motion) -> Detections:
    """People where the motion takes their joints; boxes go as far as their joints on average, by confidence."""
    keypoints = motion.move(people.keypoints)
    weight = people.confidences[..., None]
    shift = (weight * (keypoints - people.keypoints)).sum(dim=1) / weight.sum(dim=1).clamp(min=1e-6)
    return replace(people, boxes=people.boxes + shift.repeat(1, 2), keypoints=keypoints)


def pair_costs(last: Detections, people: Detections, tracker: Tracker) -> Tensor:
    """[T, P] costs in [0, 1] of joining T tracks' last people with P new ones; 1 where they share nothing."""
    similarity = tracker.iou * boxes.iou(last.boxes, people.boxes)
    if tracker.oks or tracker.pck:
        squared = _joint_distances(last, people)
        near = tracker.oks * (squared / -2).exp() if tracker.oks else torch.zeros_like(squared)
        if tracker.pck:
            near += tracker.pck * (squared <= 1)
        ours, theirs = last.confidences[:, None], people.confidences
        total = ours[:, 0] @ theirs.T
        similarity = similarity + (near * ours * theirs).sum(dim=2) / total.clamp(min=1e-6)
    return 1 - similarity / (tracker.iou + tracker.oks + tracker.pck)


def _joint_distances(last: Detections, people: Detections) -> Tensor:
    """[T, P, J] squared distances in units of REACH times the root of the track's area, inf for NaN."""
    unit = REACH * boxes.area(last.boxes).clamp(min=1).sqrt()[:, None]
    x, y = (last.keypoints / unit[..., None])[:, None].unbind(-1)
    dx, dy = (x - people.keypoints[..., 0] / unit[:, None]), (y - people.keypoints[..., 1] / unit[:, None])
    return torch.nan_to_num(dx * dx + dy * dy, nan=torch.inf)


def _smooth(people: Detections, index: Tensor, last: Detections, part: float) -> None:
    """Draw the people [index] towards where they were `last`, in place; joints that are absent there stay."""
    known = part * (last.confidences > 0)[..., None]
    people.boxes[index] = people.boxes[index].lerp(last.boxes, part)
    people.keypoints[index] = people.keypoints[index].lerp(last.keypoints, known.to(last.keypoints.dtype))


def assign(cost: Tensor, gate: float) -> tuple[Tensor, Tensor]:
    """Which row goes with which column of [T, P] costs: two index lists of equal length.

    A cost above the gate counts as the gate, so that no pair is given up to make room for a poor one.
    """
    rows, columns = map(torch.from_numpy, linear_sum_assignment(cost.clamp(max=gate).numpy()))
    joined = cost[rows, columns] <= gate
    return rows[joined], columns[joined]
