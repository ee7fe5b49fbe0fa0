"""Optical flow by OpenCV: the methods that the model's motion is compared with, and how far two fields are apart.

    motion = farneback(frame_a, frame_b)          # a `dimofs.motion.Motion`, like `detector.motion`
    error = endpoint_error(motion.flow, truth)

OpenCV is an optional dependency: pip install 'dimofs[eval]'.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from dimofs.cli import InputError
from dimofs.motion import Motion

# Farneback's arguments in OpenCV's own example: pyramid scale, levels, window, iterations, neighbourhood and its
# Gaussian, flags.
FARNEBACK = (0.5, 3, 15, 3, 5, 1.2, 0)
# OpenCV's DIS refuses images below 12 pixels, and ends the process on some whose longer side is many times the shorter
# (12 x 40), as its pyramid then has too many levels. So frames are padded to these sides.
LEAST_SIDE, LARGEST_RATIO = 16, 8
# Contrast is stretched so that these percentiles of both frames become black and white.
BLACK, WHITE = 1.0, 99.0

FlowMethod = Callable[[np.ndarray, np.ndarray], Motion]


def farneback(frame_a: np.ndarray, frame_b: np.ndarray) -> Motion:
    """Farneback's flow (2003) between two frames [H, W, 3] uint8 RGB, whose contrast is stretched first.

    Without that it finds no motion where contrast is low. ValueError: the frames are something else or differ in size.
    InputError: OpenCV is missing.
    """
    cv2 = load_opencv()
    a, b = stretched(*_grey(frame_a, frame_b))
    return _motion(cv2.calcOpticalFlowFarneback(a, b, None, *FARNEBACK), frame_a)


def dis(frame_a: np.ndarray, frame_b: np.ndarray) -> Motion:
    """DIS flow (Kroeger et al., 2016), OpenCV's medium preset; arguments and errors as of `farneback`."""
    cv2 = load_opencv()
    height, width = frame_a.shape[:2]
    least = max(LEAST_SIDE, -(-max(height, width) // LARGEST_RATIO))
    fill = ((0, max(0, least - height)), (0, max(0, least - width)))
    a, b = (np.pad(grey, fill, mode="edge") for grey in _grey(frame_a, frame_b))
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(a, b, None)
    return _motion(flow[:height, :width], frame_a)


METHODS: dict[str, FlowMethod] = {"farneback": farneback, "dis": dis}


def load_opencv() -> ModuleType:
    """The module cv2. InputError: it is not installed."""
    try:
        import cv2
    except ImportError as error:
        raise InputError("optical flow needs OpenCV: pip install 'dimofs[eval]'") from error
    return cv2


def stretched(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two grey images [H, W] uint8 with their common 1st and 99th percentiles stretched to 0 and 255.

    Images of one grey stay as they are.
    """
    low, high = np.percentile(np.stack((a, b)), (BLACK, WHITE))
    if high <= low:
        return a, b
    table = np.clip((np.arange(256) - low) * (255 / (high - low)), 0, 255).round().astype(np.uint8)
    return table[a], table[b]


def endpoint_error(flow: Tensor, truth: Tensor) -> float:
    """The mean distance between two fields [2, H, W], in their unit, where both are known (not NaN); NaN if nowhere.

    ValueError: the shapes differ.
    """
    if flow.shape != truth.shape:
        raise ValueError(f"the fields have shapes {[*flow.shape]} and {[*truth.shape]}; expected the same")
    distance = (flow - truth).norm(dim=0)
    return distance[distance.isfinite()].mean().item()


def _grey(frame_a: np.ndarray, frame_b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    for frame in (frame_a, frame_b):
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise ValueError(f"a frame is {frame.dtype} {[*frame.shape]}; expected uint8 [height, width, 3]")
    if frame_a.shape != frame_b.shape:
        sizes = " and ".join(f"{frame.shape[1]} x {frame.shape[0]}" for frame in (frame_a, frame_b))
        raise ValueError(f"the frames have {sizes} pixels; expected the same size")
    cv2 = load_opencv()
    return cv2.cvtColor(frame_a, cv2.COLOR_RGB2GRAY), cv2.cvtColor(frame_b, cv2.COLOR_RGB2GRAY)


def _motion(flow: np.ndarray, frame: np.ndarray) -> Motion:
    height, width = frame.shape[:2]
    return Motion(torch.from_numpy(np.ascontiguousarray(flow.transpose(2, 0, 1))), float(height), float(width))
