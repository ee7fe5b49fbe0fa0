"""YOLO-pose labels: data.yaml and a text file per image (https://docs.ultralytics.com/datasets/pose).

A line is `class x y width height` and then each joint's `x y` or `x y flag`, all in parts of the upright image, the box
by its middle. Coordinates are continuous, as Label Studio exports them: the first pixel goes from 0 to 1. (Labels
converted from COCO's keep COCO's numbers and so lie half a pixel off; take COCO's own file.) A joint of flag 0 is
absent, as one at 0, 0 or below is where there are no flags.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from tqdm import tqdm

from dimofs import skeletons
from dimofs.cli import InputError
from dimofs.files import read_bytes
from dimofs.formats.coco_content import CocoContent
from dimofs.images import read_image
from dimofs.sources import IMAGES

# Parts of an image further out than this are mistakes: pixels in place of parts, most often.
FARTHEST = 2.0


def read_yolo_pose(path: str | Path, images: str | Path) -> dict[str, Any]:
    """The labels of the images below a folder, as the content of a COCO file.

    path: data.yaml with `names`, `kpt_shape` and, best, `kpt_names`. images: a folder of images that has a folder
    `labels` where its own path has `images`, or the text files beside the images; images without text show nobody.
    Without names 17 joints are COCO's, and others are called point_0 and so on, or left_point_0 and right_point_0 where
    `flip_idx` swaps them. InputError: a file is absent or malformed, or no image has labels.
    """
    about, folder = _read_yaml(path), Path(images)
    count, width = _shape(path, about.get("kpt_shape"))
    names = _by_number(path, about, "names")
    gathered = CocoContent()
    categories = [gathered.add_category(name, _joints(path, about, i, count)) for i, name in enumerate(names)]
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMAGES)
    labels = {file: label for file in files if (label := _label_file(file)).is_file()}
    if not labels:
        where = _label_file(files[0]) if files else folder
        raise InputError(f"{folder}: no image there has labels; they are looked for as {where}")
    for file in tqdm(files, "images", leave=False, disable=None):
        height, across, _ = read_image(file).shape
        image = gathered.add_image(file.relative_to(folder).as_posix(), across, height)
        rows = _rows(labels[file], 5 + count * width, len(names)) if file in labels else []
        size = np.array([across, height])
        for row in rows:
            middle, half = row[1:3] * size, row[3:5] * size / 2
            joints = _with_flags(row[5:].reshape(count, width)) * (*size, 1) - (0.5, 0.5, 0)
            gathered.add(image, categories[int(row[0])], joints, [*(middle - half), *(middle + half)])
    return gathered.content


def _read_yaml(path: str | Path) -> dict:
    try:
        about = yaml.safe_load(read_bytes(path))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a YAML file ({' '.join(str(error).split())})") from error
    if not isinstance(about, dict):
        raise InputError(f"{path}: has no names and kpt_shape; give the data.yaml of YOLO-pose labels")
    return about


def _shape(path: str | Path, shape: Any) -> tuple[int, int]:
    """The number of joints, and of numbers for each."""
    plain = isinstance(shape, list) and len(shape) == 2 and all(type(value) is int for value in shape)
    if not plain or not 0 < shape[0] <= 1000 or shape[1] not in (2, 3):
        raise InputError(f"{path}: kpt_shape is {shape}; it is [JOINTS, 3], or [JOINTS, 2] without flags")
    return shape[0], shape[1]


def _by_number(path: str | Path, about: dict, field: str) -> list[str]:
    """A list of names, which may be written as a mapping from 0, 1, ..."""
    value = about.get(field)
    if isinstance(value, dict) and set(value) == set(range(len(value))):
        value = [value[number] for number in range(len(value))]
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        raise InputError(f"{path}: {field} is not a list of names")
    return value


def _joints(path: str | Path, about: dict, category: int, count: int) -> list[str]:
    """The names of the joints of a class, which tell what a mirror swaps."""
    swapped = about.get("flip_idx", [])
    if swapped and (not isinstance(swapped, list) or sorted(map(str, swapped)) != sorted(map(str, range(count)))):
        raise InputError(f"{path}: flip_idx is not an order of the {count} joints")
    named, names = about.get("kpt_names"), list[str]()
    if named is not None:
        names = _by_number(path, {"kpt_names": named[category]} if _per_class(named, category) else about, "kpt_names")
    elif count == len(skeletons.COCO):
        names += skeletons.COCO
    else:
        names = _numbered(swapped or range(count))
    if len(names) != count:
        raise InputError(f"{path}: kpt_names has {len(names)} names, kpt_shape {count} joints")
    if swapped and skeletons.mirror(names) != swapped:
        wrong = next(i for i in range(count) if skeletons.mirror(names)[i] != swapped[i])
        fault = f"flip_idx swaps {names[wrong]} with {names[swapped[wrong]]}, the names do not tell it"
        raise InputError(f"{path}: {fault}; let kpt_names begin with left_ and right_")
    return names


def _per_class(named: Any, category: int) -> bool:
    return isinstance(named, dict) and isinstance(named.get(category), list)


def _numbered(swapped: Sequence[int]) -> list[str]:
    """Names for joints that have none."""
    sides = {True: "left_", False: "right_"}
    return [
        f"point_{i}" if i == other else f"{sides[i < other]}point_{min(i, other)}" for i, other in enumerate(swapped)
    ]


def _label_file(image: Path) -> Path:
    """The text file of an image: below `labels` where the image is below `images`, else beside it."""
    parts = list(image.parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _rows(file: Path, width: int, classes: int) -> list[np.ndarray]:
    """The lines of a text file as [width] float64, each with a class that has a name."""
    rows = []
    for number, line in enumerate(read_bytes(file).decode("utf-8", "replace").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            row = np.array(words, np.float64)
        except ValueError as error:
            raise InputError(f"{file}: line {number}: {error}") from error
        if len(row) != width:
            raise InputError(f"{file}: line {number} has {len(row)} numbers; data.yaml's kpt_shape makes it {width}")
        if row[0] not in range(classes):
            raise InputError(f"{file}: line {number}: class {words[0]} has no name in data.yaml")
        if not (np.abs(row[1:]) <= FARTHEST).all() or (row[3:5] < 0).any():
            raise InputError(f"{file}: line {number}: a value is no part of the image; divide pixels by its size")
        rows.append(row)
    return rows


def _with_flags(joints: np.ndarray) -> np.ndarray:
    """[J, 2] or [J, 3] -> [J, 3], the last a flag."""
    if joints.shape[1] == 3:
        return joints
    present = np.any(joints > 0, axis=1, keepdims=True) & np.all(joints >= 0, axis=1, keepdims=True)
    return np.concatenate((joints, 2.0 * present), axis=1)
