"""Files read and written without surprises: JSON that names itself when broken, outputs that are whole or absent."""

import gc
import glob
import gzip
import json
import os
import re
import stat
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from dimofs.cli import InputError

# The largest file that is read whole. COCO's largest annotation file has half of it, and parsing takes several times as
# much memory.
MOST_BYTES = 1 << 30


def inside(folder: str | Path, name: str) -> Path:
    """The path of a file that a data file names, which must lie inside `folder`.

    InputError: the name is empty, absolute, leads out of the folder by "..", or looks like a URL or an FFmpeg protocol.
    """
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise InputError(f"{folder}: {name!r} is not a file name; correct the file that names it")
    parts = name.replace("\\", "/").split("/")
    if not parts[0] or ".." in parts or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", name):
        raise InputError(f"{folder}: {name!r} does not name a file in this folder; give names relative to it")
    return Path(folder) / name


def check_regular(path: str | Path) -> None:
    """InputError: nothing can be read at `path`, or what is there is no regular file: reading a pipe may never end."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot read ({getattr(error, 'strerror', None) or error})") from error
    if not stat.S_ISREG(mode):
        raise InputError(f"{path}: is not a regular file; give one")


def read_bytes(path: str | Path) -> bytes:
    """The content of a file, unpacked where its first bytes say that it is gzipped.

    InputError: the file is absent, unreadable, damaged, larger than MOST_BYTES or not regular (a pipe may never end).
    """
    check_regular(path)
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            with gzip.GzipFile(fileobj=file) if packed else nullcontext(file) as stream:
                content = stream.read(MOST_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: damaged gzip file ({error}); compress it again") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot read ({getattr(error, 'strerror', None) or error})") from error
    if len(content) > MOST_BYTES:
        raise InputError(f"{path}: holds more than {MOST_BYTES >> 20} MiB; split it")
    return content


def read_json(path: str | Path) -> Any:
    """The content of a JSON file, gzipped or not.

    InputError: `read_bytes` cannot read it, or it is not JSON.
    """
    content = read_bytes(path)
    try:
        with uncollected():
            return json.loads(content)
    except ValueError as error:
        raise InputError(f"{path}: not a JSON file ({error})") from error
    except RecursionError as error:
        raise InputError(f"{path}: lists and objects are nested too deeply to be read") from error


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage collection within: while millions of objects are made, none of them in a cycle, it costs most time."""
    active = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if active:
            gc.enable()


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path to write to; when the block ends without an error, it takes the place of `path`.

    A link stays, and what it leads to is replaced. InputError: a folder, pipe or device stands there, or the folder
    cannot be made or written to.
    """
    target = _result(Path(path))
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target)
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        raise InputError(f"{path}: cannot write ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _remove_leftovers(target: Path) -> None:
    """Remove the temporary files of processes that were killed while they wrote this result."""
    for leftover in target.parent.glob(f".{glob.escape(target.name)}.*.part"):
        number = leftover.name.removesuffix(".part").rpartition(".")[2]
        if re.fullmatch("[0-9]{1,9}", number) and not _runs(int(number)):
            with suppress(OSError):
                leftover.unlink()


def _runs(process: int) -> bool:
    """Whether a process of this number runs on this machine."""
    if sys.platform == "win32":
        # There, os.kill ends the process.
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _result(path: Path) -> Path:
    """Where a result goes: to the file of this name, or to what it links to. InputError: it cannot go there."""
    try:
        target = Path(os.path.realpath(path))
        mode = target.stat().st_mode
    except FileNotFoundError:
        return target
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot write ({getattr(error, 'strerror', None) or error})") from error
    if stat.S_ISDIR(mode):
        raise InputError(f"{path}: is a folder; name a file")
    if not stat.S_ISREG(mode):
        raise InputError(f"{path}: is a pipe or a device; name a file")
    return target


def check_writable(path: str | Path) -> None:
    """InputError unless a file can be written at `path`. Commands ask before long work.

    Folders that are absent are made when the file is written.
    """
    target = _result(Path(path))
    folder = next(folder for folder in target.parents if os.path.lexists(folder))
    if not folder.is_dir():
        raise InputError(f"{path}: cannot write ({folder} is not a folder)")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{path}: cannot write (no permission in {folder})")


def write_json(path: str | Path, value: Any) -> None:
    """`value` as JSON, whole or not at all. ValueError for NaN, which JSON does not have."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, allow_nan=False) + "\n")
