"""`BoxDetector`: what every detector of this package shares, from frames to the boxes of people.

    frames -> backbone -> features -> region proposals -> boxes and scores

The motion between two frames belongs here too: the offset net compares their features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dimofs.motion import Motion
from dimofs.zoo.backbones.fpn import pooled
from dimofs.zoo.detection.box_head import BoxHead
from dimofs.zoo.detection.coarse_to_fine import CoarseToFine
from dimofs.zoo.detection.features import Features, Geometry
from dimofs.zoo.detection.motion_readout import MotionReadout, in_pixels
from dimofs.zoo.detection.offsets import OffsetNet
from dimofs.zoo.detection.preprocess import Preprocess
from dimofs.zoo.detection.rpn import Prediction, RegionProposals


class Boxes(NamedTuple):
    """The people of one image: boxes [P, 4] in pixels of the network's input and scores [P], best first."""

    boxes: Tensor
    scores: Tensor


def check_features(*given: object) -> None:
    """TypeError: one of these, such as a frame, is not Features."""
    for one in given:
        if not isinstance(one, Features):
            raise TypeError(f"expected Features, not {type(one).__name__}; call detector.features(frames) first")


def mean_motion(dimofs: Sequence[Tensor]) -> Tensor:
    """The mean over the channels' DiMoFs on the finest level: [N, 2, h, w], (dx, dy) in pixels of the input."""
    return in_pixels(dimofs)[0].unflatten(1, (-1, 2)).mean(dim=1).flip(1)


def in_frame(fields: Tensor, geometry: Geometry) -> list[Motion]:
    """Fields [N, 2, h, w] that cover the padded input, (dx, dy) in its pixels, in pixels of the frame."""
    height, width = (geometry.padded[i] * geometry.frame[i] / geometry.resized[i] for i in (0, 1))
    scale = fields.new_tensor([width / geometry.padded[1], height / geometry.padded[0]])
    return [Motion(flow, height, width) for flow in fields * scale[:, None, None]]


class BoxDetector(nn.Module):
    """A two-stage detector without what it does in the boxes. A subclass registers the modules declared here.

    `backbone` gives P2..P5 of one channel count from a preprocessed image. `readout`, if there is one, estimates motion
    from the DiMoFs; it is no part of the state dict.
    """

    preprocess: Preprocess
    backbone: nn.Module
    offset_net: OffsetNet | CoarseToFine
    rpn: RegionProposals
    box_head: BoxHead

    def __init__(self):
        super().__init__()
        self.readout: MotionReadout | None = None

    def features(self, images: Tensor, resize: bool = True, frame_size: tuple[int, int] | None = None) -> Features:
        """Pyramid features of RGB frames [N, 3, H, W], uint8 or float in [0, 1]: one backbone pass.

        Without `resize` the frames already have the network's size, as in training. frame_size: (height, width) of the
        original frames where the images are reduced ones; results are in its pixels.
        ValueError: the images are something else.
        """
        inputs, resized = self.preprocess(images, resize)
        frame = frame_size or (images.shape[-2], images.shape[-1])
        padded = inputs.shape[-2], inputs.shape[-1]
        levels = list(self.backbone(inputs))
        if torch.compiler.is_compiling():
            # Eager max pooling gives other strides than the compilers assume.
            levels = [level.contiguous() for level in levels]
        return Features(levels, Geometry(frame=frame, resized=resized, padded=padded))

    def glance(self, images: Tensor, frame_size: tuple[int, int] | None = None) -> Features:
        """The backbone's first two maps (strides 4 and 8) of frames at half the network's resolution, which show how
        joints move and take a tenth of the time of `features`. Backbones without `first_maps` run as a whole.

        images, frame_size, ValueError: as of `features`.
        """
        inputs, resized = self.preprocess.half(images)
        first_maps = getattr(self.backbone, "first_maps", self.backbone)
        frame = frame_size or (images.shape[-2], images.shape[-1])
        padded = inputs.shape[-2], inputs.shape[-1]
        return Features(list(first_maps(inputs))[:2], Geometry(frame=frame, resized=resized, padded=padded))

    def dimofs(self, a: Features, b: Features) -> list[Tensor]:
        """The DiMoFs of each level, [N, 2G, h, w]: per group of channels (dy, dx), in level pixels, from A into B.

        ValueError: A and B are of different numbers or sizes. TypeError: they are frames, not features.
        """
        check_features(a, b)
        if len(a) != len(b) or a.geometry != b.geometry:
            raise ValueError(f"Frame A is {a.described()}, Frame B {b.described()}; expected as many of the same size")
        return self.offset_net(a.levels, b.levels)

    def motion(self, a: Features, b: Features) -> list[Motion]:
        """Where what is seen in each Frame A has moved in Frame B: the best estimate there is.

        By the detector's read-out or, without one, the mean over the channels' DiMoFs on P2.
        """
        dimofs = self.dimofs(a, b)
        field = mean_motion(dimofs) if self.readout is None else self.readout(a.levels, b.levels, dimofs)
        return in_frame(field, a.geometry)

    def propose(self, levels: Sequence[Tensor], geometry: Geometry) -> tuple[Prediction, list[Tensor]]:
        """What the RPN predicts for levels [N, C, h, w], and each image's proposals [K, 4] in pixels of the input."""
        prediction = self.rpn(pooled(levels), geometry.padded)
        return prediction, self.rpn.propose(prediction, geometry.resized)

    def find_boxes(
        self,
        levels: Sequence[Tensor],
        geometry: Geometry,
        *,
        min_score: float = 0.0,
        max_people: int | None = None,
    ) -> list[Boxes]:
        """The people of each image from levels [N, C, h, w].

        min_score: drop people below it; it can only raise the box head's own threshold.
        max_people: keep at most this many per image (default: the box head's own limit).
        """
        _, regions = self.propose(levels, geometry)
        logits, deltas = self.box_head(levels, regions)
        counts = [r.shape[0] for r in regions]
        limits = {"min_score": min_score, "max_people": max_people}
        return [
            Boxes(*self.box_head.select(*image, geometry.resized, **limits))
            for image in zip(logits.split(counts), deltas.split(counts), regions, strict=True)
        ]
