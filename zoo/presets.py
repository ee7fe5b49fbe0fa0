"""The models by name: each preset is a short function of literals.

A preset's arguments are stored in checkpoints, so they are of the kinds that JSON has; see `dimofs.zoo.arguments`.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple, ParamSpec, TypedDict, TypeVar

import torch
from torch import nn

from dimofs import skeletons
from dimofs.zoo.arguments import Limits
from dimofs.zoo.backbones import movenet
from dimofs.zoo.backbones.fpn import FeaturePyramid
from dimofs.zoo.backbones.mobilenet import SeparableConv
from dimofs.zoo.backbones.pyramids import KeypointPyramidBackbone, PyramidBackbone
from dimofs.zoo.backbones.resnet import ResNet, resnet50, resnet101
from dimofs.zoo.detection.action_head import ActionHead
from dimofs.zoo.detection.action_localizer import ActionLocalizer, Stream, stream_width
from dimofs.zoo.detection.box_head import BoxHead
from dimofs.zoo.detection.coarse_to_fine import CoarseToFine
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.keypoint_head import KeypointHead
from dimofs.zoo.detection.offsets import DeformableLayer, OffsetNet
from dimofs.zoo.detection.preprocess import Preprocess
from dimofs.zoo.detection.rpn import RegionProposals
from dimofs.zoo.recognition.classifier import ClipClassifier
from dimofs.zoo.recognition.recognizer import Recognizer


class Variant(NamedTuple):
    """The motion parts: the kind of offset net, its arguments, and those of DeformableLayer."""

    kind: type[OffsetNet] | type[CoarseToFine]
    offsets: dict[str, Any]
    layer: dict[str, Any]


# Variants of the motion parts. The comment above each one says how it differs from "paper".
VARIANTS: dict[str, Variant] = {
    # One displacement per channel, predicted by one convolution per level whose weights start at zero; the sampled
    # features pass a 1x1 convolution that starts as the identity.
    "paper": Variant(OffsetNet, {}, {}),
    # Eight displacements per pixel, each shared by an eighth of the channels.
    "groups": Variant(OffsetNet, {"groups": 8}, {}),
    # One displacement per pixel for all channels, as in optical flow.
    "pixel": Variant(OffsetNet, {"groups": 1}, {}),
    # One offset convolution for all levels.
    "shared": Variant(OffsetNet, {"shared": True}, {}),
    # Offset convolutions of dilation 3, which see three times as far.
    "wide": Variant(OffsetNet, {"dilation": 3}, {}),
    # Offset convolutions that start from random weights.
    "random": Variant(OffsetNet, {"zero": False}, {}),
    # No 1x1 convolution after sampling.
    "unmixed": Variant(OffsetNet, {}, {"mixing": False}),
    # Samples beyond the map's border are taken at the border instead of being 0.
    "border": Variant(OffsetNet, {}, {"border": True}),
    # One displacement per pixel, matched on P4 and refined on P3, times a confidence: an offset net that only aligns.
    "matching": Variant(CoarseToFine, {}, {"border": True}),
    # The same without convolutions: the mean displacement under the softmax of matching.
    "softmax": Variant(CoarseToFine, {"hidden": 0}, {"border": True}),
    # The same as "matching", where every channel may deviate by up to a cell.
    "deviating": Variant(CoarseToFine, {"deviation": 1.0}, {"border": True}),
    # Matched on P4, refined on P3 by differences alone.
    "refined": Variant(CoarseToFine, {"steps": ((2, 8), (1, 0))}, {"border": True}),
    # Refined from P5 to P3 by differences alone, without a confidence.
    "differences": Variant(CoarseToFine, {"steps": ((3, 0), (2, 0), (1, 0)), "confident": False}, {"border": True}),
}

# Longer and shorter sides of a model's input, in pixels.
Side = Annotated[int, Limits(1, 2**14)]

# Pairs of joints to draw as lines, and the standard deviation of each joint; None is that of people.
Limbs = Sequence[Sequence[str]] | None
Sigmas = Sequence[Annotated[float, Limits(1e-6, 1e6)]] | None
# The numbers of `dimofs.zoo.detection.person_score.PersonScore`.
Scoring = Sequence[Annotated[float, Limits(-1e3, 1e3)]] | None

P = ParamSpec("P")
M = TypeVar("M", bound=nn.Module)


class Preset(NamedTuple):
    """What is needed to build a model again: the name of its function here and the arguments."""

    name: str
    arguments: dict[str, Any]


def preset(build: Callable[P, M]) -> Callable[P, M]:
    """A decorator: models made by `build` keep its name and their arguments as `.preset`, for checkpoints."""
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
    """The motion parts as keyword arguments of a detector."""

    offset_net: OffsetNet | CoarseToFine
    deformable: DeformableLayer


def motion_parts(channels: int, variant: str) -> MotionParts:
    """The offset net and the deformable layer of one of VARIANTS. ValueError: there is no such variant."""
    if variant not in VARIANTS:
        raise ValueError(f"'variant' cannot be {variant[:40]!r}; expected one of {', '.join(VARIANTS)}")
    kind, offsets, layer = VARIANTS[variant]
    return {"offset_net": kind(channels, **offsets), "deformable": DeformableLayer(channels, **layer)}


@preset
def dimofs_mobile(
    keypoint_names: Sequence[str] = skeletons.DIMOFS,
    min_size: Side = 384,
    max_size: Side = 512,
    variant: str = "paper",
    limbs: Limbs = None,
    sigmas: Sigmas = None,
    person_score: Scoring = None,
) -> PoseDetector:
    """The shipped model: MoveNet's features in a pyramid of 64 channels, with light heads."""
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
            smoothing=1.5,
        ),
        keypoint_names=keypoint_names,
        limbs=limbs,
        sigmas=sigmas,
        duplicate_oks=0.7,
        person_score=person_score,
    )


