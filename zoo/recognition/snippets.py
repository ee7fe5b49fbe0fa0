"""What recognition's peers read of a clip, each kept on disk: snippets for TSN and TRN (features of single frames, and
optical flow), and pixels for 3-d networks.

Of a clip that cannot be used all numbers are zero; `features` reports it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dimofs.cli import InputError
from dimofs.datasets.labelled_clips import ClipReader, LabelledClip
from dimofs.flow import farneback
from dimofs.pixels import to_tensor
from dimofs.reader import count_frames
from dimofs.shrinking import shrunk
from dimofs.zoo.detection.box_detector import BoxDetector
from dimofs.zoo.recognition.tsn import SEGMENTS, segment_numbers
from dimofs.zoo.training.action_streams import kept
from dimofs.zoo.training.feature_cache import FeatureCache

# Frames from A to B of a snippet's flow, the width of frames that it is computed on, and the side of its grid.
FLOW_FRAMES, FLOW_SIDE, FLOW_CELLS = 5, 160, 7
# The version of the files.
VERSION = 1


class Snippets:
    """Snippets and pixels of clips, from `folder` where they are known.

    detector: its frozen backbone sees the frames. every: frames of snippets are chosen among each `every`-th one, whose
    features may be in the folder already.
    """

    def __init__(self, detector: BoxDetector, folder: str | Path, *, segments: int = SEGMENTS, every: int = 1):
        self.detector, self.folder = detector, Path(folder)
        self.segments, self.every = segments, every
        self.stored = FeatureCache(folder, detector)

    def rgb(self, clip: LabelledClip) -> Tensor:
        """[K, D]: the mean and the maximum over each level of the pyramid, in the frame of each segment."""

        def compute(numbers: Sequence[int]) -> Tensor:
            pooled = [x for level in self._levels(clip, numbers) for x in (level.mean((2, 3)), level.amax((2, 3)))]
            return torch.cat(pooled, 1).half()

        return self._of_segments(clip, "snippets", compute)

    def flow(self, clip: LabelledClip) -> Tensor:
        """[K, 3 * cells * cells]: Farneback's flow (dx, dy, length) from the frame of each segment to a later one, in
        pixels, averaged over a grid. InputError: OpenCV is not installed."""

        def compute(numbers: Sequence[int]) -> Tensor:
            last = self._length(clip) - 1
            later = [min(number + FLOW_FRAMES, last) for number in numbers]
            frames = {n: _resized(x, FLOW_SIDE) for n, x in _pixels(clip, {*numbers, *later}).items()}
            return torch.stack([_flow_grid(frames[a], frames[b]) for a, b in zip(numbers, later, strict=True)]).half()

        return self._of_segments(clip, "flow", compute)

    def pixels(self, clip: LabelledClip, frames: int, side: int) -> Tensor:
        """[3, frames, side, side] uint8 RGB: evenly spaced frames, each squeezed to a square."""

        def compute() -> Tensor:
            length = self._length(clip)
            if not length:
                return torch.zeros(3, frames, side, side, dtype=torch.uint8)
            numbers = segment_numbers(length, frames)
            read = {number: _resized(x, side, side) for number, x in _pixels(clip, set(numbers)).items()}
            return torch.from_numpy(np.stack([read[number] for number in numbers])).permute(3, 0, 1, 2)

        return self._kept(clip, f"pixels {frames} {side}", compute)

    def _of_segments(self, clip: LabelledClip, what: str, compute: Callable[[Sequence[int]], Tensor]) -> Tensor:
        """What is computed of some frames, for each segment: [K, D]."""

        def of_all() -> Tensor:
            places = segment_numbers(-(-self._length(clip) // self.every) or 1, self.segments)
            if not self._length(clip):
                return torch.zeros(0, 0)
            distinct, which = np.unique(places, return_inverse=True)
            return compute((self.every * distinct).tolist())[torch.from_numpy(which)]

        return self._kept(clip, f"{what} {self.segments} {self.every}", of_all)

    def _kept(self, clip: LabelledClip, what: str, compute: Callable[[], Tensor]) -> Tensor:
        try:
            source = self.stored.file(clip.path).name
        except InputError:
            return compute()
        key = f"peers {VERSION} {what} {clip.start} {clip.end} {source}"
        return kept(self.folder, key, lambda: {"x": compute()})["x"]

    @torch.inference_mode()
    def _levels(self, clip: LabelledClip, numbers: Sequence[int]) -> list[Tensor]:
        """The pyramid of some frames, from disk if all of them are there."""
        in_file = [clip.start + number for number in numbers]
        if set(in_file) <= self.stored.numbers(clip.path):
            return self.stored.features(clip.path, in_file).levels
        frames = _pixels(clip, set(numbers))
        device = next(self.detector.parameters()).device
        images = torch.stack([to_tensor(shrunk(frames[number])) for number in numbers]).to(device)
        return [level.cpu() for level in self.detector.features(images).levels]

    def _length(self, clip: LabelledClip) -> int:
        """The frames of a clip; 0 if it cannot be used."""
        try:
            length = max(0, count_frames(clip.path) - clip.start)
        except InputError:
            return 0
        return length if clip.end is None else min(length, clip.end - clip.start)


def stacked(parts: Sequence[Tensor]) -> Tensor:
    """Inputs of clips as one tensor [N, ...]; those that are empty are zeros of the others' shape.

    InputError: all are empty.
    """
    shape = next((part.shape for part in parts if part.numel()), None)
    if shape is None:
        raise InputError("no clip can be used; see the faults above")
    return torch.stack([part if part.numel() else part.new_zeros(shape) for part in parts])


def _pixels(clip: LabelledClip, numbers: Collection[int]) -> dict[int, np.ndarray]:
    """Frames of a clip by number from its start, [H, W, 3] uint8 RGB. The last one stands in for those that a damaged
    clip lacks at its end. InputError: none decodes."""
    found: dict[int, np.ndarray] = {}
    last = None
    for frame in ClipReader(clip):
        last = frame.pixels
        if frame.index - clip.start in numbers:
            found[frame.index - clip.start] = last
    if last is None:
        raise InputError(f"{clip.path}: no frame decodes; leave the clip out")
    return {number: found.get(number, last) for number in numbers}


def _resized(frame: np.ndarray, width: int, height: int | None = None) -> np.ndarray:
    """The frame [H, W, 3] at this width, and by default in its shape."""
    height = height or max(1, round(width * frame.shape[0] / frame.shape[1]))
    x = F.interpolate(to_tensor(frame)[None].float(), (height, width), mode="bilinear", antialias=True)
    return x[0].permute(1, 2, 0).round().clamp(0, 255).byte().numpy()


def _flow_grid(a: np.ndarray, b: np.ndarray) -> Tensor:
    flow = farneback(a, b).flow
    fields = torch.cat((flow, flow.norm(dim=0, keepdim=True)))
    return F.adaptive_avg_pool2d(fields, FLOW_CELLS).flatten()
