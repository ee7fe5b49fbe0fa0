"""Endpoint errors at labelled points by delta and by speed, with intervals over clips and ratios to Farneback."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf
from typing import Any

import numpy as np
from torch import Tensor
from tqdm import tqdm

from dimofs.eval.flow.auroc import by_clip, interval, resampled_means
from dimofs.eval.flow.estimators import ROWS, estimates, random_offset_net, see
from dimofs.eval.flow.probes import Clip, probes
from dimofs.eval.keypoints.undefined import none_for_nan
from dimofs.zoo.detection.detector import PoseDetector

# How far points move between the two frames, in pixels, by the name of the group.
SPEEDS = {"0-2 px": (0, 2), "2-8 px": (2, 8), "8-24 px": (8, 24), "24 px on": (24, inf)}


def measure(
    detector: PoseDetector, fitted: dict[str, Tensor], clips: Iterable[Clip], deltas: Sequence[int], starts: int
) -> dict[str, Any]:
    """The distances of every estimate from the labels: `clips`, `deltas` and `moved` (how far) of each of K points,
    and `errors` [K, E] in the order of `names`."""
    rows: list[np.ndarray] = []
    names: list[str] = []
    owners: list[str] = []
    control = None
    for clip in tqdm(clips, "clips", disable=None):
        for probe in probes(clip, deltas, starts):
            seen = see(detector, probe)
            control = control or random_offset_net(seen.a.levels[0].shape[1])
            found = estimates(detector, control, fitted, probe, seen)
            names = list(found)
            for place, delta in enumerate(sorted(probe.others)):
                truth = probe.moves[delta]
                known = truth.isfinite().all(dim=1)
                errors = [(found[name][place] - truth).norm(dim=1)[known] for name in names]
                columns = [np.full(int(known.sum()), delta), truth[known].norm(dim=1), *errors]
                rows.append(np.stack([np.asarray(column, dtype=float) for column in columns], axis=1))
                owners += [clip.name] * int(known.sum())
    table = np.concatenate(rows) if rows else np.zeros((0, 2))
    return {"clips": owners, "deltas": table[:, 0], "moved": table[:, 1], "errors": table[:, 2:], "names": names}


def summary(measured: dict[str, Any], deltas: Sequence[int]) -> dict[str, Any]:
    """Mean errors in pixels and ratios to Farneback, each with its 95 % interval, by delta, by speed and over all."""
    groups = {f"delta {delta}": measured["deltas"] == delta for delta in deltas}
    moved = measured["moved"]
    groups |= {name: (moved >= low) & (moved < high) for name, (low, high) in SPEEDS.items()}
    groups["all"] = np.ones(len(moved), dtype=bool)
    return {name: _group(measured, chosen) for name, chosen in groups.items()}


def _group(measured: dict[str, Any], chosen: np.ndarray) -> dict[str, Any]:
    names = measured["names"]
    owners = [clip for clip, one in zip(measured["clips"], chosen, strict=True) if one]
    if not owners:
        return {"points": 0, "rows": {}}
    sums, counts = by_clip(owners, measured["errors"][chosen])
    draws = resampled_means(sums, counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums.sum(axis=0) / counts.sum(axis=0)
    base = names.index("farneback")
    rows = {}
    for i, name in enumerate(names):
        rows[name] = {
            "error": none_for_nan(float(means[i])),
            "interval": none_for_nan(list(interval(draws[:, i]))),
            "ratio": none_for_nan(float(means[i] / means[base])),
            "ratio_interval": none_for_nan(list(interval(draws[:, i] / draws[:, base]))),
        }
    return {"points": len(owners), "clips": len(sums), "rows": rows}


def lines(result: dict[str, Any]) -> list[str]:
    """The table of a summary: for each estimate its mean error and, below, the ratio to Farneback with its interval."""
    groups = {name: group for name, group in result.items() if group["points"]}
    width = max(map(len, ROWS.values()))
    head = "".join(f"{name:>16}" for name in groups)
    printed = [f"{'endpoint error, px':{width}}{head}"]
    printed.append(f"{'points':{width}}" + "".join(f"{group['points']:>16}" for group in groups.values()))
    names = list(next(iter(groups.values()))["rows"])
    for name in names:
        cells = [_cell(group["rows"][name], "error", "interval") for group in groups.values()]
        printed.append(f"{ROWS[name]:{width}}" + "".join(f"{cell:>16}" for cell in cells))
    printed.append(f"{'ratio to Farneback':{width}}{head}")
    for name in names:
        cells = [_cell(group["rows"][name], "ratio", "ratio_interval") for group in groups.values()]
        printed.append(f"{ROWS[name]:{width}}" + "".join(f"{cell:>16}" for cell in cells))
    return printed


def _cell(row: dict[str, Any], value: str, limits: str) -> str:
    if row[value] is None:
        return "-"
    low, high = row[limits]
    spread = "" if low is None else f" [{low:.2f}-{high:.2f}]"
    return f"{row[value]:.2f}{spread}"
