"""Poses of a clip from key frames: people are found in every K-th frame and carried to the frames between.

Between two key frames A and B everybody who is in both is carried (`carrying`). Where somebody is surely in one only,
or the two frames disagree about where joints are, people are found in the middle frame too, which then is a key frame
of both halves; and so on. So the frame in which somebody enters, leaves or moves unlike both key frames is found by
halving. People of lower scores, whom the network finds in one frame and not in the next, stay until the middle.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from dimofs.detections import Detections
from dimofs.video import Frame
from dimofs.zoo.detection.carrying import Carried, carry, interpolated, paired
from dimofs.zoo.detection.features import Features

# How people get from key frames to the frames between. "motion" is `carrying.carry`; "interpolation" moves them on
# straight lines, and "copying" takes the nearer key frame's; both look at no frame between.
Between = Literal["motion", "interpolation", "copying"]
# Dissent of the two key frames (`Carried.dissent`) above which another frame is looked at.
DISSENT = 0.1
# Someone sure in one key frame may have this share of the least score in the other.
FAINT = 0.6


class Looks(Protocol):
    """What key frames ask of a network; results are on the CPU."""

    def people(self, frame: Frame) -> Detections:
        """The people of a frame."""
        ...

    def glance(self, frames: Sequence[Frame]) -> Features:
        """What frames of one size show, see `BoxDetector.glance`."""
        ...


class Placed(NamedTuple):
    """A frame, its people, and whether they were found in it rather than carried to it."""

    frame: Frame
    people: Detections
    found: bool


@dataclass(frozen=True, kw_only=True)
class KeyFrames:
    """How a clip is gone through.

    every:   K, the distance of key frames. The last frame of a clip is one, too.
    least:   lowest score of the people who are wanted; others of FAINT times it only continue them.
    sure:    lowest score of people who are a reason to look at another frame if they are in one key frame only.
    between: how people get to the frames between.
    dissent: above it the middle frame is looked at. Infinity: only people who enter or leave are a reason.
    """

    every: int
    least: float = 0.5
    sure: float = 0.7
    between: Between = "motion"
    dissent: float = DISSENT


def keyed(looks: Looks, frames: Iterable[Frame], options: KeyFrames) -> Generator[Placed]:
    """The people of every frame, in order. Frames of another size begin a new clip.

    `options.every` frames wait until the next key frame has come.
    """
    for _, clip in groupby(frames, key=lambda frame: frame.size):
        first = next(clip)
        gap, people = [first], looks.people(first)
        yield Placed(first, people, True)
        while more := list(islice(clip, options.every)):
            gap = [gap[-1], *more]
            found = looks.people(gap[-1])
            yield from _between(_Gap(looks, gap, options), 0, people, len(gap) - 1, found)
            people = found


@dataclass
class _Gap:
    """The frames from one key frame to the next, with what they show once somebody asks."""

    looks: Looks
    frames: list[Frame]
    options: KeyFrames
    glances: Features | None = field(default=None, init=False)

    def glance(self, number: int) -> Features:
        if self.glances is None:
            self.glances = self.looks.glance(self.frames)
        return self.glances[number : number + 1]


def _between(gap: _Gap, a: int, people_a: Detections, b: int, people_b: Detections) -> Iterator[Placed]:
    """The frames after `a` up to `b`, two frames of the gap in which people were found."""
    if b - a > 1:
        carried = _carried(gap, a, people_a, b, people_b)
        if carried is None:
            middle = (a + b) // 2
            people = gap.looks.people(gap.frames[middle])
            yield from _between(gap, a, people_a, middle, people)
            yield from _between(gap, middle, people, b, people_b)
            return
        for number, people in zip(range(a + 1, b), carried, strict=True):
            yield Placed(gap.frames[number], people, False)
    yield Placed(gap.frames[b], people_b, True)


def _carried(gap: _Gap, a: int, people_a: Detections, b: int, people_b: Detections) -> list[Detections] | None:
    """The people of the frames between `a` and `b`; None where they cannot be told."""
    options, numbers = gap.options, range(a + 1, b)
    if options.between == "copying":
        return [people_a if number - a <= b - number else people_b for number in numbers]
    old, new = paired(people_a, people_b)
    alone_a, alone_b = _alone(people_a, old, options.least), _alone(people_b, new, options.least)
    sure = max(options.least, options.sure)
    if (alone_a.scores >= sure).any() or (alone_b.scores >= sure).any():
        return None
    wanted = torch.maximum(people_a.scores[old], people_b.scores[new]) >= options.least
    both = people_a[old[wanted]], people_b[new[wanted]]
    placed = []
    for number in numbers:
        found = _moved(gap, *both, a, number, b)
        if len(found.dissent) and found.dissent.max() > options.dissent:
            return None
        alone, at = (alone_a, a) if number - a <= b - number else (alone_b, b)
        placed.append(Detections.join((found.people, _moved(gap, alone, alone, at, number, at).people)))
    return placed


def _moved(gap: _Gap, people_a: Detections, people_b: Detections, a: int, number: int, b: int) -> Carried:
    """The same people of frames `a` and `b`, in another frame; where `b` is `a`, by that frame alone."""
    share = (number - a) / (b - a) if b > a else 0.0
    if gap.options.between == "interpolation" or not len(people_a):
        return Carried(interpolated(people_a, people_b, share), torch.zeros_like(people_a.keypoint_scores))
    return carry(people_a, people_b, share, gap.glance(a), gap.glance(number), gap.glance(b))


def _alone(people: Detections, partners: Tensor, least: float) -> Detections:
    """Those of at least this score who have no partner."""
    alone = people.scores >= least
    alone[partners] = False
    return people[alone]
