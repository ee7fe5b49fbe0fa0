"""Leeds Sports Pose Extended: 10,000 photographs of one labelled athlete each (Johnson and Everingham, CVPR 2011).

The joints were marked by many untrained annotators and are noisy: use `dimofs.datasets.teacher.Taught(noisy=True)`.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dimofs.cli import InputError
from dimofs.datasets.matlab import read_mat
from dimofs.datasets.people import Pair, People, box_of_joints, inside, to_dimofs
from dimofs.images import read_image
from dimofs.pixels import to_tensor
from dimofs.skeletons import LSP


class Lspet:
    """Images with one labelled person each; the box is the extent of the labelled joints times 1.2.

    MATLAB counts pixels from 1, so 0.5 is subtracted from joints to reach the pixel's centre. A joint is labelled if
    its flag is 1 and it lies in the image.

    joints: `joints.mat`, with `joints` [14, 3, N] (x, y, flag); images: the folder of `im00001.jpg` and so on.
    InputError: the file is absent or malformed; later, an image is absent or damaged.
    """

    def __init__(self, joints: str | Path, images: str | Path):
        values = read_mat(joints, "joints", 3)
        if values.ndim != 3 or values.shape[:2] != (len(LSP), 3):
            raise InputError(f"{joints}: joints has shape {values.shape}, not (14, 3, images); give LSPET's joints.mat")
        if not values.shape[2]:
            raise InputError(f"{joints}: joints holds no person")
        values = torch.from_numpy(values.astype(np.float32)).permute(2, 0, 1)
        self.keypoints, self.labelled = to_dimofs(values[..., :2] - 0.5, values[..., 2] == 1, LSP)
        self.images = Path(images)

    def __len__(self) -> int:
        return len(self.keypoints)

    def pair(self, index: int, random: np.random.Generator) -> Pair:
        """The image twice."""
        name, image = self._image(index)
        height, width = image.shape[1:]
        keypoints = self.keypoints[index][None]
        labelled = self.labelled[index][None] & inside(keypoints, height, width)
        boxes = box_of_joints(keypoints, labelled, height, width)
        people = People(boxes=boxes, keypoints=keypoints, labelled=labelled, ignore=torch.zeros(0, 4)).select(
            labelled.any(1)
        )
        return Pair(frame_a=image, frame_b=image, people=people, delta=0, name=name)

    def frames(self) -> Iterator[tuple[str, Tensor]]:
        """Each image with its file name."""
        return map(self._image, range(len(self)))

    def _image(self, index: int) -> tuple[str, Tensor]:
        name = f"im{index + 1:05d}.jpg"
        return name, to_tensor(read_image(self.images / name))
