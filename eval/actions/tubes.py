"""Tubes, and video-mAP: average precision of actors followed through a clip.

Linking: for each clip and class, the path with the greatest sum of scores and of the overlaps of consecutive boxes is a
tube; its boxes are removed and the next path is sought (Viterbi, as in Gkioxari and Malik, CVPR 2015). Where a class
has no box in a frame, the path steps over it. A tube's score is the mean of its boxes' scores.

A tube is right if its overlap with a labelled tube of its class that is still free, in its clip, reaches the threshold:
the mean IoU over the frames that both have, times the share of those frames in the frames that either has
(Kalogeiton et al., ICCV 2017). Boxes are taken as they are, without + 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dimofs.eval.actions.files import Truth
from dimofs.eval.actions.frame_map import LabelledBoxes, average_precision, iou

# The thresholds of the mean over .5:.95.
STRICT = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
# Boxes of a class that a frame offers to paths, and tubes of a class sought in a clip.
BOXES, TUBES = 10, 5
# The mean of equal overlaps may be smaller than they are.
ROUNDING = 1e-9
# Weight of the overlap of consecutive boxes beside their scores.
OVERLAP = 1.0


@dataclass(frozen=True, kw_only=True)
class Tube:
    """One actor in one clip: the frames' numbers [T] ascending, a box in each [T, 4], the class and a score."""

    video: str
    label: int
    frames: np.ndarray
    boxes: np.ndarray
    score: float = 1.0


def true_tubes(truth: Truth) -> list[Tube]:
    """The labelled tubes: the boxes of one track and class in a clip."""
    groups: dict[tuple[str, int, int], list[int]] = {}
    for row, (frame, label) in enumerate(zip(truth.boxes.frames, truth.boxes.labels, strict=True)):
        groups.setdefault((truth.frames[frame][0], int(label), int(truth.tracks[row])), []).append(row)
    return [_tube(truth, truth.boxes, rows, video, label) for (video, label, _), rows in groups.items()]


def link(truth: Truth, found: LabelledBoxes) -> list[Tube]:
    """The tubes of all detections `found` in the frames of `truth`."""
    groups: dict[tuple[str, int], list[int]] = {}
    for row, (frame, label) in enumerate(zip(found.frames.tolist(), found.labels.tolist(), strict=True)):
        groups.setdefault((truth.frames[frame][0], label), []).append(row)
    numbers = np.array([number for _, number in truth.frames])
    tubes = []
    for (video, label), rows in groups.items():
        for _ in range(TUBES):
            path = best_path(found, rows, numbers)
            tubes.append(_tube(truth, found, path, video, label))
            taken = set(path)
            rows = [row for row in rows if row not in taken]
            if not rows:
                break
    return tubes


def best_path(found: LabelledBoxes, rows: Sequence[int], numbers: np.ndarray) -> list[int]:
    """The path through the boxes `rows` of one clip and class: at most one row a frame, in ascending order of frames.

    numbers: each frame's number in its clip, by which the frames are ordered.
    """
    order = sorted(rows, key=lambda row: (numbers[found.frames[row]], -found.scores[row]))
    steps: list[list[int]] = []
    for row in order:
        if steps and found.frames[steps[-1][0]] == found.frames[row]:
            steps[-1].append(row)
        else:
            steps.append([row])
    steps = [step[:BOXES] for step in steps]
    value, back = found.scores[steps[0]], []
    for before, now in pairwise(steps):
        joined = value[:, None] + OVERLAP * iou(found.boxes[before][:, None], found.boxes[now][None])
        back.append(joined.argmax(0))
        value = joined.max(0) + found.scores[now]
    place = int(value.argmax())
    path = [steps[-1][place]]
    for step, came_from in zip(reversed(steps[:-1]), reversed(back), strict=True):
        place = int(came_from[place])
        path.append(step[place])
    return path[::-1]


def video_ap(truth: Sequence[Tube], found: Sequence[Tube], classes: int, threshold: float) -> np.ndarray:
    """The average precision of each class, [classes] in 0..1; NaN for classes without a labelled tube."""
    result = np.full(classes, np.nan)
    for label in range(classes):
        wanted = [tube for tube in truth if tube.label == label]
        tubes = sorted((tube for tube in found if tube.label == label), key=lambda tube: -tube.score)
        free: dict[str, list[Tube]] = {}
        for tube in wanted:
            free.setdefault(tube.video, []).append(tube)
        right = np.array([_takes(tube, free.get(tube.video, []), threshold) for tube in tubes], bool)
        result[label] = average_precision(right, len(wanted))
    return result


def tube_overlap(a: Tube, b: Tube) -> float:
    """The overlap in space and time, 0 to 1, of two tubes of one clip."""
    both, in_a, in_b = np.intersect1d(a.frames, b.frames, return_indices=True)
    if not len(both):
        return 0.0
    either = len(a.frames) + len(b.frames) - len(both)
    return float(iou(a.boxes[in_a], b.boxes[in_b]).mean() * len(both) / either)


def _takes(tube: Tube, free: list[Tube], threshold: float) -> bool:
    """Whether a tube is right; the labelled tube that it takes leaves `free`."""
    overlaps = [tube_overlap(tube, other) for other in free]
    if not overlaps or max(overlaps) < threshold - ROUNDING:
        return False
    del free[int(np.argmax(overlaps))]
    return True


def _tube(truth: Truth, boxes: LabelledBoxes, rows: Sequence[int], video: str, label: int) -> Tube:
    numbers = np.array([truth.frames[frame][1] for frame in boxes.frames[list(rows)]])
    order = np.argsort(numbers)
    chosen = boxes[np.array(rows)[order]]
    return Tube(video=video, label=label, frames=numbers[order], boxes=chosen.boxes, score=float(chosen.scores.mean()))
