"""The models by name: each preset is a short function of literals."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, ParamSpec, TypedDict, TypeVar

from torch import nn

from dimofs import skeletons
from dimofs.zoo.backbones import movenet
from dimofs.zoo.backbones.fpn import FeaturePyramid
from dimofs.zoo.backbones.mobilenet import SeparableConv
from dimofs.zoo.backbones.pyramids import KeypointPyramidBackbone, PyramidBackbone
from dimofs.zoo.backbones.resnet import ResNet, resnet50, resnet101
from dimofs.zoo.detection.box_head import BoxHead
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.keypoint_head import KeypointHead
from dimofs.zoo.detection.offsets import DeformableLayer, OffsetNet
from dimofs.zoo.detection.preprocess import Preprocess
from dimofs.zoo.detection.rpn import RegionProposals

VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # arguments of OffsetNet and of DeformableLayer
    "paper": ({}, {}),  # a displacement a channel, convolutions of each level's own that start at zero, a 1x1 after all
    "groups": ({"groups": 8}, {}),  # a displacement for each eighth of the channels
    "pixel": ({"groups": 1}, {}),  # one displacement for all channels, as optical flow has
    "shared": ({"shared": True}, {}),  # one convolution for all levels
    "wide": ({"dilation": 3}, {}),  # convolutions that see three times as far
    "random": ({"zero": False}, {}),  # a random start
    "unmixed": ({}, {"mixing": False}),  # no 1x1 convolution
}

P = ParamSpec("P")
M = TypeVar("M", bound=nn.Module)


class Preset(NamedTuple):
    """What builds a model again: the name of its function here and the arguments."""

    name: str
    arguments: dict[str, Any]


def preset(build: Callable[P, M]) -> Callable[P, M]:
    """`build`, whose models remember it and their arguments as `.preset`, for checkpoints."""
    signature = inspect.signature(build)

    @functools.wraps(build)
    def remembered(*args: P.args, **kwargs: P.kwargs) -> M:
        model = build(*args, **kwargs)
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        vars(model)["preset"] = Preset(build.__name__, dict(bound.arguments))
        return model

    return remembered


class MotionParts(TypedDict):
    """Arguments of PoseDetector."""

    offset_net: OffsetNet
    deformable: DeformableLayer


def motion_parts(channels: int, variant: str) -> MotionParts:
    """The offset net and the deformable layer of one of VARIANTS."""
    offsets, layer = VARIANTS[variant]
    return {"offset_net": OffsetNet(channels, **offsets), "deformable": DeformableLayer(channels, **layer)}


@preset
def dimofs_mobile(
    keypoint_names: Sequence[str] = skeletons.DIMOFS, min_size: int = 384, max_size: int = 512, variant: str = "paper"
) -> PoseDetector:
    """The model that ships: MoveNet's features in a pyramid of 64 channels, light heads."""
    channels = 64
    return PoseDetector(
        preprocess=Preprocess(min_size, max_size, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        backbone=KeypointPyramidBackbone(channels),
        **motion_parts(channels, variant),
        rpn=RegionProposals(
            channels,
            hidden=SeparableConv(channels, channels),
            anchor_sizes=(24, 48, 96, 192, 384),
            before_nms=300,
            after_nms=100,
        ),
        box_head=BoxHead(channels, 256),
        keypoint_head=KeypointHead(
            channels,
            len(keypoint_names),
            hidden=64,
            dilations=(1, 3, 5),
            resolution=28,
            bilinear=1,
            canonical_scale=448,
        ),
        keypoint_names=keypoint_names,
        duplicate_oks=0.7,
    )


@preset
def dimofs_resnet50(
    keypoint_names: Sequence[str] = skeletons.COCO, min_size: int = 800, max_size: int = 1333, variant: str = "paper"
) -> PoseDetector:
    """The paper's head on ResNet-50 FPN; parameters as torchvision's `keypointrcnn_resnet50_fpn`."""
    return _paper(resnet50(), keypoint_names, min_size, max_size, variant)


@preset
def dimofs_resnet101(
    keypoint_names: Sequence[str] = skeletons.COCO, min_size: int = 800, max_size: int = 1333, variant: str = "paper"
) -> PoseDetector:
    """The paper's model: ResNet-101 FPN, 256 displacements a pixel and level, the keypoint head of [16]."""
    return _paper(resnet101(), keypoint_names, min_size, max_size, variant)


@preset
def movenet_multipose(people: int = 6) -> movenet.MoveNet:
    """MoveNet MultiPose: a single-frame peer, teacher and the mobile model's start."""
    return movenet.MoveNet(people)


def _paper(body: ResNet, keypoint_names: Sequence[str], min_size: int, max_size: int, variant: str) -> PoseDetector:
    channels = 256
    return PoseDetector(
        preprocess=Preprocess(min_size, max_size, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        backbone=PyramidBackbone(body, FeaturePyramid(body.channels, channels)),
        **motion_parts(channels, variant),
        rpn=RegionProposals(channels, anchor_sizes=(32, 64, 128, 256, 512)),
        box_head=BoxHead(channels, 1024),
        keypoint_head=KeypointHead(channels, len(keypoint_names)),
        keypoint_names=keypoint_names,
    )


PRESETS: dict[str, Callable[..., Any]] = {
    "dimofs_mobile": dimofs_mobile,
    "dimofs_resnet50": dimofs_resnet50,
    "dimofs_resnet101": dimofs_resnet101,
    "movenet_multipose": movenet_multipose,
}
