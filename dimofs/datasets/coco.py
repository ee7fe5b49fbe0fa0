"""COCO keypoints: photographs with several people each, https://cocodataset.org/#format-data."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dimofs.cli import InputError
from dimofs.datasets.people import Pair, People, to_dimofs
from dimofs.files import read_json
from dimofs.images import read_image
from dimofs.pixels import to_tensor
from dimofs.skeletons import COCO


class CocoKeypoints:
    """The images of a COCO keypoint file that show people.

    COCO's joints are numbers of pixels, so 0.5 is added to reach the pixel's centre; its boxes are continuous already.
    A joint trains if its flag is above 0. A person without joints trains the box alone, a crowd is ignored.

    annotations: the JSON file; images: the folder of its `file_name`s.
    InputError: the file is absent, malformed or names no people.
    """

    def __init__(self, annotations: str | Path, images: str | Path):
        content = read_json(annotations)
        try:
            people = [c["id"] for c in content["categories"] if c["name"] == "person"]
            files = {image["id"]: image["file_name"] for image in content["images"]}
            found: dict[str, list[dict]] = {}
            for annotation in content["annotations"]:
                if annotation["category_id"] in people:
                    found.setdefault(files[annotation["image_id"]], []).append(annotation)
            self.items = [(name, _people(found[name])) for name in sorted(found)]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{annotations}: not a COCO keypoint file ({type(error).__name__}: {error})") from error
        if not self.items:
            raise InputError(f"{annotations}: annotates no person; give a file of COCO's person_keypoints format")
        self.images = Path(images)

    def __len__(self) -> int:
        return len(self.items)

    def pair(self, index: int, random: np.random.Generator) -> Pair:
        """The image twice."""
        name, people = self.items[index]
        image = to_tensor(read_image(self.images / name))
        return Pair(image, image, people, 0, name)

    def frames(self) -> Iterator[tuple[str, Tensor]]:
        """Each image with its file name."""
        for name, _ in self.items:
            yield name, to_tensor(read_image(self.images / name))


def _people(annotations: list[dict]) -> People:
    boxes = torch.tensor([a["bbox"] for a in annotations], dtype=torch.float32).reshape(len(annotations), 4)
    boxes[:, 2:] += boxes[:, :2]
    marked = [a.get("keypoints") or [0] * 3 * len(COCO) for a in annotations]
    joints = torch.tensor(marked, dtype=torch.float32).reshape(len(annotations), len(COCO), 3)
    crowd = torch.tensor([bool(a.get("iscrowd", 0)) for a in annotations])
    solid = (boxes[:, 2:] > boxes[:, :2]).all(1)
    keypoints, labelled = to_dimofs(joints[..., :2] + 0.5, joints[..., 2] > 0, COCO)
    return People(boxes, keypoints, labelled, boxes[crowd & solid]).select(~crowd & solid)
