"""What eval.posetrack prints about the models that it runs: figures, tables, Figure 6, a comparison of trackers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from dimofs.cli import InputError
from dimofs.datasets.jhmdb import Jhmdb
from dimofs.datasets.sequences import LabelledVideo, jhmdb_videos, posetrack_videos, synthetic_videos
from dimofs.datasets.synthetic.clips import HELD_OUT, Synthetic
from dimofs.eval.keypoints.scores import GROUPS, VideoScores, by_group, figures
from dimofs.eval.tables.compare import EvalOptions, compare_trackers, score_model, sweep_deltas, tracker_lines
from dimofs.eval.tables.control import ControlOptions, control, lines
from dimofs.eval.tables.nets import net_lines
from dimofs.eval.tables.plots import plot_control, plot_rows, plot_sweep
from dimofs.eval.tables.report import line, report
from dimofs.tracking import tracker_named
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.training.data import need

# Synthetic clips of a seed, unless --videos says otherwise.
CLIPS = 12
# A seed of --seeds is this many clips of the generator away from the next, so that they share none.
SEEDS_APART = 10_000


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What models run over, how they are scored, and where results go; the fields are options of the command."""

    root: Path | None = None
    jhmdb: str | None
    jhmdb_labels: str | None
    most: int | None = None
    seeds: Sequence[int] = (0,)
    out: Path
    options: EvalOptions
    plot: Path | None = None

    def videos(self, seed: int) -> list[LabelledVideo]:
        """The labelled videos; `seed` chooses among synthetic ones. InputError: data is missing or malformed."""
        if self.root is not None:
            return posetrack_videos(self.root, self.most)
        if self.jhmdb or self.jhmdb_labels:
            clips = need(self.jhmdb, "--jhmdb", "--jhmdb-labels")
            labels = need(self.jhmdb_labels, "--jhmdb-labels", "--jhmdb")
            return jhmdb_videos(self.out / "truth", Jhmdb(clips, labels, part="test"), self.most)
        if not 0 <= seed < SEEDS_APART:
            raise InputError(f"--seeds {seed}: must be at least 0 and below {SEEDS_APART}")
        clips = Synthetic(self.most or CLIPS, seed=HELD_OUT + SEEDS_APART * seed)
        return synthetic_videos(self.out / "truth", clips)

    @property
    def source(self) -> str:
        """The name of the data, for the head of a table."""
        if self.root or self.jhmdb:
            return "PoseTrack" if self.root else "JHMDB"
        return f"synthetic clips of seed {', '.join(map(str, self.seeds))}"


def run_models(bench: Bench, models: dict[str, PoseDetector], tracker: str, per_sequence: bool) -> dict:
    """Print the figures of each model; returns the content of --json, by model if there are several."""
    results = {}
    for name, scores in _scores(bench, models, tracker):
        options = bench.options
        source = f"{name} on {bench.source}, delta {options.delta}, tracker {tracker}"
        results[name] = report(scores, source, options.definition, per_sequence=per_sequence, plot=bench.plot)
    return results if len(models) > 1 else results[next(iter(models))]


def compare_models(bench: Bench, models: dict[str, PoseDetector], tracker: str, table: Literal[1, 2]) -> dict:
    """Print Table 1 or 2, a row for each model; returns the content of --json."""
    results = {name: figures(scores, bench.options.definition) for name, scores in _scores(bench, models, tracker)}
    field, measure = {1: ("ap", "mAP"), 2: ("mota", "MOTA")}[table]
    rows = {name: by_group(result[field]) for name, result in results.items()}
    width = max(8, *map(len, rows))
    print(f"Table {table}, {measure}, %: {bench.source}, delta {bench.options.delta}, tracker {tracker}")
    print(*(line(name, row, width) for name, row in {"": [*GROUPS, "Mean"], **rows}.items()), sep="\n")
    if bench.plot is not None:
        plot_rows(bench.plot, rows, measure)
    return {"table": table, "rows": results}


def _scores(bench: Bench, models: dict[str, PoseDetector], tracker: str) -> Iterator[tuple[str, list[VideoScores]]]:
    """Each model's name and the counts of the videos for it; several models have a folder each in OUT."""
    chosen, videos = tracker_named(tracker), bench.videos(bench.seeds[0])
    for number, (name, detector) in enumerate(models.items()):
        out = bench.out if len(models) == 1 else bench.out / f"model{number}"
        yield name, score_model(detector, videos, out, chosen, bench.options)


def figure6_controlled(
    bench: Bench, models: Mapping[str, PoseDetector], deltas: Sequence[int], options: ControlOptions, device: str
) -> dict:
    """Print and plot the control of each model and, of several, a table of their offset nets; returns the content of
    --json."""
    videos, results = bench.videos(bench.seeds[0]), {}
    path = bench.plot or Path("control.png")
    for number, (name, detector) in enumerate(models.items()):
        found = control(detector, videos, deltas, bench.out / f"control{number}", options, device)
        print(*lines(found, f"{name} on {bench.source}"), sep="\n")
        drawn = path.with_stem(f"{path.stem}{number}") if len(models) > 1 else path
        plot_control(drawn, found)
        print(f"-> {drawn}")
        results[name] = found
    if len(results) > 1:
        print(*net_lines(results), sep="\n")
    return {"figure": 6, "control": {name: asdict(found) for name, found in results.items()}}


def figure6(bench: Bench, models: dict[str, PoseDetector], deltas: Sequence[int]) -> dict:
    """Print and plot Figure 6 of the last model, beside the first on single frames; returns the content of --json."""
    first, last = next(iter(models)), next(reversed(models))
    videos = bench.videos(bench.seeds[0])
    sweep = sweep_deltas(models[first], models[last], videos, bench.out / "poses", deltas, bench.options.batch)
    print(f"Figure 6, mAP, %: {bench.source}; {sweep.single:.1f} for single frames A by {first}")
    print(f"{'delta':>6}  from B's features by {last}  copied from B by {first}")
    for delta, found, copy in zip(sweep.deltas, sweep.dimofs, sweep.copied, strict=True):
        print(f"{delta:>6}{found:>{len(last) + 24}.1f}{copy:>{len(first) + 18}.1f}")
    path = bench.plot or Path("figure6.png")
    plot_sweep(path, sweep)
    print(f"-> {path}")
    return {"figure": 6, **asdict(sweep)}


def compare(bench: Bench, models: dict[str, PoseDetector], names: Sequence[str]) -> dict:
    """Print MOTA, HOTA and switches of trackers on the poses of the first model; returns the content of --json."""
    chosen = {name: tracker_named(name) for name in names}
    name, detector = next(iter(models.items()))
    sets = (bench.videos(seed) for seed in bench.seeds)
    trials = compare_trackers(detector, sets, chosen, bench.out / "tracks", bench.options)
    print(f"Trackers on the poses of {name}, {bench.source}: mean ± standard deviation over the sets")
    print(*tracker_lines(trials), sep="\n")
    return {"trackers": {name: [asdict(trial) for trial in row] for name, row in trials.items()}}
