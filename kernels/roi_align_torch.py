"""RoIAlign in plain PyTorch: the twin of `roi_align_triton`, and the CPU path. The formula is in `roi_align`.

A few boxes are pooled by matrix products with the patches of the map around them (`roi_patch`). For many boxes, each
output cell is a weighted sum of rows of a table of pixels (`roi_pool`).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dimofs.kernels.roi_patch import PatchPooling
from dimofs.kernels.roi_place import Placed, Regions, place, sample_positions
from dimofs.kernels.roi_pool import BagPooling, Bags, pool

# Up to this many boxes are always pooled patch by patch.
MIN_PATCH_BOXES = 4
# More boxes are pooled patch by patch as long as the maps have at least this many pixels for each of them.
PIXELS_PER_BOX = 1024
# Boxes with more samples per bin than this are pooled patch by patch, which takes no memory for each sample.
LARGE_GRID = 1024
# Stands for the row or column of a sample outside the map. The sum of two does not overflow int32.
OUTSIDE = -(2**30)


def pixel_table(maps: Sequence[Tensor]) -> Tensor:
    """Maps of [N, C, H, W] as one contiguous table [pixels, C]: gathers from strided rows are many times slower."""
    rows = [m.permute(0, 2, 3, 1).flatten(0, 2) for m in maps]
    return rows[0].contiguous() if len(rows) == 1 else torch.cat(rows)


def cells_first(sums: Tensor, size: tuple[int, int]) -> Tensor:
    """View sums [K * cells, C] as [K, C, *size]."""
    return sums.unflatten(0, (-1, *size)).permute(0, 3, 1, 2)


def pool_torch(maps: Sequence[Tensor], regions: Regions) -> Tensor:
    """`roi_align` of checked arguments: maps of [N, C, H, W] -> [K, C, *size]."""
    if torch.compiler.is_compiling():
        bags, order = _bags(place(maps, regions), regions)
        table = F.pad(pixel_table(maps).to(bags.weight.dtype), (0, 0, 1, 0))
        pooled = cells_first(bags.sums(table).to(maps[0].dtype), regions.size)
        return pooled if order is None else pooled[order]
    pixels = sum(m.shape[0] * m.shape[2] * m.shape[3] for m in maps)
    if 0 < len(regions.rois) <= max(MIN_PATCH_BOXES, pixels // PIXELS_PER_BOX):
        return pool(PatchPooling(regions, maps), maps)
    placed = place(maps, regions)
    large = placed.samples.prod(dim=1) > LARGE_GRID
    if regions.sampling_ratio <= 0 and large.any():
        return _pool_apart(maps, regions, large)
    bags, order = _bags(placed, regions)
    pooled = pool(BagPooling(bags, regions.size, maps), maps)
    return pooled if order is None else pooled[order]


def _pool_apart(maps: Sequence[Tensor], regions: Regions, large: Tensor) -> Tensor:
    """Pool the `large` boxes patch by patch, the others as usual."""
    by_patch, others = large.nonzero()[:, 0], (~large).nonzero()[:, 0]
    pooled = [pool(PatchPooling(regions.chosen(by_patch), maps), maps)]
    if len(others):
        pooled.append(pool_torch(maps, regions.chosen(others)))
    return torch.cat(pooled)[torch.cat((by_patch, others)).argsort()]


def _bags(placed: Placed, regions: Regions) -> tuple[Bags, Tensor | None]:
    """The pixels and weights that each output cell sums, and the order that restores that of the boxes, if changed."""
    if regions.sampling_ratio > 0 or len(regions.rois) == 0:
        samples = max(regions.sampling_ratio, 1)
        return sample_bags(placed, regions.size, (samples, samples)), None
    return _adaptive_bags(placed, regions.size)


def sample_bags(placed: Placed, size: tuple[int, int], grid: tuple[int, int]) -> Bags:
    """The pixels and weights that each output cell sums: 4 for each sample of its grid (rows, columns).

    Pixels are numbered from 1. A sample outside the map reads row 0, which holds zeros.
    """
    pixel, weight = _taps(placed, max(size), max(grid))
    taps = 2 * grid[0], 2 * grid[1]
    (y, weight_y), (x, weight_x) = (
        [_crossed(t[:, axis, : size[axis], : taps[axis]], axis, taps) for t in (pixel, weight)] for axis in (0, 1)
    )
    first_in_line = 1 + placed.origin[:, None, None] + y * placed.extent[:, 1, None, None].long()
    y = torch.where(y < 0, OUTSIDE, first_in_line).to(x.dtype)
    row, weight = y[:, :, None] + x[:, None], weight_y[:, :, None] * weight_x[:, None]  # [K, bins y, bins x, taps]
    # row.shape[0] and not len(row), which torch.export would make a constant.
    cells = row.shape[0] * size[0] * size[1]
    first = torch.arange(cells, device=row.device, dtype=row.dtype) * (taps[0] * taps[1])
    return Bags(row.flatten().clamp_(min=0), weight.flatten(), first)


def _crossed(values: Tensor, axis: int, taps: tuple[int, int]) -> Tensor:
    """Repeat the taps along one axis for all taps along the other: [K, bins, taps[axis]] -> [K, bins, all pairs]."""
    return values.unsqueeze(3 - axis).expand(-1, -1, *taps).flatten(2)


def _taps(placed: Placed, bins: int, samples: int) -> tuple[Tensor, Tensor]:
    """For each axis, the two pixels that each sample reads, and their weights -> two [K, 2, bins, 2 * samples]."""
    position, whole = sample_positions(placed, bins, samples)
    low = position.floor()
    share = position - low
    pixel = torch.stack((low, (low + 1).minimum(placed.extent[:, :, None, None] - 1)), dim=-1).int()
    pixel = torch.where(whole[..., None] > 0, pixel, OUTSIDE).flatten(3)
    return pixel, (torch.stack((1 - share, share), dim=-1) * whole[..., None]).flatten(3)


def _adaptive_bags(placed: Placed, size: tuple[int, int]) -> tuple[Bags, Tensor]:
    """As `_bags`, with about one sample per pixel. Boxes are grouped by sampling grid, which changes their order."""
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
