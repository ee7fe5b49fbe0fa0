"""Arrays in MATLAB files."""

from pathlib import Path

import numpy as np
import scipy.io

from dimofs.cli import InputError


def read_mat(path: str | Path, name: str) -> np.ndarray:
    """The numeric array `name` of a .mat file. InputError: the file is absent or damaged, or lacks the array."""
    try:
        values = scipy.io.loadmat(str(path), variable_names=[name], appendmat=False).get(name)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or 'cannot be read'}") from error
    except Exception as error:  # scipy raises whatever a damaged byte leads to: zlib.error, TypeError, ValueError, ...
        raise InputError(f"{path}: not a MATLAB file ({error}); download it again") from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "biuf":
        raise InputError(f"{path}: holds no numeric array '{name}'")
    return values
