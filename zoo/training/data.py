"""The data sets that training, labelling and calibration read, from the paths given on their command lines."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Annotated, TypeVar
from zlib import crc32

import numpy as np
from torch import Tensor

from dimofs.cli import InputError, Range
from dimofs.datasets import teacher
from dimofs.datasets.coco import CocoKeypoints
from dimofs.datasets.jhmdb import Jhmdb
from dimofs.datasets.lspet import Lspet
from dimofs.datasets.people import Pair, PairSource
from dimofs.datasets.posetrack import PoseTrack
from dimofs.datasets.synthetic.clips import HELD_OUT, Synthetic
from dimofs.datasets.videos import Videos
from dimofs.skeletons import PEOPLE, Skeleton

# The number of synthetic clips to train on where no data set is given.
SYNTHETIC_CLIPS = 10_000
# Data sets that leave some of the visible people unlabelled; and those whose joints a sure teacher may overrule.
INCOMPLETE = NOISY = {"jhmdb", "lspet"}
# Data sets that label every person, so that a teacher adds joints only.
COMPLETE = {"coco", "posetrack"}

# The share of the images of an own category that is held out unless told otherwise.
OWN_SHARE = 0.2

T = TypeVar("T")

JhmdbClips = Annotated[str | None, "JHMDB: folder of <class>/<clip>.avi"]
JhmdbLabels = Annotated[str | None, "JHMDB: folder of splits, joints and masks (see dimofs.datasets.jhmdb)"]
Every = Annotated[int, "JHMDB and videos: use every N-th frame as Frame A; use one value for label and train", Range(1)]
Teacher = Annotated[str | None, "folder of labels written by python -m dimofs.zoo.label"]


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Where the data sets are; those not given are not used. These are the options of every command that reads them."""

    jhmdb: JhmdbClips = None
    jhmdb_labels: JhmdbLabels = None
    coco: Annotated[list[str] | None, "COCO keypoints: annotation files, also of CVAT, Label Studio, YOLO-pose"] = None
    coco_images: Annotated[list[str] | None, "COCO keypoints: the folder of images of each annotation file"] = None
    coco_empty: Annotated[bool, "COCO keypoints: also use images that show no people"] = False
    category: Annotated[str | None, "COCO keypoints: what to find (default: person, or the only one with joints)"] = (
        None
    )
    lspet: Annotated[str | None, "LSPET: the folder that holds joints.mat and images/"] = None
    posetrack: Annotated[str | None, "PoseTrack17 or 18: folder of annotations/train/*.json and the images"] = None
    videos: Annotated[str | None, "a folder of videos, whose people a teacher labels"] = None
    synthetic: Annotated[int, "number of synthetic clips, which need no files", Range(0, HELD_OUT)] = 0
    every: Every = 5

    def or_synthetic(self, clips: int) -> Paths:
        """The same, with `clips` synthetic clips if no data set is given."""
        nothing = Paths(every=self.every)
        return replace(self, synthetic=clips) if self == nothing else self

    def sources(self) -> dict[str, PairSource]:
        """The data sets given, by name; of JHMDB the training part of split 1. InputError: none is given, or a path
        lacks the one that belongs to it."""
        found: dict[str, PairSource] = {}
        if self.jhmdb or self.jhmdb_labels:
            clips = need(self.jhmdb, "--jhmdb", "--jhmdb-labels")
            found["jhmdb"] = Jhmdb(clips, need(self.jhmdb_labels, "--jhmdb-labels", "--jhmdb"), every=self.every)
        if self.coco or self.coco_images or self.coco_empty:
            needed_by = "--coco-images" if self.coco_images else "--coco-empty"
            found["coco"] = self.keypoints(need(self.coco, "--coco", needed_by), self.coco_images)
        if self.lspet:
            folder = Path(self.lspet)
            found["lspet"] = Lspet(folder / "joints.mat", folder / "images")
        if self.posetrack:
            found["posetrack"] = PoseTrack(self.posetrack)
        if self.videos:
            found["videos"] = Videos(self.videos, every=self.every)
        if self.synthetic:
            found["synthetic"] = Synthetic(self.synthetic)
        if not found:
            raise InputError(
                "no data: give --jhmdb and --jhmdb-labels, --coco and --coco-images, --lspet, --posetrack or --videos"
            )
        return found

    def keypoints(
        self, files: Sequence[str], folders: Sequence[str] | None, names: tuple[str, str] = ("--coco", "--coco-images")
    ) -> PairSource:
        """The COCO keypoint `files` with the folder of images of each, given by the options `names`.

        InputError: there are not as many folders, a file is malformed, or an image is absent.
        """
        folders = need(folders, names[1], names[0])
        if len(files) != len(folders):
            counts = f"{len(files)} annotation files but {names[1]} {len(folders)} folders"
            raise InputError(f"{names[0]} has {counts}; give one folder for each file, in the same order")
        parts = []
        for file, images in zip(files, folders, strict=True):
            parts.append(CocoKeypoints(file, images, empty=self.coco_empty, category=self.category))
            parts[-1].check_images()
        return joined(parts, names[0])

    def held_out(self) -> dict[str, PairSource]:
        """What training does not see, to validate on: JHMDB's test part if it is given, else synthetic clips."""
        if self.jhmdb:
            labels = need(self.jhmdb_labels, "--jhmdb-labels", "--jhmdb")
            return {"jhmdb": Jhmdb(self.jhmdb, labels, part="test")}
        return {"synthetic": Synthetic(1000, seed=HELD_OUT)}


