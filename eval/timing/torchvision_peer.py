"""The peer of whole models: torchvision's Keypoint R-CNN with random weights that nevertheless find people.

The random weights are scaled layer by layer on an image, so that features keep their size and detections are many and
differ. The last layer then learns positions for the joints of that image, so that each heatmap has one peak, as those
of a trained model have. The public weights would cause the same computations on other numbers.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dimofs import skeletons
from dimofs.zoo.converters import keypointrcnn
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.presets import dimofs_resnet50

# Standard deviation of the output of each predicting layer. Other layers are scaled to 1.
SPREAD = {
    "rpn.head.cls_logits": 2.0,
    "rpn.head.bbox_pred": 0.2,
    "roi_heads.box_predictor.cls_score": 0.8,
    "roi_heads.box_predictor.bbox_pred": 0.5,
    "roi_heads.keypoint_predictor.kps_score_lowres": 3.0,
}
# Added to the logits of objects and people, so that no score rounds to 1.
BIAS = -2.0


def keypointrcnn_resnet50_fpn(min_size: int, max_size: int, trainable: int = 5, **settings) -> nn.Module:
    """The model that torchvision builds for its public weights, with frozen batch norms and random weights."""
    from torchvision.models.detection import KeypointRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=trainable)
    return KeypointRCNN(backbone, num_classes=2, min_size=min_size, max_size=max_size, **settings)


@torch.inference_mode()
def set_norm_statistics(model: nn.Module, image: Tensor) -> None:
    """Set the norms to the statistics of an image [3, H, W], and scale the predicting layers to `SPREAD`, in place."""
    model.eval()
    hooks = []
    for name, layer in model.named_modules():
        if hasattr(layer, "running_var"):
            nn.init.uniform_(layer.weight, 0.5, 1.5)  # type: ignore[arg-type]
            nn.init.uniform_(layer.bias, -0.5, 0.5)  # type: ignore[arg-type]
            hooks.append(layer.register_forward_pre_hook(_set_statistics))
        elif getattr(layer, "bias", None) is not None:
            hooks.append(layer.register_forward_hook(rescale(SPREAD.get(name, 1.0))))
    model([image])
    model.get_submodule("rpn.head.cls_logits").bias += BIAS  # type: ignore[operator]
    model.get_submodule("roi_heads.box_predictor.cls_score").bias[1] += BIAS  # type: ignore[index]
    for hook in hooks:
        hook.remove()


def teach_joints(model: nn.Module, image: Tensor, steps: int = 60) -> None:
    """Train the last keypoint layer to place each joint found in an image [3, H, W] in a random cell of its own."""
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
    """`dimofs_resnet50` with the weights of `peer`; its motion parts are new."""
    names = skeletons.DIMOFS if _joints(peer) == len(skeletons.DIMOFS) else skeletons.COCO
    model = dimofs_resnet50(names, min_size, max_size).eval()
    model.load_state_dict(keypointrcnn.convert(peer.state_dict()), strict=False)
    return model


def _joints(peer: nn.Module) -> int:
    return peer.get_submodule("roi_heads.keypoint_predictor.kps_score_lowres").out_channels  # type: ignore[return-value]


def _set_statistics(norm: nn.Module, inputs: tuple[Tensor]) -> None:
    variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3))
    norm.running_mean.copy_(mean)  # type: ignore[operator]
    norm.running_var.copy_(variance)  # type: ignore[operator]


def rescale(spread: float):
    """A forward hook that centres a layer's output channels and scales them to the standard deviation `spread`."""

    def hook(layer: nn.Module, _, output: Tensor) -> Tensor:
        deviation, mean = torch.std_mean(output.transpose(0, 1).flatten(1), dim=1)
        factor = spread / deviation.mean()
        layer.weight.mul_(factor)  # type: ignore[operator]
        layer.bias.sub_(mean).mul_(factor)  # type: ignore[operator]
        return (output - mean.view(1, -1, *(1,) * (output.ndim - 2))) * factor

    return hook
