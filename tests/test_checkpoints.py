"""Checkpoints: what is saved comes back bit for bit, whole or not at all; everything else is one clear line."""

import hashlib
import json
import math
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from dimofs.cli import InputError
from dimofs.zoo import checkpoints, convert, presets
from dimofs.zoo.arguments import Limits
from dimofs.zoo.converters import keypointrcnn
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.presets import PRESETS, dimofs_mobile, preset

Damage = Callable[[Path], object]  # spoils the checkpoint in a folder
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return dimofs_mobile(keypoint_names=("nose", "left_knee"), min_size=96, max_size=128)


@pytest.fixture
def folder(model, tmp_path) -> Path:
    checkpoints.save(model, tmp_path / "saved", {"step": "7"})
    return tmp_path / "saved"


def equal(a: nn.Module, b: nn.Module) -> bool:
    """Whether both have the same tensors, bit for bit."""
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def refused(source: str | Path, *words: str) -> None:
    """`load` raises InputError: one line that has all of `words`."""
    with pytest.raises(InputError) as caught:
        checkpoints.load(source)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def test_round_trip_is_bit_exact(model, folder):
    loaded = checkpoints.load(folder)
    assert equal(model, loaded)
    assert not loaded.training
    assert loaded.keypoint_names == ("nose", "left_knee")
    assert loaded.preprocess.min_size == 96  # type: ignore[union-attr]
    checkpoints.save(loaded, folder.with_name("again"), {"step": "7"})
    assert (folder / "config.json").read_text() == (folder.with_name("again") / "config.json").read_text()


def test_what_is_written(folder):
    assert sorted(os.listdir(folder)) == ["config.json", "model.safetensors"]
    assert json.loads((folder / "config.json").read_text()) == {
        "format": 1,
        "model": "dimofs_mobile",
        "arguments": {
            "keypoint_names": ["nose", "left_knee"],
            "min_size": 96,
            "max_size": 128,
            "variant": "paper",
            "limbs": None,
            "sigmas": None,
            "person_score": None,
        },
        "keypoint_names": ["nose", "left_knee"],
    }
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert file.metadata()["step"] == "7"


def test_the_safetensors_file_and_channels_last_weights(model, folder):
    checkpoints.save(model.to(memory_format=torch.channels_last), folder, {})
    assert equal(model, checkpoints.load(folder / "model.safetensors"))


def test_saving_again_replaces_the_model_and_keeps_the_card(folder):
    (folder / "README.md").write_text("card")
    other = dimofs_mobile(("nose",))
    checkpoints.save(other, folder, {})
    assert equal(other, checkpoints.load(folder))
    assert (folder / "README.md").read_text() == "card"
    assert os.listdir(folder.parent) == ["saved"]


def test_a_failed_save_changes_nothing(model, folder, monkeypatch):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    monkeypatch.setattr(checkpoints, "save_file", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    for target in (folder, folder.with_name("new")):
        with pytest.raises(InputError, match="disk full"):
            checkpoints.save(dimofs_mobile(), target, {})
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert os.listdir(folder.parent) == ["saved"]


def test_a_folder_that_is_a_file_cannot_be_written(model, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="cannot write"):
        checkpoints.save(model, tmp_path / "file", {})
    assert (tmp_path / "file").read_text() == "mine"
    assert os.listdir(tmp_path) == ["file"]


def test_half_the_size_is_read_as_float32(tmp_path):
    model = dimofs_mobile()
    checkpoints.save(model, tmp_path / "whole", {})
    checkpoints.save(model, tmp_path / "half", {}, half=True)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "half")]
    assert sizes[1] < 0.51 * sizes[0]
    for name, tensor in checkpoints.load(tmp_path / "half").state_dict().items():
        assert tensor.dtype == torch.float32 and torch.equal(tensor, model.state_dict()[name].half().float())


