"""The options of `train action`, and the task that follows from them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from dimofs.cli import InputError, Range
from dimofs.datasets.jhmdb import Jhmdb
from dimofs.zoo.detection.action_localizer import Stream
from dimofs.zoo.devices import pick_device
from dimofs.zoo.presets import PRESETS
from dimofs.zoo.training.action_data import (
    HELD_OUT,
    LabelledClip,
    check_people,
    folder_clips,
    folders_without_videos,
    held_out_clips,
    jhmdb_clips,
)
from dimofs.zoo.training.action_streams import StreamCache
from dimofs.zoo.training.actions import ActionRecipe, ActionTask, build_table, start
from dimofs.zoo.training.data import Paths, need
from dimofs.zoo.training.feature_cache import FeatureCache
from dimofs.zoo.training.initialize import variant_of

MODELS = ("action_mobile", "action_resnet101")


@dataclass(frozen=True, kw_only=True)
class ActionOptions:
    """What `train action` needs beside the options that all tasks share."""

    clips: Annotated[str | None, "action: folder that holds a folder of videos for each class"] = None
    boxes: Annotated[str | None, "action: .npz file of the actors' boxes in --clips (default: detected)"] = None
    split: Annotated[int, "action: which of JHMDB's three splits", Range(1, 3)] = 1
    streams: Annotated[list[str] | None, "action: what the head reads (default: appearance dimofs@10)"] = None
    cells: Annotated[int, "action: side of the pooled grid of each stream", Range(1, 7)] = 5
    hidden: Annotated[int, "action: width of the head's layers", Range(1, 4096)] = 256
    pose_clusters: Annotated[
        bool, "recognize: learn clusters of poses and DiMoFs, as the paper does, instead of the classes themselves"
    ] = False
    cache: Annotated[str, "action: folder of cached features; safe to delete"] = "runs/features"

    @property
    def given(self) -> list[str]:
        """The options that belong to actions alone and are given; one that has its default counts as not given."""
        return [field.name for field in fields(self) if getattr(self, field.name) != field.default]

    def check_source(self, paths: Paths) -> None:
        """InputError: clips are given twice, or an option does not belong to those that are given."""
        if self.clips is not None and paths.jhmdb is not None:
            raise InputError("--clips and --jhmdb exclude each other; give one of them")
        if self.clips is None and self.boxes is not None:
            raise InputError("--boxes: are those of --clips; give that too, or leave them out")
        if self.clips is not None:
            for option, given in (("--jhmdb-labels", paths.jhmdb_labels is not None), ("--split", self.split != 1)):
                if given:
                    raise InputError(f"{option}: belongs to --jhmdb and not to --clips; leave it out")

    def task(
        self, paths: Paths, *, preset: str, weights: str, variant: str | None, validate: bool, device: str | None
    ) -> ActionTask:
        """The task on the clips that the options name, with all streams computed or read from the cache.

        InputError: clips, boxes or weights are missing or malformed.
        """
        clips, classes = self.labelled(paths)
        arguments = self._arguments(classes, variant or variant_of(weights))
        model = PRESETS[preset](**arguments).eval()
        start(model, weights)
        cache = StreamCache(model, FeatureCache(self.cache, model.to(pick_device(device))))
        kept, held = held_out_clips(clips) if validate else (clips, [])
        if validate and not held:
            raise InputError(f"--validate: needs {HELD_OUT} clips of a class; leave it out, or give more clips")
        if validate:
            _tell_unvalidated(kept, held, classes)
        tables = [build_table(cache, part, every=paths.every, train=True) if part else None for part in (kept, held)]
        recipe = ActionRecipe(preset=preset, arguments=arguments, every=paths.every)
        if tables[0] is None:
            raise InputError("there is no clip to learn from; give others")
        check_people(tables[0].regions, tables[0].clips, classes)
        return ActionTask(recipe=recipe, table=tables[0], held_out_table=tables[1])

    def labelled(self, paths: Paths) -> tuple[list[LabelledClip], list[str]]:
        """The clips to learn from and their classes; folders and videos at fault are told. InputError: see `task`."""
        self.check_source(paths)
        if self.clips is not None:
            for name in folders_without_videos(Path(self.clips)):
                print(f"note: {self.clips}: the folder {name} holds no video and is left out", file=sys.stderr)
            clips, classes = folder_clips(Path(self.clips), Path(self.boxes) if self.boxes else None)
            for complaint in filter(None, (clip.complaint for clip in clips)):
                print(f"note: {complaint}", file=sys.stderr)
            return clips, classes
        clips = need(paths.jhmdb, "--jhmdb or --clips", "action")
        labels = need(paths.jhmdb_labels, "--jhmdb-labels", "--jhmdb")
        return jhmdb_clips(Jhmdb(clips, labels, split=self.split, part="train"))

    def _arguments(self, classes: list[str], variant: str | None) -> Mapping[str, Any]:
        streams = self.streams or ["appearance", "dimofs@10"]
        for text in streams:
            try:
                Stream.parse(text)
            except ValueError as error:
                raise InputError(f"--streams: {error}") from error
        if len({Stream.parse(text) for text in streams}) < len(streams):
            raise InputError(f"--streams {' '.join(streams)}: names a stream twice; leave one out")
        arguments = {"action_names": classes, "streams": streams, "cells": self.cells, "hidden": self.hidden}
        return arguments | ({} if variant is None else {"variant": variant})


def _tell_unvalidated(kept: Sequence[LabelledClip], held: Sequence[LabelledClip], classes: Sequence[str]) -> None:
    """Tell which classes have too few clips for one to be held out."""
    few = sorted({clip.label for clip in kept} - {clip.label for clip in held})
    if few:
        print(
            f"note: {len(few)} classes are not validated on for want of clips, such as {classes[few[0]]}",
            file=sys.stderr,
        )


def check_unused(task: str, **options: object) -> None:
    """InputError: one of these options, which the task does not have, is given."""
    for name, value in options.items():
        if value not in (None, False):
            raise InputError(f"--{name.replace('_', '-')}: is no option of the task {task}; leave it out")
