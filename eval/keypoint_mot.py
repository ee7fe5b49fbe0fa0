"""CLEAR MOT of keypoints, each joint tracked on its own: the state that a video's frames are added to, in order.

Per frame and joint, as py-motmetrics counts it for PoseTrack's official tool: a ground-truth track keeps its most
recent hypothesis if that is present and near; the others are paired at the least distance, Hungarian; a pair whose
ground truth had another hypothesis before is a switch. (Bernardin & Stiefelhagen, 2008)
"""

import numpy as np
from scipy.optimize import linear_sum_assignment

from dimofs.datasets.posetrack import JOINTS

NEAR = 0.5  # head sizes
_ALL = np.arange(len(JOINTS))[:, None]


class JointTracks:
    """What is known of a video's tracks, with the counts so far, each [15].

    detections: pairs; switches: pairs that are one; distance: the sum over pairs; raw_distance: over all events that
    py-motmetrics records, which has each near pair once more, and pairs again where a track changes hands.
    """

    def __init__(self, truths: int, hypotheses: int):
        self.hypothesis = np.full((len(JOINTS), truths), -1)  # most recent one of each ground-truth track
        self.owner = np.full((len(JOINTS), hypotheses), -1)  # most recent ground truth of each hypothesis
        self.detections = np.zeros(len(JOINTS), np.int64)
        self.switches = np.zeros(len(JOINTS), np.int64)
        self.distance = np.zeros(len(JOINTS))
        self.raw_distance = np.zeros(len(JOINTS))

    def add(self, distance: np.ndarray, truth: np.ndarray, hypothesis: np.ndarray, present: np.ndarray) -> None:
        """A frame: distances [15, G, P], which pairs of joints are `present` [15, G, P], tracks [G] and [P]."""
        near = distance <= NEAR
        self.raw_distance += np.where(near, distance, 0).sum(axis=(1, 2))
        kept = near & (self.hypothesis[_ALL, truth][:, :, None] == hypothesis)
        if len(truth) > 1:
            kept &= kept.cumsum(axis=1) == 1  # of two that had the same hypothesis the first
        self._pair(kept, distance)
        free = near & ~kept.any(axis=2, keepdims=True) & ~kept.any(axis=1, keepdims=True)
        if not free.any():
            return
        new = _assign(free, distance, present)
        self._pair(new, distance)
        joint, g, p = new.nonzero()
        truth, hypothesis = truth[g], hypothesis[p]
        before, owner = self.hypothesis[joint, truth], self.owner[joint, hypothesis]
        switch, transfer = (before >= 0) & (before != hypothesis), (owner >= 0) & (owner != truth)
        np.add.at(self.switches, joint, switch)
        again = (switch & (owner < 0)) * 1 + transfer + (transfer & (before < 0))  # "ascend", "transfer", "migrate"
        np.add.at(self.raw_distance, joint, again * distance[joint, g, p])
        self.hypothesis[joint, truth], self.owner[joint, hypothesis] = hypothesis, truth

    def _pair(self, pairs: np.ndarray, distance: np.ndarray) -> None:
        total = np.where(pairs, distance, 0).sum(axis=(1, 2))
        self.detections += pairs.sum(axis=(1, 2))
        self.distance += total
        self.raw_distance += total


def _assign(free: np.ndarray, distance: np.ndarray, present: np.ndarray) -> np.ndarray:
    """[15, G, P] bool: of the `free` pairs those of the Hungarian assignment, for each joint."""
    clear = (free.sum(axis=1) <= 1).all(axis=1) & (free.sum(axis=2) <= 1).all(axis=1)
    pairs = free & clear[:, None, None]
    for joint in np.flatnonzero(~clear):
        table = np.ix_(present[joint].any(axis=1), present[joint].any(axis=0))
        chosen = np.zeros_like(free[joint][table])
        chosen[linear_sum_assignment(_finite(np.where(free[joint], distance[joint], np.nan)[table]))] = True
        pairs[joint][table] = chosen & free[joint][table]
    return pairs


def _finite(costs: np.ndarray) -> np.ndarray:
    """Costs with NaN made so large that no assignment gains by it, as py-motmetrics chooses it."""
    valid = ~np.isnan(costs)
    return np.where(valid, costs, 2 * min(costs.shape) * (costs[valid].max() + 1) + 1)
