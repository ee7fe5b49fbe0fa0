"""Pool a few boxes on the CPU, each by two matrix products with the patch of the map around it.

    out[c] = down patch[c] across^T,    down[bin, y] = mean over the bin's samples of max(0, 1 - |sample - y|)

The weights are a few dozen numbers per box, which plain Python computes (in float64) in the time of two or three
operators. These products would spread values that are not finite over all bins of a box, as 0 * NaN is NaN. So if a
result is not finite it is computed again from the lines that each bin reads, as if the matrices were sparse.
"""

import math
from array import array
from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dimofs.kernels.roi_place import MAX_SAMPLES, Regions

# Patches with more lines of pixels per sample than this leave out the lines that no sample reads.
MAX_LINES_PER_SAMPLE = 4
FLOAT32 = Struct("f")
# On maps of up to this many pixels the two products are one, with the weights of every bin and pixel.
SMALL_MAP = 128
# With more samples than this along an axis, only those that may lie on the map are visited.
MANY_SAMPLES = 64


class Axis(NamedTuple):
    """The samples of a box along one axis of a map: where it starts, the size of a bin, and how many there are.

    `samples` are those of each bin, `extent` is the length of the map.
    """

    start: float
    step: float
    bins: int
    samples: int
    extent: int

    def on_map(self) -> range:
        """The samples that may lie on the map, numbered through all bins."""
        count = self.bins * self.samples
        pitch = self.step / max(self.samples, 1)
        if count <= MANY_SAMPLES or not 0 < pitch < math.inf:
            return range(count)
        first, last = ((end - self.start) / pitch - 0.5 for end in (-1, self.extent))
        return range(int(min(count, max(0.0, first - 1))), int(min(count, max(0.0, last + 2))))

    def position(self, sample: int, dtype: torch.dtype) -> float:
        """Where a sample lies, rounded to `dtype` after every step as torchvision does it.

        Samples beyond the border of the map are 0, so at the border the last bit decides.
        """
        to = _to_float32 if dtype == torch.float32 else float
        bin_, within = divmod(sample, self.samples)
        step = to(self.step)
        return to(to(self.start + to(bin_ * step)) + to(to((within + 0.5) * step) / self.samples))

    def taps(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """The bin, the line of pixels and the weight of everything that is read."""
        samples = self.on_map()
        sample = torch.tensor(samples, dtype=torch.int64)
        position = torch.tensor([self.position(i, dtype) for i in samples], dtype=torch.float64)
        inside = (position >= -1) & (position <= self.extent)
        position, bins = position[inside].clamp(0, self.extent - 1), sample[inside] // max(self.samples, 1)
        low = position.floor()
        share = position - low
        lines = torch.cat((low, (low + 1).clamp(max=self.extent - 1))).long()
        return bins.repeat(2), lines, (torch.cat((1 - share, share)) / max(self.samples, 1)).to(dtype)


class Patch(NamedTuple):
    """The pixels maps[level][image][index] that a box reads, [C, rows, columns], and their weights.

    `down` [bins, rows] and `across` [bins, columns] are the weights along the axes `y` and `x`. `both` [bins, pixels of
    the map] is their product on a small map, else None.
    """

    level: int
    image: int
    index: tuple
    down: Tensor
    across: Tensor
    y: Axis
    x: Axis
    both: Tensor | None

    def pool(self, pixels: Tensor) -> Tensor:
        """A map [C, H, W] -> [C, bins y, bins x]."""
        if self.both is None:
            return _weighted(pixels[self.index], self.down, self.across)
        return F.linear(pixels.flatten(1).to(self.both.dtype), self.both).unflatten(1, (self.y.bins, self.x.bins))

    def add(self, flow: Tensor, pixels: Tensor) -> None:
        """The transpose: add [C, bins y, bins x] to a map [C, H, W]."""
        if self.both is None:
            pixels[self.index] += _weighted(flow, self.down.mT, self.across.mT)
        else:
            pixels += (flow.flatten(1).to(self.both.dtype) @ self.both).view(pixels.shape)


class PatchPooling:
    """A `Pooling` of `Regions`, patch by patch."""

    def __init__(self, regions: Regions, maps: Sequence[Tensor]):
        self.shapes = [m.shape for m in maps]
        levels = [0] * len(regions.rois) if regions.levels is None else regions.levels.tolist()
        dtype, (bins_y, bins_x) = regions.rois.dtype, regions.size
        self.patches = []
        for level, roi in zip(levels, regions.rois.tolist(), strict=True):
            x, y, width, height = _span(roi[1:], regions.scales[level], regions.aligned, dtype)
            extent_y, extent_x = self.shapes[level][2:]
            along_y = _axis(y, height / bins_y, bins_y, regions.sampling_ratio, extent_y)
            along_x = _axis(x, width / bins_x, bins_x, regions.sampling_ratio, extent_x)
            small = extent_y * extent_x <= SMALL_MAP
            rows, down = _lines(along_y, dtype, small)
            columns, across = _lines(along_x, dtype, small)
            both = (down[:, None, :, None] * across[:, None]).view(bins_y * bins_x, -1) if small else None
            if isinstance(rows, Tensor) and isinstance(columns, Tensor):
                rows = rows[:, None]
            index = slice(None), rows, columns
            self.patches.append(Patch(level, int(roi[0]), index, down, across, along_y, along_x, both))

    def pool(self, maps: Sequence[Tensor]) -> Tensor:
        parts = [p.pool(maps[p.level][p.image]) for p in self.patches]
        pooled = torch.stack(parts) if len(parts) > 1 else parts[0].contiguous()[None]
        if not math.isfinite(pooled.sum().item()):
            pooled = torch.stack([_pool_sparsely(maps[p.level][p.image], p) for p in self.patches])
        return pooled.to(maps[0].dtype)

    def spread(self, grad: Tensor) -> tuple[Tensor, ...]:
        """Gradients of the maps. That of a map without boxes is an expanded zero, which takes no memory."""
        touched = {p.level for p in self.patches}
        maps = tuple(
            grad.new_zeros(s) if i in touched else grad.new_zeros(()).expand(s) for i, s in enumerate(self.shapes)
        )
        finite = math.isfinite(grad.sum().item())
        for flow, p in zip(grad, self.patches, strict=True):
            if finite:
                p.add(flow, maps[p.level][p.image])
            else:
                maps[p.level][p.image] += _spread_sparsely(flow, p)
        return maps


def _to_float32(value: float) -> float:
    try:
        return FLOAT32.unpack(FLOAT32.pack(value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)


def _span(box: Sequence[float], scale: float, aligned: bool, dtype: torch.dtype) -> tuple[float, float, float, float]:
    """Where a box starts on its map, x and y, and its width and height, as `Regions.spans` computes them."""
    to = _to_float32 if dtype == torch.float32 else float
    scale = to(scale)
    x1, y1, x2, y2 = (to(side * scale) for side in box)
    if aligned:
        x1, y1, x2, y2 = to(x1 - 0.5), to(y1 - 0.5), to(x2 - 0.5), to(y2 - 0.5)
    width, height = to(x2 - x1), to(y2 - y1)
    return (x1, y1, width, height) if aligned else (x1, y1, max(width, 1.0), max(height, 1.0))


def _axis(start: float, step: float, bins: int, sampling_ratio: int, extent: int) -> Axis:
    samples = sampling_ratio
    if samples <= 0:
        samples = min(math.ceil(step), MAX_SAMPLES) if 0 < step < math.inf else 0
    return Axis(start, step, bins, samples, extent)


def _lines(axis: Axis, dtype: torch.dtype, every: bool) -> tuple[slice | Tensor, Tensor]:
    """The lines of pixels (rows or columns) that a box reads along one axis, or every line of the map, and their
    weights [bins, lines]."""
    start, step, bins, samples, extent = axis
    if samples == 0:
        return slice(0, 1), torch.zeros(bins, extent if every else 1, dtype=dtype)
    whole, pitch, count, last = 1 / samples, step / samples, bins * samples, extent - 1
    # max(0.0, NaN) is 0.
    ends = [int(min(last, max(0.0, start + i * pitch))) for i in (0.5, count - 0.5)]
    first = 0 if every else min(ends)
    width = extent if every else min(max(ends) + 2, extent) - first
    weights = array("f" if dtype == torch.float32 else "d", [0.0]) * (bins * width)
    border = 0.01 + 1e-6 * abs(start)
    for i in axis.on_map():
        position = start + (i + 0.5) * pitch
        if not border - 1 < position < extent - border:
            position = axis.position(i, dtype)
        if -1 <= position <= extent:
            position = 0.0 if position < 0 else last if position > last else position
            low = int(position)
            at, share = i // samples * width + low - first, (position - low) / samples
            weights[at] += whole - share
            if share:
                weights[at + 1] += share
    matrix = torch.frombuffer(weights, dtype=dtype).view(bins, width)
    if every or width <= MAX_LINES_PER_SAMPLE * count:
        return slice(first, first + width), matrix
    lines = matrix.any(dim=0).nonzero()[:, 0]
    return first + lines, matrix[:, lines]


def _weighted(pixels: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """down @ pixels @ across^T for pixels [C, h, w], in the dtype of the weights."""
    c, h, w = pixels.shape
    wide = down @ pixels.transpose(0, 1).reshape(h, c * w).to(down.dtype)
    return F.linear(wide.view(len(down) * c, w), across).view(len(down), c, len(across)).transpose(0, 1)


def _pool_sparsely(pixels: Tensor, patch: Patch) -> Tensor:
    """The bins [C, bins, bins] of a patch of a map [C, H, W], from the pixels that each bin reads and no others."""
    for axis, dim in ((patch.y, 1), (patch.x, 2)):
        bins, lines, weights = axis.taps(patch.down.dtype)
        pixels = _moved(pixels, dim, lines, bins, weights, axis.bins)
    return pixels


def _spread_sparsely(flow: Tensor, patch: Patch) -> Tensor:
    """The transpose: gradients of the bins [C, bins, bins] to those of a map [C, H, W]."""
    for axis, dim in ((patch.y, 1), (patch.x, 2)):
        bins, lines, weights = axis.taps(patch.down.dtype)
        flow = _moved(flow, dim, bins, lines, weights, axis.extent)
    return flow


def _moved(values: Tensor, dim: int, source: Tensor, target: Tensor, weights: Tensor, length: int) -> Tensor:
    """Add the slices `source` of `values` [C, h, w], times `weights`, to the slices `target` of zeros of `length`."""
    shape = list(values.shape)
    shape[dim] = length
    terms = values.index_select(dim, source).to(weights.dtype) * (weights[:, None] if dim == 1 else weights)
    return weights.new_zeros(shape).index_add_(dim, target, terms)
