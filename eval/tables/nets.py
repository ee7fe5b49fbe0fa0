"""A table of offset nets by the control: do they align, or bring the pose along?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from dimofs.eval.tables.control import Control

# The columns of the table of offset nets.
COLUMNS = (
    "B = A", "true B", "other", "nobody", "copied", "gap other", "gap nobody", "motion", "/ none", "1000 par.", "ms",
)  # fmt: skip


def net_lines(found: Mapping[str, Control]) -> Iterator[str]:
    """The table of offset nets at the farthest delta: PCK@0.1 by what Frame B is, gaps, motion, size and time."""
    first = next(iter(found.values()))
    place = max(range(len(first.deltas)), key=lambda i: abs(first.deltas[i]))
    width = max(8, *map(len, found)) + 2
    yield f"Offset nets at delta {first.deltas[place]}: PCK@0.1 in labelled boxes, %; true B above the others;"
    yield "mean distance of P2's mean DiMoF from the motion of joints, px, and its ratio to standing still"
    yield " " * width + "".join(f"{name:>12}" for name in COLUMNS)
    for name, one in found.items():
        same, true, other, nobody, copied = (
            one.pck[kind][place] for kind in ("same", "true", "other", "nobody", "copied")
        )
        motion = one.motion[place], one.motion[place] / one.still[place] if one.still[place] else float("nan")
        cells = [same, true, other, nobody, copied, true - other, true - nobody, *motion]
        cells += [one.parameters / 1000, one.milliseconds]
        digits = [2 if column in ("motion", "/ none") else 1 for column in COLUMNS]
        texts = ["-" if math.isnan(cell) else f"{cell:.{n}f}" for cell, n in zip(cells, digits, strict=True)]
        yield f"{name:<{width}}" + "".join(f"{text:>12}" for text in texts)
