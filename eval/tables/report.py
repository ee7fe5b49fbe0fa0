"""PoseTrack's figures as people read them: the paper's Tables 1 and 2, a line for each sequence, notes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from dimofs.cli import InputError
from dimofs.eval.keypoints.scores import GROUPS, Definition, VideoScores, by_group, figures
from dimofs.eval.tables.plots import plot_scores
from dimofs.formats.posetrack import JOINTS

CONVENTIONS: dict[Definition, str] = {
    "official": "official (every quirk of poseval; the other definition: --corrected)",
    "corrected": "corrected (last frames kept, people of empty frames counted, MOTP over matches; "
    "the other definition: --official)",
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
    tracking: bool,
    per_sequence: bool,
    plot: Path | None,
) -> dict:
    """Print, and with `plot` draw, the figures of some videos; what --json writes. InputError: nobody is annotated."""
    videos = [video for video in videos if video.frames]
    if not videos:
        raise InputError(f"{source}: no frame has people in the ground truth; nothing can be measured")
    result = figures(videos, definition)
    each = {video.name: figures([video], definition) for video in videos}
    print(f"{source}: {len(videos)} sequences, {result['frames']['ap']} frames, definition: {CONVENTIONS[definition]}")
    print(*table(result), *_notes(videos, result, tracking), sep="\n")
    if per_sequence:
        print(*sequence_table(each), sep="\n")
    if plot is not None:
        plot_scores(plot, videos, result)
    return {"definition": definition, "joints": list(JOINTS), **result, "sequences": each}


def table(result: dict) -> list[str]:
    """The lines of the paper's Tables 1 and 2, with what they are made of; percent."""
    lines = [line("", [*GROUPS, "Mean"])]
    lines += [line(label, by_group(result[field])) for field, label in ROWS.items() if field in result]
    counts = {name: sum(values) for name, values in result["counts"].items()}
    return [*lines, "joints in MOT: " + ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in counts.items())]


def sequence_table(each: dict[str, dict]) -> list[str]:
    """A line for each sequence: the totals of all rows, and its identity switches."""
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


def _notes(videos: Sequence[VideoScores], result: dict, tracking: bool) -> list[str]:
    """What a reader must know to trust the numbers."""
    notes = []
    if result["ties"] >= 0.005:
        notes.append(
            f"note: predictions with equal scores leave a joint's AP open by up to {result['ties']:.2f}; they count in "
            "the order of the files, the official tool's order is not defined"
        )
    if short := [video.name for video in videos if tracking and not video.tracked_frames]:
        notes.append(
            f"note: {', '.join(short[:3])}{' ...' * (len(short) > 3)} has one labelled frame, which the official MOT "
            "leaves out, so it counts in AP alone; see --corrected"
        )
    return notes
