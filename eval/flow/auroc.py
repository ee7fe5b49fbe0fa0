"""Area under the ROC curve, exactly; intervals by the bootstrap over clips, and tables of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

ROUNDS = 2000


def auroc(scores: np.ndarray, right: np.ndarray) -> float:
    """The chance that a random member of `right` (bool) scores more than a random other one; ties count half.

    NaN if there is no member or no other.
    """
    positives = int(right.sum())
    negatives = right.size - positives
    if not positives or not negatives:
        return float("nan")
    ranks = rankdata(scores.ravel())
    return float((ranks[right.ravel()].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def by_clip(clips: Sequence[str], values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums and counts of the values [K, E] of each of C clips, both [C, E]; NaN counts as absent."""
    names = {name: row for row, name in enumerate(dict.fromkeys(clips))}
    rows = np.array([names[clip] for clip in clips], dtype=int)
    sums, counts = np.zeros((len(names), values.shape[1])), np.zeros((len(names), values.shape[1]))
    np.add.at(sums, rows, np.nan_to_num(values))
    np.add.at(counts, rows, np.isfinite(values))
    return sums, counts


def resampled_means(sums: np.ndarray, counts: np.ndarray, rounds: int = ROUNDS, seed: int = 0) -> np.ndarray:
    """[R, E]: the means over R draws of C clips with replacement."""
    clips = len(sums)
    drawn = np.random.default_rng(seed).multinomial(clips, np.full(clips, 1 / clips), size=rounds)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (drawn @ sums) / (drawn @ counts)


def interval(draws: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of draws [R]; NaN if there are none."""
    known = draws[np.isfinite(draws)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, (0.025, 0.975))
    return float(low), float(high)


def interval_table(
    title: str,
    groups: Mapping[str, Mapping[str, Any]],
    names: Mapping[str, str],
    fields: tuple[str, str],
    *,
    digits: tuple[int, int],
    column: int,
) -> list[str]:
    """Lines of a table: a column a group, a row a name, each cell a mean with its interval over clips.

    groups: by heading, with `clips`, a count and `rows`. names: titles of the rows. fields: of the count and of the
    mean. digits: of the mean and of the interval. column: width of a column.
    """
    width = max(map(len, names.values()))
    counted, field = fields
    printed = [f"{title:{width}}" + "".join(f"{heading:>{column}}" for heading in groups)]
    counts = [f"{group[counted]} in {group['clips']} clips" for group in groups.values()]
    printed.append(f"{counted:{width}}" + "".join(f"{cell:>{column}}" for cell in counts))
    for name, row_title in names.items():
        cells = []
        for group in groups.values():
            row = group["rows"][name]
            low, high = (float("nan") if limit is None else limit for limit in row["interval"])
            cells.append(f"{row[field]:.{digits[0]}f} [{low:.{digits[1]}f}-{high:.{digits[1]}f}]")
        printed.append(f"{row_title:{width}}" + "".join(f"{cell:>{column}}" for cell in cells))
    return printed
