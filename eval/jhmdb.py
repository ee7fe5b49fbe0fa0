"""Action detection on JHMDB or anything labelled alike: frame-mAP and video-mAP.

    python -m dimofs.eval.jhmdb --gt labels.json --pred detections.json
    python -m dimofs.eval.jhmdb --gt labels.json --pred detections.json --definition act --nms 0.3 --no-video

The formats of the two files are those of `dimofs.eval.actions.files`. frame-mAP is printed by the definitions voc, yowo
and act of `dimofs.eval.actions.frame_map`; the table of classes shows the one that --definition names. video-mAP is
that of tubes linked from the detections (`dimofs.eval.actions.tubes`), at an overlap of .2 and .5 and as the mean
over .5, .55, ... .95. Means are over the classes that have labels.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from dimofs.cli import RESULT, InputError, Range, run
from dimofs.eval.actions.files import Truth, read_found, read_truth
from dimofs.eval.actions.frame_map import DEFINITIONS, Definition, LabelledBoxes, frame_ap, suppressed
from dimofs.eval.actions.tubes import STRICT, link, true_tubes, video_ap
from dimofs.files import write_json
from dimofs.pages.report import recorded


def main(
    *,
    gt: Annotated[Path, "JSON file of labels"],
    pred: Annotated[Path, "JSON file of detections"],
    definition: Annotated[Literal["voc", "yowo", "act"], "definition of the table of classes"] = "voc",
    iou: Annotated[float, "least IoU of a right detection", Range(0.01, 1)] = 0.5,
    nms: Annotated[float | None, "suppress detections of one class above this IoU first", Range(0, 1)] = None,
    video: Annotated[bool, "also link tubes and print video-mAP"] = True,
    json: Annotated[Path | None, "write the figures here", RESULT] = None,
    html: Annotated[Path | None, "write the printed tables here as a page", RESULT] = None,
) -> None:
    truth = read_truth(gt)
    found, notes = read_found(pred, truth)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    if nms is not None:
        found = suppressed(found, nms)
    result = figures(truth, found, iou, video)
    with recorded(html, "Action detection on JHMDB"):
        print(f"{pred.name}: {len(found)} detections in {len(truth.frames)} frames, {len(truth.boxes)} labels")
        print_figures(result, definition)
    if json is not None:
        write_json(json, result)


def figures(truth: Truth, found: LabelledBoxes, threshold: float = 0.5, video: bool = True) -> dict[str, Any]:
    """Every figure in percent: frame-mAP and AP by class of each definition, video-mAP; None where nothing is labelled.

    InputError: nothing is labelled at all.
    """
    if not len(truth.boxes):
        raise InputError("the labels hold no box; there is nothing to find")
    count = len(truth.classes)
    result: dict[str, Any] = {"iou": threshold, "frame_map": {}, "ap": {}}
    for name in DEFINITIONS:
        ap = 100 * frame_ap(truth.boxes, found, count, name, threshold)
        result["frame_map"][name] = float(np.nanmean(ap))
        result["ap"][name] = _by_class(truth, ap)
    if video:
        wanted, tubes = true_tubes(truth), link(truth, found)
        by_threshold = {t: 100 * video_ap(wanted, tubes, count, t) for t in (0.2, *STRICT)}
        strict = np.mean([by_threshold[t] for t in STRICT], axis=0)
        columns = {"0.2": by_threshold[0.2], "0.5": by_threshold[0.5], "0.5:0.95": strict}
        result["video_map"] = {name: float(np.nanmean(ap)) for name, ap in columns.items()}
        result["video_ap"] = {name: _by_class(truth, ap) for name, ap in columns.items()}
    return result


def _by_class(truth: Truth, ap: np.ndarray) -> dict[str, float | None]:
    return {name: None if np.isnan(x) else float(x) for name, x in zip(truth.classes, ap, strict=True)}


def print_figures(result: dict[str, Any], definition: Definition) -> None:
    """Print the table of classes, then the means."""
    columns = {f"frame {definition}": result["ap"][definition]}
    columns |= {f"video {name}": ap for name, ap in result.get("video_ap", {}).items()}
    means = [result["frame_map"][definition], *result.get("video_map", {}).values()]
    width = max(len(name) for name in (*result["ap"][definition], "mean of classes"))
    print(" " * width + "".join(f"{name:>16}" for name in columns))
    for name in result["ap"][definition]:
        cells = ["-" if ap[name] is None else f"{ap[name]:.1f}" for ap in columns.values()]
        print(f"{name:{width}}" + "".join(f"{cell:>16}" for cell in cells))
    print(f"{'mean of classes':{width}}" + "".join(f"{mean:>16.1f}" for mean in means))
    every = ", ".join(f"{name} {mean:.2f}" for name, mean in result["frame_map"].items())
    print(f"frame-mAP@{result['iou']:g}: {every}")


if __name__ == "__main__":
    run(main)
