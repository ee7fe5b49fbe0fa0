"""Files that hold the poses of whole videos: PoseTrack17 and PoseTrack18, and the JSON lines of dimofs.formats.writers.

file = read_poses("x.json")
ids = [track(video) for video in file.videos]           # [P] int64 each
write_poses("out/x.json", relabelled(file, ids), file.path)   # the same with other ids
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from math import inf
from pathlib import Path
from re import findall
from typing import Any

import numpy as np
import torch

from dimofs.cli import InputError
from dimofs.detections import Detections
from dimofs.files import read_bytes, read_json, replacing, uncollected
from dimofs.formats import posetrack
from dimofs.formats.absent import drop_below, drop_named
from dimofs.formats.partial import MARK, is_partial, partial_path
from dimofs.formats.posetrack import JOINTS, MOST_TRACKS, NO_SCORE, Video
from dimofs.formats.records import MOST_PIXELS, Records

ENDINGS = (".json", ".json.gz", ".jsonl")
# Lowest confidence of a joint that is there; 0 means absent.
LEAST_CONFIDENCE = 1e-6


@dataclass(kw_only=True)
class Poses:
    """A video of F frames with P people of J joints; floats are float64.

    name:       of the video.
    joints:     names of the joints; the neck is "neck".
    centre:     coordinate of the centre of pixel 0: 0.5 in JSON lines, 0 in PoseTrack's files.
    images:     names of the frames' images, "" where unknown.
    numbers:    numbers of the frames.
    times:      [F] when each frame is shown, in frames since the video's start; ascending.
    sizes:      [F, 2] width and height in pixels, inf where unknown.
    frame:      [P] int64, ascending.
    box:        [P, 4] x1 y1 x2 y2, NaN where absent.
    score:      [P], NaN where absent.
    xy, has:    [P, J, 2] coordinates of the file, and [P, J] bool, the joint is there.
    confidence: [P, J] as in the file, NaN where absent.
    entries:    the JSON objects of the people in the file.
    """

    name: str
    joints: Sequence[str]
    centre: float
    images: list[str]
    numbers: list[int]
    times: np.ndarray
    sizes: np.ndarray
    frame: np.ndarray
    box: np.ndarray
    score: np.ndarray
    xy: np.ndarray
    has: np.ndarray
    confidence: np.ndarray
    entries: list[dict]

    def __len__(self) -> int:
        return len(self.frame)

    def frames(self) -> list[slice]:
        """The people of each frame."""
        starts = np.searchsorted(self.frame, np.arange(len(self.images) + 1)).tolist()
        return [slice(*ends) for ends in pairwise(starts)]

    def boxes(self) -> np.ndarray:
        """[P, 4] `box`, else the extent of the joints enlarged by 1.2; NaN without either."""
        xy = np.where(self.has[..., None], self.xy, np.nan)
        low, high = (of.reduce(xy, axis=1, initial=np.nan) for of in (np.fmin, np.fmax))
        middle, half = (low + high) / 2, 0.6 * (high - low)
        return np.where(np.isnan(self.box), np.concatenate((middle - half, middle + half), axis=1), self.box)

    def scores(self) -> np.ndarray:
        """[P] `score`, else the mean over the joints' scores, else 1."""
        known = self.scored()
        with np.errstate(over="ignore", invalid="ignore"):
            mean = np.where(known, self.confidence, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        mean = np.where(known.any(axis=1), np.nan_to_num(mean), 1)
        return np.where(np.isnan(self.score), mean, self.score)

    def scored(self) -> np.ndarray:
        """[P, J] bool, the joint is there and has a score."""
        return self.has & ~np.isnan(self.confidence)

    def confidences(self) -> np.ndarray:
        """[P, J] the joints' scores if all of the video lie in [0, 1], else 1; 0 exactly where a joint is absent."""
        given = np.where(self.scored(), self.confidence, 1)
        if not ((given >= 0) & (given <= 1)).all():
            given = np.ones_like(given)
        return np.where(self.has, given.clip(LEAST_CONFIDENCE), 0)

    def detections(self) -> Detections:
        """All P people, in float32; an absent joint lies at 0 0 and has the logit -inf."""
        logits = torch.from_numpy(self.confidences()).clamp(max=1 - LEAST_CONFIDENCE).logit()
        boxes, scores, xy = map(torch.from_numpy, (self.boxes(), self.scores(), self.xy))
        return Detections(boxes.float(), scores.float(), xy.float(), logits.float())


@dataclass(kw_only=True)
class PoseFile:
    """A file of poses.

    format: "posetrack17", "posetrack18" or "jsonl". content: its JSON; of JSON lines, the list of them. partial: its
    run was interrupted (`dimofs.formats.partial`).
    """

    path: Path
    format: str
    content: Any
    videos: list[Poses]

    @property
    def partial(self) -> bool:
        return is_partial(self.path)


def pose_files(path: Path) -> list[Path]:
    """The file, or the pose files of the folder, by name. InputError: there is none, or the name has another ending."""
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.name.endswith(ENDINGS))
        if not files:
            raise InputError(f"{path}: holds no {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]} files")
        return files
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if not path.name.endswith(ENDINGS):
        raise InputError(f"{path}: must end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}; rename it")
    return [path]


