"""COCO's results format: what `dimofs.zoo.pose --format coco` writes and `dimofs.eval.coco` scores, made in one place.

An entry holds a person's box and pose. COCO ranks all poses of a data set by "score", so that is the pose's score: the
box's score times the mean confidence of the joints that the model is reasonably sure of. "box_score" is the box's own.
"""

from collections.abc import Sequence
from math import inf

import numpy as np
import torch
from torch import Tensor

from dimofs import skeletons
from dimofs.detections import Detections
from dimofs.formats.rounding import PIXEL_DIGITS, rounded_joints, rounded_pixels, rounded_scores

# COCO's category id of people.
PERSON = 1
# A model whose joints are all among these finds people.
PEOPLES_JOINTS = {*skeletons.DIMOFS, *skeletons.POSETRACK18, *skeletons.JHMDB, *skeletons.LSP}
# Joints up to this confidence are absent, hidden or outside the picture, and do not count in the score of their pose.
COUNTED_CONFIDENCE = 0.2


def joints_of(names: Sequence[str]) -> Sequence[str]:
    """The joints of a results file of a model with the joints `names`: COCO's 17 for people, else the model's own."""
    return skeletons.COCO if set(names) <= PEOPLES_JOINTS else names


def to_results(
    people: Detections,
    names: Sequence[str],
    image_id: int,
    category: int = PERSON,
    joints: Sequence[str] | None = None,
) -> list[dict]:
    """The P people (on the CPU, with joints `names`) of an image as entries of a COCO results file, best box first.

    keypoints: [x, y, v] for each of the `joints` (default: `joints_of`), pixel centres at integers (COCO's convention;
    ours are at integer + 0.5); v is 1, 0 where the joint is absent and its place a guess, and x = y = v = 0 where the
    model has no such joint. scores: the joints' confidences. bbox: x y w h.
    """
    columns = skeletons.indices(names, joints_of(names) if joints is None else joints)
    ranks = zip(rounded_scores(pose_scores(people, columns)), rounded_scores(people.scores), strict=True)
    known = joints_and_boxes(people, columns, absent=COUNTED_CONFIDENCE)
    return [
        {"image_id": image_id, "category_id": category, **person, "score": pose_score, "box_score": box_score}
        for person, (pose_score, box_score) in zip(known, ranks, strict=True)
    ]


def pose_scores(people: Detections, columns: Sequence[int]) -> Tensor:
    """[P] box score times the mean confidence of those joints in `columns` that are above COUNTED_CONFIDENCE; -1 among
    the columns is a joint that the model lacks."""
    known = [column for column in columns if column >= 0]
    confidences = people.confidences[:, known]
    counted = confidences > COUNTED_CONFIDENCE
    mean = torch.where(counted, confidences, 0).sum(dim=1) / counted.sum(dim=1).clamp(min=1)
    return people.scores * mean


def joints_and_boxes(people: Detections, columns: Sequence[int], absent: float = -inf) -> list[dict]:
    """The fields keypoints, scores and bbox of P people, in COCO's terms (see `to_results`).

    columns: for each joint of the file its index in the model's joints, -1 where the model has no such joint.
    absent: joints up to this confidence have v = 0.
    """
    boxes = torch.cat((people.boxes[:, :2], people.boxes[:, 2:] - people.boxes[:, :2]), dim=1)
    points = rounded_joints(people)
    points[..., :2] = (points[..., :2] - 0.5).round(PIXEL_DIGITS)
    nothing = np.zeros_like(points[:, :1])
    # Index -1 finds the zeros that are appended here.
    points = np.concatenate((points, nothing), axis=1)[:, list(columns)]
    confidences = points[..., 2].tolist()
    points[..., 2] = (np.array(columns) >= 0) & (points[..., 2] > absent)
    triples = points.reshape(len(people), 3 * len(columns)).tolist()
    fields = zip(triples, confidences, rounded_pixels(boxes), strict=True)
    return [{"keypoints": joints, "scores": scores, "bbox": box} for joints, scores, box in fields]
