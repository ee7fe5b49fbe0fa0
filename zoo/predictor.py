"""The Python interface: a detector that reads whatever people call an image or a video.

>>> import dimofs
>>> from dimofs.datasets.synthetic.clips import synthetic_clip
>>> frames = synthetic_clip(3, length=3, height=128, width=160).frames
>>> model = dimofs.load(size=160)
>>> result = model(frames[0])
>>> result.image.shape, result.joints["left_wrist"].shape == (len(result), 3)
((128, 160, 3), True)
>>> for result in model.track(iter(frames)):
...     print(result.frame.index, result.time, len(result.ids) == len(result))
0 0.0 True
1 0.04 True
2 0.08 True
>>> model.motion(frames[0], frames[2]).flow.shape
torch.Size([2, 128, 160])

It finds what the command `dimofs pose` finds: the same thresholds, the same tracker. Nothing here records gradients;
the detector itself, for training and export, is `model.detector`.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import overload

import numpy as np
import torch

from dimofs.ahead import ahead
from dimofs.cli import InputError
from dimofs.detections import Detections
from dimofs.image_inputs import ImageInput, frames_of
from dimofs.motion import Motion
from dimofs.overlay import Pen
from dimofs.results import Result
from dimofs.sources import sources
from dimofs.tracking import NONE, Tracker, Tracks, follow, tracker_named
from dimofs.video import IMAGE_RATE, Clip, Frame, open_clip
from dimofs.window import Window
from dimofs.zoo import checkpoints
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.stream import motion_between, poses, reduced, tracked
from dimofs.zoo.devices import dtype_named, pick_device

# Minimum score of a person, in Python as on the command line.
SCORE = 0.5
# Frames that are read ahead of the network.
DEPTH = 2

Images = Iterable[ImageInput]


def load(
    source: str | Path = "dimofs_mobile",
    *,
    device: str | None = None,
    size: int | None = None,
    dtype: str = "float32",
    batch: int | None = None,
) -> Model:
    """A model by the name of one that ships, the folder of a checkpoint, its .safetensors, or torchvision's .pth.

    device: cpu, cuda, cuda:1, ... (default: a GPU if there is one).
    size:   longer side of the network's input, pixels (default: the model's own).
    dtype:  of the network's arithmetic: float32, bfloat16, float16, or "auto": bfloat16 on CPUs that have it.
    batch:  images of one size that pass the network together (default: 1 on a CPU, 8 on a GPU).
    InputError: there is no such model or device, or it finds no poses.
    """
    where = pick_device(device)
    arithmetic = dtype_named(dtype, where)
    detector = checkpoints.load_as(PoseDetector, source, where, size)
    together = batch if batch is not None else 8 if where.type == "cuda" else 1
    return Model(detector, name=str(source), dtype=arithmetic, batch=together)


@dataclass(frozen=True, eq=False)
class Model:
    """A pose detector with its weights, see `load`.

    detector: the network. name: what it was loaded from. dtype, batch: see `load`.
    """

    detector: PoseDetector
    name: str = field(default="", kw_only=True)
    dtype: torch.dtype = field(default=torch.float32, kw_only=True)
    batch: int = field(default=1, kw_only=True)

    def __repr__(self) -> str:
        return f"<Model {self.name}: {len(self.keypoint_names)} joints, on {self.device}>"

    @property
    def keypoint_names(self) -> Sequence[str]:
        """The names of the joints, in order."""
        return self.detector.keypoint_names

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.detector.parameters()).device

    @overload
    def __call__(self, images: ImageInput, *, score: float = SCORE, bgr: bool | None = None) -> Result: ...
    @overload
    def __call__(
        self, images: Sequence[ImageInput], *, score: float = SCORE, bgr: bool | None = None
    ) -> list[Result]: ...

    def __call__(
        self, images: ImageInput | Sequence[ImageInput], *, score: float = SCORE, bgr: bool | None = None
    ) -> Result | list[Result]:
        """The people of an image, or of each image of a list.

        images: see `dimofs.image_inputs.pixels_of`, which also says what is refused. A list may hold images of several
                kinds and sizes; an empty list gives an empty one.
        score:  minimum score of a person.
        bgr:    whether arrays and tensors have blue first, as OpenCV's do.
        """
        if isinstance(images, Sequence) and not isinstance(images, str):
            return list(self._results(frames_of(images, bgr), score))
        (result,) = self._results(frames_of([images], bgr), score)
        return result

    def track(
        self,
        video: str | Path | int | Images,
        *,
        delta: int = 0,
        aggregate: int = 0,
        keyframe: int = 1,
        score: float = SCORE,
        tracker: str | Tracker = "default",
        start: float = 0.0,
        end: float | None = None,
        every: int = 1,
        show: bool = False,
        bgr: bool | None = None,
    ) -> Generator[Result]:
        """The people of each frame of a video, one frame after the other, with the ids of their tracks.

        video:     a file, a folder of frames, a webcam's number, a URL, or images one after the other, such as a
                   generator of arrays.
        delta:     find each frame's people in the features of the frame `delta` later (earlier if negative).
        aggregate: place joints with the help of the frames `aggregate` before and after, too.
        keyframe:  find people in every `keyframe`-th frame and carry them to the frames between; needs `delta` and
                   `aggregate` of 0.
        score:     minimum score of a person.
        tracker:   a name of `dimofs.tracking.TRACKERS`, or your own Tracker.
        start, end: the part of a video in seconds; every: take each n-th frame of it.
        show:      also show the frames in a window; iteration ends when it is closed.
        InputError: the video cannot be read, or there is no window to be had.
        """
        joins = tracker_named(tracker) if isinstance(tracker, str) else tracker
        joins = replace(joins, score=max(joins.score, score))
        with ExitStack() as stack:
            frames, fps, live = _frames(video, bgr, start, end, every, stack)
            frames = stack.enter_context(closing(ahead(map(reduced, frames), DEPTH)))
            found = poses(
                self.detector,
                frames,
                delta,
                batch=1 if live else self.batch,
                dtype=self.dtype,
                motion=joins.motion,
                aggregate=aggregate,
                keyframe=keyframe,
                min_score=joins.least - 1e-6,
            )
            stack.enter_context(closing(found))
            window = stack.enter_context(Window(str(video))) if show else None
            pen = Pen(self.detector.limbs, self.keypoint_names)
            for frame, people, *_ in tracked(found, joins, fps=fps):
                yield self._result(frame, people)
                if window is not None and not window.show(pen.draw(frame, people)):
                    break

    def tracker(self, name: str | Tracker = "default", *, score: float = SCORE) -> PersonTracker:
        """What `track` does, for frames that your own loop hands over one by one."""
        joins = tracker_named(name) if isinstance(name, str) else name
        return PersonTracker(self, replace(joins, score=max(joins.score, score)))

    def motion(self, frame_a: ImageInput, frame_b: ImageInput, *, bgr: bool | None = None) -> Motion:
        """Where each pixel of Frame A [H, W] has moved in Frame B: a field [2, H, W], with `plot` and `save`.

        ValueError: their sizes differ.
        """
        a, b = frames_of([frame_a, frame_b], bgr)
        if a.size != b.size:
            sizes = " and ".join(f"{frame.size[1]} x {frame.size[0]}" for frame in (a, b))
            raise ValueError(f"Frames A and B have {sizes} pixels; give two frames of one video")
        motion = motion_between(self.detector, reduced(a), reduced(b), dtype=self.dtype)
        height, width = a.size
        return Motion(motion.dense(height, width), float(height), float(width))

    def _results(self, frames: Iterator[Frame], score: float) -> Iterator[Result]:
        joins = replace(tracker_named("default"), score=score)
        least = joins.least - 1e-6
        found = poses(self.detector, map(reduced, frames), 0, self.batch, dtype=self.dtype, min_score=least)
        for frame, people, *_ in tracked(found, joins, apart=True):
            yield self._result(frame, replace(people, ids=None))

    def _result(self, frame: Frame, people: Detections) -> Result:
        return Result(frame=frame, people=people, keypoint_names=self.keypoint_names, limbs=self.detector.limbs)


class PersonTracker:
    """Called with one frame after the other, it returns each one's `Result` with the ids of tracks."""

    def __init__(self, model: Model, tracker: Tracker):
        self.model, self._tracker = model, tracker
        self._tracks: Tracks = NONE
        self._count = 0
        self._last: Frame | None = None

    def __call__(self, image: ImageInput, time: float | None = None, *, bgr: bool | None = None) -> Result:
        """The people of the next frame, which is shown at `time` (seconds; by default 25 frames a second)."""
        (frame,) = frames_of([image], bgr)
        frame = replace(frame, index=self._count, time=self._count / IMAGE_RATE if time is None else time)
        pair = [frame] if self._last is None or not self._tracker.motion else [self._last, frame]
        *_, found = poses(
            self.model.detector,
            map(reduced, pair),
            dtype=self.model.dtype,
            motion=self._tracker.motion,
            min_score=self._tracker.least - 1e-6,
        )
        if self._last is not None and self._last.size != frame.size:
            self._tracks = replace(NONE, next_id=self._tracks.next_id)
        elapsed = 1.0 if self._last is None else (frame.time - self._last.time) * IMAGE_RATE
        self._tracks, people = follow(self._tracks, found.people, self._tracker, *frame.size, found.motion, elapsed)
        self._count, self._last = self._count + 1, frame
        return self.model._result(found.frame, people)


