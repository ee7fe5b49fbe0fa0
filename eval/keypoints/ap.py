"""Average precision of keypoints with greedy assignment of people, as PoseTrack defines it."""

import numpy as np

from dimofs.eval.keypoints.frames import Block
from dimofs.formats.posetrack import JOINTS

NEAR = 0.5  # head sizes


def assign(block: Block) -> np.ndarray:
    """Which predicted joints of some frames are right, [F, P, 15] bool.

    A prediction goes to the ground truth of which it has the largest part of the annotated joints right; a ground truth
    then takes the best of its predictions (in both the first of equals). Only the joints of such pairs can be right.
    """
    near = block.distance <= NEAR
    part = near.sum(axis=1) / np.maximum(block.annotated.sum(axis=1), 1)[:, :, None]  # [F, G, P]
    favourite = part.argmax(axis=1)[:, None] == np.arange(part.shape[1])[:, None]
    mutual = np.where(favourite, part, 0)
    frame, truth = np.nonzero(mutual.max(axis=2) > 0)
    found = mutual.argmax(axis=2)[frame, truth]
    right = np.zeros((*block.found.shape, len(JOINTS)), bool)
    right[frame, found] = near[frame, :, truth, found]
    return right


def average_precision(score: np.ndarray, right: np.ndarray, annotated: int) -> tuple[float, float, float]:
    """AP, and precision and recall of all predictions, of one joint: [N], [N] bool, number of annotated joints.

    The area under the precision's envelope, all points. Equal scores keep their order, NaN ranks first. Without
    predictions all are 0, with predictions but nothing annotated AP and recall are NaN.
    """
    if not len(score):
        return 0.0, 0.0, 0.0
    if not annotated:
        return np.nan, 0.0, np.nan
    recall, precision = curve(score, right, annotated)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.diff(recall, prepend=0)
    return float((steps * envelope).sum()), float(precision[-1]), float(recall[-1])


def curve(score: np.ndarray, right: np.ndarray, annotated: int) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision after each prediction, best first: [N], [N] bool, annotated joints -> two [N]."""
    hits = right[_best_first(score)].cumsum()
    return hits / annotated, hits / np.arange(1, len(hits) + 1)


def tie_range(score: np.ndarray, right: np.ndarray, annotated: int) -> float:
    """How far the AP of one joint depends on the order of predictions that have equal scores."""
    if not annotated or len(np.unique(score)) == len(score):
        return 0.0
    worst = np.argsort(right, kind="stable")
    high, low = (average_precision(score[o], right[o], annotated)[0] for o in (worst[::-1], worst))
    return high - low


def _best_first(score: np.ndarray) -> np.ndarray:
    return np.argsort(np.where(np.isnan(score), -np.inf, -score), kind="stable")
