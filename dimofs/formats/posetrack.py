"""PoseTrack's annotation files, ground truth and predictions, in the formats of 2017 and 2018.

2018  COCO style: images (`file_name`, `id`, `ignore_regions_x`, `_y`), annotations (`image_id`, `track_id`, `keypoints`
      of 15 or 17 joints named in categories[0], `scores`, `bbox_head` x y w h). A joint is absent if x = y = v = 0.
2017  annolist, one entry per frame: image[0].name, annorect with `track_id`, the head as `x1 y1 x2 y2`,
      annopoints[0].point with `id` (a number of JOINTS), `x`, `y`, `score`; ignore_regions with `point`. Scalars are
      lists of one.

Coordinates are those of the files. The folder in its `file_name` tells which video a frame of a 2018 file belongs to.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dimofs.cli import InputError
from dimofs.files import read_json, uncollected
from dimofs.formats.records import MISSING, Records, as_list

# By id. PoseTrack18 calls the neck "head_bottom".
JOINTS = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "right_wrist", "right_elbow",
    "right_shoulder", "left_shoulder", "left_elbow", "left_wrist", "neck", "nose", "head_top",
)  # fmt: skip
# The value that the official tool gives to a joint without a score.
NO_SCORE = -9999.0
NO_TRACK = -(1 << 62)
# Track ids are below this.
MOST_TRACKS = 10_000


@dataclass(kw_only=True)
class Video:
    """F frames of a video with P people and N joints, in the order of the file; floats are float64.

    file, name: where it was read, and what it is called there, printable.
    frames, ids: names of the images, and their ids in the file (None in the format of 2017).
    sizes:      of each image (height, width), or None where the file does not say.
    regions:    of each frame the polygons to ignore, [K, 2] x y.
    frame:      [P] int64, ascending.
    track:      [P] int64, NO_TRACK where absent.
    head, box:  [P, 4], x1 y1 x2 y2, NaN where absent (2017 has no boxes).
    score:      [P], NaN where absent.
    listed:     [P] bool, there is a list of joints, perhaps an empty one.
    places:     [P], where in the file.
    person:     [N] int64, ascending, the person of each joint.
    joint:      [N] int64, an index of JOINTS, or -1 for any other.
    xy, confidence: [N, 2] and [N], NO_SCORE where absent.
    """

    file: Path
    name: str
    frames: list[str]
    sizes: list[tuple[int, int] | None]
    ids: list | None
    regions: list[list[np.ndarray]]
    frame: np.ndarray
    track: np.ndarray
    head: np.ndarray
    box: np.ndarray
    score: np.ndarray
    listed: np.ndarray
    places: list[str]
    person: np.ndarray
    joint: np.ndarray
    xy: np.ndarray
    confidence: np.ndarray


@uncollected()
def read_annotations(path: str | Path) -> list[Video]:
    """The videos of a file of either format, which may be gzipped.

    InputError: it is absent or malformed, a track id is not an integer below 10,000 or occurs twice in a frame, a
    polygon has one or two points.
    """
    videos = parse_annotations(Path(path), read_json(path))
    for video in videos:
        _check_tracks(video)
    return videos


def parse_annotations(path: Path, content: Any) -> list[Video]:
    """The videos of what the JSON file `path` says; ids may be large and occur twice. InputError: it is malformed."""
    if not isinstance(content, dict) or ("annolist" not in content and "images" not in content):
        raise InputError(f"{path}: has neither annolist (PoseTrack17) nor images (PoseTrack18)")
    return [_read17(path, content)] if "annolist" in content else _read18(path, content)


def files(folder: Path) -> list[Path]:
    """The JSON files of a folder, gzipped ones too, by name."""
    return sorted([*folder.glob("*.json"), *folder.glob("*.json.gz")])


def stem(path: Path) -> str:
    """The file's name without .json and .gz."""
    return path.name.removesuffix(".gz").removesuffix(".json")


def folder(image: str) -> str:
    """The video of a 2018 file to which an image belongs: the name of the folder it is in."""
    return os.path.basename(os.path.dirname(image))


def _read18(path: Path, content: dict) -> list[Video]:
    joints = _joints18(path, content)
    images = Records(path, as_list(path, content["images"], "images"), "images[{}]".format)
    people = Records(path, as_list(path, content.get("annotations", MISSING), "annotations"), "annotations[{}]".format)
    ids = images.column("id", {int, float, str}, "a number")
    image = {key: i for i, key in enumerate(ids)}
    if len(image) < len(ids):
        twice = next(i for i, key in enumerate(ids) if image[key] != i)
        raise images.error(twice, ".id is another image's too")
    of = people.column("image_id", {int, float, str}, "a number")
    if lost := [i for i, key in enumerate(of) if key not in image]:
        raise people.error(lost[0], ".image_id is the id of no image")

    frame = np.array([image[key] for key in of], np.int64)
    points = people.rows("keypoints", 3 * len(joints)).reshape(len(people), len(joints), 3)
    corners = {field: people.rows(field, 4, np.nan) for field in ("bbox_head", "bbox")}
    for box in corners.values():
        with np.errstate(over="ignore", invalid="ignore"):
            box[:, 2:] += box[:, :2]
    everyone = Video(
        file=path,
        name=_printable(stem(path)),
        frames=images.column("file_name", {str}, "a text"),
        sizes=list(map(_size18, images.items)),
        ids=ids,
        regions=_regions18(images),
        frame=frame,
        track=_whole(people, "track_id", people.numbers("track_id", np.nan)),
        head=corners["bbox_head"],
        box=corners["bbox"],
        score=people.numbers("score", np.nan),
        listed=np.ones(len(people), bool),
        places=list(map(people.place, range(len(people)))),
        **_flat(points, people.rows("scores", len(joints), NO_SCORE, null=True), joints),
    )
    return _by_folder(everyone)


