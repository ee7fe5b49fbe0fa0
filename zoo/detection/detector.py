"""`PoseDetector`: the people and poses of Frame A, found in the features of Frame B (section 3 of the paper).

    frames -> backbone -> f_A, f_B -> offsets from f_A - f_B -> f_B sampled there -> RPN -> boxes -> keypoints

With Frame B = Frame A (delta = 0) the offsets are zero and it is a plain detector of one backbone pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from dimofs import skeletons
from dimofs.detections import Detections
from dimofs.motion import Motion
from dimofs.zoo.backbones.fpn import pooled
from dimofs.zoo.detection import keypoint_head as keypoints
from dimofs.zoo.detection.box_head import BoxHead
from dimofs.zoo.detection.keypoint_head import KeypointHead
from dimofs.zoo.detection.offsets import DeformableLayer, OffsetNet
from dimofs.zoo.detection.pose_nms import distinct
from dimofs.zoo.detection.preprocess import Preprocess
from dimofs.zoo.detection.rpn import RegionProposals

SCALES = (1 / 4, 1 / 8, 1 / 16, 1 / 32)  # of P2..P5


@dataclass
class Features:
    """Pyramid levels P2..P5 of N frames of one size, and the sizes (height, width) that lead back to their pixels."""

    levels: list[Tensor]  # [N, C, h, w], finest first
    padded: tuple[int, int]  # the network's input
    resized: tuple[int, int]  # the part of it that shows the frame
    original: tuple[int, int]  # the frame

    def __len__(self) -> int:
        return len(self.levels[0])

    def __getitem__(self, index: slice) -> Features:
        """The frames that a slice selects."""
        return replace(self, levels=[level[index] for level in self.levels])

    @staticmethod
    def cat(parts: Sequence[Features]) -> Features:
        """The frames of all parts, which have one size."""
        return replace(parts[0], levels=[torch.cat(same) for same in zip(*(p.levels for p in parts), strict=True)])


class PoseDetector(nn.Module):
    """Keypoint R-CNN with DiMoFs. `backbone` gives P2..P5 of one channel count from a preprocessed image.

    `keypoint_names` name the joints of `keypoint_head`, in order. Of people whose poses are more alike than `alike`,
    an object keypoint similarity, the best one stays; by default all.
    """

    def __init__(
        self,
        *,
        preprocess: Preprocess,
        backbone: nn.Module,
        offset_net: OffsetNet,
        deformable: DeformableLayer,
        rpn: RegionProposals,
        box_head: BoxHead,
        keypoint_head: KeypointHead,
        keypoint_names: Sequence[str],
        alike: float | None = None,
    ):
        super().__init__()
        self.preprocess, self.backbone = preprocess, backbone
        self.offset_net, self.deformable = offset_net, deformable
        self.rpn, self.box_head, self.keypoint_head = rpn, box_head, keypoint_head
        self.keypoint_names, self.alike = tuple(keypoint_names), alike

    def forward(self, frame_a: Tensor, frame_b: Tensor | None = None) -> list[Detections]:
        """Float RGB frames [N, 3, H, W] in [0, 1] -> the people of each Frame A, best first, in its pixels.

        Without `frame_b` each Frame A is its own Frame B (delta = 0).
        """
        return self.detect(self.features(frame_a), None if frame_b is None else self.features(frame_b))

    def features(self, images: Tensor, resize: bool = True) -> Features:
        """Pyramid features of float RGB frames [N, 3, H, W] in [0, 1]: one backbone pass.

        Without `resize` the frames have the network's size already, as in training.
        """
        inputs, resized = self.preprocess(images, resize)
        padded, original = ((x.shape[-2], x.shape[-1]) for x in (inputs, images))
        levels = list(self.backbone(inputs))
        if torch.compiler.is_compiling():  # eager's max pooling gives other strides than the compilers believe
            levels = [level.contiguous() for level in levels]
        return Features(levels, padded, resized, original)

    def dimofs(self, a: Features, b: Features) -> list[Tensor]:
        """The DiMoFs of each level, [N, 2C, h, w]: per channel and pixel (dy, dx), level pixels, from A into B."""
        return self.offset_net(a.levels, b.levels)

    def motion(self, a: Features, b: Features) -> list[Motion]:
        """Where what shows in each Frame A is in Frame B: the mean over the DiMoFs of P2."""
        field = self.dimofs(a, b)[0].float().unflatten(1, (-1, 2)).mean(dim=1).flip(1)  # [N, 2, h, w], (dx, dy)
        spans = [a.padded[i] * a.original[i] / a.resized[i] for i in (0, 1)]  # of the level, pixels of the frame
        cells = field.new_tensor([spans[1] / field.shape[3], spans[0] / field.shape[2]])
        return [Motion(flow, *spans) for flow in field * cells[:, None, None]]

    def align(self, a: Features, b: Features | None = None) -> list[Tensor]:
        """Features of B sampled where those of A have moved to, [N, C, h, w] a level; B = A without `b`."""
        if b is None:
            return self.deformable(a.levels, None)
        return self.deformable(b.levels, self.dimofs(a, b))

    def detect(self, a: Features, b: Features | None = None, beside: Sequence[Features] = ()) -> list[Detections]:
        """The people of each Frame A from the features of Frame B, as `forward` gives them.

        Their joints are at the peaks of the mean of the heatmaps from B and from the frames `beside` it.
        """
        levels = self.align(a, b)
        regions = self.rpn.propose(self.rpn(pooled(levels), a.padded), a.resized)
        logits, deltas = self.box_head(levels, regions, SCALES)
        counts = [r.shape[0] for r in regions]
        people = [
            self.box_head.detect(*parts, a.resized)
            for parts in zip(logits.split(counts), deltas.split(counts), regions, strict=True)
        ]
        boxes = [b for b, _ in people]
        views = [levels, *(self.align(a, other) for other in beside)]
        heatmaps = torch.stack([self.keypoint_head(view, boxes, SCALES) for view in views]).mean(dim=0)
        points, peaks = keypoints.decode(heatmaps, torch.cat(boxes))
        counts = [b.shape[0] for b in boxes]
        scale = points.new_tensor([a.original[1] / a.resized[1], a.original[0] / a.resized[0]])
        found = [
            Detections(b * scale.repeat(2), s, p * scale, q)
            for (b, s), p, q in zip(people, points.split(counts), peaks.split(counts), strict=True)
        ]
        if self.alike is None:
            return found
        sigmas = skeletons.oks_sigmas(self.keypoint_names)
        return [people[distinct(people.keypoints, people.boxes, sigmas, self.alike)] for people in found]
