"""MoveNet MultiPose from the graph model published for TensorFlow.js: model.json with its .bin files beside it."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from dimofs.cli import InputError
from dimofs.zoo.backbones.movenet import MoveNet
from dimofs.zoo.converters.tfjs import read_graph

# The name scope of all operations in the published graph.
_GRAPH = "StatefulPartitionedCall"


def read_movenet(path: str | Path) -> MoveNet:
    """The published graph model at `path` (model.json). InputError: the file is no graph model, or another one."""
    weights, model = read_graph(path), MoveNet()
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        for convolution, (weight, bias) in zip(convolutions, _tensorflow_names(model), strict=True):
            # TensorFlow's weights are HWIO, those of depthwise convolutions HWC1.
            axes = (3, 2, 0, 1) if convolution.groups == 1 else (2, 3, 0, 1)
            _fill(path, convolution.weight, weights, weight, axes)
            if convolution.bias is not None:
                _fill(path, convolution.bias, weights, bias, (0,))
    return model


def _fill(path: str | Path, parameter: Tensor, weights: dict[str, Tensor], name: str, axes: tuple[int, ...]) -> None:
    value = weights.get(name)
    if value is None or value.ndim != len(axes) or value.permute(axes).shape != parameter.shape:
        raise InputError(f"{path}: weight {name!r} is missing or misshapen; give the model.json of MoveNet MultiPose")
    parameter.copy_(value.permute(axes))


def _tensorflow_names(model: MoveNet) -> Iterator[tuple[str, str]]:
    """The names of weight and bias in the graph for each of the model's convolutions, in the order of its modules."""
    features = f"{_GRAPH}/center_net_mobile_net_v2fpn_feature_extractor/model_1"
    blocks = [f"block_{i}" for i in range(1, 17)]
    layers = ["Conv1", "expanded_conv_depthwise", "expanded_conv_project"]
    layers += [f"{block}_{part}" for block in blocks for part in ("expand", "depthwise", "project")]
    for layer in (*layers, "Conv_1"):
        kind = "depthwise" if layer.endswith("depthwise") else "Conv2D"
        yield f"{features}/model/{layer}/{kind}_weights", f"{features}/model/{layer}/{kind}_bn_offset"
    for layer in ("conv2d_3", "conv2d_2", "conv2d_1", "conv2d"):
        yield f"{features}/{layer}/Conv2D/ReadVariableOp", f"{features}/{layer}/BiasAdd/ReadVariableOp"
    for layer in ("separable_conv2d_2", "separable_conv2d_1", "separable_conv2d"):
        name = f"{features}/{layer}/separable_conv2d"
        yield f"{name}/ReadVariableOp", ""
        yield f"{name}_weights", f"{name}_bn_offset"
    for i, head in enumerate(model.heads):
        name = f"{_GRAPH}/{head}_0/separable_conv2d_{i + 3}"
        yield f"{name}/separable_conv2d/ReadVariableOp", ""
        yield f"{name}/separable_conv2d/ReadVariableOp_1", f"{name}/BiasAdd/ReadVariableOp"
        name = f"{_GRAPH}/{head}_0/conv2d_{i + 4}"
        yield f"{name}/Conv2D/ReadVariableOp", f"{name}/BiasAdd/ReadVariableOp"
