"""Which actions are taken for which: for each label, the class of the highest score among detections of its person."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dimofs.eval.actions.frame_map import LabelledBoxes, iou


def confusion(truth: LabelledBoxes, found: LabelledBoxes, classes: int, threshold: float = 0.5) -> np.ndarray:
    """Counts [classes, classes + 1]: rows are labels, columns what was found there; the last column counts missed
    people.

    A detection is of a label's person if their IoU is at least `threshold`, whatever its class.
    """
    counts = np.zeros((classes, classes + 1), np.int64)
    order = np.argsort(found.frames, kind="stable")
    starts = np.searchsorted(found.frames[order], truth.frames, "left")
    ends = np.searchsorted(found.frames[order], truth.frames, "right")
    for label, box, start, end in zip(truth.labels, truth.boxes, starts, ends, strict=True):
        rows = order[start:end]
        near = rows[iou(found.boxes[rows], box[None]) >= threshold]
        told = found.labels[near[found.scores[near].argmax()]] if len(near) else classes
        counts[label, told] += 1
    return counts


def lines(counts: np.ndarray, names: Sequence[str]) -> list[str]:
    """For each class: the share of its labels that is named rightly, and the two classes that it is most taken for; a
    dash where nothing is labelled."""
    width, result = max(map(len, names)), []
    for label, (name, row) in enumerate(zip(names, counts, strict=True)):
        total = int(row.sum())
        if not total:
            result.append(f"{name:{width}} {'-':>5}")
            continue
        others = [(int(count), i) for i, count in enumerate(row[: len(names)]) if i != label and count]
        taken = [f"{names[i]} {100 * count / total:.0f}" for count, i in sorted(others, reverse=True)[:2]]
        missed = [f"missed {100 * row[-1] / total:.0f}"] if row[-1] else []
        result.append(f"{name:{width}} {100 * row[label] / total:5.1f}   {', '.join(taken + missed)}")
    return result
