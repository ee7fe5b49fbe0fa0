"""Keypoints of Label Studio's export "JSON" (https://labelstud.io/guide/task_format).

Coordinates are per cent of the image and continuous: the first pixel goes from 0 to 1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from dimofs.cli import InputError
from dimofs.formats.coco_content import CocoContent
from dimofs.formats.records import Records, as_list
from dimofs.sources import IMAGES

# What joints belong to where a task has no boxes.
ALONE = "person"
# Label Studio puts this before the names of files that are uploaded.
UPLOADED = "[0-9a-f]{8}-"


@dataclass(kw_only=True)
class Task:
    """The labels of one image.

    boxes: x1 y1 x2 y2 in pixels and label, by id. joints: x y in pixels and label, by id. near: the ids of regions that
    a region was put into or is related to.
    """

    image: str
    size: tuple[int, int] = (0, 0)
    boxes: dict[str, tuple[np.ndarray, str]] = field(default_factory=dict)
    joints: dict[str, tuple[np.ndarray, str]] = field(default_factory=dict)
    near: dict[str, list[str]] = field(default_factory=dict)


def read_label_studio(path: str | Path, content: list, images: str | Path) -> dict[str, Any]:
    """The keypoints and boxes of an export, whose JSON `content` is a list of tasks, as the content of a COCO file.

    A joint belongs to the box that it was put into in the list of regions, else to one that it is related to, else to
    the only one around it; where a task has no boxes, all joints are one person's. Of several annotations of a task the
    first counts that was not skipped; tasks without one are left out. Joints come by the alphabet, since the export
    does not tell the order of labels.
    InputError: it is malformed, an image is not in the folder `images`, or it is not clear whose a joint is.
    """
    records = Records(path, content, "[{}]".format)
    tasks = {number: task for number in range(len(records)) if (task := _task(records, number, Path(images)))}
    names = sorted({label for task in tasks.values() for _, label in task.joints.values()})
    kinds = sorted({label for task in tasks.values() for _, label in task.boxes.values()}) or [ALONE]
    if not names:
        raise InputError(f"{path}: has no keypoints; label them with KeyPointLabels and export as JSON, not JSON-MIN")
    gathered = CocoContent()
    categories = {kind: gathered.add_category(kind, names) for kind in kinds}
    for number, task in tasks.items():
        image = gathered.add_image(task.image, *task.size)
        joints: dict[str, np.ndarray] = {
            key: np.zeros((len(names), 3)) for key in task.boxes or ([""] if task.joints else [])
        }
        for key, (point, label) in task.joints.items():
            mine = joints[_box_of(records, number, task, key)]
            if mine[names.index(label), 2]:
                raise records.error(number, f" has two joints {label} in one box; put each joint into its own box")
            mine[names.index(label)] = *(point - 0.5), 2
        for key, points in joints.items():
            box, kind = task.boxes.get(key, (None, ALONE))
            gathered.add(image, categories[kind], points, box)
    return gathered.content


def _task(records: Records, number: int, images: Path) -> Task | None:
    """The labels of a task; None if nobody has labelled it."""
    entry = records.items[number]
    annotations = as_list(records.file, entry.get("annotations", []), f"{records.place(number)}.annotations")
    kept = [one for one in annotations if isinstance(one, dict) and not one.get("was_cancelled")]
    if not kept:
        return None
    place = f"{records.place(number)}.annotations.result"
    results = Records(records.file, as_list(records.file, kept[0].get("result"), place), (place + "[{}]").format)
    task = Task(image=_image(records, number, images))
    for index, result in enumerate(results.items):
        if result.get("type") == "relation":
            ends = str(result.get("from_id")), str(result.get("to_id"))
            for a, b in (ends, ends[::-1]):
                task.near.setdefault(a, []).append(b)
        elif result.get("type") in ("rectanglelabels", "keypointlabels"):
            _add(task, results, index)
    return task


def _add(task: Task, results: Records, index: int) -> None:
    """Add a box or a joint to a task."""
    result = results.items[index]
    value, joint = result.get("value"), result["type"] == "keypointlabels"
    labels = value.get(result["type"]) if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(labels, list) or not labels or not isinstance(labels[0], str):
        raise results.error(index, f".value has no {result['type']}")
    if result.get("image_rotation") or value.get("rotation"):
        raise results.error(
            index, " is rotated, which boxes here are not; rotate the image file, or draw upright boxes"
        )
    size = [result.get(f"original_{side}") for side in ("width", "height")]
    parts = [value.get(name) for name in (("x", "y") if joint else ("x", "y", "width", "height"))]
    numbers = [*size, *parts]
    if not all(isinstance(n, (int, float)) and abs(n) < 1e6 for n in numbers) or min(size) < 1:
        raise results.error(index, " lacks numbers: original_width, original_height, x, y, and of a box width, height")
    task.size = int(size[0]), int(size[1])
    key = str(result.get("id"))
    task.near.setdefault(key, []).insert(0, str(result.get("parentID")))
    scaled = np.array(parts, np.float64).reshape(-1, 2) * task.size / 100
    if joint:
        task.joints[key] = scaled[0], labels[0]
    else:
        task.boxes[key] = np.concatenate((scaled[0], scaled.sum(axis=0))), labels[0]


def _box_of(records: Records, number: int, task: Task, joint: str) -> str:
    """The id of the box that a joint belongs to, "" where there are no boxes."""
    if not task.boxes:
        return ""
    point, label = task.joints[joint]
    told = [key for key in task.near.get(joint, []) if key in task.boxes]
    around = [key for key, (box, _) in task.boxes.items() if (box[:2] <= point).all() and (point <= box[2:]).all()]
    if told or len(around) == 1:
        return (told or around)[0]
    fault = f" has a joint {label} in {len(around)} boxes; drag it into its box in the list of regions"
    raise records.error(number, fault)


def _image(records: Records, number: int, images: Path) -> str:
    """The name of a task's image in the folder of images."""
    data = records.items[number].get("data")
    addresses = [value for value in data.values() if isinstance(value, str)] if isinstance(data, dict) else []
    paths = [path for address in addresses if (path := _path(address)).suffix.lower() in IMAGES]
    if not paths:
        raise records.error(number, ".data names no image")
    parts = [part for part in paths[0].parts if part not in ("/", "..")]
    # The image may lie deeper than the folder says, or have lost what Label Studio put before its name.
    tails = [parts[place:] for place in range(len(parts))]
    tails += [[*tail[:-1], re.sub(f"^{UPLOADED}", "", tail[-1])] for tail in tails]
    for tail in tails:
        if (images / Path(*tail)).is_file():
            return "/".join(tail)
    raise records.error(number, f": its image {parts[-1]} is not in {images}; give the folder of the images")


def _path(address: str) -> PurePosixPath:
    """The path in an address of Label Studio, which may be that of a file on its disk."""
    try:
        found = urlsplit(address)
        local = parse_qs(found.query).get("d")
    except ValueError:
        return PurePosixPath()
    return PurePosixPath(local[0] if local else unquote(found.path))
