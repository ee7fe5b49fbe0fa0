"""The paper's claim: trained on pairs of frames, a detector learns motion, and finds poses better in single frames too.

    python -m eval.claim --out runs/claim --start STILLS --teacher LABELS --jhmdb CLIPS --jhmdb-labels JHMDB
    python -m eval.claim --out runs/claim --start STILLS --jhmdb CLIPS --jhmdb-labels JHMDB \\
        --runs dimofs groups pixel shared random unmixed --seeds 0
    python -m eval.claim --out runs/trial --steps 200 --videos 4                  # synthetic clips

Trains and measures each of --runs with each of --seeds, all from the weights --start, on as many labelled frames by the
same schedule: "single" looks for the people of Frame A in Frame A, "dimofs" in Frame B = A + delta, delta uniform in
-10..10, "mixed" in A and B by turns. The others are "dimofs" with other motion parts (`dimofs.zoo.presets.VARIANTS`).
The motion parts of --start are first put back to their beginning. A run is a folder OUT/NAME-SEED that python -m
dimofs.zoo.train could have made; what is done there already is not done again, so that the same command goes on after
an interruption.

Measured, once its confidences are calibrated, on JHMDB's test clips or, without data, on synthetic clips that no
training sees, as eval.posetrack --corrected and eval.pck define: mAP and MOTA at delta 0 (Tables 1 and 2), PCK, and
mAP at --deltas: of the poses of A that are found in the features of B, beside those found in B and copied to A
(Figure 6, drawn to OUT/figure6.png).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from statistics import fmean, pstdev
from typing import Annotated, Any, Literal

import torch
from tqdm import tqdm

from dimofs.cli import InputError, check_choices, check_ranges, run
from dimofs.datasets.people import PairSource
from dimofs.datasets.sequences import LabelledVideo
from dimofs.eval import pck
from dimofs.eval.keypoints.scores import GROUPS, VideoScores, by_group, figures
from dimofs.eval.models import load_model
from dimofs.eval.tables.bench import Bench
from dimofs.eval.tables.compare import Setting, Sweep, pose_scores, track_scores
from dimofs.eval.tables.plots import plot_sweep
from dimofs.eval.tables.runs import find_all
from dimofs.files import read_json, write_json
from dimofs.tracking import tracker_named
from dimofs.zoo import checkpoints
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.presets import VARIANTS
from dimofs.zoo.training import initialize
from dimofs.zoo.training.calibration import calibrated
from dimofs.zoo.training.data import SYNTHETIC_CLIPS, Every, JhmdbClips, JhmdbLabels, Paths, taught
from dimofs.zoo.training.distributed import join_processes
from dimofs.zoo.training.poses import POSE_RECIPES, PoseTask
from dimofs.zoo.training.recipes import RECIPES
from dimofs.zoo.training.run import RunOptions, train

RUNS: dict[str, dict[str, Any]] = {  # what sets each apart from the recipe
    "single": {"single": 1.0},
    "dimofs": {"single": 0.0},
    "mixed": {"single": 0.5},
    **{name: {"single": 0.0, "variant": name} for name in VARIANTS if name != "paper"},
}
WARMUP = 100  # steps at most
FAR = 10  # frames
PCK_EVERY = 15  # frames
CALIBRATION = 200  # training frames that make confidences probabilities, so that tracks of all models are as sure
SETTING = Setting(definition="corrected")


def main(
    *,
    out: Annotated[Path, "folder of the runs"] = Path("runs/claim"),
    runs: Annotated[Sequence[str], f"what is compared: {', '.join(RUNS)}"] = ("single", "dimofs"),
    seeds: Annotated[Sequence[int], "each is trained with each of these"] = (0, 1, 2),
    start: Annotated[str, "weights that all start from, best trained on single frames alone"] = "dimofs_mobile",
    jhmdb: JhmdbClips = None,
    jhmdb_labels: JhmdbLabels = None,
    teacher: Annotated[str | None, "folder of labels written by python -m dimofs.zoo.label"] = None,
    every: Every = 5,
    steps: Annotated[int, "of training"] = 500,
    batch: Annotated[int, "pairs a step"] = 8,
    size: Annotated[int, "pixels of the square training canvas"] = 256,
    rate: Annotated[float, "highest learning rate"] = 1e-3,
    dtype: Annotated[Literal["float32", "bfloat16"], "of training"] = "float32",
    deltas: Annotated[Sequence[int], "where mAP is measured, beside 0"] = (-FAR, FAR),
    videos: Annotated[int | None, "at most so many, for mAP and MOTA (default: all, 12 synthetic ones)"] = None,
    longer: Annotated[int | None, "longer side of the model's input when measured; without it the model's own"] = None,
    device: Annotated[str | None, "cpu, cuda, ... (default: a GPU if there is one)"] = None,
    json: Annotated[Path | None, "write the figures here"] = None,
) -> None:
    for name in runs:
        check_choices(runs=(name, RUNS))
    check_ranges(steps=(steps, 1, inf), batch=(batch, 1, inf), size=(size, 64, inf), rate=(rate, 0, inf))
    check_ranges(videos=(videos, 1, inf), longer=(longer, 32, inf), every=(every, 1, inf))
    paths = Paths(jhmdb, jhmdb_labels).or_synthetic(SYNTHETIC_CLIPS)
    sources = taught(paths.sources(every=every), teacher)
    recipe = RECIPES["mobile"].changed(
        steps=steps, batch=batch, learning_rate=rate, dtype=dtype, warmup=min(WARMUP, steps // 5)
    )
    poses = POSE_RECIPES["mobile"].changed(canvas=size, mix=dict.fromkeys(sources, 1.0))
    with join_processes(device) as here:
        beginning = out / "start"
        _without_motion(start, beginning)
        options = RunOptions(init=str(beginning), save_every=100, workers=0)
        bench = Bench(None, jhmdb, jhmdb_labels, None, (0,), out, SETTING, None)
        clips = bench.videos(0)
        labelled = clips if videos is None else replace(bench, most=videos).videos(0)
        test = Test(labelled, clips, sorted({0, *deltas}), longer, str(here.device), sources)
        found: dict[str, list[dict]] = {name: [] for name in runs}
        for seed, name in ((seed, name) for seed in seeds for name in runs):
            folder = out / f"{name}-{seed}"
            task = PoseTask(recipe=poses.changed(**RUNS[name]), sources=sources)
            train(task, recipe.changed(seed=seed), str(folder), here, options)
            found[name].append(test(folder, steps, pairs=name != "single"))
    print(f"{'JHMDB' if jhmdb else 'synthetic clips'}, %, mean ± standard deviation over {len(seeds)} seeds")
    print(*tables(found, test.deltas), sep="\n")
    if "dimofs" in found and "single" in found:
        plot_sweep(out / "figure6.png", sweep(found, test.deltas))
        print(f"-> {out / 'figure6.png'}")
    if json is not None:
        write_json(json, {"seeds": list(seeds), "deltas": test.deltas, "runs": found})


def _without_motion(weights: str, folder: Path) -> None:
    """Write the model that finds the same in single frames and knows nothing of motion, unless it is there.

    InputError: what is there came from other weights.
    """
    note = folder / "start.json"
    if note.exists():
        if (before := read_json(note)) != weights:
            raise InputError(f"{note}: the runs here started from {before}, not {weights}; give another --out")
        return
    model = checkpoints.load_as(PoseDetector, weights)
    initialize.forget_motion(model)
    checkpoints.save(model, folder, {})
    write_json(note, weights)


@dataclass(frozen=True)
class Test:
    """What runs are measured on. videos: for AP and MOTA; clips: for PCK; longer: side of the model's input, None for
    its own."""

    videos: list[LabelledVideo]
    clips: list[LabelledVideo]
    deltas: list[int]
    longer: int | None
    device: str
    trained: Mapping[str, PairSource]  # what confidences are calibrated on

    def __call__(self, folder: Path, steps: int, pairs: bool) -> dict:
        """The figures of the run in `folder`, in percent, kept in its scores.json; None where there is none.

        found: mAP by delta of A's poses in B's features, without `pairs` at delta 0 alone; copied: of poses found in
        B; ap, mota: by joint, at delta 0; pck: of alpha 0.2 and 0.1.
        """
        of = {"steps": steps, "videos": len(self.videos), "deltas": self.deltas, "longer": self.longer}
        of["calibrated"] = CALIBRATION
        path = folder / "scores.json"
        if path.exists() and (kept := read_json(path)).get("of") == of:
            return kept
        result = {"of": of, **self._measure(folder, pairs)}
        write_json(path, result)
        return result

    def _measure(self, folder: Path, pairs: bool) -> dict:
        checkpoints.save(calibrated(str(folder / "model"), self.trained, CALIBRATION), folder / "calibrated", {})
        model = load_model(str(folder / "calibrated"), self.longer, self.device)
        assert isinstance(model, PoseDetector)
        names, deltas = model.keypoint_names, self.deltas if pairs else [0]
        bar = tqdm(self.videos, folder.name, disable=None, leave=False)
        runs = [find_all(model, video, deltas) for video in bar]

        def ap(delta: int, copy: int = 0) -> list[float | None]:
            found = zip(self.videos, (each[delta] for each in runs), strict=True)
            scores = [pose_scores(v, r, names, folder / "poses", SETTING.definition, copy) for v, r in found]
            return _by_joint(scores, "ap")

        rows = {delta: ap(delta) for delta in deltas}
        tracks = [
            track_scores(video, each[0], tracker_named("default"), names, folder / "tracks", SETTING)
            for video, each in zip(self.videos, runs, strict=True)
        ]
        found = [pair for clip in self.clips for pair in pck.measure(model, clip, 0, 0, PCK_EVERY, self.device)]
        errors = torch.cat([error for error, _ in found])
        return {
            "found": [rows[delta][-1] if delta in rows else None for delta in self.deltas],
            "copied": [ap(0, delta)[-1] if delta else rows[0][-1] for delta in self.deltas],
            "ap": rows[0],
            "mota": _by_joint(tracks, "mota"),
            "pck": [pck.pck(errors, alpha)["mean"] for alpha in pck.ALPHAS],
        }


def _by_joint(scores: Sequence[VideoScores], field: str) -> list[float | None]:
    """The columns of a table, GROUPS and the mean."""
    return [None if value != value else value for value in by_group(figures(scores, SETTING.definition)[field])]


def tables(found: dict[str, list[dict]], deltas: Sequence[int]) -> Iterator[str]:
    """The lines of Tables 1 and 2, and of one of all measures; "at" and "copied" are means of the farthest deltas."""
    far = max(map(abs, deltas))
    ends = [i for i, delta in enumerate(deltas) if abs(delta) == far]
    for field, measure in (("ap", "mAP"), ("mota", "MOTA")):
        yield _line(measure, [*GROUPS, "Mean"])
        for name, rows in found.items():
            yield _line(name, map(_spread, zip(*(row[field] for row in rows), strict=True)))
    yield _line("", ["mAP", f"at ±{far}", "loss", f"copied ±{far}", "loss", *(f"PCK@{alpha}" for alpha in pck.ALPHAS)])
    for name, rows in found.items():
        now = [row["ap"][-1] for row in rows]
        at, copied = ([_mean([row[field][i] for i in ends]) for row in rows] for field in ("found", "copied"))
        columns = [now, at, _minus(now, at), copied, _minus(now, copied)]
        yield _line(name, map(_spread, [*columns, *zip(*(row["pck"] for row in rows), strict=True)]))


def _line(label: str, cells: Iterable[str]) -> str:
    return f"{label:<8}" + "".join(f"{cell:>12}" for cell in cells)


def sweep(found: dict[str, list[dict]], deltas: Sequence[int]) -> Sweep:
    """Figure 6, means over the seeds."""
    curves = [
        [fmean(values) for values in zip(*(row[field] for row in found[name]), strict=True)]
        for name, field in (("dimofs", "found"), ("single", "copied"))
    ]
    return Sweep(list(deltas), curves[0], curves[1], fmean(row["ap"][-1] for row in found["single"]))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None


def _minus(a: Sequence[float], b: Sequence[float | None]) -> list[float | None]:
    return [None if y is None else x - y for x, y in zip(a, b, strict=True)]


def _spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "-"
    return f"{fmean(known):.1f}" + f"±{pstdev(known):.1f}" * (len(known) > 1)


if __name__ == "__main__":
    run(main)
