"""Tracked poses written to files, frame by frame and in constant memory: JSON lines, CSV, PoseTrack18, COCO results.

Each writer is a context that gives a function `write(frame, people)`. The file takes its name when the context ends
without an error; until then it is a temporary one beside it. Scores of joints are confidences in [0, 1].

CONTENTS make of the poses of a whole video what a file of another format says, to the last digit.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from math import inf, isnan
from pathlib import Path, PurePath
from typing import Any
from zlib import crc32

import numpy as np
from torch import Tensor

from dimofs import skeletons
from dimofs.cli import InputError
from dimofs.detections import Detections
from dimofs.files import replacing
from dimofs.formats.posefiles import Poses
from dimofs.formats.posetrack import JOINTS, MOST_TRACKS, NO_SCORE
from dimofs.formats.posetrack import folder as posetrack_folder
from dimofs.video import IMAGE_RATE, Frame

Write = Callable[[Frame, Detections], None]
PIXEL_DIGITS, SCORE_DIGITS = 2, 6
MADE_BY = '{"info": {"description": "poses by dimofs"}'  # how a PoseTrack file of ours begins


@dataclass(frozen=True)
class About:
    """What a file says of itself: the source and its name, size (pixels) and rate, the model and how it ran."""

    source: str
    name: str
    width: int
    height: int
    fps: float
    keypoint_names: Sequence[str]
    model: str
    delta: int


@contextmanager
def jsonl(path: Path, about: About) -> Iterator[Write]:
    """A header, then a line per frame with `frame`, `time` and `people`; images add `file`, and a size that differs."""
    header = _header(about.source, (about.width, about.height), about.fps, about.keypoint_names)
    header |= {"model": about.model, "delta": about.delta}
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:

        def line(content: dict) -> None:
            print(json.dumps(content, ensure_ascii=False, allow_nan=False), file=file, flush=True)

        def write(frame: Frame, people: Detections) -> None:
            content: dict = {"frame": frame.index, "time": round(frame.time, 6)}
            if frame.file:
                content["file"] = frame.file.name
            height, width, _ = frame.pixels.shape
            if (width, height) != (about.width, about.height):
                content |= {"width": width, "height": height}
            line({**content, "people": _people(people)})

        line(header)
        yield write


def _header(source: str, size: Sequence[float | None], fps: float, names: Sequence[str]) -> dict:
    pixels = dict(zip(("width", "height"), size, strict=True))
    joints = {"keypoint_names": list(names), "skeleton": skeletons.limbs(names)}
    return {"source": source, **pixels, "fps": round(fps, 6), **joints}


def _people(people: Detections) -> list[dict]:
    ids = [None] * len(people) if people.ids is None else people.ids.tolist()
    columns = (ids, _scores(people.scores), _pixels(people.boxes), _joints(people).tolist())
    keys = ("id", "score", "box", "keypoints")
    return [dict(zip(keys, values, strict=True)) for values in zip(*columns, strict=True)]


def _pixels(values: Tensor) -> list:
    return values.double().numpy().round(PIXEL_DIGITS).tolist()


def _scores(values: Tensor) -> list:
    return values.double().numpy().round(SCORE_DIGITS).tolist()


def _joints(people: Detections) -> np.ndarray:
    """[P, J, 3]: x, y and confidence, rounded."""
    points = people.keypoints.double().numpy().round(PIXEL_DIGITS)
    scores = people.confidences.double().numpy().round(SCORE_DIGITS)
    return np.concatenate((points, scores[..., None]), axis=-1)


@contextmanager
def table(path: Path, about: About) -> Iterator[Write]:
    """CSV: a row per person and frame."""
    columns = ["frame", "time", "id", "score", "x1", "y1", "x2", "y2"]
    columns += [f"{name}_{part}" for name in about.keypoint_names for part in ("x", "y", "score")]
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(columns)

        def write(frame: Frame, people: Detections) -> None:
            for person in _people(people):
                joints = [value for joint in person["keypoints"] for value in joint]
                rows.writerow(
                    [frame.index, round(frame.time, 6), person["id"], person["score"], *person["box"], *joints]
                )
            file.flush()

        yield write


@contextmanager
def coco(path: Path, about: About) -> Iterator[Write]:
    """COCO keypoint results, a list with an entry per person; `image_id` is the last number in the image's name, or a
    video's frame number. InputError: a name without a number, or a number met before."""
    joints = skeletons.indices(about.keypoint_names, skeletons.COCO)
    seen: set[int] = set()
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        separator = "[\n"

        def write(frame: Frame, people: Detections) -> None:
            nonlocal separator
            number = frame.index if frame.file is None else _number(frame.file, seen)
            for entry in _coco_people(people, joints):
                print(end=separator + json.dumps({"image_id": number, "category_id": 1, **entry}), file=file)
                separator = ",\n"

        yield write
        print("[]" if separator == "[\n" else "\n]", file=file)


