"""The data sets that the training and labelling commands read, from the paths given on their command lines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from dimofs.cli import InputError
from dimofs.datasets import teacher
from dimofs.datasets.coco import CocoKeypoints
from dimofs.datasets.jhmdb import Jhmdb
from dimofs.datasets.lspet import Lspet
from dimofs.datasets.people import PairSource
from dimofs.datasets.posetrack import PoseTrack
from dimofs.datasets.synthetic.clips import HELD_OUT, Synthetic
from dimofs.datasets.videos import Videos

JhmdbClips = Annotated[str | None, "JHMDB: folder of <class>/<clip>.avi"]
JhmdbLabels = Annotated[str | None, "JHMDB: folder of splits, joints and masks (see dimofs.datasets.jhmdb)"]
Coco = Annotated[str | None, "COCO keypoints: the annotation file"]
CocoImages = Annotated[str | None, "COCO keypoints: the folder of images"]
LspetFolder = Annotated[str | None, "LSPET: the folder that holds joints.mat and images/"]
PoseTrackRoot = Annotated[str | None, "PoseTrack17 or 18: the folder of annotations/train/*.json and the images"]
VideoFolder = Annotated[str | None, "a folder of videos, whose people a teacher labels"]
Every = Annotated[int, "JHMDB and videos: one frame in so many is a Frame A, as the teacher labelled them"]


# The number of synthetic clips to train on where no data set is given.
SYNTHETIC_CLIPS = 10_000
INCOMPLETE = {"jhmdb", "lspet"}  # where people in the pictures have no labels


@dataclass(frozen=True)
class Paths:
    """Where the data sets lie; those not given are not used. synthetic: a number of clips."""

    jhmdb: str | None = None
    jhmdb_labels: str | None = None
    coco: str | None = None
    coco_images: str | None = None
    lspet: str | None = None
    posetrack: str | None = None
    videos: str | None = None
    synthetic: int = 0

    def or_synthetic(self, clips: int) -> Paths:
        """The same, or so many synthetic clips where no data set is given."""
        return self if self != Paths() else replace(self, synthetic=clips)

    def sources(self, *, every: int) -> dict[str, PairSource]:
        """The data sets given, by name; of JHMDB (training part of split 1) and videos every `every`-th frame is a
        Frame A."""
        found: dict[str, PairSource] = {}
        if self.jhmdb or self.jhmdb_labels:
            clips = need(self.jhmdb, "--jhmdb", "--jhmdb-labels")
            found["jhmdb"] = Jhmdb(clips, need(self.jhmdb_labels, "--jhmdb-labels", "--jhmdb"), every=every)
        if self.coco or self.coco_images:
            file = need(self.coco, "--coco", "--coco-images")
            found["coco"] = CocoKeypoints(file, need(self.coco_images, "--coco-images", "--coco"))
        if self.lspet:
            folder = Path(self.lspet)
            found["lspet"] = Lspet(folder / "joints.mat", folder / "images")
        if self.posetrack:
            found["posetrack"] = PoseTrack(self.posetrack)
        if self.videos:
            found["videos"] = Videos(self.videos, every=every)
        if self.synthetic:
            found["synthetic"] = Synthetic(self.synthetic)
        if not found:
            raise InputError(
                "no data: give --jhmdb and --jhmdb-labels, --coco and --coco-images, --lspet, --posetrack or --videos"
            )
        return found

    def held_out(self) -> dict[str, PairSource]:
        """What training does not see, to validate on: JHMDB's test part where it is given, else synthetic clips."""
        if self.jhmdb:
            labels = need(self.jhmdb_labels, "--jhmdb-labels", "--jhmdb")
            return {"jhmdb": Jhmdb(self.jhmdb, labels, part="test")}
        return {"synthetic": Synthetic(1000, seed=HELD_OUT)}


def taught(sources: dict[str, PairSource], labels: str | Path | None) -> dict[str, PairSource]:
    """Each source merged with the teacher's `labels`/<name>.npz, where that file exists.

    InputError: videos have no such file, and nobody would be labelled in them.
    """
    merged = dict(sources)
    noisy, complete = {"jhmdb", "lspet"}, {"coco", "posetrack"}
    for name, source in sources.items():
        file = Path(labels or "") / f"{name}.npz"
        if labels and file.exists():
            merged[name] = teacher.Taught(source, teacher.load(file), noisy=name in noisy, complete=name in complete)
        elif name == "videos":
            where = f"{labels}/videos.npz: absent" if labels else "--videos needs --teacher beside it"
            raise InputError(f"{where}; make the labels with: python -m dimofs.zoo.label --videos DIR --out LABELS")
    return merged


def unlabelled(sources: Mapping[str, PairSource]) -> list[str]:
    """The data sets among `sources` in which people without labels count as background, as no teacher has seen them."""
    return [name for name, source in sources.items() if name in INCOMPLETE and not isinstance(source, teacher.Taught)]


def mixed(defaults: Mapping[str, float], entries: Sequence[str], names: Sequence[str]) -> dict[str, float]:
    """The weight of each data set of `names`: those of `entries`, "<name>=<weight>", else the default.

    InputError: an entry names no data set in use, its weight is no number from 0, or all weights are 0.
    """
    weights = {name: weight for name, weight in defaults.items() if name in names}
    for entry in entries:
        name, _, text = entry.partition("=")
        if name not in names:
            raise InputError(f"--mix {entry}: {name!r} is no data set in use ({', '.join(names)}); write NAME=WEIGHT")
        weights[name] = _weight(entry, text)
    if not sum(weights.values()):
        raise InputError("--mix: every weight is 0; give one data set more")
    return {name: weights[name] for name in names}


def _weight(entry: str, text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = -1.0
    if not 0 <= weight < math.inf:
        raise InputError(f"--mix {entry}: the weight must be a number from 0; write NAME=WEIGHT")
    return weight


def need(value: str | None, option: str, other: str) -> str:
    """The `value` of an `option` that belongs to the `other` one that is given. InputError: it is None."""
    if value is None:
        raise InputError(f"{other} needs {option} beside it")
    return value
