"""Checkpoints: a folder with config.json (which preset, with which arguments) and model.safetensors (its tensors).

Loading is strict: the file must hold every tensor of the model with its shape and type, finite, and nothing else;
float32 may be stored as float16, at half the size. No code from a file is ever run: from torchvision's .pth files only
tensors are read. motion.safetensors beside them is the detector's motion read-out; one that was fitted to other tensors
is left out, with a warning.
"""

import hashlib
import inspect
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dimofs.cli import InputError
from dimofs.files import check_regular, read_json
from dimofs.zoo.arguments import check_arguments
from dimofs.zoo.converters import keypointrcnn
from dimofs.zoo.detection.action_localizer import shared_with_pose
from dimofs.zoo.detection.box_detector import BoxDetector
from dimofs.zoo.detection.motion_readout import READOUT, read_readout
from dimofs.zoo.devices import pick_device
from dimofs.zoo.presets import PRESETS

M = TypeVar("M", bound=nn.Module)

# The version of config.json.
FORMAT = 1
# A config.json of more bytes is not one.
MAX_CONFIG = 2**20
SHIPPED = Path(__file__).parent / "weights"
CONFIG, WEIGHTS = "config.json", "model.safetensors"


def save(
    model: nn.Module, folder: str | Path, metadata: Mapping[str, str], half: bool = False, base: str | None = None
) -> None:
    """Write `model`, which a preset made, with `metadata` in the header of the tensor file.

    half: store the tensors as float16. base: the shipped pose detector that most of the model's tensors are those of;
    they are then left out, and read from there. A new folder appears whole; in an existing folder each of the two files
    is replaced at once, and other files (README.md) stay.
    InputError: the folder cannot be written, or `base` has other tensors. ValueError: no preset made the model, or it
    is not float32.
    """
    folder = Path(os.path.realpath(folder))
    staging = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    config, tensors = _describe(model), _tensors(model)
    if base is not None:
        config["base"], tensors = _without_base(tensors, base)
    if half:
        tensors = {name: t.half() if t.is_floating_point() else t for name, t in tensors.items()}
    try:
        staging.mkdir(parents=True)
        save_file(tensors, staging / WEIGHTS, {**metadata, "format": "pt", "sha256": _digest(tensors)})
        (staging / CONFIG).write_text(json.dumps(config, indent=1) + "\n")
        _publish(staging, folder)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{folder}: cannot write ({getattr(error, 'strerror', None) or error})") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def load(source: str | Path, device: str | torch.device = "cpu", size: int | None = None) -> nn.Module:
    """The model of `source` in evaluation mode: the name of one that ships or of torchvision's public weights
    (`keypointrcnn_resnet50_fpn_coco`, downloaded once), a checkpoint's folder, the .safetensors in it, or torchvision's
    Keypoint R-CNN as .pth.

    size: longer side of the model's input in pixels, in place of the checkpoint's own; models that do not resize their
    input ignore it.
    InputError: `source` is none of these or damaged, or `device` is not there.
    """
    where = pick_device(str(device))
    return _open(str(source), size).eval().to(where)


def load_as(kind: type[M], source: str | Path, device: str | torch.device = "cpu", size: int | None = None) -> M:
    """`load`, for a command that needs a model of one `kind`. InputError: it is of another."""
    model = load(source, device, size)
    if not isinstance(model, kind):
        raise InputError(f"{source}: holds weights of {type(model).__name__}, not of {kind.__name__}; give others")
    return model


def from_torchvision(path: str | Path, eps: float | None = None, size: int | None = None) -> nn.Module:
    """`dimofs_resnet50` from torchvision's `keypointrcnn_resnet50_fpn` state dict (.pth), alone or in a training
    script's checkpoint, with any number of joints; its motion parts start as the plain detector.

    `eps`: see `keypointrcnn.read_state_dict`. InputError: not such a file.
    """
    tensors = keypointrcnn.read_state_dict(path, eps)
    model = _untrained("dimofs_resnet50", {"keypoint_names": keypointrcnn.joints(tensors)}, size)
    motion = {name: t for name, t in model.state_dict().items() if name.startswith(("offset_net.", "deformable."))}
    return _filled(model, Path(path), motion | tensors)


