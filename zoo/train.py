"""Train a pose detector to find the people of Frame A in the features of Frame B.

    python -m dimofs.zoo.train pose --out runs/first
    python -m dimofs.zoo.train pose --out runs/mobile --init MOVENET --teacher LABELS --validate 500 --unfreeze 8000 \\
        --jhmdb CLIPS --jhmdb-labels JHMDB --coco people.json --coco-images DIR --lspet DIR --mix jhmdb=0.5 coco=0.2
    python -m dimofs.zoo.train pose --out runs/videos --init dimofs_mobile --videos DIR --teacher LABELS --every 10
    torchrun --nproc-per-node 8 -m dimofs.zoo.train pose --recipe paper --out runs/paper --posetrack DIR \\
        --model dimofs_resnet50 --init keypointrcnn_resnet50_fpn_coco
    python -m dimofs.zoo.train pose --benchmark 20 --synthetic 1000 --size 256 --batch 4

Without data it trains on synthetic clips, which need no files. Data sets given by path are mixed, --mix sets their
shares; each image or clip that a teacher has labelled (python -m dimofs.zoo.label) gains the people and joints that its
own labels lack. Without --init nothing is frozen, as there is nothing to keep; --recipe paper is meant to start from
weights trained on COCO, and does not converge then.

The run folder --out holds recipe.json, metrics.jsonl (a line a step; also for TensorBoard, if that is installed), the
resumable state.pt and, in model/, the averaged weights as a checkpoint for every other command. --validate measures on
JHMDB's test part, or on synthetic clips that no training sees, to validation.jsonl, and keeps the best weights in
best/. The same command on the same folder resumes, whatever ended it, at the last checkpoint; --steps may differ then,
to train longer (the cosine is that of the new length from there on), and nothing else.

torchrun spreads each batch over its processes: same losses, same weights. --benchmark writes nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from math import inf
from typing import Annotated, Literal

import torch
from tqdm import tqdm

from dimofs.cli import InputError, check_choices, check_ranges, run
from dimofs.datasets.people import PairSource
from dimofs.datasets.synthetic.clips import HELD_OUT
from dimofs.skeletons import DIMOFS
from dimofs.zoo.presets import PRESETS, VARIANTS
from dimofs.zoo.training import initialize, throughput
from dimofs.zoo.training.batches import loader
from dimofs.zoo.training.data import (
    Coco,
    CocoImages,
    Every,
    JhmdbClips,
    JhmdbLabels,
    LspetFolder,
    Paths,
    PoseTrackRoot,
    VideoFolder,
    mixed,
    taught,
    unlabelled,
)
from dimofs.zoo.training.distributed import Process, process
from dimofs.zoo.training.recipes import RECIPES, Recipe
from dimofs.zoo.training.run_folder import RunFolder
from dimofs.zoo.training.trainer import Batch, Trainer
from dimofs.zoo.training.validation import Validation

SYNTHETIC = 10_000  # clips, where no data is given


@dataclass(frozen=True)
class Settings:
    """How a run goes about it; what it learns does not depend on these, but for the weights that it starts from."""

    init: str | None
    compile: bool
    save_every: int  # steps
    validate: int  # steps, 0 for never
    held_out: int  # pairs
    workers: int
    quiet: bool


def fit(
    trainer: Trainer,
    batches: Iterator[list[Batch]],
    folder: RunFolder,
    settings: Settings,
    validation: Validation | None = None,
) -> None:
    """Train to the recipe's last step; the leading process logs every step to `folder`, validates and saves there."""
    steps, leads = trainer.recipe.steps, trainer.process.leads
    with tqdm(total=steps, initial=trainer.step, unit="step", disable=settings.quiet or not leads) as bar:
        while trainer.step < steps:
            rate = trainer.recipe.rate(trainer.step)
            losses = trainer.update(next(batches))
            bar.set_postfix({name: f"{value:.3f}" for name, value in losses.items()}, refresh=False)
            bar.update()
            if not leads:
                continue
            folder.log(trainer.step, {"rate": rate, **losses})
            last = trainer.step == steps
            if validation is not None and (last or trainer.step % settings.validate == 0):
                with trainer.averaged():
                    figures = validation(trainer.model, trainer.process.device)
                folder.validated(trainer, figures)
            if last or trainer.step % settings.save_every == 0:
                folder.save(trainer)


