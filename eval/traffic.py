"""Memory traffic of the Triton kernels, counted without a GPU, and the times it predicts for an H100.

    python -m eval.traffic

GPUs read memory in sectors of 32 bytes. For random offsets of 2 pixels and boxes of all sizes, this counts the sectors
that the 32 threads of each warp read of the sampled map, in each layout that was considered. The floor is every byte of
the map read once. The predicted time of a kernel is the longest of what the memory (every tensor once), the
second-level cache (all sectors) and the arithmetic units need, plus the launches.

A sector that a warp reads twice counts once, because the first-level cache holds it. For RoIAlign everything depends on
that. For 7 x 7 bins in float32, loads that share nothing read 2.8 times as many sectors in planar layout as channels
last (3.7 times for boxes of 14 to 28 cells; in bfloat16 4.1 and 5.1 times). Loads of one warp that share read as many
(1.4 times in bfloat16), loads of a whole box 1.4 times (2.0 times in bfloat16). For 14 x 14 bins planar warps read half
as many. So channels last saves requests to the first-level cache rather than traffic beyond it.

What would refute this: on an H100 at free clocks, `python -m eval.speed kernels --device cuda` measures more than twice
a predicted time, or less than 0.7 of it, at 200x336 or 1000 boxes. These bounds are printed beside each prediction. The
sectors that Nsight Compute counts (lts__t_sectors_op_read.sum) then tell whether the count or the bandwidth is wrong.
"""

import itertools
from pathlib import Path
from typing import Annotated

from dimofs.cli import RESULT, run
from dimofs.eval.timing import sectors
from dimofs.eval.timing.inputs import LEVELS, normal, people
from dimofs.pages.report import recorded

# A measured time beyond these multiples of the predicted one refutes the prediction.
REFUTED = (0.7, 2)


def main(*, html: Annotated[Path | None, "write the printed tables here as a page", RESULT] = None) -> None:
    with recorded(html, "Memory traffic"):
        print("sectors over the floor")
        for name, ratio in ratios().items():
            print(f"{name:48} {ratio:6.2f}")
        print("\npredicted on an H100, ms; refuted if measured below, above")
        for name, seconds in predictions().items():
            print(f"{name:48}" + "".join(f" {1e3 * seconds * bound:6.3f}" for bound in (1, *REFUTED)))


def ratios() -> dict[str, float]:
    """Bytes of sectors read over bytes of the maps (for RoIAlign of its result), by kernel, layout and dtype."""
    c, h, w = LEVELS[0]
    offset, floor = normal(32, 2, h, w, seed=1) * 2, 32 * h * w
    found = {}
    for layout, size in itertools.product(sectors.LAYOUTS, (4, 2)):
        read = sectors.deform_sectors(offset, layout, size, c) * sectors.SECTOR
        found[f"deform_sample, {layout}, {8 * size} bits"] = read / floor / size
    rows = sectors.frame_rows(1000, 7)
    for size, last, reuse in itertools.product((4, 2), (False, True), sectors.REUSES):
        read = sectors.pool_sectors(rows, c, size, last, reuse, 49) * sectors.SECTOR
        name = f"roi_align, {'channels last' if last else 'planar'}, {8 * size} bits, by {reuse}"
        found[name] = read / (len(rows) * c * size)
    return found


def predictions() -> dict[str, float]:
    """Seconds by kernel, for the largest level of a frame and for 1000 boxes."""
    c, h, w = LEVELS[0]
    offset = normal(1, 2 * c, h, w, seed=1) * 2
    taps, boxes = normal(1, 18, h, w, seed=1) * 2, people(1000)
    return {
        "deform_sample 256x200x336": sectors.deform_seconds(offset),
        "deform_sample 256x200x336 backward": sectors.deform_seconds(offset, backward=True),
        "deform_conv2d 256x200x336 3x3": sectors.convolve_seconds(taps, c),
        "deform_conv2d 256x200x336 3x3 backward": sectors.convolve_backward_seconds(taps, c),
        "roi_align, 4 levels, 1000x256x7x7": sectors.pool_seconds(boxes, 7),
        "roi_align, 4 levels, 1000x256x7x7 backward": sectors.pool_seconds(boxes, 7, backward=True),
        "roi_align, 1x256x7x7 of 8x8": sectors.small_pool_seconds(),
        "roi_align, 1x256x7x7 of 8x8 backward": sectors.small_pool_seconds(backward=True),
        "batched_nms 10000 boxes": sectors.suppress_seconds(10000),
    }


if __name__ == "__main__":
    run(main)
