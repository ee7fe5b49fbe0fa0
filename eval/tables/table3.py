"""What eval.jhmdb prints about columns of Table 3 and the points of Figure 7."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from tqdm import tqdm

from dimofs.cli import InputError
from dimofs.datasets.jhmdb import Jhmdb
from dimofs.datasets.synthetic.clips import HELD_OUT
from dimofs.datasets.synthetic.twins import CLASSES, LENGTH, twin_path, write_twins
from dimofs.eval.actions.files import Truth
from dimofs.eval.actions.frame_map import DEFINITIONS
from dimofs.eval.tables.action_columns import Column, reach
from dimofs.eval.tables.action_streams import LONGEST, StreamSources
from dimofs.eval.tables.actions import Comparison, Part, Trial, bootstrap, limited, mean_ap, truth_of
from dimofs.eval.tables.plots import save
from dimofs.eval.tables.tuned import check_tuned, tuned_trial
from dimofs.sources import printable
from dimofs.zoo.detection.coarse_to_fine import CoarseToFine
from dimofs.zoo.presets import VARIANTS, action_mobile
from dimofs.zoo.training.action_data import LabelledClip, Regions, check_people, held_out_clips, jhmdb_clips
from dimofs.zoo.training.actions import ACTIONS, start
from dimofs.zoo.training.initialize import variant_of
from dimofs.zoo.training.recipes import Recipe

# Differences of other columns are to this one.
APPEARANCE, DIMOFS = "appearance", "DiMoFs"
# The paper's Figure 7 peaks here; the ends of its curve are columns of Table 3.
PAPER_PEAK = 12
FIGURE7 = tuple(range(0, 41, 2))


@dataclass(frozen=True, kw_only=True)
class ActionBench:
    """The data and the heads of a comparison; the fields are options of the command.

    most: clips of each class and part, None for all. every: Frame A is one of every `every`-th frame.
    twins: seeds of motion twins to train on, half as many to test on, in place of JHMDB.
    part: "test", or "held-out" to train on three quarters of the training clips and to judge on the others.
    tracks: average actions along tracks in all columns.
    """

    jhmdb: str | None
    jhmdb_labels: str | None
    twins: int | None = None
    split: int
    weights: str
    every: int
    most: int | None
    cells: int
    hidden: int
    steps: int
    seeds: Sequence[int]
    cache: Path
    part: Literal["test", "held-out"] = "test"
    tracks: bool = False

    @property
    def recipe(self) -> Recipe:
        return ACTIONS.changed(steps=self.steps)

    @property
    def variant(self) -> str:
        """The weights' variant of the motion parts."""
        return variant_of(self.weights) or "paper"

    @property
    def aligning(self) -> bool:
        """Whether the offset net gives all channels one displacement, found by aligning."""
        return VARIANTS[self.variant].kind is CoarseToFine

    def prepare(self, reach: int) -> tuple[Comparison, StreamSources]:
        """Regions of both parts, and where their streams come from, of which none looks further than `reach` frames.

        InputError: data or weights are missing, or a class has no labelled person to learn from.
        """
        # Of twins the first frame is Frame A, and as many are drawn as the streams read.
        length = None if self.twins is None else min(reach + 1, LENGTH)
        train, test, classes = self._parts(length)
        model = action_mobile(classes, cells=self.cells, hidden=self.hidden, variant=self.variant).eval()
        start(model, self.weights)
        sources = StreamSources(model, self.cache, train)
        parts = [
            Part(
                clips=clips,
                parts=[
                    sources.trained.regions(clip, every=length or self.every, train=part == "train")
                    for clip in tqdm(clips, f"{part} regions", unit="clip", leave=False, disable=None)
                ],
            )
            for part, clips in (("train", train), ("test", test))
        ]
        check_people(Regions.join(parts[0].parts), train, classes)
        comparison = Comparison(
            train=parts[0], test=parts[1], classes=classes, recipe=self.recipe, hidden=self.hidden, seeds=self.seeds,
            folder=self.cache, tracks=self.tracks,
        )  # fmt: skip
        return comparison, sources

    def _parts(self, length: int | None) -> tuple[list[LabelledClip], list[LabelledClip], list[str]]:
        """The clips to train on and to judge on, and the names of their classes."""
        train, classes = self._clips("train", length)
        if self.part == "held-out":
            kept, held = held_out_clips(train)
            if not held:
                raise InputError("--part held-out: needs four training clips of a class; give more")
            return kept, held, classes
        test, others = self._clips("test", length)
        if classes != others:
            raise InputError(f"--jhmdb-labels {self.jhmdb_labels}: training and test clips have other classes")
        return train, test, classes

    def _clips(self, part: Any, length: int | None) -> tuple[list[LabelledClip], list[str]]:
        if self.twins is not None and length is not None:
            return twin_clips(self.cache / "twins", self.twins, part, length)
        assert self.jhmdb is not None and self.jhmdb_labels is not None
        clips, classes = jhmdb_clips(Jhmdb(self.jhmdb, self.jhmdb_labels, split=self.split, part=part))
        return limited(clips, self.most), classes


