"""From frames in [0, 1] to what a backbone reads: normalized, resized, padded; and its boxes and joints back."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIDE = 32  # inputs are padded to whole cells of the coarsest pyramid level


class Preprocess(nn.Module):
    """(x - mean) / std, the shorter side resized to `min_size` unless the longer would pass `max_size` (bilinear,
    half-pixel centres), zero padding at the right and bottom to a multiple of 32; channels last in memory, as
    convolutions on a CPU like it."""

    mean: Tensor
    std: Tensor

    def __init__(self, min_size: int, max_size: int, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.min_size, self.max_size = min_size, max_size
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of a frame after resizing."""
        scale = min(self.min_size / min(height, width), self.max_size / max(height, width))
        return max(1, math.floor(height * scale)), max(1, math.floor(width * scale))

    def forward(self, images: Tensor, resize: bool = True) -> tuple[Tensor, tuple[int, int]]:
        """Images [N, 3, H, W] in [0, 1] -> padded [N, 3, H', W'], and (height, width) before the padding."""
        height, width = images.shape[-2:]
        size = self.size(height, width) if resize else (height, width)
        if size != (height, width):
            images = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
        images = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        return F.pad(images, (0, -size[1] % STRIDE, 0, -size[0] % STRIDE)), size
