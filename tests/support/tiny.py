"""A detector so small that a training step takes milliseconds, and recipes for it."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from dimofs.skeletons import DIMOFS
from dimofs.zoo.detection.action_localizer import ActionLocalizer
from dimofs.zoo.detection.box_head import BoxHead
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.keypoint_head import KeypointHead
from dimofs.zoo.detection.losses import Sampling
from dimofs.zoo.detection.preprocess import Preprocess
from dimofs.zoo.detection.rpn import RegionProposals
from dimofs.zoo.presets import PRESETS, localizer, motion_parts, preset, recognizer
from dimofs.zoo.recognition.recognizer import Recognizer
from dimofs.zoo.training.poses import POSE_RECIPES, PoseRecipe, PoseTask
from dimofs.zoo.training.recipes import RECIPES, Recipe

TINY = Recipe(steps=4, batch=2, warmup=0, frozen=("backbone.stem",))
TINY_POSES = PoseRecipe(
    preset="tiny", canvas=64, sampling=Sampling(anchors=32, regions=8, keypoint_regions=2, positive_fraction=0.5)
)


class Strides(nn.Module):
    """A stem of stride 4, then P2..P5 of 8 channels."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=4)
        self.down = nn.ModuleList(nn.Conv2d(8, 8, 2, stride=2) for _ in range(3))

    def forward(self, x: Tensor) -> list[Tensor]:
        levels = [self.stem(x).relu()]
        for conv in self.down:
            levels.append(conv(levels[-1]).relu())
        return levels


@preset
def tiny(
    keypoint_names: Sequence[str] = DIMOFS,
    variant: str = "paper",
    limbs: Sequence[Sequence[str]] | None = None,
    sigmas: Sequence[float] | None = None,
) -> PoseDetector:
    return PoseDetector(
        preprocess=Preprocess(64, 64, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        backbone=Strides(),
        **motion_parts(8, variant),
        rpn=RegionProposals(8, anchor_sizes=(16, 24, 32, 48, 64), before_nms=50, after_nms=20),
        box_head=BoxHead(8, 16),
        keypoint_head=KeypointHead(8, len(keypoint_names), hidden=8, dilations=(1,), resolution=7),
        keypoint_names=keypoint_names,
        limbs=limbs,
        sigmas=sigmas,
    )


def tiny_model(seed: int = 0) -> PoseDetector:
    torch.manual_seed(seed)
    return tiny(DIMOFS)


def use_tiny(patch: pytest.MonkeyPatch) -> None:
    """Have the training command train this model, when told of no other recipe."""
    patch.setitem(PRESETS, "tiny", tiny)
    patch.setitem(PRESETS, "tiny_action", tiny_action)
    patch.setitem(PRESETS, "tiny_recognizer", tiny_recognizer)
    patch.setitem(RECIPES, "mobile", TINY)
    patch.setitem(POSE_RECIPES, "mobile", TINY_POSES)


TINY_TASK = PoseTask(recipe=TINY_POSES, sources={})


@preset
def tiny_action(
    action_names: Sequence[str],
    streams: Sequence[str] = ("appearance", "dimofs@2"),
    cells: int = 3,
    hidden: int = 16,
    variant: str = "random",
) -> ActionLocalizer:
    return localizer(tiny(DIMOFS, variant), action_names, streams, cells, hidden)


@preset
def tiny_recognizer(
    class_names: Sequence[str], clusters: int = 3, delta: int = 2, cells: int = 3, hidden: int = 16
) -> Recognizer:
    return recognizer(tiny(DIMOFS, "random"), class_names, clusters, delta, cells, hidden)
