"""Validation: the figures of a model on samples that it does not train on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from dimofs.zoo.training.tasks import Randomness, Task
from dimofs.zoo.training.terms import Term, means

T = TypeVar("T")


class Validation:
    """`count` held-out samples of a task in batches of `batch`, read once and the same each time."""

    def __init__(self, task: Task, *, count: int, batch: int):
        self.task, self.batch = task, batch
        samples = task.held_out(count)
        parts = [range(n, min(n + batch, count)) for n in range(0, count, batch)]
        self.batches = [
            task.collate([samples[number] for number in part]) for part in _progress(parts, "held-out samples")
        ]

    @torch.inference_mode()
    def __call__(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """The figures of `model` by name."""
        sums: dict[str, Term] = {}
        for number, batch in enumerate(_progress(self.batches, "validation")):
            found = self.task.figures(model, batch.to(device), self._randomness(number, len(batch)))
            for name, term in found.items():
                before = sums.get(name, Term(torch.zeros(()), 0))
                sums[name] = Term(before.total + term.total.cpu(), before.count + term.count)
        return {name: mean.item() for name, mean in means(sums).items()}

    def _randomness(self, number: int, count: int) -> Randomness:
        seeds = range(number * self.batch, number * self.batch + count)
        return Randomness(np.random.default_rng(number), [torch.Generator().manual_seed(seed) for seed in seeds])


def _progress(batches: Sequence[T], text: str) -> Iterable[T]:
    bar: Any = tqdm(batches, text, unit="batch", leave=False, disable=None)
    return bar
