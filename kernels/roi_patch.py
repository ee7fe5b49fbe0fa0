"""Pool a few boxes on the CPU, each by two matrix products with the patch of the map around it.

    out[c] = down patch[c] across^T,    down[bin, y] = mean over the bin's samples of max(0, 1 - |sample - y|)

The weights are a few dozen numbers per box, which plain Python computes (in float64) in the time of two or three
operators. A feature that is not finite may spoil all bins of a box, not only those whose samples lie beside it.
"""

import math
from array import array
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dimofs.kernels.roi_place import Regions

# Patches with more lines of pixels per sample than this leave out the lines that no sample reads.
MAX_LINES_PER_SAMPLE = 4


class Patch(NamedTuple):
    """The pixels maps[level][image][index] that a box reads, [C, rows, columns], and their weights.

    `down` [bins, rows] and `across` [bins, columns] are the weights along each axis.
    """

    level: int
    image: int
    index: tuple
    down: Tensor
    across: Tensor


class PatchPooling:
    """A `Pooling` of `Regions`, patch by patch."""

    def __init__(self, regions: Regions, maps: Sequence[Tensor]):
        self.shapes = [m.shape for m in maps]
        levels = [0] * len(regions.rois) if regions.levels is None else regions.levels.tolist()
        boxes = zip(levels, regions.rois.tolist(), *(t.tolist() for t in regions.spans()), strict=True)
        samples, dtype, (bins_y, bins_x) = regions.sampling_ratio, regions.rois.dtype, regions.size
        self.patches = []
        for level, roi, (x, y), (width, height) in boxes:
            extent_y, extent_x = self.shapes[level][2:]
            rows, down = _lines(y, height / bins_y, bins_y, samples, extent_y, dtype)
            columns, across = _lines(x, width / bins_x, bins_x, samples, extent_x, dtype)
            if isinstance(rows, Tensor) and isinstance(columns, Tensor):
                rows = rows[:, None]
            self.patches.append(Patch(level, int(roi[0]), (slice(None), rows, columns), down, across))

    def pool(self, maps: Sequence[Tensor]) -> Tensor:
        pooled = [_weighted(maps[p.level][p.image][p.index], p.down, p.across) for p in self.patches]
        return torch.stack(pooled).to(maps[0].dtype)

    def spread(self, grad: Tensor) -> tuple[Tensor, ...]:
        """Gradients of the maps. That of a map without boxes is an expanded zero, which takes no memory."""
        touched = {p.level for p in self.patches}
        maps = tuple(
            grad.new_zeros(s) if i in touched else grad.new_zeros(()).expand(s) for i, s in enumerate(self.shapes)
        )
        for flow, p in zip(grad, self.patches, strict=True):
            maps[p.level][p.image][p.index] += _weighted(flow, p.down.mT, p.across.mT)
        return maps


def _lines(
    start: float, step: float, bins: int, samples: int, extent: int, dtype: torch.dtype
) -> tuple[slice | Tensor, Tensor]:
    """The lines of pixels (rows or columns) that a box reads along one axis, and their weights [bins, lines]."""
    if samples <= 0:
        samples = math.ceil(step) if 0 < step < math.inf else 0
    if samples == 0:
        return slice(0, 1), torch.zeros(bins, 1, dtype=dtype)
    whole, pitch, count, last = 1 / samples, step / samples, bins * samples, extent - 1
    # max(0.0, NaN) is 0.
    ends = [int(min(last, max(0.0, start + i * pitch))) for i in (0.5, count - 0.5)]
    first = min(ends)
    width = min(max(ends) + 2, extent) - first
    weights = array("f" if dtype == torch.float32 else "d", [0.0]) * (bins * width)
    for i in range(count):
        position = start + (i + 0.5) * pitch
        if -1 <= position <= extent:
            position = 0.0 if position < 0 else last if position > last else position
            low = int(position)
            at, share = i // samples * width + low - first, (position - low) / samples
            weights[at] += whole - share
            if share:
                weights[at + 1] += share
    matrix = torch.frombuffer(weights, dtype=dtype).view(bins, width)
    if width <= MAX_LINES_PER_SAMPLE * count:
        return slice(first, first + width), matrix
    lines = matrix.any(dim=0).nonzero()[:, 0]
    return first + lines, matrix[:, lines]


def _weighted(pixels: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """down @ pixels @ across^T for pixels [C, h, w], in the dtype of the weights."""
    c, h, w = pixels.shape
    wide = down @ pixels.transpose(0, 1).reshape(h, c * w).to(down.dtype)
    return F.linear(wide.view(-1, w), across).view(len(down), c, -1).transpose(0, 1)