def test_only_float32_models_of_presets_are_saved(tmp_path):
    with pytest.raises(ValueError, match="not made by one of"):
        checkpoints.save(nn.Linear(2, 2), tmp_path / "x", {})
    with pytest.raises(ValueError, match="bfloat16"):
        checkpoints.save(dimofs_mobile().bfloat16(), tmp_path / "x", {})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["dimofs_mobile", "movenet_multipose"])
def test_every_preset_remembers_its_name_and_arguments(name, tmp_path):
    model = PRESETS[name]()
    assert model.preset.name == name
    checkpoints.save(model, tmp_path / name, {})
    assert equal(model, checkpoints.load(tmp_path / name))


def test_a_size_of_the_call_replaces_the_checkpoints_own(folder):
    small, usual = (checkpoints.load_as(PoseDetector, folder, size=size).preprocess for size in (64, None))
    assert small.size(48, 96) == (32, 64)
    assert usual.size(48, 96) == (64, 128)


@preset
def odd_model(
    width: float,
    layers: Sequence[Annotated[int, Limits(1, 9)]],
    *,
    gains: dict[str, float],
    kind: Literal["a", "b"] = "a",
    bias: bool = True,
    limit: int | None = None,
) -> nn.Module:
    """A model whose preset takes every kind of argument."""
    model = nn.Linear(len(layers), len(gains), bias)
    vars(model)["given"] = (width, list(layers), gains, kind, bias, limit)
    return model


GOOD = {"width": 0.5, "layers": [3, 4], "gains": {"x": 1.5}, "kind": "b", "bias": False, "limit": None}


def test_every_kind_of_argument_comes_back(tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS, "odd_model", odd_model)
    checkpoints.save(odd_model(**GOOD), tmp_path, {})
    assert checkpoints.load(tmp_path).given == (0.5, [3, 4], {"x": 1.5}, "b", False, None)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("width", "wide", "'width' cannot be 'wide'; expected a finite number"),
        ("width", math.inf, "'width' cannot be inf"),
        ("width", True, "'width' cannot be True"),
        ("layers", [3, 10], "'layers' cannot be [3, 10]; expected a list of 1 to 1000 entries, each a whole number"),
        ("layers", [], "'layers' cannot be []"),
        ("layers", 3, "'layers' cannot be 3"),
        ("gains", {"x": "y"}, "'gains' cannot be {'x': 'y'}; expected an object of at most 1000 entries"),
        ("gains", [1.5], "'gains' cannot be [1.5]"),
        ("kind", "c", "'kind' cannot be 'c'; expected one of a, b"),
        ("kind", ["a"], "'kind' cannot be ['a']"),
        ("bias", 1, "'bias' cannot be 1; expected true or false"),
        ("limit", 10**9, "'limit' cannot be 1000000000; expected a whole number from 0 to 16384 or null"),
        ("limit", "x" * 10_000, "'limit' cannot be 'xxx"),
        ("self", 1, "has 'self', which odd_model does not take"),
    ],
)
def test_arguments_that_do_not_fit_the_signature(tmp_path, monkeypatch, name, value, message):
    monkeypatch.setitem(PRESETS, "odd_model", odd_model)
    checkpoints.save(odd_model(**GOOD), tmp_path, {})
    _edit("arguments", GOOD | {name: value})(tmp_path)
    refused(tmp_path, f'config.json: field "arguments": {message}')


def test_an_argument_that_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS, "odd_model", odd_model)
    checkpoints.save(odd_model(**GOOD), tmp_path, {})
    _edit("arguments", {"width": 0.5, "layers": [3]})(tmp_path)
    refused(tmp_path, "lacks 'gains', which odd_model needs")


def test_presets_are_known_by_the_names_of_their_functions():
    assert {name: getattr(presets, name) for name in PRESETS} == PRESETS


def test_loading_leaves_the_random_generator_alone(folder):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    checkpoints.load(folder)
    assert torch.equal(torch.rand(4), expected)


