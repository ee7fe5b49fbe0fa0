"""PoseTrack's figures in print: the paper's Tables 1 and 2, a line for each sequence, and notes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from dimofs.cli import InputError
from dimofs.eval.keypoints.order import listed, pairing_notes
from dimofs.eval.keypoints.scores import GROUPS, Definition, VideoScores, by_group, figures
from dimofs.eval.tables.plots import plot_scores
from dimofs.formats.posetrack import JOINTS

CONVENTIONS: dict[Definition, str] = {
    "official": "official (every quirk of poseval, frames paired by place; the other definition: --corrected)",
    "corrected": "corrected (last frames kept, people of empty frames counted, MOTP over matches, frames paired by "
    "name; the other definition: --official)",
}
ROWS = {
    "ap": "mAP",
    "ap_precision": "AP prec",
    "ap_recall": "AP rec",
    "mota": "MOTA",
    "motp": "MOTP",
    "mot_precision": "Prec",
    "mot_recall": "Rec",
    "hota": "HOTA",
    "deta": "DetA",
    "assa": "AssA",
}


def report(
    videos: Sequence[VideoScores],
    source: str,
    definition: Definition,
    *,
    tracking: bool = True,
    per_sequence: bool = False,
    plot: Path | None = None,
) -> dict:
    """Print the figures of some videos, plot them if asked to, and return what --json writes.

    InputError: nobody is annotated; and as `plot_scores`.
    """
    videos = [video for video in videos if video.frames]
    if not videos:
        raise InputError(f"{source}: no frame has people in the ground truth; nothing can be measured")
    result = figures(videos, definition)
    each = {video.name: figures([video], definition) for video in videos}
    print(f"{source}: {len(videos)} sequences, {result['frames']['ap']} frames, definition: {CONVENTIONS[definition]}")
    print(*table(result), *_notes(videos, result, definition, tracking), sep="\n")
    if per_sequence:
        print(*sequence_table(each), sep="\n")
    if plot is not None:
        plot_scores(plot, videos, result)
    content = {"definition": definition, "joints": list(JOINTS), **result, "sequences": each}
    odd = {video.name: video.pairing for video in videos if video.pairing != "same"}
    return content | ({"pairing": odd} if odd else {})


def table(result: dict) -> list[str]:
    """The lines of the paper's Tables 1 and 2, percent, and the counts behind them."""
    lines = [line("", [*GROUPS, "Mean"])]
    lines += [line(label, by_group(result[field])) for field, label in ROWS.items() if field in result]
    counts = {name: sum(values) for name, values in result["counts"].items()}
    return [*lines, "joints in MOT: " + ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in counts.items())]


def sequence_table(each: dict[str, dict]) -> list[str]:
    """A line for each sequence: the total of each row, and its identity switches."""
    fields = [field for field in ROWS if all(field in result for result in each.values())]
    width = max(map(len, each))
    lines = [line("", [*(ROWS[field] for field in fields), "switches"], width)]
    for name, result in each.items():
        switches = str(sum(result["counts"]["switches"]))
        lines.append(line(name, [*(result[field][-1] for field in fields), switches], width))
    return lines


def line(label: str, cells: Sequence[str | float], width: int = 8) -> str:
    """A row of a table; numbers with one decimal, NaN as "-"."""
    texts = [cell if isinstance(cell, str) else "-" if math.isnan(cell) else f"{cell:.1f}" for cell in cells]
    return f"{label:<{width}}" + "".join(f"{text:>9}" for text in texts)


def _notes(videos: Sequence[VideoScores], result: dict, definition: Definition, tracking: bool) -> list[str]:
    """What a reader must know to trust the figures."""
    notes = pairing_notes(videos, official=definition == "official")
    if result["ties"] >= 0.005:
        notes.append(
            f"note: the order of predictions with equal scores can change a joint's AP by up to {result['ties']:.2f}; "
            "here they count in the order of the files, the official tool's order is not defined"
        )
    if short := [video.name for video in videos if tracking and not video.tracked_frames]:
        notes.append(
            f"note: {listed(short)}: has one labelled frame, which the official MOT leaves out, so it counts in AP "
            "alone; see --corrected"
        )
    return notes
