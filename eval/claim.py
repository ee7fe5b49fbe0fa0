"""The paper's claim: trained on pairs of frames, a detector learns motion, and finds poses better in single frames too.

    python -m eval.claim --out runs/claim --start STILLS --teacher LABELS --jhmdb CLIPS --jhmdb-labels JHMDB
    python -m eval.claim --out runs/claim --start STILLS --jhmdb CLIPS --jhmdb-labels JHMDB \\
        --runs dimofs groups pixel shared random unmixed --seeds 0
    python -m eval.claim --out runs/trial --steps 200 --videos 4                  # synthetic clips

Trains and evaluates each of --runs with each of --seeds, all from the weights --start, on the same number of labelled
frames and by the same schedule: "single" finds the people of Frame A in Frame A, "dimofs" in Frame B = A + delta with
delta uniform in -10..10, "mixed" in A and B by turns. The others are "dimofs" with other motion parts
(`dimofs.zoo.presets.VARIANTS`). The motion parts of --start are reset first. Each run is a folder OUT/NAME-SEED like
those of dimofs.zoo.train; finished work in it is not repeated, so the same command resumes after an interruption.

    python -m eval.claim --out runs/labels --labels-per-clip 1 2 4 all --start STILLS --jhmdb CLIPS --jhmdb-labels JHMDB
    python -m eval.claim --out runs/labels --labels-per-clip 1 all --clips 4 --epochs 1 --steps 20    # synthetic clips

With --labels-per-clip only so many frames of each training clip are labelled, evenly spread, and Frame B is any frame
of the clip: where few labels are seen often, each can be learned from many Frames B, the paper's reason for a better
detector. --epochs says how often each labelled frame is seen. The backbone trains from the first step in all runs, with
the same augmentation and weight decay, and each run keeps the weights that find most joints in single frames of
training clips held out for this (by film). --start should never have seen the clips, for instance MoveNet's weights
trained on other stills. mAP and MOTA over the number of labelled frames are drawn to OUT/labels.png.

Each run is calibrated, then evaluated on JHMDB's test clips or, without data, on synthetic clips that no training sees,
with the definitions of eval.posetrack --corrected and eval.pck: mAP and MOTA at delta 0 (Tables 1 and 2), PCK, and mAP
at --deltas of the poses of A found in the features of B, beside poses found in B and copied to A (Figure 6, drawn to
OUT/figure6.png). --control adds what keeps the claim honest: A's poses found in frames of other clips and in pictures
without people, where there is no motion to find (see eval.posetrack --control).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean, pstdev
from typing import Annotated, Any, Literal

import torch
from tqdm import tqdm

from dimofs.cli import RESULT, InputError, Range, check_choices, run
from dimofs.datasets.people import PairSource
from dimofs.datasets.sequences import LabelledVideo
from dimofs.eval.exclusions import check_distinct, check_options
from dimofs.eval.keypoints.pck import ALPHAS, pck
from dimofs.eval.keypoints.scores import GROUPS, VideoScores, by_group, figures
from dimofs.eval.keypoints.undefined import none_for_nan
from dimofs.eval.models import load_model
from dimofs.eval.tables.bench import Bench
from dimofs.eval.tables.compare import EvalOptions, Sweep, pose_scores, track_scores
from dimofs.eval.tables.control import ControlOptions, check_nobody, control, lines
from dimofs.eval.tables.joints import JointOptions, person_errors
from dimofs.eval.tables.labels import Training, few_labels, label_lines, label_runs, parse_counts, plot_labels
from dimofs.eval.tables.plots import plot_sweep
from dimofs.eval.tables.runs import find_all
from dimofs.files import read_json, write_json
from dimofs.pages.report import recorded
from dimofs.tracking import tracker_named
from dimofs.zoo import checkpoints
from dimofs.zoo.backbones.movenet import MoveNet
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.presets import VARIANTS, dimofs_mobile
from dimofs.zoo.training import initialize
from dimofs.zoo.training.calibration import calibrated
from dimofs.zoo.training.data import SYNTHETIC_CLIPS, Every, JhmdbClips, JhmdbLabels, Paths, taught
from dimofs.zoo.training.distributed import join_processes
from dimofs.zoo.training.poses import POSE_RECIPES, PoseTask
from dimofs.zoo.training.recipes import RECIPES
from dimofs.zoo.training.run import RunOptions, train
from dimofs.zoo.training.run_folder import MODEL

# What each run changes in the recipe.
RUNS: dict[str, dict[str, Any]] = {
    "single": {"single": 1.0},
    "dimofs": {"single": 0.0},
    "mixed": {"single": 0.5},
    **{name: {"single": 0.0, "variant": name} for name in VARIANTS if name != "paper"},
    **{f"mixed+{name}": {"single": 0.5, "variant": name} for name in VARIANTS if name != "paper"},
}
# Training steps unless --steps says otherwise.
STEPS = 500
# Steps of the warm-up; a fifth of --steps if that is less.
WARMUP = 100
# Frames to the farthest Frame B.
FARTHEST_DELTA = 10
# PCK is computed on each frame with a number divisible by this.
PCK_EVERY = 15
# Training frames of each data set that the confidences are calibrated on, so that thresholds mean the same to all runs.
CALIBRATION = 200
OPTIONS = EvalOptions(definition="corrected")
NEEDS = (
    (("teacher", "every", "jhmdb_labels"), ("jhmdb",), "it belongs to the clips of JHMDB"),
    (("jhmdb",), ("jhmdb_labels",), "the folder of splits, joints and masks"),
    (("nobody",), ("control",), "it belongs to the control"),
    (("epochs", "clips"), ("labels_per_clip",), "without it --steps and --every say what a run sees"),
)
CONFLICTS = (
    (("labels_per_clip",), ("every",), "it says which frames are labelled"),
    (("labels_per_clip",), ("deltas", "control", "nobody"), "it measures mAP and MOTA in single frames"),
    (("labels_per_clip",), ("teacher",), "it compares numbers of the clips' own labels"),
)


def main(
    *,
    out: Annotated[Path, "folder of the runs"] = Path("runs/claim"),
    runs: Annotated[Sequence[str], f"runs to compare: {', '.join(RUNS)}"] = ("single", "dimofs"),
    seeds: Annotated[Sequence[int], "seeds that each run is trained with", Range(0, 2**63 - 1)] = (0, 1, 2),
    start: Annotated[str, "weights that every run starts from, best trained on single frames alone"] = "dimofs_mobile",
    jhmdb: JhmdbClips = None,
    jhmdb_labels: JhmdbLabels = None,
    teacher: Annotated[str | None, "folder of labels written by python -m dimofs.zoo.label"] = None,
    every: Every = 5,
    labels_per_clip: Annotated[list[str] | None, "compare over these numbers of labelled frames, or all"] = None,
    epochs: Annotated[int, "times that each labelled frame is seen", Range(1)] = 30,
    clips: Annotated[int | None, "training clips at most (default: all of JHMDB's, 200 synthetic)", Range(1)] = None,
    steps: Annotated[
        int | None, f"training steps; with --epochs at most (default: {STEPS}; no limit)", Range(1)
    ] = None,
    batch: Annotated[int, "pairs per training step", Range(1, 65536)] = 8,
    canvas: Annotated[int, "side of the square training canvas, pixels", Range(64, 4096)] = 256,
    rate: Annotated[float, "highest learning rate", Range(0, 1000)] = 1e-3,
    decay: Annotated[float, "weight decay", Range(0, 10)] = 1e-4,
    dtype: Annotated[Literal["float32", "bfloat16"], "arithmetic of training"] = "float32",
    deltas: Annotated[Sequence[int], "values of delta, besides 0, for mAP"] = (
        -FARTHEST_DELTA,
        FARTHEST_DELTA,
    ),
    videos: Annotated[int | None, "at most this many, for mAP and MOTA (default: all, 12 synthetic)", Range(1)] = None,
    size: Annotated[
        int | None, "longer side of the evaluated model's input (default: its own)", Range(32, 4096)
    ] = None,
    control: Annotated[bool, "also find A's poses in frames of other clips and in pictures without people"] = False,
    nobody: Annotated[str | None, "with --control: a folder of pictures in which nobody is (default: noise)"] = None,
    device: Annotated[str | None, "cpu, cuda, cuda:1, ... (default: a GPU if there is one)"] = None,
    json: Annotated[Path | None, "write the figures here", RESULT] = None,
    html: Annotated[Path | None, "write the tables and Figure 6 here as a page", RESULT] = None,
) -> None:
    check_options(main, locals(), conflicts=CONFLICTS, needs=NEEDS)
    for run_name in runs:
        check_choices(runs=(run_name, RUNS))
    check_distinct("runs", runs)
    check_distinct("seeds", seeds)
    if control and set(runs) == {"single"}:
        raise InputError("--control: needs a run that learns from pairs of frames, such as dimofs")
    check_nobody(nobody)
    counts = parse_counts(labels_per_clip or ())
    recipe = RECIPES["mobile"].changed(
        steps=steps or STEPS, batch=batch, learning_rate=rate, weight_decay=decay, dtype=dtype, warmup=WARMUP
    )
    poses = POSE_RECIPES["mobile"].changed(canvas=canvas)
    with join_processes(device) as here, recorded(html, "The paper's claim") as page:
        beginning = out / "start"
        _without_motion(start, beginning)
        bench = Bench(jhmdb=jhmdb, jhmdb_labels=jhmdb_labels, out=out, options=OPTIONS)
        every_clip = bench.videos(0)
        labelled = every_clip if videos is None else replace(bench, most=videos).videos(0)
        test = Test(
            videos=labelled,
            clips=labelled if counts else every_clip,
            deltas=[0] if counts else sorted({0, *deltas}),
            size=size,
            device=str(here.device),
            control=ControlOptions(pictures=nobody) if control else None,
        )
        trained = Training(
            out=out, runs={name: RUNS[name] for name in runs}, seeds=seeds, recipe=recipe, poses=poses,
            start=str(beginning), process=here,
        )  # fmt: skip
        source = f"{'JHMDB' if jhmdb else 'synthetic clips'}, %, mean ± standard deviation over {len(seeds)} seeds"
        if counts:
            data = {text: few_labels(jhmdb, jhmdb_labels, clips, count) for text, count in counts.items()}
            result = label_runs(trained, data, epochs, steps, test)
            print(source, *label_lines(result), sep="\n")
            page.picture(out / "labels.png", "Figures over labelled frames in a clip")
            plot_labels(out / "labels.png", result)
            print(f"-> {out / 'labels.png'}")
        else:
            paths = Paths(jhmdb=jhmdb, jhmdb_labels=jhmdb_labels, every=every).or_synthetic(SYNTHETIC_CLIPS)
            result = _pairs(trained, taught(paths.sources(), teacher), test)
            page.picture(out / "figure6.png", "Figure 6")
            print(source)
            _show(result, test.deltas, out / "figure6.png")
    if json is not None:
        write_json(json, {"seeds": list(seeds), "deltas": test.deltas, "runs": result})


def _pairs(trained: Training, sources: Mapping[str, PairSource], test: Test) -> dict[str, list[dict]]:
    """Train and evaluate each run with each seed; the figures of each."""
    found: dict[str, list[dict]] = {name: [] for name in trained.runs}
    recipe = trained.recipe.changed(warmup=min(WARMUP, trained.recipe.steps // 5))
    options = RunOptions(init=trained.start, save_every=100, workers=0)
    for seed in trained.seeds:
        for name, changes in trained.runs.items():
            folder = trained.out / f"{name}-{seed}"
            poses = trained.poses.changed(**changes, mix=dict.fromkeys(sources, 1.0))
            task = PoseTask(recipe=poses, sources=sources)
            train(task, recipe.changed(seed=seed), str(folder), trained.process, options)
            found[name].append(test(folder, recipe.steps, sources, pairs=name != "single"))
    return found


def _show(found: dict[str, list[dict]], deltas: Sequence[int], plot: Path) -> None:
    """Print the tables; plot Figure 6 if the two runs that it compares are there."""
    print(*tables(found, deltas), sep="\n")
    if "dimofs" in found and "single" in found:
        plot_sweep(plot, sweep(found, deltas))
        print(f"-> {plot}")


def _without_motion(weights: str, folder: Path) -> None:
    """Write the model of `weights` to `folder` with its motion parts reset, unless it is there already.

    In single frames it finds the same. A MoveNet becomes the mobile model whose other parts have random weights.
    InputError: the folder holds a model made from other weights.
    """
    note = folder / "start.json"
    if note.exists():
        if (before := read_json(note)) != weights:
            raise InputError(f"{note}: the runs here started from {before}, not {weights}; give another --out")
        return
    model = checkpoints.load(weights)
    if isinstance(model, MoveNet):
        torch.manual_seed(0)
        model = dimofs_mobile()
        initialize.start(model, weights)
    else:
        model = checkpoints.load_as(PoseDetector, weights)
        initialize.forget_motion(model)
    checkpoints.save(model, folder, {})
    write_json(note, weights)


@dataclass(frozen=True, kw_only=True)
class Test:
    """What runs are evaluated on.

    videos: for AP and MOTA; clips: for PCK. size: longer side of the model's input, None for its own. control: how it
    is measured, see `dimofs.eval.tables.control`; None does without.
    """

    videos: list[LabelledVideo]
    clips: list[LabelledVideo]
    deltas: list[int]
    size: int | None
    device: str
    control: ControlOptions | None = None

    def __call__(
        self, folder: Path, steps: int, trained_on: Mapping[str, PairSource], *, pairs: bool, weights: str = MODEL
    ) -> dict:
        """The figures of the run in `folder`, in percent, None where undefined; its scores.json keeps them.

        trained_on: what confidences are calibrated on. weights: the folder in the run's.

        found: mAP, for each delta, of A's poses found in B's features, without `pairs` at delta 0 alone. copied: mAP of
        poses found in B. ap, mota: by joint, at delta 0. pck: for each alpha.
        """
        of = {"steps": steps, "videos": len(self.videos), "deltas": self.deltas, "size": self.size}
        of["calibrated"] = CALIBRATION
        if self.control is not None:
            of["control"] = asdict(self.control)
        path = folder / "scores.json"
        kept = read_json(path) if path.exists() else {}
        if not isinstance(kept, dict):
            raise InputError(f"{path}: is damaged; delete it to measure again")
        if kept.get("of") == of:
            return kept
        model = calibrated(str(folder / weights), trained_on, CALIBRATION)
        checkpoints.save(model, folder / "calibrated", {})
        result = {"of": of, **self._figures(folder, pairs)}
        write_json(path, result)
        return result

    def _figures(self, folder: Path, pairs: bool) -> dict:
        """Evaluate the calibrated run."""
        model = load_model(str(folder / "calibrated"), self.size, self.device)
        assert isinstance(model, PoseDetector)
        names, deltas = model.keypoint_names, self.deltas if pairs else [0]
        bar = tqdm(self.videos, folder.name, disable=None, leave=False)
        found = [(video, find_all(model, video, deltas)) for video in bar]

        def ap(delta: int, copy: int = 0) -> list[float | None]:
            poses, definition = folder / "poses", OPTIONS.definition
            scores = [pose_scores(video, runs[delta], names, poses, definition, copy) for video, runs in found]
            return _by_joint(scores, "ap")

        rows = {delta: ap(delta) for delta in deltas}
        tracker = tracker_named("default")
        tracks = [track_scores(video, runs[0], tracker, names, folder / "tracks", OPTIONS) for video, runs in found]
        judged = JointOptions(every=PCK_EVERY, device=self.device)
        errors = torch.cat([error for clip in self.clips for error, _ in person_errors(model, clip, judged)])
        return {
            "found": [rows[delta][-1] if delta in rows else None for delta in self.deltas],
            "copied": [ap(0, delta)[-1] if delta else rows[0][-1] for delta in self.deltas],
            "ap": rows[0],
            "mota": _by_joint(tracks, "mota"),
            "pck": [pck(errors, alpha)["mean"] for alpha in ALPHAS],
            **self._controlled(model, folder, pairs),
        }

    def _controlled(self, model: PoseDetector, folder: Path, pairs: bool) -> dict:
        """The control of the run at the deltas above 0, which is printed too; nothing without one."""
        if self.control is None or not pairs:
            return {}
        far = [delta for delta in self.deltas if delta > 0]
        found = control(model, self.videos, far, folder / "control", self.control, self.device)
        print(*lines(found, folder.name), sep="\n")
        kept = asdict(found)
        return {"control": none_for_nan(kept)}


def _by_joint(scores: Sequence[VideoScores], field: str) -> list[float | None]:
    """The columns of a table: GROUPS and the mean."""
    return none_for_nan(by_group(figures(scores, OPTIONS.definition)[field]))


def tables(found: dict[str, list[dict]], deltas: Sequence[int]) -> Iterator[str]:
    """The lines of Tables 1 and 2 and of a table of all measures, where "at" and "copied" are means over the farthest
    deltas."""
    far = max(map(abs, deltas))
    ends = [i for i, delta in enumerate(deltas) if abs(delta) == far]
    for field, title in (("ap", "mAP"), ("mota", "MOTA")):
        yield _line(title, [*GROUPS, "Mean"])
        for name, rows in found.items():
            yield _line(name, map(_spread, zip(*(row[field] for row in rows), strict=True)))
    yield _line("", ["mAP", f"at ±{far}", "loss", f"copied ±{far}", "loss", *(f"PCK@{alpha}" for alpha in ALPHAS)])
    for name, rows in found.items():
        now = [row["ap"][-1] for row in rows]
        at, copied = ([_mean([row[field][i] for i in ends]) for row in rows] for field in ("found", "copied"))
        columns = [now, at, _minus(now, at), copied, _minus(now, copied)]
        yield _line(name, map(_spread, [*columns, *zip(*(row["pck"] for row in rows), strict=True)]))


def _line(label: str, cells: Iterable[str]) -> str:
    return f"{label:<8}" + "".join(f"{cell:>12}" for cell in cells)


def sweep(found: dict[str, list[dict]], deltas: Sequence[int]) -> Sweep:
    """Figure 6, means over the seeds."""

    def means(rows: list[dict], field: str) -> list[float]:
        return [fmean(values) for values in zip(*(row[field] for row in rows), strict=True)]

    return Sweep(
        deltas=list(deltas),
        dimofs=means(found["dimofs"], "found"),
        copied=means(found["single"], "copied"),
        single=fmean(row["ap"][-1] for row in found["single"]),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean; None if a value is."""
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None


def _minus(a: Sequence[float], b: Sequence[float | None]) -> list[float | None]:
    return [None if y is None else x - y for x, y in zip(a, b, strict=True)]


def _spread(values: Sequence[float | None]) -> str:
    """Mean ± standard deviation, "-" if a value is None."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "-"
    return f"{fmean(known):.1f}±{pstdev(known):.1f}" if len(known) > 1 else f"{known[0]:.1f}"


if __name__ == "__main__":
    run(main)
