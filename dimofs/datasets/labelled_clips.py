"""Videos with one class each: the data type, folders of classes, and JHMDB's splits. Diving48 is in `diving48`.

Nothing is left out silently: a `ClipSet` keeps the clips that are listed and absent, and reading a clip tells what was
wrong with it. `summary` counts such `ClipFault`s.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np

from dimofs.cli import InputError
from dimofs.datasets.jhmdb import read_split
from dimofs.sources import VIDEOS, printable, video_source
from dimofs.video import Clip, Frame, open_clip

Part = Literal["train", "test"]
PARTS: tuple[Part, ...] = ("train", "test")
# Names that a folder of training or test clips may have.
PART_FOLDERS: dict[str, Part] = {"train": "train", "training": "train", "test": "test", "val": "test"}
TEST_SHARE = 0.25


@dataclass(frozen=True, kw_only=True)
class LabelledClip:
    """A video, or its frames start <= number < end, that shows one class.

    name: unique within its set, printable, relative to the folder of videos and without suffix. label: the number of
    the class.
    end: None for the video's end.
    """

    name: str
    path: Path
    label: int
    part: Part
    start: int = 0
    end: int | None = None


@dataclass(frozen=True)
class ClipFault:
    """What is wrong with a clip.

    kind: "missing" there is no such file; "short" it has fewer frames than its list says or than were asked for;
    "damaged" it does not decode, or not to its end. used: whether the frames that it has were used.
    """

    name: str
    kind: Literal["missing", "short", "damaged"]
    reason: str
    used: bool


@dataclass(frozen=True, kw_only=True)
class ClipSet:
    """Labelled clips of one data set.

    title: for tables. classes: the names of all classes, by label; some may have no clip. clips: those whose files are
    there. missing: a fault for each listed clip whose file is not.
    """

    title: str
    classes: Sequence[str]
    clips: Sequence[LabelledClip]
    missing: Sequence[ClipFault] = ()

    def part(self, part: Part) -> list[LabelledClip]:
        """The clips to train or to test on."""
        return [clip for clip in self.clips if clip.part == part]

    def counts(self, part: Part) -> np.ndarray:
        """[classes], the number of clips of each class in a part."""
        return np.bincount([clip.label for clip in self.part(part)], minlength=len(self.classes))

    def empty(self) -> list[int]:
        """The labels that no clip of either part has."""
        return np.flatnonzero(self.counts("train") + self.counts("test") == 0).tolist()

    def described(self) -> str:
        """One line: how many clips and classes there are, and what is missing."""
        counts = " and ".join(f"{len(self.part(part))} {part} clips" for part in PARTS)
        without = f", {len(self.empty())} of them without a clip" if self.empty() else ""
        absent = f"; {summary(self.missing)}" if self.missing else ""
        return f"{self.title}: {counts} of {len(self.classes)} classes{without}{absent}"


class ClipReader:
    """The frames of a labelled clip, read once and in order, and afterwards what was wrong with it.

    least: a clip of fewer frames is short, and not used.
    fault: None, or after the last frame what was wrong. A clip that ends early is used as far as it decodes.
    """

    def __init__(self, clip: LabelledClip, least: int = 1):
        self.clip, self.least = clip, least
        self.frames = 0
        self.fault: ClipFault | None = None

    def __iter__(self) -> Iterator[Frame]:
        """Frames whose numbers count from the video's start. Raises nothing: see `fault`."""
        if not self.clip.path.is_file():
            self.fault = missing(self.clip.name, self.clip.path)
            return
        complaint = ""
        try:
            with closing(open_clip(video_source(self.clip.path))) as opened:
                yield from self._wanted(opened)
                complaint = opened.complaint
        except InputError as error:
            complaint = str(error)
        self.fault = self._judged(complaint)

    def _wanted(self, opened: Clip) -> Iterator[Frame]:
        with closing(opened.frames()) as frames:
            # The video is read on to its end, where its complaint is known, only if no end is given.
            for frame in islice(frames, self.clip.start, self.clip.end):
                self.frames += 1
                yield frame

    def _judged(self, complaint: str) -> ClipFault | None:
        used = self.frames >= self.least
        listed = None if self.clip.end is None else self.clip.end - self.clip.start
        if complaint:
            return ClipFault(self.clip.name, "damaged", complaint, used)
        if listed is not None and self.frames < listed:
            reason = f"{printable(self.clip.path)}: has {self.frames} of the {listed} frames that its list names"
            return ClipFault(self.clip.name, "short", reason, used)
        if not used:
            reason = f"{printable(self.clip.path)}: has {self.frames} frames, {self.least} are needed"
            return ClipFault(self.clip.name, "short", reason, used)
        return None


def missing(name: str, path: Path) -> ClipFault:
    """The fault of a clip whose file is not there."""
    return ClipFault(name, "missing", f"{printable(path)}: no such file", used=False)


def check_classes(title: str, clips: Iterable[LabelledClip]) -> None:
    """InputError: what is trained on is not of two classes at least."""
    if len({clip.label for clip in clips}) < 2:
        raise InputError(f"{title}: trains on one class; give clips of two at least")


def fault_of(clip: LabelledClip, least: int = 1) -> ClipFault | None:
    """What is wrong with a clip, which is read for it; see `ClipReader`."""
    reader = ClipReader(clip, least)
    deque(reader, maxlen=0)
    return reader.fault


def summary(faults: Iterable[ClipFault]) -> str:
    """One line that counts the faults: "3 missing, 1 short (used), 2 damaged"; "no clip at fault" without any."""
    counted = Counter((fault.kind, fault.used) for fault in faults)
    parts = [f"{count} {kind}{' (used)' if used else ''}" for (kind, used), count in sorted(counted.items())]
    return ", ".join(parts) or "no clip at fault"


