"""A training run from its first step, or from its last checkpoint, to its end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from signal import SIGTERM
from typing import Any

import torch
from tqdm import tqdm

from dimofs.cli import InputError
from dimofs.interrupts import Stopped, stop_requests
from dimofs.zoo.devices import dtype_named
from dimofs.zoo.training import distributed
from dimofs.zoo.training.batches import loader
from dimofs.zoo.training.distributed import Process
from dimofs.zoo.training.recipes import Recipe
from dimofs.zoo.training.run_folder import RunFolder, recorded_dtype
from dimofs.zoo.training.tasks import Batch, Task
from dimofs.zoo.training.throughput import Throughput, measure_throughput, steps_read
from dimofs.zoo.training.trainer import Trainer
from dimofs.zoo.training.validation import Validation


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Settings that do not affect what is learned, except for `init`.

    init:       the weights to start from; None starts from random weights.
    compile:    compile the backbone.
    save_every: steps between checkpoints.
    validate:   steps between validations, 0 for none.
    held_out:   number of samples to validate on.
    workers:    number of processes that load data.
    quiet:      show no progress bar.
    """

    init: str | None = None
    compile: bool = False
    save_every: int = 500
    validate: int = 0
    held_out: int = 128
    workers: int = 1
    quiet: bool = False


def plan(task: Task, recipe: Recipe, init: str | None) -> dict[str, Any]:
    """Everything that defines a run, as JSON: a run resumes only if its plan is the same, except for the steps."""
    return {"task": task.name, "init": init, **asdict(recipe), **task.plan()}


def train(task: Task, recipe: Recipe, out: str, process: Process, options: RunOptions) -> None:
    """Start the run in the folder `out`, or resume it.

    InputError: the folder holds another run, it cannot be written, or a loss is not finite.
    """
    check_batch(recipe, process)
    folder = RunFolder(out)
    if process.leads and folder.path.is_dir():
        folder.lock()
    try:
        planned = plan(task, recipe, options.init)
        state = folder.state(planned)
        trainer = prepare(task, recipe, process, options, fresh=state is None)
        if state is not None:
            trainer.restore(state)
        check_same_step(trainer.step, process)
        validation = None
        if options.validate and process.leads:
            validation = Validation(task, count=options.held_out, batch=recipe.batch)
        if process.leads:
            folder.begin(planned, trainer.step)
        batches = loader(task, recipe, start=trainer.step, workers=options.workers, process=process)
        fit(trainer, batches, folder, options, validation)
    finally:
        folder.close()


def chosen_dtype(name: str, process: Process, out: str) -> str:
    """The number format of a run. "auto" is that of the run in the folder `out`, if there is one, and else bfloat16
    where the CPUs of all processes are faster with it."""
    if name != "auto":
        return name
    there = recorded_dtype(out)
    slow = there is None and dtype_named(name, process.device) != torch.bfloat16
    if distributed.any_of(slow, process.device):
        return "float32"
    return there or "bfloat16"


def fit(
    trainer: Trainer,
    batches: Iterator[list[Batch]],
    folder: RunFolder,
    options: RunOptions,
    validation: Validation | None = None,
) -> None:
    """Train to the recipe's last step. The leading process logs every step to `folder`, validates and saves there.

    Stopped: a signal asked any of the processes to stop. The step is finished and saved.
    """
    steps, leads = trainer.recipe.steps, trainer.process.leads
    silent = options.quiet or not leads
    if leads and trainer.step == steps:
        # A finished run: write its model again, in case it was damaged or deleted since.
        folder.save(trainer)
    with stop_requests() as stop, tqdm(total=steps, initial=trainer.step, unit="step", disable=silent) as bar:
        while trainer.step < steps:
            rate = trainer.recipe.rate(trainer.step)
            losses = trainer.update(next(batches))
            bar.set_postfix({name: f"{value:.3f}" for name, value in losses.items()}, refresh=False)
            bar.update()
            stopping = distributed.any_of(bool(stop), trainer.process.device)
            last = trainer.step == steps
            if leads:
                folder.log(trainer.step, {"rate": rate, **losses})
                if validation is not None and (last or trainer.step % options.validate == 0):
                    with trainer.averaged():
                        figures = validation(trainer.model, trainer.process.device)
                    folder.validated(trainer, figures)
                if last or stopping or trainer.step % options.save_every == 0:
                    folder.save(trainer)
            if stopping and not last:
                raise Stopped(stop.signal or SIGTERM)


def benchmark_run(task: Task, recipe: Recipe, process: Process, options: RunOptions, steps: int) -> Throughput:
    """The speed of training over `steps` steps. The learning rate is 0, so that any initial weights will do."""
    check_batch(recipe, process)
    recipe = replace(recipe, steps=max(recipe.steps, steps_read(steps)), learning_rate=0.0)
    batches = loader(task, recipe, start=0, workers=options.workers, process=process)
    return measure_throughput(prepare(task, recipe, process, options), batches, steps)


def prepare(task: Task, recipe: Recipe, process: Process, options: RunOptions, *, fresh: bool = True) -> Trainer:
    """The trainer at its first step. If not `fresh`, its weights are about to be overwritten."""
    torch.manual_seed(recipe.seed)
    model = task.build()
    if options.init and fresh:
        task.start(model, options.init)
    if options.compile:
        task.backbone(model).compile()
    return Trainer(task, model, recipe, process)


def check_batch(recipe: Recipe, process: Process) -> None:
    """InputError: the processes cannot share a batch equally."""
    if recipe.batch % process.world:
        raise InputError(f"--batch {recipe.batch}: must be a multiple of the {process.world} processes")


def check_same_step(step: int, process: Process) -> None:
    """InputError: the processes have read different checkpoints."""
    sum_of_steps = distributed.total(torch.tensor(step, device=process.device)).item()
    if sum_of_steps != step * process.world:
        raise InputError("--out: the processes see different checkpoints there; give a folder that all of them share")
