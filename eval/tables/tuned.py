"""Columns of Table 3 whose backbone learns the actions, too: its last stage, the pyramid and the offset net.

    frame -> frozen stages -> maps, kept on disk -> last stage, pyramid -> f_A, f_B -> offset net -> head

Training goes on from what the same column learned above frozen features, so that a short run of the costly parts is
enough. The regions stay those that the frozen detector found: RPN and box head do not learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from dimofs.cli import InputError
from dimofs.eval.tables.action_columns import Column
from dimofs.eval.tables.action_streams import StreamSources, with_parts
from dimofs.eval.tables.actions import Comparison, HeadAlone, HeadTask, Trial, clip_accuracy, predict
from dimofs.zoo.backbones.pyramids import KeypointPyramidBackbone
from dimofs.zoo.detection.action_localizer import ActionLocalizer, Stream
from dimofs.zoo.detection.features import Features
from dimofs.zoo.training.action_data import LabelledClip, later
from dimofs.zoo.training.action_streams import kept
from dimofs.zoo.training.actions import ActionRecipe, RegionTable, Rows, head_losses
from dimofs.zoo.training.feature_cache import FeatureCache, digest
from dimofs.zoo.training.recipes import Recipe
from dimofs.zoo.training.tasks import Randomness
from dimofs.zoo.training.terms import Term
from dimofs.zoo.training.trainer import trained

# Parts that keep their weights: those whose maps are kept on disk, and those that found the regions.
FIXED = (*(f"backbone.body.stages.{i}." for i in range(3)), "mixing.", "rpn.", "box_head.", "keypoint_head.")
# Parts that learn at a tenth of the head's rate or less; see `trainer.unfrozen_scale`.
SLOW = ("backbone.", "offset_net.")
# In bfloat16 a step takes half the time.
RECIPE = Recipe(
    batch=16, learning_rate=1e-3, weight_decay=0.02, warmup=20, average=0.98, frozen=SLOW, unfreeze=0, fixed=FIXED,
    dtype="bfloat16",
)  # fmt: skip
# Streams whose maps the backbone makes.
TUNED = ("appearance", "dimofs", "random", "difference", "later")
# Frames A that pass the network at a time when it is judged.
FRAMES = 16


class Early(nn.Module):
    """The stages of a backbone that stay frozen: image -> C2, C3 and C4."""

    def __init__(self, backbone: KeypointPyramidBackbone):
        super().__init__()
        self.stages, self.early = backbone.body.stages[:-1], backbone.early

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.early(x)


@dataclass(frozen=True)
class Sample:
    """Some frames A. regions: of each. maps: of the frozen stages, of each Frame A followed by its frames B."""

    rows: Rows
    regions: Sequence[Tensor]
    maps: Features

    @property
    def names(self) -> Sequence[str]:
        return self.rows.names

    def __len__(self) -> int:
        return len(self.regions)

    def to(self, device: torch.device) -> Sample:
        maps = replace(self.maps, levels=[level.to(device) for level in self.maps.levels])
        return Sample(self.rows.to(device), [boxes.to(device) for boxes in self.regions], maps)

    @staticmethod
    def join(parts: Sequence[Sample]) -> Sample:
        """All of the parts. InputError: their frames are of several sizes."""
        if len({part.maps.geometry for part in parts}) > 1:
            raise InputError("--tune: the clips are of several sizes; give clips of one")
        regions = [boxes for part in parts for boxes in part.regions]
        return Sample(Rows.join([part.rows for part in parts]), regions, Features.cat([part.maps for part in parts]))


@dataclass(frozen=True, kw_only=True)
class MappedTable(RegionTable):
    """Regions whose frames come with the maps of the frozen stages; deltas: from each Frame A to its frames B."""

    early: FeatureCache
    deltas: Sequence[int]

    def frame(self, number: int) -> Any:
        """The `Sample` of a frame."""
        rows, regions = super().frame(number), self.regions
        clip = self.clips[int(regions.clips[number])]
        return Sample(rows, [rows.boxes], self.maps(clip, regions.numbers[number : number + 1]))

    def maps(self, clip: LabelledClip, numbers: Tensor) -> Features:
        """The maps of these frames A of a clip, each followed by its frames B."""
        return self.early.features(clip.path, self._shown(clip, numbers))

    def keep_maps(self) -> None:
        """Compute the maps of all frames that are not kept yet, a clip at a time."""
        for number, clip in enumerate(tqdm(self.clips, "maps", unit="clip", leave=False, disable=None)):
            self.early.add(clip.path, self._shown(clip, self.regions.numbers[self.regions.clips == number]))

    def _shown(self, clip: LabelledClip, numbers: Tensor) -> list[int]:
        return (
            torch.stack([numbers, *(later(numbers, clip.length, delta) for delta in self.deltas)], dim=1)
            .flatten()
            .tolist()
        )


@dataclass(frozen=True, kw_only=True)
class TunedTask(HeadTask):
    """Train `model`, whose head has learned, and the late stages of its backbone."""

    model: ActionLocalizer

    def build(self) -> Any:
        return deepcopy(self.model)

    def start(self, model: Any, weights: str) -> None:
        """The model has its weights."""

    def collate(self, samples: Sequence[Any]) -> Any:
        return Sample.join(samples)

    def losses(self, model: Any, batch: Any, random: Randomness) -> dict[str, Term]:
        logits, deltas = model.head(streams(model, batch.maps, batch.regions))
        return head_losses(logits, deltas, batch.rows, self.recipe.smoothing)


def streams(model: ActionLocalizer, maps: Features, regions: Sequence[Tensor]) -> list[Tensor]:
    """What a model's streams say about the regions of each Frame A, [K, width] each; maps: as of a `Sample`."""
    assert isinstance(model.backbone, KeypointPyramidBackbone)
    levels = [level.contiguous(memory_format=torch.channels_last) for level in maps.levels]
    whole, deltas = replace(maps, levels=model.backbone.late(levels)), _deltas(model)
    shown = [whole[i :: 1 + len(deltas)] for i in range(1 + len(deltas))]
    return model.pooled(shown[0], dict(zip(deltas, shown[1:], strict=True)), regions)


