"""Label the people of training images with a teacher model, MoveNet MultiPose, to complete the labels of data sets.

    python -m dimofs.zoo.label --weights MOVENET --out LABELS --jhmdb CLIPS --jhmdb-labels JHMDB --lspet DIR
    python -m dimofs.zoo.label --weights MOVENET --out LABELS --videos DIR --every 10

MOVENET is a folder made by `python -m dimofs.zoo.convert`. Writes LABELS/<data set>.npz, which the training command
reads by --teacher LABELS.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from dimofs.cli import Range, run
from dimofs.datasets import teacher
from dimofs.detections import Detections
from dimofs.zoo import checkpoints
from dimofs.zoo.backbones.movenet import MoveNet
from dimofs.zoo.devices import pick_device
from dimofs.zoo.training.data import Paths

# The most people that the teacher may find in an image.
MAX_PEOPLE = 30


@torch.inference_mode()
def label(model: MoveNet, images: Tensor, size: int) -> list[Detections]:
    """The teacher's people in images [N, 3, H, W] uint8, in pixels of the images.

    The model sees the images resized to a longer side of about `size`; MoveNet needs sides that are multiples of 32.
    """
    height, width = images.shape[-2:]
    scale = size / max(height, width)
    shape = [max(32, 32 * round(side * scale / 32)) for side in (height, width)]
    inputs = F.interpolate(images / 255, size=shape, mode="bilinear", antialias=scale < 1)
    back = torch.tensor([width / shape[1], height / shape[0]])
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    found = [people.to("cpu") for people in model(inputs, people=MAX_PEOPLE)]
    return [Detections(d.boxes * back.repeat(2), d.scores, d.keypoints * back, d.keypoint_scores) for d in found]


def batches(frames: Iterable[tuple[str, Tensor]], count: int) -> Iterator[tuple[list[str], Tensor]]:
    """Consecutive frames of one size, at most `count` together, with their names."""
    names, images = [], []
    for name, image in frames:
        if images and (len(images) == count or images[0].shape != image.shape):
            yield names, torch.stack(images)
            names, images = [], []
        names.append(name)
        images.append(image)
    if images:
        yield names, torch.stack(images)


def main(
    *,
    weights: Annotated[str, "folder of the converted MoveNet"],
    out: Annotated[Path, "folder to write the labels to"],
    data: Paths,
    size: Annotated[int, "longer side of the teacher's input, pixels", Range(32, 4096)] = 384,
    batch: Annotated[int, "images per batch", Range(1, 1024)] = 8,
    device: Annotated[str | None, "cpu, cuda, ... (default: a GPU if there is one)"] = None,
) -> None:
    where = pick_device(device)
    model = checkpoints.load_as(MoveNet, weights, where).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for name, source in data.sources().items():
        labels: dict[str, Detections] = {}
        with tqdm(desc=name, unit="image") as bar:
            for names, images in batches(source.frames(), batch):
                labels |= zip(names, label(model, images.to(where), size), strict=True)
                bar.update(len(names))
        teacher.save(out / f"{name}.npz", labels)


if __name__ == "__main__":
    run(main)
