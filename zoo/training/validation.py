"""How good a model is on pairs that it does not train on: losses, and joints found in labelled boxes.

pck, pck_pairs: the part of the labelled joints that the keypoint branch, given the labelled boxes, puts within a fifth
of the longer side of the person's box; in the features of Frame A itself, and of Frame B.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from dimofs.datasets.augment.colour import Colours
from dimofs.datasets.augment.geometry import Augmentation
from dimofs.datasets.augment.mixture import Mixture, collate
from dimofs.datasets.people import PairSource, People
from dimofs.zoo.detection.detector import SCALES, PoseDetector
from dimofs.zoo.detection.keypoint_head import decode
from dimofs.zoo.detection.losses import Term, means, pose_losses
from dimofs.zoo.training.recipes import Recipe

T = TypeVar("T")

ALPHA = 0.2
CALM = Augmentation(
    mirror=0.0,
    rotation=0.0,
    person=(0.5, 0.9),
    colours=Colours(brightness=0, contrast=0, saturation=0, tint=0, grey=0, blur=0),
)


class Validation:
    """`count` pairs of the held-out `sources`, always the same, of the recipe's size."""

    def __init__(self, sources: Mapping[str, PairSource], recipe: Recipe, count: int):
        size, equal = (recipe.size, recipe.size), [(source, 1.0) for source in sources.values()]
        pairs = Mixture(equal, size, count, mosaic=0.0, augmentation=CALM)
        parts = [range(n, min(n + recipe.batch, count)) for n in range(0, count, recipe.batch)]
        self.batches = [collate([pairs[number] for number in part]) for part in _progress(parts, "held-out pairs")]
        self.recipe = recipe

    @torch.inference_mode()
    def __call__(self, model: PoseDetector, device: torch.device) -> dict[str, float]:
        """The figures of `model` by name."""
        sums: dict[str, Term] = {}
        for number, (frames_a, frames_b, people, _) in enumerate(_progress(self.batches, "validation")):
            a, b = (frames.to(device) / 255 for frames in (frames_a, frames_b))
            people = [p.to(device) for p in people]
            generators = [torch.Generator().manual_seed(number * self.recipe.batch + i) for i in range(len(people))]
            found = {
                "pck": joints_found(model, a, None, people),
                "pck_pairs": joints_found(model, a, b, people),
                **pose_losses(model, a, b, people, self.recipe.sampling, generators),
            }
            for name, term in found.items():
                before = sums.get(name, Term(torch.zeros(()), 0))
                sums[name] = Term(before.total + term.total.cpu(), before.count + term.count)
        return {name: mean.item() for name, mean in means(sums).items()}


def _progress(batches: Sequence[T], text: str) -> Iterable[T]:
    return tqdm(batches, text, unit="batch", leave=False, disable=None)


def joints_found(model: PoseDetector, a: Tensor, b: Tensor | None, people: Sequence[People]) -> Term:
    """How many joints of Frames A are found in the features of Frames B (A itself without), and how many are labelled;
    frames [N, 3, H, W] in [0, 1] and of the network's size."""
    features = model.features(a, resize=False)
    levels = model.align(features, None if b is None else model.features(b, resize=False))
    boxes = [p.boxes for p in people]
    points, _ = decode(model.keypoint_head(levels, boxes, SCALES), torch.cat(boxes))
    everyone = People.join(people)
    reach = ALPHA * (everyone.boxes[:, 2:] - everyone.boxes[:, :2]).amax(1)
    right = (points - everyone.keypoints).norm(dim=-1) <= reach[:, None]
    return Term((right & everyone.labelled).sum().float(), int(everyone.labelled.sum()))
