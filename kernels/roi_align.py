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
    levels = assign_levels(rois[:, 1:], scales, canonical_scale, canonical_level)
    placed = _place(maps, rois, levels, size, scales, sampling_ratio, aligned)
    rows = [m.permute(0, 2, 3, 1).reshape(-1, m.shape[1]) for m in maps]
    table = rows[0].contiguous() if len(rows) == 1 else torch.cat(rows)  # strided rows cost many times as much
    if table.is_cuda:
        from dimofs.kernels.roi_align_triton import pool_triton

        pooled = pool_triton(table, placed, size, sampling_ratio)
    else:
        pooled = pool_torch(table, placed, size, sampling_ratio)
    return pooled.view(-1, *size, table.shape[1]).permute(0, 3, 1, 2)


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


def _place(maps, rois: Tensor, levels: Tensor, size, scales, sampling_ratio: int, aligned: bool) -> Placed:
    rows = [m.shape[0] * m.shape[2] * m.shape[3] for m in maps]
    first = levels.new_tensor([sum(rows[:i]) for i in range(len(maps))])[levels]
    extent = rois.new_tensor([[m.shape[2], m.shape[3]] for m in maps])[levels]
    image = rois[:, 0].long() * extent.prod(dim=1).long()
    corners = rois[:, [2, 1, 4, 3]] * rois.new_tensor(scales)[levels][:, None]  # y1, x1, y2, x2
    corners = corners - 0.5 if aligned else corners
    lengths = corners[:, 2:] - corners[:, :2]
    bins = (lengths if aligned else lengths.clamp(min=1)) / rois.new_tensor(size)
    if sampling_ratio > 0:
        samples = torch.full_like(bins, sampling_ratio, dtype=torch.int64)
    else:
        samples = bins.ceil().nan_to_num(0, 0, 0).clamp(min=0).long()
    return Placed(first + image, extent, corners[:, :2], bins, samples)


def pool_torch(table: Tensor, placed: Placed, size: tuple[int, int], sampling_ratio: int) -> Tensor:
    """The twin of the Triton kernels in plain PyTorch, and the CPU path: one weighted embedding_bag over all levels.

    Each output cell is a bag of rows of `table` [pixels, C], weighted by bilinear weight / samples -> [K * cells, C].
    """
    precise = table.to(placed.bins.dtype)
    if sampling_ratio > 0 or len(placed.origin) == 0:
        samples = max(sampling_ratio, 1)
        row, weight = _bags(placed, size, (samples, samples))
        pooled = F.embedding_bag(row, precise, mode="sum", per_sample_weights=weight)
    else:
        pooled = _pool_adaptively(precise, placed, size)
    return pooled.to(table.dtype)


def _bags(placed: Placed, size: tuple[int, int], grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The rows of the table that each output cell sums, and their weights -> two [K * cells, taps]."""
    y, weight_y = _axis_taps(placed, 0, size[0], grid[0])
    x, weight_x = _axis_taps(placed, 1, size[1], grid[1])
    y = placed.origin[:, None, None] + y * placed.extent[:, 1, None, None].long()
    row = y[:, :, None, :, None] + x[:, None, :, None, :]  # [K, bins y, bins x, taps y, taps x]
    weight = weight_y[:, :, None, :, None] * weight_x[:, None, :, None, :]
    return row.flatten(3).flatten(0, 2), weight.flatten(3).flatten(0, 2)


def _axis_taps(placed: Placed, axis: int, bins: int, samples: int) -> tuple[Tensor, Tensor]:
    """Along one axis, the two pixels of each sample and their weights -> two [K, bins, 2 * samples]."""
    start, step, extent = (t[:, axis, None, None] for t in (placed.start, placed.bins, placed.extent))
    bin_index = torch.arange(bins, device=start.device)[:, None]
    sample = torch.arange(samples, device=start.device) + 0.5
    position = start + bin_index * step + sample * step / samples  # [K, bins, samples]
    inside = (position >= -1) & (position <= extent)
    position = torch.where(inside, position, 0).clamp(min=0).minimum(extent - 1)
    low = position.floor()
    high = (low + 1).minimum(extent - 1)
    weight = torch.stack((1 - (position - low), position - low), dim=-1) * (inside / samples)[..., None]
    return torch.stack((low, high), dim=-1).long().flatten(2), weight.flatten(2)


def _pool_adaptively(table: Tensor, placed: Placed, size: tuple[int, int]) -> Tensor:
    """Pool with about one sample per pixel: the bags of boxes that share a sampling grid are made together."""
    grids, group = torch.unique(placed.samples, dim=0, return_inverse=True)
    chosen = [(group == i).nonzero()[:, 0] for i in range(len(grids))]
    bags = [
        _bags(Placed(*(field[c] for field in placed)), size, (grid[0], grid[1]))
        for c, grid in zip(chosen, grids.tolist(), strict=True)
    ]
    row, weight = (torch.cat([bag[i].flatten() for bag in bags]) for i in (0, 1))
    lengths = torch.cat([row.new_full((r.shape[0],), r.shape[1]) for r, _ in bags])
    offsets = lengths.cumsum(0) - lengths
    pooled = F.embedding_bag(row, table, offsets, mode="sum", per_sample_weights=weight)
    cells = pooled.view(-1, size[0] * size[1], table.shape[1])
    return cells[torch.cat(chosen).argsort()].flatten(0, 1)
