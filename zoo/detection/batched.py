"""`PoseDetector.detect` without a loop over images, for exported programs that read any number of frames.

Up to the boxes of people, every image has as many candidates as the others; those that are none are marked. From there
on the people of all images are one list, each with the number of its image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dimofs.detections import Detections
from dimofs.kernels.nms_traceable import nms_mask
from dimofs.zoo.backbones.fpn import pooled
from dimofs.zoo.detection.box_head import BoxHead
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.features import Features, Geometry
from dimofs.zoo.detection.keypoint_head import decode
from dimofs.zoo.detection.pose_nms import distinct
from dimofs.zoo.detection.rpn import RegionProposals

# The score of what is no candidate: lower than all others, so that it comes last and suppresses nothing.
NONE = -1.0


class Ranked(NamedTuple):
    """Boxes of each image, best first: boxes [N, K, 4], scores [N, K], and which of them count, [N, K] bool."""

    boxes: Tensor
    scores: Tensor
    real: Tensor


def detect_batch(detector: PoseDetector, a: Features, b: Features | None = None) -> tuple[Detections, Tensor]:
    """What `detector.detect` finds: the P people of all N frames in one list, and the number [P] of each one's frame.

    Frames come in order, the people of each best first.
    """
    # Not `align`, whose checks compare numbers of frames, which makes them constants.
    offsets = None if b is None else detector.offset_net(a.levels, b.levels)
    levels = detector.deformable(a.levels if b is None else b.levels, offsets)
    regions = propose(detector.rpn, levels, a.geometry)
    people = find(detector.box_head, levels, regions, a.geometry)
    # By numbers, as a mask would give each tensor a length of its own when traced.
    images, slots = people.real.nonzero().unbind(1)
    boxes = people.boxes[images, slots]
    heatmaps = detector.keypoint_head(levels, torch.cat((images[:, None].to(boxes), boxes), dim=1))
    points, peaks = decode(heatmaps, boxes, detector.keypoint_head.smoothing)
    return finish(detector, Detections(boxes, people.scores[images, slots], points, peaks), images, a.geometry)


def propose(rpn: RegionProposals, levels: Sequence[Tensor], geometry: Geometry) -> Ranked:
    """The proposals of `RegionProposals.propose`."""
    found = rpn.candidates(rpn(pooled(levels), geometry.padded), geometry.resized)
    keep = nms_mask(found.boxes, found.scores, found.level_of, rpn.iou_threshold)
    return best(Ranked(found.boxes, found.scores, keep & found.large), rpn.after_nms)


def find(head: BoxHead, levels: Sequence[Tensor], regions: Ranked, geometry: Geometry) -> Ranked:
    """The people of `BoxHead.select`."""
    shape = regions.scores.shape
    images = torch.arange(shape[0], device=regions.boxes.device).view(-1, 1, 1).expand(*shape, 1)
    rows = torch.cat((images.to(regions.boxes), regions.boxes), dim=2).flatten(0, 1)
    logits, deltas = head(levels, rows)
    candidates = head.candidates(logits, deltas, rows[:, 1:], geometry.resized)
    boxes, scores, good = (x.unflatten(0, shape) for x in candidates)
    scores = scores.where(regions.real, NONE)
    one_class = torch.zeros(shape[1], dtype=torch.int64, device=scores.device)
    keep = nms_mask(boxes, scores, one_class, head.iou_threshold)
    return best(Ranked(boxes, scores, keep & good & regions.real), head.max_people)


def best(found: Ranked, limit: int) -> Ranked:
    """So many of each image at most, best first."""
    order = found.scores.where(found.real, NONE).argsort(dim=1, descending=True, stable=True)[:, :limit]
    boxes = found.boxes.gather(1, order[..., None].expand(-1, -1, 4))
    real = found.real.gather(1, order)
    return Ranked(boxes, found.scores.gather(1, order).where(real, NONE), real)


def finish(detector: PoseDetector, people: Detections, images: Tensor, geometry: Geometry) -> tuple[Detections, Tensor]:
    """`detector.finish` for the people of several images, whose numbers are `images` [P]."""
    boxes, joints = geometry.to_frame(people.boxes), geometry.to_frame(people.keypoints)
    people = Detections(boxes, people.scores, joints, people.keypoint_scores)
    if detector.person_score is not None:
        people.scores = detector.person_score(people.scores, people.keypoint_scores)
        order = people.scores.argsort(descending=True, stable=True)
        order = order[images[order].argsort(stable=True)]
        people, images = people[order], images[order]
    if detector.duplicate_oks is not None:
        some = distinct(people.keypoints, people.boxes, detector.sigmas, detector.duplicate_oks, images)
        kept = some.nonzero()[:, 0]
        people, images = people[kept], images[kept]
    return people, images
