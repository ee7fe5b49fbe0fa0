"""The One-Euro filter (Casiez, Roussel, Vogel, 2012) on the boxes and joints of tracks.

A low-pass filter whose cutoff frequency rises with the speed: a person who stands still does not tremble, one who moves
is not held back. With time step dt, cutoff f and a(f) = 1 / (1 + 1 / (2 pi f dt)), per coordinate

    v = v' + a(1 Hz) ((x - x') / dt - v')        x' the last smoothed place, v' the last smoothed speed
    x = x' + a(cutoff + beta |v|) (x - x')

Speeds are in sizes of the person a second (the square root of the box's area), so that beta means the same for people
far away and near.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dimofs.boxes import area
from dimofs.detections import Detections

SPEED_CUTOFF = 1.0
# Hz that the cutoff rises by, per size of the person a second.
BETA = 10.0
# A track that was not seen for longer, in seconds, starts anew.
LONGEST_GAP = 0.5


@dataclass(frozen=True)
class _State:
    """Of one track: the time, the smoothed places and speeds [J + 2, 2] of its box's corners and its joints."""

    time: float
    places: Tensor
    speeds: Tensor


class OneEuro:
    """A filter for one clip. cutoff: lowest cutoff frequency, Hz; beta: see the module."""

    def __init__(self, cutoff: float, beta: float = BETA):
        self.cutoff, self.beta = cutoff, beta
        self.states: dict[int, _State] = {}

    def __call__(self, people: Detections, time: float) -> Detections:
        """The people of the next frame, which is shown at `time` (seconds), with smoothed boxes and joints.

        People without ids stay as they are, and so do coordinates that are not finite.
        """
        if people.ids is None or not len(people):
            return people
        points = torch.cat((people.boxes.reshape(-1, 2, 2), people.keypoints), dim=1)
        sizes = area(people.boxes).clamp(min=1).sqrt().tolist()
        self.states = {track: s for track, s in self.states.items() if time - s.time <= LONGEST_GAP}
        for row, (track, size) in enumerate(zip(people.ids.tolist(), sizes, strict=True)):
            self.states[track] = self._next(self.states.get(track), points[row], time, size)
        smooth = torch.stack([self.states[track].places for track in people.ids.tolist()])
        smooth = torch.where(points.isfinite(), smooth, points)
        return replace(people, boxes=smooth[:, :2].flatten(1), keypoints=smooth[:, 2:])

    def _next(self, before: _State | None, points: Tensor, time: float, size: float) -> _State:
        if before is None or time <= before.time:
            return _State(time, points, torch.zeros_like(points))
        step = time - before.time
        known = points.isfinite() & before.places.isfinite()
        moved = torch.where(known, points - before.places, 0)
        speeds = before.speeds + _share(torch.tensor(SPEED_CUTOFF), step) * (moved / step - before.speeds)
        cutoffs = self.cutoff + self.beta * speeds.norm(dim=1, keepdim=True) / size
        places = before.places + _share(cutoffs, step) * moved
        return _State(time, torch.where(known, places, points), speeds)


def _share(cutoff: Tensor, step: float) -> Tensor:
    """How much of a new value a low-pass filter of this cutoff takes over after `step` seconds."""
    return 1 / (1 + 1 / (2 * math.pi * cutoff * step))
