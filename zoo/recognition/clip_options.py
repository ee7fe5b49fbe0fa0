"""The options of commands that measure labelled clips: which clips, by which detector, which pairs, and where to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from dimofs.cli import InputError, Range
from dimofs.datasets.diving48 import open_clip_set
from dimofs.datasets.labelled_clips import ClipSet, class_folders, jhmdb_clips
from dimofs.zoo.detection.action_localizer import ActionLocalizer
from dimofs.zoo.presets import action_mobile
from dimofs.zoo.recognition.pairs import DELTA, Pairing
from dimofs.zoo.training.actions import start
from dimofs.zoo.training.data import JhmdbClips, JhmdbLabels, need
from dimofs.zoo.training.initialize import variant_of


@dataclass(frozen=True, kw_only=True)
class ClipOptions:
    """Commands with the same values find what each other measured."""

    root: Annotated[Path | None, "folder of Diving48, or any other of labelled clips"] = None
    clips: Annotated[Path | None, "folder that holds a folder of videos for each class"] = None
    jhmdb: JhmdbClips = None
    jhmdb_labels: JhmdbLabels = None
    split: Annotated[int, "which of JHMDB's splits", Range(1, 3)] = 1
    weights: Annotated[str, "the pose detector that measures"] = "dimofs_mobile_v2"
    every: Annotated[int, "Frame A is one of every N-th frame", Range(1)] = 1
    delta: Annotated[int, "frames from A to B", Range(1, 1000)] = DELTA
    cells: Annotated[int, "side of the pooled grid of each stream", Range(1, 7)] = 5
    cache: Annotated[Path, "folder of what was computed; safe to delete"] = Path("runs/features")

    @property
    def pairing(self) -> Pairing:
        """The pairs of every clip."""
        return Pairing(every=self.every, delta=self.delta)

    def read(self) -> ClipSet:
        """The clips. InputError: none are named, or those of two data sets, or they cannot be read."""
        given = {
            "--root": self.root is not None,
            "--clips": self.clips is not None,
            "--jhmdb": self.jhmdb is not None or self.jhmdb_labels is not None or self.split != 1,
        }
        named = [name for name, is_given in given.items() if is_given]
        if not named:
            raise InputError("no data: give --root, --clips, or --jhmdb and --jhmdb-labels")
        if len(named) > 1:
            raise InputError(f"{named[0]} and {named[1]} exclude each other: each is data of its own; leave one out")
        if self.root is not None:
            return open_clip_set(self.root)
        if self.clips is not None:
            return class_folders(self.clips)
        clips = need(self.jhmdb, "--jhmdb", "--jhmdb-labels or --split")
        return jhmdb_clips(clips, need(self.jhmdb_labels, "--jhmdb-labels", "--jhmdb"), self.split)

    def model(self) -> ActionLocalizer:
        """The detector. InputError: there are no such weights."""
        return measuring_model(self.weights, self.cells)


def measuring_model(weights: str, cells: int) -> ActionLocalizer:
    """A localizer on the parts of a pose detector, whose head is not used. InputError: there are no such weights."""
    model = action_mobile(["any"], cells=cells, variant=variant_of(weights) or "paper").eval()
    start(model, weights)
    return model
