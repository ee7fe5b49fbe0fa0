"""The task `pose`: find the people of Frame A, their boxes and joints, in the features of Frame B.

Validation figures: the losses, and `pck` and `pck_pairs`, the share of labelled joints that the keypoint branch, given
the labelled boxes, places within a fifth of the longer side of the person's box, in the features of Frame A itself and
in those of Frame B. The score is the mean of the two. Where all batches are of single frames there is no `pck_pairs`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dimofs.datasets.augment.colour import Colours
from dimofs.datasets.augment.geometry import Augmentation, Jitter
from dimofs.datasets.augment.mixture import Mixture, collate
from dimofs.datasets.people import Pair, PairSource, People
from dimofs.datasets.teacher import Taught
from dimofs.skeletons import DIMOFS, PEOPLE, Skeleton, mirror
from dimofs.zoo.detection.coarse_to_fine import alignment
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.features import Features
from dimofs.zoo.detection.losses import Sampling, losses_of_levels, pair_features, pose_losses
from dimofs.zoo.presets import PRESETS
from dimofs.zoo.training import initialize
from dimofs.zoo.training.constraints import Weights, constraint_losses
from dimofs.zoo.training.data import labels_in
from dimofs.zoo.training.tasks import Randomness
from dimofs.zoo.training.terms import Term

PCK_ALPHA = 0.2
# Held-out samples keep their colours and orientation; people are a little smaller than the canvas.
CALM = Augmentation(
    mirror=0.0,
    rotation=0.0,
    person=(0.5, 0.9),
    colours=Colours(brightness=0, contrast=0, saturation=0, tint=0, grey=0, blur=0),
)
# Data sets given together are drawn with these weights unless --mix says otherwise.
MIX = {"jhmdb": 0.4, "lspet": 0.35, "coco": 0.25, "posetrack": 0.5, "videos": 0.3, "synthetic": 0.3}


@dataclass(frozen=True, kw_only=True)
class PoseRecipe:
    """The part of a recipe that only poses have: the model, the samples and the losses.

    preset, arguments: the model, one of `dimofs.zoo.presets.PRESETS`, and what it is built with beside the joint names.
    canvas:            side of the square training images, in pixels.
    single:            share of the batches whose Frame B is Frame A.
    mosaic:            share of the samples that hold four pairs.
    paste:             share of the samples in which one more person is pasted in front of another.
    largest:           longer side of the largest person in focus, in units of the canvas's side; see `Augmentation`.
    mix:               the weight with which each data set is drawn.
    apart:             share of the samples of a batch of pairs whose Frame A is another sample's, so that the frames
                       show different scenes. The people to find are then those of Frame B, where nothing has moved.
    constraints:       weights of the losses of the motion parts; see `dimofs.zoo.training.constraints`.
    """

    preset: str = "dimofs_mobile"
    arguments: Mapping[str, Any] = field(default_factory=lambda: {"variant": "paper"})
    canvas: int = 320
    single: float = 0.5
    mosaic: float = 0.3
    paste: float = 0.0
    largest: float = Augmentation.person[1]
    mix: Mapping[str, float] = field(default_factory=lambda: dict(MIX))
    apart: float = 0.0
    constraints: Weights = field(default_factory=Weights)
    sampling: Sampling = field(default_factory=lambda: Sampling(regions=64, keypoint_regions=8, positive_fraction=0.5))

    def changed(self, *, variant: str | None = None, **fields: Any) -> PoseRecipe:
        """The recipe with other values of some fields; those that are None stay. `variant` is one of the arguments."""
        if variant is not None:
            fields["arguments"] = {**self.arguments, "variant": variant}
        return replace(self, **{name: value for name, value in fields.items() if value is not None})


POSE_RECIPES = {
    "mobile": PoseRecipe(),
    "paper": PoseRecipe(preset="dimofs_resnet101", canvas=800, single=0.0, mosaic=0.0, sampling=Sampling(regions=512)),
}


@dataclass(frozen=True)
class PairBatch:
    """N pairs: Frames A and B [N, 3, H, W] uint8, the people of each Frame A, the names and moves of the pairs."""

    frames_a: Tensor
    frames_b: Tensor
    people: Sequence[People]
    names: Sequence[str]
    moves: Sequence[Tensor]

    def __len__(self) -> int:
        return len(self.names)

    def to(self, device: torch.device) -> PairBatch:
        """The same on `device`."""
        a, b = (frames.to(device, non_blocking=True) for frames in (self.frames_a, self.frames_b))
        people, moves = [[each.to(device) for each in values] for values in (self.people, self.moves)]
        return replace(self, frames_a=a, frames_b=b, people=people, moves=moves)

    def pin_memory(self) -> PairBatch:
        """The same with frames that a GPU can fetch while the CPU works on; PyTorch's loader calls this."""
        return replace(self, frames_a=self.frames_a.pin_memory(), frames_b=self.frames_b.pin_memory())


