"""Motion by matching: where the features around each pixel of Frame A are found in Frame B. Nothing here is learned.

    score(p, u) = SHARPNESS <f_A(p), f_B(p + u)> - STAY |u|^2

for displacements u within RADIUS cells of the P3 grid. f is the features of P2..P5 there, each level of unit length and
weighted by LEVELS, so that <f, f> = 1. The field is the mean of u under softmax(score). There are two fields: one whose
similarities are those of p itself, one with their means over the 7 x 7 cells around p, which is smoother.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dimofs.kernels.correlate import correlate
from dimofs.zoo.detection.fields import pooled_to

LEVELS = (0.5, 1.0, 0.5, 0.5)
RADIUS, STAY = 10, 0.03
# Sharpness by the side of the neighbourhood, in cells.
POOLS = {1: 80.0, 7: 160.0}
# Pixels of the network's input per cell of P3.
CELL = 8


def matching_fields(levels_a: Sequence[Tensor], levels_b: Sequence[Tensor]) -> Tensor:
    """P2..P5 of N frames A and B -> [N, 2K, h, w] on the grid of P3, (dy, dx) in its cells for each of the K POOLS.

    From each field that of matching A with itself is subtracted, so that equal frames have not moved.
    """
    a, b = embedded(levels_a), embedded(levels_b)
    # Frames A that are one frame, repeated, are matched with themselves once.
    one = a[:1] if levels_a[0].stride(0) == 0 else a
    return _fields(a, b) - _fields(one, one)


def embedded(levels: Sequence[Tensor]) -> Tensor:
    """P2..P5 [N, C, h, w] -> [N, 4C, h, w] of unit length on the grid of P3, which halves that of P2."""
    (height, width), total = levels[1].shape[-2:], sum(LEVELS)
    parts = []
    for level, weight in zip(levels, LEVELS, strict=True):
        level = level.float()
        if level.shape[-2] > height:
            level = pooled_to(level, (height, width))
        elif level.shape[-2:] != (height, width):
            level = F.interpolate(level, size=(height, width), mode="bilinear", align_corners=False)
        parts.append(F.normalize(level, dim=1) * (weight / total) ** 0.5)
    return torch.cat(parts, dim=1)


def _fields(a: Tensor, b: Tensor) -> Tensor:
    steps = torch.arange(-RADIUS, RADIUS + 1.0, device=a.device)
    moves = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), dim=2).flatten(0, 1)  # [U, 2], (dy, dx)
    alike = correlate(a, b, RADIUS)
    stay = STAY * moves.square().sum(dim=1)[None, :, None, None]
    fields = []
    for side, sharpness in POOLS.items():
        pooled = F.avg_pool2d(alike, side, stride=1, padding=side // 2, count_include_pad=False) if side > 1 else alike
        chance = (sharpness * pooled - stay).softmax(dim=1)
        fields.append(torch.einsum("nuhw,ud->ndhw", chance, moves))
    return torch.cat(fields, dim=1)
