"""HOTA of keypoints (Luiten et al., 2021). Each joint is tracked on its own; the similarity of two joints is
max(0, 1 - d / 0.5), with d in head sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from dimofs.eval.keypoints.ap import NEAR
from dimofs.eval.keypoints.frames import Block, JointTable
from dimofs.formats.posetrack import JOINTS

# Similarity thresholds.
ALPHAS = np.arange(5, 100, 5) / 100
_EPS = np.finfo(float).eps


@dataclass
class Hota:
    """The counts of one video, [15, 19] by joint and threshold.

    hits: matched pairs; misses, false: unmatched joints of the ground truth and of the predictions; agreement: sum over
    the pairs of how well their two tracks agree.
    """

    hits: np.ndarray
    misses: np.ndarray
    false: np.ndarray
    agreement: np.ndarray


def count_hota(truth: JointTable, found: JointTable, blocks: Sequence[Block]) -> Hota:
    """The counts of a video, from its people and `blocks`, the comparison of all frames with people on both sides."""
    joints = [_joint(truth, found, blocks, joint) for joint in range(len(JOINTS))]
    return Hota(*(np.array(rows) for rows in zip(*joints, strict=True)))


def hota_of(videos: Sequence[Hota]) -> dict[str, np.ndarray]:
    """HOTA, DetA and AssA of each joint, [15] fractions, means over the thresholds; NaN without any joints."""
    fields = ("hits", "misses", "false", "agreement")
    hits, misses, false, agreement = (np.sum([getattr(v, f) for v in videos], axis=0) for f in fields)
    everything = hits + misses + false
    with np.errstate(invalid="ignore"):
        deta = hits / everything
    assa = np.where(everything > 0, agreement / np.maximum(hits, 1), np.nan)
    return {"hota": np.sqrt(deta * assa).mean(axis=1), "deta": deta.mean(axis=1), "assa": assa.mean(axis=1)}


def _joint(truth: JointTable, found: JointTable, blocks: Sequence[Block], joint: int) -> tuple[np.ndarray, ...]:
    """The fields of Hota for one joint, each [19]."""
    frames = [frame for block in blocks for frame in _frames(truth, found, block, joint)]
    shared = np.zeros((truth.tracks, found.tracks))
    for similarity, g, p in frames:
        union = similarity.sum(axis=0) + similarity.sum(axis=1)[:, None] - similarity
        shared[np.ix_(g, p)] += np.divide(similarity, union, out=np.zeros_like(union), where=union > _EPS)
    length = [np.bincount(side.track[side.has[:, joint]], minlength=side.tracks) for side in (truth, found)]
    both = length[0][:, None] + length[1]
    alignment = shared / np.maximum(both - shared, _EPS)

    pairs = np.zeros((len(ALPHAS), *shared.shape))
    for similarity, g, p in frames:
        i, k = linear_sum_assignment(-alignment[np.ix_(g, p)] * similarity)
        pairs[:, g[i], p[k]] += similarity[i, k] >= ALPHAS[:, None] - _EPS
    hits = pairs.sum(axis=(1, 2))
    agreement = (pairs * pairs / np.maximum(both - pairs, 1)).sum(axis=(1, 2))
    return hits, length[0].sum() - hits, length[1].sum() - hits, agreement


def _frames(
    truth: JointTable, found: JointTable, block: Block, joint: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Per frame: similarity [G, P] between the people who have this joint, and their tracks [G] and [P]."""
    with np.errstate(invalid="ignore"):
        similarity = np.nan_to_num(np.maximum(0, 1 - block.distance[:, joint] / NEAR))
    for f, values in enumerate(similarity):
        g, p = block.annotated[f, joint], block.predicted[f, joint]
        yield values[np.ix_(g, p)], truth.track[block.truth[f, g]], found.track[block.found[f, p]]
