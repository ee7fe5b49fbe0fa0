"""torchvision's video networks: `r2plus1d_18` as .pth or .safetensors, with weights of Kinetics for instance."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dimofs.cli import InputError
from dimofs.files import check_regular
from dimofs.zoo.converters.keypointrcnn import read_tensors
from dimofs.zoo.recognition.r2plus1d import R2Plus1D


def load_r2plus1d(path: str | Path) -> R2Plus1D:
    """The network of a state dict with torchvision's names, in evaluation mode; pickled code is never run.

    Its width and its classes are those of the file. InputError: it holds something else.
    """
    tensors = _safetensors(Path(path)) if Path(path).suffix == ".safetensors" else read_tensors(Path(path))
    first, last = tensors.get("stem.3.weight"), tensors.get("fc.weight")
    if first is None or last is None or first.ndim != 5 or last.ndim != 2:
        raise InputError(f"{path}: no R(2+1)D; give a state dict of torchvision's r2plus1d_18")
    model = R2Plus1D(len(last), width=len(first))
    wanted = model.state_dict()
    for name in sorted(wanted.keys() | tensors.keys()):
        found = tensors.get(name)
        if name not in wanted or found is None or found.shape != wanted[name].shape:
            raise InputError(f"{path}: tensor {name[:100]!r} is not that of an R(2+1)D-18 of {len(first)} channels")
        if not found.isfinite().all():
            raise InputError(f"{path}: tensor {name!r} has values that are not finite; fetch it again")
    model.load_state_dict(tensors)
    return model.eval()


def _safetensors(path: Path) -> dict[str, Tensor]:
    check_regular(path)
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: damaged or not a safetensors file ({str(error)[:200]}); fetch it again") from error