@dataclass(frozen=True, kw_only=True)
class HeldOutPaths:
    """What is held out of training, to validate on."""

    validate_coco: Annotated[list[str] | None, "COCO keypoint files to validate on"] = None
    validate_images: Annotated[list[str] | None, "the folder of images of each of these files"] = None
    hold_out: Annotated[float | None, "share of the --coco images that is validated on instead", Range(0, 0.9)] = None

    def split(
        self, paths: Paths, sources: Mapping[str, PairSource]
    ) -> tuple[dict[str, PairSource], dict[str, PairSource]]:
        """The sources to train on, of those of `paths`, and those to validate on.

        Without options own categories hold out a fifth of their images, and people are validated on as
        `Paths.held_out` says. InputError: an option lacks the one that belongs to it, both ways to hold images out are
        given, or the files to validate on label other joints.
        """
        if self.validate_coco or self.validate_images:
            names = ("--validate-coco", "--validate-images")
            if self.hold_out:
                raise InputError("--hold-out: --validate-coco says what to validate on; leave one of the two out")
            held = paths.keypoints(need(self.validate_coco, *names), self.validate_images, names)
            skeleton_of({**sources, "--validate-coco": held})
            return dict(sources), {"coco": held}
        own = skeleton_of(sources) != PEOPLE
        share = self.hold_out if self.hold_out is not None else OWN_SHARE if own else 0.0
        if not share:
            return dict(sources), paths.held_out()
        if "coco" not in sources:
            raise InputError("--hold-out: is a share of the images of --coco; give that too")
        train, validate = held_apart(sources["coco"], share)
        return {**sources, "coco": train}, {"coco": validate}


class Part:
    """Those items of a source whose numbers are given."""

    def __init__(self, source: PairSource, numbers: Sequence[int]):
        self.source, self.numbers = source, numbers
        self.skeleton = getattr(source, "skeleton", PEOPLE)

    def __len__(self) -> int:
        return len(self.numbers)

    def pair(self, index: int, random: np.random.Generator) -> Pair:
        """The pair of item `index` among those."""
        return self.source.pair(self.numbers[index], random)

    def frames(self) -> Iterator[tuple[str, Tensor]]:
        """Of images each one's frame."""
        nothing = np.random.default_rng(0)
        for number in self.numbers:
            pair = self.source.pair(number, nothing)
            yield pair.name, pair.frame_a


def held_apart(source: PairSource, share: float) -> tuple[Part, Part]:
    """Two parts of the images of a source, the second with about this share of them.

    A checksum of its number decides for each image, so that the same images are held out again. InputError: there are
    fewer than two.
    """
    if len(source) < 2:
        raise InputError("--coco: has one image; label more, so that some can be held out")
    order = sorted(range(len(source)), key=lambda number: crc32(str(number).encode()))
    count = min(max(round(share * len(source)), 1), len(source) - 1)
    return Part(source, sorted(order[count:])), Part(source, sorted(order[:count]))


def skeleton_of(sources: Mapping[str, PairSource]) -> Skeleton:
    """The skeleton that all sources label. InputError: they label several."""
    found = {name: getattr(source, "skeleton", PEOPLE) for name, source in sources.items()}
    first, *others = found
    for other in others:
        if found[other] != found[first]:
            kinds = f"{first} labels {found[first].name}, {other} {found[other].name}"
            raise InputError(f"{kinds}, with other joints; train a model for each")
    return found[first]


def joined(parts: Sequence[PairSource], option: str = "--coco") -> PairSource:
    """The parts, files of an `option`, as one source. InputError: they label different skeletons."""
    skeleton_of({f"{option} file {number}": part for number, part in enumerate(parts, 1)})
    return parts[0] if len(parts) == 1 else Concatenation(parts)


