"""How fast training goes, and what holds it up: the loader, or the model.

`measure` runs each alone and both together over a few steps; nothing is written.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from dimofs.zoo.training.trainer import Batch, Trainer


@dataclass(frozen=True)
class Throughput:
    """Pairs a second over all processes, seconds a step, floating-point operations of a pair forward and backward
    (convolutions and matrix products), and bytes of memory at the highest (of the GPU, if there is one)."""

    loader: float
    model: float
    both: float
    step: float
    operations: float
    memory: int

    def __str__(self) -> str:
        return (
            f"loader alone  {self.loader:8.2f} pairs/s\n"
            f"model alone   {self.model:8.2f} pairs/s, {self.step:.3f} s a step\n"
            f"both          {self.both:8.2f} pairs/s\n"
            f"{self.operations / 1e9:.1f} GFLOP a pair, forward and backward; memory {self.memory / 2**30:.2f} GiB"
        )


def needed(steps: int) -> int:
    """The steps whose batches `measure` reads over `steps`."""
    return 2 * steps + 1


def measure(trainer: Trainer, batches: Iterator[list[Batch]], steps: int) -> Throughput:
    """Over `steps` steps each; `batches` gives those of `needed(steps)`. Each step updates the model."""
    recipe = trainer.recipe
    first = next(batches)  # starts the loader's processes
    loading = _seconds("loader", trainer, lambda: next(batches), steps)
    with FlopCounterMode(display=False) as counter:
        trainer.update(first)
    for _ in range(2):  # both kinds of batches have been met, and compiled
        trainer.update(first)
    computing = _seconds("model", trainer, lambda: trainer.update(first), steps)
    together = _seconds("both", trainer, lambda: trainer.update(next(batches)), steps)
    pairs = recipe.batch * recipe.accumulate  # a step
    return Throughput(
        loader=pairs * steps / loading,
        model=pairs * steps / computing,
        both=pairs * steps / together,
        step=computing / steps,
        operations=counter.get_total_flops() * trainer.process.world / pairs,
        memory=_memory(trainer.process.device),
    )


def _seconds(what: str, trainer: Trainer, work: Callable[[], object], times: int) -> float:
    began = time.perf_counter()
    for _ in tqdm(range(times), what, unit="step", disable=None):
        work()
    if trainer.process.device.type == "cuda":
        torch.cuda.synchronize(trainer.process.device)
    return time.perf_counter() - began


def _memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
