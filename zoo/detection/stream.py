"""Poses of a clip as its frames come: each frame passes the backbone once, whatever delta is."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import chain, groupby, islice
from typing import NamedTuple

import numpy as np
import torch

from dimofs.detections import Detections
from dimofs.motion import Motion
from dimofs.video import Frame
from dimofs.zoo.detection.detector import Features, PoseDetector


class Swept(NamedTuple):
    """A frame, its people (on the CPU, float32) as each of several frames B shows them and, where asked for, the motion
    from the frame before to this one."""

    frame: Frame
    people: list[Detections]
    motion: Motion | None


class Found(NamedTuple):
    """A frame, its people (on the CPU, float32) and, where asked for, the motion from the frame before to this one."""

    frame: Frame
    people: Detections
    motion: Motion | None


def poses(
    detector: PoseDetector,
    frames: Iterable[Frame],
    delta: int = 0,
    batch: int = 1,
    dtype: torch.dtype = torch.float32,
    motion: bool = False,
    aggregate: int = 0,
) -> Generator[Found]:
    """What is found in every frame, in order; `batch` frames go through the network together.

    Frame B is the frame `delta` after Frame A, or the clip's first or last one where that is nearer. With `aggregate`
    D the joints are where the mean heatmap says of B, A - D and A + D. Features of 2 max(|delta|, D) + `batch` frames
    are kept at most. Frames of another size begin a new clip, whose first frame has no `motion`. Networks run in
    `dtype` by autocast.
    """
    for frame, (people,), move in sweep(detector, frames, (delta,), batch, dtype, motion, aggregate):
        yield Found(frame, people, move)


def sweep(
    detector: PoseDetector,
    frames: Iterable[Frame],
    deltas: Sequence[int],
    batch: int = 1,
    dtype: torch.dtype = torch.float32,
    motion: bool = False,
    aggregate: int = 0,
) -> Generator[Swept]:
    """As `poses`, with every one of the `deltas`."""
    for _, clip in groupby(frames, key=lambda frame: frame.pixels.shape):
        yield from _sweep_clip(detector, clip, deltas, batch, dtype, motion, aggregate)


def _sweep_clip(detector, clip: Iterator[Frame], deltas, batch: int, dtype, motion: bool, aggregate: int):
    ahead = max(*deltas, aggregate, 0)
    behind = max(*(-delta for delta in deltas), aggregate, int(motion))
    window, done = _Window(), 0
    waiting: deque[Frame] = deque()  # the frames `done` to `window.total`
    for group in chain(iter(lambda: list(islice(clip, batch)), []), [[]]):  # the last, empty group: the clip has ended
        if group:
            window.add(_features(detector, group, dtype))
            waiting.extend(group)
        ready = window.total - ahead if group else window.total
        if ready > done:
            now = range(done, ready)
            a = window.at(now)
            beside = [window.at(now, d) for d in (-aggregate, aggregate)] if aggregate else []
            found = [_detect(detector, a, window.at(now, d) if d else None, beside, dtype) for d in deltas]
            moves = _motion(detector, window.at(now, -1), a, dtype) if motion else [None] * len(now)
            for number, *people, move in zip(now, *found, moves, strict=True):
                yield Swept(waiting.popleft(), people, move if number else None)
            done = ready
        window.drop(done - behind)


class _Window:
    """Features of the latest of the `total` frames of a clip, frame by frame."""

    def __init__(self):
        self.features: deque[Features] = deque()
        self.total = 0

    def add(self, new: Features) -> None:
        """The features of the next frames."""
        self.features.extend(new[i : i + 1] for i in range(len(new)))
        self.total += len(new)

    def at(self, numbers: range, shift: int = 0) -> Features:
        """Those of the frames `shift` after frames of these numbers, limited to the clip so far."""
        places = [min(max(number + shift, 0), self.total - 1) - self.total for number in numbers]
        return self.features[places[0]] if len(places) == 1 else Features.cat([self.features[i] for i in places])

    def drop(self, number: int) -> None:
        """Forget the frames before `number`."""
        while len(self.features) > self.total - number:
            self.features.popleft()


@torch.inference_mode()
def _features(detector: PoseDetector, frames: list[Frame], dtype: torch.dtype) -> Features:
    device = next(detector.parameters()).device
    pixels = torch.from_numpy(np.stack([frame.pixels for frame in frames])).to(device)
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        return detector.features(pixels.permute(0, 3, 1, 2) / 255)


@torch.inference_mode()
def _detect(
    detector: PoseDetector, a: Features, b: Features | None, beside: Sequence[Features], dtype: torch.dtype
) -> list[Detections]:
    with torch.autocast(a.levels[0].device.type, dtype, enabled=dtype != torch.float32):
        return [people.to("cpu", torch.float32) for people in detector.detect(a, b, beside)]


@torch.inference_mode()
def _motion(detector: PoseDetector, a: Features, b: Features, dtype: torch.dtype) -> list[Motion]:
    with torch.autocast(a.levels[0].device.type, dtype, enabled=dtype != torch.float32):
        return [Motion(m.flow.cpu(), m.height, m.width) for m in detector.motion(a, b)]
