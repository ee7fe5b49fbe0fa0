"""The positions of boxes and their samples on the maps of a pyramid. Conventions are those of `roi_align`."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# The most samples per bin along one axis when their number follows from the size of the bin.
MAX_SAMPLES = 2**20


def image_boxes(boxes: Tensor | Sequence[Tensor]) -> Tensor:
    """A list of boxes [L, 4], one tensor per image -> [K, 5] rows of (image index, x1, y1, x2, y2).

    A tensor is taken to hold such rows already and is returned as it is.
    """
    if isinstance(boxes, Tensor):
        return boxes
    return torch.cat([F.pad(b, (1, 0), value=i) for i, b in enumerate(boxes)])


def assign_levels(boxes: Tensor, scales: Sequence[float], canonical_scale: int, canonical_level: int) -> Tensor:
    """The level of the pyramid from which each of `boxes` [K, 4] is pooled -> int64 [K], 0 for the finest."""
    finest, coarsest = (-round(math.log2(s)) for s in (scales[0], scales[-1]))
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    level = torch.floor(canonical_level + torch.log2(area.sqrt() / canonical_scale) + 1e-6)
    return (level.nan_to_num(finest).clamp(finest, coarsest) - finest).long()


class Regions(NamedTuple):
    """Boxes and how they are pooled.

    `rois` [K, 5] are rows of (image index, x1, y1, x2, y2), `levels` [K] int64 their maps (None if there is only one),
    `scales` one factor per map, `size` the bins (rows, columns).
    """

    rois: Tensor
    levels: Tensor | None
    scales: Sequence[float]
    size: tuple[int, int]
    sampling_ratio: int
    aligned: bool

    def chosen(self, index: Tensor) -> "Regions":
        """Some of the boxes, given their indices."""
        return self._replace(rois=self.rois[index], levels=None if self.levels is None else self.levels[index])

    def spans(self) -> tuple[Tensor, Tensor]:
        """Where the boxes start on their maps, and their sizes -> two [K, (x, y)]."""
        scale = self.scales[0] if self.levels is None else self.rois.new_tensor(self.scales)[self.levels, None]
        corners = self.rois[:, 1:] * scale
        start, end = (corners - 0.5 if self.aligned else corners).view(-1, 2, 2).unbind(1)
        return start, end - start if self.aligned else (end - start).clamp(min=1)


class Placed(NamedTuple):
    """Boxes on their maps, with the pixels of all maps numbered as the rows of one table.

    `origin` [K] int64 is the row of the first pixel of the box's map. The others are [K, (y, x)]: `extent` the size of
    that map, `start` where the box starts (an index into the map), `bins` the size of a bin in cells, `samples` int64
    the number of samples per bin.
    """

    origin: Tensor
    extent: Tensor
    start: Tensor
    bins: Tensor
    samples: Tensor


def place(maps: Sequence[Tensor], regions: Regions) -> Placed:
    """Locate `regions` on `maps` of [N, C, H, W]."""
    rois, levels = regions.rois, regions.levels
    areas, image = [m.shape[2] * m.shape[3] for m in maps], rois[:, 0].long()
    extent = rois.new_tensor([[m.shape[2], m.shape[3]] for m in maps])
    if levels is None:
        origin, extent = image * areas[0], extent.expand(rois.shape[0], 2)
    else:
        # Pixels of one image on the finer maps, and on the box's own.
        before, area = levels.new_tensor([[sum(areas[:i]) for i in range(len(maps))], areas])[:, levels]
        origin, extent = maps[0].shape[0] * before + image * area, extent[levels]
    start, length = (t.flip(1) for t in regions.spans())
    bins = length / rois.new_tensor(regions.size)
    if regions.sampling_ratio > 0:
        samples = torch.full_like(bins, regions.sampling_ratio, dtype=torch.int64)
    else:
        samples = bins.ceil().nan_to_num(0, 0, 0).clamp(0, MAX_SAMPLES).long()
    return Placed(origin, extent, start, bins, samples)


def sample_positions(placed: Placed, bins: int, samples: int) -> tuple[Tensor, Tensor]:
    """For each axis, the indices at which the samples of each bin lie, and their weights -> two [K, 2, bins, samples].

    Samples outside the map, and samples beyond the number that a box takes, have weight 0.
    """
    extent, start, step, count = (t[:, :, None, None] for t in placed[1:])
    sample = torch.arange(samples, device=start.device, dtype=start.dtype)
    # The order of torchvision, as the last bit decides whether a sample on the border of the map counts.
    begin = start + torch.arange(bins, device=start.device, dtype=start.dtype)[:, None] * step
    position = begin + (sample + 0.5) * step / count
    inside = (position >= -1) & (position <= extent) & (sample < count)
    return torch.where(inside, position, 0).clamp(min=0).minimum(extent - 1), inside / count.clamp(min=1)
