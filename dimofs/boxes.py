"""Boxes `x1 y1 x2 y2` in pixels, continuous coordinates: width = x2 - x1, and pixel i covers [i, i + 1)."""

import torch
from torch import Tensor


def area(boxes: Tensor) -> Tensor:
    """[..., 4] -> [...] in square pixels."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def corners(boxes: Tensor) -> Tensor:
    """x y width height, COCO's form of a box, as x1 y1 x2 y2: [..., 4] -> [..., 4]."""
    return torch.cat((boxes[..., :2], boxes[..., :2] + boxes[..., 2:]), dim=-1)


def intersection(a: Tensor, b: Tensor) -> Tensor:
    """[N, 4], [M, 4] -> [N, M] in square pixels."""
    low = torch.maximum(a[:, None, :2], b[None, :, :2])
    high = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    return (high - low).clamp(min=0).prod(dim=2)


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union, [N, 4], [M, 4] -> [N, M]; 0 where both boxes are empty."""
    shared = intersection(a, b)
    union = area(a)[:, None] + area(b)[None] - shared
    return shared / union.clamp(min=torch.finfo(shared.dtype).tiny)


def covered(a: Tensor, b: Tensor) -> Tensor:
    """The share of the area of each box of `a` that lies in each box of `b`, [N, 4], [M, 4] -> [N, M]."""
    return intersection(a, b) / area(a)[:, None].clamp(min=torch.finfo(a.dtype).tiny)


def first_takes(overlaps: Tensor, least: float) -> Tensor:
    """Overlaps [N, M] of N boxes, best first, with M others -> [N] bool: whether each takes one that is still free.

    Each takes the free one that it overlaps most, if by `least` or more.
    """
    free = torch.ones(overlaps.shape[1], dtype=torch.bool)
    takes = torch.zeros(len(overlaps), dtype=torch.bool)
    for number, row in enumerate(overlaps):
        open_to = torch.where(free, row, -1.0)
        if len(row) and open_to.max() >= least:
            takes[number] = True
            free[open_to.argmax()] = False
    return takes


def clip(boxes: Tensor, height: float, width: float) -> Tensor:
    """[..., 4] -> [..., 4]: the part of each box inside a frame of `height` x `width` pixels."""
    x, y = boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)
    return torch.stack((x, y), dim=-1).flatten(-2)
