"""RoIAlign: bilinear samples of a feature map, averaged over the bins of a box.

    out[r, c, i, j] = mean over a bin's samples of bilinear(features[batch(r), c], y, x)

A box in image pixels is scaled to the map, where cell i covers [i, i + 1) and holds its value at its centre, i + 0.5.
With `aligned` the sample at continuous coordinate y therefore reads index y - 0.5; without (Detectron's first version,
and torchvision's default) it reads index y, half a cell too far, and a box is at least one cell wide and high. Samples
up to one cell outside the map read its border, those farther away, and those of a box that is not finite, are 0.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from dimofs.kernels.roi_patch import PatchPooling
from dimofs.kernels.roi_place import Placed, Regions, assign_levels, image_boxes, place, sample_positions
from dimofs.kernels.roi_pool import BagPooling, Bags, pool

FEW = 4  # boxes at most that are always pooled patch by patch
PIXELS = 1024  # of the maps for each box that is


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
    regions = Regions(rois, levels, scales, size, sampling_ratio, aligned)
    if maps[0].is_cuda:
        from dimofs.kernels.roi_align_triton import pool_triton

        return pool_triton(maps, regions)
    return pool_torch(maps, regions)


def pixel_table(maps: Sequence[Tensor]) -> Tensor:
    """Maps [N, C, H, W] as one table [pixels, C] of rows."""
    rows = [m.permute(0, 2, 3, 1).reshape(-1, m.shape[1]) for m in maps]
    return rows[0].contiguous() if len(rows) == 1 else torch.cat(rows)  # strided rows cost many times as much


def cells_first(sums: Tensor, size: tuple[int, int]) -> Tensor:
    """[K * cells, C] -> [K, C, *size], a view."""
    return sums.view(-1, *size, sums.shape[1]).permute(0, 3, 1, 2)


def pool_torch(maps: Sequence[Tensor], regions: Regions) -> Tensor:
    """The twin of the Triton kernels in plain PyTorch, and the CPU path: maps of [N, C, H, W] -> [K, C, *size].

    Few boxes are products with the patches around them; of many each output cell is a weighted sum of rows of pixels.
    """
    size = regions.size
    if torch.compiler.is_compiling():
        bags, order = _bags(place(maps, regions), regions)
        pooled = cells_first(bags.of(pixel_table(maps).to(bags.weight.dtype)).to(maps[0].dtype), size)
    elif 0 < len(regions.rois) <= max(FEW, sum(m.shape[0] * m.shape[2] * m.shape[3] for m in maps) // PIXELS):
        return pool(PatchPooling(regions, maps), maps)
    else:
        bags, order = _bags(place(maps, regions), regions)
        pooled = pool(BagPooling(bags, size, maps), maps)
    return pooled if order is None else pooled[order]


def _bags(placed: Placed, regions: Regions) -> tuple[Bags, Tensor | None]:
    """What each output cell sums; if boxes change places, an order brings them back."""
    if regions.sampling_ratio > 0 or len(regions.rois) == 0:
        samples = max(regions.sampling_ratio, 1)
        return sample_bags(placed, regions.size, (samples, samples)), None
    return _adaptive_bags(placed, regions.size)


def sample_bags(placed: Placed, size: tuple[int, int], grid: tuple[int, int]) -> Bags:
    """What each output cell sums: 4 pixels for each of the samples on its grid."""
    pixel, weight = _taps(placed, max(size), max(grid))
    taps = 2 * grid[0], 2 * grid[1]
    (y, weight_y), (x, weight_x) = (
        [_crossed(t[:, axis, : size[axis], : taps[axis]], axis, taps) for t in (pixel, weight)] for axis in (0, 1)
    )
    y = (placed.origin[:, None, None] + y * placed.extent[:, 1, None, None].long()).to(x.dtype)
    row, weight = y[:, :, None] + x[:, None], weight_y[:, :, None] * weight_x[:, None]  # [K, bins y, bins x, taps]
    cells = row.shape[0] * size[0] * size[1]  # len() is no symbol to torch.export
    first = torch.arange(cells, device=row.device, dtype=row.dtype) * (taps[0] * taps[1])
    return Bags(row.flatten(), weight.flatten(), first)


def _crossed(values: Tensor, axis: int, taps: tuple[int, int]) -> Tensor:
    """Of the taps along one axis those of all pairs: [K, bins, taps[axis]] -> [K, bins, taps[0] * taps[1]]."""
    return values.unsqueeze(3 - axis).expand(-1, -1, *taps).flatten(2)


def _taps(placed: Placed, bins: int, samples: int) -> tuple[Tensor, Tensor]:
    """Along each axis the two pixels of each sample and their weights -> two [K, 2, bins, 2 * samples]."""
    position, whole = sample_positions(placed, bins, samples)
    low = position.floor()
    share = position - low
    pixel = torch.stack((low, (low + 1).minimum(placed.extent[:, :, None, None] - 1)), dim=-1).flatten(3).int()
    return pixel, (torch.stack((1 - share, share), dim=-1) * whole[..., None]).flatten(3)


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