@dataclass(frozen=True, kw_only=True)
class PoseTask:
    """Train on pairs from `sources`, validate on pairs from `held_out_sources`; see `Task` for the methods.

    skeleton: what all of them label. judged: the figures whose mean is the score.
    """

    recipe: PoseRecipe
    sources: Mapping[str, PairSource]
    held_out_sources: Mapping[str, PairSource] = field(default_factory=dict)
    skeleton: Skeleton = PEOPLE
    judged: Sequence[str] = ("pck", "pck_pairs")
    name = "pose"

    def plan(self) -> dict[str, Any]:
        plan = asdict(self.recipe)
        # Runs that were begun before these could be chosen resume without them.
        for name in ("apart", "constraints"):
            if getattr(self.recipe, name) == getattr(PoseRecipe, name, Weights()):
                del plan[name]
        plan["mix"] = {name: self.recipe.mix[name] for name in self.sources}
        taught = {name: source for name, source in self.sources.items() if isinstance(source, Taught)}
        if self.skeleton != PEOPLE:
            plan["skeleton"] = asdict(self.skeleton)
        plan["teacher"] = {name: labels_digest(source.tensors()) for name, source in taught.items()}
        labels = {name: labels_in(source) for name, source in self.sources.items()}
        plan["labels"] = {name: labels_digest(known) for name, known in labels.items() if known}
        return plan | {"data": {name: len(source) for name, source in self.sources.items()}}

    def build(self) -> PoseDetector:
        build, own = PRESETS[self.recipe.preset], dict[str, Any]()
        if self.skeleton != PEOPLE:
            own = {"limbs": _lists(self.skeleton.limbs), "sigmas": [*self.skeleton.sigmas]}
            own |= input_size(build, self.recipe.canvas)
        joints = DIMOFS if self.skeleton == PEOPLE else [*self.skeleton.joints]
        model = build(keypoint_names=joints, **own, **self.recipe.arguments)
        return model.to(memory_format=torch.channels_last)

    def start(self, model: PoseDetector, weights: str) -> None:
        initialize.start(model, weights)

    def backbone(self, model: PoseDetector) -> nn.Module:
        return model.backbone

    def samples(self, count: int, seed: int) -> Mixture:
        recipe = self.recipe
        mixed = [(source, recipe.mix[name]) for name, source in self.sources.items()]
        # If every batch is of single frames, nothing reads Frame B, so warping it would be wasted time.
        motion = Jitter(share=0.0) if recipe.single == 1 else Jitter()
        how = Augmentation(person=(Augmentation.person[0], recipe.largest), motion=motion, swap=self._swap)
        return Mixture(mixed, self._size, count, seed=seed, mosaic=recipe.mosaic, paste=recipe.paste, augmentation=how)

    def held_out(self, count: int) -> Mixture:
        equal = [(source, 1.0) for source in self.held_out_sources.values()]
        return Mixture(equal, self._size, count, mosaic=0.0, augmentation=replace(CALM, swap=self._swap))

    @property
    def _swap(self) -> tuple[int, ...]:
        return tuple(mirror(self.skeleton.joints))

    @property
    def _size(self) -> tuple[int, int]:
        return self.recipe.canvas, self.recipe.canvas

    def collate(self, samples: Sequence[Pair]) -> PairBatch:
        return PairBatch(*collate(samples))

    def losses(self, model: PoseDetector, batch: PairBatch, random: Randomness) -> dict[str, Term]:
        recipe = self.recipe
        single = random.shared.random() < recipe.single
        if not recipe.constraints.names() and not recipe.apart:
            a, b = batch.frames_a / 255, batch.frames_b / 255
            return pose_losses(model, a, None if single else b, batch.people, recipe.sampling, random.samples)
        if single:
            poses = pose_losses(model, batch.frames_a / 255, None, batch.people, recipe.sampling, random.samples)
            return poses | dict.fromkeys(recipe.constraints.names(), _nothing(poses))
        return self._pair_losses(model, batch, random)

    def _pair_losses(self, model: PoseDetector, batch: PairBatch, random: Randomness) -> dict[str, Term]:
        """Losses of pairs, some of whose frames are of different scenes, and of the motion parts."""
        recipe = self.recipe
        a, b = pair_features(model, batch.frames_a / 255, batch.frames_b / 255)
        apart = torch.tensor([torch.rand((), generator=g).item() < recipe.apart for g in random.samples])
        apart = apart.to(batch.frames_a.device) & (len(batch) > 1)
        a, b = torn(a, b, apart)
        found = alignment(model.offset_net, a.levels, b.levels)
        levels = model.deformable(b.levels, found.dimofs)
        poses = losses_of_levels(model, levels, a.geometry, batch.people, recipe.sampling, random.samples)
        return poses | constraint_losses(found, a.levels, levels, batch.moves, apart, recipe.constraints)

    def figures(self, model: PoseDetector, batch: PairBatch, random: Randomness) -> dict[str, Term]:
        a = batch.frames_a / 255
        found = {"pck": count_found_joints(model, a, None, batch.people)}
        b = None
        if self.recipe.single < 1:
            b = batch.frames_b / 255
            found["pck_pairs"] = count_found_joints(model, a, b, batch.people)
        return found | pose_losses(model, a, b, batch.people, self.recipe.sampling, random.samples)

    def score(self, figures: dict[str, float]) -> float:
        judged = [figures[name] for name in self.judged if name in figures]
        return sum(judged) / len(judged)