def _number(path: Path, seen: set[int]) -> int:
    numbers = re.findall(r"\d+", path.stem)
    if not numbers or int(numbers[-1]) in seen:
        fault = "its number is another image's too" if numbers else "there is no number in its name"
        raise InputError(f"{path}: {fault}; COCO results need one for `image_id`, so rename it or use --format jsonl")
    seen.add(int(numbers[-1]))
    return int(numbers[-1])


def _coco_people(people: Detections, joints: Sequence[int]) -> list[dict]:
    """Fields of people in COCO's terms: boxes x y w h, joints [x, y, v] * J as numbers of pixels (centres at integers),
    (0, 0, 0) where the model has no such joint."""
    boxes = people.boxes.clone()
    boxes[:, 2:] -= boxes[:, :2]
    points = _joints(people)
    points[..., :2] = (points[..., :2] - 0.5).round(PIXEL_DIGITS)
    points = np.concatenate((points, np.zeros_like(points[:, :1])), axis=1)[:, list(joints)]  # -1: the zeros
    scores = points[..., 2].tolist()
    points[..., 2] = np.array(joints) >= 0
    fields = (points.reshape(len(people), 3 * len(joints)).tolist(), scores, _pixels(boxes), _scores(people.scores))
    keys = ("keypoints", "scores", "bbox", "score")
    return [dict(zip(keys, values, strict=True)) for values in zip(*fields, strict=True)]


@contextmanager
def posetrack(path: Path, about: About) -> Iterator[Write]:
    """PoseTrack18 with track ids and 17 joints, as its official tool reads it.

    The tool takes sequence and frame from `file_name`: a source not called like 000342_mpii_test gets a number made
    from its name. InputError: the file exists and is not by this writer, or there are more tracks than the tool reads.
    """
    joints = skeletons.indices(about.keypoint_names, skeletons.POSETRACK18)
    folder, base = _sequence(about.name)
    _spare(path)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        print(end=f'{MADE_BY}, "annotations": [', file=file)
        numbers: list[int] = []
        separator = "\n"

        def write(frame: Frame, people: Detections) -> None:
            nonlocal separator
            numbers.append(int(frame.file.stem) if frame.file and frame.file.stem.isdigit() else frame.index)
            image = base + numbers[-1]
            tracks = range(len(people)) if people.ids is None else people.ids.tolist()
            if max(tracks, default=0) >= MOST_TRACKS:
                raise InputError(f"{path}: PoseTrack's tool reads {MOST_TRACKS} tracks at most; raise --score")
            for i, entry in enumerate(_coco_people(people, joints)):
                ids = {"id": image * 100 + i, "image_id": image, "track_id": tracks[i], "category_id": 1}
                print(end=separator + json.dumps(ids | entry), file=file)
                separator = ",\n"

        yield write
        shared = {"vid_id": folder[:6], "nframes": len(numbers), "is_labeled": True}
        shared |= {"width": about.width, "height": about.height}
        print(end='\n], "images": [', file=file)
        for i, number in enumerate(numbers):
            image = {"id": base + number, "frame_id": base + number, "file_name": f"images/{folder}/{number:06d}.jpg"}
            print(end=("," if i else "") + "\n" + json.dumps(image | shared), file=file)
        print(f'\n], "categories": [{json.dumps(_category())}]}}', file=file)


