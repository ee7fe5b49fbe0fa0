"""The batches of a run: what each step reads depends on the recipe's seed and the step alone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader, Dataset

from dimofs.cli import InputError
from dimofs.zoo.training.distributed import Process
from dimofs.zoo.training.recipes import Recipe
from dimofs.zoo.training.tasks import Batch, Samples, Task
from dimofs.zoo.training.trainer import ALONE


def loader(task: Task, recipe: Recipe, *, start: int, workers: int, process: Process = ALONE) -> Iterator[list[Batch]]:
    """For each step from `start` to the recipe's last: its batches, or this process's equal part of each of them.

    `workers` is the number of processes that load samples, 0 for none beside this one. InputError: a file of the data
    sets is absent or damaged.
    """
    samples = task.samples(recipe.steps * recipe.accumulate * recipe.batch, recipe.seed)
    share = recipe.batch // process.world
    first = process.rank * share
    numbers = [range(n, n + share) for n in range(first, len(samples), recipe.batch)][start * recipe.accumulate :]
    loaded = iter(
        DataLoader(
            _ErrorsAsSamples(samples),
            batch_sampler=numbers,  # type: ignore[arg-type]
            num_workers=workers,
            collate_fn=partial(_collate, task),
            pin_memory=process.device.type == "cuda",
            worker_init_fn=_leave_group,
        )
    )
    while batches := [_checked(batch) for batch in islice(loaded, recipe.accumulate)]:
        yield batches


class _ErrorsAsSamples(Dataset):
    """The samples, or the InputError that a sample raised: a loader's worker would turn it into a traceback."""

    def __init__(self, samples: Samples):
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, number: int) -> Any:
        try:
            return self.samples[number]
        except InputError as error:
            return error


def _leave_group(_worker: int) -> None:
    """Leave it to the training process to stop its workers: Ctrl-C in a terminal reaches its whole process group."""
    os.setsid()


def _collate(task: Task, samples: Sequence[Any]) -> Batch | InputError:
    errors = [sample for sample in samples if isinstance(sample, InputError)]
    return errors[0] if errors else task.collate(samples)


def _checked(batch: Batch | InputError) -> Batch:
    if isinstance(batch, InputError):
        raise batch
    return batch
