"""`Trainer`: a model, its averaged weights and its optimizer at one step of a recipe.

Everything random in a step is a function of the recipe's seed, the step and a sample's place in the batch: a step does
the same after a resume, and for any number of processes that share its batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dimofs.cli import InputError
from dimofs.zoo import checkpoints
from dimofs.zoo.backbones.inverted_residual import InvertedResidual
from dimofs.zoo.backbones.resnet import BasicBlock, Bottleneck
from dimofs.zoo.training import distributed
from dimofs.zoo.training.distributed import Process
from dimofs.zoo.training.recipes import Recipe
from dimofs.zoo.training.state_file import difference
from dimofs.zoo.training.tasks import Batch, Randomness, Task

# Largest learning-rate multiplier of parameters that are frozen first and unfrozen later.
UNFROZEN_LR_SCALE = 0.1
# Parameters whose root mean square is lower than this when training starts are unfrozen with a smaller multiplier.
USUAL_RMS = 0.05
ALONE = Process(0, 1, torch.device("cpu"))


class Trainer:
    """`update` makes a step; `state` and `restore` make training resumable; `export` writes what has been learned.

    InputError: a prefix in the recipe's `fixed` fits no parameter, or they leave none to train.
    """

    def __init__(self, task: Task, model: nn.Module, recipe: Recipe, process: Process = ALONE):
        self.task, self.recipe, self.process, self.step = task, recipe, process, 0
        self.dtype = getattr(torch, recipe.dtype)
        self.model = model.to(process.device).train()
        if recipe.recompute:
            recompute_blocks(task.backbone(model))
        check_prefixes(model, recipe.fixed)
        named = [(name, p) for name, p in model.named_parameters() if not name.startswith(recipe.fixed)]
        main = [p for name, p in named if not name.startswith(recipe.frozen)]
        self.frozen = [p for name, p in named if name.startswith(recipe.frozen)]
        if not main and not (self.frozen and recipe.unfreeze == 0):
            raise InputError(f"--fixed {' '.join(recipe.fixed)}: leaves nothing to train; give fewer prefixes")
        model.requires_grad_(False)
        for parameter in main:
            parameter.requires_grad_(True)
        unfrozen_later = self.frozen if recipe.unfreeze is not None else []
        self.trained = [*main, *unfrozen_later]
        self.average = [p.detach().clone() for p in self.trained]
        self.optimizer = _optimizer(recipe, main, unfrozen_later)
        self.scaler = torch.amp.GradScaler(process.device.type, enabled=self.dtype == torch.float16)

    def update(self, batches: Sequence[Batch]) -> dict[str, float]:
        """One step on as many batches as the recipe accumulates, or this process's part of each; returns the losses.

        InputError, naming the samples: a loss is not finite.
        """
        recipe = self.recipe
        unfrozen = recipe.unfreeze is not None and self.step >= recipe.unfreeze
        for parameter in self.frozen:
            parameter.requires_grad_(unfrozen)
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
        self._update_average()
        return {name: sum(part[name] for part in parts) / len(parts) for name in parts[0]}

    def _backward(self, number: int, batch: Batch) -> dict[str, float]:
        """Add the gradients of batch `number` of this step; returns the losses over all processes."""
        device = self.process.device
        with torch.autocast(device.type, self.dtype, enabled=self.dtype != torch.float32):
            terms = self.task.losses(self.model, batch.to(device), self._randomness(number, len(batch)))
        own = torch.stack([term.total for term in terms.values()])
        counts = torch.tensor([term.count for term in terms.values()], device=device)
        losses = own / distributed.total(counts).clamp(min=1)
        whole = distributed.total(losses.detach())
        if not torch.isfinite(whole).all():
            guilty = distributed.gathered([] if torch.isfinite(own).all() else batch.names)
            where = f"loss {whole.sum()} at step {self.step} on {', '.join(guilty)}"
            raise InputError(f"{where}; try a lower --rate, or look at these samples")
        loss = losses.sum() / self.recipe.accumulate
        # If only the motion parts train, a batch of single frames has no gradient.
        if loss.requires_grad:
            self.scaler.scale(loss).backward()
        return dict(zip(terms, whole.tolist(), strict=True))

    def _randomness(self, number: int, count: int) -> Randomness:
        """The random numbers of batch `number` of this step, of which this process has `count` samples."""
        seed = self.recipe.seed
        first = number * self.recipe.batch + self.process.rank * count
        seeds = [np.random.SeedSequence((seed, self.step, first + i, 1)) for i in range(count)]
        generators = [torch.Generator().manual_seed(int(each.generate_state(1)[0])) for each in seeds]
        return Randomness(np.random.default_rng((seed, self.step, number)), generators)

    @torch.no_grad()
    def _update_average(self) -> None:
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

    def restore(self, state: Mapping[str, Any]) -> None:
        """Resume from what `state` gave, on any device. InputError: it is the state of another model or optimizer."""
        fault = difference(self._expected(state), state)
        if fault:
            raise InputError(
                f"state.pt: {fault} is not as in this run; give another --out, or delete it to start again"
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        with torch.no_grad():
            for mean, value in zip(self.average, state["average"], strict=True):
                mean.copy_(value)
        self.step = state["step"]

    def _expected(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """A state of this trainer whose structure `state` must have.

        The optimizer has entries only for parameters that have had a gradient, so it is those that `state` has.
        """
        expected = self.state()
        optimizer = state.get("optimizer")
        found = optimizer.get("state") if isinstance(optimizer, dict) else None
        entries = {number: _optimizer_entry(self.recipe, p) for number, p in enumerate(self.trained)}
        present = found if isinstance(found, dict) else {}
        expected["optimizer"]["state"] = {number: entry for number, entry in entries.items() if number in present}
        return expected

    def export(self, folder: Path, metadata: dict[str, str] | None = None) -> None:
        """Write the averaged weights as a checkpoint."""
        with self.averaged():
            checkpoints.save(self.model, folder, {"step": str(self.step), **(metadata or {})})

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """A block in which the model has its averaged weights and is in evaluation mode."""
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


def _optimizer(recipe: Recipe, main: list[nn.Parameter], unfrozen_later: list[nn.Parameter]) -> torch.optim.Optimizer:
    groups: list[dict[str, Any]] = [{"params": main, "scale": 1.0}]
    groups.extend({"params": [parameter], "scale": unfrozen_scale(parameter)} for parameter in unfrozen_later)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, recipe.learning_rate, recipe.momentum, weight_decay=recipe.weight_decay)
    return torch.optim.AdamW(groups, recipe.learning_rate, weight_decay=recipe.weight_decay)


def unfrozen_scale(parameter: Tensor) -> float:
    """The learning-rate multiplier of a parameter that is unfrozen later: lower if its weights are small.

    Adam moves every weight by about the learning rate in each step, whether the weight is large or small. Within a few
    steps this would overwrite what a tensor of small weights has learned. MoveNet's tensors differ much in size, so the
    rate of each is multiplied by rms / USUAL_RMS if its root mean square rms is below USUAL_RMS.
    """
    rms = float(parameter.detach().square().mean().sqrt())
    # A tensor of zeros holds nothing that could be overwritten, and a learning rate of 0 would never change it.
    return UNFROZEN_LR_SCALE * min(1.0, rms / USUAL_RMS) if rms > 0 else UNFROZEN_LR_SCALE


def trained(task: Task, recipe: Recipe, seed: int) -> nn.Module:
    """The model of a task after the recipe's steps, with its averaged weights; in this process, nothing is written."""
    torch.manual_seed(seed)
    model = task.build()
    task.start(model, "")
    trainer = Trainer(task, model, replace(recipe, seed=seed))
    samples = task.samples(recipe.steps * recipe.batch, seed)
    for step in range(recipe.steps):
        trainer.update([task.collate([samples[step * recipe.batch + place] for place in range(recipe.batch)])])
    with trainer.averaged():
        return deepcopy(model).eval()


