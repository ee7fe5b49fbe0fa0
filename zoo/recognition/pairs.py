"""The pairs of frames of a clip, and the features of their frames as they come one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch

from dimofs.pixels import to_tensor
from dimofs.shrinking import shrunk
from dimofs.video import Frame
from dimofs.zoo.detection.box_detector import BoxDetector
from dimofs.zoo.detection.features import Features

# Frames from A to B, as in the paper.
DELTA = 5
# Frames that pass the backbone at a time, on a CPU and on a GPU.
BATCH, GPU_BATCH = 8, 64

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """The pairs of a clip: each Frame A is one of every `every`-th frame, and its Frame B comes `delta` later."""

    every: int = 1
    delta: int = DELTA

    def numbers(self, length: int) -> list[int]:
        """The numbers of all Frames A of a clip of `length` frames."""
        return list(range(0, length - self.delta, self.every))

    def reads(self, number: int) -> bool:
        """Whether a frame of this number belongs to a pair, if the clip is long enough."""
        return number % self.every == 0 or self.ends(number)

    def ends(self, number: int) -> bool:
        """Whether a frame of this number is the second of a pair."""
        return number >= self.delta and (number - self.delta) % self.every == 0


@dataclass(frozen=True)
class SeenFrame:
    """A frame of a clip.

    number: counted from the clip's start. features: of this frame alone, float16, on the CPU. pixels: [H, W, 3] uint8
    RGB, None where nobody asks for them.
    """

    number: int
    features: Features
    pixels: np.ndarray | None = None


@torch.inference_mode()
def through_backbone(
    detector: BoxDetector, frames: Iterable[tuple[T, Frame | SeenFrame | None]]
) -> Iterator[tuple[T, SeenFrame | None]]:
    """The features of the frames of any number of clips, in order, each with what it came with.

    Frames of one size pass the backbone together, of whichever clips they are, so some are read ahead. What is no
    Frame keeps its place among them and is given as it is.
    """
    device = next(detector.parameters()).device
    size = BATCH if device.type == "cpu" else GPU_BATCH
    waiting: list[tuple[T, Frame | SeenFrame | None]] = []
    for owner, frame in frames:
        unseen = [one for _, one in waiting if isinstance(one, Frame)]
        if isinstance(frame, Frame) and unseen and _sizes(unseen[0]) != _sizes(frame):
            yield from _flushed(detector, waiting)
            waiting, unseen = [], []
        waiting.append((owner, frame))
        count = len(unseen) + isinstance(frame, Frame)
        if count in (0, size) or len(waiting) == 2 * size:
            yield from _flushed(detector, waiting)
            waiting = []
    yield from _flushed(detector, waiting)


def alone(detector: BoxDetector, frames: Iterable[Frame]) -> Iterator[SeenFrame]:
    """The frames of one clip after the backbone."""
    for _, frame in through_backbone(detector, ((None, frame) for frame in frames)):
        assert frame is not None
        yield frame


def _sizes(frame: Frame) -> tuple[tuple[int, int], tuple[int, ...]]:
    return frame.size, frame.pixels.shape


def _flushed(
    detector: BoxDetector, waiting: Sequence[tuple[T, Frame | SeenFrame | None]]
) -> Iterator[tuple[T, SeenFrame | None]]:
    """One pass of the backbone over those of `waiting` that need it, which have one size."""
    frames = [one for _, one in waiting if isinstance(one, Frame)]
    seen = iter(_seen_by(detector, frames) if frames else ())
    for owner, one in waiting:
        yield owner, next(seen) if isinstance(one, Frame) else one


def _seen_by(detector: BoxDetector, frames: Sequence[Frame]) -> list[SeenFrame]:
    device = next(detector.parameters()).device
    pixels = torch.stack([to_tensor(shrunk(frame.pixels)) for frame in frames]).to(device)
    features = halved(detector.features(pixels, frame_size=frames[0].size))
    return [SeenFrame(frame.index, features[at : at + 1], frame.pixels) for at, frame in enumerate(frames)]


def halved(features: Features) -> Features:
    """The features as float16 on the CPU."""
    return replace(features, levels=[level.half().cpu() for level in features.levels])


def joined(frames: Sequence[SeenFrame], device: torch.device) -> Features:
    """The features of frames of one size, float32 on the device."""
    whole = Features.cat([frame.features for frame in frames])
    return replace(whole, levels=[level.to(device).float() for level in whole.levels])
