"""Convert other projects' weights to a checkpoint: torchvision's Keypoint R-CNN or MoveNet MultiPose.

    python -m dimofs.zoo.convert keypointrcnn.pth --out keypointrcnn
    python -m dimofs.zoo.convert movenet-multipose.json --out movenet

The .pth is a state dict of `torchvision.models.detection.keypointrcnn_resnet50_fpn`, and becomes `dimofs_resnet50`. The
.json is the graph model published for TensorFlow.js with its .bin files beside it.
"""

from pathlib import Path
from typing import Annotated

from dimofs.cli import Range, run
from dimofs.files import check_writable
from dimofs.zoo import checkpoints
from dimofs.zoo.converters.movenet_tfjs import read_movenet
from dimofs.zoo.presets import movenet_multipose


def main(
    source: Annotated[str, "weights to convert, .pth or .json"],
    *,
    out: Annotated[str, "folder to write config.json and model.safetensors to"],
    eps: Annotated[
        float | None, "eps of a .pth file's batch norms: 0 if trained from torchvision's public weights", Range(0, 1)
    ] = None,
) -> None:
    check_writable(Path(out) / checkpoints.WEIGHTS)
    if source.endswith(".json"):
        model = movenet_multipose()
        model.load_state_dict(read_movenet(source).state_dict())
    else:
        model = checkpoints.from_torchvision(source, eps)
    checkpoints.save(model, out, {"source": Path(source).name})


if __name__ == "__main__":
    run(main)
