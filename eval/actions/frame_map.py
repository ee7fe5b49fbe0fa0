"""frame-mAP: average precision of labelled boxes over all frames, by three definitions that are in use.

    voc    boxes as they are; AP under the precision envelope; a detection takes the best label that is still free
    yowo   boxes inclusive of their last pixel; envelope; a detection takes the best label, and a second one is wrong
    act    inclusive; AP by trapezoids from (recall 0, precision 1); best free label

voc is PASCAL VOC's as detectors use it today, yowo that of YOWO's published script, act that of ACT-detector
(Kalogeiton et al., ICCV 2017). In each, the detections of a class over all frames are sorted by descending score, and
one is right if its IoU with the label that it takes, in its frame and of its class, is at least the threshold. ACT's
pipeline suppresses detections at 0.3 within each frame and class before it saves them; `suppressed` does that.

Equal scores keep the order of the file, which decides in published scripts too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
import torch

from dimofs.kernels.nms import batched_nms

Definition = Literal["voc", "yowo", "act"]
DEFINITIONS: tuple[Definition, ...] = ("voc", "yowo", "act")
MOST_CLASSES = 2**15


@dataclass(frozen=True, kw_only=True)
class LabelledBoxes:
    """N boxes of actions in numbered frames.

    frames: [N] int64, the number of each box's frame. labels: [N] int64 classes from 0. boxes: [N, 4] float64,
    x1 y1 x2 y2. scores: [N] float64; labels given by people have ones.
    """

    frames: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: np.ndarray) -> LabelledBoxes:
        """The boxes that a mask or int64 indices select."""
        return LabelledBoxes(
            frames=self.frames[index], labels=self.labels[index], boxes=self.boxes[index], scores=self.scores[index]
        )

    @staticmethod
    def join(parts: Sequence[LabelledBoxes]) -> LabelledBoxes:
        """The boxes of all parts, at least one, in order."""
        names = ("frames", "labels", "boxes", "scores")
        return LabelledBoxes(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def frame_ap(
    truth: LabelledBoxes, found: LabelledBoxes, classes: int, definition: Definition = "voc", threshold: float = 0.5
) -> np.ndarray:
    """The average precision of each class, [classes] in 0..1; NaN for classes without a label.

    classes: at most 2^15. threshold: least IoU of a right detection.
    """
    order, right = _ranking(found), matched(truth, found, definition, threshold)
    starts = np.concatenate(([0], np.cumsum(np.bincount(found.labels, minlength=classes))))
    labelled = np.bincount(truth.labels, minlength=classes)
    parts = [right[order[a:b]] for a, b in pairwise(starts)]
    return np.array([average_precision(p, n, definition) for p, n in zip(parts, labelled.tolist(), strict=True)])


def suppressed(found: LabelledBoxes, threshold: float) -> LabelledBoxes:
    """The detections that non-maximum suppression within each frame and class keeps, in their order; boxes inclusive.

    threshold: IoU above which the lower score of two is suppressed.
    """
    boxes = torch.from_numpy(found.boxes + np.array([0.0, 0.0, 1.0, 1.0]))
    keys = torch.from_numpy(np.unique(_keys(found), return_inverse=True)[1])
    return found[np.sort(batched_nms(boxes, torch.from_numpy(found.scores), keys, threshold).numpy())]


def average_precision(right: np.ndarray, labelled: int, definition: Definition = "voc") -> float:
    """AP of detections in order of descending score, `right` [N] bool, where `labelled` could be found.

    NaN where nothing could be found.
    """
    if not labelled:
        return float("nan")
    hits = np.cumsum(right)
    recall, precision = hits / labelled, hits / np.arange(1, len(right) + 1)
    if definition == "act":
        recall, precision = np.append(0.0, recall), np.append(1.0, precision)
        return float((np.diff(recall) * (precision[1:] + precision[:-1]) / 2).sum())
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * envelope).sum())


def matched(truth: LabelledBoxes, found: LabelledBoxes, definition: Definition, threshold: float) -> np.ndarray:
    """[N] bool: whether each detection is right.

    All pairs of a detection and a label in one frame and class are listed. Then, in rounds, the best detection of each
    frame and class that has a pair takes its best label; both leave. There are as many rounds as a frame has labels of
    a class, not as many as there are detections.
    """
    pairs = _pairs(truth, found, inclusive=definition != "voc")
    if definition == "yowo":
        # Each detection keeps only its best label, free or not; of equal ones the first.
        pairs = pairs[_firsts(pairs.rows)]
    pairs = pairs[pairs.overlap >= threshold]
    pairs = pairs[np.argsort(-found.scores[pairs.rows], kind="stable")]
    right = np.zeros(len(found), bool)
    taken = np.zeros(len(truth), bool)
    while len(pairs.rows):
        first = np.full(len(truth), -1)
        # Of several values that are assigned to one place, the last stays, here that of the best pair.
        first[pairs.groups[::-1]] = np.arange(len(pairs.rows))[::-1]
        chosen = first[first >= 0]
        right[pairs.rows[chosen]] = True
        taken[pairs.columns[chosen]] = True
        pairs = pairs[~taken[pairs.columns] & ~right[pairs.rows]]
    return right


def iou(a: np.ndarray, b: np.ndarray, inclusive: bool = False) -> np.ndarray:
    """Intersection over union of boxes [..., 4] with boxes [..., 4], pair by pair; 0 where both are empty.

    inclusive: x2 and y2 are the last pixels inside.
    """
    extra = 1.0 if inclusive else 0.0
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = np.moveaxis(a, -1, 0), np.moveaxis(b, -1, 0)
    width = np.minimum(ax2, bx2) - np.maximum(ax1, bx1) + extra
    height = np.minimum(ay2, by2) - np.maximum(ay1, by1) + extra
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    area_a = (ax2 - ax1 + extra) * (ay2 - ay1 + extra)
    union = area_a + (bx2 - bx1 + extra) * (by2 - by1 + extra) - shared
    return shared / np.maximum(union, np.finfo(float).tiny)


class _Pairs(NamedTuple):
    """P pairs of a detection and a label in one frame and class: their numbers [P], IoU [P], and a number [P] for each
    frame and class, below the number of labels. Sorted by detection, then by descending overlap, then by label."""

    rows: np.ndarray
    columns: np.ndarray
    overlap: np.ndarray
    groups: np.ndarray

    def __getitem__(self, index: np.ndarray) -> _Pairs:  # type: ignore[override]
        return _Pairs(*(field[index] for field in self._asdict().values()))


def _pairs(truth: LabelledBoxes, found: LabelledBoxes, inclusive: bool) -> _Pairs:
    keys = _keys(truth)
    order = np.argsort(keys, kind="stable")
    distinct, starts, counts = np.unique(keys[order], return_index=True, return_counts=True)
    wanted = _keys(found)
    groups = np.searchsorted(distinct, wanted)
    rows = np.flatnonzero(np.append(distinct, -1)[groups] == wanted)
    groups = groups[rows]
    count = counts[groups]
    rows, first, groups = (np.repeat(values, count) for values in (rows, starts[groups], groups))
    # Within each detection, 0, 1, ... up to its count.
    place = np.arange(len(rows)) - np.repeat(np.cumsum(count) - count, count)
    columns = order[first + place]
    pairs = _Pairs(rows, columns, iou(found.boxes[rows], truth.boxes[columns], inclusive), groups)
    return pairs[np.lexsort((columns, -pairs.overlap, rows))] if (count > 1).any() else pairs


def _ranking(found: LabelledBoxes) -> np.ndarray:
    """The order by class, then by descending score; equal scores stay in the order of the file."""
    order = np.argsort(-found.scores, kind="stable")
    # NumPy sorts 16-bit integers in linear time.
    return order[np.argsort(found.labels[order].astype(np.int16), kind="stable")]


def _keys(boxes: LabelledBoxes) -> np.ndarray:
    """One number for each frame and class."""
    return boxes.frames * MOST_CLASSES + boxes.labels


def _firsts(values: np.ndarray) -> np.ndarray:
    """The index of the first of each run of equal values."""
    return np.flatnonzero(np.diff(values, prepend=values[:1] - 1)) if len(values) else np.zeros(0, int)
