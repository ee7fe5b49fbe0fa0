"""Sectors of memory that the Triton kernels read, counted without a GPU, and the times that follow on an H100.

The model and its limits are described in `dimofs.eval.traffic`.
"""

import torch
from torch import Tensor

from dimofs.eval.timing.inputs import LEVELS, STRIDES, people
from dimofs.kernels.deform_conv_torch import channel_parts
from dimofs.kernels.roi_align_torch import sample_bags
from dimofs.kernels.roi_place import Regions, assign_levels, image_boxes, place

# Bytes of a sector.
SECTOR = 32
# An H100 SXM: bytes per second of its memory and of its second-level cache, float32 operations per second.
MEMORY, CACHE, ARITHMETIC = 3.35e12, 5.5e12, 67e12
# Seconds to launch a kernel, and to launch one whose result the host waits for.
LAUNCH, ROUND = 4e-6, 20e-6
# Within one of these a sector is read only once.
REUSES = ("load", "warp", "box")
LAYOUTS = ("planar, warps of 4x8", "planar, warps of 1x32", "channels last")


def deform_seconds(offset: Tensor, itemsize: int = 4, backward: bool = False) -> float:
    """`deform_sample` of offsets [N, 2C, h, w]. Backward reads the corners, and reads and writes their sums."""
    planes = offset.unflatten(1, (-1, 2)).flatten(0, 1)[:8]
    values = offset.numel() / 2
    sectors = deform_sectors(planes, LAYOUTS[0], itemsize) * values / planes[:, 0].numel()
    streamed = values * itemsize * (7 if backward else 4)
    cached = sectors * SECTOR * (3 if backward else 1) + streamed
    return max(streamed / MEMORY, cached / CACHE) + LAUNCH * (2 if backward else 1)


