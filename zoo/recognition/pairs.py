"""The pairs of frames of a clip, and the features of their frames as they come one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
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
def through_backbone(detector: BoxDetector, frames: Iterable[tuple[T, Frame]]) -> Iterator[tuple[T, SeenFrame]]:
    """The features of the frames of any number of clips, in order, each with what it came with.

    Frames that follow one another and have one size pass the backbone together, of whichever clips they are. So as
    many frames as a batch has are read ahead.
    """
    device = next(detector.parameters()).device
    size = BATCH if device.type == "cpu" else GPU_BATCH
    for (frame_size, _), same in groupby(frames, lambda pair: (pair[1].size, pair[1].pixels.shape)):
        while group := list(islice(same, size)):
            pixels = torch.stack([to_tensor(shrunk(frame.pixels)) for _, frame in group]).to(device)
            features = halved(detector.features(pixels, frame_size=frame_size))
            for place, (owner, frame) in enumerate(group):
                yield owner, SeenFrame(frame.index, features[place : place + 1], frame.pixels)


def halved(features: Features) -> Features:
    """The features as float16 on the CPU."""
    return replace(features, levels=[level.half().cpu() for level in features.levels])


def joined(frames: Sequence[SeenFrame], device: torch.device) -> Features:
    """The features of frames of one size, float32 on the device."""
    whole = Features.cat([frame.features for frame in frames])
    return replace(whole, levels=[level.to(device).float() for level in whole.levels])
