"""Tracks: people joined from frame to frame by Hungarian assignment on 1 - IoU, as Detect-and-Track [16] does.

tracks = NONE
for people in ...:
    tracks, people = follow(tracks, people, TRACKERS["default"], height, width)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from dimofs import boxes
from dimofs.detections import Detections


@dataclass(frozen=True)
class Tracker:
    """How people are joined.

    gate: pairs whose cost 1 - IoU is above it are not joined; 1 joins whatever the assignment pairs.
    patience: frames that a track may miss before it ends; it waits where it was last seen.
    score, area: people below this score, or below this many square pixels in the frame, are dropped.
    """

    gate: float
    patience: int
    score: float = 0.0
    area: float = 0.0


TRACKERS = {
    "default": Tracker(gate=0.9, patience=10),
    # [16]: the previous frame only, no gate. (Its boxes are inclusive and its IoU adds 1 to sizes: the IoU of these.)
    "detect-and-track": Tracker(gate=1.0, patience=0, score=0.95, area=50.0),
}


@dataclass(frozen=True)
class Tracks:
    """T tracks that may go on: the last box [T, 4] of each, its id [T], the frames [T] since; and the next new id."""

    boxes: Tensor
    ids: Tensor
    missed: Tensor
    next_id: int


NONE = Tracks(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64), 0)


def follow(
    tracks: Tracks, people: Detections, tracker: Tracker, height: float, width: float
) -> tuple[Tracks, Detections]:
    """The tracks after a frame of `height` x `width` pixels with these people (on the CPU), and the people with ids.

    People keep their order; boxes are clipped to the frame. Ids count from 0 and are never used twice.
    """
    people = people[people.scores >= tracker.score]
    people.boxes = boxes.clip(people.boxes, height, width)
    people = people[boxes.area(people.boxes) >= tracker.area]
    old, new = _pairs(tracks.boxes, people.boxes, tracker.gate)

    unmatched = torch.ones(len(people), dtype=torch.bool)
    unmatched[new] = False
    people.ids = torch.empty(len(people), dtype=torch.int64)
    people.ids[new] = tracks.ids[old]
    people.ids[unmatched] = torch.arange(tracks.next_id, tracks.next_id + int(unmatched.sum()))

    waits = tracks.missed < tracker.patience
    waits[old] = False
    return (
        Tracks(
            torch.cat((people.boxes, tracks.boxes[waits])),
            torch.cat((people.ids, tracks.ids[waits])),
            torch.cat((torch.zeros(len(people), dtype=torch.int64), tracks.missed[waits] + 1)),
            tracks.next_id + int(unmatched.sum()),
        ),
        people,
    )


def _pairs(old: Tensor, new: Tensor, gate: float) -> tuple[Tensor, Tensor]:
    """Which old box goes on as which new one: two index lists of equal length.

    A cost above the gate counts as the gate, so that no pair is given up to make room for a poor one.
    """
    cost = 1 - boxes.iou(old, new)
    rows, columns = map(torch.from_numpy, linear_sum_assignment(cost.clamp(max=gate).numpy()))
    joined = cost[rows, columns] <= gate
    return rows[joined], columns[joined]
