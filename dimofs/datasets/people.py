"""Training samples: two frames and the labelled people of the first; and `PairSource`, what a data set must offer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dimofs.boxes import clip
from dimofs.skeletons import DIMOFS, indices, limbs

# Limbs, by their joints' places in DIMOFS, and where on them points are taken, as shares of their length.
LIMBS = limbs(DIMOFS)
ALONG = (0.25, 0.5, 0.75)


@dataclass(kw_only=True)
class People:
    """P people of one frame, in pixels; continuous coordinates, pixel centres at integer + 0.5.

    boxes:     [P, 4] float32, x1 y1 x2 y2.
    keypoints: [P, J, 2] float32, x y of the joints, arbitrary where not labelled. J is 19, the joints of
               `dimofs.skeletons.DIMOFS`, unless a data set has a skeleton of its own (`CocoKeypoints`).
    labelled:  [P, J] bool, whether the joint has a label.
    ignore:    [Q, 4] float32, regions where a detector is neither right nor wrong: crowds, and people mostly outside
               the frame or too small.
    """

    boxes: Tensor
    keypoints: Tensor
    labelled: Tensor
    ignore: Tensor

    def __len__(self) -> int:
        return len(self.boxes)

    def select(self, index: Tensor) -> People:
        """The people that `index` (a bool mask or int64 indices) selects, with every ignore region."""
        return People(
            boxes=self.boxes[index], keypoints=self.keypoints[index], labelled=self.labelled[index], ignore=self.ignore
        )

    def to(self, device: torch.device | str) -> People:
        """The same on `device`."""
        return People(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    @staticmethod
    def empty(joints: int = len(DIMOFS)) -> People:
        """Nobody, and no ignore region."""
        labelled = torch.zeros(0, joints, dtype=torch.bool)
        return People(
            boxes=torch.zeros(0, 4), keypoints=torch.zeros(0, joints, 2), labelled=labelled, ignore=torch.zeros(0, 4)
        )

    @staticmethod
    def join(groups: Sequence[People]) -> People:
        """The people and ignore regions of all groups, in order."""
        names = [field.name for field in fields(People)]
        return People(**{name: torch.cat([getattr(group, name) for group in groups]) for name in names})


@dataclass(kw_only=True)
class Pair:
    """Two frames of one scene.

    frame_a, frame_b: [3, H, W] uint8 RGB; the same tensor if the source has one frame only.
    people:           the labelled people of Frame A.
    delta:            the number of frames from A to B; 0 if they are the same frame.
    name:             of Frame A, unique in its source.
    moves:            [K, 2, 2] float32, where points are in Frame A and where the same are in Frame B, x y in pixels of
                      each; as far as the source knows.
    """

    frame_a: Tensor
    frame_b: Tensor
    people: People
    delta: int
    name: str
    moves: Tensor = field(default_factory=lambda: torch.zeros(0, 2, 2))


class PairSource(Protocol):
    """A data set that gives pairs."""

    def __len__(self) -> int:
        """The number of items: clips or images."""
        ...

    def pair(self, index: int, random: np.random.Generator) -> Pair:
        """A pair of item `index`, as recorded, without augmentation. If the item is a clip, `random` chooses frames."""
        ...

    def frames(self) -> Iterator[tuple[str, Tensor]]:
        """Name and pixels [3, H, W] uint8 of every possible Frame A, each once: the frames that a teacher labels."""
        ...


def labelled_numbers(length: int, every: int, labels: int | None = None) -> Sequence[int]:
    """The numbers of the frames of a clip that may be Frame A: each `every`-th, or `labels` in the middles of as many
    equal parts of the clip."""
    if labels is None:
        return range(0, length, every)
    count = min(labels, length)
    return [int((part + 0.5) * length / count) for part in range(count)]


def draw_frames(
    length: int, random: np.random.Generator, *, reach: int | None, every: int, labels: int | None = None
) -> tuple[int, int]:
    """The numbers of a random Frame A of `labelled_numbers` and of its Frame B (see `draw_partner`)."""
    numbers = labelled_numbers(length, every, labels)
    a = numbers[int(random.integers(len(numbers)))]
    return a, draw_partner(a, length, random, reach)


def draw_partner(a: int, length: int, random: np.random.Generator, reach: int | None) -> int:
    """The number of Frame B: A + delta with delta uniform in -reach..reach, limited to the clip of `length` frames, or
    any frame of the clip if `reach` is None."""
    if reach is None:
        return int(random.integers(length))
    return int(np.clip(a + random.integers(-reach, reach + 1), 0, length - 1))


def to_dimofs(keypoints: Tensor, labelled: Tensor, names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Joints [P, J, 2] of the skeleton `names`, with labels (bool) or scores [P, J] -> [P, 19, 2] and [P, 19].

    Joints that `names` lacks have the label False, the score 0.
    """
    index = torch.tensor(indices(names, DIMOFS))
    known = index >= 0
    index = index.clamp(min=0)
    return keypoints[:, index].float(), labelled[:, index] * known


def moves_of(keypoints_a: Tensor, keypoints_b: Tensor, known: Tensor) -> Tensor:
    """The moves [K, 2, 2] of P people's joints and of points along their limbs.

    keypoints_a, keypoints_b: [P, 19, 2], joints of the same people in Frames A and B. known: [P, 19] bool, joints that
    are known in both.
    """
    joints = torch.stack((keypoints_a, keypoints_b), dim=2).float()  # [P, 19, 2, 2]
    first, second = torch.tensor(LIMBS).T
    both = (known[:, first] & known[:, second]).flatten()
    starts, ends = joints[:, first].flatten(0, 1)[both], joints[:, second].flatten(0, 1)[both]
    return torch.cat([joints[known], *(starts.lerp(ends, along) for along in ALONG)])


def inside(keypoints: Tensor, height: float, width: float) -> Tensor:
    """[..., 2] -> [...] bool: whether the point lies in the frame; False for NaN."""
    x, y = keypoints.unbind(-1)
    return (x >= 0) & (x < width) & (y >= 0) & (y < height)


def box_of_joints(keypoints: Tensor, labelled: Tensor, height: float, width: float, margin: float = 1.2) -> Tensor:
    """The extent of the labelled joints times `margin`, clipped to the frame: [P, J, 2], [P, J] -> [P, 4].

    People without a labelled joint get zeros.
    """
    far = torch.tensor(torch.inf)
    low = torch.where(labelled[..., None], keypoints, far).amin(1)
    high = torch.where(labelled[..., None], keypoints, -far).amax(1)
    grow = (high - low) * (margin - 1) / 2
    boxes = clip(torch.cat((low - grow, high + grow), 1), height, width)
    return torch.where(labelled.any(1)[:, None], boxes, 0.0)