def _sequence(name: str) -> tuple[str, int]:
    """The folder of a PoseTrack sequence and the id of its frame 0: TSSSSSSFFFF, source, sequence, frame."""
    found = re.match(r"(\d{6})_(mpiinew|mpii|bonn)(_|$)", name)
    if not found:
        return _sequence(f"{crc32(name.encode()) % 10**6:06d}_mpii_{name}")
    kind = ("mpii", "bonn", "mpiinew").index(found[2]) + 1
    return name, kind * 10**10 + int(found[1]) * 10**4


def _spare(path: Path) -> None:
    """A PoseTrack file has its sequence's name, as the annotations do: do not write over those."""
    if path.is_file():
        with path.open("rb") as file:
            if file.read(len(MADE_BY)) != MADE_BY.encode():
                raise InputError(f"{path}: exists and is not by this command; name another folder with --out")


def _category() -> dict:
    names = [{"neck": "head_bottom"}.get(name, name) for name in skeletons.POSETRACK18]
    skeleton = [[a + 1, b + 1] for a, b in skeletons.limbs(skeletons.POSETRACK18)]
    return {"supercategory": "person", "id": 1, "name": "person", "keypoints": names, "skeleton": skeleton}


# By the name of --format: how a file is called after its source, and what writes it.
FORMATS: dict[str, tuple[str, Callable[[Path, About], AbstractContextManager[Write]]]] = {
    "jsonl": ("{}.poses.jsonl", jsonl),
    "csv": ("{}.poses.csv", table),
    "coco": ("{}.poses.json", coco),
    "posetrack": ("{}.json", posetrack),
}


# --- whole videos ---------------------------------------------------------------------------------------------------