class Concatenation:
    """Several sources as one. Names of frames begin with the number of their source, counted from 1."""

    def __init__(self, parts: Sequence[PairSource]):
        self.parts = parts
        self.skeleton = getattr(parts[0], "skeleton", PEOPLE)
        self.ends = list(accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self.ends[-1]

    def pair(self, index: int, random: np.random.Generator) -> Pair:
        """The pair of item `index`, counted through all sources."""
        number = bisect_right(self.ends, index)
        start = self.ends[number] - len(self.parts[number])
        pair = self.parts[number].pair(index - start, random)
        return replace(pair, name=f"{number + 1}/{pair.name}")

    def frames(self) -> Iterator[tuple[str, Tensor]]:
        """Those of all sources."""
        for number, part in enumerate(self.parts, 1):
            for name, frame in part.frames():
                yield f"{number}/{name}", frame


def taught(sources: Mapping[str, PairSource], labels: str | Path | None) -> dict[str, PairSource]:
    """Each source merged with the teacher's `labels`/<name>.npz, if that file exists.

    InputError: there is no folder `labels`, or it has labels of none of the sources, or not of videos, in which nobody
    would be labelled.
    """
    files = {name: Path(labels or "") / f"{name}.npz" for name in sources}
    if labels and not Path(labels).is_dir():
        raise InputError(f"--teacher {labels}: no such folder; make it with: python -m dimofs.zoo.label --out {labels}")
    used = {name for name, file in files.items() if labels and file.exists()}
    if "videos" in sources and "videos" not in used:
        where = f"{labels}/videos.npz: absent" if labels else "--videos needs --teacher beside it"
        raise InputError(f"{where}; make the labels with: python -m dimofs.zoo.label --videos DIR --out LABELS")
    if labels and not used:
        wanted = ", ".join(file.name for file in files.values())
        raise InputError(f"--teacher {labels}: holds no labels of the data sets given ({wanted}); label them first")
    kind = skeleton_of(sources)
    if used and kind != PEOPLE:
        raise InputError(f"--teacher {labels}: knows people, and the data sets label {kind.name}; leave it out")
    merged = dict(sources)
    for name in used:
        people, file = teacher.load(files[name]), str(files[name])
        merged[name] = teacher.Taught(sources[name], people, noisy=name in NOISY, complete=name in COMPLETE, file=file)
    return merged


def labels_in(source: PairSource) -> dict[str, Iterable[Tensor | np.ndarray]]:
    """The data set's own labels by image or video; none where they are made, or read clip by clip (JHMDB)."""
    if isinstance(source, Part | teacher.Taught):
        return labels_in(source.source)
    if isinstance(source, Concatenation):
        parts = enumerate(source.parts, 1)
        return {f"{number}/{name}": labels for number, part in parts for name, labels in labels_in(part).items()}
    if isinstance(source, CocoKeypoints):
        return {name: vars(people).values() for name, _, people in source.items}
    if isinstance(source, Lspet):
        return {"": (source.keypoints, source.labelled)}
    if isinstance(source, PoseTrack):
        return {v.name: (v.frame, v.box, v.head, v.person, v.joint, v.xy) for v in source.videos}
    return {}


def unlabelled(sources: Mapping[str, PairSource]) -> list[str]:
    """The data sets in which people without labels count as background, because no teacher has labelled them."""
    return [name for name, source in sources.items() if name in INCOMPLETE and not isinstance(source, teacher.Taught)]


def mixed(defaults: Mapping[str, float], entries: Sequence[str], names: Sequence[str]) -> dict[str, float]:
    """The weight of each data set of `names`: those of `entries`, "<name>=<weight>", else the default.

    InputError: an entry names no data set in use or one a second time, its weight is not a number of at least 0, or all
    weights are 0.
    """
    weights, given = {name: weight for name, weight in defaults.items() if name in names}, set[str]()
    for entry in entries:
        name, _, text = entry.partition("=")
        if name in given:
            raise InputError(f"--mix {entry}: {name} has another weight too; give one")
        given.add(name)
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
        weight = math.nan
    if not 0 <= weight <= 1e9:
        raise InputError(f"--mix {entry}: the weight must be a number of at least 0; write NAME=WEIGHT")
    return weight


def need(value: T | None, option: str, other: str) -> T:
    """The `value` of an `option` that belongs to the `other` one that is given. InputError: it is None."""
    if value is None:
        raise InputError(f"{other} needs {option} beside it")
    return value
