"""A 2-d backbone inflated to 3-d over short clips, as in I3D (Carreira and Zisserman, CVPR 2017, section 2.4).

Each convolution of more than one pixel becomes one over `depth` frames too, its weights divided by `depth` and
repeated: a clip of equal frames has the features of its frame. Convolutions of one pixel stay within their frame. The
backbone is not trained on clips, so that the weights of all frames stay equal, and a convolution over frames is the
2-d one of their mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dimofs.pixels import to_tensor
from dimofs.reader import read_frames
from dimofs.zoo.backbones.activated import CONVOLUTIONS
from dimofs.zoo.detection.box_detector import BoxDetector

# Frames of a clip, how many frames apart they are, and how many of them a convolution sees.
FRAMES, STRIDE, DEPTH = 4, 3, 3


class Inflated(TorchDispatchMode):
    """A block in which all 2-d convolutions are inflated, of whichever modules: maps [N * T, C, H, W] are clips of T
    `frames`. At the ends of a clip its first and last frame stand in for those beyond.

    ValueError: `depth` is even, or there is no frame.
    """

    def __init__(self, frames: int, depth: int = DEPTH):
        super().__init__()
        if depth % 2 == 0 or frames < 1:
            raise ValueError(f"depth {depth}, frames {frames}: expected an odd depth and at least one frame")
        self.frames, self.depth = frames, depth

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in CONVOLUTIONS and max(args[1].shape[2:]) > 1:
            args = (self.around(args[0]), *args[1:])
        return func(*args, **(kwargs or {}))

    def around(self, x: Tensor) -> Tensor:
        """The mean of each frame and those around it."""
        reach, last, found = self.depth // 2, self.frames - 1, torch.empty_like(x)
        for place in range(self.frames):
            seen = [x[min(max(near, 0), last) :: self.frames] for near in range(place - reach, place + reach + 1)]
            found[place :: self.frames] = sum(seen) / self.depth
        return found


@torch.inference_mode()
def clip_features(detector: BoxDetector, path: Path, numbers: Sequence[int], length: int) -> list[Tensor]:
    """Levels [F, C, h, w] of clips of a video that begin at the frames `numbers`, averaged over their frames.

    The detector's backbone is inflated over four frames three apart, limited to the video's `length`.
    """
    wanted = [[min(number + STRIDE * i, length - 1) for i in range(FRAMES)] for number in numbers]
    distinct = sorted({number for clip in wanted for number in clip})
    frames = dict(zip(distinct, map(to_tensor, read_frames(path, distinct)), strict=True))
    levels = []
    for clip in wanted:
        inputs, _ = detector.preprocess(torch.stack([frames[number] for number in clip]))
        with Inflated(FRAMES):
            levels.append([level.mean(0, keepdim=True) for level in detector.backbone(inputs)])
    return [torch.cat(same) for same in zip(*levels, strict=True)]