def tuned_trial(comparison: Comparison, sources: StreamSources, column: Column, steps: int) -> Trial:
    """A column whose backbone learns for `steps` steps after its heads have; as `Comparison.trial`.

    InputError: the column has a stream that is not the backbone's, or the clips are of several sizes.
    """
    named = [sources.named(stream) for stream in column.streams]
    table, judged = comparison.train.table(named), comparison.test.table(named)
    frozen = sources.trained.model
    assert isinstance(frozen.backbone, KeypointPyramidBackbone)
    early = FeatureCache(sources.trained.features.folder, with_parts(frozen, backbone=Early(frozen.backbone)))
    found = []
    for seed, head in zip(comparison.seeds, comparison.heads(named), strict=True):
        model = localizer(column, sources, head.head)
        learned, judged_maps = (
            MappedTable(**_fields(part), early=early, deltas=_deltas(model)) for part in (table, judged)
        )
        learned.keep_maps()
        task = TunedTask(
            recipe=ActionRecipe(), classes=len(comparison.classes), hidden=comparison.hidden, model=model,
            table=learned,
        )  # fmt: skip
        _learn(model, task, RECIPE.changed(steps=steps), seed, comparison.folder)
        seen = replace(judged, streams=_streams(model, judged_maps))
        found.append(predict(HeadAlone(model.head), seen, column.tracks or comparison.tracks))
    accuracy = [clip_accuracy(boxes, judged, len(comparison.classes)) for boxes in found]
    return Trial(found=found, accuracy=accuracy)


def check_tuned(columns: Sequence[Column]) -> None:
    """InputError: a column has a stream that the backbone does not make or without a delta, or two offset nets."""
    for column in columns:
        kinds = {stream.partition("@")[0] for stream in column.streams}
        for stream in column.streams:
            kind, _, delta = stream.partition("@")
            if kind not in TUNED:
                known = ", ".join(TUNED)
                raise InputError(
                    f"--tune: {stream!r} is not of the backbone; give --columns whose streams are of {known}"
                )
            if delta == "random":
                raise InputError(f"--tune: {stream!r} has no delta of its own; give one, as in {kind}@10")
        if {"dimofs", "random"} <= kinds:
            raise InputError(f"--tune: {column.name!r} has streams of two offset nets; give --columns of one")


def localizer(column: Column, sources: StreamSources, head: nn.Module) -> ActionLocalizer:
    """A localizer that reads a column's streams, with a copy of all parts."""
    random = any(stream.startswith("random") for stream in column.streams)
    model = deepcopy((sources.controls["random"] if random else sources.trained).model)
    model.streams = tuple(Stream.parse(stream.replace("random", "dimofs")) for stream in column.streams)
    model.head = deepcopy(head)  # type: ignore[assignment]
    return model.eval()


def _deltas(model: ActionLocalizer) -> tuple[int, ...]:
    """How many frames after Frame A those of its frames B come that are not A itself."""
    return tuple(delta for delta in model.deltas if delta)


def _fields(table: RegionTable) -> dict[str, Any]:
    return {field.name: getattr(table, field.name) for field in fields(table)}


def _learn(model: ActionLocalizer, task: TunedTask, recipe: Recipe, seed: int, folder: Path) -> None:
    """Give `model` what the task learns, trained or read from the folder."""
    key = f"tuned {seed} {task.plan()} {recipe} {digest(model)} {model.streams}"
    model.load_state_dict(kept(folder, key, lambda: trained(task, recipe, seed).state_dict()))


@torch.inference_mode()
def _streams(model: ActionLocalizer, table: MappedTable) -> list[Tensor]:
    """The streams of all regions of a table."""
    table.keep_maps()
    regions, found = table.regions, []
    by_frame = regions.by_frame()
    for clip in tqdm(range(len(table.clips)), "clips", unit="clip", leave=False, disable=None):
        for frames in (regions.clips == clip).nonzero()[:, 0].split(FRAMES):
            maps = table.maps(table.clips[clip], regions.numbers[frames])
            found.append(streams(model, maps, [by_frame[frame] for frame in frames.tolist()]))
    return [torch.cat(same) for same in zip(*found, strict=True)]
