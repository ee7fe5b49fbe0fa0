"""Labels of the people of one video on some of its frames, to which people of other frames are added.

COCO         images, annotations with `track_id`, a category with names of joints; PoseTrack18's files are such. New
             people get the `scores` of their joints.
PoseTrack17  annolist; joints of new people get a `score`.

What a file says about labelled people stays as it is. The number in an image's name says which frame it is.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from bisect import bisect
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dimofs.cli import InputError
from dimofs.detections import Detections
from dimofs.formats.coco_content import ENLARGED
from dimofs.formats.posetrack import JOINTS, folder
from dimofs.formats.records import MOST_PIXELS, Records, as_list
from dimofs.formats.rounding import PIXEL_DIGITS

# Logits of joints that are labelled, and of others.
LABELLED, ABSENT = 20.0, -20.0


@dataclass(kw_only=True)
class Label:
    """A labelled person.

    frame: number of the frame in the video, from 0. track: id of the person. points: [J, 3] x, y, and 1 where labelled,
    0 elsewhere; pixel centres at integer + 0.5. box: x1 y1 x2 y2 or None. entry: what the file says.
    """

    frame: int
    track: int
    points: np.ndarray
    box: np.ndarray | None
    entry: dict

    def extent(self) -> np.ndarray:
        """The box, else the enlarged extent of the joints, else NaN."""
        if self.box is not None:
            return self.box
        there = self.points[self.points[:, 2] > 0, :2]
        if not len(there):
            return np.full(4, nan)
        low, high = there.min(axis=0), there.max(axis=0)
        middle, half = (low + high) / 2, ENLARGED * (high - low) / 2
        return np.concatenate((middle - half, middle + half))


class FrameLabels(ABC):
    """The labels of one file, `content` its JSON; see `frame_labels`.

    people: by number of the frame, ascending, the people labelled in it, with ids; labelled frames without people, too.
    """

    def __init__(self, path: Path, content: dict, first: int):
        self.path, self.content, self.first = path, content, first
        self.images: Records
        self.names = self._names()
        self.numbers = [self._number(name) for name in self.names]
        twice = [number for number, count in Counter(self.numbers).items() if count > 1]
        if twice:
            raise InputError(f"{path}: two images have number {twice[0] + first}; give a file for each video")
        self.labels: dict[int, dict[int, Label]] = {number: {} for number in self._empty()}
        for label in self._read():
            same = self.labels.setdefault(label.frame, {})
            if label.track in same:
                raise InputError(f"{path}: two people have track id {label.track} in one image; correct one")
            same[label.track] = label
        if not any(self.labels.values()):
            raise InputError(f"{path}: nobody is labelled; label people in every k-th frame")
        joints = len(next(label for same in self.labels.values() for label in same.values()).points)
        self.people = {n: _detections([*self.labels[n].values()], joints) for n in sorted(self.labels)}

    def add(self, number: int, people: Detections, confidences: Tensor, like: int) -> None:
        """Add people with ids to a frame without any.

        confidences: [P, J] of their joints. Joints whose logit is below 0 are absent. like: the number of a labelled
        frame with the same people, whose other fields are copied.
        """
        assert people.ids is not None
        image = self._image(number)
        for person, track in enumerate(people.ids.tolist()):
            before = self.labels[like][track]
            entry = {name: deepcopy(value) for name, value in before.entry.items() if name != "segmentation"}
            there = (people.keypoint_scores[person] > 0).numpy()
            points = people.keypoints[person].double().numpy().round(PIXEL_DIGITS)
            scores = confidences[person].double().numpy().round(4) * there
            box = None if before.box is None else people.boxes[person].double().numpy().round(PIXEL_DIGITS)
            self._place(entry, image, before, Label(
                frame=number, track=track, points=np.column_stack((points, there)), box=box, entry=entry
            ), scores)  # fmt: skip

    def sizes(self) -> set[tuple[int, int]]:
        """(height, width) of the frames as the file states them, if it does."""
        sizes = [(image.get("height"), image.get("width")) for image in self.images.items]
        return {(height, width) for height, width in sizes if isinstance(height, int) and isinstance(width, int)}

    def _number(self, name: str) -> int:
        """The number of the frame that an image is."""
        digits = re.findall(r"\d+", Path(name).stem)
        if not digits:
            raise InputError(f"{self.path}: image {name!r} has no number in its name; name images by their frames")
        number = int(digits[-1]) - self.first
        if number < 0:
            raise InputError(f"{self.path}: image {name!r} is before the first frame; lower --first")
        return number

    def _name(self, number: int) -> str:
        """The name of an image that the file lacks: another's with this number."""
        path = Path(self.names[0])
        digits = list(re.finditer(r"\d+", path.stem))[-1]
        text = f"{number + self.first:0{len(digits[0])}d}"
        return str(path.with_name(path.stem[: digits.start()] + text + path.stem[digits.end() :] + path.suffix))

    def _insert(self, images: list[dict], number: int, image: dict) -> None:
        """Add an image among the others in the order of frames."""
        place = bisect(self.numbers, number)
        images.insert(place, image)
        self.numbers.insert(place, number)

    @abstractmethod
    def _names(self) -> list[str]:
        """The names of the images."""

    @abstractmethod
    def _empty(self) -> list[int]:
        """The numbers of frames that the file calls labelled."""

    @abstractmethod
    def _read(self) -> Iterator[Label]:
        """The labelled people."""

    @abstractmethod
    def _image(self, number: int) -> dict:
        """The object of a frame's image, which is made if there is none."""

    @abstractmethod
    def _place(self, entry: dict, image: dict, before: Label, label: Label, scores: np.ndarray) -> None:
        """Write a new person into `entry`, a copy of what the file says of the same person in another frame, and add
        it to the file. scores: [J] of the joints."""


