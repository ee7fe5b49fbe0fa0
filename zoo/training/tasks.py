"""Tasks: what the training loop is handed, as other projects hand it a criterion.

A `Task` builds the model, gives the samples, computes the losses and measures the model. The loop (`run`, `Trainer`,
`loader`, `Validation`, `RunFolder`, `measure_throughput`) knows nothing else about what is being learned, so that a new
task is a new class here: one that learns actions from pairs of frames, or one that classifies stored features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from dimofs.zoo.training.terms import Term


class Batch(Protocol):
    """Samples of one batch, as a task collates them."""

    @property
    def names(self) -> Sequence[str]:
        """The name of each sample, for error messages."""
        ...

    def __len__(self) -> int:
        """The number of samples."""
        ...

    def to(self, device: torch.device) -> Any:
        """The same batch on `device`."""
        ...


class Samples(Protocol):
    """A map-style data set for PyTorch's DataLoader."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> Any:
        """Sample `number`, the same each time. InputError: its file is absent or damaged."""
        ...


@dataclass(frozen=True)
class Randomness:
    """The random numbers of one batch.

    shared:  draws the same in every process that shares the batch.
    samples: one generator for each sample of this process's part, the same for any number of processes.
    """

    shared: np.random.Generator
    samples: Sequence[torch.Generator]


class Task(Protocol):
    """What a training run learns. Models and batches are those that the task itself makes."""

    @property
    def name(self) -> str:
        """As on the command line."""
        ...

    def plan(self) -> dict[str, Any]:
        """Everything that defines the task and its data, as JSON: a run resumes only if it is the same."""
        ...

    def build(self) -> nn.Module:
        """The model with random weights, drawn from torch's global generator."""
        ...

    def start(self, model: Any, weights: str) -> None:
        """Give `model` the weights to start from. InputError: `weights` does not suit the model."""
        ...

    def backbone(self, model: Any) -> nn.Module:
        """The part of `model` that --compile compiles and that --recompute makes recompute its activations."""
        ...

    def samples(self, count: int, seed: int) -> Samples:
        """The `count` training samples of a whole run, in the order of training."""
        ...

    def held_out(self, count: int) -> Samples:
        """`count` samples to validate on, which are not among the training samples."""
        ...

    def collate(self, samples: Sequence[Any]) -> Batch:
        """The batch of some samples."""
        ...

    def losses(self, model: Any, batch: Any, random: Randomness) -> dict[str, Term]:
        """The training losses of a batch, by name; their sum is minimized. They are the same names for every batch."""
        ...

    def figures(self, model: Any, batch: Any, random: Randomness) -> dict[str, Term]:
        """What validation reports about a batch, by name."""
        ...

    def score(self, figures: dict[str, float]) -> float:
        """How good a model with these figures is, at least 0; the weights with the highest score are kept."""
        ...
