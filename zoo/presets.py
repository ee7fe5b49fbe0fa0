"""The models by name: each preset is a short function of literals."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from dimofs import skeletons
from dimofs.zoo.box_head import BoxHead
from dimofs.zoo.detector import PoseDetector
from dimofs.zoo.fpn import FeaturePyramid
from dimofs.zoo.keypoint_head import KeypointHead
from dimofs.zoo.mobilenet import MobileNetV2, MoveNetFPN
from dimofs.zoo.offsets import DeformableLayer, OffsetNet
from dimofs.zoo.preprocess import Preprocess
from dimofs.zoo.resnet import ResNet, resnet50, resnet101
from dimofs.zoo.rpn import RegionProposals


class PyramidBackbone(nn.Module):
    """A backbone's C2..C5 through a feature pyramid: normalized image -> P2..P5."""

    def __init__(self, body: nn.Module, fpn: FeaturePyramid):
        super().__init__()
        self.body, self.fpn = body, fpn

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.fpn(self.body(x))


class KeypointPyramidBackbone(PyramidBackbone):
    """The same over C2..C5 joined with MoveNet's top-down maps, which already are keypoint features."""

    def __init__(self, body: MobileNetV2, top_down: MoveNetFPN, fpn: FeaturePyramid):
        super().__init__(body, fpn)
        self.top_down = top_down

    def forward(self, x: Tensor) -> list[Tensor]:
        features = self.body(x)
        return self.fpn([torch.cat(same, dim=1) for same in zip(features, self.top_down(features), strict=True)])


def dimofs_mobile(
    keypoint_names: Sequence[str] = skeletons.DIMOFS, min_size: int = 384, max_size: int = 512
) -> PoseDetector:
    """The model that ships: MoveNet's backbone and top-down features, 64-channel pyramid, light heads."""
    channels = 64
    body, top_down = MobileNetV2(), MoveNetFPN()
    widths = [a + b for a, b in zip(body.channels, top_down.channels, strict=True)]
    return PoseDetector(
        preprocess=Preprocess(min_size, max_size, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        backbone=KeypointPyramidBackbone(body, top_down, FeaturePyramid(widths, channels)),
        offset_net=OffsetNet(channels),
        deformable=DeformableLayer(channels),
        rpn=RegionProposals(channels, anchor_sizes=(24, 48, 96, 192, 384), before_nms=300, after_nms=100),
        box_head=BoxHead(channels, 256),
        keypoint_head=KeypointHead(channels, len(keypoint_names), hidden=128, depth=4, canonical_scale=448),
        keypoint_names=keypoint_names,
    )


def dimofs_resnet50(
    keypoint_names: Sequence[str] = skeletons.COCO, min_size: int = 800, max_size: int = 1333
) -> PoseDetector:
    """The paper's head on ResNet-50 FPN; parameters as torchvision's `keypointrcnn_resnet50_fpn`."""
    return _paper(resnet50(), keypoint_names, min_size, max_size)


def dimofs_resnet101(
    keypoint_names: Sequence[str] = skeletons.COCO, min_size: int = 800, max_size: int = 1333
) -> PoseDetector:
    """The paper's model: ResNet-101 FPN, 256 displacements a pixel and level, the keypoint head of [16]."""
    return _paper(resnet101(), keypoint_names, min_size, max_size)


def _paper(body: ResNet, keypoint_names: Sequence[str], min_size: int, max_size: int) -> PoseDetector:
    channels = 256
    return PoseDetector(
        preprocess=Preprocess(min_size, max_size, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        backbone=PyramidBackbone(body, FeaturePyramid(body.channels, channels)),
        offset_net=OffsetNet(channels),
        deformable=DeformableLayer(channels),
        rpn=RegionProposals(channels, anchor_sizes=(32, 64, 128, 256, 512)),
        box_head=BoxHead(channels, 1024),
        keypoint_head=KeypointHead(channels, len(keypoint_names)),
        keypoint_names=keypoint_names,
    )


PRESETS: dict[str, Callable[..., PoseDetector]] = {
    "dimofs_mobile": dimofs_mobile,
    "dimofs_resnet50": dimofs_resnet50,
    "dimofs_resnet101": dimofs_resnet101,
}
