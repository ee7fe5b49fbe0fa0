"""COCO keypoints: photographs with several people each, https://cocodataset.org/#format-data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dimofs import boxes as box
from dimofs.cli import InputError
from dimofs.datasets.people import Pair, People, box_of_joints, inside, to_dimofs
from dimofs.formats.annotations import read_annotations
from dimofs.formats.coco_categories import Category, choose, joint_name
from dimofs.formats.coco_images import CocoImages
from dimofs.formats.records import MISSING, Records, as_list
from dimofs.pixels import to_tensor
from dimofs.skeletons import COCO, DIMOFS, PEOPLE

# What other data sets in COCO's format call the neck.
NECK_NAMES = ("head_bottom", "thorax", "upper_neck")


class CocoKeypoints:
    """The images of a COCO keypoint file that show people.

    Annotations count if their category is named "person", whatever its id. That category's `keypoints` name the joints;
    without them they are COCO's 17. Another `category`, or the only one with keypoints in a file without people, has a
    skeleton of its own (`dimofs.formats.coco_categories`), and "people" below are then what it names. Joints are
    numbers of pixels in the file, so 0.5 is added to reach the pixel's centre; boxes are continuous already. A joint is
    labelled if its flag is above 0 and it lies in the image. A person without joints trains the box alone; one with an
    empty box takes the extent of the joints times 1.2. Crowds (`iscrowd`) and people marked `ignore` are regions where
    a detector is neither right nor wrong. Areas and the ids of annotations are not used.

    `width` and `height`, where the file has them, decide whether labels refer to the upright image or to the stored
    pixels, see `dimofs.images.read_image`.

    annotations: the JSON file, which may be gzipped, or labels of YOLO-pose, Label Studio or CVAT
                 (`dimofs.formats.annotations`); images: the folder of its `file_name`s.
    empty:       take images without a person's annotation, too, as pictures of nobody.
    category:    the name of the category.
    `skeleton` tells the joints of the people given.
    InputError: the file is absent, malformed, names no people or has one outside the image; later, an image is absent,
    damaged or of another size than the file says.
    """

    def __init__(
        self, annotations: str | Path, images: str | Path, *, empty: bool = False, category: str | None = None
    ):
        content = read_annotations(annotations, images)
        if not isinstance(content, dict):
            raise InputError(f"{annotations}: is not an object with images and annotations, as COCO's are")
        self.images = CocoImages(annotations, content.get("images", MISSING), images)
        chosen = choose(annotations, content, category)
        self.skeleton = chosen.skeleton if chosen.own else PEOPLE
        people = _people(annotations, content, self.images, chosen)
        if empty:
            nobody = People.empty(len(self.skeleton.joints))
            people |= {number: nobody for number in range(len(self.images)) if number not in people}
        self.items = sorted((self.images.names[number], number, labels) for number, labels in people.items())
        if not self.items:
            name = self.skeleton.name
            raise InputError(f"{annotations}: annotates no {name}; give a file of COCO's person_keypoints format")

    def __len__(self) -> int:
        return len(self.items)

    def pair(self, index: int, random: np.random.Generator) -> Pair:
        """The image twice."""
        name, number, people = self.items[index]
        image = to_tensor(self.images.read(number))
        labelled = people.labelled & inside(people.keypoints, *image.shape[1:])
        return Pair(frame_a=image, frame_b=image, people=replace(people, labelled=labelled), delta=0, name=name)

    def check_images(self) -> None:
        """InputError: the file of an image is absent."""
        self.images.check_present(number for _, number, _ in self.items)

    def frames(self) -> Iterator[tuple[str, Tensor]]:
        """Each image with its file name."""
        for name, number, _ in self.items:
            yield name, to_tensor(self.images.read(number))


def _records(file: str | Path, content: dict, field: str) -> Records:
    return Records(file, as_list(file, content.get(field, MISSING), field), (field + "[{}]").format)


def _people(file: str | Path, content: dict, images: CocoImages, category: Category) -> dict[int, People]:
    """The people of each image that has any, by the image's place in the file."""
    joints = category.skeleton.joints if category.own else _person_joints(file, content, category)
    where = {identity: number for number, identity in enumerate(images.ids)}
    everything = _records(file, content, "annotations")
    kinds = everything.column("category_id", {int, float, str}, "a number")
    chosen = [number for number, kind in enumerate(kinds) if kind in category.ids]
    people = Records(file, [everything.items[n] for n in chosen], lambda i: f"annotations[{chosen[i]}]")
    owners = people.column("image_id", {int, float, str}, "a number")
    for number, owner in enumerate(owners):
        if owner not in where:
            raise people.error(number, f".image_id {owner!r} is the id of no image")
    image = np.array([where[owner] for owner in owners], np.int64)
    extent = np.array([size or (np.inf, np.inf) for size in images.sizes]).reshape(-1, 2)[image]
    labels, unsure = _labels(people, joints, torch.from_numpy(extent), category.own), _unsure(people)
    solid = (labels.boxes[:, 2:] > labels.boxes[:, :2]).all(dim=1)
    found = {}
    order = np.argsort(image, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(image[order])) + 1) if len(order) else []:
        kept = torch.from_numpy(rows)[solid[rows]]
        mine = labels.select(kept[~unsure[kept]])
        mine.ignore = labels.boxes[kept[unsure[kept]]]
        found[int(image[rows[0]])] = mine
    return found