def train(
    recipe: Recipe,
    sources: dict[str, PairSource],
    held_out: dict[str, PairSource],
    out: str,
    here: Process,
    settings: Settings,
) -> None:
    """Begin the run in the folder `out`, or go on with it.

    InputError: the folder holds another run, it cannot be written, or a loss is not finite.
    """
    folder = RunFolder(out)
    plan = {"init": settings.init, **asdict(recipe), "data": {name: len(source) for name, source in sources.items()}}
    state = folder.state(plan)
    trainer = prepared(recipe, here, settings, fresh=state is None)
    if state is not None:
        trainer.restore(state)
    validation = Validation(held_out, recipe, settings.held_out) if settings.validate and here.leads else None
    if here.leads:
        folder.begin(plan, trainer.step)
    batches = loader(sources, recipe, start=trainer.step, workers=settings.workers, process=here)
    fit(trainer, batches, folder, settings, validation)


def prepared(recipe: Recipe, here: Process, settings: Settings, *, fresh: bool = True) -> Trainer:
    """The trainer of a recipe at its first step; unless `fresh` its weights are of no matter."""
    torch.manual_seed(recipe.seed)
    model = PRESETS[recipe.preset](keypoint_names=DIMOFS, variant=recipe.variant)
    if settings.init and fresh:
        initialize.start(model, settings.init)
    if settings.compile:
        model.backbone.compile()
    return Trainer(model, recipe, here)


def check_share(recipe: Recipe, here: Process) -> None:
    """InputError: the processes cannot share a batch equally."""
    if recipe.batch % here.world:
        raise InputError(f"--batch {recipe.batch}: must be a multiple of the {here.world} processes")


def benchmark_speed(
    recipe: Recipe, sources: dict[str, PairSource], here: Process, settings: Settings, steps: int
) -> None:
    """Print the speed of the loader alone, the model alone and both; at a rate of 0, so that any weights will do."""
    recipe = replace(recipe, steps=max(recipe.steps, throughput.needed(steps)), learning_rate=0.0)
    batches = loader(sources, recipe, start=0, workers=settings.workers, process=here)
    speed = throughput.measure(prepared(recipe, here, settings), batches, steps)
    if here.leads:
        print(speed)


def describe(recipe: Recipe, sources: dict[str, PairSource]) -> None:
    """Print the recipe and the data."""
    print("\n".join(f"{name}: {value}" for name, value in asdict(recipe).items()))
    print("\n".join(f"data {name}: {len(source)} items" for name, source in sources.items()))
    for name in unlabelled(sources):
        print(f"note: people that {name} does not label count as background; give --teacher LABELS", file=sys.stderr)


