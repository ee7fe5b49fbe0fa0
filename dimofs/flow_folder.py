"""A folder of flow files, one a frame: NAME.motion/000007.flo says how far each pixel of frame 7 moves."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dimofs.cli import InputError
from dimofs.flow_files import CODECS, write_flow
from dimofs.motion import Motion
from dimofs.video import Frame

Save = Callable[[Frame, Motion], None]
# Names of the files that `saving` writes.
OURS = re.compile(rf"\d{{6,}}({'|'.join(map(re.escape, CODECS))})")


@contextmanager
def saving(path: Path, kind: str) -> Iterator[Save]:
    """A function save(frame, motion) that writes the motion at every pixel of a frame to a file, named by the frame's
    number, in the new folder `path`. kind: flo, png or npz. An exception within removes the folder.

    InputError: something else stands there, or it cannot be written.
    """
    _clear(path)
    try:
        path.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"{path}: cannot make the folder ({error.strerror or error})") from error
    try:
        yield lambda frame, motion: write_flow(path / f"{frame.index:06d}.{kind}", motion.dense(*frame.size))
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise


def check_folder(path: Path) -> None:
    """InputError: something other than a folder of flow files stands at `path`, or that holds other files."""
    if not os.path.lexists(path):
        return
    if path.is_symlink() or not path.is_dir():
        raise InputError(f"{path}: is no folder, and motion is written to one of this name; move it, or give --out")
    other = next((one.name for one in path.iterdir() if not OURS.fullmatch(one.name)), None)
    if other is not None:
        raise InputError(f"{path}: holds {other} beside motion; move it, or give another --out")


def publish(partial: Path, path: Path) -> Path:
    """Give a whole folder its name, in place of one of an earlier run. InputError: as `check_folder`."""
    _clear(path)
    try:
        os.replace(partial, path)
    except OSError as error:
        raise InputError(f"{path}: cannot write ({error.strerror or error})") from error
    return path


def _clear(path: Path) -> None:
    check_folder(path)
    try:
        if path.exists():
            shutil.rmtree(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be replaced ({error.strerror or error})") from error
