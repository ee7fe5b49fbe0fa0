"""Who is reported at a score: recall and precision of people on labelled images, and people found where nobody is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from dimofs.boxes import corners, covered, first_takes, iou
from dimofs.eval.keypoints.coco_ap import CocoTruth
from dimofs.eval.models import PoseModel
from dimofs.images import read_image
from dimofs.pixels import to_tensor

# A box is right at this intersection over union, and does not count if this share of it lies in a crowd.
RIGHT_IOU, IN_CROWD = 0.5, 0.5


def labelled_boxes(truth: CocoTruth, crowds: bool = False) -> dict[int, Tensor]:
    """The boxes [P, 4], x1 y1 x2 y2, of each image's people, or of its `crowds`."""
    boxes: dict[int, list[Sequence[float]]] = {image["id"]: [] for image in truth.images}
    for person in truth.people:
        if bool(person.get("iscrowd", 0)) == crowds:
            boxes[person["image_id"]].append(person["bbox"])
    return {image: _corners(rows) for image, rows in boxes.items()}


def reported(truth: CocoTruth, results: Sequence[dict], score: float) -> tuple[float | None, float | None]:
    """Recall and precision of the results whose box scores `score` or more; None where there is nothing to count.

    The best of an image first, each takes the labelled person of the highest IoU who is still free.
    """
    people, crowds = labelled_boxes(truth), labelled_boxes(truth, crowds=True)
    found: dict[int, list[dict]] = {image: [] for image in people}
    for entry in sorted(results, key=_score, reverse=True):
        if _score(entry) >= score:
            found[entry["image_id"]].append(entry)
    right = wrong = 0
    for image, entries in found.items():
        boxes = _corners([entry["bbox"] for entry in entries])
        hit = first_takes(iou(boxes, people[image]), RIGHT_IOU)
        excused = (covered(boxes, crowds[image]) >= IN_CROWD).any(dim=1)
        right += int(hit.sum())
        wrong += int((~hit & ~excused).sum())
    labelled = sum(map(len, people.values()))
    return right / labelled if labelled else None, right / (right + wrong) if right + wrong else None


def count_people(model: PoseModel, images: Iterable[Path], score: float) -> Iterator[int]:
    """How many people the model reports in each image, at `score` and above."""
    with torch.inference_mode():
        for path in images:
            (people,) = model(to_tensor(read_image(path))[None] / 255)
            yield int((people.scores >= score).sum())


def _corners(boxes: Sequence[Sequence[float]]) -> Tensor:
    """The boxes of COCO's entries as x1 y1 x2 y2, [N, 4]."""
    return corners(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))


def _score(entry: dict) -> float:
    own = entry.get("box_score")
    return entry["score"] if own is None else own
