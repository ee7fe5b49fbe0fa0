"""AP and MOTA over the number of labelled frames of each clip: where few labels are seen often, the paper's reason for
a better detector can hold, which is that each label is learned from many Frames B."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any, Protocol

from dimofs.cli import InputError
from dimofs.datasets.jhmdb import Jhmdb
from dimofs.datasets.people import PairSource
from dimofs.datasets.sequences import spread
from dimofs.datasets.synthetic.clips import HELD_OUT, Synthetic
from dimofs.eval.tables.plots import save
from dimofs.files import read_bytes
from dimofs.zoo.training.distributed import Process
from dimofs.zoo.training.poses import PoseRecipe, PoseTask
from dimofs.zoo.training.recipes import Recipe
from dimofs.zoo.training.run import RunOptions, train
from dimofs.zoo.training.run_folder import BEST, VALIDATIONS

# Frames of a synthetic clip, and how many clips there are to train on unless --clips says otherwise.
SYNTHETIC_LENGTH, SYNTHETIC_CLIPS = 40, 200
# Synthetic clips to validate on begin here: neither trained on nor tested on.
VALIDATION_SEED = HELD_OUT // 2
# Frames that the length of training is chosen by.
VALIDATION_FRAMES = 128
# One of so many films of JHMDB is validated on and not trained on.
HELD_OUT_SHARE = 8


def parse_counts(texts: Sequence[str]) -> dict[str, int | None]:
    """The numbers of labelled frames by how they are written, "all" being None. InputError: one is no number."""
    counts: dict[str, int | None] = {}
    for text in texts:
        if text != "all" and not (text.isascii() and text.isdecimal() and 1 <= int(text) < 10**6):
            raise InputError(f"--labels-per-clip {text}: must be a number of frames, at least 1, or all")
        if text in counts:
            raise InputError(f"--labels-per-clip: {text} is given twice; leave one out")
        counts[text] = None if text == "all" else int(text)
    return counts


@dataclass(frozen=True, kw_only=True)
class FewLabels:
    """Training clips of which `per_clip` frames each are labelled (None: all), and clips to validate on.

    training, validation: data sets by name. frames: the number of labelled training frames.
    """

    training: Mapping[str, PairSource]
    validation: Mapping[str, PairSource]
    frames: int

    def steps(self, epochs: int, batch: int, most: int | None) -> int:
        """Training steps in which each labelled frame is seen `epochs` times on average, at most `most` if given."""
        steps = ceil(self.frames * epochs / batch)
        return steps if most is None else min(steps, most)


def few_labels(jhmdb: str | None, jhmdb_labels: str | None, clips: int | None, per_clip: int | None) -> FewLabels:
    """`clips` training clips (None: all) of JHMDB's split 1 or, without data, synthetic ones. Frame B is any frame of
    the clip. All clips of a film are on one side of training and validation."""
    if not jhmdb or not jhmdb_labels:
        training = Synthetic(clips or SYNTHETIC_CLIPS, reach=None, per_clip=per_clip, length=SYNTHETIC_LENGTH)
        frames = len(training) * min(per_clip or SYNTHETIC_LENGTH, SYNTHETIC_LENGTH)
        validation = Synthetic(100, seed=VALIDATION_SEED, length=SYNTHETIC_LENGTH)
        return FewLabels(training={"synthetic": training}, validation={"synthetic": validation}, frames=frames)
    training = Jhmdb(jhmdb, jhmdb_labels, reach=None, per_clip=per_clip)
    validation = copy(training)
    validation.per_clip = None
    validation.names = [name for name in training.names if _held_out(name)]
    training.names = spread([name for name in training.names if not _held_out(name)], clips)
    if not validation.names or not training.names:
        raise InputError(f"{jhmdb_labels}: the training part of split 1 has too few clips to validate on some of them")
    lengths = [training.length(name) for name in training.names]
    frames = sum(min(per_clip or length, length) for length in lengths)
    return FewLabels(training={"jhmdb": training}, validation={"jhmdb": validation}, frames=frames)


def _held_out(name: str) -> bool:
    """Whether the clip "<class>/<film>_<class>_..." is one to validate on, by its film."""
    action, _, clip = name.partition("/")
    film = clip.partition(f"_{action}_")[0]
    return sum(map(ord, film)) % HELD_OUT_SHARE == 0


class Measure(Protocol):
    """The figures of a run in a folder."""

    def __call__(
        self, folder: Path, steps: int, trained_on: Mapping[str, PairSource], *, pairs: bool, weights: str
    ) -> dict: ...


@dataclass(frozen=True, kw_only=True)
class Training:
    """Runs to train: what each changes in `poses`, with each of the seeds, all from the weights `start`."""

    out: Path
    runs: Mapping[str, Mapping[str, Any]]
    seeds: Sequence[int]
    recipe: Recipe
    poses: PoseRecipe
    start: str
    process: Process


def label_runs(
    trained: Training, data: Mapping[str, FewLabels], epochs: int, most: int | None, measure: Measure
) -> dict[str, dict[str, list[dict]]]:
    """The figures of each seed, by number of labelled frames as written in `data`, by run.

    epochs, most: see `FewLabels.steps`. The backbone trains from the first step. Each run is validated ten times on
    single frames, and the best weights are measured. Finished work is not repeated.
    """
    found = {count: {name: [] for name in trained.runs} for count in data}
    for seed in trained.seeds:
        for count, few in data.items():
            steps = few.steps(epochs, trained.recipe.batch, most)
            recipe = trained.recipe.changed(
                steps=steps, seed=seed, warmup=min(trained.recipe.warmup, steps // 5), unfreeze=0
            )
            for name in trained.runs:
                folder = trained.out / f"{count}-{name}-{seed}"
                chosen = _train(trained, recipe, few, name, folder)
                figures = measure(folder, steps, few.training, pairs=False, weights=BEST)
                found[count][name].append({"steps": steps, "chosen": chosen, **figures})
    return found


def _train(trained: Training, recipe: Recipe, few: FewLabels, name: str, folder: Path) -> int:
    """Train a run; the step of its best weights."""
    poses = trained.poses.changed(**trained.runs[name], mix=dict.fromkeys(few.training, 1.0))
    task = PoseTask(recipe=poses, sources=few.training, held_out_sources=few.validation, judged=("pck",))
    options = RunOptions(
        init=trained.start, save_every=100, validate=max(1, recipe.steps // 10), held_out=VALIDATION_FRAMES, workers=0
    )
    train(task, recipe, str(folder), trained.process, options)
    lines = read_bytes(folder / VALIDATIONS).splitlines()
    if not lines:
        raise InputError(f"{folder / VALIDATIONS}: holds no validation; delete {folder} to train it again")
    return max(map(json.loads, lines), key=lambda row: row["score"])["step"]


def label_lines(found: Mapping[str, Mapping[str, Sequence[dict]]]) -> list[str]:
    """A table of mAP and MOTA: a line for each run, a column for each number of labelled frames; mean ± standard
    deviation over the seeds. found: by number as written, by run, the figures of each seed."""
    lines, names = [], list(next(iter(found.values())))
    width = max(map(len, names)) + 2
    for field, title in (("ap", "mAP"), ("mota", "MOTA")):
        lines.append(f"{title:<{width}}" + "".join(f"{f'{count} labelled':>14}" for count in found))
        for name in names:
            cells = [_spread([row[field][-1] for row in found[count][name]]) for count in found]
            lines.append(f"{name:<{width}}" + "".join(f"{cell:>14}" for cell in cells))
    return lines


def _spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "-"
    return f"{fmean(known):.1f} ± {pstdev(known):.1f}" if len(known) > 1 else f"{known[0]:.1f}"


def plot_labels(path: Path, found: Mapping[str, Mapping[str, Sequence[dict]]]) -> None:
    """Plot mAP and MOTA over the number of labelled frames a clip, a line for each run. InputError: as `plots.save`."""

    def draw(figure: Any) -> None:
        for axes, (field, title) in zip(figure.subplots(1, 2), (("ap", "mAP"), ("mota", "MOTA")), strict=True):
            for name in next(iter(found.values())):
                rows = [[row[field][-1] for row in found[count][name]] for count in found]
                known = [(place, row) for place, row in enumerate(rows) if None not in row]
                axes.errorbar(
                    [place for place, _ in known],
                    [fmean(row) for _, row in known],
                    [pstdev(row) for _, row in known],
                    marker="o",
                    capsize=3,
                    label=name,
                )
            axes.set_xticks(range(len(found)), list(found))
            axes.set(xlabel="labelled frames of each clip", ylabel=f"{title}, %")
            axes.grid(alpha=0.3)
            axes.legend(fontsize="small")

    save(path, (9, 4), draw)
