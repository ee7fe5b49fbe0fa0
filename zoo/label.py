"""Label the people of training images with a teacher, MoveNet MultiPose: what the data sets themselves leave out.

    python -m dimofs.zoo.label --weights MOVENET --out LABELS --jhmdb CLIPS --jhmdb-labels JHMDB --lspet DIR
    python -m dimofs.zoo.label --weights MOVENET --out LABELS --videos DIR --every 10

MOVENET is a folder made by `python -m dimofs.zoo.convert`. Writes LABELS/<data set>.npz for --teacher of the training
command.
"""

from collections.abc import Iterable, Iterator
from math import inf
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from dimofs.cli import check_ranges, run
from dimofs.datasets import teacher
from dimofs.detections import Detections
from dimofs.zoo import checkpoints
from dimofs.zoo.backbones.movenet import MoveNet
from dimofs.zoo.training.data import (
    Coco,
    CocoImages,
    JhmdbClips,
    JhmdbLabels,
    LspetFolder,
    Paths,
    PoseTrackRoot,
    VideoFolder,
)

# The most people that are labelled in an image.
PEOPLE = 30


@torch.inference_mode()
def label(model: MoveNet, images: Tensor, size: int) -> list[Detections]:
    """The teacher's people of images [N, 3, H, W] uint8, in their pixels; input sides are multiples of 32 near the
    shape whose longer side is `size`."""
    height, width = images.shape[-2:]
    scale = size / max(height, width)
    shape = [max(32, 32 * round(side * scale / 32)) for side in (height, width)]
    inputs = F.interpolate(images / 255, size=shape, mode="bilinear", antialias=scale < 1)
    back = torch.tensor([width / shape[1], height / shape[0]])
    found = model(inputs.contiguous(memory_format=torch.channels_last), people=PEOPLE)
    return [Detections(d.boxes * back.repeat(2), d.scores, d.keypoints * back, d.keypoint_scores) for d in found]


def batches(frames: Iterable[tuple[str, Tensor]], count: int) -> Iterator[tuple[list[str], Tensor]]:
    """Runs of at most `count` frames of one size, with their names."""
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
    out: Annotated[str, "folder to write the labels to"],
    jhmdb: JhmdbClips = None,
    jhmdb_labels: JhmdbLabels = None,
    coco: Coco = None,
    coco_images: CocoImages = None,
    lspet: LspetFolder = None,
    posetrack: PoseTrackRoot = None,
    videos: VideoFolder = None,
    every: Annotated[int, "JHMDB and videos: label one frame in so many"] = 5,
    size: Annotated[int, "longer side of the teacher's input, pixels"] = 384,
    batch: Annotated[int, "images at once"] = 8,
) -> None:
    check_ranges(every=(every, 1, inf), size=(size, 32, inf), batch=(batch, 1, inf))
    model = checkpoints.load_as(MoveNet, weights).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    paths = Paths(jhmdb, jhmdb_labels, coco, coco_images, lspet, posetrack, videos)
    for name, source in paths.sources(every=every).items():
        labels: dict[str, Detections] = {}
        with tqdm(desc=name, unit="image") as bar:
            for names, images in batches(source.frames(), batch):
                labels |= zip(names, label(model, images, size), strict=True)
                bar.update(len(names))
        teacher.save(Path(out) / f"{name}.npz", labels)


if __name__ == "__main__":
    run(main)