def twin_clips(folder: Path, seeds: int, part: str, length: int) -> tuple[list[LabelledClip], list[str]]:
    """Motion twins of `seeds` seeds, or of half as many others for the test part, and their classes."""
    first, count = (0, seeds) if part == "train" else (HELD_OUT, max(1, seeds // 2))
    clips = []
    for seed in tqdm(range(first, first + count), f"{part} twins", leave=False, disable=None):
        for action, boxes in write_twins(folder, seed, length).items():
            clips.append(
                LabelledClip(
                    name=f"{action}/{seed}",
                    path=twin_path(folder, action, seed, length),
                    label=CLASSES.index(action),
                    length=length,
                    boxes=torch.from_numpy(boxes),
                )
            )
    return clips, list(CLASSES)


def table3(bench: ActionBench, columns: Sequence[Column], tune: int | None = None) -> dict[str, Any]:
    """Print these columns of Table 3; returns the content of --json.

    tune: steps that the backbone's late stages learn with each column, None if they are frozen.
    InputError: they learn, and a column reads what they do not make.
    """
    if tune is not None:
        check_tuned(columns)
    comparison, sources = bench.prepare(reach(columns))
    truth = truth_of(comparison.test, comparison.classes)
    trials: dict[str, Trial] = {}
    rows: dict[str, Any] = {}
    width = max(len(column.name) for column in columns)
    # The paper has no figures on twins.
    paper = bench.twins is None
    about = _about(bench, comparison, tune)
    print(f"Table 3: {about}")
    head = f"{'':{width}}{'frame-mAP@.5 voc':>18}{'yowo':>7}{'act':>7}{'clips':>7}"
    print(head + (f"{'paper':>7}" if paper else ""))
    for column in columns:
        if tune is None:
            trials[column.name] = comparison.trial([sources.named(stream) for stream in column.streams], column.tracks)
        else:
            trials[column.name] = tuned_trial(comparison, sources, column, tune)
        rows[column.name] = row = _row(truth, trials[column.name], column, paper)
        cells = "".join(f"{row[name]['mean']:7.1f}" for name in ("yowo", "act", "clips"))
        if paper:
            cells += f"{'-' if column.paper is None else f'{column.paper:.1f}':>7}"
        voc = f"{row['voc']['mean']:.1f} ± {row['voc']['sd']:.1f}"
        print(f"{column.name:{width}}{voc:>18}{cells}", flush=True)
    sampled = _sampled(truth, trials)
    gains = {base: _gains(rows, sampled, base) for base in (APPEARANCE, DIMOFS) if base in trials and len(trials) > 1}
    return {"table": 3, "about": about, "tune": tune, "rows": rows, "gains": gains}


def _about(bench: ActionBench, comparison: Comparison, tune: int | None = None) -> str:
    frames = [sum(len(regions.numbers) for regions in part.parts) for part in (comparison.train, comparison.test)]
    train, test = comparison.train, comparison.test
    source = f"JHMDB split {bench.split}" if bench.twins is None else "motion twins"
    judged = "test" if bench.part == "test" else "held-out training"
    trained = "frozen" if tune is None else f"trained for {tune} steps"
    return (
        f"{source}, {len(train.clips)} training clips ({frames[0]} frames), {len(test.clips)} {judged} "
        f"clips ({frames[1]} frames), {bench.weights} {trained}, {bench.cells}x{bench.cells} cells, "
        f"{bench.hidden} wide, {bench.steps} steps, seeds {list(bench.seeds)}"
        f"{', averaged along tracks' if bench.tracks else ''}"
    )


def _row(truth: Truth, trial: Trial, column: Column, paper: bool) -> dict[str, Any]:
    figures = {name: [mean_ap(truth, found, name) for found in trial.found] for name in DEFINITIONS}
    figures["clips"] = list(trial.accuracy)
    means = {name: {"mean": float(np.mean(x)), "sd": _spread(x), "seeds": x} for name, x in figures.items()}
    about = {"streams": list(column.streams), "tracks": column.tracks, "paper": column.paper if paper else None}
    return {**about, **means}


def _spread(values: Sequence[float]) -> float:
    """The standard deviation of a sample; 0 of a single value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _sampled(truth: Truth, trials: dict[str, Trial]) -> dict[str, np.ndarray]:
    """Each column's mean frame-mAP (voc) over its seeds, of each of the same resampled sets of clips."""
    sampled = bootstrap(truth, [found for trial in trials.values() for found in trial.found])
    parts = np.split(sampled, np.cumsum([len(trial.found) for trial in trials.values()])[:-1], axis=1)
    return {name: part.mean(1) for name, part in zip(trials, parts, strict=True)}


def _gains(rows: dict[str, Any], sampled: dict[str, np.ndarray], base: str) -> dict[str, Any]:
    """Print and return how much better each column is than `base`, with its 95 % interval over resampled clips."""
    print(f"frame-mAP (voc) minus that of {base}, 95 % interval over clips:")
    gains = {}
    for name, values in sampled.items():
        if name == base:
            continue
        gain = rows[name]["voc"]["mean"] - rows[base]["voc"]["mean"]
        low, high = np.percentile(values - sampled[base], (2.5, 97.5))
        gains[name] = {"gain": gain, "low": float(low), "high": float(high)}
        print(f"{name:{max(map(len, sampled))}}{gain:+6.1f} [{low:+.1f}, {high:+.1f}]")
    return gains


def figure7(bench: ActionBench, kinds: Sequence[str], deltas: Sequence[int], plot: Path) -> dict[str, Any]:
    """Print and plot frame-mAP over delta for appearance with each kind of stream; returns the content of --json.

    Heads are trained on frames of random delta, so that none of the points is the one that was trained for.
    """
    comparison, sources = bench.prepare(max(*deltas, LONGEST))
    deltas, width = sorted(deltas), max(map(len, ("delta", *kinds)))
    truth = truth_of(comparison.test, comparison.classes)
    curves: dict[str, list[dict[str, float]]] = {}
    print(f"Figure 7, frame-mAP@.5 (voc): {_about(bench, comparison)}")
    print(f"{'delta':{width}}" + "".join(f"{delta:>7}" for delta in deltas))
    for kind in kinds:
        appearance, trained = sources.named(APPEARANCE), sources.named(f"{kind}@random")
        tests = [[appearance, sources.named(f"{kind}@{delta}")] for delta in deltas]
        trials = comparison.trials([appearance, trained], tests)
        scores = [[mean_ap(truth, found) for found in trial.found] for trial in trials]
        curves[kind] = [{"mean": float(np.mean(x)), "sd": _spread(x)} for x in scores]
        print(f"{kind:{width}}" + "".join(f"{point['mean']:7.1f}" for point in curves[kind]), flush=True)
    # The paper has no figures on twins.
    _plot(plot, deltas, curves, None if bench.twins else PAPER_PEAK)
    print(f"-> {plot}")
    return {"figure": 7, "about": _about(bench, comparison), "deltas": list(deltas), "curves": curves}


def _plot(path: Path, deltas: Sequence[int], curves: dict[str, list[dict[str, float]]], peak: int | None) -> None:
    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for kind, points in curves.items():
            mean, sd = ([point[name] for point in points] for name in ("mean", "sd"))
            axes.errorbar(deltas, mean, sd, marker="o", capsize=2, label=f"appearance and {kind}")
        if peak is not None:
            axes.axvline(peak, linestyle=":", color="grey", label="peak of the paper's curve")
        axes.set(xlabel="delta, frames from A to B", ylabel="frame-mAP@.5, %")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend()
        axes.grid(alpha=0.3)

    save(path, (7, 4.2), draw)


def plot_confusion(path: Path, counts: np.ndarray, names: Sequence[str]) -> None:
    """Plot a matrix of `confusion` as shares of its rows. InputError: the name has another ending."""

    def draw(figure: Any) -> None:
        shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
        axes = figure.subplots()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        for (row, column), share in np.ndenumerate(shares):
            if share >= 1:
                dark = "white" if share > 55 else "black"
                axes.text(column, row, f"{share:.0f}", ha="center", va="center", color=dark, fontsize="xx-small")
        # Names are not formulas, whatever signs they have.
        shown = {"fontsize": "small", "parse_math": False}
        axes.set_xticks(range(len(names) + 1), [*map(printable, names), "missed"], rotation=90, **shown)
        axes.set_yticks(range(len(names)), [*map(printable, names)], **shown)
        axes.set(xlabel="found, % of the labels in a row", ylabel="labelled")

    save(path, (8, 7.6), draw)
