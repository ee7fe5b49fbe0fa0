"""state.pt: what a run resumes from, as torch.save writes it, followed by a line with the SHA-256 of all before it.

The zip archive of torch.save has checksums that torch.load does not check: without the line, flipped bits would become
weights. torch.load ignores what follows the archive.
"""

import hashlib
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dimofs.cli import InputError

_MARK = b"\ndimofs sha256 "
_LINE = len(_MARK) + 64 + 1


def write(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values, and have the disk hold them. OSError: the file cannot be written."""
    try:
        with open(path, "w+b") as file:
            torch.save(state, file)
            size = file.tell()
            file.write(_MARK + _digest(file, size) + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except RuntimeError as error:
        # torch raises this for a full disk.
        raise OSError(str(error).splitlines()[0]) from error


def read(path: Path) -> dict[str, Any]:
    """The state in a file. InputError: it is damaged or holds something else. Code in it is not run."""
    remedy = "restore the file, give another --out, or delete it to start again"
    try:
        _verify(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{path}: cannot read ({error.strerror or error})") from error
    # torch's reader raises a dozen types for files that it does not understand.
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: damaged ({reason}); {remedy}") from error
    if not isinstance(state, dict) or type(state.get("step")) is not int or state["step"] < 1:
        raise InputError(f"{path}: not the state of a run; {remedy}")
    return state


def difference(ours: Any, theirs: Any, name: str = "state") -> str:
    """The name of the first part of two states that differs in its keys, its type or its shape; "" if none does."""
    if isinstance(ours, Tensor) and isinstance(theirs, Tensor):
        return "" if (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype) else name
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in ours.keys() ^ theirs.keys():
            return f"{name}.{key}"
        pairs = [(ours[key], theirs[key], f"{name}.{key}") for key in ours]
    elif isinstance(ours, (list, tuple)) and isinstance(theirs, (list, tuple)):
        if len(ours) != len(theirs):
            return name
        pairs = [(*both, f"{name}[{number}]") for number, both in enumerate(zip(ours, theirs, strict=True))]
    else:
        numbers = isinstance(ours, (int, float)) and isinstance(theirs, (int, float))
        return "" if numbers or type(ours) is type(theirs) else name
    return next((found for pair in pairs if (found := difference(*pair))), "")


def _verify(path: Path) -> None:
    """ValueError: the file does not end with the checksum of its content."""
    with open(path, "rb") as file:
        size = max(os.fstat(file.fileno()).st_size - _LINE, 0)
        digest = _digest(file, size)
        line = file.read()
    if line != _MARK + digest + b"\n":
        raise ValueError("it does not end with the checksum of its content")


def _digest(file, size: int) -> bytes:
    """The SHA-256, in hexadecimal, of the first `size` bytes of an open file, which is left there."""
    digest = hashlib.sha256()
    file.seek(0)
    while size and (block := file.read(min(size, 1 << 20))):
        digest.update(block)
        size -= len(block)
    return digest.hexdigest().encode()
