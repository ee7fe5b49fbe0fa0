"""How much memory traffic the Triton kernels cause, counted without a GPU, and the times that follow on an H100.

    python -m eval.traffic

GPUs read memory in sectors of 32 bytes. Of each warp the sectors are counted that its 32 threads read of the sampled
map, for random offsets of 2 pixels and boxes of all sizes, in each layout that was thought of; the floor is every byte
of the map read once. A kernel's predicted time is the longest of what the memory (every tensor once), the second-level
cache (all sectors) and the arithmetic units need, plus the launches.

A sector that a warp reads twice counts once: the first-level cache holds it. For RoIAlign everything hangs on that. Of
7 x 7 bins in float32, loads that share nothing read 2.8 times as many sectors planar as channels last (3.7 times for
boxes of 14 to 28 cells; bfloat16: 4.1 and 5.1), those of a warp as many (bfloat16: 1.4 times), those of a whole box 1.4
times (bfloat16: 2.0). Of 14 x 14 bins planar warps read half as many. So channels last saves requests to the
first-level cache rather than traffic beyond it.

What would prove this wrong, on an H100 whose clocks are free: `python -m eval.speed kernels --device cuda` measures
more than twice a predicted time, or less than 0.7 of it, at 200x336 or 1000 boxes; the bounds stand beside each
prediction. Then the sectors (in Nsight Compute: lts__t_sectors_op_read.sum) tell whether the count or the bandwidth is
to blame.
"""

import itertools

import torch
from torch import Tensor

from dimofs.cli import run
from dimofs.eval.timing.inputs import LEVELS, STRIDES, normal, people
from dimofs.kernels.deform_conv_torch import channel_parts
from dimofs.kernels.roi_align_torch import sample_bags
from dimofs.kernels.roi_place import Regions, assign_levels, image_boxes, place

SECTOR = 32  # bytes
MEMORY, CACHE, ARITHMETIC = 3.35e12, 5.5e12, 67e12  # of an H100 SXM: bytes, bytes and float32 operations a second
LAUNCH, ROUND = 4e-6, 20e-6  # seconds: a kernel, and one whose result the host waits for
WRONG = (0.7, 2)  # a measured time outside of these multiples of the predicted one refutes it
REUSES = ("load", "warp", "box")  # what reads a sector once only
LAYOUTS = ("planar, warps of 4x8", "planar, warps of 1x32", "channels last")


def main() -> None:
    print("sectors over the floor")
    for name, ratio in ratios().items():
        print(f"{name:48} {ratio:6.2f}")
    print("\npredicted on an H100, ms; wrong if measured below, above")
    for name, seconds in predictions().items():
        print(f"{name:48}" + "".join(f" {1e3 * seconds * bound:6.3f}" for bound in (1, *WRONG)))


def ratios() -> dict[str, float]:
    """Sectors read per sector of the maps, by kernel, layout and type; of RoIAlign over the bytes of its result."""
    c, h, w = LEVELS[0]
    offset, floor = normal(32, 2, h, w, seed=1) * 2, 32 * h * w
    found = {
        f"deform_sample, {layout}, {8 * size} bits": deform_sectors(offset, layout, size, c) * SECTOR / floor / size
        for layout in LAYOUTS
        for size in (4, 2)
    }
    rows = frame_rows(1000, 7)
    for size, last, reuse in itertools.product((4, 2), (False, True), REUSES):
        name = f"roi_align, {'channels last' if last else 'planar'}, {8 * size} bits, by {reuse}"
        found[name] = pool_sectors(rows, c, size, last, reuse, 49) * SECTOR / (len(rows) * c * size)
    return found


