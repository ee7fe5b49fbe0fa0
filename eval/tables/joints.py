"""A model over labelled videos, judged joint by joint as PCK needs it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dimofs.cli import InputError
from dimofs.datasets.sequences import LabelledVideo
from dimofs.detections import Detections
from dimofs.eval.keypoints.pck import joint_errors, speed
from dimofs.eval.models import PoseModel
from dimofs.eval.worst import Worst
from dimofs.zoo.detection.detector import PoseDetector

# Frames that pass the model at a time.
BATCH = 8


@dataclass(frozen=True, kw_only=True)
class JointOptions:
    """Which frames are judged and what the model sees.

    every:     each `every`-th frame is judged, as Frame A.
    delta:     its people are found in the features of the frame `delta` later.
    aggregate: joints are placed by the frames `aggregate` before and after as well; 0 for not.
    blur:      Frame A is shown as the mean of itself and `blur` frames on each side.
    device:    of the model. Beyond the ends of the video its first and last frames stand in.
    """

    every: int
    delta: int = 0
    aggregate: int = 0
    blur: int = 0
    device: str | torch.device = "cpu"


def person_errors(
    model: PoseModel, video: LabelledVideo, options: JointOptions, worst: Worst | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """`joint_errors` [P, 19] and `speed` [P] of the people of each judged frame; `worst` is shown all of them."""
    frames = torch.stack([torch.from_numpy(frame.pixels) for frame in video.frames()]).permute(0, 3, 1, 2)
    last, size = len(frames) - 1, frames.shape[2:]
    for chosen in torch.arange(0, len(frames), options.every).split(BATCH):
        found = _predict(model, frames, chosen, options)
        for number, people in zip(chosen.tolist(), found, strict=True):
            labelled = video.people(number, *size)
            neighbour = number + 1 if number < last else max(number - 1, 0)
            errors = joint_errors(labelled, people, model.keypoint_names)
            if worst is not None:
                worst.add(frames[number] / 255, labelled, people, tuple(model.keypoint_names), errors)
            yield errors, speed(labelled, video.people(neighbour, *size))


@torch.inference_mode()
def _predict(model: PoseModel, frames: Tensor, chosen: Tensor, options: JointOptions) -> list[Detections]:
    """The people, on the CPU, of the `chosen` frames [N] of [T, 3, H, W] uint8."""
    delta, aggregate, blur = options.delta, options.aggregate, options.blur

    def at(shift: int) -> Tensor:
        return frames[(chosen + shift).clamp(0, len(frames) - 1)].to(options.device) / 255

    frame_a = torch.stack([at(shift) for shift in range(-blur, blur + 1)]).mean(dim=0)
    if not aggregate:
        found = model(frame_a, at(delta)) if delta else model(frame_a)
    elif isinstance(model, PoseDetector):
        a, before, after = (model.features(frame) for frame in (frame_a, at(-aggregate), at(aggregate)))
        found = model.detect(a, model.features(at(delta)) if delta else None, [before, after])
    else:
        raise InputError("--aggregate needs a model of this project; measure others without")
    return [people.to("cpu") for people in found]
