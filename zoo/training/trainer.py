"""`Trainer`: a model, its averaged weights and its optimizer at one step of a recipe.

Everything random in a step is a function of the recipe's seed, the step and a pair's place in the batch: a step does
the same after a resume, and however many processes share its batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dimofs.cli import InputError
from dimofs.datasets.people import People
from dimofs.zoo import checkpoints
from dimofs.zoo.backbones.mobilenet import InvertedResidual
from dimofs.zoo.backbones.resnet import BasicBlock, Bottleneck
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.losses import pose_losses
from dimofs.zoo.training import distributed
from dimofs.zoo.training.distributed import Process
from dimofs.zoo.training.recipes import Recipe

Batch = tuple[Tensor, Tensor, Sequence[People], Sequence[str]]  # frames A and B [N, 3, H, W] uint8, people of A, names
LATE_RATE = 0.1  # of what unfreezes, in units of the rate
ALONE = Process(0, 1, torch.device("cpu"))


class Trainer:
    """`update` makes a step; `state` and `restore` make it resumable, `export` writes what it has learned."""

    def __init__(self, model: PoseDetector, recipe: Recipe, process: Process = ALONE):
        self.recipe, self.process, self.step = recipe, process, 0
        self.dtype = getattr(torch, recipe.dtype)
        self.model = model.to(process.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        if recipe.recompute:
            recompute_blocks(model.backbone)
        named = list(model.named_parameters())
        main = [p for name, p in named if not name.startswith(recipe.frozen)]
        self.late = [p for name, p in named if name.startswith(recipe.frozen)]
        for parameter in self.late:
            parameter.requires_grad_(False)
        later = self.late if recipe.unfreeze is not None else []
        self.trained = [*main, *later]
        self.average = [p.detach().clone() for p in self.trained]
        self.optimizer = _optimizer(recipe, main, later)
        self.scaler = torch.amp.GradScaler(process.device.type, enabled=self.dtype == torch.float16)

    def update(self, batches: Sequence[Batch]) -> dict[str, float]:
        """One step on as many batches as the recipe accumulates, or this process's part of each; returns the losses.

        InputError, naming the samples: a loss is not finite.
        """
        recipe = self.recipe
        thawed = recipe.unfreeze is not None and self.step >= recipe.unfreeze
        for parameter in self.late:
            parameter.requires_grad_(thawed)
        for group in self.optimizer.param_groups:
            group["lr"] = group["scale"] * recipe.rate(self.step)
        self.optimizer.zero_grad()
        parts = [self._backward(number, batch) for number, batch in enumerate(batches)]
        distributed.sum_gradients(self.trained)
        self.scaler.unscale_(self.optimizer)
        if recipe.clip is not None:
            nn.utils.clip_grad_norm_(self.trained, recipe.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.step += 1
        self._track_average()
        return {name: sum(part[name] for part in parts) / len(parts) for name in parts[0]}

    def _backward(self, number: int, batch: Batch) -> dict[str, float]:
        """Add the gradients of batch `number` of this step; returns the losses over all processes."""
        frames_a, frames_b, people, names = batch
        device, recipe = self.process.device, self.recipe
        single = np.random.default_rng((recipe.seed, self.step, number)).random() < recipe.single
        with torch.autocast(device.type, self.dtype, enabled=self.dtype != torch.float32):
            a, b = (frames.to(device, non_blocking=True) / 255 for frames in (frames_a, frames_b))
            people = [p.to(device) for p in people]
            terms = pose_losses(
                self.model, a, None if single else b, people, recipe.sampling, self._random(number, len(a))
            )
        own = torch.stack([term.total for term in terms.values()])
        counts = torch.tensor([term.count for term in terms.values()], device=device)
        losses = own / distributed.total(counts).clamp(min=1)
        whole = distributed.total(losses.detach())
        if not torch.isfinite(whole).all():
            guilty = distributed.gathered([] if torch.isfinite(own).all() else names)
            where = f"loss {whole.sum()} at step {self.step} on {', '.join(guilty)}"
            raise InputError(f"{where}; try a lower --rate, or look at these samples")
        self.scaler.scale(losses.sum() / recipe.accumulate).backward()
        return dict(zip(terms, whole.tolist(), strict=True))

    def _random(self, number: int, count: int) -> list[torch.Generator]:
        """A generator for each of this process's `count` pairs of batch `number`."""
        first = number * self.recipe.batch + self.process.rank * count
        seeds = [np.random.SeedSequence((self.recipe.seed, self.step, first + i, 1)) for i in range(count)]
        return [torch.Generator().manual_seed(int(seed.generate_state(1)[0])) for seed in seeds]

    @torch.no_grad()
    def _track_average(self) -> None:
        decay = min(self.recipe.average, (1 + self.step) / (10 + self.step))
        for mean, parameter in zip(self.average, self.trained, strict=True):
            mean.lerp_(parameter, 1 - decay)

    def state(self) -> dict:
        """Tensors and plain values only, so that it loads without pickle's code."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def restore(self, state: dict) -> None:
        """Go on from what `state` gave, on whatever device. KeyError, ValueError or RuntimeError: of another model."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        with torch.no_grad():
            for mean, value in zip(self.average, state["average"], strict=True):
                mean.copy_(value)
        self.step = state["step"]

    def export(self, folder: Path, metadata: dict[str, str] | None = None) -> None:
        """Write the averaged weights as a checkpoint."""
        with self.averaged():
            checkpoints.save(self.model, folder, {"step": str(self.step), **(metadata or {})})

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within, the model has its averaged weights and is in evaluation mode."""
        current = [p.detach().clone() for p in self.trained]
        self._assign(self.average)
        self.model.eval()
        try:
            yield
        finally:
            self._assign(current)
            self.model.train()

    @torch.no_grad()
    def _assign(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self.trained, values, strict=True):
            parameter.copy_(value)


def _optimizer(recipe: Recipe, main: list[nn.Parameter], late: list[nn.Parameter]) -> torch.optim.Optimizer:
    groups = [{"params": main, "scale": 1.0}, {"params": late, "scale": LATE_RATE}][: 2 if late else 1]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, recipe.learning_rate, recipe.momentum, weight_decay=recipe.weight_decay)
    return torch.optim.AdamW(groups, recipe.learning_rate, weight_decay=recipe.weight_decay)


def recompute_blocks(backbone: nn.Module) -> None:
    """Have each residual block keep its input alone; the backward pass computes its activations again."""
    for block in backbone.modules():
        if isinstance(block, (BasicBlock, Bottleneck, InvertedResidual)):
            block.forward = _recomputed(block.forward)


def _recomputed(forward):
    def kept_input(x: Tensor) -> Tensor:
        return checkpoint(forward, x, use_reentrant=False, preserve_rng_state=False)  # type: ignore[return-value]

    return kept_input
