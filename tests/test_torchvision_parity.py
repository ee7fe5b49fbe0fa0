"""`dimofs_resnet50` finds what torchvision's `keypointrcnn_resnet50_fpn` finds with the same weights.

The weights are random, then scaled layer by layer on a drawn image, so that features keep their size and detections
are many and differ.
"""

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dimofs.detections import Detections
from dimofs.eval.timing.torchvision_peer import BIAS, SPREAD, rescale
from dimofs.images import read_image
from dimofs.pixels import to_tensor
from dimofs.zoo import checkpoints, convert
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.presets import dimofs_resnet50

torchvision = pytest.importorskip("torchvision")

ROOT = Path(__file__).resolve().parent.parent
PHOTOS = ROOT.parent / "shared/data/coco_people/images"
SIZES = (256, 448)  # of the input's shorter side, and the most of the longer; torchvision's own are 800 and 1333
DETECTIONS = 16  # instead of 100, to save the keypoint heads' time


def drawn(height: int, width: int, seed: int) -> Tensor:
    """Random blobs at four scales, [1, 3, height, width] in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.zeros(1, 3, height, width)
    for cells in (3, 8, 20, 50):
        blobs = torch.rand(1, 3, cells, cells, generator=generator)
        image += nn.functional.interpolate(blobs, (height, width), mode="bicubic") / 4
    return ((image - 0.5) * 3 + 0.5).clamp(0, 1)


@pytest.fixture(scope="module")
def peer() -> nn.Module:
    torch.manual_seed(0)
    min_size, max_size = SIZES
    model = torchvision.models.detection.keypointrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        min_size=min_size,
        max_size=max_size,
        box_detections_per_img=DETECTIONS,
    )
    return calibrated(model, drawn(240, 320, seed=0)[0])


def calibrated(model: nn.Module, image: Tensor) -> nn.Module:
    """Batch norms take the statistics of `image`, predicting layers the spread of `SPREAD`."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    with torch.inference_mode():
        model.eval().backbone.train()  # type: ignore[union-attr]
        model.backbone(image[None])  # type: ignore[operator]
        model.eval()
        hooks = [
            layer.register_forward_hook(rescale(SPREAD.get(name, 1.0)))
            for name, layer in model.named_modules()
            if getattr(layer, "bias", None) is not None and not isinstance(layer, nn.BatchNorm2d)
        ]
        model([image])
        model.get_submodule("rpn.head.cls_logits").bias += BIAS  # type: ignore[operator]
        model.get_submodule("roi_heads.box_predictor.cls_score").bias[1] += BIAS  # type: ignore[index]
    for hook in hooks:
        hook.remove()
    return model


@pytest.fixture(scope="module")
def ours(peer, tmp_path_factory) -> PoseDetector:
    """The peer's weights through a .pth file, the command that converts it, and the checkpoint that it writes."""
    folder = tmp_path_factory.mktemp("parity")
    torch.save(peer.state_dict(), folder / "peer.pth")
    convert.main(str(folder / "peer.pth"), out=str(folder / "converted"))
    model = checkpoints.load(folder / "converted")
    shutil.rmtree(folder)
    assert isinstance(model, PoseDetector)
    sized = dimofs_resnet50(model.keypoint_names, *SIZES).eval()
    sized.load_state_dict(model.state_dict())
    return sized


def photo() -> Tensor:
    """A photograph of people, [1, 3, H, W] in [0, 1]."""
    path = PHOTOS / "000000000036.jpg"
    if not path.exists():
        pytest.skip("no photographs: ../shared/data/coco_people is absent")
    return to_tensor(read_image(path))[None] / 255


@pytest.mark.parametrize(
    "image",
    [lambda: drawn(240, 320, seed=1), lambda: drawn(500, 233, seed=2), photo],
    ids=["landscape", "tall, limited by its height", "photo"],
)
def test_same_detections(ours, peer, image):
    frame = image()
    with torch.inference_mode():
        (theirs,), (found,) = peer([frame[0]]), ours(frame, max_people=DETECTIONS)
    assert_equal(found, theirs)


def assert_equal(found: Detections, theirs: dict[str, Tensor]) -> None:
    """Same people in the same order: 2e-3 pixels, 1e-4 in score, 2e-3 in logits. They are many and differ."""
    assert len(found) == len(theirs["labels"]) == DETECTIONS
    assert theirs["scores"].std() > 0.02
    assert theirs["boxes"].std(dim=0).min() > 10
    torch.testing.assert_close(found.boxes, theirs["boxes"], rtol=0, atol=2e-3)
    torch.testing.assert_close(found.scores, theirs["scores"], rtol=0, atol=1e-4)
    torch.testing.assert_close(found.keypoints, theirs["keypoints"][..., :2], rtol=0, atol=2e-3)
    torch.testing.assert_close(found.keypoint_scores, theirs["keypoints_scores"], rtol=0, atol=2e-3)


def test_a_frame_is_its_own_frame_b(ours, monkeypatch):
    monkeypatch.setattr(ours.preprocess, "min_size", 96)
    frame = drawn(96, 128, seed=3)
    with torch.inference_mode():
        (alone,), (pair,) = ours(frame, max_people=5), ours(frame, frame, max_people=5)
    assert len(alone) == len(pair) == 5
    for field in ("boxes", "scores", "keypoints", "keypoint_scores"):
        torch.testing.assert_close(getattr(alone, field), getattr(pair, field), rtol=0, atol=1e-3)
