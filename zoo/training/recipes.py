"""Recipes: all that decides a training run but for its data, and how the learning rate goes; `RECIPES` has two."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from dimofs.zoo.detection.losses import Sampling


@dataclass(frozen=True)
class Recipe:
    """A step reads `batch` pairs `accumulate` times and averages the gradients.

    The rate climbs from `warmup_from` of its height in `warmup` steps; then it falls along half a cosine to zero, or to
    a tenth at each of `drops`.
    """

    preset: str = "dimofs_mobile"
    variant: str = "paper"  # of its motion parts, one of `dimofs.zoo.presets.VARIANTS`
    steps: int = 10_000
    batch: int = 8  # of all processes together
    accumulate: int = 1
    size: int = 320  # pixels of the square training canvas
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 1e-3
    momentum: float = 0.9  # of sgd
    weight_decay: float = 1e-4
    schedule: Literal["cosine", "steps"] = "cosine"
    drops: tuple[int, ...] = ()  # steps
    warmup: int = 200  # steps
    warmup_from: float = 0.005
    single: float = 0.5  # the part of batches whose Frame B is Frame A
    clip: float | None = 10.0  # largest norm of the gradient
    average: float = 0.999  # decay of the averaged weights
    frozen: tuple[str, ...] = ("backbone.body", "backbone.top_down", "backbone.hints")
    unfreeze: int | None = None  # the step from which the frozen train too, at a tenth of the rate
    mosaic: float = 0.3  # the part of samples that hold four pairs
    paste: float = 0.0  # the part of samples with one more person in front of another
    weights: tuple[tuple[str, float], ...] = (
        ("jhmdb", 0.4), ("lspet", 0.35), ("coco", 0.25), ("posetrack", 0.5), ("videos", 0.3), ("synthetic", 0.3),
    )  # fmt: skip
    dtype: str = "float32"  # of autocast
    recompute: bool = False  # the backbone's activations, instead of keeping them for the backward pass
    seed: int = 0
    sampling: Sampling = field(default_factory=lambda: Sampling(regions=64, keypoint_regions=8, positive_fraction=0.5))

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
    # [16]: Girdhar et al., Detect-and-Track, CVPR 2018; one image a GPU on eight of them, from weights trained on COCO
    "paper": Recipe(
        preset="dimofs_resnet101",
        steps=13_000,
        batch=8,
        size=800,
        optimizer="sgd",
        learning_rate=1e-3,
        schedule="steps",
        drops=(10_000, 12_000),
        warmup=500,
        warmup_from=1 / 3,
        single=0.0,
        clip=None,
        frozen=("backbone.body.conv1", "backbone.body.layer1"),
        mosaic=0.0,
        recompute=True,
        sampling=Sampling(regions=512),
    ),
}
