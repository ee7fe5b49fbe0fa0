"""Plots of PoseTrack's figures: precision over recall, AP and MOTA by joint, models side by side, and Figure 6."""

import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from dimofs.cli import InputError
from dimofs.eval.keypoints.ap import curve
from dimofs.eval.keypoints.scores import GROUPS, VideoScores, by_group, pooled
from dimofs.eval.tables.compare import Sweep
from dimofs.eval.tables.control import KINDS, Control
from dimofs.files import replacing
from dimofs.formats.posetrack import JOINTS

SUFFIXES = ("png", "pdf", "svg")


def plot_scores(path: Path, videos: Sequence[VideoScores], result: dict) -> None:
    """Plot `result`, the figures of `videos`: precision over recall, AP and MOTA by joint. InputError: as `save`."""

    def draw(figure: Any) -> None:
        curves, bars = figure.subplots(1, 2)
        for name, joints in GROUPS.items():
            score, right, annotated = pooled(videos, [JOINTS.index(joint) for joint in joints])
            if annotated and len(score):
                curves.plot(*curve(score, right, annotated), label=name)
        curves.set(
            xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title="Keypoints, by pair of joints"
        )
        if curves.get_lines():
            curves.legend(fontsize="small", loc="lower right")
        curves.grid(alpha=0.3)
        _bars(bars, {"AP": by_group(result["ap"]), "MOTA": by_group(result["mota"])})

    save(path, (11, 4.2), draw)


def plot_rows(path: Path, rows: dict[str, list[float]], measure: str) -> None:
    """Plot the rows of a table, percent, as bars by joint. InputError: as `save`."""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        _bars(axes, rows)
        axes.set(title=measure)

    save(path, (7, 4.2), draw)


def plot_sweep(path: Path, sweep: Sweep) -> None:
    """Plot Figure 6. InputError: as `save`."""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.axhline(sweep.single, linestyle="--", color="black", label="single frame A")
        axes.plot(sweep.deltas, sweep.dimofs, marker="o", label="A's poses from B's features (DiMoFs)")
        axes.plot(sweep.deltas, sweep.copied, marker="s", color="tab:pink", label="B's poses copied to A")
        axes.set(xlabel="delta, frames from A to B", ylabel="mAP, %", ylim=(0, 100))
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend()
        axes.grid(alpha=0.3)

    save(path, (7, 4.2), draw)


def plot_control(path: Path, found: Control) -> None:
    """Plot the control: PCK@0.1 and mAP over delta, a line for each kind of Frame B. InputError: as `save`."""

    def draw(figure: Any) -> None:
        for axes, (title, rows) in zip(
            figure.subplots(1, 2), (("PCK@0.1 in labelled boxes", found.pck), ("mAP", found.ap)), strict=True
        ):
            for kind, row in rows.items():
                axes.plot(found.deltas, row, marker="o", label=KINDS[kind])
            axes.set(xlabel="delta, frames from A to B", ylabel=f"{title}, %", ylim=(0, 100))
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(alpha=0.3)
        figure.axes[0].legend(fontsize="small")

    save(path, (11, 4.2), draw)


def save(path: Path, size: tuple[float, float], draw: Callable[[Any], None]) -> None:
    """Write a figure of `size` inches, filled by `draw`, to `path`.

    InputError: as `check_plot`, or the file cannot be written.
    """
    check_plot(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    draw(figure)
    with replacing(path) as temporary, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        figure.savefig(temporary, format=_kind(path), dpi=150)
    if any("missing from" in str(warning.message) for warning in caught):
        print(f"note: {path}: the plot's font lacks characters of some names; they are drawn as boxes", file=sys.stderr)


def check_plot(path: Path, option: str = "--plot") -> None:
    """InputError: the name of a plot does not end in .png, .pdf or .svg, or matplotlib is missing."""
    if _kind(path) not in SUFFIXES:
        raise InputError(f"{option} {path}: the name must end in .{', .'.join(SUFFIXES)}")
    if find_spec("matplotlib") is None:
        raise InputError(f"{option} needs matplotlib: pip install 'dimofs[eval]'")


def _kind(path: Path) -> str:
    return path.suffix.removeprefix(".").lower()


def _bars(axes: Any, rows: dict[str, list[float]]) -> None:
    """Bars by joint group and for the mean, with one colour for each row."""
    names, width = [*GROUPS, "Mean"], 0.8 / len(rows)
    for i, (label, row) in enumerate(rows.items()):
        places = np.arange(len(names)) + (i - (len(rows) - 1) / 2) * width
        axes.bar(places, np.nan_to_num(row), width, label=label)
        for place, value in zip(places, row, strict=True):
            text = "-" if np.isnan(value) else f"{value:.0f}"
            axes.text(place, max(np.nan_to_num(value), 0) + 1, text, ha="center", fontsize="x-small")
    axes.set_xticks(range(len(names)), names)
    axes.set(ylabel="%", title=" and ".join(rows))
    axes.set_ylim(top=115)
    axes.legend(fontsize="small", loc="upper right", ncols=2)
    axes.grid(axis="y", alpha=0.3)
