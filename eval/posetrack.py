"""PoseTrack: keypoint AP and MOTA of predictions, equal to the official evaluation tool (poseval).

    python -m eval.posetrack --gt GT --pred PRED                 # the paper's Tables 1 and 2
    python -m eval.posetrack --gt GT --pred PRED --corrected     # without the official tool's quirks
    python -m eval.posetrack --gt GT --pred PRED --per-sequence --json figures.json --plot figures.png
    python -m eval.posetrack --gt GT --pred PRED --hota          # HOTA of keypoints as well
    python -m eval.posetrack --gt GT --pred PRED --no-tracking   # AP alone, of poses without track ids
    python -m eval.posetrack --gt GT --pred PRED --oks           # AP of people by OKS, without head boxes

GT and PRED are files, or folders of files with the same names, in the formats of PoseTrack17 or 18, also gzipped.

Definitions. A joint is right within 0.5 head sizes (0.6 times the diagonal of the head box). Head is the mean of head
top, neck and nose, other columns of left and right; Mean is over the 15 joints that have a value. AP's recall is PCKh.
--official (the default) reproduces every quirk of the official tool: MOT leaves out the last labelled frame of a
sequence, a frame empty on one side counts as one miss and one false positive of each joint, MOTP sums all recorded
events. --corrected keeps that frame, counts such frames by person, and its MOTP sums matches only.
HOTA: similarity max(0, 1 - d / 0.5), thresholds .05 to .95, all labelled frames, people counted.
"""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from dimofs.cli import InputError, run
from dimofs.datasets.posetrack import JOINTS
from dimofs.eval import oks as by_oks
from dimofs.eval.pose_pairs import measure_all
from dimofs.eval.pose_plots import plot_scores
from dimofs.eval.pose_scores import GROUPS, Definition, VideoScores, by_group, figures, measure
from dimofs.files import write_json

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


def main(
    *,
    gt: Annotated[Path | None, "ground truth, a file or a folder"] = None,
    pred: Annotated[Path | None, "predictions, a file or a folder"] = None,
    official: Annotated[bool, "every quirk of the official tool (the default)"] = False,
    corrected: Annotated[bool, "without the quirks"] = False,
    tracking: Annotated[bool, "MOTA too, which needs track ids"] = True,
    hota: Annotated[bool, "HOTA too"] = False,
    oks: Annotated[bool, "AP of people by OKS instead, for files without head boxes"] = False,
    per_sequence: Annotated[bool, "print each sequence's figures"] = False,
    json: Annotated[Path | None, "write the figures here"] = None,
    plot: Annotated[Path | None, "draw precision over recall, and bars by joint, here (.png, .pdf, .svg)"] = None,
) -> None:
    if gt is None or pred is None:
        raise InputError("--gt GT and --pred PRED are needed: files or folders in a PoseTrack format (see --help)")
    if (official and corrected) or (oks and (official or corrected or hota or plot)):
        raise InputError("--official, --corrected and --oks exclude each other; --hota and --plot need head boxes")
    if oks:
        result = _by_oks(gt, pred, per_sequence)
    else:
        result = _by_heads(gt, pred, "corrected" if corrected else "official", tracking, hota, per_sequence, plot)
    if json is not None:
        write_json(json, _null(result))


def _by_heads(
    gt: Path, pred: Path, definition: Definition, tracking: bool, hota: bool, per_sequence: bool, plot: Path | None
) -> dict:
    work = partial(measure, definition=definition, tracking=tracking, hota=hota)
    videos = [video for video in measure_all(gt, pred, work) if video.frames]
    if not videos:
        raise InputError(f"{gt}: no frame has people in the ground truth; nothing can be measured")
    result = figures(videos, definition)
    each = {video.name: figures([video], definition) for video in videos}
    print(f"PoseTrack, {len(videos)} sequences, {result['frames']['ap']} frames, definition: {CONVENTIONS[definition]}")
    for line in (*table(result), *_notes(videos, result, tracking)):
        print(line)
    if per_sequence:
        print(*sequence_table(each), sep="\n")
    if plot is not None:
        plot_scores(plot, videos, result)
    return {"definition": definition, "joints": list(JOINTS), **result, "sequences": each}


def table(result: dict) -> list[str]:
    """The lines of the paper's Tables 1 and 2, with what they are made of; percent."""
    lines = [_line("", [*GROUPS, "Mean"])]
    lines += [_line(label, by_group(result[field])) for field, label in ROWS.items() if field in result]
    counts = {name: sum(values) for name, values in result["counts"].items()}
    return [*lines, "joints in MOT: " + ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in counts.items())]


def sequence_table(each: dict[str, dict]) -> list[str]:
    """A line for each sequence: the totals of all rows, and its identity switches."""
    fields = [field for field in ROWS if all(field in result for result in each.values())]
    width = max(map(len, each))
    lines = [_line("", [*(ROWS[field] for field in fields), "switches"], width)]
    for name, result in each.items():
        switches = str(sum(result["counts"]["switches"]))
        lines.append(_line(name, [*(result[field][-1] for field in fields), switches], width))
    return lines


def _line(label: str, cells: Sequence[str | float], width: int = 8) -> str:
    texts = [cell if isinstance(cell, str) else "-" if math.isnan(cell) else f"{cell:.1f}" for cell in cells]
    return f"{label:<{width}}" + "".join(f"{text:>9}" for text in texts)


def _notes(videos: Sequence[VideoScores], result: dict, tracking: bool) -> list[str]:
    """What a reader must know to trust the numbers."""
    notes = []
    if result["ties"] > 0:
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


def _by_oks(gt: Path, pred: Path, per_sequence: bool) -> dict:
    videos = measure_all(gt, pred, by_oks.measure)
    result, each = by_oks.figures(videos), {video.name: by_oks.figures([video]) for video in videos}
    frames, people = sum(v.frames for v in videos), sum(v.people for v in videos)
    print(f"PoseTrack, {len(videos)} sequences, {frames} frames, {people} people, AP of people by OKS")
    width = max(8, *map(len, each)) if per_sequence else 8
    print(_line("", list(result), width))
    for name, row in {"all": result, **(each if per_sequence else {})}.items():
        print(_line(name, list(row.values()), width))
    return {"definition": "oks", **result, "sequences": each}


def _null(value: Any) -> Any:
    """The same with None for NaN, as JSON has it."""
    if isinstance(value, dict):
        return {key: _null(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_null(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


if __name__ == "__main__":
    run(main)
