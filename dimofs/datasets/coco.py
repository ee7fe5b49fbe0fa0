"""COCO keypoints: photographs with several people each, https://cocodataset.org/#format-data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dimofs.cli import InputError
from dimofs.datasets.people import Pair, People, box_of_joints, to_dimofs
from dimofs.files import inside, read_json
from dimofs.formats.records import MISSING, Records, as_list
from dimofs.images import read_image
from dimofs.pixels import to_tensor
from dimofs.skeletons import COCO, DIMOFS

# What other data sets in COCO's format call the neck.
NECK_NAMES = ("head_bottom", "thorax", "upper_neck")
# Sides of images beyond this are mistakes.
MOST_PIXELS = 1_000_000
# Coordinates beyond this do not fit the float32 numbers of labels.
MOST_VALUE = 1e30


class CocoKeypoints:
    """The images of a COCO keypoint file that show people.

    Annotations count if their category is named "person", whatever its id. That category's `keypoints` name the joints;
    without them they are COCO's 17. Joints are numbers of pixels in the file, so 0.5 is added to reach the pixel's
    centre; boxes are continuous already. A joint is labelled if its flag is above 0. A person without joints trains the
    box alone; one with an empty box takes the extent of the joints times 1.2. Crowds (`iscrowd`) and people marked
    `ignore` are regions where a detector is neither right nor wrong. Areas and the ids of annotations are not used.

    `width` and `height`, where the file has them, decide whether labels refer to the upright image or to the stored
    pixels, see `dimofs.images.read_image`.

    annotations: the JSON file, which may be gzipped; images: the folder of its `file_name`s.
    empty:       take images without a person's annotation, too, as pictures of nobody.
    InputError: the file is absent, malformed or names no people; later, an image is absent, damaged or of another size
    than the file says.
    """

    def __init__(self, annotations: str | Path, images: str | Path, *, empty: bool = False):
        self.file, self.images = Path(annotations), Path(images)
        content = read_json(annotations)
        if not isinstance(content, dict):
            raise InputError(f"{annotations}: is not an object with images, annotations and categories, as COCO's are")
        images_read = _records(self.file, content, "images")
        names, sizes = _names(images_read, self.images), _sizes(images_read)
        people = _people_of(self.file, content, images_read, sizes)
        self._sizes = dict(zip(names, sizes, strict=True))
        shown = range(len(names)) if empty else people
        self.items = sorted((names[i], people.get(i, People.empty())) for i in shown)
        if not self.items:
            raise InputError(f"{annotations}: annotates no person; give a file of COCO's person_keypoints format")

    def __len__(self) -> int:
        return len(self.items)

    def pair(self, index: int, random: np.random.Generator) -> Pair:
        """The image twice."""
        name, people = self.items[index]
        image = self._image(name)
        return Pair(image, image, people, 0, name)

    def frames(self) -> Iterator[tuple[str, Tensor]]:
        """Each image with its file name."""
        for name, _ in self.items:
            yield name, self._image(name)

    def _image(self, name: str) -> Tensor:
        try:
            return to_tensor(read_image(self.images / name, self._sizes[name]))
        except InputError as error:
            raise InputError(f"{error} ({self.file} names it)") from error


def _records(file: Path, content: dict, field: str) -> Records:
    return Records(file, as_list(file, content.get(field, MISSING), field), (field + "[{}]").format)


def _names(images: Records, folder: Path) -> list[str]:
    """The file name of every image. InputError: one leads out of the folder, or two are equal."""
    names = images.column("file_name", {str}, "a text")
    for number, name in enumerate(names):
        try:
            inside(folder, name)
        except InputError as error:
            fault = f".file_name {name!r} is not a file inside the folder of images; correct it"
            raise images.error(number, fault) from error
    _check_unique(images, "file_name", names)
    return names


def _check_unique(records: Records, field: str, values: Sequence) -> None:
    seen = set()
    for number, value in enumerate(values):
        if value in seen:
            raise records.error(number, f".{field} {value!r} is another one's too; each must differ")
        seen.add(value)


def _sizes(images: Records) -> list[tuple[int, int] | None]:
    """(height, width) of every image; None where the file does not say."""
    height, width = images.numbers("height", np.nan), images.numbers("width", np.nan)
    known = ~np.isnan(height) & ~np.isnan(width)
    for field, values in (("height", height), ("width", width)):
        wrong = ~np.isnan(values) & ((values < 1) | (values > MOST_PIXELS) | (values != np.floor(values)))
        if wrong.any():
            number = int(wrong.argmax())
            raise images.error(number, f".{field} {values[number]:g} is not a number of pixels")
    return [(int(h), int(w)) if k else None for h, w, k in zip(height, width, known, strict=True)]


def _people_of(file: Path, content: dict, images: Records, sizes: list) -> dict[int, People]:
    """The people of each image that has any, by the image's place in the file."""
    category, joints = _person_category(file, content)
    ids = images.column("id", {int, float, str}, "a number")
    _check_unique(images, "id", ids)
    where = {identity: number for number, identity in enumerate(ids)}
    everything = _records(file, content, "annotations")
    kinds = everything.column("category_id", {int, float, str}, "a number")
    chosen = [number for number, kind in enumerate(kinds) if kind in category]
    people = Records(file, [everything.items[n] for n in chosen], lambda i: f"annotations[{chosen[i]}]")
    owners = people.column("image_id", {int, float, str}, "a number")
    for number, owner in enumerate(owners):
        if owner not in where:
            raise people.error(number, f".image_id {owner!r} is the id of no image")
    image = np.array([where[owner] for owner in owners], np.int64)
    extent = np.array([size or (np.inf, np.inf) for size in sizes]).reshape(-1, 2)[image]
    labels, unsure = _labels(people, joints, torch.from_numpy(extent)), _unsure(people)
    solid = (labels.boxes[:, 2:] > labels.boxes[:, :2]).all(dim=1)
    found = {}
    order = np.argsort(image, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(image[order])) + 1) if len(order) else []:
        kept = torch.from_numpy(rows)[solid[rows]]
        mine = labels.select(kept[~unsure[kept]])
        mine.ignore = labels.boxes[kept[unsure[kept]]]
        found[int(image[rows[0]])] = mine
    return found


