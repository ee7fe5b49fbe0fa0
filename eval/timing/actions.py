"""The case of `dimofs.eval.speed eval` about actions: frame-mAP of made-up detections, beside a plain loop."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dimofs.eval.actions.frame_map import LabelledBoxes, average_precision, frame_ap, iou
from dimofs.eval.timing.case import Case

# Classes as in JHMDB; labelled people of a frame; detections of a label, one in CLASSES of its class.
CLASSES, PEOPLE, FOUND = 21, 2, 50
THRESHOLD = 0.5


def action_cases(quick: bool = False) -> Iterator[Case]:
    """frame-mAP (voc) of a million detections, a tenth of that if `quick`."""
    count = 100_000 if quick else 1_000_000
    truth, found = made_up(count)
    note = f"AP {100 * np.mean(frame_ap(truth, found, CLASSES)):.1f}"
    yield Case(
        name="frame-mAP of actions",
        shape=f"{count} detections, {CLASSES} classes",
        dtype="fp64",
        ours=lambda: frame_ap(truth, found, CLASSES),
        peer="plain loop",
        theirs=lambda: plain_loop(truth, found, CLASSES),
        size=sum(x.nbytes for x in vars(found).values()),
        note=note,
    )


def made_up(count: int, seed: int = 0) -> tuple[LabelledBoxes, LabelledBoxes]:
    """Labels, and `count` detections near them."""
    random = np.random.default_rng(seed)
    people = max(1, count // FOUND)
    corners = random.uniform(0, 200, (people, 2))
    boxes = np.concatenate((corners, corners + random.uniform(20, 120, (people, 2))), axis=1)
    frames, labels = np.arange(people) // PEOPLE, random.integers(0, CLASSES, people)
    truth = LabelledBoxes(frames=frames, labels=labels, boxes=boxes, scores=np.ones(people))
    near = random.integers(0, people, count)
    right = random.random(count) < 1 / CLASSES
    found = LabelledBoxes(
        frames=frames[near],
        labels=np.where(right, labels[near], random.integers(0, CLASSES, count)),
        boxes=boxes[near] + random.normal(0, 8, (count, 4)),
        scores=random.random(count) * (1 + right),
    )
    return truth, found


def plain_loop(truth: LabelledBoxes, found: LabelledBoxes, classes: int) -> np.ndarray:
    """`frame_ap` by the definition voc as published scripts compute it, [classes]: a loop over classes and detections,
    with one array operation for the labels that a detection may take."""
    result = []
    for label in range(classes):
        rows = np.flatnonzero(truth.labels == label)
        wanted = {frame: truth.boxes[rows[truth.frames[rows] == frame]] for frame in set(truth.frames[rows].tolist())}
        taken = {frame: np.zeros(len(boxes), bool) for frame, boxes in wanted.items()}
        detections = found[found.labels == label]
        detections = detections[np.argsort(-detections.scores, kind="stable")]
        right = np.zeros(len(detections), bool)
        for row in range(len(detections)):
            frame = int(detections.frames[row])
            near = wanted.get(frame, np.zeros((0, 4)))
            if not len(near):
                continue
            overlap = np.where(taken[frame], -1, iou(detections.boxes[row], near))
            best = overlap.argmax()
            if overlap[best] >= THRESHOLD:
                right[row] = taken[frame][best] = True
        result.append(average_precision(right, len(rows)))
    return np.array(result)