def _joints18(path: Path, content: dict) -> np.ndarray:
    """[K] for each keypoint of the file its index in JOINTS, or -1."""
    categories = as_list(path, content.get("categories", MISSING), "categories")
    category = Records(path, categories[:1], "categories[{}]".format)
    names = category.lists("keypoints")[0] if categories else []
    names = ["neck" if name == "head_bottom" else name for name in names]
    if missing := [name for name in JOINTS if name not in names]:
        wanted = missing[0].replace("neck", "head_bottom")
        raise InputError(f"{path}: categories[0].keypoints has no {wanted}; all 15 joints of PoseTrack are needed")
    return np.array([JOINTS.index(name) if name in JOINTS else -1 for name in names])


def _size18(image: dict) -> tuple[int, int] | None:
    """(height, width) if the image of a 2018 file has both, as positive whole numbers."""
    height, width = image.get("height"), image.get("width")
    return (height, width) if type(height) is int and type(width) is int and min(height, width) > 0 else None


def _flat(points: np.ndarray, scores: np.ndarray, joints: np.ndarray) -> dict[str, np.ndarray]:
    """The joints of Video from [P, K, 3] x y v and [P, K]."""
    person, column = np.nonzero((points != 0).any(axis=2) & (joints >= 0))
    xy, confidence = points[person, column, :2], scores[person, column]
    return {"person": person, "joint": joints[column], "xy": xy, "confidence": confidence}


def _regions18(images: Records) -> list[list[np.ndarray]]:
    regions = []
    columns = (images.lists(f"ignore_regions_{axis}", []) for axis in "xy")
    for i, (xs, ys) in enumerate(zip(*columns, strict=True)):
        if len(xs) != len(ys):
            raise images.error(i, f".ignore_regions_x has {len(xs)} polygons, ignore_regions_y {len(ys)}")
        pairs = [{"x": x, "y": y} for x, y in zip(xs, ys, strict=True)]
        regions.append([_polygon(images, i, f".ignore_regions_x[{j}]", **pair) for j, pair in enumerate(pairs)])
    return regions


def _polygon(records: Records, index: int, place: str, x: Any, y: Any) -> np.ndarray:
    """[K, 2] from lists of coordinates, which stand at `place` in record `index`."""
    if type(x) is not list or type(y) is not list or len(x) != len(y):
        raise records.error(index, f"{place} and its other coordinate are not two lists of one length")
    if len(x) in (1, 2):
        raise records.error(index, f"{place} is a polygon of {len(x)} point{'s' * (len(x) > 1)}; remove it")
    if not set(map(type, x + y)) <= {int, float} or not np.isfinite(np.array(x + y, float)).all():
        raise records.error(index, f"{place} has a coordinate that is no number")
    return np.array([x, y], np.float64).T


def _by_folder(everyone: Video) -> list[Video]:
    """The videos of a 2018 file, separated by the folder of their images, in order of appearance."""
    folders = [folder(image) for image in everyone.frames]
    names = list(dict.fromkeys(folders)) or [""]
    where = np.array([names.index(name) for name in folders], np.int64)
    if len(names) == 1:
        return [select_frames(everyone, np.arange(len(where)), everyone.name)]
    titles = [f"{everyone.name}/{_printable(name)}" for name in names]
    return [select_frames(everyone, np.flatnonzero(where == i), title) for i, title in enumerate(titles)]


def _printable(name: str) -> str:
    """The name as a line of a table can show it, with line ends, lone surrogates and the like escaped."""
    return name if name.isprintable() else ascii(name)[1:-1]


def select_frames(video: Video, kept: Sequence[int] | np.ndarray, name: str) -> Video:
    """The frames `kept` [F'] of `video`, in that order, as a video called `name`, people and joints sorted by frame."""
    number = np.full(len(video.frames), len(video.frames))
    number[kept] = np.arange(len(kept))
    chosen = np.argsort(number[video.frame], kind="stable")
    chosen = chosen[number[video.frame[chosen]] < len(kept)]
    order = np.full(len(video.frame), len(video.frame))
    order[chosen] = np.arange(len(chosen))
    points = np.argsort(order[video.person], kind="stable")
    points = points[order[video.person[points]] < len(chosen)]
    return Video(
        file=video.file,
        name=name,
        frames=[video.frames[i] for i in kept],
        sizes=[video.sizes[i] for i in kept],
        ids=None if video.ids is None else [video.ids[i] for i in kept],
        regions=[video.regions[i] for i in kept],
        frame=number[video.frame[chosen]],
        places=[video.places[i] for i in chosen],
        person=order[video.person[points]],
        **{field: getattr(video, field)[chosen] for field in ("track", "head", "box", "score", "listed")},
        **{field: getattr(video, field)[points] for field in ("joint", "xy", "confidence")},
    )


