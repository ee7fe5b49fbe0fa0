"""Writers of tracked poses, frame by frame and in constant memory: JSON lines, CSV, PoseTrack18, COCO results.

Each writer is a context manager that yields a function `write(frame, people)`. It writes to a temporary file, which
takes its name when the context ends without an error. Joint scores are confidences in [0, 1].
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TextIO

from dimofs import skeletons
from dimofs.cli import InputError
from dimofs.detections import Detections
from dimofs.files import replacing
from dimofs.formats.coco_results import joints_and_boxes, to_results
from dimofs.formats.contents import category, header_line, sequence
from dimofs.formats.posetrack import MOST_TRACKS
from dimofs.formats.rounding import rounded_joints, rounded_pixels, rounded_scores
from dimofs.sources import printable
from dimofs.video import Frame

Write = Callable[[Frame, Detections], None]
# The path that stands for standard output.
STDOUT = Path("-")
# How a PoseTrack file of ours begins.
MADE_BY = '{"info": {"description": "poses by dimofs"}'


@dataclass(frozen=True, kw_only=True)
class About:
    """What a file says about itself.

    source, name: the input as it was given, and the name of its results. width, height: pixels. fps: frames a second.
    keypoint_names: joints of the model. limbs: pairs of them to draw, by default those of people. model: its name.
    delta: as in `dimofs.zoo.detection.stream.poses`.
    pixel_aspect: how much wider than high a pixel is shown; other than 1 in anamorphic video (DVD, DV).
    """

    source: str
    name: str
    width: int
    height: int
    fps: float
    keypoint_names: Sequence[str]
    model: str
    delta: int
    limbs: Sequence[tuple[int, int]] = ()
    pixel_aspect: Fraction = Fraction(1)

    def __post_init__(self):
        if not self.limbs:
            object.__setattr__(self, "limbs", skeletons.limbs(self.keypoint_names))


@contextmanager
def _opened(path: Path, newline: str | None = None) -> Iterator[TextIO]:
    """A file that takes its name when the context ends without an error, or standard output."""
    if path == STDOUT:
        yield sys.stdout
        sys.stdout.flush()
        return
    with replacing(path) as temporary, temporary.open("w", newline=newline, encoding="utf-8") as file:
        yield file


@contextmanager
def jsonl(path: Path, about: About) -> Iterator[Write]:
    """JSON lines: a header, then a line per frame with `frame`, `time` and `people`.

    Lines of images have `file` as well, and `width` and `height` where they differ from the header's.
    """
    header = header_line(about.source, (about.width, about.height), about.fps, about.keypoint_names, about.limbs)
    header |= {"model": about.model, "delta": about.delta}
    if about.pixel_aspect != 1:
        header["pixel_aspect"] = round(float(about.pixel_aspect), 6)
    with _opened(path) as file:

        def line(content: dict) -> None:
            print(json.dumps(content, ensure_ascii=False, allow_nan=False), file=file, flush=True)

        def write(frame: Frame, people: Detections) -> None:
            content = frame_content(frame, people)
            height, width = frame.size
            if (width, height) != (about.width, about.height):
                content |= {"width": width, "height": height, "people": content.pop("people")}
            line(content)

        line(header)
        yield write


def frame_content(frame: Frame, people: Detections) -> dict:
    """What a JSON line says about a frame: `frame`, `time`, of an image `file`, and `people`."""
    content: dict = {"frame": frame.index, "time": round(frame.time, 6)}
    if frame.file:
        content["file"] = printable(frame.file.name)
    return content | {"people": _people(people)}


def _people(people: Detections) -> list[dict]:
    """The people of a frame as JSON lines have them."""
    ids = [None] * len(people) if people.ids is None else people.ids.tolist()
    columns = (ids, rounded_scores(people.scores), rounded_pixels(people.boxes), rounded_joints(people).tolist())
    keys = ("id", "score", "box", "keypoints")
    return [dict(zip(keys, values, strict=True)) for values in zip(*columns, strict=True)]


@contextmanager
def table(path: Path, about: About) -> Iterator[Write]:
    """CSV: one row per person and frame."""
    columns = ["frame", "time", "id", "score", "x1", "y1", "x2", "y2"]
    columns += [f"{name}_{part}" for name in about.keypoint_names for part in ("x", "y", "score")]
    with _opened(path, newline="") as file:
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
    """COCO results (`dimofs.formats.coco_results`), a list with an entry per person.

    `image_id` is the last number in the image's name, or the frame number of a video. InputError: a name has no number,
    or the same number as another.
    """
    seen: set[int] = set()
    with _opened(path) as file:
        separator = "[\n"

        def write(frame: Frame, people: Detections) -> None:
            nonlocal separator
            number = frame.index if frame.file is None else _number(frame.file, seen)
            for entry in to_results(people, about.keypoint_names, number):
                print(end=separator + json.dumps(entry), file=file)
                separator = ",\n"

        yield write
        print("[]" if separator == "[\n" else "\n]", file=file)


def _number(path: Path, seen: set[int]) -> int:
    """The last number in the name of an image, which is added to those `seen`."""
    numbers = re.findall(r"\d+", path.stem)
    if not numbers or int(numbers[-1]) in seen:
        fault = "its number is another image's too" if numbers else "there is no number in its name"
        raise InputError(f"{path}: {fault}; COCO results need one for `image_id`, so rename it or use --format jsonl")
    seen.add(int(numbers[-1]))
    return int(numbers[-1])


@contextmanager
def posetrack(path: Path, about: About) -> Iterator[Write]:
    """A PoseTrack18 file with track ids and 17 joints, as the official tool reads it.

    The tool parses sequence and frame from `file_name`, so a source that is not named like 000342_mpii_test gets a
    number made from its name. InputError: the file exists and was not made by this writer, or there are more tracks
    than the tool reads.
    """
    joints = skeletons.indices(about.keypoint_names, skeletons.POSETRACK18)
    folder, base = sequence(about.name)
    check_own(path)
    with _opened(path) as file:
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
            entries = zip(tracks, joints_and_boxes(people, joints), rounded_scores(people.scores), strict=True)
            for i, (track, entry, score) in enumerate(entries):
                ids = {"id": image * 100 + i, "image_id": image, "track_id": track, "category_id": 1}
                print(end=separator + json.dumps(ids | entry | {"score": score}), file=file)
                separator = ",\n"

        yield write
        shared = {"vid_id": folder[:6], "nframes": len(numbers), "is_labeled": True}
        shared |= {"width": about.width, "height": about.height}
        print(end='\n], "images": [', file=file)
        for i, number in enumerate(numbers):
            image = {"id": base + number, "frame_id": base + number, "file_name": f"images/{folder}/{number:06d}.jpg"}
            print(end=("," if i else "") + "\n" + json.dumps(image | shared), file=file)
        print(f'\n], "categories": [{json.dumps(category())}]}}', file=file)


def check_own(path: Path) -> None:
    """InputError: there is a file at `path` that `posetrack` has not written. PoseTrack's annotations have the same
    names as results, and must not be replaced."""
    if path.is_file():
        with path.open("rb") as file:
            if file.read(len(MADE_BY)) != MADE_BY.encode():
                raise InputError(f"{path}: exists and is not by this command; name another folder with --out")


# For each value of --format: the name of the file, made from that of the source, and its writer.
FORMATS: dict[str, tuple[str, Callable[[Path, About], AbstractContextManager[Write]]]] = {
    "jsonl": ("{}.poses.jsonl", jsonl),
    "csv": ("{}.poses.csv", table),
    "coco": ("{}.poses.json", coco),
    "posetrack": ("{}.json", posetrack),
}