def input_size(build: Callable, canvas: int) -> dict[str, int]:
    """The arguments `min_size` and `max_size` of a preset whose input is no larger than the canvas that it trains on.

    Larger inputs show everything larger than it was in training: of 30 photographs' drawn mice, trained on 256 pixels,
    keypoint AP on others is 0.35 at inputs of 352 pixels and 0.22 at 512.
    """
    defaults = {name: parameter.default for name, parameter in inspect.signature(build).parameters.items()}
    sides = {name: defaults[name] for name in ("min_size", "max_size") if name in defaults}
    if not sides or canvas >= sides["min_size"]:
        return {}
    return {name: round(side * canvas / sides["min_size"]) for name, side in sides.items()}


def torn(a: Features, b: Features, apart: Tensor) -> tuple[Features, Features]:
    """The pairs; of those `apart` [N], Frame A becomes Frame B, and the Frame A before it in the batch Frame A."""

    def chosen(yes: Sequence[Tensor], no: Sequence[Tensor]) -> list[Tensor]:
        return [torch.where(apart[:, None, None, None], x, y) for x, y in zip(yes, no, strict=True)]

    before = [level.roll(1, dims=0) for level in a.levels]
    return replace(a, levels=chosen(before, a.levels)), replace(b, levels=chosen(a.levels, b.levels))


def _nothing(losses: Mapping[str, Term]) -> Term:
    """A loss of 0 that carries a gradient if the others do."""
    return Term(0.0 * torch.stack([term.total for term in losses.values()]).sum(), 0)


def _lists(pairs: Sequence[tuple[str, str]]) -> list[list[str]] | None:
    """Pairs as JSON has them; no pairs are those of people, of whom this skeleton has none."""
    return [list(pair) for pair in pairs] or None


def labels_digest(labels: Mapping[str, Iterable[Tensor | np.ndarray]]) -> str:
    """The beginning of the SHA-256 of named labels, by which a run knows them again."""
    digest = sha256()
    for name in sorted(labels):
        digest.update(name.encode("utf-8", "surrogateescape"))
        for values in labels[name]:
            digest.update(np.asarray(values).tobytes())
    return digest.hexdigest()[:16]


def count_found_joints(model: PoseDetector, a: Tensor, b: Tensor | None, people: Sequence[People]) -> Term:
    """The number of labelled joints that the model finds, and the number of labelled joints.

    The people of Frames A are found in the features of Frames B, or of A itself without B; frames are [N, 3, H, W] in
    [0, 1] and have the network's size.
    """
    features = model.features(a, resize=False)
    levels = model.align(features, None if b is None else model.features(b, resize=False))
    points, _ = model.find_joints([levels], [p.boxes for p in people])
    everyone = People.join(people)
    tolerance = PCK_ALPHA * (everyone.boxes[:, 2:] - everyone.boxes[:, :2]).amax(1)
    right = (points - everyone.keypoints).norm(dim=-1) <= tolerance[:, None]
    return Term((right & everyone.labelled).sum().float(), int(everyone.labelled.sum()))
