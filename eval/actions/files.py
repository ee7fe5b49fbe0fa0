"""Labels and detections of actions as JSON files.

    labels      {"classes": ["wave", ...], "gt": [{"video": "wave/clip", "frame": 1,
                    "boxes": [{"label": 0, "box": [x1, y1, x2, y2]}]}, ...]}
    detections  [{"video": "wave/clip", "frame": 1, "label": 0, "score": 0.9, "box": [x1, y1, x2, y2]}, ...]

Every labelled frame has an entry, those without anybody too. A label may be the name of its class or its number. Labels
may have "track", which tells several actors of a clip apart, and the file "width" and "height" of all frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dimofs.cli import InputError
from dimofs.eval.actions.frame_map import MOST_CLASSES, LabelledBoxes
from dimofs.files import read_json, write_json


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Labels: the classes, each labelled frame (video, number) in order, its boxes and the track of each box.

    size: (width, height) of every frame, None where it is not known.
    """

    classes: Sequence[str]
    frames: Sequence[tuple[str, int]]
    boxes: LabelledBoxes
    tracks: np.ndarray
    size: tuple[float, float] | None = None


def read_truth(path: Path) -> Truth:
    """A file of labels. InputError, naming the field: it is malformed."""
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("gt"), list):
        raise InputError(f"{path}: is not an object with a list 'gt'; eval.jhmdb --help shows the format")
    classes = _classes(content.get("classes"), path)
    frames: dict[tuple[str, int], int] = {}
    rows, tracks, actors = [], [], set()
    for number, entry in enumerate(content["gt"]):
        where = f"{path}: gt[{number}]"
        frame = _frame(entry, where)
        if frame in frames:
            raise InputError(f"{where}: frame {frame[1]} of {frame[0]!r} has an entry already; join the two")
        frames[frame] = len(frames)
        if not isinstance(entry.get("boxes"), list):
            raise InputError(f"{where}: field 'boxes' is not a list; give [] for a frame without anybody")
        for place, item in enumerate(entry["boxes"]):
            here = f"{where}: boxes[{place}]"
            rows.append((frames[frame], *_label_and_box(item, classes, here)))
            tracks.append(_track(item, place, here))
            actor = (frames[frame], rows[-1][1], tracks[-1])
            if actor in actors:
                raise InputError(
                    f"{here}: 'track' {tracks[-1]} has a box of this class and frame already; give another"
                )
            actors.add(actor)
    if not rows:
        raise InputError(f"{path}: labels no box; there is nothing to find")
    size = _size(content, path)
    boxes = _table(rows, np.ones(len(rows)))
    _check_boxes(boxes.boxes, size, lambda row: f"{path}: {_place(list(frames), boxes, row)}")
    return Truth(classes=classes, frames=list(frames), boxes=boxes, tracks=np.array(tracks), size=size)


def read_found(path: Path, truth: Truth) -> tuple[LabelledBoxes, list[str]]:
    """A file of detections in the frames of `truth`, and notes about what was left out or is missing.

    Detections in other frames of labelled clips are left out. InputError, naming the field: the file is malformed, or a
    detection is in a clip that is not labelled.
    """
    content = read_json(path)
    if not isinstance(content, list):
        raise InputError(f"{path}: is not a list of detections; eval.jhmdb --help shows the format")
    number_of, videos = {frame: i for i, frame in enumerate(truth.frames)}, {video for video, _ in truth.frames}
    rows, scores, seen, outside = [], [], set(), 0
    for number, item in enumerate(content):
        where = f"{path}: detection {number}"
        video, frame = _frame(item, where)
        if video not in videos:
            raise InputError(f"{where}: its 'video' {video[:80]!r} is not labelled; give the labels that belong to it")
        seen.add(video)
        label, *box = _label_and_box(item, truth.classes, where)
        scores.append(_number(item.get("score"), f"{where}: field 'score'"))
        rows.append((number_of.get((video, frame), -1), label, *box))
        outside += rows[-1][0] < 0
    found = _table(rows, np.array(scores, float))
    _check_boxes(found.boxes, truth.size, lambda row: f"{path}: detection {row}")
    notes = [f"{path}: {outside} detections are in frames without labels and left out"] if outside else []
    if missing := sorted(videos - seen):
        notes.append(f"{path}: has no detection in {len(missing)} of {len(videos)} clips, such as {missing[0]}")
    return found[found.frames >= 0], notes


