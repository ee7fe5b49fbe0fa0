"""The task `action`: what the person in a box does (section 5.1), from streams pooled by frozen parts of a detector.

Samples are Frames A with their regions. The streams are computed once (`action_streams`), so that training reads
nothing but rows of numbers and takes a minute. The loss is the cross-entropy of the class, background among them, and
smooth L1 of the box of people. Validation figures: the losses, and `accuracy`, the share of people whose action is the
most probable one; it is the score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dimofs.cli import InputError
from dimofs.zoo import checkpoints
from dimofs.zoo.detection import box_coder, box_head
from dimofs.zoo.detection.action_localizer import ActionLocalizer, shared_with_pose
from dimofs.zoo.presets import PRESETS
from dimofs.zoo.training.action_data import LabelledClip, Regions, later
from dimofs.zoo.training.action_streams import Partner, StreamCache
from dimofs.zoo.training.feature_cache import tensors_digest
from dimofs.zoo.training.recipes import Recipe
from dimofs.zoo.training.tasks import Randomness
from dimofs.zoo.training.terms import Term

# What a pose detector gives an action localizer; only the head is trained.
SHARED = ("backbone.", "offset_net.", "mixing.", "rpn.", "box_head.", "keypoint_head.")


@dataclass(frozen=True, kw_only=True)
class ActionRecipe:
    """The part of a recipe that only actions have.

    preset, arguments: the model, one of `dimofs.zoo.presets.PRESETS`, and what it is built with.
    smoothing:         label smoothing of the classes. every: Frame A is one of every `every`-th frame.
    """

    preset: str = "action_mobile"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    smoothing: float = 0.1
    every: int = 5


# Six passes over JHMDB's 4,600 training frames in batches of 32.
ACTIONS = Recipe(steps=900, batch=32, weight_decay=0.02, warmup=50, average=0.99, frozen=SHARED)


@dataclass(frozen=True)
class Rows:
    """The regions of some frames: streams [K, width] each, labels [K], boxes and targets [K, 4]; see `Regions`."""

    streams: list[Tensor]
    labels: Tensor
    boxes: Tensor
    targets: Tensor
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    def to(self, device: torch.device) -> Rows:
        """The same on `device`."""
        labels, boxes, targets = (t.to(device) for t in (self.labels, self.boxes, self.targets))
        return replace(self, streams=[x.to(device) for x in self.streams], labels=labels, boxes=boxes, targets=targets)

    @staticmethod
    def join(parts: Sequence[Rows]) -> Rows:
        """The frames of all parts, in order."""
        streams = [torch.cat(same) for same in zip(*(part.streams for part in parts), strict=True)]
        labels, boxes, targets = (
            torch.cat([getattr(part, name) for part in parts]) for name in ("labels", "boxes", "targets")
        )
        return Rows(streams, labels, boxes, targets, [name for part in parts for name in part.names])


@dataclass(frozen=True, kw_only=True)
class RegionTable:
    """Regions of clips with their streams, [K, width] each."""

    regions: Regions
    streams: Sequence[Tensor]
    clips: Sequence[LabelledClip]

    @cached_property
    def first(self) -> list[int]:
        """The first region of each frame, and their number."""
        counts = torch.bincount(self.regions.frames, minlength=len(self.regions.numbers))
        return [0, *counts.cumsum(0).tolist()]

    def __len__(self) -> int:
        return len(self.regions.numbers)

    def frame(self, number: int) -> Rows:
        """The regions of a frame."""
        part = slice(self.first[number], self.first[number + 1])
        regions = self.regions
        name = f"{self.clips[int(regions.clips[number])].name}/{int(regions.numbers[number]):04d}"
        streams = [x[part].float() for x in self.streams]
        return Rows(streams, regions.labels[part], regions.boxes[part], regions.targets[part], [name])


class Shuffled:
    """`count` frames of a table: all of them in random order, then again in another, and so on."""

    def __init__(self, table: RegionTable, count: int, seed: int):
        self.table, self.count, self.seed = table, count, seed
        self._epoch, self._order = -1, torch.zeros(0, dtype=torch.int64)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Rows:
        epoch, place = divmod(number, len(self.table))
        if epoch != self._epoch:
            random = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
            self._epoch, self._order = epoch, torch.randperm(len(self.table), generator=random)
        return self.table.frame(int(self._order[place]))


class Spread:
    """`count` frames of a table, evenly spread over it."""

    def __init__(self, table: RegionTable, count: int):
        self.table, self.count = table, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Rows:
        return self.table.frame(number * len(self.table) // self.count % len(self.table))


@dataclass(frozen=True, kw_only=True)
class ActionTask:
    """Train the head of an action localizer on `table`, validate on `held_out_table`; see `Task` for the methods."""

    recipe: ActionRecipe
    table: RegionTable
    held_out_table: RegionTable | None = None
    name = "action"

    def plan(self) -> dict[str, Any]:
        streams = tensors_digest([("labels", self.table.regions.labels), *map(_named, enumerate(self.table.streams))])
        data = {"frames": len(self.table), "regions": len(self.table.regions), "clips": len(self.table.clips)}
        return asdict(self.recipe) | {"streams": streams, "data": data}

    def build(self) -> nn.Module:
        return PRESETS[self.recipe.preset](**self.recipe.arguments)

    def start(self, model: Any, weights: str) -> None:
        if isinstance(model, ActionLocalizer):
            start(model, weights)
        model.head.fit(self.table.streams)

    def backbone(self, model: Any) -> nn.Module:
        return model.backbone

    def samples(self, count: int, seed: int) -> Shuffled:
        return Shuffled(self.table, count, seed)

    def held_out(self, count: int) -> Spread:
        if self.held_out_table is None:
            raise InputError("--validate: there are no clips to validate on")
        return Spread(self.held_out_table, count)

    def collate(self, samples: Sequence[Rows]) -> Rows:
        return Rows.join(samples)

    def losses(self, model: Any, batch: Rows, random: Randomness) -> dict[str, Term]:
        logits, deltas = model.head(batch.streams)
        return head_losses(logits, deltas, batch, self.recipe.smoothing)

    def figures(self, model: Any, batch: Rows, random: Randomness) -> dict[str, Term]:
        logits, deltas = model.head(batch.streams)
        people = batch.labels > 0
        right = logits[people, 1:].argmax(1) == batch.labels[people] - 1
        accuracy = Term(right.sum().float(), len(right))
        return {"accuracy": accuracy, **head_losses(logits, deltas, batch, self.recipe.smoothing)}

    def score(self, figures: dict[str, float]) -> float:
        return figures["accuracy"]


def _named(item: tuple[int, Tensor]) -> tuple[str, Tensor]:
    return str(item[0]), item[1]


def head_losses(logits: Tensor, deltas: Tensor, batch: Rows, smoothing: float) -> dict[str, Term]:
    """Cross-entropy of the class of regions that have one, smooth L1 (beta 1/9) of the box of people."""
    known, people = batch.labels >= 0, batch.labels > 0
    action = F.cross_entropy(logits[known], batch.labels[known], label_smoothing=smoothing, reduction="sum")
    goal = box_coder.encode(batch.targets[people], batch.boxes[people], deltas.new_tensor(box_head.WEIGHTS))
    box = F.smooth_l1_loss(deltas[people], goal, beta=1 / 9, reduction="sum")
    return {"action": Term(action, int(known.sum())), "box": Term(box, int(people.sum()))}


def start(model: ActionLocalizer, weights: str) -> None:
    """Give `model` the tensors of a pose detector, by name; its head stays as it is.

    InputError: `weights` is no detector of these parts.
    """
    found = shared_with_pose(checkpoints.load(weights).state_dict())
    wanted = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(SHARED)}
    for name, tensor in wanted.items():
        if name not in found or found[name].shape != tensor.shape:
            fault = "lacks" if name not in found else "has another shape of"
            raise InputError(f"{weights}: {fault} {name}; start from the pose detector that the model is built on")
    model.load_state_dict({name: found[name] for name in wanted}, strict=False)


def build_table(cache: StreamCache, clips: Sequence[LabelledClip], *, every: int, train: bool) -> RegionTable:
    """The regions of the clips and the streams that the cache's model reads."""
    parts, streams = [], []
    for clip in clips:
        regions = cache.regions(clip, every=every, train=train)
        parts.append(regions)
        streams.append(
            [cache.stream(clip, regions, s.kind, _partner(clip, regions, s.delta)) for s in cache.model.streams]
        )
    return RegionTable(
        regions=Regions.join(parts), streams=[torch.cat(same) for same in zip(*streams, strict=True)], clips=clips
    )


def _partner(clip: LabelledClip, regions: Regions, delta: int) -> Partner | None:
    return Partner(clip.path, later(regions.numbers, clip.length, delta)) if delta else None
