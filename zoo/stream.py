"""Poses of a clip as its frames come: each frame passes the backbone once, whatever delta is."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from itertools import chain, groupby, islice

import numpy as np
import torch

from dimofs.detections import Detections
from dimofs.video import Frame
from dimofs.zoo.detector import Features, PoseDetector


def poses(
    detector: PoseDetector, frames: Iterable[Frame], delta: int = 0, batch: int = 1, dtype: torch.dtype = torch.float32
) -> Generator[tuple[Frame, Detections]]:
    """Every frame with its people (on the CPU, float32), in order; `batch` frames go through the network together.

    Frame B is the frame `delta` after Frame A, or the clip's first or last one where that is nearer. Features of
    |delta| + `batch` frames are kept. Frames of another size begin a new clip. Networks run in `dtype` by autocast.
    """
    for _, clip in groupby(frames, key=lambda frame: frame.pixels.shape):
        yield from _clip_poses(detector, clip, delta, batch, dtype)


def _clip_poses(detector, clip: Iterator[Frame], delta: int, batch: int, dtype: torch.dtype):
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
            for people in _detect(detector, a, b, dtype):
                yield waiting.popleft(), people
            done = ready
        keep = max(low, done + min(delta, 0))
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
