"""CLEAR MOT of keypoints (Bernardin & Stiefelhagen, 2008), each joint tracked on its own.

Per frame and joint, as py-motmetrics counts for PoseTrack's official tool: a ground-truth track keeps its most recent
hypothesis if that is present and near; the rest are paired by Hungarian assignment on distance; a pair whose ground
truth had another hypothesis before is a switch.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment

from dimofs.eval.keypoints.ap import NEAR
from dimofs.eval.keypoints.frames import Block
from dimofs.formats.posetrack import JOINTS

_ALL = np.arange(len(JOINTS))[:, None]


class JointTracks:
    """The state of a video's tracks after the frames added so far, with counts, each [15].

    detections: matched pairs; switches: those of them that switch identity; distance: sum over the pairs; raw_distance:
    sum over all events that py-motmetrics records: every near pair once more, and a pair again where a track changes
    hands.
    """

    def __init__(self, truths: int, hypotheses: int):
        # The most recent hypothesis of each ground-truth track, and the most recent ground truth of each hypothesis.
        self.hypothesis = np.full((len(JOINTS), truths), -1)
        self.owner = np.full((len(JOINTS), hypotheses), -1)
        self.detections = np.zeros(len(JOINTS), np.int64)
        self.switches = np.zeros(len(JOINTS), np.int64)
        self.distance = np.zeros(len(JOINTS))
        self.raw_distance = np.zeros(len(JOINTS))

    def add(self, block: Block, truth: np.ndarray, hypothesis: np.ndarray) -> None:
        """Add frames, in order, whose people belong to the tracks `truth` [F, G] and `hypothesis` [F, P].

        Tracks of the padding are not read.
        """
        near = block.distance <= NEAR
        pairs = np.zeros_like(near)
        for f in range(len(near)):
            kept = near[f] & (self.hypothesis[_ALL, truth[f]][:, :, None] == hypothesis[f])
            # If two ground-truth tracks had the same hypothesis, the first keeps it.
            kept &= kept.cumsum(axis=1) == 1
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
        """Record new pairs [15, G, P] and count their switches."""
        joint, g, p = pairs.nonzero()
        truth, hypothesis = truth[g], hypothesis[p]
        before, owner = self.hypothesis[joint, truth], self.owner[joint, hypothesis]
        switch, transfer = (before >= 0) & (before != hypothesis), (owner >= 0) & (owner != truth)
        # py-motmetrics records such a pair again as "ascend", "transfer" and "migrate".
        ascend, migrate = switch & (owner < 0), transfer & (before < 0)
        again = ascend.astype(int) + transfer + migrate
        np.add.at(self.switches, joint, switch)
        np.add.at(self.raw_distance, joint, again * distance[joint, g, p])
        self.hypothesis[joint, truth], self.owner[joint, hypothesis] = hypothesis, truth


def _assign(free: np.ndarray, block: Block, frame: int) -> np.ndarray:
    """[15, G, P] bool: those of the `free` pairs of a frame that the Hungarian assignment chooses, joint by joint."""
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
    """Costs with NaN replaced by a value so large that no assignment gains by it, the one that py-motmetrics takes."""
    valid = ~np.isnan(costs)
    return np.where(valid, costs, 2 * min(costs.shape) * (costs[valid].max() + 1) + 1)