def test_shipped_names_come_from_the_module_folder(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoints, "SHIPPED", folder.parent)
    monkeypatch.chdir(tmp_path)
    assert checkpoints.shipped() == ["saved"]
    assert checkpoints.load("saved").keypoint_names == ("nose", "left_knee")


@pytest.mark.parametrize("name", checkpoints.shipped())
def test_what_ships_loads_and_is_small(name):
    folder = checkpoints.SHIPPED / name
    assert checkpoints.load(name).preset.name in PRESETS  # type: ignore[union-attr]
    assert sum(p.stat().st_size for p in folder.iterdir()) < 32e6
    assert (folder / "README.md").is_file()


def test_a_device_that_is_not_there(folder):
    if torch.cuda.is_available():
        pytest.skip("this machine has the device")
    with pytest.raises(InputError, match="device cuda: not available"):
        checkpoints.load(folder, device="cuda")


def _edit(field: str, value) -> Damage:
    def edit(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        if value is None:
            del config[field]
        else:
            config[field] = value
        (folder / "config.json").write_text(json.dumps(config))

    return edit


def _retensor(change) -> Damage:
    """Rewrites the tensors after `change`, without the header's checksum."""

    def edit(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return edit


def _truncate(name: str, size: int) -> Damage:
    return lambda folder: os.truncate(folder / name, size)


def _flip_a_bit(folder: Path) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1000] ^= 1
    (folder / "model.safetensors").write_bytes(data)


def _header_length(length: int) -> Damage:
    """A header that claims to be so long."""

    def edit(folder: Path) -> None:
        data = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", length) + data[8:])

    return edit


def _header_text(old: bytes, new: bytes) -> Damage:
    def edit(folder: Path) -> None:
        data = (folder / "model.safetensors").read_bytes()
        assert old in data and len(old) == len(new)
        (folder / "model.safetensors").write_bytes(data.replace(old, new, 1))

    return edit


BIAS = "box_head.fc1.bias"
DAMAGE = {
    "no config": (lambda f: (f / "config.json").unlink(), "config.json: missing"),
    "no tensors": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors: cannot read"),
    "not JSON": (lambda f: (f / "config.json").write_text("{"), "config.json: not a JSON file"),
    "binary JSON": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), "config.json: not a JSON file"),
    "JSON list": (lambda f: (f / "config.json").write_text("[]"), 'config.json: field "format"'),
    "no format": (_edit("format", None), 'config.json: field "format" is not 1'),
    "next format": (_edit("format", 2), 'config.json: field "format" is not 1'),
    "no preset": (_edit("model", None), 'config.json: field "model" is None'),
    "unknown preset": (_edit("model", "yolo"), "field \"model\" is 'yolo'; known are dimofs_mobile"),
    "preset list": (_edit("model", ["dimofs_mobile"]), 'config.json: field "model"'),
    "no arguments": (_edit("arguments", None), 'config.json: field "arguments" is not an object'),
    "unknown argument": (_edit("arguments", {"depth": 3}), "field \"arguments\": has 'depth'"),
    "text size": (_edit("arguments", {"min_size": "big"}), "field \"arguments\": 'min_size' cannot be 'big'"),
    "zero size": (_edit("arguments", {"min_size": 0}), "'min_size' cannot be 0"),
    "no joints": (_edit("arguments", {"keypoint_names": []}), "'keypoint_names' cannot be []"),
    "one word": (_edit("arguments", {"keypoint_names": "nose"}), "'keypoint_names' cannot be 'nose'"),
    "other joints": (_edit("keypoint_names", ["nose"]), 'config.json: field "keypoint_names"'),
    "more joints": (
        lambda f: [_edit(*e)(f) for e in (("arguments", {}), ("keypoint_names", list(presets.skeletons.DIMOFS)))],
        "'keypoint_head.deconv.bias' is float32 [2], not float32 [19]",
    ),
    "wrong model": (
        lambda f: [_edit(*e)(f) for e in (("model", "movenet_multipose"), ("arguments", {"people": 6}))],
        "keypoint_names",
    ),
    "empty": (_truncate("model.safetensors", 0), "model.safetensors: damaged"),
    "half a header": (_truncate("model.safetensors", 100), "model.safetensors: damaged"),
    "half the tensors": (_truncate("model.safetensors", 100_000), "model.safetensors: damaged"),
    "a flipped bit": (_flip_a_bit, 'model.safetensors: damaged, its tensors do not have the "sha256"'),
    "text": (lambda f: (f / "model.safetensors").write_text("<html>not found</html>"), "model.safetensors: damaged"),
    "missing tensor": (_retensor(lambda t: t.pop(BIAS)), f"tensor '{BIAS}' is missing"),
    "unknown tensor": (_retensor(lambda t: t.update(extra=torch.ones(1))), "tensor 'extra' is unknown"),
    "wrong shape": (_retensor(lambda t: t.update({BIAS: torch.ones(3)})), f"'{BIAS}' is float32 [3], not float32 ["),
    "too many joints": (
        _edit("arguments", {"keypoint_names": ["joint"] * 100_000}),
        "'keypoint_names' cannot be ['joint', ",
    ),
    "ten million joints": (
        lambda f: (f / "config.json").write_text(json.dumps({"keypoint_names": ["j"] * 10**7})),
        "config.json: larger than 1048576 bytes",
    ),
    "huge size": (_edit("arguments", {"max_size": 10**9}), "'max_size' cannot be 1000000000; expected a whole number"),
    "a bool": (_edit("arguments", {"min_size": True}), "'min_size' cannot be True"),
    "a fraction": (_edit("arguments", {"min_size": 96.0}), "'min_size' cannot be 96.0"),
    "NaN": (_edit("arguments", {"min_size": float("nan")}), "'min_size' cannot be nan"),
    "no variant": (_edit("arguments", {"variant": "best"}), "'variant' cannot be 'best'; expected one of paper"),
    "NaN weights": (_retensor(lambda t: t[BIAS].fill_(torch.nan)), f"'{BIAS}' has values that are not finite"),
    "infinite weights": (_retensor(lambda t: t[BIAS].fill_(torch.inf)), f"'{BIAS}' has values that are not finite"),
    "a huge header": (_header_length(2**62), "model.safetensors: damaged"),
    "unknown tensor type": (_header_text(b'"dtype":"F32"', b'"dtype":"X32"'), "model.safetensors: damaged"),
    "a shape beyond the file": (_header_text(b'"shape":[256]', b'"shape":[999]'), "model.safetensors: damaged"),
    "wrong type": (_retensor(lambda t: t.update({BIAS: t[BIAS].int()})), f"'{BIAS}' is int32 [256], not float32"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_checkpoints_are_refused(folder, damage, message):
    damage(folder)
    refused(folder, message)


def test_unknown_sources_are_refused(tmp_path):
    refused("dimofs_huge", "dimofs_huge: neither a file, nor a folder, nor a name", "keypointrcnn_resnet50_fpn_coco")
    (tmp_path / "x.onnx").write_text("x")
    refused(tmp_path / "x.onnx", "x.onnx: not a checkpoint")


# torchvision's files


class Touch:
    """An object whose unpickling makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_malicious_file_is_refused_unexecuted(tmp_path):
    touched = tmp_path / "touched"
    torch.save({"weight": torch.ones(1), "evil": Touch(touched)}, tmp_path / "evil.pth")
    torch.load(tmp_path / "evil.pth", weights_only=False)
    assert touched.exists()  # so the file would do harm
    touched.unlink()
    refused(tmp_path / "evil.pth", "evil.pth: not a state dict of tensors alone")
    assert not touched.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a state dict"),
        (b"\x80\x02garbage", "not a state dict"),
        (b"PK\x03\x04" + bytes(100), "not a state dict"),
        ([torch.ones(1)], "not a state dict"),
        ({"epoch": 3}, "not a state dict"),
        ({}, "is missing; the file belongs to another model"),
        ({"fc.weight": torch.ones(1)}, "tensor 'backbone"),
        ({3: torch.ones(1)}, "not a state dict"),
        ({("a", "b"): torch.ones(1), "c": torch.ones(1)}, "not a state dict"),
        ({"fc.weight": torch.eye(3).to_sparse()}, "not a state dict"),
        ({"": torch.ones(1), "fc\n²": torch.ones(1)}, "tensor '"),
    ],
    ids=[
        "empty",
        "pickle",
        "zip",
        "list",
        "number",
        "no tensors",
        "other model",
        "number as a name",
        "mixed names",
        "sparse",
        "odd names",
    ],
)
def test_other_pth_files_are_refused(tmp_path, content, message):
    path = tmp_path / "x.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    refused(path, "x.pth: ", message)


def test_batch_norm_eps_moves_into_the_weights():
    tiny, eps = 1e-20, 1e-5
    state = {
        "backbone.body.bn1.weight": torch.tensor([2.0, 3e-10]),
        "backbone.body.bn1.running_var": torch.tensor([4.0, tiny]),
    }
    converted = keypointrcnn.convert(state, eps=0.0)
    weight, variance = (converted[f"backbone.body.bn1.{k}"].double() for k in ("weight", "running_var"))
    assert (weight / (variance + eps).sqrt()).tolist() == pytest.approx([2 / 2, 3e-10 / tiny**0.5], rel=1e-6)
    assert keypointrcnn.convert(state) == state


def test_names_of_old_and_new_files():
    pairs = {
        "backbone.body.layer1.0.conv1.weight": "backbone.body.layer1.0.conv1.weight",
        "backbone.fpn.inner_blocks.2.bias": "backbone.fpn.lateral.2.bias",
        "backbone.fpn.inner_blocks.2.0.bias": "backbone.fpn.lateral.2.bias",
        "backbone.fpn.layer_blocks.3.0.weight": "backbone.fpn.output.3.weight",
        "rpn.head.conv.weight": "rpn.hidden.0.weight",
        "rpn.head.conv.0.0.weight": "rpn.hidden.0.weight",
        "roi_heads.keypoint_head.14.bias": "keypoint_head.convs.7.bias",
        "fc.weight": "fc.weight",
    }
    assert {name: keypointrcnn.rename(name) for name in pairs} == pairs


def test_the_public_file_is_downloaded_once_checked_and_cached(tmp_path, monkeypatch):
    published, cache = tmp_path / "published.pth", tmp_path / "cache"
    published.write_bytes(b"weights")
    made = dimofs_mobile(("nose",))  # stands for the 230 MB model
    monkeypatch.setattr(checkpoints, "from_torchvision", lambda path: made)
    monkeypatch.setattr(keypointrcnn, "URL", published.as_uri())
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    refused(keypointrcnn.PUBLIC, "damaged on the way", "not fc266e95")
    assert not cache.exists()
    monkeypatch.setattr(keypointrcnn, "SHA256", hashlib.sha256(b"weights").hexdigest()[:8])
    assert equal(checkpoints.load(keypointrcnn.PUBLIC), made)
    assert os.listdir(cache / "dimofs") == [keypointrcnn.PUBLIC]
    published.unlink()
    assert equal(checkpoints.load(keypointrcnn.PUBLIC), made)


def test_without_a_network_one_line_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(keypointrcnn, "URL", "http://127.0.0.1:9/x.pth")  # nothing listens there
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    refused(keypointrcnn.PUBLIC, "cannot download", "give that .pth file instead")
    assert os.listdir(tmp_path) == []


def test_convert_prints_one_line_for_a_bad_file(tmp_path):
    (tmp_path / "x.pth").write_bytes(b"junk")
    command = [sys.executable, "-m", convert.__name__, str(tmp_path / "x.pth"), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path / 'x.pth'}: not a state dict")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
