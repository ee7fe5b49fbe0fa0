"""Where boxes and their samples lie on the maps of a pyramid, in the convention of `dimofs.kernels.roi_align`."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


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


class Regions(NamedTuple):
    """Boxes and how they are pooled."""

    rois: Tensor  # [K, 5], rows of (image, x1, y1, x2, y2)
    levels: Tensor | None  # [K] int64, their maps; None if there is only one
    scales: Sequence[float]  # of each map
    size: tuple[int, int]  # bins
    sampling_ratio: int
    aligned: bool

    def spans(self) -> tuple[Tensor, Tensor]:
        """Where on their maps the boxes begin, and their lengths -> two [K, (x, y)]."""
        scale = self.scales[0] if self.levels is None else self.rois.new_tensor(self.scales)[self.levels, None]
        corners = self.rois[:, 1:] * scale
        start, end = (corners - 0.5 if self.aligned else corners).view(-1, 2, 2).unbind(1)
        return start, end - start if self.aligned else (end - start).clamp(min=1)


class Placed(NamedTuple):
    """Boxes on their maps. All maps are one table [pixels, C] of rows; the last axis of each [K, 2] is (y, x)."""

    origin: Tensor  # [K] int64, the row of the map's first pixel
    extent: Tensor  # [K, 2] size of the map
    start: Tensor  # [K, 2] where the box begins, an index into the map
    bins: Tensor  # [K, 2] size of a bin
    samples: Tensor  # [K, 2] int64, samples per bin


def place(maps: Sequence[Tensor], regions: Regions) -> Placed:
    """Where `regions` lie on `maps` of [N, C, H, W]."""
    rois, levels = regions.rois, regions.levels
    areas, image = [m.shape[2] * m.shape[3] for m in maps], rois[:, 0].long()
    extent = rois.new_tensor([[m.shape[2], m.shape[3]] for m in maps])
    if levels is None:
        origin, extent = image * areas[0], extent.expand(len(rois), 2)
    else:
        rows = [m.shape[0] * area for m, area in zip(maps, areas, strict=True)]
        first, area = levels.new_tensor([[sum(rows[:i]) for i in range(len(maps))], areas])[:, levels]
        origin, extent = first + image * area, extent[levels]
    start, length = (t.flip(1) for t in regions.spans())
    bins = length / rois.new_tensor(regions.size)
    if regions.sampling_ratio > 0:
        samples = torch.full_like(bins, regions.sampling_ratio, dtype=torch.int64)
    else:
        samples = bins.ceil().nan_to_num(0, 0, 0).clamp(min=0).long()
    return Placed(origin, extent, start, bins, samples)


def sample_positions(placed: Placed, bins: int, samples: int) -> tuple[Tensor, Tensor]:
    """Along each axis the indices that the samples of each bin read, and the samples' weights.

    Two [K, 2, bins, samples]; samples outside the map and those that a box does not have weigh nothing.
    """
    extent, start, step, count = (t[:, :, None, None] for t in placed[1:])
    sample = torch.arange(samples, device=start.device, dtype=start.dtype)
    in_bins = torch.arange(bins, device=start.device, dtype=start.dtype)[:, None] + (sample + 0.5) / count
    position = torch.addcmul(start, in_bins, step)
    inside = (position >= -1) & (position <= extent) & (sample < count)
    return torch.where(inside, position, 0).clamp(min=0).minimum(extent - 1), inside / count.clamp(min=1)
