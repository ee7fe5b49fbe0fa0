"""Diving48: 48 kinds of dives in competitions, about 18,000 videos (Li, Li and Vasconcelos, ECCV 2018).

The root holds, itself or in a folder `annotations`, the official lists

    Diving48_V2_train.json, Diving48_V2_test.json     version 2: corrected labels, 15,027 and 1,970 videos
    Diving48_train.json, Diving48_test.json           version 1, which the paper uses: 15,943 and 2,096 videos
                                                      (also found as Diving48_V1_train.json)
    Diving48_vocab.json                               [48][takeoff, somersaults, twists, flight position]

of entries {"vid_name", "label" 0-47, "start_frame", "end_frame"}, and the videos vid_name.mp4, itself or in a folder
`videos` or `rgb`. Class 30, a straight forward dive, has no video in version 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from dimofs.cli import InputError
from dimofs.datasets.labelled_clips import PARTS, ClipSet, LabelledClip, Part, class_folders, jhmdb_clips, present
from dimofs.files import read_json

CLASSES = 48
VOCABULARY = "Diving48_vocab.json"
# The names of the lists of each version, the usual one first.
LISTS = {
    "V2": ("Diving48_V2_{}.json",),
    "V1": ("Diving48_V1_{}.json", "Diving48_{}.json"),
}
LIST_FOLDERS, VIDEO_FOLDERS = ("", "annotations"), ("videos", "rgb", "")
SUFFIX = ".mp4"

Version = Literal["V1", "V2"]


class Dive(NamedTuple):
    """A class of dives, as the vocabulary says it: ("Back", "15som", "05Twis", "FREE")."""

    takeoff: str
    somersaults: str
    twists: str
    position: str


def diving48_clips(root: str | Path, version: Version | None = None) -> ClipSet:
    """Diving48's videos and labels; by default version 2 where its lists are there, else version 1.

    Classes are called "Back 15som 05Twis FREE". Clips whose videos are not there are in `missing`.
    InputError: a list is absent or malformed, a video is listed twice, or none of the videos is there.
    """
    root = Path(root)
    found = version or next((v for v in LISTS if _list(root, v, "train")), None)
    if found is None:
        raise InputError(f"{root}: holds no Diving48_V2_train.json; fetch Diving48's lists")
    dives = read_vocabulary(_required(root, (VOCABULARY,)))
    clips = [clip for part in PARTS for clip in _read_list(root, found, part)]
    names = set()
    for clip in clips:
        if clip.name in names:
            raise InputError(f"{root}: {clip.name} is listed twice in Diving48 {found}; correct the lists")
        names.add(clip.name)
    return present(ClipSet(title=f"Diving48 {found}", classes=[" ".join(dive) for dive in dives], clips=clips))


def read_vocabulary(path: str | Path) -> list[Dive]:
    """The 48 classes by label. InputError: the file is absent or no list of 48 times four words."""
    content = read_json(path)
    whole = isinstance(content, list) and len(content) == CLASSES
    if not whole or not all(_are_words(entry) for entry in content):
        raise InputError(f"{path}: not {CLASSES} lists of four words; fetch it again")
    return [Dive(*entry) for entry in content]


def read_list(path: str | Path, videos: Path, part: Part) -> list[LabelledClip]:
    """The clips of one list. InputError: it is absent or malformed."""
    content = read_json(path)
    if not isinstance(content, list) or not content:
        raise InputError(f"{path}: not a list of videos; fetch it again")
    return [_clip(path, number, entry, videos, part) for number, entry in enumerate(content)]


def open_clip_set(root: str | Path, *, labels: str | Path | None = None, split: int = 1) -> ClipSet:
    """The labelled clips of a folder, whatever they are.

    Diving48 if its lists are there; JHMDB's official split if `labels` (which holds `splits`) is given; else folders of
    classes. InputError: it is none of these.
    """
    if labels is not None:
        return jhmdb_clips(root, labels, split)
    if any(_list(Path(root), version, "train") for version in LISTS):
        return diving48_clips(root)
    return class_folders(root)


def _read_list(root: Path, version: str, part: Part) -> list[LabelledClip]:
    path = _required(root, [name.format(part) for name in LISTS[version]])
    videos = next((root / name for name in VIDEO_FOLDERS if (root / name).is_dir()), root)
    return read_list(path, videos, part)


def _list(root: Path, version: str, part: str) -> Path | None:
    return next(_present(root, [name.format(part) for name in LISTS[version]]), None)


def _required(root: Path, names: tuple[str, ...] | list[str]) -> Path:
    path = next(_present(root, names), None)
    if path is None:
        raise InputError(f"{root}: holds no {' or '.join(names)}; fetch Diving48's lists")
    return path


def _present(root: Path, names: tuple[str, ...] | list[str]) -> Iterator[Path]:
    paths = (root / folder / name for folder in LIST_FOLDERS for name in names)
    return (path for path in paths if path.is_file())


def _clip(path: str | Path, number: int, entry: Any, videos: Path, part: Part) -> LabelledClip:
    if not isinstance(entry, Mapping):
        raise InputError(f"{path}: entry {number} is not an object; fetch it again")
    name, label = entry.get("vid_name"), entry.get("label")
    start, end = entry.get("start_frame"), entry.get("end_frame")
    if not isinstance(name, str) or not name or not name.isprintable() or any(letter in name for letter in "/\\"):
        raise InputError(f"{path}: entry {number}: vid_name {str(name)[:60]!r} is no name of a video; fetch it again")
    if type(label) is not int or not 0 <= label < CLASSES:
        raise InputError(f"{path}: {name}: label {str(label)[:60]} is not a number from 0 to {CLASSES - 1}")
    if type(start) is not int or type(end) is not int or not 0 <= start < end:
        shown = f"{str(start)[:60]} and {str(end)[:60]}"
        raise InputError(f"{path}: {name}: start_frame and end_frame are {shown}, not two ascending numbers from 0")
    return LabelledClip(name=name, path=videos / f"{name}{SUFFIX}", label=label, part=part, start=start, end=end)


def _are_words(entry: Any) -> bool:
    return isinstance(entry, list) and len(entry) == len(Dive._fields) and all(isinstance(word, str) for word in entry)
