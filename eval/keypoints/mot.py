"""CLEAR MOT of keypoints, each joint tracked on its own: the state that a video's frames are added to, in order.

Per frame and joint, as py-motmetrics counts it for PoseTrack's official tool: a ground-truth track keeps its most
recent hypothesis if that is present and near; the others are paired at the least distance, Hungarian; a pair whose
ground truth had another hypothesis before is a switch. (Bernardin & Stiefelhagen, 2008)
"""

import numpy as np
from scipy.optimize import linear_sum_assignment

from dimofs.eval.keypoints.ap import NEAR
from dimofs.eval.keypoints.frames import Block
from dimofs.formats.posetrack import JOINTS

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

    def add(self, block: Block, truth: np.ndarray, hypothesis: np.ndarray) -> None:
        """Some frames, in order, whose people are of the tracks [F, G] and [F, P] (any where there is nobody)."""
        near = block.distance <= NEAR
        pairs = np.zeros_like(near)
        for f in range(len(near)):
            kept = near[f] & (self.hypothesis[_ALL, truth[f]][:, :, None] == hypothesis[f])
            kept &= kept.cumsum(axis=1) == 1  # of two that had the same hypothesis the first
            free = near[f] & ~(kept.any(axis=2, keepdims=True) | kept.any(axis=1, keepdims=True))
            pairs[f] = kept
            if free.any():
                new = _assign(free, block, f)
                pairs[f] |= new
                self._renew(new, block.distance[f], truth[f], hypothesis[f])
        distance = np.where(pairs, block.distance, 0).sum(axis=(0, 2, 3))
        self.detections += pairs.sum(axis=(0, 2, 3))
        self.distance += distance
        self.raw_distance += distance + np.where(near, block.distance, 0).sum(axis=(0, 2, 3))

    def _renew(self, pairs: np.ndarray, distance: np.ndarray, truth: np.ndarray, hypothesis: np.ndarray) -> None:
        """Put down new pairs [15, G, P], and which of them are switches."""
        joint, g, p = pairs.nonzero()
        truth, hypothesis = truth[g], hypothesis[p]
        before, owner = self.hypothesis[joint, truth], self.owner[joint, hypothesis]
        switch, transfer = (before >= 0) & (before != hypothesis), (owner >= 0) & (owner != truth)
        again = (switch & (owner < 0)) * 1 + transfer + (transfer & (before < 0))  # "ascend", "transfer", "migrate"
        np.add.at(self.switches, joint, switch)
        np.add.at(self.raw_distance, joint, again * distance[joint, g, p])
        self.hypothesis[joint, truth], self.owner[joint, hypothesis] = hypothesis, truth


def _assign(free: np.ndarray, block: Block, frame: int) -> np.ndarray:
    """[15, G, P] bool: of the `free` pairs of a frame those of the Hungarian assignment, for each joint."""
    clear = (free.sum(axis=1) <= 1).all(axis=1) & (free.sum(axis=2) <= 1).all(axis=1)
    pairs = free & clear[:, None, None]
    for joint in np.flatnonzero(~clear):
        table = np.ix_(block.annotated[frame, joint], block.predicted[frame, joint])
        costs = np.where(free[joint], block.distance[frame, joint], np.nan)[table]
        chosen = np.zeros(costs.shape, bool)
        chosen[linear_sum_assignment(_finite(costs))] = True
        pairs[joint][table] = chosen & free[joint][table]
    return pairs


def _finite(costs: np.ndarray) -> np.ndarray:
    """Costs with NaN made so large that no assignment gains by it, as py-motmetrics chooses it."""
    valid = ~np.isnan(costs)
    return np.where(valid, costs, 2 * min(costs.shape) * (costs[valid].max() + 1) + 1)
