"""Synthetic stills as a COCO keypoint set: one frame of each clip as a PNG file, and the annotations."""

from pathlib import Path

import numpy as np

from dimofs.datasets.synthetic.clips import Scene, Synthetic
from dimofs.picture import png
from dimofs.skeletons import COCO, DIMOFS

# The frame that is taken. Later than 0, so that people who enter the scene are there.
NUMBER = 20
# Share of the box that a person's silhouette covers. COCO's "area" is that of the silhouette.
BODY = 0.53
_COLUMNS = [DIMOFS.index(name) for name in COCO]


def write_stills(folder: Path, clips: Synthetic) -> dict:
    """Write a PNG of each clip to `folder`, and return the content of a COCO annotation file.

    Joints in the frame are labelled: v = 2 if they are visible and 1 if not. People who are hardly visible are marked
    as crowds, which COCO ignores.
    """
    folder.mkdir(parents=True, exist_ok=True)
    images, people = [], []
    for index in range(len(clips)):
        scene = clips.scene(index)
        name = f"{scene.name}.png"
        images.append({"id": index, "file_name": name, "height": clips.height, "width": clips.width})
        number = min(NUMBER, clips.length - 1)
        shot = scene.shoot(number)
        (folder / name).write_bytes(png(shot.frame))
        for person in np.flatnonzero(shot.boxes[:, 2] > shot.boxes[:, 0]).tolist():
            label = _person(scene, number, person, shot.boxes[person], shot.visible[person])
            crowd = int(not shot.present[person])
            people.append({"id": len(people) + 1, "image_id": index, "category_id": 1, "iscrowd": crowd, **label})
    return {"images": images, "annotations": people, "categories": [{"id": 1, "name": "person"}]}


def _person(scene: Scene, number: int, person: int, box: np.ndarray, visible: np.ndarray) -> dict:
    points = scene.keypoints[number, person][_COLUMNS]
    inside = np.all((points >= 0) & (points < (scene.width, scene.height)), axis=1)
    flags = inside * (1 + visible[_COLUMNS])
    joints = np.concatenate(((points - 0.5) * inside[:, None], flags[:, None]), axis=1)
    x1, y1, x2, y2 = box.tolist()
    return {
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": BODY * (x2 - x1) * (y2 - y1),
        "keypoints": joints.astype(float).round(2).flatten().tolist(),
        "num_keypoints": int(inside.sum()),
    }
