"""PoseTrack's figures: the counts of one video (`score_video`), and the figures of any set of videos (`figures`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dimofs.eval.keypoints.ap import assign, average_precision, tie_range
from dimofs.eval.keypoints.frames import JointTable, check_tracks, clean, compare, head_sizes
from dimofs.eval.keypoints.hota import Hota, count_hota, hota_of
from dimofs.eval.keypoints.mot import JointTracks
from dimofs.eval.keypoints.order import Pairing, pair_frames
from dimofs.formats.posetrack import JOINTS, Video

Definition = Literal["official", "corrected"]
# The columns of PoseTrack's tables.
GROUPS = {
    "Head": ("head_top", "neck", "nose"),
    "Shou": ("left_shoulder", "right_shoulder"),
    "Elbo": ("left_elbow", "right_elbow"),
    "Wri": ("left_wrist", "right_wrist"),
    "Hip": ("left_hip", "right_hip"),
    "Knee": ("left_knee", "right_knee"),
    "Ank": ("left_ankle", "right_ankle"),
}
COUNTS = ("misses", "switches", "false_positives", "objects", "detections")


@dataclass(kw_only=True)
class VideoScores:
    """The counts of one video, per joint [15].

    frames, tracked_frames: frames that count in AP and in MOT.
    score, has, right:      [P, 15] of the predicted joints, where `has` is true.
    annotated:              joints of the ground truth, for AP.
    distance:               sum over matched pairs (official: over all events), head sizes.
    hota:                   None unless it was asked for.
    """

    name: str
    frames: int
    tracked_frames: int
    score: np.ndarray
    has: np.ndarray
    right: np.ndarray
    annotated: np.ndarray
    misses: np.ndarray
    switches: np.ndarray
    false_positives: np.ndarray
    objects: np.ndarray
    detections: np.ndarray
    distance: np.ndarray
    hota: Hota | None
    pairing: Pairing


def score_video(
    truth: Video, predicted: Video, definition: Definition, tracking: bool = True, hota: bool = False
) -> VideoScores:
    """Compare a video's predictions with its ground truth: AP, with `tracking` MOT, with `hota` HOTA.

    "official" is what PoseTrack's tool computes: its MOT leaves out the last labelled frame, counts a frame that is
    empty on one side after the clean-up as one miss and one false positive of each joint, and its MOTP sums the
    distances of all recorded events; frames are paired by their place. "corrected" keeps the frame, counts such frames
    by person, sums pairs, and pairs frames by name (`pair_frames`).

    InputError: the numbers of frames differ, a head box is missing or, for MOT and HOTA, a track id.
    """
    predicted, pairing = pair_frames(truth, predicted, by_name=definition != "official")
    gt, pr = clean(truth, predicted)
    if tracking or hota:
        check_tracks(truth, gt)
        check_tracks(predicted, pr)
    size = head_sizes(truth, gt, pr)
    both = (np.diff(gt.starts) > 0) & (np.diff(pr.starts) > 0)
    used = tracking & (np.arange(len(both)) < len(both) - (definition == "official"))
    tracks, right, blocks = JointTracks(gt.tracks, pr.tracks), np.zeros_like(pr.has), []
    for block in compare(gt, pr, size):
        there = block.found >= 0
        right[block.found[there]] = assign(block)[there]
        if tracking:
            seen = block[used[block.frames]]
            tracks.add(seen, gt.track[seen.truth], pr.track[seen.found])
        if hota:
            blocks.append(block)
    counted = used & both if definition == "official" else used
    empty = int((used & ~both).sum()) if definition == "official" else 0
    objects, found = (_count(side, counted) + empty for side in (gt, pr))
    return VideoScores(
        name=truth.name,
        frames=len(both),
        tracked_frames=int(used.sum()),
        score=pr.score,
        has=pr.has,
        right=right,
        annotated=gt.has.sum(axis=0),
        misses=objects - tracks.detections,
        switches=tracks.switches,
        false_positives=found - tracks.detections,
        objects=objects,
        detections=tracks.detections,
        distance=tracks.raw_distance if definition == "official" else tracks.distance,
        hota=count_hota(gt, pr, blocks) if hota else None,
        pairing=pairing,
    )


def _count(people: JointTable, counted: np.ndarray) -> np.ndarray:
    """[15] number of joints in the frames that are `counted` [F] bool."""
    return people.has[np.repeat(counted, np.diff(people.starts))].sum(axis=0)


def figures(videos: Sequence[VideoScores], definition: Definition) -> dict:
    """AP, MOTA and their parts over some videos, pooled: 15 joints, then the total, in percent; NaN where undefined.

    The total is the mean over joints that are not NaN. `counts` are sums, [15]; `ties` is the largest difference that
    the order of equal scores can make to a joint's AP.
    """
    total = {field: np.sum([getattr(v, field) for v in videos], axis=0) for field in (*COUNTS, "distance")}
    joints = [pooled(videos, [joint]) for joint in range(len(JOINTS))]
    precision = np.transpose([average_precision(*joint) for joint in joints])
    rows = dict(zip(("ap", "ap_precision", "ap_recall"), precision, strict=True))
    rows |= _mot(total, definition, sum(v.tracked_frames for v in videos))
    if hota := [v.hota for v in videos if v.hota]:
        rows |= hota_of(hota)
    return {
        **{name: [*(100 * row).tolist(), _mean(100 * row)] for name, row in rows.items()},
        "counts": {field: total[field].tolist() for field in COUNTS},
        "frames": {"ap": sum(v.frames for v in videos), "mot": sum(v.tracked_frames for v in videos)},
        "ties": 100 * max(tie_range(*joint) for joint in joints),
    }


def pooled(videos: Sequence[VideoScores], joints: Sequence[int]) -> tuple[np.ndarray, np.ndarray, int]:
    """Predictions of these joints in all videos: scores [N], whether they are right [N]; and the number annotated."""
    score, right = (
        np.concatenate([getattr(v, field)[:, j][v.has[:, j]] for v in videos for j in joints])
        for field in ("score", "right")
    )
    return score, right, int(sum(v.annotated[j] for v in videos for j in joints))


def _mot(total: dict[str, np.ndarray], definition: Definition, frames: int) -> dict[str, np.ndarray]:
    objects, detections = total["objects"], total["detections"]
    wrong = total["misses"] + total["switches"] + total["false_positives"]
    with np.errstate(invalid="ignore", divide="ignore"):
        motp = np.where(detections > 0, 1 - total["distance"] / detections, 0 if definition == "official" else np.nan)
        rows = {
            "mota": np.where(objects > 0, 1 - wrong / objects, np.nan),
            "motp": motp,
            "mot_precision": detections / (detections + total["false_positives"]),
            "mot_recall": np.where(objects > 0, detections / objects, np.nan),
        }
    return {name: row if frames else np.full(len(JOINTS), np.nan) for name, row in rows.items()}


def _mean(row: np.ndarray) -> float:
    known = row[~np.isnan(row)]
    return float(known.mean()) if len(known) else np.nan


def by_group(row: Sequence[float]) -> list[float]:
    """A row of `figures` as the columns of a table: the means of GROUPS (NaN if a joint's is NaN), then the total."""
    groups = [[row[JOINTS.index(name)] for name in names] for names in GROUPS.values()]
    return [*(sum(values) / len(values) for values in groups), row[-1]]
