"""Classifiers of whole clips, trained by the same loop as everything else; what TSN, TRN, C3D and R(2+1)D share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dimofs.zoo.detection.action_head import Standardize
from dimofs.zoo.training.recipes import Recipe
from dimofs.zoo.training.tasks import Randomness
from dimofs.zoo.training.terms import Term

SMOOTHING = 0.1
# Of what is trained on frozen features, and of 3-d networks from random weights, of which a step takes half the time in
# bfloat16.
ON_FEATURES = Recipe(
    steps=600, batch=64, learning_rate=1e-3, weight_decay=0.02, warmup=30, average=0.99, frozen=(), clip=1.0
)
FROM_SCRATCH = ON_FEATURES.changed(steps=600, batch=16, weight_decay=0.05, dtype="bfloat16")
# Clips that are classified at a time.
BATCH = 16


@dataclass(frozen=True)
class ClipBatch:
    """Inputs of a batch of clips, stacked, and their classes [N]."""

    names: Sequence[str]
    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> ClipBatch:
        return ClipBatch(self.names, self.inputs.to(device), self.labels.to(device))


@dataclass(frozen=True)
class DrawnClips:
    """The samples of a run: clips in random order, all of them before any comes again."""

    inputs: Tensor
    labels: Tensor
    order: Tensor

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, number: int) -> ClipBatch:
        place = int(self.order[number])
        return ClipBatch([f"clip {place}"], self.inputs[place : place + 1], self.labels[place : place + 1])


@dataclass(frozen=True, kw_only=True)
class ClipTask:
    """Learn the classes of clips.

    inputs: [N, ...] of all training clips; uint8 is pixels, which become 0 to 1. labels: [N]. make: the model.
    """

    inputs: Tensor
    labels: Tensor
    make: Callable[[], nn.Module]
    name: str = "clips"

    def plan(self) -> dict[str, Any]:
        return {"clips": len(self.labels)}

    def build(self) -> nn.Module:
        return self.make()

    def start(self, model: nn.Module, weights: str) -> None:
        """Fit the means and spreads of the model's inputs."""
        standardize = getattr(model, "standardize", None)
        if isinstance(standardize, Standardize):
            standardize.fit(self.inputs.flatten(0, -2))

    def backbone(self, model: nn.Module) -> nn.Module:
        return model

    def samples(self, count: int, seed: int) -> DrawnClips:
        random = torch.Generator().manual_seed(seed)
        rounds = -(-count // len(self.labels))
        order = torch.cat([torch.randperm(len(self.labels), generator=random) for _ in range(rounds)])
        return DrawnClips(self.inputs, self.labels, order[:count])

    def held_out(self, count: int) -> DrawnClips:
        raise NotImplementedError("there is no part to choose by: a run trains all its steps")

    def collate(self, samples: Sequence[ClipBatch]) -> ClipBatch:
        return ClipBatch(
            [name for sample in samples for name in sample.names],
            torch.cat([sample.inputs for sample in samples]),
            torch.cat([sample.labels for sample in samples]),
        )

    def losses(self, model: nn.Module, batch: ClipBatch, random: Randomness) -> dict[str, Term]:
        logits = model(as_floats(batch.inputs))
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=SMOOTHING, reduction="sum")
        return {"class": Term(loss, len(batch))}

    def figures(self, model: nn.Module, batch: ClipBatch, random: Randomness) -> dict[str, Term]:
        right = model(as_floats(batch.inputs)).argmax(1) == batch.labels
        return {"accuracy": Term(right.sum(), len(batch))}

    def score(self, figures: dict[str, float]) -> float:
        return figures["accuracy"]


def as_floats(inputs: Tensor) -> Tensor:
    """Pixels of 0 to 255 as 0 to 1; other numbers as float32."""
    return inputs.float() / 255 if inputs.dtype == torch.uint8 else inputs.float()


@torch.inference_mode()
def log_probabilities(model: nn.Module, inputs: Tensor) -> Tensor:
    """[N, classes] of clips [N, ...]."""
    return torch.cat([model(as_floats(part)).log_softmax(1) for part in inputs.split(BATCH)])
