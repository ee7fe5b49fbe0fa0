"""Train a pose detector to find the people of Frame A in the features of Frame B.

    python -m dimofs.zoo.train pose --out runs/first --init MOVENET \\
        --jhmdb CLIPS --jhmdb-labels LABELS --coco people.json --coco-images DIR --lspet DIR --teacher LABELS.npz

Data sets given by path are mixed; each image or clip that a teacher has labelled (python -m dimofs.zoo.label) gains the
people and joints its own labels lack. The run folder holds metrics.jsonl, the resumable state and, in model/, the
averaged weights as a checkpoint for every other command. The same command on the same folder resumes.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from dimofs.cli import run
from dimofs.datasets.mixture import Mixture, collate
from dimofs.datasets.people import Source
from dimofs.files import replacing, write_json
from dimofs.zoo import checkpoints, initialize
from dimofs.zoo.detector import PoseDetector
from dimofs.zoo.losses import Sampling, pose_losses
from dimofs.zoo.presets import PRESETS
from dimofs.zoo.sources import Coco, CocoImages, JhmdbClips, JhmdbLabels, LspetFolder, Paths, taught


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run, but for the data."""

    preset: str = "dimofs_mobile"
    steps: int = 10_000
    batch: int = 8
    size: int = 320  # pixels of the square training canvas
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    warmup: int = 200  # steps
    single: float = 0.5  # the part of batches whose Frame B is Frame A
    clip: float = 10.0  # largest norm of the gradient
    average: float = 0.999  # decay of the averaged weights
    frozen: tuple[str, ...] = ("backbone.body", "backbone.top_down", "backbone.hints")
    mosaic: float = 0.3  # the part of samples that hold four pairs
    weights: tuple[tuple[str, float], ...] = (("jhmdb", 0.4), ("lspet", 0.35), ("coco", 0.25))
    dtype: str = "float32"  # of autocast
    seed: int = 0
    sampling: Sampling = field(default_factory=lambda: Sampling(regions=64, keypoint_regions=8, positive_fraction=0.5))

    def rate(self, step: int) -> float:
        """Learning rate: linear warm-up, then a half cosine to zero."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


class Trainer:
    """The model, its average and optimizer at one step of a recipe; `state` and `restore` make it resumable."""

    def __init__(self, model: PoseDetector, recipe: Recipe):
        self.recipe, self.step = recipe, 0
        self.dtype = getattr(torch, recipe.dtype)
        self.model = model.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not name.startswith(recipe.frozen))
        self.trained = [p for p in model.parameters() if p.requires_grad]
        self.average = [p.detach().clone() for p in self.trained]
        self.optimizer = torch.optim.AdamW(self.trained, weight_decay=recipe.weight_decay)
        self.generator = torch.Generator().manual_seed(recipe.seed)

    def update(self, batch) -> dict[str, float]:
        """One step on (frames A, frames B, people, names); returns the losses. Raises FloatingPointError, naming the
        samples, when a loss is not finite."""
        frames_a, frames_b, people, names = batch
        single = torch.rand((), generator=self.generator) < self.recipe.single
        with torch.autocast(frames_a.device.type, self.dtype, enabled=self.dtype != torch.float32):
            a, b = frames_a / 255, None if single else frames_b / 255
            losses = pose_losses(self.model, a, b, people, self.recipe.sampling, self.generator)
        total = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(total):
            raise FloatingPointError(f"loss {total} at step {self.step} on {', '.join(names)}")
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.step)
        self.optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(self.trained, self.recipe.clip)
        self.optimizer.step()
        self.step += 1
        self._track_average()
        return {name: loss.item() for name, loss in losses.items()}

    def _track_average(self) -> None:
        decay = min(self.recipe.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, parameter in zip(self.average, self.trained, strict=True):
                mean.lerp_(parameter, 1 - decay)

    def state(self) -> dict:
        """Tensors and plain values only, so that it loads without pickle's code."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
        }

    def restore(self, state: dict) -> None:
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.average = state["average"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])

    def export(self, folder: Path) -> None:
        """Write the averaged weights as a checkpoint."""
        current = [p.detach().clone() for p in self.trained]
        self._assign(self.average)
        checkpoints.save(self.model, folder, {"step": str(self.step)})
        self._assign(current)

    def _assign(self, values: list[Tensor]) -> None:
        with torch.no_grad():
            for parameter, value in zip(self.trained, values, strict=True):
                parameter.copy_(value)


