"""A plot of what eval.motion measures: means with their intervals over clips, a line for each row of the table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dimofs.eval.tables.plots import save


def plot_means(path: Path, groups: Mapping[str, Any], names: Mapping[str, str], field: str, label: str) -> None:
    """Plot the means `field` of the rows of each group, side by side, with their 95 % intervals.

    groups: by title, as the measuring modules of `dimofs.eval.flow` return them. names: of the rows, by their keys.
    InputError: as `dimofs.eval.tables.plots.save`.
    """
    groups = {title: group for title, group in groups.items() if group["rows"]}
    shown = [name for name in names if all(name in group["rows"] for group in groups.values())]

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for number, name in enumerate(shown):
            rows = [group["rows"][name] for group in groups.values()]
            known = [(place, row) for place, row in enumerate(rows) if row[field] is not None]
            means = [row[field] for _, row in known]
            limits = [row["interval"] if None not in row["interval"] else [row[field]] * 2 for _, row in known]
            below = [mean - low for mean, (low, _) in zip(means, limits, strict=True)]
            above = [high - mean for mean, (_, high) in zip(means, limits, strict=True)]
            places = [place + 0.7 * ((number + 0.5) / len(shown) - 0.5) for place, _ in known]
            axes.errorbar(places, means, [below, above], fmt="o", markersize=3, label=names[name], color=f"C{number}")
        axes.set_xticks(range(len(groups)), list(groups))
        axes.set(ylabel=label)
        axes.grid(axis="y", alpha=0.3)
        axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))

    save(path, (11, 4.8), draw)
