"""Train a pose detector to find the people of Frame A in the features of Frame B.

    python -m dimofs.zoo.train pose --out runs/first
    python -m dimofs.zoo.train pose --out runs/mobile --init MOVENET --teacher LABELS --validate 500 --unfreeze 8000 \\
        --jhmdb CLIPS --jhmdb-labels JHMDB --coco people.json --coco-images DIR --lspet DIR --mix jhmdb=0.5 coco=0.2
    python -m dimofs.zoo.train pose --out runs/videos --init dimofs_mobile --videos DIR --teacher LABELS --every 10
    torchrun --nproc-per-node 8 -m dimofs.zoo.train pose --recipe paper --out runs/paper --posetrack DIR \\
        --model dimofs_resnet50 --init keypointrcnn_resnet50_fpn_coco
    python -m dimofs.zoo.train pose --benchmark 20 --synthetic 1000 --canvas 256 --batch 4

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
from collections.abc import Mapping
from math import inf
from typing import Annotated, Any, Literal

from dimofs.cli import InputError, check_choices, check_ranges, run
from dimofs.datasets.people import PairSource
from dimofs.datasets.synthetic.clips import HELD_OUT
from dimofs.zoo.presets import VARIANTS
from dimofs.zoo.training.data import (
    SYNTHETIC_CLIPS,
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
from dimofs.zoo.training.distributed import join_processes
from dimofs.zoo.training.poses import POSE_RECIPES, PoseTask
from dimofs.zoo.training.recipes import RECIPES
from dimofs.zoo.training.run import RunOptions, benchmark_run, plan, train


def describe(planned: Mapping[str, Any], sources: Mapping[str, PairSource]) -> None:
    """Print what defines a run."""
    print("\n".join(f"{name}: {value}" for name, value in planned.items() if name != "data"))
    print("\n".join(f"data {name}: {count} items" for name, count in planned["data"].items()))
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
    synthetic: Annotated[int, f"number of synthetic clips (default: {SYNTHETIC_CLIPS} without other data, else 0)"] = 0,
    mix: Annotated[list[str] | None, "shares of the data sets, as in jhmdb=0.4 coco=0.25"] = None,
    teacher: Annotated[str | None, "folder of labels written by python -m dimofs.zoo.label"] = None,
    every: Every = 5,
    recipe: Annotated[Literal["mobile", "paper"], "base recipe (see dimofs.zoo.training.recipes)"] = "mobile",
    model: Annotated[Literal["dimofs_mobile", "dimofs_resnet50", "dimofs_resnet101"] | None, "the network"] = None,
    variant: Annotated[str | None, f"of its motion parts: {', '.join(VARIANTS)} (see dimofs.zoo.presets)"] = None,
    steps: Annotated[int | None, "optimizer steps (default, as below: the recipe's)"] = None,
    batch: Annotated[int | None, "pairs of a batch, over all processes"] = None,
    accumulate: Annotated[int | None, "batches a step, whose gradients are averaged"] = None,
    canvas: Annotated[int | None, "side of the square training images, pixels"] = None,
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
    check_ranges(
        **{name: (value, 1, inf) for name, value in ranges.items()}, canvas=(canvas, 64, inf), rate=(rate, 0, inf)
    )
    check_ranges(single=(single, 0, 1), paste=(paste, 0, 1), synthetic=(synthetic, 0, HELD_OUT))
    least = {"unfreeze": unfreeze, "validate": validate, "workers": workers, "seed": seed}
    check_ranges(**{name: (value, 0, inf) for name, value in least.items()})
    check_choices(variant=(variant, VARIANTS))
    if unfreeze is not None and not init:
        raise InputError("--unfreeze needs --init beside it: without weights to start from nothing is frozen")
    paths = Paths(jhmdb, jhmdb_labels, coco, coco_images, lspet, posetrack, videos, synthetic)
    paths = paths.or_synthetic(SYNTHETIC_CLIPS)
    sources = taught(paths.sources(every=every), teacher)
    chosen = RECIPES[recipe].changed(
        steps=steps, batch=batch, accumulate=accumulate, optimizer=optimizer, learning_rate=rate, unfreeze=unfreeze,
        dtype=dtype, recompute=recompute, seed=seed, frozen=None if init else (),
    )  # fmt: skip
    poses = POSE_RECIPES[recipe]
    poses = poses.changed(
        preset=model, variant=variant, canvas=canvas, single=single, paste=paste,
        mix=mixed(poses.mix, mix or (), list(sources)),
    )  # fmt: skip
    learned = PoseTask(recipe=poses, sources=sources, held_out_sources=paths.held_out())
    options = RunOptions(
        init=init, compile=compile, save_every=save_every, validate=validate, held_out=held_out, workers=workers,
        quiet=quiet,
    )  # fmt: skip
    with join_processes(device) as process:
        if process.leads and not quiet:
            describe(plan(learned, chosen, init), sources)
        if benchmark is None:
            train(learned, chosen, out, process, options)
            return
        speed = benchmark_run(learned, chosen, process, options, benchmark)
        if process.leads:
            print(speed)


if __name__ == "__main__":
    run(main)