def shipped() -> list[str]:
    """The names of the checkpoints that come with dimofs."""
    return sorted(config.parent.name for config in SHIPPED.glob(f"*/{CONFIG}"))


def _open(source: str, size: int | None) -> nn.Module:
    if source in shipped():
        return _read(SHIPPED / source / WEIGHTS, size)
    if source == keypointrcnn.PUBLIC:
        return _public(size)
    path = Path(source)
    if path.is_dir():
        return _read(path / WEIGHTS, size)
    if not path.is_file():
        names = ", ".join((*shipped(), keypointrcnn.PUBLIC))
        raise InputError(f"{source}: neither a file, nor a folder, nor a name of weights ({names})")
    if path.suffix in (".pth", ".pt"):
        return from_torchvision(path, size=size)
    if path.suffix == ".safetensors":
        return _read(path, size)
    raise InputError(f"{source}: not a checkpoint; give its folder, a .safetensors, or torchvision's .pth")


def _public(size: int | None) -> nn.Module:
    """torchvision's public weights, downloaded and converted unless an earlier call has done so."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dimofs" / keypointrcnn.PUBLIC
    if not (cache / CONFIG).exists():
        with tempfile.TemporaryDirectory() as temporary:
            file = Path(temporary) / "public.pth"
            keypointrcnn.download(file)
            save(from_torchvision(file), cache, {"source": keypointrcnn.URL})
    return _read(cache / WEIGHTS, size)


def _read(weights: Path, size: int | None) -> nn.Module:
    """The model whose tensors are in `weights`, with config.json beside it, and for the rest in the model's base."""
    config = weights.with_name(CONFIG)
    model = _build(config, size)
    _filled(model, weights, _shared_tensors(config, model) | _verified(weights))
    readout = weights.with_name(READOUT)
    if isinstance(model, BoxDetector) and readout.exists():
        model.readout = read_readout(readout, model)
        if model.readout is None:
            fault = "fitted to other weights, so it is not used; fit it again with python -m eval.motion --fit"
            warnings.warn(f"{readout}: {fault}", stacklevel=4)
    return model


