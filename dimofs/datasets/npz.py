"""Arrays in NumPy's .npz files."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from dimofs.cli import InputError

# What NumPy and zipfile raise for damaged, encrypted, truncated or foreign files, and for arrays of pickled objects.
_DAMAGE = (
    OSError, ValueError, TypeError, KeyError, AttributeError, EOFError, NotImplementedError, RuntimeError, MemoryError,
    OverflowError, SyntaxError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name. Pickled objects are refused.

    InputError: the file is absent, damaged, or holds anything but arrays.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file")
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path}: not an .npz file of arrays; download it again, or write it with numpy.savez")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except _DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if "pickle" in reason:
            reason = "it holds Python objects, which are never loaded"
        raise InputError(f"{path}: not an .npz file of arrays ({reason})") from error