def renamed(path: Path, format: str | None) -> str:
    """The name of the result of a file in another format; None keeps the format."""
    lines = path.suffix == ".jsonl"
    if format is None or lines == (format == "jsonl"):
        return path.name
    name = f"{_stem(path)}.json" if lines else f"{_stem(path)}.poses.jsonl"
    return partial_path(Path(name)).name if is_partial(path) else name


def _stem(path: Path) -> str:
    """The name of the video: that of the file without endings and marks."""
    return posetrack.stem(path).removesuffix(".jsonl").removesuffix(".poses").removesuffix(MARK)


@uncollected()
def read_poses(path: Path, joint_score: float = -inf) -> PoseFile:
    """The poses of a file, without joints below `joint_score` and people who then have neither box nor joints.

    Track ids are ignored and may be absent. InputError: the file is absent or malformed.
    """
    if path.suffix == ".jsonl":
        numbered = _lines(path)
        content = [line for _, line in numbered]
        file = PoseFile(path=path, format="jsonl", content=content, videos=[_read_lines(path, numbered)])
    else:
        content = read_json(path)
        file = _read_posetrack(path, content)
    if joint_score > -inf:
        _drop_joints(file, joint_score)
    file.videos = [some(video, ~np.isnan(video.boxes()[:, 0])) for video in file.videos]
    return file


def some(video: Poses, chosen: np.ndarray) -> Poses:
    """The video with the `chosen` people, [P] bool."""
    if chosen.all():
        return video
    arrays = {name: getattr(video, name)[chosen] for name in ("frame", "box", "score", "xy", "has", "confidence")}
    return replace(video, **arrays, entries=[video.entries[i] for i in np.flatnonzero(chosen)])


# --- PoseTrack ------------------------------------------------------------------------------------------------------


def _read_posetrack(path: Path, content: Any) -> PoseFile:
    videos = posetrack.parse_annotations(path, content)
    format = "posetrack17" if "annolist" in content else "posetrack18"
    sizes = np.full((sum(len(video.frames) for video in videos), 2), inf)
    if format == "posetrack18":
        sizes = _sizes(Records(path, content["images"], "images[{}]".format), inf, inf)
    folders: dict[str, list[int]] = {}
    # The order in which dimofs.formats.posetrack finds the videos of a file and their frames.
    for i in range(len(sizes)):
        folder = posetrack.folder(content["images"][i]["file_name"]) if format == "posetrack18" else ""
        folders.setdefault(folder, []).append(i)
    dense = [_dense(v, content, sizes[of]) for v, of in zip(videos, [*folders.values()] or [[]], strict=True)]
    return PoseFile(path=path, format=format, content=content, videos=dense)


def _sizes(frames: Records, width: float, height: float) -> np.ndarray:
    """[F, 2] widths and heights, `width` and `height` for frames that have none. InputError: one is out of range."""
    sizes = np.stack((frames.numbers("width", width), frames.numbers("height", height)), axis=1)
    wrong = ~((sizes > 0) & ((sizes <= MOST_PIXELS) | (sizes == inf)))
    if wrong.any():
        frame, axis = np.argwhere(wrong)[0]
        raise frames.error(int(frame), f".{('width', 'height')[axis]} is not above 0 and at most {MOST_PIXELS:.0f}")
    return sizes


