"""Action detection on JHMDB or anything labelled alike: frame-mAP and video-mAP, Table 3 and Figure 7.

    python -m dimofs.eval.jhmdb --gt labels.json --pred detections.json
    python -m dimofs.eval.jhmdb --gt labels.json --pred detections.json --definition act --nms 0.3 --no-video
    python -m dimofs.eval.jhmdb --jhmdb CLIPS --jhmdb-labels JHMDB --weights runs/jhmdb/model --save detections.json
    python -m dimofs.eval.jhmdb --jhmdb CLIPS --jhmdb-labels JHMDB --table 3 --json table3.json
    python -m dimofs.eval.jhmdb --jhmdb CLIPS --jhmdb-labels JHMDB --table 3 --columns appearance DiMoFs --split 2
    python -m dimofs.eval.jhmdb --jhmdb CLIPS --jhmdb-labels JHMDB --table 3 --part held-out --weights dimofs_mobile \\
        --columns appearance+dimofs@10 appearance+dimofs@5+dimofs@-5 --hidden 512 --tracks
    python -m dimofs.eval.jhmdb --jhmdb CLIPS --jhmdb-labels JHMDB --figure 7 --every 10 --plot figure7.png
    python -m dimofs.eval.jhmdb --table 3 --twins 100

Labels and detections (more in `dimofs.eval.actions.files`):

    {"classes": ["wave", ...], "gt": [{"video": "wave/clip", "frame": 1,
        "boxes": [{"label": 0, "box": [x1, y1, x2, y2]}]}, ...]}
    [{"video": "wave/clip", "frame": 1, "label": 0, "score": 0.9, "box": [x1, y1, x2, y2]}, ...]

frame-mAP is printed by the definitions voc, yowo and act of `dimofs.eval.actions.frame_map`; the table of classes shows
the one that --definition names. video-mAP is that of tubes linked from the detections (`dimofs.eval.actions.tubes`), at
an overlap of .2 and .5 and as the mean over .5, .55, ... .95. Means are over the classes that have labels.

A model (--weights of an action localizer) runs over the test clips. --table 3 instead trains the heads of all columns,
once for each seed, on the same regions of the same frozen pose detector (--weights, by default dimofs_mobile_v2), and
prints their frame-mAP with differences and intervals over resampled clips. "random offsets" are those of an offset net
of the detector's own kind with random weights; a detector whose offset net aligns also has columns of that net before
training and of the paper's with random weights. With --part held-out the heads train on three quarters of the training
clips and are judged on the others, to choose a recipe before the test clips are looked at; --columns takes streams too
(`dimofs.eval.tables.action_columns`).

With --tune N the last stage of the backbone, the pyramid and the offset net learn with each column for N more steps, as
they do in the paper (`dimofs.eval.tables.tuned`), of columns that read nothing but features and DiMoFs:

    python -m dimofs.eval.jhmdb --jhmdb CLIPS --jhmdb-labels JHMDB --table 3 --tune 200 \\
        --columns appearance 'random offsets, delta 0' 'random offsets' 'DiMoFs, delta 0' DiMoFs

--figure 7 trains heads on pairs of random delta and tests them at each delta. --twins takes motion twins in place of
JHMDB: synthetic clips of nine classes that have the same Frame A, bit for bit, so that motion alone tells them apart
and chance is 11.1 % (`dimofs.datasets.synthetic.twins`).

Whatever is computed is kept in --cache: a command that was stopped continues where it was, and another set of columns
reads what they share. On one CPU core the backbone's pass takes 15 minutes, the table an hour.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np

from dimofs.cli import RESULT, InputError, Range, run
from dimofs.datasets.jhmdb import Jhmdb
from dimofs.eval.actions.confusion import confusion, lines
from dimofs.eval.actions.files import Truth, read_found, read_truth, write_found
from dimofs.eval.actions.frame_map import DEFINITIONS, Definition, LabelledBoxes, frame_ap, suppressed
from dimofs.eval.actions.tubes import STRICT, link, true_tubes, video_ap
from dimofs.eval.exclusions import check_distinct, check_options
from dimofs.eval.tables.action_columns import check_kind, chosen_columns
from dimofs.eval.tables.actions import run_localizer
from dimofs.eval.tables.plots import check_plot
from dimofs.eval.tables.table3 import FIGURE7, ActionBench, figure7, plot_confusion, table3
from dimofs.files import write_json
from dimofs.pages.report import recorded
from dimofs.zoo.training.data import JhmdbClips, JhmdbLabels, need

# Options of a model that runs, of heads that are trained, and of how detections are judged.
RUN = ("jhmdb", "jhmdb_labels", "weights", "split", "every", "most", "cache", "save")
TRAIN = ("part", "seeds", "cells", "hidden", "steps", "tracks")
JUDGE = ("definition", "iou", "nms", "video", "matrix")
CONFLICTS = (
    (("gt", "pred"), (*RUN, "table", "figure"), "no model runs"),
    (("table",), ("figure",), "each is a run of its own"),
    (("twins",), ("jhmdb", "jhmdb_labels", "split", "every", "most"), "they are other data"),
    (("table", "figure"), (*JUDGE, "save"), "they have definitions of their own"),
)
NEEDS = (
    (("gt",), ("pred",), "the detections"),
    (("pred",), ("gt",), "the labels"),
    (("columns", "tune"), ("table",), "they belong to its columns"),
    (("kinds", "deltas", "plot"), ("figure",), "they belong to it"),
    (("twins", *TRAIN), ("table", "figure"), "other commands train no head"),
)


def main(
    *,
    gt: Annotated[Path | None, "JSON file of labels"] = None,
    pred: Annotated[Path | None, "JSON file of detections"] = None,
    jhmdb: JhmdbClips = None,
    jhmdb_labels: JhmdbLabels = None,
    weights: Annotated[str | None, "action localizer to run; with --table or --figure the pose detector"] = None,
    table: Annotated[Literal[3] | None, "print this table of the paper"] = None,
    figure: Annotated[Literal[7] | None, "plot this figure of the paper"] = None,
    part: Annotated[Literal["test", "held-out"], "judge on the test clips, or on a quarter of the others"] = "test",
    twins: Annotated[
        int | None, "for --table and --figure: N scenes of motion twins instead", Range(2, 100_000)
    ] = None,
    columns: Annotated[list[str] | None, "columns of --table: names, or streams joined by + (default: all)"] = None,
    kinds: Annotated[list[str], "streams of --figure"] = ("dimofs", "later"),  # type: ignore[assignment]
    deltas: Annotated[list[int], "points of --figure", Range(-1000, 1000)] = FIGURE7,  # type: ignore[assignment]
    split: Annotated[int, "which of JHMDB's splits", Range(1, 3)] = 1,
    every: Annotated[int, "judge and train every N-th frame of a clip", Range(1)] = 5,
    most: Annotated[int | None, "use at most so many clips of each class and part", Range(1)] = None,
    seeds: Annotated[list[int], "seeds of the heads", Range(0, 2**31)] = (0, 1, 2),  # type: ignore[assignment]
    cells: Annotated[int, "side of the pooled grid of each stream", Range(1, 7)] = 5,
    hidden: Annotated[int, "width of the heads' layers", Range(1, 4096)] = 256,
    steps: Annotated[int, "training steps of each head", Range(1)] = 900,
    tune: Annotated[
        int | None, "table: then train the backbone's last stage and all above for so many steps", Range(1)
    ] = None,
    tracks: Annotated[bool, "average each person's actions over the frames of a clip"] = False,
    cache: Annotated[Path, "folder of cached features; safe to delete"] = Path("runs/features"),
    plot: Annotated[Path, "the plot of --figure (.png, .pdf or .svg)", RESULT] = Path("figure7.png"),
    definition: Annotated[Literal["voc", "yowo", "act"], "definition of the table of classes"] = "voc",
    iou: Annotated[float, "least IoU of a right detection", Range(0.01, 1)] = 0.5,
    nms: Annotated[float | None, "suppress detections of one class above this IoU first", Range(0, 1)] = None,
    video: Annotated[bool, "also link tubes and print video-mAP"] = True,
    matrix: Annotated[Path | None, "plot which actions are taken for which (.png, .pdf or .svg)", RESULT] = None,
    save: Annotated[Path | None, "write the detections of the model here", RESULT] = None,
    json: Annotated[Path | None, "write the figures here", RESULT] = None,
    html: Annotated[Path | None, "write the printed tables here as a page", RESULT] = None,
) -> None:
    check_options(main, dict(locals()), conflicts=CONFLICTS, needs=NEEDS)
    if matrix is not None:
        check_plot(matrix, "--matrix")
    if figure is not None:
        check_plot(plot)
    for option, values in {"seeds": seeds, "columns": columns or (), "kinds": kinds, "deltas": deltas}.items():
        check_distinct(option, values)
    if gt is None and twins is None:
        need(jhmdb, "--jhmdb", "without --gt this command")
        need(jhmdb_labels, "--jhmdb-labels", "--jhmdb")
    with recorded(html, "Action detection on JHMDB") as page:
        if table or figure:
            bench = ActionBench(
                jhmdb=jhmdb, jhmdb_labels=jhmdb_labels, twins=twins, split=split,
                weights=weights or "dimofs_mobile_v2", every=every, most=most, cells=cells, hidden=hidden, steps=steps,
                seeds=list(seeds), cache=cache, part=part, tracks=tracks,
            )  # fmt: skip
            if table:
                result = table3(bench, chosen_columns(columns, bench.aligning), tune)
            else:
                for kind in kinds:
                    check_kind(kind, bench.aligning)
                result = figure7(bench, list(kinds), list(deltas), page.picture(plot, "Figure 7") or plot)
        else:
            if gt is not None and pred is not None:
                name, truth = pred.name, read_truth(gt)
                found, notes = read_found(pred, truth)
                for note in notes:
                    print(f"note: {note}", file=sys.stderr)
            else:
                name = need(weights, "--weights", "without --gt, --table and --figure this command")
                clips, labels = need(jhmdb, "--jhmdb", "--weights"), need(jhmdb_labels, "--jhmdb-labels", "--jhmdb")
                source = Jhmdb(clips, labels, split=split, part="test")
                truth, found = run_localizer(name, source, every=every, most=most, cache=cache)
            if save is not None:
                write_found(save, truth, found)
            if nms is not None:
                found = suppressed(found, nms)
            result = figures(truth, found, iou, video)
            print(f"{name}: {len(found)} detections in {len(truth.frames)} frames, {len(truth.boxes)} labels")
            print_figures(result, definition)
            if matrix is not None or html is not None:
                counts = confusion(truth.boxes, found, len(truth.classes), iou)
                print("labels named rightly, %, and what the others are taken for:")
                print(*lines(counts, truth.classes), sep="\n")
                picture = page.picture(matrix, "Labels (rows) and what was found there, %")
                if picture is not None:
                    plot_confusion(picture, counts, truth.classes)
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
