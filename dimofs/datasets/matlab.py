"""Arrays in MATLAB files."""

from pathlib import Path

import numpy as np
import scipy.io

from dimofs.cli import InputError


def read_mat(path: str | Path, name: str, axes: int) -> np.ndarray:
    """The numeric array `name`, of `axes` axes, of a .mat file.

    MATLAB drops a last axis of length 1, so an array that lacks its last axis gets it back.
    InputError: the file is absent, damaged or in MATLAB's HDF5 format, or lacks such an array.
    """
    try:
        values = scipy.io.loadmat(str(path), variable_names=[name], appendmat=False).get(name)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or 'cannot be read'}") from error
    except NotImplementedError as error:
        raise InputError(f"{path}: is a MATLAB 7.3 file (HDF5); save it again with save(..., '-v7')") from error
    except Exception as error:
        # SciPy raises whatever a damaged byte leads to: zlib.error, TypeError, ValueError, MemoryError, ...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: not a MATLAB file ({reason}); download it again") from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "biuf":
        raise InputError(f"{path}: holds no numeric array '{name}'")
    return values[..., None] if values.ndim == axes - 1 else values
