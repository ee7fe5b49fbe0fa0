"""Dense estimates of motion between two frames, by name: the detector's, a random offset net's, and OpenCV's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dimofs.eval.flow.estimators import random_offset_net
from dimofs.flow import METHODS
from dimofs.motion import Motion
from dimofs.zoo.detection.box_detector import in_frame
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.features import Features
from dimofs.zoo.detection.motion_readout import MotionReadout
from dimofs.zoo.detection.offsets import OffsetNet
from dimofs.zoo.detection.pyramid_matching import POOLS

NAMES = {
    "zero": "no motion",
    "farneback": "Farneback, contrast stretched",
    "dis": "DIS",
    "detector": "detector.motion",
    "random": "both, random offset net",
}


@dataclass(frozen=True)
class View:
    """A frame [H, W, 3] uint8 RGB and its features."""

    pixels: np.ndarray
    features: Features


Method = Callable[[View, View], Motion]


def views(detector: PoseDetector, frames: np.ndarray, batch: int = 8) -> list[View]:
    """The frames [T, H, W, 3] with their features."""
    found = []
    with torch.inference_mode():
        for start in range(0, len(frames), batch):
            part = frames[start : start + batch]
            features = detector.features(torch.from_numpy(part).permute(0, 3, 1, 2))
            found += [View(pixels, features[i : i + 1]) for i, pixels in enumerate(part)]
    return found


def read_out(weights: Tensor, mask: Tensor | None = None) -> MotionReadout:
    """The read-out of weights [2, F], as `dimofs.eval.flow.fitting` finds them."""
    split = weights.shape[1] - 2 * len(POOLS)
    return MotionReadout(weights[:, :split].contiguous(), weights[:, split:].contiguous(), mask)


def methods(detector: PoseDetector, fitted: dict[str, Tensor], channels: int) -> dict[str, Method]:
    """The methods of NAMES. fitted: weights by the names of `estimators.ROWS`; channels: of the pyramid."""
    control = random_offset_net(channels)
    randomly = read_out(fitted["random both"])

    def opencv(name: str) -> Method:
        return lambda a, b: METHODS[name](a.pixels, b.pixels)

    return {
        "zero": lambda a, b: Motion(torch.zeros(2, 1, 1), float(a.pixels.shape[0]), float(a.pixels.shape[1])),
        "farneback": opencv("farneback"),
        "dis": opencv("dis"),
        "detector": lambda a, b: detector.motion(a.features, b.features)[0],
        "random": lambda a, b: _read(randomly, control, a.features, b.features),
    }


def _read(readout: MotionReadout, net: OffsetNet, a: Features, b: Features) -> Motion:
    """The motion that a read-out finds in another offset net's DiMoFs."""
    return in_frame(readout(a.levels, b.levels, net(a.levels, b.levels)), a.geometry)[0]