def convolve_seconds(offset: Tensor, channels: int, itemsize: int = 4) -> float:
    """A 3 x 3 `deform_conv2d` of offsets [N, 18, h, w] with as many output as input channels.

    It runs at half the peak of the arithmetic units, and gathers all taps again for every 64 output channels.
    """
    sectors = tap_sectors(offset, channels, itemsize) * max(1, channels // 64)
    products = 2 * 9 * channels**2 * offset[:, 0].numel()
    return max(sectors * SECTOR / CACHE, products / ARITHMETIC * 2) + LAUNCH


def convolve_backward_seconds(offset: Tensor, channels: int, itemsize: int = 4) -> float:
    """Its backward pass, which gathers the taps of a part of the channels, multiplies twice by cuBLAS and scatters.

    The products run at three quarters of the peak. Each part of the channels reads the whole gradient again. The
    scatter reads the corners, and reads and writes their sums. A part takes about 12 kernels.
    """
    pixels = offset[:, 0].numel()
    parts = len(channel_parts(channels, 9, pixels // len(offset), 1, 1))
    taps, grad = 9 * channels * pixels * itemsize, channels * pixels * itemsize
    corners = tap_sectors(offset, channels, itemsize) * SECTOR
    gather, scatter = (max(taps / MEMORY, (taps + n * corners) / CACHE) for n in (1, 3))
    product = max(2 * 9 * channels**2 * pixels / ARITHMETIC * 4 / 3, (taps + parts * grad) / MEMORY)
    return gather + 2 * product + scatter + 12 * parts * LAUNCH


def tap_sectors(offset: Tensor, channels: int, itemsize: int) -> int:
    """The sectors that the nine taps of offsets [N, 18, h, w] read, over all channels."""
    return deform_sectors(offset.unflatten(1, (9, 2)).flatten(0, 1), LAYOUTS[0], itemsize) * channels


def pool_seconds(boxes: Tensor, side: int, itemsize: int = 4, backward: bool = False) -> float:
    """`roi_align` of a frame's boxes [K, 4] from 4 levels, which are first copied to one table, channels last.

    About 40 small kernels and copies place the boxes.
    """
    channels, rows = LEVELS[0][0], frame_rows(len(boxes), side, boxes)
    maps = sum(c * h * w for c, h, w in LEVELS) * itemsize
    result = len(rows) * channels * itemsize
    gathered = pool_sectors(rows, channels, itemsize) * SECTOR * (2 if backward else 1)
    # The backward pass also clears the sums.
    transposed = (3 if backward else 2) * maps
    return (
        max((maps + result) / MEMORY, (gathered + result) / CACHE)
        + transposed / MEMORY
        + (6 if backward else 46) * LAUNCH
    )


def small_pool_seconds(backward: bool = False) -> float:
    """`roi_align` of one box from one small map: only launches, about 20 of which place the box."""
    return (5 if backward else 22) * LAUNCH


def suppress_seconds(count: int) -> float:
    """`batched_nms`: about 20 operations per pair of boxes, then five rounds over one bit per pair."""
    return 20 * count**2 / ARITHMETIC + 5 * (ROUND + count**2 / 8 / CACHE) + 10 * LAUNCH


def deform_sectors(offset: Tensor, layout: str, itemsize: int = 4, channels: int = 32) -> int:
    """The sectors of maps [h, w] read by samples at each pixel plus `offset` [P, 2, h, w], summed over warps.

    Channels last, the P planes (a multiple of 32) are some of `channels` channels, and a warp reads 32 of one pixel.
    """
    p, _, h, w = offset.shape
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    top, left = (offset[:, 0] + rows).floor().long(), (offset[:, 1] + columns).floor().long()
    corners, inside = [], []
    for y, x in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        inside.append((y >= 0) & (y < h) & (x >= 0) & (x < w))
        corners.append(y * w + x)
    at, valid = torch.stack(corners, dim=-1), torch.stack(inside, dim=-1)  # [P, h, w, 4]
    if layout == LAYOUTS[2]:
        at = at * channels + torch.arange(p)[:, None, None, None]
        lanes = [t.permute(1, 2, 0, 3).reshape(-1, 32 * 4) for t in (at, valid)]
    else:
        lanes = [_warps(t, *((4, 8) if layout == LAYOUTS[0] else (1, 32))) for t in (at, valid)]
    return distinct_sectors(lanes[0] * itemsize, lanes[1])


def _warps(values: Tensor, height: int, width: int) -> Tensor:
    """[P, h, w, 4] -> [warps, 128], each warp height x width pixels, padded by 0 beyond the map."""
    p, h, w, corners = values.shape
    padded = values.new_zeros(p, -(-h // height) * height, -(-w // width) * width, corners)
    padded[:, :h, :w] = values
    tiles = padded.unflatten(2, (-1, width)).unflatten(1, (-1, height))  # [P, tiles, height, tiles, width, 4]
    return tiles.transpose(2, 3).reshape(-1, height * width * corners)


def pool_sectors(
    rows: Tensor, channels: int, itemsize: int = 4, channels_last: bool = True, reuse: str = "warp", box: int = 1
) -> int:
    """The sectors read by output cells whose samples touch pixels `rows` [cells, taps], with `box` cells per box.

    Channels last, a warp reads all channels of one cell's pixels; planar, one channel of the pixels of 32 cells. A
    sector counts once per `reuse`: per "load" (one tap of a warp), per "warp" or per "box".
    """
    cells = box if reuse == "box" else 1 if channels_last else 32
    rows = torch.cat((rows, rows[-1:].expand(-len(rows) % cells, -1))).view(-1, cells, rows.shape[1])
    rows = rows.transpose(1, 2).flatten(0, 1) if reuse == "load" else rows.flatten(1)
    if channels_last:
        return distinct_sectors(rows * SECTOR) * -(-channels * itemsize // SECTOR)
    return distinct_sectors(rows * itemsize) * channels


def distinct_sectors(addresses: Tensor, valid: Tensor | None = None) -> int:
    """Count the sectors that hold the byte `addresses` [warps, reads], summed over warps. Only `valid` ones count."""
    sectors = addresses // SECTOR
    if valid is not None:
        sectors = torch.where(valid, sectors, -1)
    ordered = sectors.sort(dim=1).values
    first = torch.cat((ordered[:, :1] >= 0, (ordered[:, 1:] != ordered[:, :-1]) & (ordered[:, 1:] >= 0)), dim=1)
    return int(first.sum())


def frame_rows(count: int, side: int, boxes: Tensor | None = None) -> Tensor:
    """The pixels [cells, 16] of a frame's four levels that each cell of pooled boxes reads by 2 x 2 samples."""
    maps = [torch.empty(1, 1, *shape[1:]) for shape in LEVELS]
    scales = [1 / s for s in STRIDES]
    rois = image_boxes([people(count) if boxes is None else boxes.cpu()])
    levels = assign_levels(rois[:, 1:], scales, 224, 4)
    placed = place(maps, Regions(rois, levels, scales, (side, side), 2, aligned=False))
    # Row 0 of the table holds zeros.
    return sample_bags(placed, (side, side), (2, 2)).row.view(-1, 16).long() - 1
