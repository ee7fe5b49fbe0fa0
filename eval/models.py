"""Pose models as the evaluation commands use them: loaded by name, at a chosen input size."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from dimofs import skeletons
from dimofs.cli import InputError
from dimofs.detections import Detections
from dimofs.zoo import checkpoints
from dimofs.zoo.backbones import movenet
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.preprocess import STRIDE, Preprocess

# COCO scores this many poses of an image; the published MoveNet keeps 6.
MOVENET_PEOPLE = 20
# Longer side of MoveNet's input unless --size is given, pixels.
MOVENET_SIZE = 512


class PoseModel(Protocol):
    """Maps float RGB frames [N, 3, H, W] in [0, 1] to the people in each, best first, in pixels of the frame."""

    @property
    def keypoint_names(self) -> Sequence[str]: ...

    def __call__(self, frame_a: Tensor, frame_b: Tensor | None = None, /) -> list[Detections]: ...


class Peer(nn.Module):
    """MoveNet MultiPose as a PoseModel for single frames, which are resized to a longer side of `size` and padded.

    Results are in pixels of the frame; keypoint scores become logits.
    """

    keypoint_names = skeletons.COCO

    def __init__(self, model: movenet.MoveNet, size: int):
        super().__init__()
        self.model = model
        self.preprocess = Preprocess(size, size, mean=(0, 0, 0), std=(1, 1, 1))

    def forward(self, frame_a: Tensor, frame_b: Tensor | None = None) -> list[Detections]:
        if frame_b is not None:
            raise InputError("MoveNet looks at single frames; measure it with --delta 0")
        inputs, (height, width) = self.preprocess(frame_a)
        scale = inputs.new_tensor([frame_a.shape[-1] / width, frame_a.shape[-2] / height])
        return [
            Detections(p.boxes * scale.repeat(2), p.scores, p.keypoints * scale, p.keypoint_scores.logit(eps=1e-6))
            for p in self.model(inputs, people=MOVENET_PEOPLE)
        ]


def in_boxes(model: PoseModel, frame: Tensor, boxes: Tensor) -> Detections:
    """The joints of people whose `boxes` [P, 4] are known, in a frame [3, H, W] in [0, 1]; every score is 1.

    InputError: the model finds people and joints at once and cannot be told boxes.
    """
    if not isinstance(model, PoseDetector):
        raise InputError("--boxes labelled: this model takes no boxes; give a two-stage model, such as dimofs_mobile")
    features = model.features(frame[None])
    regions = features.geometry.to_input(boxes.to(frame))
    points, logits = model.find_joints([model.align(features)], [regions])
    scores = regions.new_ones(len(regions))
    return Detections(boxes.to(frame), scores, features.geometry.to_frame(points), logits)


def check_joints(model: PoseModel, joints: Sequence[str], labels: str | Path) -> None:
    """InputError: the model has none of the `joints` that the data called `labels` is scored by."""
    if not set(model.keypoint_names) & set(joints):
        listed = ", ".join(joints)[:200]
        raise InputError(f"{labels}: labels joints that the model lacks ({listed}); give another model")


def load_model(weights: str, size: int | None = None, device: str | torch.device = "cpu") -> PoseModel:
    """The model called `weights`, or the one in the folder `weights`, on `device`, ready to predict.

    size: longer side of its input in pixels (default: the checkpoint's own; 512 for MoveNet).
    InputError: unknown weights, a size below 32, or no pose detector.
    """
    if size is not None and size < STRIDE:
        raise InputError(f"--size {size}: the longer side of the input must be at least {STRIDE} pixels")
    model = checkpoints.load(weights, str(device), size)
    if isinstance(model, movenet.MoveNet):
        return Peer(model, size or MOVENET_SIZE).to(device)
    if not isinstance(model, PoseDetector):
        raise InputError(f"{weights}: not a pose detector; give weights of one, such as dimofs_mobile")
    return model