def _dense(video: Video, content: dict, sizes: np.ndarray) -> Poses:
    """The video with a column for each of PoseTrack's 15 joints; of a joint listed twice the first counts."""
    _check_pixels(video.xy, lambda i: f"{video.file}: {video.places[video.person[i]]}: a joint")
    _check_pixels(video.box, lambda i: f"{video.file}: {video.places[i]}.bbox", absent=True)
    points = np.flatnonzero(video.joint >= 0)[::-1]
    where = video.person[points], video.joint[points]
    shape = (len(video.frame), len(JOINTS))
    xy, has, confidence = np.zeros((*shape, 2)), np.zeros(shape, bool), np.full(shape, np.nan)
    given = video.confidence[points]
    xy[where], has[where], confidence[where] = video.xy[points], True, np.where(given == NO_SCORE, np.nan, given)
    return Poses(
        name=video.name,
        joints=JOINTS,
        centre=0.0,
        images=video.frames,
        numbers=list(range(len(video.frames))),
        times=np.arange(len(video.frames), dtype=float),
        sizes=sizes,
        frame=video.frame,
        box=video.box,
        score=video.score,
        xy=xy,
        has=has,
        confidence=confidence,
        entries=[_object(content, place) for place in video.places],
    )


def _object(content: Any, place: str) -> dict:
    """The object at a place such as "annolist[3].annorect[0]"."""
    for name, index in findall(r"(\w+)\[(\d+)\]", place):
        content = content[name][int(index)]
    return content


def _check_pixels(values: np.ndarray, what: Callable[[int], str], absent: bool = False) -> None:
    """InputError: a row of [n, k] coordinates is out of range; with `absent` a row may be all NaN."""
    right = (np.abs(values) <= MOST_PIXELS).all(axis=1)
    if absent:
        right |= np.isnan(values).all(axis=1)
    if not right.all():
        raise InputError(f"{what(int(right.argmin()))} is not within {MOST_PIXELS:.0f} pixels; correct or remove it")


# --- JSON lines -----------------------------------------------------------------------------------------------------


def _lines(path: Path) -> list[tuple[int, Any]]:
    """The lines that are not blank, with their numbers from 1."""
    content = []
    for number, line in enumerate(read_bytes(path).splitlines(), 1):
        try:
            if line.strip():
                content.append((number, json.loads(line)))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: line {number} is not JSON ({error}); correct or remove it") from error
    return content


def _read_lines(path: Path, content: list[tuple[int, Any]]) -> Poses:
    lines = Records(path, [line for _, line in content], lambda i: f"line {content[i][0]}")
    header = Records(path, lines.items[:1], lines.place)
    if not content or "keypoint_names" not in header.items[0]:
        raise InputError(f"{path}: has no header line with keypoint_names, as dimofs.zoo.pose writes it")
    (joints,), ((width, height),) = header.lists("keypoint_names"), _sizes(header, inf, inf)
    if not all(type(name) is str for name in joints):
        raise header.error(0, ".keypoint_names is not a list of texts")
    frames = Records(path, lines.items[1:], lambda i: lines.place(i + 1))
    found = frames.lists("people")
    places = [f"{frames.place(f)}: people[{k}]" for f, people in enumerate(found) for k in range(len(people))]
    people = Records(path, list(chain.from_iterable(found)), places.__getitem__)
    points, box = _triples(people, len(joints)), people.rows("box", 4, np.nan)
    _check_pixels(points[..., :2].reshape(len(people), 2 * len(joints)), lambda i: f"{path}: {places[i]}.keypoints")
    _check_pixels(box, lambda i: f"{path}: {places[i]}.box", absent=True)
    has = points[..., 2] != 0
    return Poses(
        name=_stem(path),
        joints=joints,
        centre=0.5,
        images=frames.column("file", {str}, "a text", ""),
        numbers=frames.column("frame", {int}, "a whole number"),
        times=_times(header, frames),
        sizes=_sizes(frames, width, height),
        frame=np.repeat(np.arange(len(found)), [len(some) for some in found]),
        box=box,
        score=people.numbers("score", np.nan),
        xy=np.where(has[..., None], points[..., :2], 0),
        has=has,
        confidence=points[..., 2],
        entries=people.items,
    )


def _times(header: Records, frames: Records) -> np.ndarray:
    """When the frames are shown, in frames: by their times if the file has them all, else by their numbers.

    InputError: a frame does not come after the one before.
    """
    numbers, times = frames.numbers("frame"), frames.numbers("time", np.nan) * header.numbers("fps", np.nan)
    for field, values in (("frame", numbers), ("time", times)):
        if (back := np.diff(values) <= 0).any():
            raise frames.error(int(back.argmax()) + 1, f".{field} is not above that of the line before; sort the lines")
    return times if np.isfinite(times).all() else numbers


