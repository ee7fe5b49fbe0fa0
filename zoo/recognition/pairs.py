"""The pairs of frames of a clip, and the features of their frames."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch

from dimofs.datasets.labelled_clips import ClipFault, ClipReader, LabelledClip
from dimofs.pixels import to_tensor
from dimofs.reader import count_frames
from dimofs.shrinking import shrunk
from dimofs.video import Frame
from dimofs.zoo.detection.box_detector import BoxDetector
from dimofs.zoo.detection.features import Features
from dimofs.zoo.training.feature_cache import FeatureCache

# Frames from A to B, as in the paper.
DELTA = 5
# Frames that pass the backbone at a time.
BATCH = 8


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
        return number % self.every == 0 or (number >= self.delta and (number - self.delta) % self.every == 0)


@dataclass(frozen=True, kw_only=True)
class ClipFeatures:
    """Features of some frames of a clip, float16. Numbers count from the clip's start.

    places: of each frame in `features`. length: frames of the clip; 0 if it cannot be used. fault: what is wrong.
    """

    features: Features | None
    places: dict[int, int]
    length: int
    fault: ClipFault | None

    def at(self, numbers: Sequence[int]) -> Features:
        """The features of these frames, float32. KeyError: a frame was not read."""
        assert self.features is not None
        places = torch.tensor([self.places[number] for number in numbers], dtype=torch.int64)
        return replace(self.features, levels=[level[places].float() for level in self.features.levels])


@torch.inference_mode()
def read_features(detector: BoxDetector, stored: FeatureCache, clip: LabelledClip, pairing: Pairing) -> ClipFeatures:
    """The features of all frames of a clip's pairs: those that are `stored`, or else one pass of the backbone.

    A clip that is damaged at its end is used as far as it decodes.
    """
    known = stored.numbers(clip.path) if clip.end is None else set()
    if known:
        length = max(0, count_frames(clip.path) - clip.start)
        wanted = sorted({b for a in pairing.numbers(length) for b in (a, a + pairing.delta)})
        if wanted and {clip.start + number for number in wanted} <= known:
            features = stored.features(clip.path, [clip.start + number for number in wanted])
            return ClipFeatures(features=_half(features), places=_places(wanted), length=length, fault=None)
    reader = ClipReader(clip, least=pairing.delta + 1)
    frames = (replace(frame, index=frame.index - clip.start) for frame in reader)
    return replace(pair_features(detector, frames, pairing), fault=reader.fault)


@torch.inference_mode()
def pair_features(detector: BoxDetector, frames: Iterable[Frame], pairing: Pairing) -> ClipFeatures:
    """The features of those frames that pairs need, of all frames of a clip, whose indices count from 0."""
    device = next(detector.parameters()).device
    parts, numbers, length = list[Features](), list[int](), 0

    def needed() -> Iterator[Frame]:
        nonlocal length
        for frame in frames:
            length = frame.index + 1
            if pairing.reads(frame.index):
                yield frame

    chosen = needed()
    while group := list(islice(chosen, BATCH)):
        pixels = torch.stack([to_tensor(shrunk(frame.pixels)) for frame in group]).to(device)
        parts.append(_half(detector.features(pixels, frame_size=group[0].size)))
        numbers += [frame.index for frame in group]
    usable = length > pairing.delta
    return ClipFeatures(
        features=Features.cat(parts) if usable else None,
        places=_places(numbers),
        length=length if usable else 0,
        fault=None,
    )


def read_pixels(clip: LabelledClip, numbers: Collection[int]) -> dict[int, np.ndarray]:
    """Frames of a clip by number, [H, W, 3] uint8 RGB."""
    frames = ((frame.index - clip.start, frame.pixels) for frame in ClipReader(clip))
    return {number: pixels for number, pixels in frames if number in numbers}


def _half(features: Features) -> Features:
    return replace(features, levels=[level.half().cpu() for level in features.levels])


def _places(numbers: Sequence[int]) -> dict[int, int]:
    return {number: place for place, number in enumerate(numbers)}