def _read17(path: Path, content: dict) -> Video:
    frames = Records(path, as_list(path, content["annolist"], "annolist"), "annolist[{}]".format)
    images = [image[0] if image else None for image in frames.lists("image")]
    images = Records(path, images, "annolist[{}].image[0]".format)
    rects = frames.lists("annorect")
    places = [f"annolist[{f}].annorect[{k}]" for f, rect in enumerate(rects) for k in range(len(rect))]
    people = Records(path, [person for rect in rects for person in rect], places.__getitem__)
    points = [_points17(people, i, a) for i, a in enumerate(people.lists("annopoints", []))]
    count = [0 if p is None else len(p) for p in points]
    person = np.repeat(np.arange(len(points)), count)
    first = np.cumsum(count) - count

    def place(i: int) -> str:
        return f"{places[person[i]]}.annopoints[0].point[{i - first[person[i]]}]"

    joints = Records(path, [point for some in points for point in some or ()], place)
    joint = _whole(joints, "id", joints.rows("id", 1)[:, 0])
    corners = [people.rows(field, 1, np.nan) for field in ("x1", "y1", "x2", "y2")]
    return Video(
        file=path,
        name=_printable(stem(path)),
        frames=images.column("name", {str}, "a text"),
        sizes=[None] * len(images),
        ids=None,
        regions=_regions17(frames),
        frame=np.repeat(np.arange(len(rects)), [len(rect) for rect in rects]),
        track=_whole(people, "track_id", people.rows("track_id", 1, np.nan)[:, 0]),
        head=np.concatenate(corners, axis=1),
        box=np.full((len(people), 4), np.nan),
        score=people.rows("score", 1, np.nan)[:, 0],
        listed=np.array([p is not None for p in points], bool),
        places=places,
        person=person,
        joint=np.where((joint >= 0) & (joint < len(JOINTS)), joint, -1),
        xy=np.concatenate((joints.rows("x", 1), joints.rows("y", 1)), axis=1),
        confidence=joints.rows("score", 1, NO_SCORE, null=True)[:, 0],
    )


def _points17(people: Records, index: int, annopoints: list) -> list | None:
    """The list of points of a person's `annopoints`; None if there is none, as in [], [[]] and [{}]."""
    holder = annopoints[0] if annopoints else None
    if not holder and isinstance(holder, (dict, list, type(None))):
        return None
    if type(holder) is not dict or type(holder.get("point", [])) is not list:
        raise people.error(index, ".annopoints[0] is not an object with a list called point")
    return holder.get("point")


def _regions17(frames: Records) -> list[list[np.ndarray]]:
    regions = []
    for i, polygons in enumerate(frames.lists("ignore_regions", [])):
        prefix = f"{frames.place(i)}.ignore_regions"
        shapes = Records(frames.file, polygons, (prefix + "[{}]").format)
        regions.append([])
        for j, points in enumerate(shapes.lists("point")):
            corners = Records(frames.file, points, (f"{prefix}[{j}].point" + "[{}]").format)
            x, y = (corners.rows(axis, 1)[:, 0].tolist() for axis in "xy")
            regions[-1].append(_polygon(shapes, j, ".point", x, y))
    return regions


def _whole(records: Records, field: str, values: np.ndarray) -> np.ndarray:
    """Numbers as int64, NaN as NO_TRACK. InputError: one is not whole, or absurdly large."""
    known = ~np.isnan(values)
    wrong = known & ((np.abs(values) > 1e15) | (values != np.floor(values)))
    if wrong.any():
        index = int(wrong.argmax())
        raise records.error(index, f".{field} {values[index]:g} is not a whole number")
    return np.where(known, values, 0).astype(np.int64) * known + NO_TRACK * ~known


def _check_tracks(video: Video) -> None:
    high = video.track >= MOST_TRACKS
    if high.any():
        i = int(high.argmax())
        fault = f"track_id {video.track[i]} is not below {MOST_TRACKS}; number the tracks of each video from 0"
        raise InputError(f"{video.file}: {video.places[i]}.{fault}")
    pairs = np.stack((video.frame, video.track), axis=1)[video.track != NO_TRACK]
    unique, count = np.unique(pairs, axis=0, return_counts=True)
    if (count > 1).any():
        frame, track = unique[count.argmax()]
        i = np.flatnonzero((video.frame == frame) & (video.track == track))[1]
        fault = f"track_id {track} is another person's too in frame {video.frames[frame]!r}"
        raise InputError(f"{video.file}: {video.places[i]}.{fault}; ids must differ within a frame")
