"""RoIAlign: bilinear samples of a feature map, averaged over the bins of a box.

    out[r, c, i, j] = mean over a bin's samples of bilinear(features[batch(r), c], y, x)

A box in image pixels is scaled to the map, where cell i covers [i, i + 1) and holds its value at its centre, i + 0.5.
With `aligned` the sample at continuous coordinate y therefore reads index y - 0.5; without (Detectron's first version,
and torchvision's default) it reads index y, half a cell too far, and a box is at least one cell wide and high. Samples
up to one cell outside the map read its border, those farther away, and those of a box that is not finite, are 0.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dimofs.kernels.roi_pool import Bags, cells_first, pool


def roi_align(
    features: Tensor | Sequence[Tensor],
    boxes: Tensor | Sequence[Tensor],
    output_size: int | tuple[int, int],
    spatial_scale: float | Sequence[float] = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
    *,
    canonical_scale: int = 224,
    canonical_level: int = 4,
) -> Tensor:
    """Pool `boxes` from one feature map, or each from its level of a pyramid -> [K, C, *output_size], in their order.

    `features`: [N, C, H, W], or one map per level, finest first, with as many `spatial_scale`s (powers of two).
    `boxes`: [K, 5] rows of (image index, x1, y1, x2, y2) or per image [L, 4], in the pixels that `spatial_scale` maps
    to the features. A bin takes sampling_ratio² samples or, if that is not positive, ceil(height) * ceil(width).
    A pyramid's level is floor(canonical_level + log2(sqrt(area) / canonical_scale)), limited to those given (Feature
    Pyramid Networks, eq. 1). Equals torchvision's roi_align and MultiScaleRoIAlign; coordinates and sums are float32
    (float64 for float64 features), the result has the features' type, and gradients go to the features alone.
    """
    maps = [features] if isinstance(features, Tensor) else list(features)
    scales = list(spatial_scale) if isinstance(spatial_scale, Sequence) else [spatial_scale]
    if len(maps) != len(scales):
        raise ValueError(f"{len(maps)} feature maps need as many spatial scales, got {len(scales)}")
    size = (output_size, output_size) if isinstance(output_size, int) else (output_size[0], output_size[1])
    rois = image_boxes(boxes).detach().to(torch.promote_types(maps[0].dtype, torch.float32))
    if rois.shape[1:] != (5,):
        raise ValueError(f"boxes {[*rois.shape]} do not fit: expected [K, 5], or a list of [L, 4]")
    levels = None if len(maps) == 1 else assign_levels(rois[:, 1:], scales, canonical_scale, canonical_level)
    placed = place(maps, rois, levels, size, scales, sampling_ratio, aligned)
    if maps[0].is_cuda:
        from dimofs.kernels.roi_align_triton import pool_triton

        return pool_triton(maps, placed, size, sampling_ratio)
    return pool_torch(maps, placed, size, sampling_ratio)


def image_boxes(boxes: Tensor | Sequence[Tensor]) -> Tensor:
    """Per image [L, 4] -> [K, 5] rows of (image index, x1, y1, x2, y2); such rows pass through."""
    if isinstance(boxes, Tensor):
        return boxes
    return torch.cat([F.pad(b, (1, 0), value=i) for i, b in enumerate(boxes)])


def assign_levels(boxes: Tensor, scales: Sequence[float], canonical_scale: int, canonical_level: int) -> Tensor:
    """The level of the pyramid that each of `boxes` [K, 4] is pooled from -> int64 [K]."""
    finest, coarsest = (-round(math.log2(s)) for s in (scales[0], scales[-1]))
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    level = torch.floor(canonical_level + torch.log2(area.sqrt() / canonical_scale) + 1e-6)
    return (level.nan_to_num(finest).clamp(finest, coarsest) - finest).long()


class Placed(NamedTuple):
    """Boxes on their maps. All maps are one table [pixels, C] of rows; the last axis of each [K, 2] is (y, x)."""

    origin: Tensor  # [K] int64, the row of the map's first pixel
    extent: Tensor  # [K, 2] size of the map
    start: Tensor  # [K, 2] where the box begins, an index into the map
    bins: Tensor  # [K, 2] size of a bin
    samples: Tensor  # [K, 2] int64, samples per bin


def place(maps, rois: Tensor, levels: Tensor | None, size, scales, sampling_ratio: int, aligned: bool) -> Placed:
    """Where `rois` [K, 5] lie on the maps of their `levels` [K]; without, on the only one."""
    shapes = [[m.shape[2], m.shape[3]] for m in maps]
    extent, scale = rois.new_tensor(shapes), rois.new_tensor(scales)[:, None]
    area, image = rois.new_tensor([[h * w] for h, w in shapes], dtype=torch.int64), rois[:, 0].long()
    if levels is None:
        origin, extent = image * area[0], extent.expand(len(rois), 2)
    else:
        rows = [m.shape[0] * h * w for m, (h, w) in zip(maps, shapes, strict=True)]
        first = levels.new_tensor([sum(rows[:i]) for i in range(len(maps))])
        origin, extent, scale = first[levels] + image * area[levels, 0], extent[levels], scale[levels]
    corners = rois[:, 1:].unflatten(1, (2, 2)).flip(2) * scale[:, None]  # [K, 2, (y, x)]
    corners = corners - 0.5 if aligned else corners
    lengths = corners[:, 1] - corners[:, 0]
    bins = (lengths if aligned else lengths.clamp(min=1)) / rois.new_tensor(size)
    if sampling_ratio > 0:
        samples = torch.full_like(bins, sampling_ratio, dtype=torch.int64)
    else:
        samples = bins.ceil().nan_to_num(0, 0, 0).clamp(min=0).long()
    return Placed(origin, extent, corners[:, 0], bins, samples)


def pixel_table(maps: Sequence[Tensor]) -> Tensor:
    """Maps [N, C, H, W] as one table [pixels, C] of rows."""
    rows = [m.permute(0, 2, 3, 1).reshape(-1, m.shape[1]) for m in maps]
    return rows[0].contiguous() if len(rows) == 1 else torch.cat(rows)  # strided rows cost many times as much


def pool_torch(maps: Sequence[Tensor], placed: Placed, size: tuple[int, int], sampling_ratio: int) -> Tensor:
    """The twin of the Triton kernels in plain PyTorch, and the CPU path: one weighted sum of rows per output cell.

    `maps` of [N, C, H, W] -> [K, C, *size]. The weights are bilinear weight / samples.
    """
    if sampling_ratio > 0 or len(placed.origin) == 0:
        samples = max(sampling_ratio, 1)
        bags, order = sample_bags(placed, size, (samples, samples)), None
    else:
        bags, order = _adaptive_bags(placed, size)
    if torch.compiler.is_compiling():
        pooled = cells_first(bags.of(pixel_table(maps).to(bags.weight.dtype)).to(maps[0].dtype), size)
    else:
        pooled = pool(bags, maps, size)
    return pooled if order is None else pooled[order]


def sample_bags(placed: Placed, size: tuple[int, int], grid: tuple[int, int]) -> Bags:
    """What each output cell sums: 4 pixels for each of the samples on its grid."""
    if size[0] == size[1] and grid[0] == grid[1]:
        (y, x), (weight_y, weight_x) = (t.unbind(1) for t in _taps(placed, slice(2), size[0], grid[0]))
    else:
        (y, weight_y), (x, weight_x) = (
            [t[:, 0] for t in _taps(placed, slice(axis, axis + 1), size[axis], grid[axis])] for axis in (0, 1)
        )
    y = (placed.origin[:, None, None] + y * placed.extent[:, 1, None, None].long()).to(x.dtype)
    row = y[:, :, None, :, None] + x[:, None, :, None, :]  # [K, bins y, bins x, taps y, taps x]
    weight = weight_y[:, :, None, :, None] * weight_x[:, None, :, None, :]
    taps = 4 * grid[0] * grid[1]
    cells = len(placed.origin) * size[0] * size[1]
    first = torch.arange(cells, device=row.device, dtype=row.dtype) * taps
    return Bags(row.flatten(), weight.flatten(), first)


def _taps(placed: Placed, axes: slice, bins: int, samples: int) -> tuple[Tensor, Tensor]:
    """Along each of some axes, the two pixels of each sample and their weights -> two [K, axes, bins, 2 * samples]."""
    start, step, extent = (t[:, axes, None, None] for t in (placed.start, placed.bins, placed.extent))
    sample = (torch.arange(bins * samples, device=start.device, dtype=start.dtype) + 0.5) / samples  # in bins
    position = start + sample.view(bins, samples) * step  # [K, axes, bins, samples]
    inside, last = (position >= -1) & (position <= extent), extent - 1
    position = torch.where(inside, position, 0).clamp(min=0).minimum(last)
    low = position.floor()
    share, whole = position - low, inside / samples
    pixels = torch.stack((low, (low + 1).minimum(last)), dim=-1).int()
    return pixels.flatten(3), (torch.stack((1 - share, share), dim=-1) * whole[..., None]).flatten(3)


def _adaptive_bags(placed: Placed, size: tuple[int, int]) -> tuple[Bags, Tensor]:
    """About one sample per pixel: boxes that share a sampling grid come together. The order brings them back."""
    grids, group = torch.unique(placed.samples, dim=0, return_inverse=True)
    chosen = [(group == i).nonzero()[:, 0] for i in range(len(grids))]
    bags = [
        sample_bags(Placed(*(field[c] for field in placed)), size, (grid[0], grid[1]))
        for c, grid in zip(chosen, grids.tolist(), strict=True)
    ]
    row, weight = (torch.cat([bag[i] for bag in bags]) for i in (0, 1))
    lengths = [(len(b.row) // max(1, len(b.first)), len(b.first)) for b in bags]
    counts = torch.cat([row.new_full((cells,), taps) for taps, cells in lengths])
    return Bags(row, weight, (counts.cumsum(0) - counts).to(row.dtype)), torch.cat(chosen).argsort()