def _triples(people: Records, joints: int) -> np.ndarray:
    """[P, J, 3] keypoints."""
    found = people.lists("keypoints")
    triples = list(chain.from_iterable(found))
    right = set(map(len, found)) <= {joints} and set(map(type, triples)) <= {list} and set(map(len, triples)) <= {3}
    if not right or not set(map(type, chain.from_iterable(triples))) <= {int, float}:
        wrong = next(i for i, points in enumerate(found) if not _is_pose(points, joints))
        raise people.error(wrong, f".keypoints is not a list of {joints} [x, y, confidence]")
    flat = [{"keypoints": list(chain.from_iterable(points))} for points in found]
    return Records(people.file, flat, people.place).rows("keypoints", 3 * joints).reshape(len(people), joints, 3)


def _is_pose(points: list, joints: int) -> bool:
    return len(points) == joints and all(
        type(point) is list and len(point) == 3 and set(map(type, point)) <= {int, float} for point in points
    )


# --- the same file, changed -----------------------------------------------------------------------------------------


def _drop_joints(file: PoseFile, least: float) -> None:
    """Make joints with a score below `least` absent, in the content too; joints without a score stay."""
    for video in file.videos:
        low = video.confidence < least
        video.has &= ~low
        video.xy[low] = 0
        for entry in video.entries:
            drop_below(file.format, entry, least)


def drop_joints(file: PoseFile, gone: Sequence[np.ndarray]) -> None:
    """Make the joints `gone`, [P, J] bool for each video, absent, in the content too."""
    for video, which in zip(file.videos, gone, strict=True):
        columns = list(video.joints)
        if file.format == "posetrack18":
            names = file.content["categories"][0]["keypoints"]
            columns = ["neck" if name == "head_bottom" else name for name in names]
        video.has &= ~which
        video.xy[which] = 0
        for person in np.flatnonzero(which.any(axis=1)).tolist():
            names = {video.joints[joint] for joint in np.flatnonzero(which[person]).tolist()}
            drop_named(file.format, video.entries[person], names, columns)


def relabelled(file: PoseFile, ids: Sequence[np.ndarray]) -> Any:
    """The content of the file with new track ids [P] for the people of each video; a negative id drops the person.

    Changes the content in place. InputError: more tracks than PoseTrack's tool reads.
    """
    check_tracks(file, ids, file.format)
    pairs = ((v.entries, tracks.tolist()) for v, tracks in zip(file.videos, ids, strict=True))
    new = {id(entry): track for pair in pairs for entry, track in zip(*pair, strict=True) if track >= 0}
    for holder, field in _people(file):
        holder[field] = [entry for entry in holder[field] if id(entry) in new]
        for entry in holder[field]:
            track = new[id(entry)]
            entry |= {"id": track} if file.format == "jsonl" else {"track_id": _as_written(track, file.format)}
    return file.content


def _as_written(value: float, format: str) -> Any:
    return [value] if format == "posetrack17" else value


def _people(file: PoseFile) -> Iterator[tuple[dict, str]]:
    """The objects that hold lists of people, with the names of those fields."""
    if file.format == "posetrack18":
        yield file.content, "annotations"
    elif file.format == "posetrack17":
        yield from ((frame, "annorect") for frame in file.content["annolist"])
    else:
        yield from ((line, "people") for line in file.content[1:])


def check_tracks(file: PoseFile, ids: Sequence[np.ndarray], format: str) -> None:
    """InputError: there are more tracks than PoseTrack's tool reads, and the format is one of PoseTrack's."""
    most = max((int(tracks.max(initial=-1)) for tracks in ids), default=-1) + 1
    if most > MOST_TRACKS and format != "jsonl":
        fault = f"{most} tracks, PoseTrack's tool reads {MOST_TRACKS} at most"
        raise InputError(f"{file.path}: {fault}; raise --score or use --format jsonl")


def write_poses(path: Path, content: Any, source: Path) -> None:
    """Write JSON (JSON lines for .jsonl, gzipped for .gz), whole or not at all.

    InputError: the content, read from `source`, holds NaN or is nested too deeply; or the file cannot be written.
    """
    lines = content if path.suffix == ".jsonl" else [content]
    try:
        texts = [json.dumps(line, ensure_ascii=path.suffix != ".jsonl", allow_nan=False) + "\n" for line in lines]
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source}: cannot be written as JSON ({error}); replace NaN and Infinity by null") from error
    binary = "".join(texts).encode(errors="backslashreplace")
    with replacing(path) as temporary:
        temporary.write_bytes(gzip.compress(binary, mtime=0) if path.suffix == ".gz" else binary)
