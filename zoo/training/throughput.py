"""The speed of training, and whether the loader or the model limits it.

`measure_throughput` runs each of them alone and both together for a few steps; nothing is written.
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

from dimofs.zoo.training.tasks import Batch
from dimofs.zoo.training.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """Samples are those of all processes together.

    loader, model, both: samples per second of the loader alone, of the model alone and of both together.
    step:                seconds per step of the model alone.
    operations:          floating-point operations per sample, forward and backward (convolutions, matrix products).
    memory:              peak memory in bytes, of the GPU if there is one.
    """

    loader: float
    model: float
    both: float
    step: float
    operations: float
    memory: int

    def __str__(self) -> str:
        return (
            f"loader alone  {self.loader:8.2f} samples/s\n"
            f"model alone   {self.model:8.2f} samples/s, {self.step:.3f} s per step\n"
            f"both          {self.both:8.2f} samples/s\n"
            f"{self.operations / 1e9:.1f} GFLOP per sample, forward and backward; memory {self.memory / 2**30:.2f} GiB"
        )


def steps_read(steps: int) -> int:
    """The number of steps whose batches `measure_throughput` reads."""
    return 2 * steps + 1


def measure_throughput(trainer: Trainer, batches: Iterator[list[Batch]], steps: int) -> Throughput:
    """Measure `steps` steps of each kind; `batches` yields `steps_read(steps)` times. Each step updates the model."""
    # Reading the first batches starts the loader's processes.
    first = next(batches)
    loading = _seconds("loader", trainer, lambda: next(batches), steps)
    with FlopCounterMode(display=False) as counter:
        trainer.update(first)
    # Warm up, so that compiling is not part of the measured time.
    for _ in range(2):
        trainer.update(first)
    computing = _seconds("model", trainer, lambda: trainer.update(first), steps)
    together = _seconds("both", trainer, lambda: trainer.update(next(batches)), steps)
    samples = trainer.recipe.batch * trainer.recipe.accumulate
    return Throughput(
        loader=samples * steps / loading,
        model=samples * steps / computing,
        both=samples * steps / together,
        step=computing / steps,
        operations=counter.get_total_flops() * trainer.process.world / samples,
        memory=_peak_memory(trainer.process.device),
    )


def _seconds(what: str, trainer: Trainer, work: Callable[[], object], times: int) -> float:
    began = time.perf_counter()
    for _ in tqdm(range(times), what, unit="step", disable=None):
        work()
    if trainer.process.device.type == "cuda":
        torch.cuda.synchronize(trainer.process.device)
    return time.perf_counter() - began


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