def predictions() -> dict[str, float]:
    """Seconds by kernel for the largest level of a frame and for 1000 boxes."""
    c, h, w = LEVELS[0]
    offset = normal(1, 2 * c, h, w, seed=1) * 2
    moved, boxes = normal(1, 18, h, w, seed=1) * 2, people(1000)
    return {
        "deform_sample 256x200x336": deform_seconds(offset),
        "deform_sample 256x200x336 backward": deform_seconds(offset, backward=True),
        "deform_conv2d 256x200x336 3x3": convolve_seconds(moved, c),
        "deform_conv2d 256x200x336 3x3 backward": convolve_backward_seconds(moved, c),
        "roi_align, 4 levels, 1000x256x7x7": pool_seconds(boxes, 7),
        "roi_align, 4 levels, 1000x256x7x7 backward": pool_seconds(boxes, 7, backward=True),
        "roi_align, 1x256x7x7 of 8x8": small_pool_seconds(),
        "roi_align, 1x256x7x7 of 8x8 backward": small_pool_seconds(backward=True),
        "batched_nms 10000 boxes": suppress_seconds(10000),
    }


def deform_seconds(offset: Tensor, itemsize: int = 4, backward: bool = False) -> float:
    """`deform_sample` of offsets [N, 2C, h, w]: backward, corners are read and added to, a read and a write."""
    planes = offset.unflatten(1, (-1, 2)).flatten(0, 1)[:8]
    values = offset.numel() / 2
    sectors = deform_sectors(planes, LAYOUTS[0], itemsize) * values / planes[:, 0].numel()
    streamed = values * itemsize * (7 if backward else 4)
    cached = sectors * SECTOR * (3 if backward else 1) + streamed
    return max(streamed / MEMORY, cached / CACHE) + LAUNCH * (2 if backward else 1)


