"""Reader of TensorFlow.js graph models: `model.json` and the binary shards beside it.

tfjs's `WeightsManifestConfig` describes the format: the shard files of a group, concatenated, hold its weights in the
order of the manifest, little endian; "quantization" names the narrower type in which a weight is stored.
"""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dimofs.cli import InputError
from dimofs.files import read_json

_TYPES = {"float32": "<f4", "float16": "<f2", "int32": "<i4", "bool": "?"}


def read_graph(path: str | Path) -> dict[str, Tensor]:
    """The weights of a graph model by their TensorFlow names, in TensorFlow's layout (HWIO), float16 as float32.

    InputError: a file is missing, is not a graph model, or does not hold exactly the bytes that the manifest lists.
    """
    path = Path(path)
    weights: dict[str, Tensor] = {}
    model = read_json(path)
    try:
        for group in model["weightsManifest"]:
            data = b"".join(_shard(path.parent / name) for name in group["paths"])
            weights |= _group(path, group["weights"], data)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a TensorFlow.js graph model ({error!r}); give its model.json") from error
    return weights


def _shard(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot read ({error.strerror}); the .bin files lie beside the .json") from error


def _group(path: Path, entries: list[dict], data: bytes) -> dict[str, Tensor]:
    """The weights of one group, whose shards hold `data`."""
    layout = [(entry, *_stored(path, entry)) for entry in entries]
    promised = sum(math.prod(entry["shape"]) * stored.itemsize for entry, stored, _ in layout)
    if promised != len(data):
        raise InputError(f"{path}: its .bin files hold {len(data)} bytes instead of {promised}; download them again")
    weights, offset = {}, 0
    for entry, stored, wide in layout:
        values = np.frombuffer(data, stored, math.prod(entry["shape"]), offset).reshape(entry["shape"])
        weights[entry["name"]] = torch.from_numpy(values.astype(wide))
        offset += values.nbytes
    return weights


def _stored(path: Path, entry: dict) -> tuple[np.dtype, np.dtype]:
    """The type of a weight in the file, and the type it is read as."""
    stored = entry.get("quantization", {}).get("dtype", entry["dtype"])
    if stored not in _TYPES or entry["dtype"] not in _TYPES:
        raise InputError(f"{path}: weight {entry['name']!r} is stored as {stored!r}; readable are {', '.join(_TYPES)}")
    return np.dtype(_TYPES[stored]), np.dtype(_TYPES[entry["dtype"]]).newbyteorder("=")
