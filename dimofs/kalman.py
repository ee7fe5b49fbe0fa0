"""How tracked people move: a Kalman filter of the centre of each person's box, at constant velocity.

The state of each axis is a place and a velocity in pixels a frame. Between frames the velocity changes by a random
acceleration; what is measured is the centre of the detected box. All deviations are shares of the box's height, those
of DeepSORT (Wojke et al., 2017) and ByteTrack (Zhang et al., 2022).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

# Standard deviations in box heights: of a measured centre, of the change of velocity in a frame, and at a track's start
# of the centre and of the velocity.
MEASURED = 1 / 20
CHANGE = 1 / 160
START, START_VELOCITY = 2 / 20, 10 / 160


@dataclass(frozen=True)
class Kinematics:
    """The states of T people.

    centre:   [T, 2] x y in pixels. velocity: [T, 2] in pixels a frame.
    variance: [T, 3] of the place, of place with velocity, and of the velocity, in square box heights; both axes alike.
    """

    centre: Tensor
    velocity: Tensor
    variance: Tensor

    @staticmethod
    def start(boxes: Tensor) -> Kinematics:
        """People first seen in these boxes [T, 4], as likely to move one way as another."""
        first = boxes.new_tensor([START**2, 0.0, START_VELOCITY**2])
        return Kinematics(centres(boxes), torch.zeros_like(boxes[:, :2]), first.expand(len(boxes), 3))

    def __getitem__(self, index: Tensor) -> Kinematics:
        """The people that `index` (a bool mask or int64 indices) selects."""
        return Kinematics(*(getattr(self, field.name)[index] for field in fields(self)))

    def replaced(self, index: Tensor, others: Kinematics) -> Kinematics:
        """The same with `others` in the places `index` (int64)."""
        names = [field.name for field in fields(self)]
        return Kinematics(*(getattr(self, name).index_put((index,), getattr(others, name)) for name in names))

    @staticmethod
    def join(parts: tuple[Kinematics, ...]) -> Kinematics:
        """The people of all parts, in order."""
        return Kinematics(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Kinematics)))

    def predicted(self, elapsed: float = 1.0) -> Kinematics:
        """The states `elapsed` frames later."""
        place, both, velocity = self.variance.unbind(1)
        place = place + elapsed * (2 * both + elapsed * velocity) + (CHANGE * elapsed**2 / 2) ** 2
        both = both + elapsed * velocity + CHANGE**2 * elapsed**3 / 2
        velocity = velocity + (CHANGE * elapsed) ** 2
        centre = self.centre + elapsed * self.velocity
        return Kinematics(centre, self.velocity, torch.stack((place, both, velocity), dim=1))

    def corrected(self, boxes: Tensor) -> Kinematics:
        """The states, predicted for this frame, after the people were seen in these boxes [T, 4]."""
        place, both, velocity = self.variance.unbind(1)
        gain = self.variance[:, :2] / (place + MEASURED**2)[:, None]
        surprise = centres(boxes) - self.centre
        variance = (place - gain[:, 0] * place, both - gain[:, 0] * both, velocity - gain[:, 1] * both)
        return Kinematics(
            self.centre + gain[:, :1] * surprise, self.velocity + gain[:, 1:] * surprise, torch.stack(variance, dim=1)
        )


def centres(boxes: Tensor) -> Tensor:
    """[T, 4] -> [T, 2] x y of the centres."""
    return (boxes[:, :2] + boxes[:, 2:]) / 2