def convolve_seconds(offset: Tensor, channels: int, itemsize: int = 4) -> float:
    """A 3 x 3 `deform_conv2d` of offsets [N, 18, h, w] to as many channels: half the peak of the arithmetic units.

    Each block of 64 output channels gathers all taps anew.
    """
    sectors = tap_sectors(offset, channels, itemsize) * max(1, channels // 64)
    products = 2 * 9 * channels**2 * offset[:, 0].numel()
    return max(sectors * SECTOR / CACHE, products / ARITHMETIC * 2) + LAUNCH


def convolve_backward_seconds(offset: Tensor, channels: int, itemsize: int = 4) -> float:
    """Its backward pass: some channels at a time their taps are gathered, multiplied twice by cuBLAS, and scattered.

    The products run at three quarters of the peak, and each part of the channels reads the whole gradient anew. The
    scatter reads the corners again and adds to them, a read and a write. About 12 kernels a part.
    """
    pixels = offset[:, 0].numel()
    parts = len(channel_parts(channels, 9, pixels // len(offset), 1, 1))
    taps, grad = 9 * channels * pixels * itemsize, channels * pixels * itemsize
    corners = tap_sectors(offset, channels, itemsize) * SECTOR
    gather, scatter = (max(taps / MEMORY, (taps + n * corners) / CACHE) for n in (1, 3))
    product = max(2 * 9 * channels**2 * pixels / ARITHMETIC * 4 / 3, (taps + parts * grad) / MEMORY)
    return gather + 2 * product + scatter + 12 * parts * LAUNCH


def tap_sectors(offset: Tensor, channels: int, itemsize: int) -> int:
    """What the nine taps of offsets [N, 18, h, w] read of all channels, each once."""
    return deform_sectors(offset.unflatten(1, (9, 2)).flatten(0, 1), LAYOUTS[0], itemsize) * channels


def pool_seconds(boxes: Tensor, side: int, itemsize: int = 4, backward: bool = False) -> float:
    """`roi_align` of a frame's boxes [K, 4] from 4 levels that are first brought together, channels last.

    About 40 small kernels and copies place the boxes.
    """
    channels, rows = LEVELS[0][0], frame_rows(len(boxes), side, boxes)
    maps = sum(c * h * w for c, h, w in LEVELS) * itemsize
    result = len(rows) * channels * itemsize
    gathered = pool_sectors(rows, channels, itemsize) * SECTOR * (2 if backward else 1)
    transposed = (3 if backward else 2) * maps  # backward clears the sums first
    return (
        max((maps + result) / MEMORY, (gathered + result) / CACHE)
        + transposed / MEMORY
        + (6 if backward else 46) * LAUNCH
    )


def small_pool_seconds(backward: bool = False) -> float:
    """`roi_align` of one box from one small map: nothing but launches, about 20 of which place the box."""
    return (5 if backward else 22) * LAUNCH


def suppress_seconds(count: int) -> float:
    """`batched_nms`: about 20 operations a pair of boxes, then five rounds over a bit a pair."""
    return 20 * count**2 / ARITHMETIC + 5 * (ROUND + count**2 / 8 / CACHE) + 10 * LAUNCH


def deform_sectors(offset: Tensor, layout: str, itemsize: int = 4, channels: int = 32) -> int:
    """The sectors of maps [h, w] that samples at their own pixels plus `offset` [P, 2, h, w] read, warp by warp.

    With channels last the P planes, 32 or a multiple, are channels of `channels`, and a warp reads 32 of one pixel.
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
    """[P, h, w, 4] -> [warps, 128], a warp of height x width pixels; those beyond the map are 0."""
    p, h, w, corners = values.shape
    padded = values.new_zeros(p, -(-h // height) * height, -(-w // width) * width, corners)
    padded[:, :h, :w] = values
    tiles = padded.unflatten(2, (-1, width)).unflatten(1, (-1, height))  # [P, tiles, height, tiles, width, 4]
    return tiles.transpose(2, 3).reshape(-1, height * width * corners)


def pool_sectors(
    rows: Tensor, channels: int, itemsize: int = 4, channels_last: bool = True, reuse: str = "warp", box: int = 1
) -> int:
    """The sectors that output cells read whose samples touch pixels `rows` [cells, taps], `box` cells a box.

    Channels last, a warp reads all channels of one cell's pixels; else one channel of the pixels of 32 cells. A sector
    counts once for each of `reuse` that reads it: each "load" (a warp's of one tap), each "warp" or each "box".
    """
    cells = box if reuse == "box" else 1 if channels_last else 32
    rows = torch.cat((rows, rows[-1:].expand(-len(rows) % cells, -1))).view(-1, cells, rows.shape[1])
    rows = rows.transpose(1, 2).flatten(0, 1) if reuse == "load" else rows.flatten(1)
    if channels_last:
        return distinct_sectors(rows * SECTOR) * -(-channels * itemsize // SECTOR)
    return distinct_sectors(rows * itemsize) * channels


def distinct_sectors(addresses: Tensor, valid: Tensor | None = None) -> int:
    """How many sectors the byte `addresses` [warps, reads] lie in, each warp on its own; only the `valid` are read."""
    sectors = addresses // SECTOR
    if valid is not None:
        sectors = torch.where(valid, sectors, -1)
    ordered = sectors.sort(dim=1).values
    first = torch.cat((ordered[:, :1] >= 0, (ordered[:, 1:] != ordered[:, :-1]) & (ordered[:, 1:] >= 0)), dim=1)
    return int(first.sum())


def frame_rows(count: int, side: int, boxes: Tensor | None = None) -> Tensor:
    """The pixels of a frame's four levels that each cell of pooled boxes reads, [cells, 16], 2 x 2 samples a cell."""
    maps = [torch.empty(1, 1, *shape[1:]) for shape in LEVELS]
    scales = [1 / s for s in STRIDES]
    rois = image_boxes([people(count) if boxes is None else boxes.cpu()])
    levels = assign_levels(rois[:, 1:], scales, 224, 4)
    placed = place(maps, Regions(rois, levels, scales, (side, side), 2, aligned=False))
    return sample_bags(placed, (side, side), (2, 2)).row.view(-1, 16).long()


if __name__ == "__main__":
    run(main)
