"""Train a pose detector to find the people of Frame A in the features of Frame B, or what people do.

    python -m dimofs.zoo.train pose --out runs/first
    python -m dimofs.zoo.train pose --out runs/mobile --init MOVENET --teacher LABELS --validate 500 --unfreeze 8000 \\
        --jhmdb CLIPS --jhmdb-labels JHMDB --coco people.json --coco-images DIR --lspet DIR --mix jhmdb=0.5 coco=0.2
    python -m dimofs.zoo.train pose --out runs/mice --coco mice.json --coco-images photos --init dimofs_mobile \\
        --single 1 --steps 250 --warmup 25 --canvas 256 --validate 50
    python -m dimofs.zoo.train pose --out runs/videos --init dimofs_mobile --videos DIR --teacher LABELS --every 10
    torchrun --nproc-per-node 8 -m dimofs.zoo.train pose --recipe paper --out runs/paper --posetrack DIR \\
        --model dimofs_resnet50 --init keypointrcnn_resnet50_fpn_coco
    python -m dimofs.zoo.train pose --benchmark 20 --synthetic 1000 --canvas 256 --batch 4
    python -m dimofs.zoo.train action --out runs/jhmdb --jhmdb CLIPS --jhmdb-labels JHMDB --validate 300
    python -m dimofs.zoo.train action --out runs/own --clips DIR --streams appearance dimofs@5 dimofs@10 pose@10
    python -m dimofs.zoo.train recognize --out runs/strokes --clips DIR --validate 300

Data: without any it trains on 10,000 synthetic clips, which need no files. Data sets given by path are mixed; --mix
sets their weights. Your own labelled images can be a COCO keypoint file, the .xml of CVAT ("CVAT for images 1.1"), the
JSON of Label Studio, or the data.yaml of YOLO-pose labels; --coco takes several files, --coco-images as many folders.
Its category may be anything with named joints, mice or hands: the model then has these joints, the limbs of the
category's `skeleton` and, for the similarity of poses, its `sigmas` (default: a shoulder's). A teacher's labels (python
-m dimofs.zoo.label) add the people and joints that a data set leaves out.

Start: without --init no layer is frozen, since the weights are random. --recipe paper is meant to start
from weights trained on COCO and does not converge without them.

Motion parts: --variant names what compares A and B (dimofs.zoo.presets). Poses alone do not make it align them, so
--constrain weights further losses: follow (go where labelled joints go), still (small displacements), smooth (like
those of neighbouring cells), rebuild (restore A's features), apart (know scenes that differ: in the share --apart of
the pairs A is of another sample, and the people to find are those of B).

    python -m dimofs.zoo.train pose --out runs/aligned --init dimofs_mobile --variant matching --fixed backbone \\
        --apart 0.3 --constrain follow=1 apart=1 --jhmdb CLIPS --jhmdb-labels JHMDB

Freezing: --init freezes most of the backbone. From step --unfreeze on it trains too, at a tenth of the learning rate,
and tensors of small weights at a lower rate still, which keeps what they have learned. --fixed names parts that stay
frozen, as in --unfreeze 0 --fixed backbone.body.stages.0 backbone.hints.

Results: the run folder --out holds recipe.json, metrics.jsonl (one line per step; also for TensorBoard, if it is
installed), state.pt, from which the run resumes, and model/, the averaged weights as a checkpoint for every other
command. --validate N measures the model every N steps, writes validation.jsonl and keeps the best weights in best/. It
measures on --validate-coco, or on the share --hold-out of the --coco images (a fifth for own categories), or else on
JHMDB's test part or synthetic clips that are not trained on. --benchmark writes nothing.

Resuming: the same command on the same folder continues at the last checkpoint, however the run ended. Ctrl-C, SIGTERM
and SIGHUP finish the step and write a checkpoint; at most --save-every steps are lost otherwise. Of what
defines the result, options and labels, only --steps may change, to train longer; the learning rate then follows the new
schedule.

Actions: the head of an `action_mobile` or `action_resnet101` learns above the frozen parts of a pose detector, --init
(default: dimofs_mobile_v2). --clips holds one folder of videos for each class; the actor is the person that the
detector is surest of, or --boxes gives an array [frames, 4] (x1 y1 x2 y2) for each "<class>/<video without ending>".
Features are computed once and kept in --cache under a hash of weights, size and clip. --validate keeps every fourth
clip of each class out of training. The result is for python -m dimofs.zoo.action.

Whole clips: `recognize` learns to label clips above the same frozen parts: a head learns the class of pairs of frames
from their main person, and a classifier what the head says of all pairs of a clip. With --pose-clusters the head learns
clusters of poses and DiMoFs instead, as in the paper (dimofs.eval.diving48 measures both). --clips is as above, or
holds train/ and test/ with such folders; --validate leaves the test part out (a quarter of each class, if there is
none). The result is for python -m dimofs.zoo.recognize.

torchrun spreads each batch over its processes, with the same losses and weights as one process.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from dimofs.cli import InputError, Range, check_choices, run
from dimofs.datasets.people import PairSource
from dimofs.memory import keep_freed_memory
from dimofs.zoo.presets import VARIANTS
from dimofs.zoo.training.action_options import MODELS, ActionOptions, check_unused
from dimofs.zoo.training.actions import ACTIONS
from dimofs.zoo.training.constraints import constrained
from dimofs.zoo.training.data import (
    SYNTHETIC_CLIPS,
    HeldOutPaths,
    Paths,
    Teacher,
    mixed,
    skeleton_of,
    taught,
    unlabelled,
)
from dimofs.zoo.training.distributed import join_processes
from dimofs.zoo.training.initialize import variant_of
from dimofs.zoo.training.poses import POSE_RECIPES, PoseTask
from dimofs.zoo.training.recipes import RECIPES
from dimofs.zoo.training.recognition import RECOGNITION, RECOGNIZERS, RecognitionTask, recognition_task
from dimofs.zoo.training.run import RunOptions, benchmark_run, chosen_dtype, plan, train
from dimofs.zoo.training.tasks import Task

POSE_MODELS = ("dimofs_mobile", "dimofs_resnet50", "dimofs_resnet101")

NOTHING_HELD_OUT = HeldOutPaths()
# Pairs to validate on.
HELD_OUT = 128


def describe(planned: Mapping[str, Any], sources: Mapping[str, PairSource]) -> None:
    """Print what defines a run."""
    print("\n".join(f"{name}: {value}" for name, value in planned.items() if name != "data"))
    print("\n".join(f"data {name}: {count} items" for name, count in planned["data"].items()))
    for name in unlabelled(sources):
        print(f"note: people that {name} does not label count as background; give --teacher LABELS", file=sys.stderr)


def _model_of(task: str, model: str, known: Sequence[str]) -> str:
    """The name of a model that learns this task. InputError: it learns another."""
    if model not in known:
        raise InputError(f"--model {model}: does not learn the task {task}; give {' or '.join(known)}")
    return model


def main(
    task: Annotated[Literal["pose", "action", "recognize"], "what to learn"],
    *,
    out: Annotated[str | None, "run folder; the same command on it resumes the run (default: runs/TASK)"] = None,
    init: Annotated[str | None, "weights to start from: a converted MoveNet, or the model's own"] = None,
    data: Paths,
    actions: ActionOptions,
    held_out_data: HeldOutPaths = NOTHING_HELD_OUT,
    teacher: Teacher = None,
    mix: Annotated[list[str] | None, "weights of the data sets in the batches, as in jhmdb=0.4 coco=0.25"] = None,
    recipe: Annotated[Literal["mobile", "paper"], "sets the defaults of the options below"] = "mobile",
    model: Annotated[
        Literal[
            "dimofs_mobile",
            "dimofs_resnet50",
            "dimofs_resnet101",
            "action_mobile",
            "action_resnet101",
            "recognize_mobile",
        ]
        | None,
        "the network",
    ] = None,
    variant: Annotated[str | None, f"motion parts: {', '.join(VARIANTS)} (see dimofs.zoo.presets)"] = None,
    steps: Annotated[int | None, "optimizer steps", Range(1)] = None,
    batch: Annotated[int | None, "pairs in a batch, over all processes", Range(1, 65536)] = None,
    accumulate: Annotated[int | None, "batches per step; their gradients are averaged", Range(1, 65536)] = None,
    canvas: Annotated[int | None, "side of the square training images, pixels", Range(64, 4096)] = None,
    optimizer: Annotated[Literal["adamw", "sgd"] | None, "AdamW, or SGD with momentum"] = None,
    rate: Annotated[float | None, "highest learning rate", Range(0, 1000)] = None,
    warmup: Annotated[int | None, "steps during which the learning rate rises to its highest", Range(0)] = None,
    single: Annotated[float | None, "share of the batches with Frame B = Frame A", Range(0, 1)] = None,
    apart: Annotated[float | None, "share of pairs torn apart: A and B of different scenes", Range(0, 1)] = None,
    constrain: Annotated[list[str] | None, "losses of the motion parts, as in follow=1 apart=1"] = None,
    paste: Annotated[float | None, "share of the samples with one more person pasted in front", Range(0, 1)] = None,
    largest: Annotated[float | None, "longer side of the largest people, in canvases", Range(0.15, 4)] = None,
    unfreeze: Annotated[int | None, "step from which the frozen backbone trains too, more slowly", Range(0)] = None,
    fixed: Annotated[list[str] | None, "beginnings of the names of parameters that never train"] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16", "auto"] | None,
        "number format of the forward pass; auto: bfloat16 where the CPU is faster with it",
    ] = None,
    recompute: Annotated[bool | None, "save memory: recompute activations in the backward pass"] = None,
    seed: Annotated[int, "seed of all random numbers", Range(0, 2**63 - 1)] = 0,
    compile: Annotated[bool, "compile the backbone: slow to start, then faster"] = False,
    device: Annotated[str | None, "cpu, cuda, ... (default: a GPU if there is one)"] = None,
    save_every: Annotated[int, "steps between checkpoints", Range(1)] = 500,
    validate: Annotated[int, "steps between validations; 0 for none", Range(0)] = 0,
    held_out: Annotated[
        int | None, "pairs to validate on (default: 128, but four of each image at most)", Range(1, 100_000)
    ] = None,
    benchmark: Annotated[int | None, "only measure the speed of loader and model, over N steps", Range(1)] = None,
    workers: Annotated[int, "processes that load data", Range(0, 256)] = 1,
    quiet: Annotated[bool, "print neither the recipe nor a progress bar"] = False,
) -> None:
    check_choices(variant=(variant, VARIANTS))
    common = {
        "steps": steps, "batch": batch, "accumulate": accumulate, "optimizer": optimizer, "learning_rate": rate,
        "warmup": warmup, "dtype": dtype, "recompute": recompute, "seed": seed,
    }  # fmt: skip
    if task != "pose":
        check_unused(
            task, teacher=teacher, mix=mix, recipe=recipe != "mobile", canvas=canvas, single=single, paste=paste,
            largest=largest, unfreeze=unfreeze, fixed=fixed, recompute=recompute, apart=apart, constrain=constrain,
            **{name: value for name, value in vars(data).items() if name not in ("jhmdb", "jhmdb_labels", "every")},
            **vars(held_out_data),
        )  # fmt: skip
        init = init or "dimofs_mobile_v2"
        if variant is not None and variant_of(init) not in (variant, None):
            raise InputError(f"--variant {variant}: {init} has motion parts of {variant_of(init)}; leave it out")
        known, start = (MODELS, ACTIONS) if task == "action" else (RECOGNIZERS, RECOGNITION)
        preset = _model_of(task, model or known[0], known)
        if task == "action":
            check_unused(task, pose_clusters=actions.pose_clusters)
            learned: Task = actions.task(
                data, preset=preset, weights=init, variant=variant, validate=validate > 0, device=device
            )
        else:
            check_unused(task, boxes=actions.boxes, streams=actions.streams)
            learned = recognition_task(
                actions, data, preset=preset, weights=init, variant=variant or variant_of(init),
                validate=validate > 0, device=device, seed=seed, every=data.every,
            )  # fmt: skip
        chosen, sources = start.changed(**common), {}
    else:
        check_unused(task, **dict.fromkeys(actions.given, True))
        for option, value in (("--unfreeze", unfreeze), ("--fixed", fixed)):
            if value is not None and not init:
                raise InputError(f"{option} needs --init beside it: without weights to start from nothing is frozen")
        paths = data.or_synthetic(SYNTHETIC_CLIPS)
        # Only what is trained on gets the teacher's labels: validation measures against those of the data set.
        sources, held = held_out_data.split(paths, paths.sources())
        sources = taught(sources, teacher)
        chosen = RECIPES[recipe].changed(
            **common, unfreeze=unfreeze, fixed=None if fixed is None else tuple(fixed), frozen=None if init else ()
        )
        poses = POSE_RECIPES[recipe]
        poses = poses.changed(
            preset=model and _model_of(task, model, POSE_MODELS), canvas=canvas, single=single,
            variant=variant or variant_of(init),
            paste=paste, largest=largest, mix=mixed(poses.mix, mix or (), list(sources)), apart=apart,
            constraints=constrained(constrain),
        )  # fmt: skip
        if poses.single == 1 and (poses.apart or poses.constraints.names()):
            option = "--apart" if poses.apart else "--constrain"
            raise InputError(f"{option}: is about pairs of frames, and --single 1 has none; leave one of the two out")
        learned = PoseTask(recipe=poses, sources=sources, held_out_sources=held, skeleton=skeleton_of(sources))
        if held:
            held_out = held_out or min(HELD_OUT, 4 * sum(map(len, held.values())))
    options = RunOptions(
        init=init, compile=compile, save_every=save_every, validate=validate, held_out=held_out or HELD_OUT,
        workers=workers, quiet=quiet,
    )  # fmt: skip
    # The activations of a step are freed at its end and allocated again by the next.
    keep_freed_memory(2**31 - 1)
    folder = out or f"runs/{task}"
    with join_processes(device) as process:
        chosen = chosen.changed(dtype=chosen_dtype(chosen.dtype, process, folder))
        if process.leads and not quiet:
            describe(plan(learned, chosen, init), sources)
        if benchmark is None:
            train(learned, chosen, folder, process, options)
            if isinstance(learned, RecognitionTask) and process.leads:
                learned.finish(folder, quiet=quiet)
            return
        speed = benchmark_run(learned, chosen, process, options, benchmark)
        if process.leads:
            print(speed)


if __name__ == "__main__":
    run(main)