def fit(trainer: Trainer, batches: Iterator, folder: Path, *, every: int, quiet: bool = False) -> None:
    """Train to the recipe's last step, saving to `folder` every `every` steps."""
    steps = trainer.recipe.steps
    bar = tqdm(total=steps, initial=trainer.step, unit="step", disable=quiet)
    began = time.monotonic()
    with open(folder / "metrics.jsonl", "a", encoding="utf-8") as metrics:
        while trainer.step < steps:
            losses = trainer.update(next(batches))
            bar.set_postfix({k: f"{v:.3f}" for k, v in losses.items()}, refresh=False)
            bar.update()
            record = {"step": trainer.step, "seconds": round(time.monotonic() - began, 1), **losses}
            metrics.write(json.dumps(record) + "\n")
            if trainer.step % every == 0 or trainer.step == steps:
                metrics.flush()
                _save_state(trainer, folder / "state.pt")
                trainer.export(folder / "model")


def _save_state(trainer: Trainer, path: Path) -> None:
    with replacing(path) as temporary:
        torch.save(trainer.state(), temporary)


def loader(sources: dict[str, Source], recipe: Recipe, *, start: int, workers: int) -> Iterator:
    """Batches from step `start` to the recipe's last; what step n reads depends on the seed and n alone."""
    weights = dict(recipe.weights)
    mixture = Mixture(
        [(source, weights[name]) for name, source in sources.items()],
        (recipe.size, recipe.size),
        recipe.steps * recipe.batch,
        seed=recipe.seed,
        mosaic=recipe.mosaic,
    )
    rest = Subset(mixture, range(start * recipe.batch, len(mixture)))
    return iter(DataLoader(rest, recipe.batch, num_workers=workers, collate_fn=collate))


def main(
    task: Annotated[Literal["pose"], "what to train"],
    *,
    out: Annotated[str, "run folder; a run that it holds goes on"],
    init: Annotated[str | None, "weights to start from: a converted MoveNet, or the model's own"] = None,
    jhmdb: JhmdbClips = None,
    jhmdb_labels: JhmdbLabels = None,
    coco: Coco = None,
    coco_images: CocoImages = None,
    lspet: LspetFolder = None,
    teacher: Annotated[str | None, "folder of labels written by python -m dimofs.zoo.label"] = None,
    every: Annotated[int, "JHMDB: one frame in so many is a Frame A, as labelled"] = 5,
    steps: Annotated[int, "optimizer steps"] = Recipe.steps,
    batch: Annotated[int, "pairs a step"] = Recipe.batch,
    size: Annotated[int, "pixels of the square training canvas"] = Recipe.size,
    rate: Annotated[float, "highest learning rate"] = Recipe.learning_rate,
    single: Annotated[float, "part of the batches with Frame B = Frame A"] = Recipe.single,
    dtype: Annotated[Literal["float32", "bfloat16"], "of the forward pass"] = "float32",
    seed: Annotated[int, "of everything random"] = Recipe.seed,
    save_every: Annotated[int, "steps between checkpoints"] = 500,
    workers: Annotated[int, "processes that load data"] = 1,
    quiet: Annotated[bool, "no progress bar"] = False,
) -> None:
    sources = Paths(jhmdb, jhmdb_labels, coco, coco_images, lspet).sources(every=every)
    if teacher:
        sources = taught(sources, teacher)
    recipe = Recipe(steps=steps, batch=batch, size=size, learning_rate=rate, single=single, dtype=dtype, seed=seed)
    torch.manual_seed(seed)
    model = PRESETS[recipe.preset]()
    if init:
        initialize.start(model, init)
    trainer = Trainer(model, recipe)
    folder = Path(out)
    write_json(folder / "recipe.json", asdict(recipe))
    if (folder / "state.pt").exists():
        trainer.restore(torch.load(folder / "state.pt", weights_only=True))
    fit(trainer, loader(sources, recipe, start=trainer.step, workers=workers), folder, every=save_every, quiet=quiet)


if __name__ == "__main__":
    run(main)
