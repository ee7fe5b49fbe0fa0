"""Random colours and sharpness, the same for both frames of a pair."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# The weights of red, green and blue in the luma of BT.601.
_LUMA = torch.tensor((0.299, 0.587, 0.114))


@dataclass(frozen=True)
class Colours:
    """Random changes of colour and sharpness.

    brightness, contrast, saturation: each is a factor drawn uniformly from 1 - value to 1 + value.
    tint:     the same, with one factor for each channel.
    grey:     share of pairs made grey.
    blur:     share of pairs that are shrunk and enlarged again.
    coarsest: largest factor by which they are shrunk; it is drawn uniformly from 1.3 up.
    """

    brightness: float = 0.25
    contrast: float = 0.25
    saturation: float = 0.4
    tint: float = 0.08
    grey: float = 0.05
    blur: float = 0.15
    coarsest: float = 3.0

    def __call__(self, frames: Tensor, random: np.random.Generator) -> Tensor:
        """[N, 3, H, W] float in 0..255 -> the same shape and range, rounded."""

        def factor(spread: float, count: int = 1) -> Tensor:
            return torch.from_numpy(random.uniform(1 - spread, 1 + spread, count)).float()

        saturation = factor(self.saturation) if random.random() >= self.grey else torch.zeros(1)
        matrix = saturation * torch.eye(3) + (1 - saturation) * _LUMA
        matrix = factor(self.brightness) * factor(self.tint, 3)[:, None] * matrix
        contrast, mean = factor(self.contrast), frames[..., ::8, ::8].mean(dim=(0, 2, 3))
        start = (1 - contrast) * (matrix @ mean)
        coloured = torch.matmul(contrast * matrix, frames.flatten(2)).add_(start[:, None]).view_as(frames)
        if random.random() < self.blur:
            coloured = _coarser(coloured, random.uniform(1.3, self.coarsest))
        return coloured.round_().clamp_(0, 255)


def _coarser(frames: Tensor, by: float) -> Tensor:
    """The frames shrunk by the factor `by` and enlarged again."""
    height, width = frames.shape[2:]
    small = (max(round(height / by), 1), max(round(width / by), 1))
    shrunk = F.interpolate(frames, small, mode="bilinear", antialias=True)
    return F.interpolate(shrunk, (height, width), mode="bilinear")
