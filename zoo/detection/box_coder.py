"""Boxes as offsets from reference boxes, the regression targets of Faster R-CNN (Ren et al., section 3.1.2)."""

import math

import torch
from torch import Tensor

# Keeps exp() of an untrained head's output finite.
MAX_LOG_SCALE = math.log(1000 / 16)


def _centers(boxes: Tensor) -> tuple[Tensor, Tensor]:
    size = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + 0.5 * size, size


def encode(boxes: Tensor, references: Tensor, weights: Tensor) -> Tensor:
    """Targets (dx, dy, dw, dh) from `references` [..., 4] to `boxes` [..., 4], multiplied by `weights` [4]."""
    center, size = _centers(boxes)
    origin, scale = _centers(references)
    return torch.cat(((center - origin) / scale, torch.log(size / scale)), dim=-1) * weights


def decode(targets: Tensor, references: Tensor, weights: Tensor) -> Tensor:
    """The inverse of `encode`; scales are limited to 1000 / 16."""
    origin, scale = _centers(references)
    targets = targets / weights
    center = targets[..., :2] * scale + origin
    half = 0.5 * (torch.exp(targets[..., 2:].clamp(max=MAX_LOG_SCALE)) * scale)
    return torch.cat((center - half, center + half), dim=-1)
