"""Initial weights: from a checkpoint of the same kind of model, or for `dimofs_mobile` from MoveNet.

MoveNet's weights are copied, and the pyramid and the keypoint branch pass its 17 joint heatmaps on through identity
weights, beside channels with random weights. Before training, each joint's heatmap is therefore MoveNet's, cropped to
the person's region. Training then learns which peak in a region belongs to its person, sharper peaks, and the joints
that MoveNet does not have.
"""

import torch
from torch import Tensor, nn

from dimofs.cli import InputError
from dimofs.skeletons import indices
from dimofs.zoo import checkpoints
from dimofs.zoo.backbones import movenet
from dimofs.zoo.backbones.fpn import FeaturePyramid
from dimofs.zoo.backbones.pyramids import KeypointPyramidBackbone
from dimofs.zoo.detection.detector import PoseDetector

MOTION = ("offset_net.", "deformable.")
# Factor from MoveNet's heatmaps to the initial output logits.
GAIN = 0.75
# Initial scale of the random weights beside those that pass heatmaps on.
RANDOM_SCALE = 0.1


def start(model: PoseDetector, weights: str) -> None:
    """Give `model` the weights of a checkpoint of the same kind, or start a `dimofs_mobile` from a converted MoveNet.

    Joints are matched by name. Joints that the checkpoint does not have keep their random weights, and so do the motion
    parts if the checkpoint has another variant of them. InputError: `weights` holds neither kind of model.
    """
    source = checkpoints.load(weights)
    if isinstance(source, movenet.MoveNet) and isinstance(model.backbone, KeypointPyramidBackbone):
        from_movenet(model, source)
        return
    tensors = source.state_dict() | _joints(model, source)
    if isinstance(source, PoseDetector) and _variant(source) != _variant(model):
        # `tensors` share memory with `source`, so they change with it.
        forget_motion(source)
        tensors = {name: t for name, t in tensors.items() if not name.startswith(MOTION)}
        tensors |= {name: t for name, t in model.state_dict().items() if name.startswith(MOTION)}
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(f"{weights}: not the model that is trained, nor a MoveNet for dimofs_mobile") from error


@torch.no_grad()
def forget_motion(model: PoseDetector) -> None:
    """Reset the motion parts of a preset's model to their initial weights without changing its single-frame results.

    The 1x1 convolutions of the deformable layer are multiplied into the pyramid's output convolutions.
    """
    pyramid = model.backbone.fpn
    assert isinstance(pyramid, FeaturePyramid)
    for mix, output in zip(model.deformable.convs, pyramid.output, strict=True):
        if isinstance(mix, nn.Conv2d) and isinstance(output, nn.Conv2d) and output.bias is not None:
            weight = mix.weight.flatten(1)
            output.weight.copy_(torch.einsum("om,mihw->oihw", weight, output.weight))
            output.bias.copy_(weight @ output.bias)
            nn.init.dirac_(mix.weight)  # type: ignore[arg-type]
    model.offset_net.reset()


def variant_of(weights: str | None) -> str | None:
    """The variant of the motion parts of the checkpoint `weights`; None where it has none or there is no checkpoint."""
    return (_variant(checkpoints.load(weights)) or None) if weights else None


def _variant(model: nn.Module) -> str:
    """The model's variant of the motion parts, one of VARIANTS; "" if it has none."""
    preset = getattr(model, "preset", None)
    return preset.arguments.get("variant", "") if preset else ""


@torch.no_grad()
def _joints(model: PoseDetector, source: nn.Module) -> dict[str, Tensor]:
    """The last layer of the keypoint branch for the joints of `model`, from a `source` that may have other joints."""
    if not isinstance(source, PoseDetector):
        return {}
    found = torch.tensor(indices(source.keypoint_names, model.keypoint_names))
    known, last, theirs = found >= 0, model.keypoint_head.deconv, source.keypoint_head.deconv
    if last.weight.shape[0] != theirs.weight.shape[0]:
        return {}
    weight, bias = last.weight.clone(), last.bias.clone()  # type: ignore[union-attr]
    weight[:, known], bias[known] = theirs.weight[:, found[known]], theirs.bias[found[known]]  # type: ignore[index]
    return {"keypoint_head.deconv.weight": weight, "keypoint_head.deconv.bias": bias}


@torch.no_grad()
def from_movenet(model: PoseDetector, source: movenet.MoveNet) -> None:
    """Initialize `model`, a `dimofs_mobile`, with MoveNet's weights."""
    backbone = model.backbone
    assert isinstance(backbone, KeypointPyramidBackbone)
    backbone.body.load_state_dict(source.backbone.state_dict())
    backbone.top_down.load_state_dict(source.fpn.state_dict())
    for name, hint in backbone.hints.items():
        hint.load_state_dict(source.heads[name].state_dict())
    hints = sum(backbone.HINTS.values())
    for lateral, output in zip(backbone.fpn.lateral, backbone.fpn.output, strict=True):
        _pass(lateral, first=lateral.in_channels - hints)  # type: ignore[operator, arg-type]
        _pass(output)  # type: ignore[arg-type]
    for conv in model.keypoint_head.convs:
        _pass(conv)  # type: ignore[arg-type]
    _upsample(model.keypoint_head.deconv.weight)


def _pass(conv: nn.Conv2d, first: int = 0) -> None:
    """Make output channel j, for each of MoveNet's joints, a copy of input channel `first` + j."""
    middle = conv.kernel_size[0] // 2
    conv.weight[: movenet.JOINTS] = 0
    for j in range(movenet.JOINTS):
        conv.weight[j, first + j, middle, middle] = 1


def _upsample(weight: Tensor) -> None:
    """Make joint j of the deconvolution channel j, upsampled twofold bilinearly; scale the random weights down."""
    line = torch.tensor([0.25, 0.75, 0.75, 0.25])
    weight.mul_(RANDOM_SCALE)
    for j in range(movenet.JOINTS):
        weight[:, j] *= RANDOM_SCALE
        weight[j, :] = 0
        weight[j, j] = GAIN * line[:, None] * line
