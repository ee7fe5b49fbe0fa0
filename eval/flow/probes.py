"""Frames with points whose displacements to later frames are known: what motion is fitted to and judged on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dimofs.cli import InputError
from dimofs.datasets.jhmdb import Jhmdb
from dimofs.datasets.people import People
from dimofs.datasets.sequences import spread
from dimofs.datasets.synthetic.clips import SyntheticClip, synthetic_clip
from dimofs.reader import read_clip


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A Frame A of a clip with K labelled points, and Frames B some frames later.

    clip:    the name of the clip; intervals treat the points of a clip as one.
    number:  of Frame A in the clip.
    frame:   [H, W, 3] uint8; others: frames B by delta.
    points:  [K, 2] x y in Frame A, pixel centres at integer + 0.5.
    moves:   by delta [K, 2], NaN where the point has no label in B.
    joints:  [K] int64, places in `dimofs.skeletons.DIMOFS`.
    boxes:   [P, 4] the labelled people of A; boxes_of: those of B by delta.
    owner:   [K] int64, whose joint each point is.
    """

    clip: str
    number: int
    frame: np.ndarray
    others: dict[int, np.ndarray]
    points: Tensor
    moves: dict[int, Tensor]
    joints: Tensor
    boxes: Tensor
    boxes_of: dict[int, Tensor]
    owner: Tensor


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A labelled clip: its frames [T, H, W, 3] and the people of each frame, the same people in the same order."""

    name: str
    frames: np.ndarray
    people: Callable[[int], People]


def jhmdb_clips(source: Jhmdb, most: int | None) -> Iterator[Clip]:
    """The clips of a part whose joints are clean, at most `most`, evenly spread. InputError: there are none."""
    names = spread([name for name in source.names if source.labels.joints(name) is not None], most)
    if not names:
        raise InputError(f"{source.clips}: no clip of the split has clean joints; nothing can be measured")
    for name in names:
        frames = np.stack(list(read_clip(source.clips / f"{name}.avi")))[: source.length(name)]
        size = frames.shape[1:3]
        yield Clip(name=name, frames=frames, people=lambda t, name=name, size=size: source.people(name, t, *size))


def synthetic_clips(seeds: Sequence[int], length: int) -> Iterator[Clip]:
    """The synthetic clips of these seeds, of `length` frames, with the exact places of visible joints."""
    for seed in seeds:
        clip = synthetic_clip(seed, length=length)
        yield Clip(name=clip.name, frames=clip.frames, people=lambda t, clip=clip: _everyone(clip, t))


def _everyone(clip: SyntheticClip, number: int) -> People:
    """All people of a synthetic clip, so that their order is the same in every frame."""
    visible = clip.visible[number] & clip.present[number][:, None]
    return People(
        boxes=torch.from_numpy(clip.boxes[number]),
        keypoints=torch.from_numpy(clip.keypoints[number]),
        labelled=torch.from_numpy(visible),
        ignore=torch.zeros(0, 4),
    )


def probes(clip: Clip, deltas: Sequence[int], most: int) -> Iterator[Probe]:
    """At most `most` Frames A of a clip, evenly spread over those that have every Frame B; none if it is too short."""
    last = len(clip.frames) - 1 - max(deltas)
    if last < 0:
        return
    for number in sorted({round(place) for place in np.linspace(0, last, most)}):
        people = clip.people(number)
        owner, joints = people.labelled.nonzero(as_tuple=True)
        if not len(owner):
            continue
        points = people.keypoints[owner, joints]
        later = {delta: clip.people(number + delta) for delta in deltas}
        moves = {delta: _moves(people, owner, joints, points) for delta, people in later.items()}
        others = {delta: clip.frames[number + delta] for delta in deltas}
        yield Probe(
            clip=clip.name,
            number=number,
            frame=clip.frames[number],
            others=others,
            points=points,
            moves=moves,
            joints=joints,
            boxes=people.boxes,
            boxes_of={delta: people.boxes for delta, people in later.items()},
            owner=owner,
        )


def _moves(later: People, owner: Tensor, joints: Tensor, points: Tensor) -> Tensor:
    if int(owner.max()) >= len(later):
        return torch.full_like(points, torch.nan)
    known = later.labelled[owner, joints]
    return torch.where(known[:, None], later.keypoints[owner, joints] - points, torch.nan)


def masks_of(folder: Path, name: str) -> np.ndarray:
    """[T, H, W] bool: the puppet masks of the clip "<class>/<clip>", read from FOLDER/<name>.mat.

    InputError: there is no such file, or it holds no masks.
    """
    from dimofs.datasets.matlab import read_mat

    path = folder / f"{name}.mat"
    if not path.is_file():
        remedy = "give the folder mask/ of github.com/rendicahya/jhmdb-scripts"
        raise InputError(f"--masks {folder}: has no {name}.mat; {remedy}")
    mask = read_mat(path, "part_mask", 3)
    if mask.ndim != 3:
        raise InputError(f"{path}: part_mask has shape {mask.shape}, not (height, width, frames)")
    return mask.transpose(2, 0, 1) > 0
