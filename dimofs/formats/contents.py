"""What a file of each format says about the poses of a whole video (`CONTENTS`), converted without loss."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from math import inf, isnan
from pathlib import PurePath
from typing import Any
from zlib import crc32

import numpy as np

from dimofs import skeletons
from dimofs.formats.posefiles import Poses
from dimofs.formats.posetrack import JOINTS, NO_SCORE
from dimofs.formats.posetrack import folder as posetrack_folder
from dimofs.video import IMAGE_RATE


def header_line(
    source: str,
    size: Sequence[float | None],
    fps: float,
    names: Sequence[str],
    limbs: Sequence[tuple[int, int]] | None = None,
) -> dict:
    """The first line of a JSON lines file: source, (width, height), frames a second, joints and limbs (by default
    those of people)."""
    pixels = dict(zip(("width", "height"), size, strict=True))
    joints = {"keypoint_names": list(names), "skeleton": skeletons.limbs(names) if limbs is None else limbs}
    return {"source": source, **pixels, "fps": round(fps, 6), **joints}


def sequence(name: str) -> tuple[str, int]:
    """The folder of a PoseTrack sequence and the id of its frame 0: TSSSSSSFFFF, source, sequence, frame."""
    found = re.match(r"(\d{6})_(mpiinew|mpii|bonn)(_|$)", name)
    if not found:
        return sequence(f"{crc32(name.encode()) % 10**6:06d}_mpii_{name}")
    kind = ("mpii", "bonn", "mpiinew").index(found[2]) + 1
    return name, kind * 10**10 + int(found[1]) * 10**4


def category() -> dict:
    """PoseTrack18's category of people, with its names of the 17 joints."""
    names = [{"neck": "head_bottom"}.get(name, name) for name in skeletons.POSETRACK18]
    skeleton = [[a + 1, b + 1] for a, b in skeletons.limbs(skeletons.POSETRACK18)]
    return {"supercategory": "person", "id": 1, "name": "person", "keypoints": names, "skeleton": skeleton}


def _arranged(poses: Poses, joints: Sequence[str], centre: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """In the order of `joints`: coordinates [P, K, 2], 0 where absent; presence [P, K]; scores [P, K], NaN if none.

    centre: the coordinate that the centre of pixel 0 shall have.
    """
    # Index -1 finds the padding.
    columns = skeletons.indices(poses.joints, joints)
    has = np.pad(poses.has, ((0, 0), (0, 1)))[:, columns]
    shift = centre - poses.centre
    xy = (poses.xy + shift).round(6) if shift else poses.xy
    xy = np.pad(xy, ((0, 0), (0, 1), (0, 0)))[:, columns] * has[..., None]
    scores = np.where(poses.scored(), poses.confidence, np.nan)
    return xy, has, np.pad(scores, ((0, 0), (0, 1)), constant_values=np.nan)[:, columns]


def _images(poses: Poses) -> tuple[list[str], list[int]]:
    """Names of the images as PoseTrack has them, images/FOLDER/NUMBER.jpg, and the ids that belong to them."""
    folder, base = sequence(poses.name)
    stems = [PurePath(name).stem for name in poses.images]
    numbers = [int(s[-9:]) if s.isdecimal() else n for s, n in zip(stems, poses.numbers, strict=True)]
    if len(set(numbers)) < len(numbers):
        numbers = list(range(len(numbers)))
    folders = {posetrack_folder(image) for image in poses.images}
    kept = len(folders) == 1 and "" not in folders
    names = poses.images if kept else [f"images/{folder}/{number:06d}.jpg" for number in numbers]
    return names, [base + number for number in numbers]


def content17(poses: Poses, tracks: Sequence[int]) -> dict:
    """A PoseTrack17 file of people with these track ids [P]: images, joints with scores, scores of people."""
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
    shared = {"vid_id": sequence(poses.name)[0][:6], "nframes": len(names), "is_labeled": True}
    images = [
        {"id": number, "frame_id": number, "file_name": name, **shared, **_size(size)}
        for name, number, size in zip(names, numbers, poses.sizes.tolist(), strict=True)
    ]
    people = [
        {"id": i, "image_id": numbers[frame], "track_id": track, "category_id": 1, **fields}
        for i, (frame, track, fields) in enumerate(zip(poses.frame.tolist(), tracks, _fields18(poses), strict=True))
    ]
    return {"images": images, "annotations": people, "categories": [category()]}


def _fields18(poses: Poses) -> Iterator[dict]:
    """For each person keypoints, scores, bbox and score, as far as the poses have them."""
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
    """The fields width and height of a size in pixels, as far as it is known."""
    known = {name: value for name, value in zip(("width", "height"), size, strict=True) if value < inf}
    return {name: int(value) if value.is_integer() else value for name, value in known.items()}


def content_lines(poses: Poses, tracks: Sequence[int]) -> list[dict]:
    """JSON lines of people with these track ids [P], at 25 frames a second; an absent joint is [0, 0, 0]."""
    first = _size(poses.sizes[0].tolist()) if len(poses.sizes) else {}
    header = header_line(poses.name, (first.get("width"), first.get("height")), IMAGE_RATE, poses.joints)
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