def _person_joints(file: str | Path, content: dict, category: Category) -> Sequence[str]:
    """The names of the joints of people; COCO's without a list of categories."""
    if "categories" not in content:
        return COCO
    categories = _records(file, content, "categories")
    joints = [_known_name(joint) for joint in categories.lists("keypoints", [])[category.place]]
    known = [joint for joint in joints if joint in DIMOFS]
    if joints and not known:
        raise categories.error(category.place, f".keypoints names no joint known here; known are {', '.join(DIMOFS)}")
    # Some programs spell a few of COCO's 17 joints differently, but keep their order.
    in_order = len(joints) == len(COCO) and all(joint in COCO and joints[COCO.index(joint)] == joint for joint in known)
    return COCO if in_order or not joints else joints


def _known_name(value: Any) -> str:
    name = joint_name(value)
    return "neck" if name in NECK_NAMES else name


def _labels(people: Records, joints: Sequence[str], extent: Tensor, own: bool) -> People:
    """Boxes and joints of all people, nothing to ignore; `extent` [N, 2] is the (height, width) of each one's image.
    The joints stay as they are if they are `own` ones, and become those of `DIMOFS` otherwise."""
    boxes = people.pixels("bbox", 4)
    if (negative := (boxes[:, 2:] < 0).any(axis=1)).any():
        raise people.error(int(negative.argmax()), ".bbox has a negative width or height; it is x, y, width, height")
    marked = torch.from_numpy(people.pixels("keypoints", 3 * len(joints), 0.0))
    marked = marked.float().reshape(len(people), len(joints), 3)
    keypoints, labelled = marked[..., :2] + 0.5, marked[..., 2] > 0
    if not own:
        keypoints, labelled = to_dimofs(keypoints, labelled, joints)
    corners = box.corners(torch.from_numpy(boxes)).float()
    empty = ~(corners[:, 2:] > corners[:, :2]).all(dim=1)
    outside = ((corners[:, 2:] <= 0) | (corners[:, :2] >= extent.flip(1))).any(dim=1) & ~empty
    if outside.any():
        raise people.error(int(outside.int().argmax()), ".bbox lies outside its image; correct or remove it")
    for person in empty.nonzero()[:, 0].tolist():
        one = slice(person, person + 1)
        corners[one] = box_of_joints(keypoints[one], labelled[one], *extent[person].tolist())
    return People(boxes=corners, keypoints=keypoints, labelled=labelled, ignore=torch.zeros(0, 4))


def _unsure(people: Records) -> Tensor:
    """[N] bool: crowds and people marked to be ignored."""
    flags = [people.column(field, {int, float, bool}, "0 or 1", None) for field in ("iscrowd", "ignore")]
    return torch.tensor([bool(crowd or ignore) for crowd, ignore in zip(*flags, strict=True)], dtype=torch.bool)
