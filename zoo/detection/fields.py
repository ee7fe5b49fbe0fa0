"""Displacement fields [N, 2G, h, w]: (dy, dx) of each of G groups of channels, in cells of their pyramid level."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def enlarged(field: Tensor, size: tuple[int, int]) -> Tensor:
    """The field on the next finer level, of `size` = (height, width) and cells half as large, bilinearly."""
    return 2 * F.interpolate(field, size, mode="bilinear", align_corners=False)


def reduced(field: Tensor, size: tuple[int, int]) -> Tensor:
    """The field on the next coarser level, of `size` = (height, width) and cells twice as large: means."""
    return pooled_to(field, size) / 2


def pooled_to(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Means on a coarser grid, `size` = (height, width)."""
    across = maps.shape[-1] // size[1]
    if maps.shape[-2:] == (size[0] * across, size[1] * across):
        # The same numbers as of the next line, which takes several times as long.
        return maps if across == 1 else F.avg_pool2d(maps, across)
    return F.adaptive_avg_pool2d(maps, size)


def kept_on_map(field: Tensor) -> Tensor:
    """The field with displacements cut where they lead beyond the centres of the outermost cells."""
    height, width = field.shape[-2:]
    pairs = field.unflatten(1, (-1, 2))
    rows, columns = (torch.arange(n, device=field.device, dtype=field.dtype) for n in (height, width))
    y = pairs[:, :, 0].maximum(-rows[:, None]).minimum((height - 1 - rows)[:, None])
    x = pairs[:, :, 1].maximum(-columns).minimum(width - 1 - columns)
    return torch.stack((y, x), dim=2).flatten(1, 2)


def displacements(field: Tensor, points: Tensor, cell: float) -> Tensor:
    """Where points of one image move to: field [2G, h, w] and points [K, 2] (x, y) in pixels of the network's input
    -> mean displacement [K, 2] (dx, dy) of the groups, in the same pixels.

    cell: pixels to a cell. The field is read bilinearly; beyond its outermost cells it continues with their values.
    """
    height, width = field.shape[-2:]
    mean = field.unflatten(0, (-1, 2)).mean(dim=0)
    grid = 2 * points.to(field) / (cell * field.new_tensor([width, height])) - 1
    read = F.grid_sample(mean[None], grid[None, None], padding_mode="border", align_corners=False)
    return cell * read[0, :, 0].T.flip(1)
