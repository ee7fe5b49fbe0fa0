"""`PoseDetector`: the people and poses of Frame A, found in the features of Frame B (section 3 of the paper).

    frames -> backbone -> f_A, f_B -> offsets from f_A - f_B -> f_B sampled there -> RPN -> boxes -> keypoints

With Frame B = Frame A (delta = 0) the offsets are zero and it is a plain detector of one backbone pass.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dimofs import skeletons
from dimofs.detections import Detections
from dimofs.zoo.detection import keypoint_head as keypoints
from dimofs.zoo.detection.box_detector import BoxDetector, Boxes, check_features
from dimofs.zoo.detection.box_head import BoxHead
from dimofs.zoo.detection.coarse_to_fine import CoarseToFine
from dimofs.zoo.detection.features import Features, Geometry
from dimofs.zoo.detection.keypoint_head import KeypointHead
from dimofs.zoo.detection.offsets import DeformableLayer, OffsetNet
from dimofs.zoo.detection.person_score import PersonScore
from dimofs.zoo.detection.pose_nms import distinct
from dimofs.zoo.detection.preprocess import Preprocess
from dimofs.zoo.detection.rpn import RegionProposals


class PoseDetector(BoxDetector):
    """Keypoint R-CNN with DiMoFs.

    keypoint_names: the joints of `keypoint_head`, in order.
    limbs: pairs of their names to draw as lines (default: those of people); as an attribute, pairs of their numbers.
    sigmas: their standard deviations in the similarity of poses (default: `skeletons.oks_sigmas`).
    duplicate_oks: object keypoint similarity (OKS) above which the lower-scoring of two poses is suppressed as a
    duplicate; None disables it, and the suppression of people mixed of others too.
    person_score: the three numbers of `PersonScore`; None takes the score of the box as that of the person.
    """

    def __init__(
        self,
        *,
        preprocess: Preprocess,
        backbone: nn.Module,
        offset_net: OffsetNet | CoarseToFine,
        deformable: DeformableLayer,
        rpn: RegionProposals,
        box_head: BoxHead,
        keypoint_head: KeypointHead,
        keypoint_names: Sequence[str],
        limbs: Sequence[Sequence[str]] | None = None,
        sigmas: Sequence[float] | None = None,
        duplicate_oks: float | None = None,
        person_score: Sequence[float] | None = None,
    ):
        super().__init__()
        self.preprocess, self.backbone = preprocess, backbone
        self.offset_net, self.deformable = offset_net, deformable
        self.rpn, self.box_head, self.keypoint_head = rpn, box_head, keypoint_head
        self.keypoint_names, self.duplicate_oks = tuple(keypoint_names), duplicate_oks
        self.limbs = skeletons.limbs(keypoint_names) if limbs is None else skeletons.limbs(keypoint_names, limbs)
        self.sigmas = tuple(sigmas or skeletons.oks_sigmas(keypoint_names))
        if person_score is not None and (len(person_score) != 3 or person_score[1] <= 0):
            raise ValueError(f"'person_score' is {list(person_score)[:4]}; give bias, box (above 0) and joints")
        self.person_score = None if person_score is None else PersonScore(*person_score)
        if len(self.sigmas) != len(self.keypoint_names):
            raise ValueError(f"{len(self.sigmas)} 'sigmas' for {len(self.keypoint_names)} joints; give one for each")

    def forward(
        self,
        frame_a: Tensor,
        frame_b: Tensor | None = None,
        *,
        min_score: float = 0.0,
        max_people: int | None = None,
    ) -> list[Detections]:
        """RGB frames [N, 3, H, W], uint8 or float in [0, 1] -> the people of each Frame A, best first, in its pixels.

        Without `frame_b` each Frame A is its own Frame B (delta = 0). min_score: people below it are left out.
        max_people: look at so many boxes of an image at most (default: the box head's own limit).
        ValueError: the frames are something else, or A and B of different numbers or sizes.
        """
        a = self.features(frame_a)
        b = None if frame_b is None else self.features(frame_b)
        return self.detect(a, b, min_score=min_score, max_people=max_people)

    def align(self, a: Features, b: Features | None = None) -> list[Tensor]:
        """Features of B sampled where those of A have moved to, [N, C, h, w] per level; without `b`, B = A."""
        check_features(a)
        if b is None:
            return self.deformable(a.levels, None)
        return self.deformable(b.levels, self.dimofs(a, b))

    def detect(
        self,
        a: Features,
        b: Features | None = None,
        beside: Sequence[Features] = (),
        *,
        min_score: float = 0.0,
        max_people: int | None = None,
    ) -> list[Detections]:
        """The people of each Frame A from the features of Frame B, as `forward` returns them.

        Their joints lie at the peaks of the mean heatmap over Frame B and the frames `beside`.
        """
        levels = self.align(a, b)
        if not len(a):
            return []
        least = min_score if self.person_score is None else self.person_score.least_box(min_score)
        people = self.find_boxes(levels, a.geometry, min_score=least, max_people=max_people)
        views = [levels, *(self.align(a, other) for other in beside)]
        points, peaks = self.find_joints(views, [found.boxes for found in people])
        found = finish(a.geometry, people, points, peaks, self.sigmas, self.duplicate_oks, self.person_score)
        if self.person_score is None or min_score <= 0:
            return found
        return [image[image.scores > min_score] for image in found]

    def find_joints(self, views: Sequence[Sequence[Tensor]], boxes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The joints of people whose boxes are known.

        views: the aligned levels [N, C, h, w] of one or more frames; their heatmaps are averaged.
        boxes: per image [P_n, 4] in pixels of the input. Returns points [P, J, 2] in the same pixels and peak logits
        [P, J], where P is the sum of all P_n.
        """
        heatmaps = torch.stack([self.keypoint_head(levels, boxes) for levels in views]).mean(dim=0)
        return keypoints.decode(heatmaps, torch.cat(list(boxes)), self.keypoint_head.smoothing)


def finish(
    geometry: Geometry,
    people: Sequence[Boxes],
    points: Tensor,
    peaks: Tensor,
    sigmas: Sequence[float],
    duplicate_oks: float | None,
    person_score: PersonScore | None = None,
) -> list[Detections]:
    """Detections of each image, in pixels of its frame and without duplicate poses.

    people: boxes of N images in pixels of the network's input. points, peaks: [P, J, 2] and [P, J], the joints of all
    of them in order. sigmas: each joint's OKS sigma. duplicate_oks, person_score: see `PoseDetector`.
    """
    counts = [found.boxes.shape[0] for found in people]
    detections = []
    for found, joints, logits in zip(people, points.split(counts), peaks.split(counts), strict=True):
        boxes, joints = geometry.to_frame(found.boxes), geometry.to_frame(joints)
        image = Detections(boxes, found.scores, joints, logits)
        if person_score is not None:
            image.scores = person_score(found.scores, logits)
            image = image[image.scores.argsort(descending=True, stable=True)]
        if duplicate_oks is not None:
            image = image[distinct(image.keypoints, image.boxes, sigmas, duplicate_oks)]
        detections.append(image)
    return detections
