"""Plots of PoseTrack's figures: precision over recall, and AP and MOTA by joint."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dimofs.cli import InputError
from dimofs.datasets.posetrack import JOINTS
from dimofs.eval.keypoint_ap import curve
from dimofs.eval.pose_scores import GROUPS, VideoScores, by_group, pooled
from dimofs.files import replacing

KINDS = ("png", "pdf", "svg")


def plot_scores(path: Path, videos: Sequence[VideoScores], result: dict) -> None:
    """Write the plot of `result`, the figures of `videos`.

    InputError: matplotlib is missing, the name does not end in .png, .pdf or .svg, the file cannot be written.
    """
    kind = path.suffix.removeprefix(".").lower()
    if kind not in KINDS:
        raise InputError(f"--plot {path}: the name must end in .{', .'.join(KINDS)}")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("--plot needs matplotlib: pip install 'dimofs[eval]'") from error
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    curves, bars = figure.subplots(1, 2)
    for name, joints in GROUPS.items():
        score, right, annotated = pooled(videos, [JOINTS.index(joint) for joint in joints])
        if annotated and len(score):
            curves.plot(*curve(score, right, annotated), label=name)
    curves.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title="Keypoints, by pair of joints")
    curves.legend(fontsize="small", loc="lower right")
    curves.grid(alpha=0.3)
    _bars(bars, result)
    with replacing(path) as temporary:
        figure.savefig(temporary, format=kind, dpi=150)


def _bars(axes, result: dict) -> None:
    names = [*GROUPS, "Mean"]
    shown = {"ap": "AP", "mota": "MOTA"}
    for i, (field, label) in enumerate(shown.items()):
        values = np.nan_to_num(by_group(result[field]))
        places = np.arange(len(names)) + (i - 0.5) * 0.4
        for place, value in zip(places, values, strict=True):
            axes.text(place, max(value, 0) + 1, f"{value:.0f}", ha="center", fontsize="x-small")
        axes.bar(places, values, 0.4, label=label)
    axes.set_xticks(range(len(names)), names)
    axes.set(ylabel="%", title="AP and MOTA")
    axes.set_ylim(top=115)
    axes.legend(fontsize="small", loc="upper right", ncols=2)
    axes.grid(axis="y", alpha=0.3)
