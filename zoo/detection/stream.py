"""Poses of a clip as its frames arrive: each frame passes the backbone once, whatever delta is."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import NamedTuple

import numpy as np
import torch

from dimofs.detections import Detections
from dimofs.motion import Motion
from dimofs.selection import EVERYBODY, Selection
from dimofs.shrinking import shrunk
from dimofs.stopwatch import Stopwatch
from dimofs.tracking import NONE, Tracker, follow
from dimofs.video import IMAGE_RATE, Frame
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.features import Features
from dimofs.zoo.detection.keyframes import FAINT, KeyFrames, keyed


class Swept(NamedTuple):
    """A frame, its people (on the CPU, float32) as found in each of several frames B and, where asked for, the motion
    from the previous frame to this one and from this one on."""

    frame: Frame
    people: list[Detections]
    motion: Motion | None
    onward: Motion | None = None


class Found(NamedTuple):
    """A frame, its people (on the CPU, float32) and, where asked for, the motion from the previous frame to this one
    and from this one on."""

    frame: Frame
    people: Detections
    motion: Motion | None
    onward: Motion | None = None


def poses(
    detector: PoseDetector,
    frames: Iterable[Frame],
    delta: int = 0,
    batch: int = 1,
    *,
    dtype: torch.dtype = torch.float32,
    motion: bool = False,
    onward: int = 0,
    aggregate: int = 0,
    keyframe: int = 1,
    min_score: float = 0.0,
    watch: Stopwatch | None = None,
) -> Generator[Found]:
    """The people of every frame, in order; `batch` frames go through the network together.

    Frame B is the frame `delta` after Frame A, or the clip's last (first) frame where the clip ends before that.
    motion: also estimate that from the previous frame to each frame. onward: and that to the frame so many frames
    later, or earlier if negative, where there is one; 0 does without.
    aggregate: with D > 0 the joints lie at the peaks of the mean heatmap of B, A - D and A + D.
    keyframe: with K > 1 people are found in every K-th frame, where they enter or leave and where their motion is
    unclear, and carried to the frames between (`keyframes`). It needs `delta` and `aggregate` of 0 and no `motion`.
    dtype: of the network's arithmetic, by autocast. min_score: see `BoxDetector.find_boxes`. watch: counts the time of
    the backbone, of finding people, and of their motion.

    At most the features of 2 max(|delta|, |onward|, D) + `batch` frames are kept. Frames of another size begin a new
    clip, whose first frame has no `motion`. ValueError: `keyframe` beside what it does not go with.
    """
    if keyframe > 1:
        if delta or aggregate or motion or onward:
            raise ValueError("key frames go with delta = 0 and without aggregate and motion")
        network = Network(detector, dtype, FAINT * min_score, watch)
        for placed in keyed(network, frames, KeyFrames(every=keyframe, least=min_score)):
            yield Found(placed.frame, placed.people, None, None)
        return
    network = Network(detector, dtype, min_score, watch)
    for frame, (people,), *moves in _sweep(network, frames, (delta,), batch, motion, aggregate, onward):
        yield Found(frame, people, *moves)


def tracked(
    found: Iterable[Found],
    tracker: Tracker,
    select: Selection = EVERYBODY,
    *,
    fps: float = IMAGE_RATE,
    apart: bool = False,
) -> Generator[Found]:
    """The same frames with those people who are selected and the ids of their tracks.

    No track continues into a frame of another size. fps: frames a second of the source. apart: the frames are single
    pictures, in each of which ids count from 0.
    """
    if apart:
        # There are no tracks that could show who and what is not there.
        tracker = replace(tracker, sure=0.0, exclusive=False)
    tracks, size, before = NONE, None, 0.0
    for frame, people, motion, onward in found:
        if apart:
            tracks = NONE
        elif frame.size != size:
            # Another scene begins.
            size, tracks = frame.size, replace(NONE, next_id=tracks.next_id)
        elapsed, before = (frame.time - before) * fps, frame.time
        chosen = select(people[people.scores >= tracker.least])
        tracks, people = follow(tracks, chosen, tracker, *frame.size, motion, elapsed)
        yield Found(frame, people, motion, onward)


def motion_between(detector: PoseDetector, a: Frame, b: Frame, *, dtype: torch.dtype = torch.float32) -> Motion:
    """Where what is seen in Frame A has moved in Frame B, of the same size."""
    network = Network(detector, dtype)
    (motion,) = network.motion(network.features([a]), network.features([b]))
    return motion


def reduced(frame: Frame) -> Frame:
    """The frame with fewer pixels if it is very large, so that waiting frames do not fill the memory."""
    return replace(frame, pixels=shrunk(frame.pixels), full_size=frame.size)


def sweep(
    detector: PoseDetector, frames: Iterable[Frame], deltas: Sequence[int], batch: int = 1, *, motion: bool = False
) -> Generator[Swept]:
    """The people of every frame as found with each of the `deltas`; other arguments as in `poses`."""
    yield from _sweep(Network(detector), frames, deltas, batch, motion, aggregate=0)


@dataclass(frozen=True)
class Network:
    """A detector that reads frames and returns results on the CPU."""

    detector: PoseDetector
    dtype: torch.dtype = torch.float32
    min_score: float = 0.0
    watch: Stopwatch | None = None

    @torch.inference_mode()
    def features(self, frames: Sequence[Frame]) -> Features:
        pixels = self._pixels(frames)
        with self._autocast(pixels.device), self._timed("backbone"):
            return self.detector.features(pixels, frame_size=frames[0].size)

    @torch.inference_mode()
    def detect(self, a: Features, b: Features | None, beside: Sequence[Features]) -> list[Detections]:
        with self._autocast(a.levels[0].device), self._timed("people"):
            found = self.detector.detect(a, b, beside, min_score=self.min_score)
            return [people.to("cpu", torch.float32) for people in found]

    def people(self, frame: Frame) -> Detections:
        """The people of a frame."""
        return self.detect(self.features([frame]), None, ())[0]

    @torch.inference_mode()
    def glance(self, frames: Sequence[Frame]) -> Features:
        """What frames of one size show, see `BoxDetector.glance`."""
        pixels = self._pixels(frames)
        with self._autocast(pixels.device), self._timed("glance"):
            return self.detector.glance(pixels, frame_size=frames[0].size)

    @torch.inference_mode()
    def motion(self, a: Features, b: Features) -> list[Motion]:
        with self._autocast(a.levels[0].device), self._timed("motion"):
            return [Motion(m.flow.cpu(), m.height, m.width) for m in self.detector.motion(a, b)]

    def _pixels(self, frames: Sequence[Frame]) -> torch.Tensor:
        """Frames of one size as the detector reads them, [N, 3, H, W] uint8."""
        device = next(self.detector.parameters()).device
        pixels = torch.from_numpy(np.stack([shrunk(frame.pixels) for frame in frames])).to(device)
        return pixels.permute(0, 3, 1, 2)

    def _timed(self, stage: str) -> AbstractContextManager[None]:
        return nullcontext() if self.watch is None else self.watch(stage)

    def _autocast(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, self.dtype, enabled=self.dtype != torch.float32)


def _sweep(
    network: Network,
    frames: Iterable[Frame],
    deltas: Sequence[int],
    batch: int,
    motion: bool,
    aggregate: int,
    onward: int = 0,
) -> Generator[Swept]:
    for _, clip in groupby(frames, key=lambda frame: frame.size):
        yield from _sweep_clip(network, clip, deltas, batch, motion, aggregate, onward)


def _sweep_clip(
    network: Network,
    clip: Iterator[Frame],
    deltas: Sequence[int],
    batch: int,
    motion: bool,
    aggregate: int,
    onward: int,
) -> Generator[Swept]:
    """`_sweep` over frames of one size."""
    ahead = max(*deltas, aggregate, onward, 0)
    behind = max(*(-delta for delta in deltas), aggregate, -onward, int(motion))
    for window, now, frames in windows(clip, network.features, batch, ahead, behind):
        a = window.at(now)
        beside = [window.at(now, -aggregate), window.at(now, aggregate)] if aggregate else []
        found = [network.detect(a, window.at(now, delta) if delta else None, beside) for delta in deltas]
        moves = network.motion(window.at(now, -1), a) if motion else [None] * len(now)
        onwards = _onward(network, window, now, onward) if onward else [None] * len(now)
        for i, (number, frame) in enumerate(zip(now, frames, strict=True)):
            people = [detections[i] for detections in found]
            yield Swept(frame, people, moves[i] if number else None, onwards[i])


def _onward(network: Network, window: FeatureWindow, numbers: range, shift: int) -> list[Motion | None]:
    """The motion from each of these frames to the frame `shift` after it; None where the clip so far has no such."""
    within = range(max(numbers.start, -shift), min(numbers.stop, window.total - shift))
    if not within:
        return [None] * len(numbers)
    found = network.motion(window.at(within), window.at(within, shift))
    return [found[n - within.start] if n in within else None for n in numbers]


class FeatureWindow:
    """Features of the latest frames of a clip, frame by frame. `total` counts all frames of the clip so far."""

    def __init__(self):
        self.features: deque[Features] = deque()
        self.total = 0

    def add(self, new: Features) -> None:
        """Append the features of the next frames."""
        self.features.extend(new[i : i + 1] for i in range(len(new)))
        self.total += len(new)

    def at(self, numbers: range, shift: int = 0) -> Features:
        """Features of the frames `shift` after the frames of these numbers, limited to the clip so far."""
        places = [min(max(number + shift, 0), self.total - 1) - self.total for number in numbers]
        return self.features[places[0]] if len(places) == 1 else Features.cat([self.features[i] for i in places])

    def drop(self, number: int) -> None:
        """Forget the frames before `number`."""
        while len(self.features) > self.total - number:
            self.features.popleft()


def windows(
    clip: Iterator[Frame],
    features: Callable[[list[Frame]], Features],
    batch: int,
    ahead: int,
    behind: int,
) -> Generator[tuple[FeatureWindow, range, list[Frame]]]:
    """The frames of a clip of one size, at most `batch` at a time: a window of features, their numbers, the frames.

    features: computes those of up to `batch` frames. The window holds those of `behind` frames before and, until the
    clip ends, `ahead` frames after each of the numbers; it is only valid until the next step.
    """
    window, waiting, done = FeatureWindow(), deque[Frame](), 0
    ended = False
    while not ended:
        group = list(islice(clip, batch))
        ended = not group
        if group:
            window.add(features(group))
            waiting.extend(group)
        # Until the clip has ended, a frame waits for the frames that it needs after it.
        ready = window.total if ended else window.total - ahead
        for first in range(done, ready, batch):
            now = range(first, min(first + batch, ready))
            yield window, now, [waiting.popleft() for _ in now]
        done = max(done, ready)
        window.drop(done - behind)
