"""Poses of a clip as its frames come: each frame passes the backbone once, whatever delta is."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from itertools import chain, groupby, islice
from typing import NamedTuple

import numpy as np
import torch

from dimofs.detections import Detections
from dimofs.motion import Motion
from dimofs.video import Frame
from dimofs.zoo.detector import Features, PoseDetector


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
) -> Generator[Found]:
    """What is found in every frame, in order; `batch` frames go through the network together.

    Frame B is the frame `delta` after Frame A, or the clip's first or last one where that is nearer. Features of
    |delta| + `batch` frames are kept. Frames of another size begin a new clip, whose first frame has no `motion`.
    Networks run in `dtype` by autocast.
    """
    for _, clip in groupby(frames, key=lambda frame: frame.pixels.shape):
        yield from _clip_poses(detector, clip, delta, batch, dtype, motion)


def _clip_poses(detector, clip: Iterator[Frame], delta: int, batch: int, dtype: torch.dtype, motion: bool):
    features: Features | None = None  # of the frames `low` to `total`
    low = done = total = 0
    waiting: deque[Frame] = deque()  # the frames `done` to `total`
    for group in chain(iter(lambda: list(islice(clip, batch)), []), [[]]):  # the last, empty group: the clip has ended
        if group:
            new = _features(detector, group, dtype)
            features = new if features is None else Features.cat([features, new])
            waiting.extend(group)
            total += len(group)
        ready = total - max(delta, 0) if group else total
        if features is not None and ready > done:
            a, b = features[done - low : ready - low], None
            if delta:
                partners = (min(max(i + delta, 0), total - 1) - low for i in range(done, ready))
                b = Features.cat([features[i : i + 1] for i in partners])
            moves: list[Motion | None] = [None] * (ready - done)
            if motion and (first := max(done, 1)) < ready:
                before = features[first - 1 - low : ready - 1 - low]
                moves[first - done :] = _motion(detector, before, features[first - low : ready - low], dtype)
            for people, move in zip(_detect(detector, a, b, dtype), moves, strict=True):
                yield Found(waiting.popleft(), people, move)
            done = ready
        keep = max(low, done + min(delta, -1 if motion else 0))
        features = features[keep - low :] if features is not None and keep < total else None
        low = keep


@torch.inference_mode()
def _features(detector: PoseDetector, frames: list[Frame], dtype: torch.dtype) -> Features:
    device = next(detector.parameters()).device
    pixels = torch.from_numpy(np.stack([frame.pixels for frame in frames])).to(device)
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        return detector.features(pixels.permute(0, 3, 1, 2) / 255)


@torch.inference_mode()
def _detect(detector: PoseDetector, a: Features, b: Features | None, dtype: torch.dtype) -> list[Detections]:
    with torch.autocast(a.levels[0].device.type, dtype, enabled=dtype != torch.float32):
        return [people.to("cpu", torch.float32) for people in detector.detect(a, b)]


@torch.inference_mode()
def _motion(detector: PoseDetector, a: Features, b: Features, dtype: torch.dtype) -> list[Motion]:
    with torch.autocast(a.levels[0].device.type, dtype, enabled=dtype != torch.float32):
        return [Motion(m.flow.cpu(), m.height, m.width) for m in detector.motion(a, b)]
