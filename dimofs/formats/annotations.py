"""Files of labelled images from the programs that annotators use, all read as COCO keypoint files are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dimofs.cli import InputError
from dimofs.files import read_json
from dimofs.formats.cvat import read_cvat
from dimofs.formats.label_studio import read_label_studio


def read_annotations(path: str | Path, images: str | Path | None) -> Any:
    """The JSON content of a COCO keypoint file, or what it would be for the labels in another file.

    A `.yaml` file is that of YOLO-pose labels, an `.xml` file CVAT's export for images, and a JSON list an export of
    Label Studio; CVAT exports COCO keypoints too. images: the folder of images, which only COCO's and CVAT's files can
    do without. InputError: the file is absent or malformed, or Label Studio's COCO export, which keeps the joints of
    one thing in each image and names them in another order.
    """
    kind = Path(path).suffix.lower()
    if kind == ".xml":
        return read_cvat(path)
    if kind in (".yaml", ".yml"):
        from dimofs.formats.yolo_pose import read_yolo_pose

        return read_yolo_pose(path, _needed(path, images))
    content = read_json(path)
    if isinstance(content, list) and content and isinstance(content[0], dict):
        return read_label_studio(path, content, _needed(path, images))
    if isinstance(content, dict) and _of_label_studio(content):
        raise InputError(f"{path}: Label Studio's COCO export mixes up joints; export JSON there and give that")
    return content


def _of_label_studio(content: dict[str, Any]) -> bool:
    """Whether Label Studio wrote this COCO file, with joints."""
    info, things = content.get("info"), content.get("annotations")
    return (
        isinstance(info, dict)
        and info.get("contributor") == "Label Studio"
        and isinstance(things, list)
        and any(isinstance(thing, dict) and "keypoints" in thing for thing in things)
    )


def _needed(path: str | Path, images: str | Path | None) -> str | Path:
    if images is None:
        raise InputError(f"{path}: its images are needed too; give their folder")
    return images
