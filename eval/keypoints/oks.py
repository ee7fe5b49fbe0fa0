"""AP of people by object keypoint similarity (OKS), COCO's measure on PoseTrack's 15 joints; needs no head boxes.

The OKS of a prediction is the mean over a person's annotated joints of exp(-d^2 / (2 s^2 k^2)), 0 for joints that the
prediction lacks. k is 2 sigma of the joint (`dimofs.skeletons`); s^2 is the area of the person's box: `bbox` if the
file has it, else the extent of the joints enlarged by 1.2. The clean-up is PoseTrack's; people without joints do not
count. A prediction's score is that of the person, else the mean over its joints; the best 20 of a frame count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dimofs import skeletons
from dimofs.eval.keypoints.frames import JointTable, clean
from dimofs.eval.keypoints.order import Pairing, pair_frames
from dimofs.formats.posetrack import JOINTS, Video

# To the last bit as COCO computes them.
THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
# Predictions of a frame that count, best first.
MOST_PER_FRAME = 20
_VARIANCE = (2 * np.array(skeletons.oks_sigmas(JOINTS))) ** 2


@dataclass(kw_only=True)
class VideoOks:
    """The predictions of one video, scores [N] and whether they are right [N, 10] by threshold; the number of people
    and of frames in its ground truth; and how its frames were paired."""

    name: str
    frames: int
    score: np.ndarray
    right: np.ndarray
    people: int
    pairing: Pairing


def score_people(truth: Video, predicted: Video) -> VideoOks:
    """Compare a video's predictions with its ground truth, frames paired by name. InputError: as `clean`."""
    predicted, pairing = pair_frames(truth, predicted, by_name=True)
    gt, pr = clean(truth, predicted)
    area, score = areas(truth, gt), _scores(predicted, pr)
    found = [_frame(gt, pr, f, area, score) for f in range(len(gt.starts) - 1)]
    score, right = (np.concatenate(parts) for parts in zip((score[:0], np.zeros((0, 10), bool)), *found, strict=True))
    people = int(gt.has.any(axis=1).sum())
    return VideoOks(name=truth.name, frames=len(found), score=score, right=right, people=people, pairing=pairing)


def figures(videos: Sequence[VideoOks]) -> dict[str, float]:
    """AP, AP50, AP75 and AR over some videos, pooled, in percent; NaN if nobody is annotated."""
    score, right = (np.concatenate([getattr(v, field) for v in videos]) for field in ("score", "right"))
    people = sum(v.people for v in videos)
    if not people:
        return dict.fromkeys(("AP", "AP50", "AP75", "AR"), np.nan)
    hits = right[np.argsort(-score, kind="stable")].cumsum(axis=0)
    precision = hits / np.arange(1, len(hits) + 1)[:, None]
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], np.zeros((1, len(THRESHOLDS))), axis=0)
    first = [np.searchsorted(column / people, RECALLS) for column in hits.T]
    ap = 100 * np.array([envelope[i, t].mean() for t, i in enumerate(first)])
    recall = 100 * right.sum(axis=0).mean() / people
    return {"AP": float(ap.mean()), "AP50": float(ap[0]), "AP75": float(ap[5]), "AR": float(recall)}


def areas(video: Video, people: JointTable) -> np.ndarray:
    """[P] areas of the people's boxes in square pixels; never 0."""
    box = video.box[people.index]
    with np.errstate(over="ignore", invalid="ignore"):
        given = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
        width, height = (np.fmax.reduce(v, axis=1) - np.fmin.reduce(v, axis=1) for v in (people.x, people.y))
        extent = 1.2 * width * (1.2 * height)
    return np.fmax(np.where(np.isnan(given), extent, given), np.spacing(1.0))


def _scores(video: Video, people: JointTable) -> np.ndarray:
    """[P] the people's scores, else the mean over their joints."""
    given = video.score[people.index]
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.where(people.has, people.score, 0).sum(axis=1) / np.maximum(people.has.sum(axis=1), 1)
    return np.nan_to_num(np.where(np.isnan(given), mean, given), nan=-np.inf)


def _frame(
    gt: JointTable, pr: JointTable, frame: int, area: np.ndarray, score: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Scores [N] of a frame's predictions, best first, and whether they are right [N, 10]."""
    g = np.arange(gt.starts[frame], gt.starts[frame + 1])
    g = g[gt.has[g].any(axis=1)]
    p = np.arange(pr.starts[frame], pr.starts[frame + 1])
    p = p[np.argsort(-score[p], kind="stable")][:MOST_PER_FRAME]
    right = np.zeros((len(p), len(THRESHOLDS)), bool)
    similarity = oks(gt, pr, g, p, area)
    free = np.ones((len(THRESHOLDS), len(g)), bool)
    for k in range(len(p) if len(g) else 0):
        open_to = np.where(free & (similarity[:, k] >= THRESHOLDS[:, None]), similarity[:, k], -1)
        # Ties go to the last, as in COCO.
        best = len(g) - 1 - open_to[:, ::-1].argmax(axis=1)
        right[k] = open_to[np.arange(len(THRESHOLDS)), best] >= 0
        free[right[k], best[right[k]]] = False
    return score[p], right


def oks(gt: JointTable, pr: JointTable, g: np.ndarray, p: np.ndarray, area: np.ndarray) -> np.ndarray:
    """[G, P] OKS between people `g` of the ground truth, each with a joint, and predictions `p`."""
    with np.errstate(over="ignore", invalid="ignore"):
        d2 = (gt.x[g, None] - pr.x[p]) ** 2 + (gt.y[g, None] - pr.y[p]) ** 2  # [G, P, 15]
        similarity = np.nan_to_num(np.exp(-d2 / (2 * area[g, None, None] * _VARIANCE)))
    return similarity.sum(axis=2) / np.maximum(gt.has[g].sum(axis=1), 1)[:, None]