def _arranged(poses: Poses, joints: Sequence[str], centre: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """In the order of `joints` [P, K, 2] coordinates, 0 where absent; [P, K] bool, there; [P, K] scores, NaN if none.

    centre: where the centre of pixel 0 is to lie.
    """
    columns = skeletons.indices(poses.joints, joints)  # -1: the padding
    has = np.pad(poses.has, ((0, 0), (0, 1)))[:, columns]
    shift = centre - poses.centre
    xy = (poses.xy + shift).round(6) if shift else poses.xy
    xy = np.pad(xy, ((0, 0), (0, 1), (0, 0)))[:, columns] * has[..., None]
    scores = np.where(poses.scored(), poses.confidence, np.nan)
    return xy, has, np.pad(scores, ((0, 0), (0, 1)), constant_values=np.nan)[:, columns]


def _images(poses: Poses) -> tuple[list[str], list[int]]:
    """Names as PoseTrack has them, images/FOLDER/NUMBER.jpg in one folder, and the ids that belong to them."""
    folder, base = _sequence(poses.name)
    stems = [PurePath(name).stem for name in poses.images]
    numbers = [int(s[-9:]) if s.isdecimal() else n for s, n in zip(stems, poses.numbers, strict=True)]
    if len(set(numbers)) < len(numbers):
        numbers = list(range(len(numbers)))
    folders = {posetrack_folder(image) for image in poses.images}
    kept = len(folders) == 1 and "" not in folders
    names = poses.images if kept else [f"images/{folder}/{number:06d}.jpg" for number in numbers]
    return names, [base + number for number in numbers]


def content17(poses: Poses, tracks: Sequence[int]) -> dict:
    """A PoseTrack17 file of people with these track ids [P]: images, joints and their scores, scores of people."""
    columns = [values.tolist() for values in (*_arranged(poses, JOINTS, 0.0), poses.score)]
    people = [_person17(*values) for values in zip(tracks, *columns, strict=True)]
    frames = zip(_images(poses)[0], poses.frames(), strict=True)
    return {"annolist": [{"image": [{"name": name}], "annorect": people[of]} for name, of in frames]}


def _person17(track: int, xy: list, has: list[bool], scores: list[float], score: float) -> dict:
    points = []
    for j, there in enumerate(has):
        if there:
            known = {} if isnan(scores[j]) else {"score": [scores[j]]}
            points.append({"id": [j], "x": [xy[j][0]], "y": [xy[j][1]], **known})
    person = {"track_id": [track], "annopoints": [{"point": points}]}
    return person if isnan(score) else {**person, "score": [score]}


def content18(poses: Poses, tracks: Sequence[int]) -> dict:
    """A PoseTrack18 file of people with these track ids [P]: 17 joints, boxes and scores where the poses have them."""
    names, numbers = _images(poses)
    shared = {"vid_id": _sequence(poses.name)[0][:6], "nframes": len(names), "is_labeled": True}
    images = [
        {"id": number, "frame_id": number, "file_name": name, **shared, **_size(size)}
        for name, number, size in zip(names, numbers, poses.sizes.tolist(), strict=True)
    ]
    people = [
        {"id": i, "image_id": numbers[frame], "track_id": track, "category_id": 1, **fields}
        for i, (frame, track, fields) in enumerate(zip(poses.frame.tolist(), tracks, _fields18(poses), strict=True))
    ]
    return {"images": images, "annotations": people, "categories": [_category()]}


def _fields18(poses: Poses) -> Iterator[dict]:
    """Joints, scores, box and score of people, as far as they have them."""
    xy, has, scores = _arranged(poses, skeletons.POSETRACK18, 0.0)
    points = np.concatenate((xy, has[..., None]), axis=2).reshape(len(poses), 3 * has.shape[1]).tolist()
    known = [~np.isnan(values).any(axis=1) for values in (poses.box, poses.score[:, None])]
    known.append((~np.isnan(scores)).any(axis=1))
    boxes = np.concatenate((poses.box[:, :2], poses.box[:, 2:] - poses.box[:, :2]), axis=1)
    scores = np.where(has, np.where(np.isnan(scores), NO_SCORE, scores), 0)
    values = [boxes.tolist(), poses.score.tolist(), scores.tolist()]
    for point, given, there in zip(points, zip(*values, strict=True), zip(*known, strict=True), strict=True):
        named = zip(("bbox", "score", "scores"), given, there, strict=True)
        yield {"keypoints": point, **{name: value for name, value, is_known in named if is_known}}


def _size(size: Sequence[float]) -> dict[str, float]:
    """The fields of a size in pixels, as far as it is known."""
    known = {name: value for name, value in zip(("width", "height"), size, strict=True) if value < inf}
    return {name: int(value) if value.is_integer() else value for name, value in known.items()}


def content_lines(poses: Poses, tracks: Sequence[int]) -> list[dict]:
    """JSON lines of people with these track ids [P], at 25 frames a second; an absent joint is [0, 0, 0]."""
    first = _size(poses.sizes[0].tolist()) if len(poses.sizes) else {}
    header = _header(poses.name, (first.get("width"), first.get("height")), IMAGE_RATE, poses.joints)
    points, _, _ = _arranged(poses, poses.joints, 0.5)
    points = np.concatenate((points, poses.confidences()[..., None]), axis=2)
    columns = (tracks, *(values.tolist() for values in (poses.scores(), poses.boxes(), points)))
    people = [
        dict(zip(("id", "score", "box", "keypoints"), values, strict=True)) for values in zip(*columns, strict=True)
    ]
    lines = []
    for f, of in enumerate(poses.frames()):
        line = {"frame": f, "time": round(f / IMAGE_RATE, 6), "file": poses.images[f]}
        size = _size(poses.sizes[f].tolist())
        lines.append(line | (size if size != first else {}) | {"people": people[of]})
    return [header | {"model": None, "delta": 0}, *lines]


CONTENTS: dict[str, Callable[[Poses, Sequence[int]], Any]] = {
    "posetrack17": content17,
    "posetrack18": content18,
    "jsonl": content_lines,
}
