"""Average precision of keypoints with greedy assignment of people, as PoseTrack defines it."""

import numpy as np

from dimofs.eval.keypoints.frames import Block
from dimofs.formats.posetrack import JOINTS

# A joint is right up to this distance, in head sizes.
NEAR = 0.5


def assign(block: Block) -> np.ndarray:
    """Which predicted joints of a block of frames are right, [F, P, 15] bool.

    Each prediction is assigned to the person with the largest share of annotated joints that it gets right; each person
    then keeps the best of its predictions. Ties go to the first. Only joints of such pairs can be right.
    """
    near = block.distance <= NEAR
    share = near.sum(axis=1) / np.maximum(block.annotated.sum(axis=1), 1)[:, :, None]  # [F, G, P]
    favourite = share.argmax(axis=1)[:, None] == np.arange(share.shape[1])[:, None]
    mutual = np.where(favourite, share, 0)
    frame, truth = np.nonzero(mutual.max(axis=2) > 0)
    found = mutual.argmax(axis=2)[frame, truth]
    right = np.zeros((*block.found.shape, len(JOINTS)), bool)
    right[frame, found] = near[frame, :, truth, found]
    return right


def average_precision(score: np.ndarray, right: np.ndarray, annotated: int) -> tuple[float, float, float]:
    """AP of one joint, and precision and recall of all its predictions.

    score: [N]; right: [N] bool; annotated: number of annotated joints. AP is the area under the precision envelope, at
    every recall. Equal scores keep their order, NaN ranks first. Without predictions all three are 0; with predictions
    but nothing annotated, AP and recall are NaN.
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
    """Recall [N] and precision [N] after each prediction, in order of descending score."""
    hits = right[_best_first(score)].cumsum()
    return hits / annotated, hits / np.arange(1, len(hits) + 1)


def tie_range(score: np.ndarray, right: np.ndarray, annotated: int) -> float:
    """Largest difference that the order of predictions with equal scores can make to the AP of one joint."""
    if not annotated or len(np.unique(score)) == len(score):
        return 0.0
    wrong_first = np.argsort(right, kind="stable")
    right_first = wrong_first[::-1]
    low, high = (average_precision(score[o], right[o], annotated)[0] for o in (wrong_first, right_first))
    return high - low


def _best_first(score: np.ndarray) -> np.ndarray:
    """[N] indices that sort by descending score, stably, NaN first."""
    return np.argsort(np.where(np.isnan(score), -np.inf, -score), kind="stable")
