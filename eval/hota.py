"""HOTA of keypoints (Luiten et al., 2021), each joint tracked on its own; the similarity of two joints is
max(0, 1 - d / 0.5) with d in head sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from dimofs.datasets.posetrack import JOINTS
from dimofs.eval.keypoint_ap import NEAR

ALPHAS = np.arange(5, 100, 5) / 100
_EPS = np.finfo(float).eps


@dataclass
class Frame:
    """Distances [15, G, P], NaN where a joint is absent; what is there [G, 15], [P, 15]; tracks [G], [P], from 0."""

    distance: np.ndarray
    truth: np.ndarray
    found: np.ndarray
    truth_track: np.ndarray
    found_track: np.ndarray


@dataclass
class Hota:
    """What a video adds, [15, 19] by joint and threshold.

    hits: pairs; misses, false: joints of the two sides without one; agreement: sum over pairs of that of their tracks.
    """

    hits: np.ndarray
    misses: np.ndarray
    false: np.ndarray
    agreement: np.ndarray


def measure(frames: Sequence[Frame], truths: int, found: int) -> Hota:
    """A video of so many tracks on each side."""
    joints = [_joint(frames, j, (truths, found)) for j in range(len(JOINTS))]
    return Hota(*(np.array(rows) for rows in zip(*joints, strict=True)))


def hota_of(videos: Sequence[Hota]) -> dict[str, np.ndarray]:
    """HOTA, DetA and AssA of each joint, [15] fractions, means over the thresholds; NaN where nothing is there."""
    fields = ("hits", "misses", "false", "agreement")
    hits, misses, false, agreement = (np.sum([getattr(v, f) for v in videos], axis=0) for f in fields)
    everything = hits + misses + false
    with np.errstate(invalid="ignore"):
        deta = hits / everything
    assa = np.where(everything > 0, agreement / np.maximum(hits, 1), np.nan)
    return {"hota": np.sqrt(deta * assa).mean(axis=1), "deta": deta.mean(axis=1), "assa": assa.mean(axis=1)}


def _joint(frames: Sequence[Frame], joint: int, tracks: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """The fields of Hota for one joint, each [19]."""
    rows, length = [], [np.zeros(n) for n in tracks]
    shared = np.zeros(tracks)
    for frame in frames:
        g, p = frame.truth[:, joint], frame.found[:, joint]
        similarity = np.nan_to_num(np.maximum(0, 1 - frame.distance[joint] / NEAR))[np.ix_(g, p)]
        truth, found = frame.truth_track[g], frame.found_track[p]
        rows.append((similarity, truth, found))
        length[0][truth] += 1
        length[1][found] += 1
        union = similarity.sum(axis=0) + similarity.sum(axis=1)[:, None] - similarity
        shared[np.ix_(truth, found)] += np.divide(similarity, union, out=np.zeros_like(union), where=union > _EPS)
    both = length[0][:, None] + length[1]
    alignment = shared / np.maximum(both - shared, _EPS)

    pairs = np.zeros((len(ALPHAS), *tracks))
    for similarity, truth, found in rows:
        i, k = linear_sum_assignment(-alignment[np.ix_(truth, found)] * similarity)
        pairs[:, truth[i], found[k]] += similarity[i, k] >= ALPHAS[:, None] - _EPS
    hits = pairs.sum(axis=(1, 2))
    agreement = (pairs * pairs / np.maximum(both - pairs, 1)).sum(axis=(1, 2))
    return hits, length[0].sum() - hits, length[1].sum() - hits, agreement