def _frames(
    video: str | Path | int | Images, bgr: bool | None, start: float, end: float | None, every: int, stack: ExitStack
) -> tuple[Iterable[Frame], float, bool]:
    """The frames of what `Model.track` is given, how many there are a second, and whether they come from a webcam."""
    if isinstance(video, (np.ndarray, torch.Tensor)):
        raise TypeError(f"a video is a {type(video).__name__}; give a name, or list(frames)")
    if not isinstance(video, (str, Path, int)):
        chosen = (frame for frame in frames_of(video, bgr) if start <= frame.time and (end is None or frame.time < end))
        return (frame for number, frame in enumerate(chosen) if number % every == 0), IMAGE_RATE, False
    (source, *others) = sources(str(video))
    if others:
        raise InputError(f"{video}: holds {1 + len(others)} videos; give them to track() one by one")
    clip = stack.enter_context(closing(open_clip(source)))
    frames = stack.enter_context(closing(clip.frames(start, end, every)))
    # What cannot be decoded is said before the network starts.
    return _told(chain([next(frames)], frames), clip), clip.fps, source.live


def _told(frames: Iterable[Frame], clip: Clip) -> Iterator[Frame]:
    """The frames; what was wrong with the video becomes a Python warning after the last."""
    yield from frames
    if clip.complaint:
        warnings.warn(clip.complaint, stacklevel=2)
