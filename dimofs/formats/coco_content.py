"""Labels of other programs gathered in COCO's form, as if a COCO keypoint file had held them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dimofs.skeletons import COCO

# A box without one of its own is the extent of the joints times this, as in the data sets of `dimofs.datasets`.
ENLARGED = 1.2


class CocoContent:
    """Images, annotations and categories; `content` is what `json.load` would give for a COCO file.

    Boxes are continuous. COCO's joints are numbers of pixels, whose centres are integers: a joint in continuous
    coordinates, where the first pixel goes from 0 to 1, is half less in COCO's.
    """

    def __init__(self):
        self.images: list[dict] = []
        self.annotations: list[dict] = []
        self.categories: list[dict] = []
        # For each category the place of each joint among its `keypoints`.
        self.places: list[list[int]] = []

    @property
    def content(self) -> dict[str, Any]:
        """All that was added."""
        return {"images": self.images, "annotations": self.annotations, "categories": self.categories}

    def add_category(self, name: str, joints: Sequence[str], limbs: Sequence[tuple[int, int]] = ()) -> int:
        """A kind of labelled things; `limbs` are pairs of places in `joints`. Returns its id.

        Where all joints are among COCO's 17, the category has these in their order, as evaluation by OKS expects.
        """
        known = [joint.strip().lower().replace(" ", "_").replace("-", "_") for joint in joints]
        human = set(known) <= set(COCO)
        places = [COCO.index(joint) for joint in known] if human else list(range(len(joints)))
        edges = [[places[a] + 1, places[b] + 1] for a, b in limbs]
        names = list(COCO) if human else list(joints)
        self.categories.append({"id": len(self.categories) + 1, "name": name, "keypoints": names, "skeleton": edges})
        self.places.append(places)
        return len(self.categories)

    def add_image(self, name: str, width: int, height: int) -> int:
        """An image by its name in the folder of images. Returns its id."""
        self.images.append({"id": len(self.images) + 1, "file_name": name, "width": width, "height": height})
        return len(self.images)

    def add(
        self, image: int, category: int, joints: np.ndarray, box: Sequence[float] | np.ndarray | None = None
    ) -> None:
        """A labelled thing of an image and category by their ids.

        joints: [J, 3] of COCO's x, y and flag (0 absent, 1 hidden, 2 seen). box: x1 y1 x2 y2, else that of the joints.
        """
        arranged = np.zeros((len(self.categories[category - 1]["keypoints"]), 3))
        arranged[self.places[category - 1]] = joints * (joints[:, 2:] > 0)
        entry = self.images[image - 1]
        x1, y1, x2, y2 = map(float, self._extent(arranged, entry) if box is None else box)
        self.annotations.append(
            {
                "id": len(self.annotations) + 1,
                "image_id": image,
                "category_id": category,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "keypoints": arranged.ravel().tolist(),
                "num_keypoints": int((arranged[:, 2] > 0).sum()),
                "iscrowd": 0,
            }
        )

    @staticmethod
    def _extent(joints: np.ndarray, image: dict) -> np.ndarray:
        """The enlarged extent of the joints within the image; of one without joints nothing."""
        points = joints[joints[:, 2] > 0, :2] + 0.5
        if not len(points):
            return np.zeros(4)
        low, high = points.min(axis=0), points.max(axis=0)
        middle, half = (low + high) / 2, ENLARGED * (high - low) / 2
        size = np.array([image["width"], image["height"]])
        return np.concatenate((np.clip(middle - half, 0, size), np.clip(middle + half, 0, size)))