@preset
def dimofs_resnet50(
    keypoint_names: Sequence[str] = skeletons.COCO,
    min_size: Side = 800,
    max_size: Side = 1333,
    variant: str = "paper",
    limbs: Limbs = None,
    sigmas: Sigmas = None,
    person_score: Scoring = None,
) -> PoseDetector:
    """The paper's head on ResNet-50 FPN; parameters as torchvision's `keypointrcnn_resnet50_fpn`."""
    return _paper(resnet50(), keypoint_names, min_size, max_size, variant, limbs, sigmas, person_score)


@preset
def dimofs_resnet101(
    keypoint_names: Sequence[str] = skeletons.COCO,
    min_size: Side = 800,
    max_size: Side = 1333,
    variant: str = "paper",
    limbs: Limbs = None,
    sigmas: Sigmas = None,
    person_score: Scoring = None,
) -> PoseDetector:
    """The paper's model: ResNet-101 FPN, 256 displacements per pixel and level, the keypoint head of Detect-and-Track
    (Girdhar et al., 2018)."""
    return _paper(resnet101(), keypoint_names, min_size, max_size, variant, limbs, sigmas, person_score)


@preset
def action_mobile(
    action_names: Sequence[str],
    streams: Sequence[str] = ("appearance", "dimofs@10"),
    cells: Annotated[int, Limits(1, 7)] = 3,
    hidden: int = 256,
    keypoint_names: Sequence[str] = skeletons.DIMOFS,
    min_size: Side = 240,
    max_size: Side = 320,
    variant: str = "paper",
) -> ActionLocalizer:
    """Actions of people on the parts of `dimofs_mobile`, with light heads."""
    return localizer(dimofs_mobile(keypoint_names, min_size, max_size, variant), action_names, streams, cells, hidden)


@preset
def action_resnet101(
    action_names: Sequence[str],
    streams: Sequence[str] = ("appearance", "dimofs@10"),
    cells: Annotated[int, Limits(1, 7)] = 7,
    hidden: int = 1024,
    keypoint_names: Sequence[str] = skeletons.COCO,
    min_size: Side = 800,
    max_size: Side = 1333,
    variant: str = "paper",
) -> ActionLocalizer:
    """The paper's action localization (section 5.1) on the parts of `dimofs_resnet101`: two layers of 1024 a stream."""
    pose = dimofs_resnet101(keypoint_names, min_size, max_size, variant)
    return localizer(pose, action_names, streams, cells, hidden)