def class_folders(root: str | Path, *, test_share: float = TEST_SHARE, seed: int = 0) -> ClipSet:
    """The videos <class>/<name> of a folder, classes in alphabetical order.

    With train/<class>/<name> and test/<class>/<name> (or val) each part is as it lies there. Without them, of each
    class the share `test_share` is drawn at random for testing, at least one clip of two or more. Clips that are cut
    from one recording may then come into both parts; make the two folders where that matters.
    InputError: the folder holds no such videos, only one part, or two folders of one part.
    """
    root = Path(root)
    parts = _part_folders(root)
    clips = _parted(parts) if parts else _drawn(_videos_by_class(root), test_share, seed)
    if not clips:
        raise InputError(f"{root}: holds no videos in folders of classes; give a folder of <class>/<video>")
    for part in PARTS:
        if parts and part not in parts:
            raise InputError(f"{root}: has a folder for clips of one part only; add the folder {part}")
    classes = sorted({name for name, _, _ in clips})
    numbers = {name: number for number, name in enumerate(classes)}
    labelled = [
        LabelledClip(name=_name(root, path), path=path, label=numbers[name], part=part) for name, path, part in clips
    ]
    titles = [printable(name) for name in (root.resolve().name, *classes)]
    return ClipSet(title=titles[0], classes=titles[1:], clips=_unique(root, labelled))


def jhmdb_clips(clips: str | Path, labels: str | Path, split: int = 1) -> ClipSet:
    """JHMDB's clips <class>/<clip>.avi in the parts of an official split, whose lists are in LABELS/splits.

    InputError: there are no lists, or one is malformed.
    """
    names = {part: read_split(Path(labels) / "splits", split, part) for part in PARTS}
    classes = sorted({name.partition("/")[0] for part in PARTS for name in names[part]})
    numbers = {name: number for number, name in enumerate(classes)}
    listed = [
        LabelledClip(name=name, path=Path(clips) / f"{name}.avi", label=numbers[name.partition("/")[0]], part=part)
        for part in PARTS
        for name in names[part]
    ]
    return present(ClipSet(title=f"JHMDB, split {split}", classes=classes, clips=listed))


def present(listed: ClipSet) -> ClipSet:
    """The set with the clips whose files are there, and a fault for each other one.

    InputError: no file is there.
    """
    folders = {folder: set(_names(folder)) for folder in {clip.path.parent for clip in listed.clips}}
    there = [clip for clip in listed.clips if clip.path.name in folders[clip.path.parent]]
    if not there and listed.clips:
        raise InputError(f"{listed.clips[0].path.parent}: holds none of the {len(listed.clips)} videos that are listed")
    absent = [clip for clip in listed.clips if clip.path.name not in folders[clip.path.parent]]
    faults = [missing(clip.name, clip.path) for clip in absent]
    return ClipSet(title=listed.title, classes=listed.classes, clips=there, missing=[*listed.missing, *faults])


def _part_folders(root: Path) -> dict[Part, Path]:
    """The folder of each part, if there are any. InputError: there are two of one part."""
    found: dict[Part, Path] = {}
    for name in _folders(root):
        part = PART_FOLDERS.get(name.lower())
        if part in found:
            both = f"{found[part].name} and {name}"
            raise InputError(f"{root}: {both} both hold clips to {part}; move one of these folders elsewhere")
        if part is not None:
            found[part] = root / name
    return found


def _parted(parts: dict[Part, Path]) -> list[tuple[str, Path, Part]]:
    """(class, video, part) of the folders of each part."""
    found: list[tuple[str, Path, Part]] = []
    for part, folder in parts.items():
        for name, paths in _videos_by_class(folder).items():
            found.extend((name, path, part) for path in paths)
    return found


def _drawn(videos: dict[str, list[Path]], test_share: float, seed: int) -> list[tuple[str, Path, Part]]:
    """(class, video, part) with parts drawn at random, class by class."""
    found: list[tuple[str, Path, Part]] = []
    for number, (name, paths) in enumerate(videos.items()):
        tests = min(len(paths) - 1, max(1, round(test_share * len(paths))))
        order = np.random.default_rng((seed, number)).permutation(len(paths))
        tested = set(order[: max(tests, 0)].tolist())
        for place, path in enumerate(paths):
            part: Part = "test" if place in tested else "train"
            found.append((name, path, part))
    return found


def _videos_by_class(folder: Path) -> dict[str, list[Path]]:
    """The videos in each folder within `folder`, by the folder's name; both in alphabetical order."""
    found = {
        name: [folder / name / video for video in _names(folder / name) if Path(video).suffix.lower() in VIDEOS]
        for name in _folders(folder)
    }
    return {name: paths for name, paths in found.items() if paths}


def _folders(folder: Path) -> list[str]:
    return [name for name in _names(folder) if (folder / name).is_dir()]


def _names(folder: Path) -> list[str]:
    """The names in a folder, sorted; none if it is absent. InputError: it cannot be read."""
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror})") from error


def _name(root: Path, path: Path) -> str:
    return printable(path.relative_to(root).with_suffix("").as_posix())


def _unique(root: Path, clips: list[LabelledClip]) -> list[LabelledClip]:
    """The clips. InputError: two have one name."""
    counted = Counter(clip.name for clip in clips)
    name, most = counted.most_common(1)[0]
    if most > 1:
        raise InputError(f"{root}: two videos are called {name}; rename one")
    return clips
