"""Skeletons of CVAT's export "CVAT for images 1.1" (https://docs.cvat.ai/docs/other/xml_format).

CVAT's points are continuous: the first pixel goes from 0 to 1.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError, fromstring

import numpy as np

from dimofs.cli import InputError
from dimofs.files import read_bytes
from dimofs.formats.coco_content import CocoContent


def read_cvat(path: str | Path) -> dict[str, Any]:
    """The skeletons of a file, as the content of a COCO file.

    A skeleton takes the box of its label in its group, if it is in one; other shapes are passed over. A point that is
    outside is absent, an occluded one hidden. InputError: the file is malformed, holds tracks, or no skeletons.
    """
    root = _parsed(path)
    if root.find("track") is not None:
        raise InputError(f'{path}: holds tracks of a video; export the task as "CVAT for images 1.1" instead')
    joints = _joints(root)
    if not joints:
        raise InputError(f"{path}: holds no skeletons; draw joints as skeletons, which CVAT's labels of that type make")
    gathered = CocoContent()
    limbs = {name: _limbs(root, name, joints[name]) for name in joints}
    categories = {name: gathered.add_category(name, joints[name], limbs[name]) for name in joints}
    for place, image in enumerate(root.iter("image"), 1):
        where = f"{path}: image {place}"
        width, height = (int(_number(where, image, side, low=1)) for side in ("width", "height"))
        number = gathered.add_image(_text(where, image, "name"), width, height)
        for skeleton in image.iter("skeleton"):
            name = _text(where, skeleton, "label")
            points = _points(where, skeleton, joints[name])
            gathered.add(number, categories[name], points, _box(where, image, skeleton))
    return gathered.content


def _parsed(path: str | Path) -> Element:
    content = read_bytes(path)
    try:
        # A document type could define texts that grow without end.
        root = None if b"<!DOCTYPE" in content else fromstring(content)
    except (ParseError, ValueError) as error:
        raise InputError(f"{path}: not an XML file ({error})") from error
    if root is None or root.tag != "annotations":
        raise InputError(f'{path}: not a file of CVAT; export the task as "CVAT for images 1.1"')
    return root


def _joints(root: Element) -> dict[str, list[str]]:
    """For each label of skeletons the names of its points: in the order in which the file lists them, else as used."""
    found: dict[str, dict[str, None]] = {}
    for label in root.iterfind("meta//labels/label"):
        if parent := label.findtext("parent"):
            found.setdefault(parent, {})[label.findtext("name") or ""] = None
    for skeleton in root.iter("skeleton"):
        for point in skeleton.iter("points"):
            found.setdefault(skeleton.get("label", ""), {})[point.get("label", "")] = None
    return {name: list(joints) for name, joints in found.items()}


def _limbs(root: Element, name: str, joints: list[str]) -> list[tuple[int, int]]:
    """The lines of a skeleton's drawing as pairs of its points."""
    drawings = (
        label.findtext("svg") for label in root.iterfind("meta//labels/label") if label.findtext("name") == name
    )
    shapes = [dict(_attributes(shape)) for shape in re.findall(r"<(?:line|circle)[^>]*>", next(drawings, None) or "")]
    nodes = {shape["data-node-id"]: shape.get("data-label-name") for shape in shapes if "data-node-id" in shape}
    ends = [[nodes.get(shape.get(f"data-node-{end}", "")) for end in ("from", "to")] for shape in shapes]
    return [(joints.index(a), joints.index(b)) for a, b in ends if a in joints and b in joints]


def _attributes(shape: str) -> Iterator[tuple[str, str]]:
    for name, value in re.findall(r'([\w-]+)="([^"]*)"', shape):
        yield name, html.unescape(value)


def _points(where: str, skeleton: Element, joints: list[str]) -> np.ndarray:
    """[J, 3] x, y and flag in COCO's convention."""
    found = np.zeros((len(joints), 3))
    for point in skeleton.iter("points"):
        words = _text(where, point, "points").split(",")
        try:
            x, y = map(float, words)
        except ValueError as error:
            raise InputError(f"{where}: a point of a skeleton is {point.get('points')!r}, not x,y") from error
        if point.get("outside") != "1" and np.isfinite((x, y)).all():
            flag = 1 if point.get("occluded") == "1" else 2
            found[joints.index(point.get("label", ""))] = x - 0.5, y - 0.5, flag
    return found


def _box(where: str, image: Element, skeleton: Element) -> list[float] | None:
    """The box of the same label and group; None without one."""
    group = skeleton.get("group_id", "0")
    for box in image.iter("box"):
        if group != "0" and box.get("group_id") == group and box.get("label") == skeleton.get("label"):
            return [_number(where, box, side) for side in ("xtl", "ytl", "xbr", "ybr")]
    return None


def _text(where: str, element: Element, field: str) -> str:
    value = element.get(field)
    if not value:
        raise InputError(f"{where}: <{element.tag}> has no {field}")
    return value


def _number(where: str, element: Element, field: str, low: float = -1e6) -> float:
    text = _text(where, element, field)
    try:
        value = float(text)
    except ValueError as error:
        raise InputError(f"{where}: {field} is {text!r}, not a number") from error
    if not low <= value <= 1e6:
        raise InputError(f"{where}: {field} is {text}, not a number of pixels")
    return value