def _person_category(file: Path, content: dict) -> tuple[set, Sequence[str]]:
    """The ids of the category called person, and the names of its joints."""
    categories = _records(file, content, "categories")
    names = [name.lower() for name in categories.column("name", {str}, "a text")]
    ids = categories.column("id", {int, float, str}, "a number")
    people = [number for number, name in enumerate(names) if name == "person"]
    if not people:
        raise InputError(f"{file}: categories has none named 'person'; name the people's category so")
    joints = categories.lists("keypoints", [])[people[0]]
    if not joints:
        return {ids[number] for number in people}, COCO
    joints = [_joint_name(joint) for joint in joints]
    if not set(joints) & set(DIMOFS):
        raise categories.error(people[0], f".keypoints names no joint known here; known are {', '.join(DIMOFS)}")
    return {ids[number] for number in people}, joints


def _joint_name(value: Any) -> str:
    name = str(value).strip().lower().replace(" ", "_").replace("-", "_")
    return "neck" if name in NECK_NAMES else name


def _labels(people: Records, joints: Sequence[str], extent: Tensor) -> People:
    """Boxes and joints of all people, nothing to ignore; `extent` [N, 2] is the (height, width) of each one's image."""
    boxes = _finite(people, "bbox", people.rows("bbox", 4))
    if (negative := (boxes[:, 2:] < 0).any(axis=1)).any():
        raise people.error(int(negative.argmax()), ".bbox has a negative width or height; it is x, y, width, height")
    boxes[:, 2:] += boxes[:, :2]
    marked = _finite(people, "keypoints", people.rows("keypoints", 3 * len(joints), 0.0))
    marked = torch.from_numpy(marked).float().reshape(len(people), len(joints), 3)
    keypoints, labelled = to_dimofs(marked[..., :2] + 0.5, marked[..., 2] > 0, joints)
    corners = torch.from_numpy(boxes).float()
    empty = ~(corners[:, 2:] > corners[:, :2]).all(dim=1)
    for person in empty.nonzero()[:, 0].tolist():
        one = slice(person, person + 1)
        corners[one] = box_of_joints(keypoints[one], labelled[one], *extent[person].tolist())
    return People(corners, keypoints, labelled, torch.zeros(0, 4))


def _finite(records: Records, field: str, values: np.ndarray) -> np.ndarray:
    wrong = ~(np.abs(values) <= MOST_VALUE).all(axis=1)
    if wrong.any():
        raise records.error(int(wrong.argmax()), f".{field} holds a value that is not a finite number")
    return values


def _unsure(people: Records) -> Tensor:
    """[N] bool: crowds and people marked to be ignored."""
    flags = [people.column(field, {int, float, bool}, "0 or 1", None) for field in ("iscrowd", "ignore")]
    return torch.tensor([bool(crowd or ignore) for crowd, ignore in zip(*flags, strict=True)], dtype=torch.bool)