def check_prefixes(model: nn.Module, fixed: Sequence[str]) -> None:
    """InputError: one of the prefixes fits no parameter of `model`."""
    names = [name for name, _ in model.named_parameters()]
    for prefix in fixed:
        if not any(name.startswith(prefix) for name in names):
            known = ", ".join(name for name, _ in model.named_children())
            raise InputError(f"--fixed {prefix}: no parameter's name begins with this; the model's parts are {known}")


def _optimizer_entry(recipe: Recipe, parameter: Tensor) -> dict[str, Tensor]:
    """What the optimizer keeps for a parameter."""
    if recipe.optimizer == "sgd":
        return {"momentum_buffer": parameter}
    return {"step": torch.zeros(()), "exp_avg": parameter, "exp_avg_sq": parameter}


def recompute_blocks(backbone: nn.Module) -> None:
    """Let each residual block keep only its input; the backward pass recomputes the block's activations."""
    for block in backbone.modules():
        if isinstance(block, (BasicBlock, Bottleneck, InvertedResidual)):
            block.forward = _recomputed(block.forward)


def _recomputed(forward):
    def kept_input(x: Tensor) -> Tensor:
        return checkpoint(forward, x, use_reentrant=False, preserve_rng_state=False)  # type: ignore[return-value]

    return kept_input