def _some(numbers: list[int], flags: list[bool]) -> list[int]:
    """The numbers of flagged frames; none if all are, which then means nothing."""
    return [] if all(flags) else [number for number, flag in zip(numbers, flags, strict=True) if flag]


def _detections(labels: list[Label], joints: int) -> Detections:
    """Labelled people of so many joints as detections, with ids."""
    points = torch.tensor(np.array([label.points for label in labels]).reshape(-1, joints, 3))
    boxes = torch.tensor(np.array([label.extent() for label in labels]).reshape(-1, 4)).float()
    logits = torch.where(points[..., 2] > 0, LABELLED, ABSENT)
    ids = torch.tensor([label.track for label in labels], dtype=torch.int64)
    return Detections(boxes, torch.ones(len(labels)), points[..., :2].float(), logits, ids)


def frame_labels(path: Path, content: Any, first: int = 0) -> FrameLabels:
    """The labels of one video. first: the number that its first frame has in the names of images.

    InputError: the content is malformed, of another format or of several videos, or names nobody with a track id.
    """
    if isinstance(content, dict) and "images" in content:
        return CocoFrameLabels(path, content, first)
    if isinstance(content, dict) and "annolist" in content:
        return PoseTrack17FrameLabels(path, content, first)
    fault = "has neither images (COCO, PoseTrack18) nor annolist (PoseTrack17); export labels in one of these formats"
    raise InputError(f"{path}: {fault}")


class CocoFrameLabels(FrameLabels):
    """COCO's files with track ids, and PoseTrack18's."""

    def _names(self) -> list[str]:
        images = as_list(self.path, self.content["images"], "images")
        self.images = Records(self.path, list(images), "images[{}]".format)
        names = self.images.column("file_name", {str}, "a text")
        folders = {folder(name) for name in names}
        if len(folders) > 1:
            fault = f"holds {len(folders)} videos ({', '.join(sorted(folders)[:2])}, ...); give a file for each"
            raise InputError(f"{self.path}: {fault}")
        return names

    def _empty(self) -> list[int]:
        flags = [image.get("is_labeled") is True for image in self.images.items]
        return _some(self.numbers, flags)

    def _read(self) -> Iterator[Label]:
        category, joints = self._category()
        everyone = as_list(self.path, self.content.get("annotations"), "annotations")
        records = Records(self.path, everyone, "annotations[{}]".format)
        which = [i for i, entry in enumerate(everyone) if entry.get("category_id", category) == category]
        people = Records(self.path, [everyone[i] for i in which], lambda i: records.place(which[i]))
        points, boxes = people.rows("keypoints", 3 * joints), people.rows("bbox", 4, nan)
        tracks = people.column("track_id", {int}, "a whole number")
        images = people.column("image_id", {int, float, str}, "a number")
        numbers = dict(zip(self.images.column("id", {int, float, str}, "a number"), self.numbers, strict=True))
        for i, entry in enumerate(people.items):
            if images[i] not in numbers:
                raise people.error(i, f".image_id {images[i]!r} is no image's id")
            triples, (x, y, width, height) = points[i].reshape(joints, 3), boxes[i]
            if not (np.abs(points[i]) <= MOST_PIXELS).all() or (np.abs(boxes[i]) > MOST_PIXELS).any():
                raise people.error(i, f" is not within {MOST_PIXELS:.0f} pixels; correct it")
            placed = triples + np.array([0.5, 0.5, 0])
            placed[:, 2] = triples.any(axis=1)
            box = None if np.isnan(x) else np.array([x, y, x + width, y + height])
            yield Label(frame=numbers[images[i]], track=tracks[i], points=placed, box=box, entry=entry)

    def _category(self) -> tuple[Any, int]:
        """The id of the category of people, the first with joints, and their number."""
        kinds = as_list(self.path, self.content.get("categories"), "categories")
        for kind in kinds:
            if isinstance(kind, dict) and isinstance(kind.get("keypoints"), list) and kind["keypoints"]:
                return kind.get("id"), len(kind["keypoints"])
        raise InputError(f"{self.path}: no category has keypoints; export the labels with their joints")

    def _image(self, number: int) -> dict:
        if number in self.numbers:
            return self.content["images"][self.numbers.index(number)]
        image = deepcopy(self.content["images"][0])
        step, ids = number - self.numbers[0], {image["id"] for image in self.content["images"]}
        for field in {"id", "frame_id"} & image.keys():
            if type(image[field]) is int:
                image[field] += step
        if image["id"] in ids:
            image["id"] = 1 + max(one for one in ids if type(one) is int)
        image["file_name"] = self._name(number)
        self._insert(self.content["images"], number, image)
        return image

    def _place(self, entry: dict, image: dict, before: Label, label: Label, scores: np.ndarray) -> None:
        flags = np.array(before.entry["keypoints"], float).reshape(-1, 3)[:, 2].clip(1)
        there = label.points[:, 2]
        triples = np.column_stack((label.points[:, :2] - 0.5, flags)) * there[:, None]
        entry |= {"image_id": image["id"], "keypoints": triples.round(PIXEL_DIGITS).ravel().tolist()}
        entry["scores"] = scores.tolist()
        if "num_keypoints" in entry:
            entry["num_keypoints"] = int(there.sum())
        if label.box is not None and before.box is not None:
            self._resize(entry, before.box, label.box)
        annotations = self.content["annotations"]
        entry["id"] = 1 + max((one["id"] for one in annotations if type(one.get("id")) is int), default=0)
        annotations.append(entry)

    @staticmethod
    def _resize(entry: dict, before: np.ndarray, box: np.ndarray) -> None:
        """Give a copied entry another box; its head moves with the box's centre."""
        size, old = box[2:] - box[:2], np.maximum(before[2:] - before[:2], 1e-6)
        entry["bbox"] = [*box[:2].tolist(), *size.round(PIXEL_DIGITS).tolist()]
        if "area" in entry:
            entry["area"] *= float((size / old).prod())
        if entry.get("bbox_head"):
            shift = ((box[:2] + box[2:]) - (before[:2] + before[2:])) / 2
            head = np.array(entry["bbox_head"], float)
            entry["bbox_head"] = [*(head[:2] + shift).round(PIXEL_DIGITS).tolist(), *head[2:].tolist()]


