"""A 2-d backbone inflated to 3-d over short clips, as in I3D (Carreira and Zisserman, CVPR 2017, section 2.4).

Each convolution of more than one pixel becomes one over `depth` frames too, its weights divided by `depth` and
repeated: a clip of equal frames has the features of its frame. Convolutions of one pixel stay within their frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor, nn

from dimofs.pixels import to_tensor
from dimofs.reader import read_frames
from dimofs.zoo.detection.box_detector import BoxDetector

# Frames of a clip, how many frames apart they are, and how many of them a convolution sees.
FRAMES, STRIDE, DEPTH = 4, 3, 3


class InflatedConv(nn.Module):
    """A convolution over the frames of clips that follow one another in a batch, [N * T, C, H, W], T frames a clip.

    It is written as the sum of a 2-d convolution of each frame around, so that any kind of padding is kept. At the ends
    of a clip its first and last frame stand in for those beyond.
    """

    def __init__(self, conv: nn.Conv2d, frames: int, depth: int):
        super().__init__()
        self.frames = frames
        self.taps = nn.ModuleList(deepcopy(conv) for _ in range(depth))
        with torch.no_grad():
            for parameter in self.taps.parameters():
                parameter.div_(depth)

    def forward(self, x: Tensor) -> Tensor:
        number = torch.arange(len(x), device=x.device)
        place, start = number % self.frames, number - number % self.frames
        shifts = range(-(len(self.taps) // 2), len(self.taps) // 2 + 1)
        around = [x[start + (place + shift).clamp(0, self.frames - 1)] for shift in shifts]
        return torch.stack([tap(frames) for tap, frames in zip(self.taps, around, strict=True)]).sum(0)


def inflate(backbone: nn.Module, frames: int, depth: int = DEPTH) -> nn.Module:
    """A copy of `backbone` whose convolutions see `depth` frames of clips of `frames`; both stay batches of frames.

    ValueError: `depth` is even, or there is no frame.
    """
    if depth % 2 == 0 or frames < 1:
        raise ValueError(f"depth {depth}, frames {frames}: expected an odd depth and at least one frame")
    copy = deepcopy(backbone)
    _inflate_parts(copy, frames, depth)
    return copy


def _inflate_parts(module: nn.Module, frames: int, depth: int) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d) and max(child.kernel_size) > 1:
            setattr(module, name, InflatedConv(child, frames, depth))
        else:
            _inflate_parts(child, frames, depth)


@torch.inference_mode()
def clip_features(detector: BoxDetector, path: Path, numbers: Sequence[int], length: int) -> list[Tensor]:
    """Levels [F, C, h, w] of clips of a video that begin at the frames `numbers`, averaged over their frames.

    The detector's backbone is inflated over four frames three apart, limited to the video's `length`.
    """
    inflated = inflate(detector.backbone, FRAMES)
    wanted = [[min(number + STRIDE * i, length - 1) for i in range(FRAMES)] for number in numbers]
    distinct = sorted({number for clip in wanted for number in clip})
    frames = dict(zip(distinct, map(to_tensor, read_frames(path, distinct)), strict=True))
    levels = []
    for clip in wanted:
        inputs, _ = detector.preprocess(torch.stack([frames[number] for number in clip]))
        levels.append([level.mean(0, keepdim=True) for level in inflated(inputs)])
    return [torch.cat(same) for same in zip(*levels, strict=True)]
