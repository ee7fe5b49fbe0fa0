"""Rows of Table 4 that are other systems': TSN, TRN, C3D, R(2+1)D, small and on the same clips.

    TSN, TRN      on the detector's frozen backbone, at the middle of each segment of a clip (--segments); RGB + flow
                  adds the log-probabilities of a second TSN, which reads Farneback's flow averaged over a grid
    C3D, R(2+1)D  of an eighth and a quarter of the papers' width, from random weights, on 16 frames of 64 x 64 pixels
    Kinetics      two layers on the 512 features of an R(2+1)D-18 whose weights are given, on 16 frames of 112 x 112
    ours +        the sum of the log-probabilities of the final row's MLP and of R(2+1)D's

The paper trains its rows' networks whole and on GPUs, so only the order of these rows can be compared with its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from dimofs.cli import InputError
from dimofs.datasets.labelled_clips import PARTS, ClipSet, LabelledClip, Part
from dimofs.zoo.converters.torchvision_video import load_r2plus1d
from dimofs.zoo.recognition import r2plus1d
from dimofs.zoo.recognition.c3d import C3D
from dimofs.zoo.recognition.classifier import accuracies
from dimofs.zoo.recognition.r2plus1d import R2Plus1D
from dimofs.zoo.recognition.snippets import Snippets, stacked
from dimofs.zoo.recognition.trn import TRN
from dimofs.zoo.recognition.tsn import TSN, fused
from dimofs.zoo.recognition.whole_clips import (
    FROM_SCRATCH,
    ON_FEATURES,
    ClipTask,
    as_floats,
    log_probabilities,
)
from dimofs.zoo.training.action_streams import kept
from dimofs.zoo.training.feature_cache import digest, tensors_digest
from dimofs.zoo.training.recipes import Recipe
from dimofs.zoo.training.trainer import trained

# Frames and side of the clips that networks from random weights read, and the widths of these networks.
SMALL, C3D_WIDTH, R2PLUS1D_WIDTH = (16, 64), 8, 16
# The paper's accuracy of each row.
PAPER = {
    "TSN (RGB)": 16.8,
    "TSN (RGB + flow)": 20.3,
    "TRN": 22.8,
    "C3D": 27.6,
    "R(2+1)D": 21.4,
    "R(2+1)D, Kinetics": 28.9,
    "ours + R(2+1)D": 31.4,
}
KINETICS, FUSION = "R(2+1)D, Kinetics", "ours + R(2+1)D"


@dataclass(frozen=True, kw_only=True)
class PeerBench:
    """The data and settings of the rows. snippets: what is read of clips. kinetics: weights of an R(2+1)D-18, or None.

    steps: of training, None for each row's own.
    """

    clips: ClipSet
    snippets: Snippets
    seeds: Sequence[int]
    kinetics: Path | None = None
    steps: int | None = None

    @cached_property
    def labels(self) -> dict[Part, Tensor]:
        """The class of each clip of a part."""
        return {part: torch.tensor([clip.label for clip in self.clips.part(part)]) for part in PARTS}

    def scores(self, name: str) -> list[Tensor]:
        """The log-probabilities [N, C] of the test clips, for each seed. KeyError: a row that is not alone."""
        if name == "TSN (RGB + flow)":
            flow = self._trained(self.snippets.flow, TSN, ON_FEATURES)
            return [fused(a, b) for a, b in zip(self.scores("TSN (RGB)"), flow, strict=True)]
        return {
            "TSN (RGB)": lambda: self._trained(self.snippets.rgb, TSN, ON_FEATURES),
            "TRN": lambda: self._trained(self.snippets.rgb, partial(TRN, segments=self.snippets.segments), ON_FEATURES),
            "C3D": lambda: self._from_pixels(small_c3d),
            "R(2+1)D": lambda: self._from_pixels(small_r2plus1d),
            KINETICS: lambda: self._trained(self._kinetics, TSN, ON_FEATURES),
        }[name]()

    def _trained(
        self, read: Callable[[LabelledClip], Tensor], make: Callable[..., nn.Module], recipe: Recipe
    ) -> list[Tensor]:
        train, test = self._inputs(read)
        return self._fitted(train, test, partial(make, train.shape[-1], len(self.clips.classes)), recipe)

    def _from_pixels(self, make: Callable[..., nn.Module]) -> list[Tensor]:
        train, test = self._inputs(partial(self.snippets.pixels, frames=SMALL[0], side=SMALL[1]))
        return self._fitted(train, test, partial(make, len(self.clips.classes)), FROM_SCRATCH)

    def _inputs(self, read: Callable[[LabelledClip], Tensor]) -> tuple[Tensor, Tensor]:
        train, test = (self.clips.part(part) for part in PARTS)
        bar = tqdm([*train, *test], "clips", unit="clip", leave=False, disable=None)
        found = stacked([read(clip) for clip in bar])
        return found[: len(train)], found[len(train) :]

    def _fitted(self, train: Tensor, test: Tensor, make: Callable[[], nn.Module], recipe: Recipe) -> list[Tensor]:
        """Scores for each seed, kept on disk under a hash of the inputs and of how the model is trained."""
        recipe = recipe.changed(steps=self.steps)
        task = ClipTask(inputs=train, labels=self.labels["train"], make=make)
        inputs = tensors_digest([("train", train), ("test", test), ("labels", task.labels)])
        layers = [(name, list(p.shape)) for name, p in make().named_parameters()]

        def scores(seed: int) -> dict[str, Tensor]:
            return {"x": log_probabilities(trained(task, recipe, seed), test)}

        keys = {seed: f"peer {recipe} {seed} {inputs} {layers}" for seed in self.seeds}
        return [kept(self.snippets.folder, key, partial(scores, seed))["x"] for seed, key in keys.items()]

    def _kinetics(self, clip: LabelledClip) -> Tensor:
        """[1, 512], the features of the given R(2+1)D of a clip."""
        model = self.network
        pixels = self.snippets.pixels(clip, r2plus1d.FRAMES, r2plus1d.SIDE)

        @torch.inference_mode()
        def compute() -> dict[str, Tensor]:
            mean, std = (torch.tensor(x)[:, None, None, None] for x in (r2plus1d.MEAN, r2plus1d.STD))
            return {"x": model.features(((as_floats(pixels) - mean) / std)[None])}

        return kept(self.snippets.folder, f"r2plus1d {digest(model)} {tensors_digest([('x', pixels)])}", compute)["x"]

    @cached_property
    def network(self) -> R2Plus1D:
        """The R(2+1)D-18 of the given weights. InputError: there are none, or they do not fit."""
        if self.kinetics is None:
            raise InputError(f"{KINETICS}: needs weights; give --kinetics r2plus1d_18.pth")
        return load_r2plus1d(self.kinetics)


def small_c3d(classes: int) -> C3D:
    """The C3D of the table."""
    return C3D(classes, width=C3D_WIDTH, hidden=256, frames=SMALL[0], side=SMALL[1])


def small_r2plus1d(classes: int) -> R2Plus1D:
    """The R(2+1)D of the table without given weights."""
    return R2Plus1D(classes, width=R2PLUS1D_WIDTH)


def peer_rows(bench: PeerBench, ours: Sequence[Tensor] | None, names: Sequence[str] | None = None) -> dict[str, Any]:
    """Print the rows of these names, None for all that can be; returns top-1 and mean over classes of each seed.

    ours: the probabilities [N, C] of the final row for each seed, without which the fusion is left out.
    """
    result: dict[str, Any] = {}
    for name in names or PAPER:
        if (name == KINETICS and bench.kinetics is None) or (name == FUSION and ours is None):
            print(f"{name:28}{'not measured':>57}{PAPER[name]:>7.1f}")
            continue
        if name == FUSION:
            video = bench.scores("R(2+1)D" if bench.kinetics is None else KINETICS)
            scores = [fused(a.clamp(min=1e-9).log(), b) for a, b in zip(ours or (), video, strict=True)]
        else:
            scores = bench.scores(name)
        found = [accuracies(one, bench.labels["test"], len(bench.clips.classes)) for one in scores]
        result[name] = {"top1": [top for top, _ in found], "classes": [mean for _, mean in found], "paper": PAPER[name]}
        print(_line(name, result[name]), flush=True)
    return result


def _line(name: str, about: dict[str, Any]) -> str:
    top1 = about["top1"]
    deviation = f" ± {np.std(top1, ddof=1):.1f}" if len(top1) > 1 else ""
    spread = f"{np.mean(top1):.1f}{deviation}"
    return f"{name:28}{'':22}{spread:>13}{np.mean(about['classes']):>9.1f}{'':13}{about['paper']:>7.1f}"