def _without_base(tensors: dict[str, Tensor], base: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The entry of config.json about the `base`, and the tensors that it does not have."""
    shared = _base_tensors(base)
    for name in sorted(tensors.keys() & shared.keys()):
        if not torch.equal(tensors[name], shared[name]):
            raise InputError(f"{base}: has another {name} than the model; save the model whole, without a base")
    kept = {name: tensor for name, tensor in tensors.items() if name not in shared}
    return {"weights": base, "sha256": _digest(shared)}, kept


def _shared_tensors(config: Path, model: nn.Module) -> dict[str, Tensor]:
    """The tensors of `model` that its base has, if config.json names one. InputError: the base is no longer the
    same."""
    entry = read_json(config).get("base")
    if entry is None:
        return {}
    if not isinstance(entry, dict) or not isinstance(entry.get("weights"), str):
        raise InputError(f'{config}: field "base" is not an object with "weights" and "sha256"')
    shared = _base_tensors(entry["weights"])
    if _digest(shared) != entry.get("sha256"):
        raise InputError(f"{config}: was trained above other weights of {entry['weights']}; train or fetch it again")
    return {name: tensor for name, tensor in shared.items() if name in model.state_dict()}


def _base_tensors(name: str) -> dict[str, Tensor]:
    """The tensors of a shipped pose detector, float32, as an action localizer names them."""
    if name not in shipped():
        raise InputError(f"{name}: is no base; one of {', '.join(shipped())} is")
    return shared_with_pose({key: t.float() for key, t in _verified(SHIPPED / name / WEIGHTS).items()})


def _filled(model: nn.Module, path: Path, tensors: Mapping[str, Tensor]) -> nn.Module:
    """`model` with the `tensors` of the file `path`, which must match in name, shape and type and be finite; float16
    stands for float32."""
    expected = model.state_dict()
    tensors = {name: t.float() if t.dtype == torch.float16 else t for name, t in tensors.items()}
    for name in sorted(tensors.keys() ^ expected.keys()):
        fault = "is missing" if name in expected else "is unknown"
        raise InputError(f"{path}: tensor {name[:100]!r} {fault}; the file belongs to another model")
    for name, tensor in tensors.items():
        found, wanted = _kind(tensor), _kind(expected[name])
        if found != wanted:
            raise InputError(f"{path}: tensor {name!r} is {found}, not {wanted}; the file belongs to another model")
        if not tensor.isfinite().all():
            raise InputError(f"{path}: tensor {name!r} has values that are not finite; train or fetch the model again")
    model.load_state_dict(tensors)
    return model


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _build(path: Path, size: int | None) -> nn.Module:
    """The model that the configuration at `path` describes, untrained."""
    if not path.is_file():
        raise InputError(f"{path}: missing; a checkpoint is a folder with {CONFIG} and {WEIGHTS}")
    if path.stat().st_size > MAX_CONFIG:
        raise InputError(f"{path}: larger than {MAX_CONFIG} bytes, so it is not a checkpoint's {CONFIG}")
    config = read_json(path)
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise InputError(f'{path}: field "format" is not {FORMAT}, which this version of dimofs reads')
    name = config.get("model")
    if not isinstance(name, str) or name not in PRESETS:
        raise InputError(f'{path}: field "model" is {repr(name)[:60]}; known are {", ".join(PRESETS)}')
    arguments = config.get("arguments")
    if not isinstance(arguments, dict):
        raise InputError(f'{path}: field "arguments" is not an object')
    try:
        check_arguments(PRESETS[name], arguments)
        model = _untrained(name, arguments, size)
    except ValueError as error:
        raise InputError(f'{path}: field "arguments": {error}') from error
    if config.get("keypoint_names") != _names(model):
        raise InputError(f'{path}: field "keypoint_names" does not name the joints of {name} in order')
    return model


def _untrained(name: str, arguments: dict[str, Any], size: int | None) -> nn.Module:
    if size is not None and "max_size" in inspect.signature(PRESETS[name]).parameters:
        arguments = arguments | {"min_size": size, "max_size": size}
    # The random initial weights are about to be overwritten, so leave the caller's generator alone.
    with torch.random.fork_rng(devices=[]):
        return PRESETS[name](**arguments)


def _verified(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. InputError: it is damaged, or its checksum, if it has one, differs."""
    check_regular(path)
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise InputError(f"{path}: cannot read ({error.strerror or error})") from error
    except SafetensorError as error:
        reason = str(error)[:200]
        raise InputError(f"{path}: damaged or not a safetensors file ({reason}); fetch or write it again") from error
    if "sha256" in metadata and metadata["sha256"] != _digest(tensors):
        raise InputError(f'{path}: damaged, its tensors do not have the "sha256" of its header; fetch it again')
    return tensors


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the bytes of all tensors in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _describe(model: nn.Module) -> dict[str, Any]:
    preset = getattr(model, "preset", None)
    if preset is None:
        raise ValueError(f"{type(model).__name__} was not made by one of {', '.join(PRESETS)}; those can be saved")
    return {"format": FORMAT, "model": preset.name, "arguments": preset.arguments, "keypoint_names": _names(model)}


def _names(model: nn.Module) -> Sequence[str]:
    return list(getattr(model, "keypoint_names", ()))


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    tensors = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    odd = [name for name, t in tensors.items() if t.is_floating_point() and t.dtype != torch.float32]
    if odd:
        raise ValueError(f"{odd[0]} is {tensors[odd[0]].dtype}; checkpoints hold float32: save model.float()")
    return tensors


def _publish(staging: Path, folder: Path) -> None:
    """Give what `staging` holds the name `folder`, or its files the places of those in a `folder` that exists."""
    try:
        os.replace(staging, folder)
    except OSError:
        if not folder.is_dir():
            raise
        for name in (WEIGHTS, CONFIG):
            os.replace(staging / name, folder / name)