def main(
    task: Annotated[Literal["pose"], "what to learn"],
    *,
    out: Annotated[str, "run folder; a run that it holds goes on"] = "runs/pose",
    init: Annotated[str | None, "weights to start from: a converted MoveNet, or the model's own"] = None,
    jhmdb: JhmdbClips = None,
    jhmdb_labels: JhmdbLabels = None,
    coco: Coco = None,
    coco_images: CocoImages = None,
    lspet: LspetFolder = None,
    posetrack: PoseTrackRoot = None,
    videos: VideoFolder = None,
    synthetic: Annotated[int, f"number of synthetic clips (default: {SYNTHETIC} without other data, else 0)"] = 0,
    mix: Annotated[list[str] | None, "shares of the data sets, as in jhmdb=0.4 coco=0.25"] = None,
    teacher: Annotated[str | None, "folder of labels written by python -m dimofs.zoo.label"] = None,
    every: Every = 5,
    recipe: Annotated[Literal["mobile", "paper"], "base recipe (see dimofs.zoo.training.recipes)"] = "mobile",
    model: Annotated[Literal["dimofs_mobile", "dimofs_resnet50", "dimofs_resnet101"] | None, "the network"] = None,
    variant: Annotated[str | None, f"of its motion parts: {', '.join(VARIANTS)} (see dimofs.zoo.presets)"] = None,
    steps: Annotated[int | None, "optimizer steps (default, as below: the recipe's)"] = None,
    batch: Annotated[int | None, "pairs of a batch, over all processes"] = None,
    accumulate: Annotated[int | None, "batches a step, whose gradients are averaged"] = None,
    size: Annotated[int | None, "pixels of the square training canvas"] = None,
    optimizer: Annotated[Literal["adamw", "sgd"] | None, "AdamW, or SGD with momentum"] = None,
    rate: Annotated[float | None, "highest learning rate"] = None,
    single: Annotated[float | None, "part of the batches with Frame B = Frame A"] = None,
    paste: Annotated[float | None, "part of the samples with one more person in front of another"] = None,
    unfreeze: Annotated[int | None, "step from which the frozen backbone trains too, at a tenth of the rate"] = None,
    dtype: Annotated[Literal["float32", "bfloat16", "float16"] | None, "of the forward pass"] = None,
    recompute: Annotated[bool | None, "keep fewer activations, compute them twice"] = None,
    seed: Annotated[int, "of everything random"] = 0,
    compile: Annotated[bool, "compile the backbone: slow to start, then faster"] = False,
    device: Annotated[str | None, "cpu, cuda, ... (default: a GPU if there is one)"] = None,
    save_every: Annotated[int, "steps between checkpoints"] = 500,
    validate: Annotated[int, "steps between validations; 0 for none"] = 0,
    held_out: Annotated[int, "pairs to validate on"] = 128,
    benchmark: Annotated[int | None, "only measure the speed of loader and model, over so many steps"] = None,
    workers: Annotated[int, "processes that load data"] = 1,
    quiet: Annotated[bool, "no progress bar and no word on the recipe"] = False,
) -> None:
    ranges = {"steps": steps, "batch": batch, "accumulate": accumulate, "every": every, "held_out": held_out}
    ranges |= {"save_every": save_every, "benchmark": benchmark}
    check_ranges(**{name: (value, 1, inf) for name, value in ranges.items()}, size=(size, 64, inf), rate=(rate, 0, inf))
    check_ranges(single=(single, 0, 1), paste=(paste, 0, 1), synthetic=(synthetic, 0, HELD_OUT))
    least = {"unfreeze": unfreeze, "validate": validate, "workers": workers, "seed": seed}
    check_ranges(**{name: (value, 0, inf) for name, value in least.items()})
    check_choices(variant=(variant, VARIANTS))
    if unfreeze is not None and not init:
        raise InputError("--unfreeze needs --init beside it: without weights to start from nothing is frozen")
    paths = Paths(jhmdb, jhmdb_labels, coco, coco_images, lspet, posetrack, videos, synthetic).or_synthetic(SYNTHETIC)
    sources = taught(paths.sources(every=every), teacher)
    chosen = RECIPES[recipe].changed(
        preset=model, variant=variant, steps=steps, batch=batch, accumulate=accumulate, size=size, optimizer=optimizer,
        learning_rate=rate, single=single, paste=paste, unfreeze=unfreeze, dtype=dtype, recompute=recompute, seed=seed,
        weights=tuple(mixed(RECIPES[recipe].weights, mix or (), list(sources)).items()), frozen=None if init else (),
    )  # fmt: skip
    settings = Settings(init, compile, save_every, validate, held_out, workers, quiet)
    with process(device) as here:
        check_share(chosen, here)
        if here.leads and not quiet:
            describe(chosen, sources)
        if benchmark is not None:
            benchmark_speed(chosen, sources, here, settings, benchmark)
        else:
            train(chosen, sources, paths.held_out(), out, here, settings)


if __name__ == "__main__":
    run(main)
