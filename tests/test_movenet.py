"""MoveNet: padding and upsampling by hand, decoding of hand-made maps, conversion, and the published model's answer."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from dimofs.cli import InputError
from dimofs.detections import Detections
from dimofs.zoo import checkpoints, convert
from dimofs.zoo.backbones import movenet
from dimofs.zoo.backbones.inverted_residual import SameConv2d
from dimofs.zoo.backbones.mobilenet import MobileNetV2, MoveNetFPN
from dimofs.zoo.converters import movenet_tfjs, tfjs
from dimofs.zoo.converters.movenet_tfjs import read_movenet


@pytest.fixture(scope="module")
def model() -> movenet.MoveNet:
    """Random, but with responses large enough that no choice of the decoder hangs on the last bit."""
    torch.manual_seed(0)
    built = movenet.MoveNet().eval()
    for module in built.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return built


def _close(a: Detections, b: Detections, tolerance: float) -> None:
    for name in ("boxes", "scores", "keypoints", "keypoint_scores"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), atol=tolerance, rtol=0, msg=name)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (4, [[45, 39], [66, 50]]),  # none before, one after: sums of rows 0-2 and 2-3, columns likewise
        (3, [[8, 12], [20, 24]]),  # one on each side: rows 0-1 and 1-2
    ],
)
def test_stride_2_is_padded_as_in_tensorflow(size, expected):
    convolution = SameConv2d(1, 1)
    torch.nn.init.ones_(convolution.weight)
    image = torch.arange(size * size, dtype=torch.float).view(1, 1, size, size)
    assert (convolution(image) - convolution.bias).round().tolist() == [[expected]]


def test_feature_maps_have_the_declared_widths_and_strides():
    backbone, fpn = MobileNetV2(), MoveNetFPN()
    features = backbone(torch.rand(2, 3, 64, 96))
    for maps, module in ((features, backbone), (fpn(features), fpn)):
        expected = [(2, c, 64 // s, 96 // s) for c, s in zip(module.channels, module.strides, strict=True)]
        assert [tuple(m.shape) for m in maps] == expected


def test_pyramid_upsamples_half_way_between_cell_centres():
    fpn = MoveNetFPN()
    for parameter in fpn.parameters():
        torch.nn.init.zeros_(parameter)
    fpn.get_parameter("laterals.3.weight").data[0, 7] = 1
    fpn.get_parameter("smooth.2.0.weight").data[0, 0, 1, 1] = 1
    fpn.get_parameter("smooth.2.1.weight").data[5, 0] = 1
    features = [torch.zeros(1, c, 16 // 2**i, 16 // 2**i) for i, c in enumerate(MobileNetV2.channels)]
    features[3][0, 7, :, 1] = 4
    assert fpn(features)[2][0, 5].tolist() == [[0, 1, 3, 4]] * 4


def _maps(height: int, width: int) -> dict[str, torch.Tensor]:
    """No centre, no heat, no offset: [C, height, width] each."""
    sizes = {"center": 1, "box_scale": 2, "box_offset": 2, "kpt_heatmap": 17, "kpt_regress": 34, "kpt_offset": 34}
    maps = {name: torch.zeros(size, height, width) for name, size in sizes.items()}
    maps["center"] -= torch.inf
    maps["kpt_heatmap"] -= torch.inf
    return maps


def _logit(probability: float) -> float:
    return float(np.log(probability / (1 - probability)))


def test_decoding_by_hand():
    maps = _maps(8, 10)
    maps["center"][0, 3, 4] = _logit(0.9)
    maps["center"][0, 3, 6] = _logit(0.8)  # within the 5x5 cells of a higher centre
    maps["box_scale"][:, 3, 4] = torch.tensor([4.0, 2.0])
    maps["box_offset"][:, 3, 4] = torch.tensor([0.5, 0.25])  # rows 1.5 to 5.5, columns 3.25 to 5.25
    maps["kpt_regress"].view(17, 2, 8, 10)[:, 0, 3, 4] = -1  # every joint is expected in cell (2, 4)
    maps["kpt_heatmap"][:, 2, 4] = _logit(0.2)
    maps["kpt_heatmap"][0, 2, 4] = _logit(0.8)
    maps["kpt_heatmap"][0, 6, 4] = _logit(0.99)  # below the box
    maps["kpt_heatmap"][1, 2, 5] = _logit(0.6)  # one cell off: exp(-1 / (0.3 * 8))
    maps["kpt_heatmap"][2, 2, 4] = _logit(0.12)  # does not count in the person's score
    maps["kpt_offset"].view(17, 2, 8, 10)[0, :, 2, 4] = torch.tensor([0.25, 0.75])
    found = movenet.decode(maps, people=6)

    aside = 0.6 * np.exp(-1 / 2.4)
    assert found.boxes.tolist() == [[13, 6, 21, 22]]
    assert found.keypoints[0, :3].tolist() == [[19, 9], [20, 8], [16, 8]]
    assert found.keypoint_scores[0].tolist() == pytest.approx([0.8, aside, 0.12, *[0.2] * 14])
    assert found.scores.tolist() == pytest.approx([0.9 * (0.8 + aside + 14 * 0.2) / 16])


def test_people_are_limited_by_centre_and_ordered_by_score():
    maps = _maps(16, 16)
    maps["box_scale"][:] = 6
    for column, center, heat in ((3, 0.9, 0.3), (8, 0.8, 0.6), (13, 0.7, 0.9)):
        maps["center"][0, 8, column] = _logit(center)
        maps["kpt_heatmap"][:, 8, column] = _logit(heat)
    found = movenet.decode(maps, people=2)
    assert found.scores.tolist() == pytest.approx([0.48, 0.27])
    assert found.keypoints[:, 0].tolist() == [[32, 32], [12, 32]]


def test_nobody():
    found = movenet.decode(_maps(8, 8), people=6)
    assert (found.boxes.shape, found.keypoints.shape, found.keypoint_scores.shape) == ((0, 4), (0, 17, 2), (0, 17))


def test_batched_equals_single(model):
    images = torch.rand(3, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        batched = model(images)
        for i, found in enumerate(batched):
            assert len(found) > 1
            _close(found, model(images[i : i + 1])[0], 1e-3)


def test_odd_sizes_are_refused(model):
    with pytest.raises(ValueError, match="multiples of 32"):
        model(torch.rand(1, 3, 64, 80))


def _write_tfjs(folder: Path, weights: dict[str, torch.Tensor], shards: int = 2) -> Path:
    """`weights` as a graph model stored in halves."""
    data = b"".join(w.half().numpy().tobytes() for w in weights.values())
    cuts = [len(data) * i // shards for i in range(shards + 1)]
    for i in range(shards):
        (folder / f"shard{i}.bin").write_bytes(data[cuts[i] : cuts[i + 1]])
    entries = [
        {"name": n, "shape": list(w.shape), "dtype": "float32", "quantization": {"dtype": "float16"}}
        for n, w in weights.items()
    ]
    group = {"paths": [f"shard{i}.bin" for i in range(shards)], "weights": entries}
    (folder / "model.json").write_text(json.dumps({"format": "graph-model", "weightsManifest": [group]}))
    return folder / "model.json"


def test_graph_model_reads_types_shapes_and_shards(tmp_path):
    bytes_ = np.array([1.5, -2], "<f2").tobytes() + np.array([[7], [8]], "<i4").tobytes() + np.float32(3.25).tobytes()
    (tmp_path / "a.bin").write_bytes(bytes_[:5])
    (tmp_path / "b.bin").write_bytes(bytes_[5:])
    entries = [
        {"name": "half", "shape": [2], "dtype": "float32", "quantization": {"dtype": "float16"}},
        {"name": "whole", "shape": [2, 1], "dtype": "int32"},
        {"name": "scalar", "shape": [], "dtype": "float32"},
    ]
    manifest = [{"paths": ["a.bin", "b.bin"], "weights": entries}]
    (tmp_path / "model.json").write_text(json.dumps({"weightsManifest": manifest}))
    weights = tfjs.read_graph(tmp_path / "model.json")
    assert {name: w.tolist() for name, w in weights.items()} == {"half": [1.5, -2], "whole": [[7], [8]], "scalar": 3.25}
    assert [w.dtype for w in weights.values()] == [torch.float32, torch.int32, torch.float32]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "model.json").unlink(), "model.json: "),
        (lambda f: (f / "model.json").write_text("<html>"), "not a JSON file"),
        (lambda f: (f / "model.json").write_text("[]"), "not a TensorFlow.js graph model"),
        (lambda f: (f / "shard1.bin").unlink(), "shard1.bin: "),
        (lambda f: (f / "shard1.bin").write_bytes(b"x"), "hold 3 bytes instead of 4"),
        (lambda f: _edit(f, "float16", "uint8"), "'w' is stored as 'uint8'"),
    ],
    ids=["absent", "no json", "other json", "no shard", "short shard", "unknown type"],
)
def test_damaged_graph_models_are_refused(tmp_path, spoil, message):
    _write_tfjs(tmp_path, {"w": torch.ones(2)})
    spoil(tmp_path)
    with pytest.raises(InputError, match=message):
        tfjs.read_graph(tmp_path / "model.json")


def _edit(folder: Path, old: str, new: str) -> None:
    text = (folder / "model.json").read_text()
    assert old in text
    (folder / "model.json").write_text(text.replace(old, new))


def test_another_graph_model_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"Conv1/Conv2D_weights' is missing or misshapen"):
        read_movenet(_write_tfjs(tmp_path, {"w": torch.ones(2)}))


def test_conversion_undoes_the_tensorflow_layout(model, tmp_path):
    weights = {}
    convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    for convolution, (weight, bias) in zip(convolutions, movenet_tfjs._tensorflow_names(model), strict=True):
        axes = (2, 3, 1, 0) if convolution.groups == 1 else (2, 3, 0, 1)
        weights[weight] = convolution.weight.detach().permute(axes).contiguous()
        if convolution.bias is not None:
            weights[bias] = convolution.bias.detach()
    converted = read_movenet(_write_tfjs(tmp_path, weights)).state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(converted[name], value.half().float()), name


def _figure() -> np.ndarray:
    """A standing figure of discs and bars on a shaded ground, [160, 128, 3] uint8."""
    y, x = np.mgrid[:160, :128]
    image = np.stack((150 + y // 4, 160 - y // 4, 190 - x // 4), axis=2)
    skin, shirt, trousers, eyes = (210, 160, 130), (60, 80, 160), (40, 40, 50), (20, 20, 20)
    bars = (
        (64, 24, 64, 24, 10, skin), (64, 36, 64, 84, 11, shirt), (53, 44, 44, 66, 5, shirt), (44, 66, 40, 88, 4, skin),
        (75, 44, 84, 66, 5, shirt), (84, 66, 88, 88, 4, skin), (59, 90, 57, 116, 6, trousers),
        (57, 116, 56, 142, 5, trousers), (69, 90, 71, 116, 6, trousers), (71, 116, 72, 142, 5, trousers),
        (60, 22, 60, 22, 1, eyes), (68, 22, 68, 22, 1, eyes),
    )  # fmt: skip
    for x0, y0, x1, y1, radius, color in bars:
        length = max((x1 - x0) ** 2 + (y1 - y0) ** 2, 1)
        along = (((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length).clip(0, 1)
        image[(x - x0 - along * (x1 - x0)) ** 2 + (y - y0 - along * (y1 - y0)) ** 2 <= radius**2] = color
    return image.astype(np.uint8)


# What @tensorflow/tfjs 4.22.0 (CPU backend) makes of `_figure` with the published weights, its most likely person:
# normalized y and x times 160 and 128.
_SCORE = 0.3459
_BOX = (35.616, 14.051, 91.336, 152.148)
_KEYPOINTS = (
    (63.809, 30.556), (65.373, 26.173), (62.554, 25.9), (67.343, 28.971), (60.76, 28.72), (77.333, 46.988),
    (53.399, 46.196), (84.979, 66.195), (41.329, 65.737), (86.932, 78.614), (41.223, 79.074), (69.753, 88.259),
    (58.692, 87.819), (71.025, 122.989), (55.522, 122.173), (71.241, 145.462), (56.868, 146.046),
)  # fmt: skip
_KEYPOINT_SCORES = (
    0.378, 0.4982, 0.4446, 0.4675, 0.5042, 0.5993, 0.4735, 0.37, 0.2858, 0.3266, 0.1544, 0.7272, 0.6895, 0.3309,
    0.4702, 0.3762, 0.3665,
)  # fmt: skip


def test_published_model_answers_as_its_own_runtime(tmp_path):
    published = os.environ.get("DIMOFS_MOVENET", "")
    if not Path(published).is_file():
        pytest.skip("DIMOFS_MOVENET does not name the model.json of MoveNet MultiPose")
    convert.main(published, out=str(tmp_path))
    image = torch.from_numpy(_figure()).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        (found,) = checkpoints.load(tmp_path)(image)
    expected = Detections(*map(torch.tensor, ([_BOX], [_SCORE], [_KEYPOINTS], [_KEYPOINT_SCORES])))
    _close(found[:1], expected, 2e-3)
