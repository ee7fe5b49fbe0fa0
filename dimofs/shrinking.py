"""Shrink huge frames while they are still uint8, which takes a quarter of the memory of float32."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# Frames whose longer side, or area, has more pixels are reduced to it. 4K video stays as it is.
LONGEST = 4096
AREA = 4096 * 2160


def shrunk_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) of a frame once its longer side is at most LONGEST and its area about AREA."""
    scale = min(LONGEST / max(height, width), math.sqrt(AREA / (height * width)))
    return (height, width) if scale >= 1 else (max(1, round(height * scale)), max(1, round(width * scale)))


def shrunk(pixels: np.ndarray) -> np.ndarray:
    """[H, W, 3] uint8 -> [h, w, 3] of `shrunk_size`; unchanged, not copied, if it has that size already."""
    if shrunk_size(*pixels.shape[:2]) == pixels.shape[:2]:
        return pixels
    small = shrunk_batch(torch.from_numpy(pixels).permute(2, 0, 1)[None])
    return small[0].permute(1, 2, 0).contiguous().numpy()


def shrunk_batch(images: Tensor) -> Tensor:
    """The same for [N, 3, H, W], uint8 (on a CPU) or floating point: bilinear, antialiased."""
    size = (images.shape[2], images.shape[3])
    small = shrunk_size(*size)
    return images if small == size else F.interpolate(images, size=small, mode="bilinear", antialias=True)


def sampled(images: Tensor, size: tuple[int, int]) -> Tensor:
    """F.interpolate(images / 255, size, mode="bilinear") of uint8 [N, 3, H, W]; the result is channels last.

    Only the pixels around each sample become floating point: of full HD frames a seventh of them.
    """
    (top, bottom, down), (left, right, across) = map(_neighbours, images.shape[2:], size)
    pixels = images.permute(0, 2, 3, 1)

    def row(numbers: Tensor) -> Tensor:
        line = pixels.index_select(1, numbers)
        return line.index_select(2, left).float().lerp_(line.index_select(2, right).float(), across[:, None])

    return row(top).lerp_(row(bottom), down[:, None, None]).div_(255).permute(0, 3, 1, 2)


def _neighbours(source: int, target: int) -> tuple[Tensor, Tensor, Tensor]:
    """The two pixels around each sample along an axis, by half-pixel centres, and the weight of the second one."""
    position = ((torch.arange(target) + 0.5) * (source / target) - 0.5).clamp(0, source - 1)
    first = position.long()
    return first, (first + 1).clamp(max=source - 1), position - first
