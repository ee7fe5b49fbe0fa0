"""torchvision's `keypointrcnn_resnet50_fpn`: .pth files with the tensor names of `dimofs_resnet50`,
and its public weights.
"""

import hashlib
import re
import shutil
import urllib.request
from argparse import Namespace
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from dimofs.cli import InputError
from dimofs.files import check_regular
from dimofs.skeletons import COCO
from dimofs.zoo.backbones.resnet import FrozenBatchNorm

PUBLIC = "keypointrcnn_resnet50_fpn_coco"
# The first digits of the public file's hash.
SHA256 = "fc266e95"
URL = f"https://download.pytorch.org/models/{PUBLIC}-{SHA256}.pth"

# Old files, including the public one, lack the index that torchvision's later Conv2dNormActivation added.
_NAMES = (
    (r"backbone\.body\.(.*)", r"backbone.body.\1"),
    (r"backbone\.fpn\.inner_blocks\.(\d)(?:\.0)?\.(\w+)", r"backbone.fpn.lateral.\1.\2"),
    (r"backbone\.fpn\.layer_blocks\.(\d)(?:\.0)?\.(\w+)", r"backbone.fpn.output.\1.\2"),
    (r"rpn\.head\.conv(?:\.0\.0)?\.(\w+)", r"rpn.hidden.0.\1"),
    (r"rpn\.head\.cls_logits\.(\w+)", r"rpn.objectness.\1"),
    (r"rpn\.head\.bbox_pred\.(\w+)", r"rpn.deltas.\1"),
    (r"roi_heads\.box_head\.fc6\.(\w+)", r"box_head.fc1.\1"),
    (r"roi_heads\.box_head\.fc7\.(\w+)", r"box_head.fc2.\1"),
    (r"roi_heads\.box_predictor\.cls_score\.(\w+)", r"box_head.logits.\1"),
    (r"roi_heads\.box_predictor\.bbox_pred\.(\w+)", r"box_head.deltas.\1"),
    (r"roi_heads\.keypoint_predictor\.kps_score_lowres\.(\w+)", r"keypoint_head.deconv.\1"),
)
# Where training scripts put the state dict in their checkpoints, and what DistributedDataParallel puts before names.
NESTED = ("model", "state_dict", "model_state_dict", "ema_state_dict")
PARALLEL = "module."
# Only even indices: the ReLUs between the convolutions are numbered, too.
_KEYPOINT_CONV = re.compile(r"roi_heads\.keypoint_head\.(\d+)\.(\w+)")


def rename(name: str) -> str:
    """Our name of torchvision's tensor `name`; unknown names stay."""
    if match := _KEYPOINT_CONV.fullmatch(name):
        return f"keypoint_head.convs.{int(match[1]) // 2}.{match[2]}"
    for pattern, ours in _NAMES:
        if match := re.fullmatch(pattern, name):
            return match.expand(ours)
    return name


def convert(state: Mapping[str, Tensor], eps: float = FrozenBatchNorm.eps) -> dict[str, Tensor]:
    """torchvision's state dict under our names, without the offset net and the deformable layer.

    `eps` is that of its batch norms. If it is not ours, their weights are changed to compensate.
    """
    ours = {rename(name): t for name, t in state.items() if not name.endswith(".num_batches_tracked")}
    if eps != FrozenBatchNorm.eps:
        for name, variance in ours.items():
            if name.endswith(".running_var"):
                weight, wide = name.replace("running_var", "weight"), variance.double()
                factor = ((wide + FrozenBatchNorm.eps) / (wide + eps)).sqrt()
                ours[weight] = (ours[weight] * factor).to(ours[weight].dtype)
    return ours


def read_state_dict(path: str | Path, eps: float | None = None) -> dict[str, Tensor]:
    """torchvision's state dict at `path` (.pth), converted.

    `eps` is that of its batch norms; by default torchvision's 1e-5, and 0 for the public file, which torchvision too
    runs with 0. InputError: the file holds no state dict, or more than tensors.
    """
    path = Path(path)
    state = read_tensors(path)
    if eps is None:
        eps = 0.0 if _sha256(path).startswith(SHA256) else FrozenBatchNorm.eps
    return convert(state, eps)


def joints(tensors: Mapping[str, Tensor]) -> list[str]:
    """The names of the joints of a converted state dict: COCO's if there are 17, else joint_0, joint_1, ..."""
    last = tensors.get("keypoint_head.deconv.bias")
    count = len(COCO) if last is None else last.numel()
    return list(COCO) if count == len(COCO) else [f"joint_{number}" for number in range(count)]


def download(path: Path) -> None:
    """Download the public file to `path`. InputError: there is no network, or the file has another hash."""
    try:
        with urllib.request.urlopen(URL, timeout=30) as response, open(path, "wb") as file:
            size = int(response.headers.get("Content-Length") or 0) or None
            with tqdm.wrapattr(response, "read", total=size, desc=PUBLIC) as counted:
                shutil.copyfileobj(counted, file)
    except (OSError, HTTPException) as error:
        remedy = "fetch it on a machine with a network and give that .pth file instead"
        raise InputError(f"{URL}: cannot download ({error}); {remedy}") from error
    if not (found := _sha256(path)).startswith(SHA256):
        raise InputError(f"{URL}: damaged on the way, its SHA-256 begins {found[:8]}, not {SHA256}; try again")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The state dict at `path`. Only tensors are unpickled; a file that asks for code is refused."""
    check_regular(path)
    try:
        # torchvision's own training script stores its arguments beside the weights: a Namespace holds plain values.
        with torch.serialization.safe_globals([Namespace]):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{path}: cannot read ({error.strerror or error})") from error
    except Exception as error:  # torch's reader of foreign bytes raises a dozen types
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: not a state dict of tensors alone ({reason})") from error
    if isinstance(state, dict):
        state = next((state[key] for key in NESTED if isinstance(state.get(key), dict)), state)
    if not isinstance(state, dict) or not all(isinstance(name, str) and _plain(t) for name, t in state.items()):
        raise InputError(f"{path}: not a state dict; write it by torch.save(model.state_dict(), path)")
    if state and all(name.startswith(PARALLEL) for name in state):
        state = {name.removeprefix(PARALLEL): t for name, t in state.items()}
    return state


def _plain(value: object) -> bool:
    """Whether it is a tensor of numbers in memory: not sparse, not quantized, not without data."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