def localizer(
    pose: PoseDetector, action_names: Sequence[str], streams: Sequence[str], cells: int, hidden: int
) -> ActionLocalizer:
    """An action localizer of the parts of `pose`, with a new head."""
    channels = pose.deformable.convs[0].in_channels
    levels = [torch.zeros(1, channels, 16 >> i, 16 >> i) for i in range(4)]  # type: ignore[arg-type]
    dimofs = pose.offset_net(levels, levels)[0].shape[1]
    joints = len(pose.keypoint_names)
    widths = [stream_width(Stream.parse(s), channels, dimofs, joints, cells) for s in streams]  # type: ignore[arg-type]
    return ActionLocalizer(
        preprocess=pose.preprocess,
        backbone=pose.backbone,
        offset_net=pose.offset_net,
        mixing=pose.deformable.convs,
        rpn=pose.rpn,
        box_head=pose.box_head,
        keypoint_head=pose.keypoint_head,
        head=ActionHead(widths, len(action_names), hidden),
        streams=streams,
        cells=cells,
        action_names=action_names,
    )


@preset
def recognize_mobile(
    class_names: Sequence[str],
    clusters: Annotated[int, Limits(1, 10_000)] = 100,
    delta: Annotated[int, Limits(1, 1000)] = 5,
    cells: Annotated[int, Limits(1, 7)] = 5,
    hidden: int = 256,
    keypoint_names: Sequence[str] = skeletons.DIMOFS,
    min_size: Side = 240,
    max_size: Side = 320,
    variant: str = "paper",
) -> Recognizer:
    """Classes of clips (section 5.2 of the paper) on the parts of `dimofs_mobile`."""
    pose = dimofs_mobile(keypoint_names, min_size, max_size, variant)
    return recognizer(pose, class_names, clusters, delta, cells, hidden)


def recognizer(
    pose: PoseDetector, class_names: Sequence[str], clusters: int, delta: int, cells: int, hidden: int
) -> Recognizer:
    """A recognizer of the parts of `pose`, with a new head and classifier."""
    names = [f"cluster {number}" for number in range(clusters)]
    parts = localizer(pose, names, ("appearance", f"dimofs@{delta}"), cells, hidden)
    return Recognizer(parts, ClipClassifier(clusters, len(class_names)), class_names, pose.keypoint_names)


@preset
def movenet_multipose(people: Annotated[int, Limits(1, 1000)] = 6) -> movenet.MoveNet:
    """MoveNet MultiPose: a single-frame peer, a teacher, and the mobile model's initial weights."""
    return movenet.MoveNet(people)


def _paper(
    body: ResNet,
    keypoint_names: Sequence[str],
    min_size: int,
    max_size: int,
    variant: str,
    limbs: Limbs,
    sigmas: Sigmas,
    person_score: Scoring,
) -> PoseDetector:
    channels = 256
    return PoseDetector(
        preprocess=Preprocess(min_size, max_size, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        backbone=PyramidBackbone(body, FeaturePyramid(body.channels, channels)),
        **motion_parts(channels, variant),
        rpn=RegionProposals(channels, anchor_sizes=(32, 64, 128, 256, 512)),
        box_head=BoxHead(channels, 1024),
        keypoint_head=KeypointHead(channels, len(keypoint_names)),
        keypoint_names=keypoint_names,
        limbs=limbs,
        sigmas=sigmas,
        person_score=person_score,
    )


PRESETS: dict[str, Callable[..., Any]] = {
    "dimofs_mobile": dimofs_mobile,
    "dimofs_resnet50": dimofs_resnet50,
    "dimofs_resnet101": dimofs_resnet101,
    "action_mobile": action_mobile,
    "action_resnet101": action_resnet101,
    "recognize_mobile": recognize_mobile,
    "movenet_multipose": movenet_multipose,
}