def _place(frames: Sequence[tuple[str, int]], boxes: LabelledBoxes, row: int) -> str:
    video, number = frames[boxes.frames[row]]
    return f"a box of frame {number} of {video!r}"


def _table(rows: Sequence[tuple], scores: np.ndarray) -> LabelledBoxes:
    """Rows of (frame, label, x1, y1, x2, y2) as arrays."""
    values = np.array(rows, float).reshape(-1, 6)
    frames, labels = values[:, 0].astype(np.int64), values[:, 1].astype(np.int64)
    return LabelledBoxes(frames=frames, labels=labels, boxes=values[:, 2:], scores=scores)


def _frame(entry: Any, where: str) -> tuple[str, int]:
    """The clip and the number of an entry's frame."""
    if not isinstance(entry, dict):
        raise InputError(f"{where}: is not an object")
    video, frame = entry.get("video"), entry.get("frame")
    if not isinstance(video, str) or not video or not video.isprintable():
        raise InputError(f"{where}: field 'video' is not the name of a clip")
    if type(frame) is not int or not -(2**31) < frame < 2**31:
        raise InputError(f"{where}: field 'frame' is not a whole number, or too large")
    return video, frame


def _label_and_box(item: Any, classes: Sequence[str], where: str) -> tuple[int, float, float, float, float]:
    if not isinstance(item, dict):
        raise InputError(f"{where}: is not an object")
    label = item.get("label")
    if isinstance(label, str) and label in classes:
        label = classes.index(label)
    if type(label) is not int or not 0 <= label < len(classes):
        raise InputError(f"{where}: field 'label' is {str(label)[:60]!r}, none of the {len(classes)} classes")
    box = item.get("box")
    if not isinstance(box, list) or len(box) != 4:
        raise InputError(f"{where}: field 'box' is not [x1, y1, x2, y2]")
    x1, y1, x2, y2 = (_number(value, f"{where}: field 'box'") for value in box)
    return label, x1, y1, x2, y2


def _number(value: Any, where: str) -> float:
    if type(value) not in (int, float) or not abs(value) < 1e9:
        raise InputError(f"{where} is {repr(value)[:60]}, not a number below 1e9")
    return value


def _track(item: dict, place: int, where: str) -> int:
    """The actor of a label; without 'track' the first box of each frame is one actor, the second another, and so on."""
    track = item.get("track", place)
    if type(track) is not int or not -(2**31) < track < 2**31:
        raise InputError(f"{where}: field 'track' is not a whole number")
    return track


def _size(content: dict, path: Path) -> tuple[float, float] | None:
    if content.get("width") is None and content.get("height") is None:
        return None
    for name in ("width", "height"):
        if _number(content.get(name), f"{path}: field {name!r}") <= 0:
            raise InputError(f"{path}: field {name!r} is not positive")
    return content["width"], content["height"]


def _check_boxes(boxes: np.ndarray, size: tuple[float, float] | None, where: Callable[[int], str]) -> None:
    """InputError: a box ends before it begins, or lies outside its frame."""
    wrong = (boxes[:, 2:] < boxes[:, :2]).any(1)
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(f"{where(row)}: box {boxes[row].tolist()} ends before it begins; write [x1, y1, x2, y2]")
    outside = (boxes[:, 2:] < 0).any(1)
    if size is not None:
        outside |= (boxes[:, :2] > np.array(size)).any(1)
    if outside.any():
        row = int(outside.argmax())
        raise InputError(f"{where(row)}: box {boxes[row].tolist()} lies outside the frame; boxes are in its pixels")


def _classes(value: Any, path: Path) -> list[str]:
    names = value if isinstance(value, list) else []
    good = all(isinstance(name, str) and name and name.isprintable() for name in names)
    if not (good and 0 < len(names) <= MOST_CLASSES and len(set(names)) == len(names)):
        raise InputError(f"{path}: field 'classes' is not a list of up to {MOST_CLASSES} different, printable names")
    return names


def write_found(path: Path, truth: Truth, found: LabelledBoxes) -> None:
    """Write detections as `read_found` reads them. InputError: the file cannot be written."""
    rows = zip(found.frames.tolist(), found.labels.tolist(), found.scores.tolist(), found.boxes.tolist(), strict=True)
    entries = [
        {"video": truth.frames[f][0], "frame": truth.frames[f][1], "label": label, "score": score, "box": box}
        for f, label, score, box in rows
    ]
    write_json(path, entries)