class PoseTrack17FrameLabels(FrameLabels):
    """PoseTrack17's files."""

    def _names(self) -> list[str]:
        images = as_list(self.path, self.content["annolist"], "annolist")
        self.images = Records(self.path, list(images), "annolist[{}]".format)
        holders = self.images.lists("image")
        firsts = [holder[0] if holder else None for holder in holders]
        return Records(self.path, firsts, "annolist[{}].image[0]".format).column("name", {str}, "a text")

    def _empty(self) -> list[int]:
        flags = [image.get("is_labeled") in (True, [True]) for image in self.images.items]
        return _some(self.numbers, flags)

    def _read(self) -> Iterator[Label]:
        for image, rects in enumerate(self.images.lists("annorect", [])):
            place = f"annolist[{image}].annorect[{{}}]".format
            people = Records(self.path, rects, place)
            tracks = people.rows("track_id", 1)
            for i, entry in enumerate(rects):
                points = self._points(entry, place(i))
                yield Label(frame=self.numbers[image], track=int(tracks[i, 0]), points=points, box=None, entry=entry)

    def _points(self, entry: dict, place: str) -> np.ndarray:
        """[15, 3] x, y, and 1 where labelled; of a joint listed twice the first counts."""
        holders = entry.get("annopoints") or [{}]
        if not isinstance(holders, list) or not isinstance(holders[0], dict):
            raise InputError(f"{self.path}: {place}.annopoints is not a list of one object")
        listed = as_list(self.path, holders[0].get("point", []), f"{place}.annopoints[0].point")
        records = Records(self.path, listed, (place.replace("{", "{{") + ".annopoints[0].point[{}]").format)
        columns = [records.rows(field, 1)[:, 0] for field in ("id", "x", "y")]
        points = np.zeros((len(JOINTS), 3))
        for joint, x, y in zip(*(column[::-1] for column in columns), strict=True):
            if 0 <= joint < len(JOINTS):
                points[int(joint)] = x + 0.5, y + 0.5, 1
        return points

    def _image(self, number: int) -> dict:
        if number in self.numbers:
            return self.content["annolist"][self.numbers.index(number)]
        image = {"image": [{"name": self._name(number)}], "annorect": []}
        self._insert(self.content["annolist"], number, image)
        return image

    def _place(self, entry: dict, image: dict, before: Label, label: Label, scores: np.ndarray) -> None:
        # Nothing says how the head box, which is not the person's, moves.
        for field in ("x1", "y1", "x2", "y2"):
            entry.pop(field, None)
        point = [
            {"id": [joint], "x": [x - 0.5], "y": [y - 0.5], "score": [score]}
            for joint, ((x, y, there), score) in enumerate(zip(label.points.tolist(), scores.tolist(), strict=True))
            if there
        ]
        entry["annopoints"] = [{"point": point}]
        image.setdefault("annorect", []).append(entry)
