"""Recipes: everything that defines a training run except its task and data, including the learning-rate schedule."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the weights are optimized; `RECIPES` holds two. A step averages the gradients of `accumulate` batches.

    The learning rate rises linearly from `warmup_from * learning_rate` during the first `warmup` steps. Then it falls
    to zero along half a cosine ("cosine"), or to a tenth at each of the steps `drops` ("steps").

    steps:        optimizer steps.
    batch:        samples of a batch, over all processes.
    momentum:     of SGD.
    clip:         largest norm of the gradient; None does not clip.
    average:      decay of the moving average of the weights, which is what a run exports.
    frozen:       name prefixes of the parameters that do not train.
    unfreeze:     the step from which frozen parameters train too, at a lower learning rate (`trainer.unfrozen_scale`).
    fixed:        name prefixes of the parameters that never train, also after `unfreeze`.
    dtype:        of the forward pass, by autocast.
    recompute:    recompute the backbone's activations in the backward pass instead of keeping them.
    """

    steps: int = 10_000
    batch: int = 8
    accumulate: int = 1
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: Literal["cosine", "steps"] = "cosine"
    drops: tuple[int, ...] = ()
    warmup: int = 200
    warmup_from: float = 0.005
    clip: float | None = 10.0
    average: float = 0.999
    frozen: tuple[str, ...] = ("backbone.body", "backbone.top_down", "backbone.hints")
    unfreeze: int | None = None
    fixed: tuple[str, ...] = ()
    dtype: str = "float32"
    recompute: bool = False
    seed: int = 0

    def changed(self, **fields: Any) -> Recipe:
        """The recipe with other values of some fields; those that are None stay."""
        return replace(self, **{name: value for name, value in fields.items() if value is not None})

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        if step < self.warmup:
            return self.learning_rate * (self.warmup_from + (1 - self.warmup_from) * step / self.warmup)
        if self.schedule == "steps":
            return self.learning_rate * 0.1 ** bisect_right(self.drops, step)
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


RECIPES = {
    "mobile": Recipe(),
    # Detect-and-Track (Girdhar et al., CVPR 2018): one image a GPU on eight GPUs, from weights trained on COCO.
    "paper": Recipe(
        steps=13_000,
        batch=8,
        optimizer="sgd",
        learning_rate=1e-3,
        schedule="steps",
        drops=(10_000, 12_000),
        warmup=500,
        warmup_from=1 / 3,
        clip=None,
        frozen=("backbone.body.conv1", "backbone.body.layer1"),
        recompute=True,
    ),
}
