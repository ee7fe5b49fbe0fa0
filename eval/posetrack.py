"""PoseTrack: keypoint AP and MOTA, equal to the official evaluation tool (poseval), of predictions or of a model.

    python -m eval.posetrack --gt GT --pred PRED                 # the paper's Tables 1 and 2
    python -m eval.posetrack --gt GT --pred PRED --corrected     # without the official tool's quirks
    python -m eval.posetrack --gt GT --pred PRED --per-sequence --json figures.json --plot figures.png
    python -m eval.posetrack --gt GT --pred PRED --hota          # HOTA of keypoints as well
    python -m eval.posetrack --gt GT --pred PRED --no-tracking   # AP alone, of poses without track ids
    python -m eval.posetrack --gt GT --pred PRED --oks           # AP of people by OKS, without head boxes

GT and PRED are files, or folders of files with the same names, in the formats of PoseTrack17 or 18, also gzipped.

    python -m eval.posetrack                                     # the shipped model on 12 synthetic clips
    python -m eval.posetrack --root POSETRACK --weights runs/first/model --out submission
    python -m eval.posetrack --jhmdb CLIPS --jhmdb-labels JHMDB --videos 40
    python -m eval.posetrack --table 1 --weights runs/single/model runs/dimofs/model
    python -m eval.posetrack --table 2 --weights runs/single/model runs/dimofs/model --plot table2.png
    python -m eval.posetrack --figure 6 --weights runs/single/model runs/dimofs/model
    python -m eval.posetrack --figure 6 --control --deltas 0 1 2 4 8 10 --size 320
    python -m eval.posetrack --figure 6 --control --deltas 10 --weights dimofs_mobile dimofs_mobile_v2 \\
        --variants random softmax                                # a table of offset nets
    python -m eval.posetrack --trackers default iou+oks kalman byte byte+oks iou+dimofs --seeds 0 1 2

Without GT and PRED, models run over videos: POSETRACK's validation set (its folders annotations and images), JHMDB's
test clips or, if no data is given, synthetic clips; dimofs.datasets.sequences documents the labels of the last two.
--out then holds truth/ (for labels made here), poses/, from which AP is computed, and tracks/, from which MOTA is
computed, all in the format of a submission. poses/ holds everything that the model finds, with joints ranked by
confidence times the person's score; tracks/ holds people with a score of at least 0.5 and joints with a confidence of
at least --joint-score.

--table compares models, one per row. --figure 6 plots mAP over delta: the last model finds the poses of A in the
features of B = A + delta; the first, trained on single frames, finds poses in B, which are copied to A, and in A alone.

--control tells whether motion is what --figure 6 shows: A's poses are looked for in the frame delta later, in A itself,
in a frame of another clip (chosen by --seeds) and in pictures in which nobody is, beside what is found in B and not
moved. Where B of another clip or with nobody gives A's poses too, the offsets bring A's pose along, whatever B shows.
Several weights make a table of their offset nets. --variants adds rows whose motion parts are untrained: those of the
first weights are replaced by a variant of dimofs.zoo.presets; "random" is the paper's offset net with random weights.

Definitions. A joint is right within 0.5 head sizes (0.6 times the diagonal of the head box). Head is the mean of head
top, neck and nose, the other columns are means of left and right; Mean is over those of the 15 joints that have a
value. AP's recall is PCKh.

--official (the default) reproduces every quirk of the official tool: MOT leaves out the last labelled frame of a
sequence, a frame that is empty on one side counts as one miss and one false positive of each joint, MOTP sums all
recorded events, and frames are paired by their place in the files; a note reports files whose image names differ or
come in another order. --corrected keeps the last frame, counts empty frames by person, computes MOTP from matches only,
and pairs frames by the names (else the ids) of their images, so that their order does not matter; --oks pairs likewise.
--corrected is the default for JHMDB, which does not label the head top: counting empty frames the official way makes
its MOTA a large negative number.
HOTA: similarity max(0, 1 - d / 0.5), thresholds .05 to .95, all labelled frames, counted by person.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

from dimofs.cli import RESULT, InputError, Range, check_choices, run
from dimofs.eval.exclusions import check_distinct, check_options
from dimofs.eval.keypoints.oks import figures as oks_figures
from dimofs.eval.keypoints.oks import score_people
from dimofs.eval.keypoints.order import pairing_notes
from dimofs.eval.keypoints.pairs import score_pairs
from dimofs.eval.keypoints.pck import ARMS_AND_LEGS
from dimofs.eval.keypoints.scores import Definition, score_video
from dimofs.eval.keypoints.undefined import none_for_nan
from dimofs.eval.models import check_joints
from dimofs.eval.tables.aligning import untrained
from dimofs.eval.tables.bench import (
    CLIPS,
    SEEDS_APART,
    Bench,
    compare,
    compare_models,
    figure6,
    figure6_controlled,
    run_models,
)
from dimofs.eval.tables.compare import EvalOptions
from dimofs.eval.tables.control import ControlOptions
from dimofs.eval.tables.plots import check_plot
from dimofs.eval.tables.report import line, report
from dimofs.files import write_json
from dimofs.pages.report import recorded
from dimofs.tracking import TRACKERS
from dimofs.zoo import checkpoints
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.devices import pick_device
from dimofs.zoo.presets import VARIANTS
from dimofs.zoo.training.data import JhmdbClips, JhmdbLabels

FILES = ("gt", "pred")
DATA = ("root", "jhmdb", "jhmdb_labels")
MODELS = (
    *DATA, "videos", "seeds", "weights", "delta", "deltas", "tracker", "joint_score", "table", "figure", "trackers",
    "out", "device", "batch", "control", "nobody", "every", "variants", "size",
)  # fmt: skip
CONFLICTS = (
    (FILES, MODELS, "no model runs where files are compared"),
    (("root",), ("jhmdb", "jhmdb_labels"), "models run over one data set"),
    (DATA, ("seeds",), "seeds are those of synthetic clips"),
    (("official",), ("corrected",), "they are two definitions"),
    (("oks",), ("official", "corrected"), "OKS has one definition"),
    (("oks",), ("hota", "plot"), "HOTA and plots need head boxes"),
    (("oks",), ("tracking",), "OKS has nothing to do with tracks"),
    (("hota",), ("tracking",), "HOTA needs track ids"),
    (("table",), ("figure", "trackers"), "each is a comparison of its own"),
    (("figure",), ("trackers",), "each is a comparison of its own"),
    (("per_sequence",), ("table", "figure", "trackers"), "comparisons have no lines for sequences"),
    (("figure",), ("official", "corrected", "hota"), "it shows AP, which is the same in both definitions"),
    (("figure",), ("delta", "tracker", "joint_score"), "it shows AP of poses over --deltas"),
    (("trackers",), ("tracker",), "--trackers names all that are compared"),
    (("trackers",), ("hota",), "HOTA is shown in any case"),
    (("trackers",), ("plot",), "there is no plot of trackers"),
)
NEEDS = (
    (("gt",), ("pred",), "the predictions, a file or folder in a PoseTrack format"),
    (("pred",), ("gt",), "the ground truth, a file or folder in a PoseTrack format"),
    (("oks",), ("gt",), "files are compared by OKS; give --gt GT and --pred PRED"),
    (("tracking",), ("gt",), "models give tracks; give --gt GT and --pred PRED"),
    (("deltas",), ("figure",), "deltas are those of --figure 6"),
    (("control",), ("figure",), "it is the control of --figure 6"),
    (("nobody", "every", "variants"), ("control",), "it belongs to the control"),
    (("jhmdb",), ("jhmdb_labels",), "the folder of splits, joints and masks"),
    (("jhmdb_labels",), ("jhmdb",), "the folder of clips"),
)


def main(
    *,
    gt: Annotated[Path | None, "ground truth, a file or a folder"] = None,
    pred: Annotated[Path | None, "predictions, a file or a folder of files with the same names"] = None,
    official: Annotated[bool, "reproduce every quirk of the official tool (the default, except for --jhmdb)"] = False,
    corrected: Annotated[bool, "textbook MOT: no frame dropped, people of empty frames counted"] = False,
    tracking: Annotated[bool, "MOTA and its parts; without it, AP of poses without track ids"] = True,
    oks: Annotated[bool, "instead: AP of people by OKS, without head boxes"] = False,
    hota: Annotated[bool, "HOTA of keypoints as well"] = False,
    per_sequence: Annotated[bool, "a line for each sequence"] = False,
    json: Annotated[Path | None, "write the figures here", RESULT] = None,
    html: Annotated[Path | None, "write the tables and plots here as a page", RESULT] = None,
    plot: Annotated[Path | None, "draw the figures here (.png, .pdf or .svg)", RESULT] = None,
    root: Annotated[Path | None, "run models over PoseTrack's validation set in this folder"] = None,
    jhmdb: JhmdbClips = None,
    jhmdb_labels: JhmdbLabels = None,
    videos: Annotated[int | None, f"at most this many videos (default: all, {CLIPS} synthetic ones)", Range(1)] = None,
    seeds: Annotated[Sequence[int], "of synthetic clips; --trackers takes several", Range(0, SEEDS_APART - 1)] = (0,),
    weights: Annotated[Sequence[str], "models to run: names or checkpoint folders"] = ("dimofs_mobile",),
    delta: Annotated[int, "find the poses of frame t in the features of frame t + DELTA"] = 0,
    deltas: Annotated[Sequence[int], "values of delta in --figure 6"] = tuple(range(-10, 11)),
    tracker: Annotated[str, f"how people are tracked: {', '.join(TRACKERS)}"] = "default",
    joint_score: Annotated[float, "lowest confidence of a joint in a track", Range(0, 1)] = EvalOptions().joint_score,
    table: Annotated[Literal[1, 2] | None, "compare models: 1 by AP, 2 by MOTA"] = None,
    figure: Annotated[Literal[6] | None, "plot AP over delta"] = None,
    control: Annotated[bool, "with --figure 6: other clips and pictures without people as Frame B"] = False,
    nobody: Annotated[str | None, "with --control: a folder of pictures in which nobody is (default: noise)"] = None,
    every: Annotated[int, "with --control: each EVERY-th frame is a Frame A", Range(1)] = ControlOptions().every,
    variants: Annotated[Sequence[str], "with --control: the first weights with these motion parts, untrained"] = (),
    trackers: Annotated[list[str] | None, "compare these trackers on the same poses"] = None,
    out: Annotated[Path | None, "folder for the poses and tracks of models (default: they are not kept)"] = None,
    size: Annotated[int | None, "longer side of the models' input (default: their own)", Range(32, 4096)] = None,
    device: Annotated[str | None, "cpu, cuda, cuda:1, ... (default: a GPU if there is one)"] = None,
    batch: Annotated[int, "frames at a time", Range(1, 1024)] = 1,
) -> None:
    check_options(main, locals(), conflicts=CONFLICTS, needs=NEEDS)
    definition: Definition = "corrected" if corrected or (jhmdb and not official) else "official"
    with recorded(html, "PoseTrack") as page:
        one = len(weights) == 1 or table is not None or figure is not None
        if figure is not None:
            plot = plot or Path("figure6.png")
        if one and not oks and trackers is None:
            plot = page.picture(plot, "Figures")
        if plot is not None:
            check_plot(plot)
        if gt is not None and pred is not None:
            if oks:
                result = _by_oks(gt, pred, per_sequence)
            else:
                work = partial(score_video, definition=definition, tracking=tracking, hota=hota)
                scores = score_pairs(gt, pred, work)
                result = report(scores, str(gt), definition, tracking=tracking, per_sequence=per_sequence, plot=plot)
        else:
            _check_counts(weights, seeds, trackers, figure, plot if table is None and figure is None else None, control)
            for variant in variants:
                check_choices(variants=(variant, VARIANTS))
            for name in trackers or ():
                check_choices(trackers=(name, TRACKERS))
            check_distinct("variants", variants)
            here = str(pick_device(device))
            with _folder(out) as folder:
                how = {"delta": delta, "batch": batch, "joint_score": joint_score, "hota": hota}
                options = EvalOptions(**how, definition=definition)
                data = {"root": root, "jhmdb": jhmdb, "jhmdb_labels": jhmdb_labels, "most": videos, "seeds": seeds}
                bench = Bench(**data, out=folder, options=options, plot=plot)
                models = {name: checkpoints.load_as(PoseDetector, name, here, size) for name in weights}
                for model in models.values():
                    check_joints(model, ARMS_AND_LEGS, bench.source)
                if trackers is not None:
                    result = compare(bench, models, trackers)
                elif control:
                    what = ControlOptions(every=every, seed=seeds[0], pictures=nobody)
                    for name in variants:
                        model = checkpoints.load_as(PoseDetector, weights[0], here, size)
                        models[f"{name}, untrained"] = untrained(model, name)
                    result = figure6_controlled(bench, models, deltas, what, here)
                elif figure is not None:
                    result = figure6(bench, models, deltas)
                elif table is not None:
                    result = compare_models(bench, models, tracker, table)
                else:
                    result = run_models(bench, models, tracker, per_sequence)
    if json is not None:
        write_json(json, none_for_nan(result))


def _check_counts(
    weights: Sequence[str],
    seeds: Sequence[int],
    trackers: Sequence[str] | None,
    figure: int | None,
    plot: Path | None,
    control: bool,
) -> None:
    """InputError: an option has more values than are used. plot: that of one model."""
    check_distinct("weights", weights)
    check_distinct("seeds", seeds)
    check_distinct("trackers", trackers or ())
    if len(seeds) > 1 and trackers is None:
        raise InputError("--seeds: only --trackers takes several; give one")
    if len(weights) > 1 and trackers is not None:
        raise InputError("--weights: --trackers compares trackers on the poses of one model; give one")
    if len(weights) > 2 and figure is not None and not control:
        raise InputError("--weights: --figure 6 compares one model, or a single-frame model with another; give two")
    if len(weights) > 1 and plot is not None:
        raise InputError("--plot: draws the figures of one model; give one --weights, or --table")


@contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    """`out`, or a temporary folder that lasts as long as the context."""
    if out is not None:
        yield out
        return
    with TemporaryDirectory() as folder:
        yield Path(folder)


def _by_oks(gt: Path, pred: Path, per_sequence: bool) -> dict:
    """Print AP of people by OKS; the content of --json."""
    videos = score_pairs(gt, pred, score_people)
    result, each = oks_figures(videos), {video.name: oks_figures([video]) for video in videos}
    frames, people = sum(v.frames for v in videos), sum(v.people for v in videos)
    print(f"PoseTrack, {len(videos)} sequences, {frames} frames, {people} people, AP of people by OKS")
    width = max(8, *map(len, each)) if per_sequence else 8
    print(line("", list(result), width))
    for name, row in {"all": result, **(each if per_sequence else {})}.items():
        print(line(name, list(row.values()), width))
    for note in pairing_notes(videos, official=False):
        print(note)
    return {"definition": "oks", **result, "sequences": each}


if __name__ == "__main__":
    run(main)
