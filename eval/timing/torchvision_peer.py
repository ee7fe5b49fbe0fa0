"""torchvision's Keypoint R-CNN without its trained weights, yet finding people: the peer of whole models.

The weights are random, then scaled layer by layer on an image, so that features keep their size and detections are
many and differ; the last layer learns places for the joints of that image, so that a heatmap has one peak as trained
ones have. With its public weights nothing else would be computed, only of other numbers.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dimofs import skeletons
from dimofs.zoo.converters import keypointrcnn
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.presets import dimofs_resnet50

SPREAD = {  # standard deviation of what each predicting layer gives; other layers give 1
    "rpn.head.cls_logits": 2.0,
    "rpn.head.bbox_pred": 0.2,
    "roi_heads.box_predictor.cls_score": 0.8,
    "roi_heads.box_predictor.bbox_pred": 0.5,
    "roi_heads.keypoint_predictor.kps_score_lowres": 3.0,
}
BIAS = -2.0  # of objects and people: the best are still unsure, so that no score rounds to 1


def keypointrcnn_resnet50_fpn(min_size: int, max_size: int, trainable: int = 5, **settings) -> nn.Module:
    """The model that torchvision makes for its public weights, with frozen batch norms; of random weights."""
    from torchvision.models.detection import KeypointRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=trainable)
    return KeypointRCNN(backbone, num_classes=2, min_size=min_size, max_size=max_size, **settings)


@torch.inference_mode()
def calibrate(model: nn.Module, image: Tensor) -> None:
    """Have norms take the statistics of an image [3, H, W], and predicting layers the spread of `SPREAD`."""
    model.eval()
    hooks = []
    for name, layer in model.named_modules():
        if hasattr(layer, "running_var"):
            nn.init.uniform_(layer.weight, 0.5, 1.5)  # type: ignore[arg-type]
            nn.init.uniform_(layer.bias, -0.5, 0.5)  # type: ignore[arg-type]
            hooks.append(layer.register_forward_pre_hook(_measure))
        elif getattr(layer, "bias", None) is not None:
            hooks.append(layer.register_forward_hook(rescale(SPREAD.get(name, 1.0))))
    model([image])
    model.get_submodule("rpn.head.cls_logits").bias += BIAS  # type: ignore[operator]
    model.get_submodule("roi_heads.box_predictor.cls_score").bias[1] += BIAS  # type: ignore[index]
    for hook in hooks:
        hook.remove()


def teach_joints(model: nn.Module, image: Tensor, steps: int = 60) -> None:
    """Have the last layer of joints give each joint of those found in an image [3, H, W] a cell of its own."""
    predictor, seen = model.get_submodule("roi_heads.keypoint_predictor"), []
    hook = predictor.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model.eval()([image])
    hook.remove()
    (features,) = seen
    optimizer, targets = torch.optim.Adam(predictor.parameters(), 1e-2), None
    for _ in range(steps):
        heatmaps = predictor(features).flatten(2).flatten(0, 1)  # [people * joints, cells]
        if targets is None:
            targets = torch.randint(heatmaps.shape[1], heatmaps.shape[:1])
        optimizer.zero_grad()
        F.cross_entropy(heatmaps, targets).backward()
        optimizer.step()


def twin(peer: nn.Module, min_size: int, max_size: int) -> PoseDetector:
    """`dimofs_resnet50` with the weights of `peer`, which keeps as many people a frame; its motion parts are new."""
    names = skeletons.DIMOFS if _joints(peer) == len(skeletons.DIMOFS) else skeletons.COCO
    model = dimofs_resnet50(names, min_size, max_size).eval()
    model.load_state_dict(keypointrcnn.convert(peer.state_dict()), strict=False)
    model.box_head.detections = peer.roi_heads.detections_per_img  # type: ignore[assignment,union-attr]
    return model


def _joints(peer: nn.Module) -> int:
    return peer.get_submodule("roi_heads.keypoint_predictor.kps_score_lowres").out_channels  # type: ignore[return-value]


def _measure(norm: nn.Module, inputs: tuple[Tensor]) -> None:
    variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3))
    norm.running_mean.copy_(mean)  # type: ignore[operator]
    norm.running_var.copy_(variance)  # type: ignore[operator]


def rescale(spread: float):
    """A hook that centres a layer's output channels and gives them a standard deviation."""

    def hook(layer: nn.Module, _, output: Tensor) -> Tensor:
        deviation, mean = torch.std_mean(output.transpose(0, 1).flatten(1), dim=1)
        factor = spread / deviation.mean()
        layer.weight.mul_(factor)  # type: ignore[operator]
        layer.bias.sub_(mean).mul_(factor)  # type: ignore[operator]
        return (output - mean.view(1, -1, *(1,) * (output.ndim - 2))) * factor

    return hook
