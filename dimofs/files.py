"""Files read and written without surprises: JSON that names itself when broken, outputs that are whole or absent."""

import gc
import gzip
import json
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dimofs.cli import InputError


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


def read_json(path: str | Path) -> Any:
    """The content of a JSON file, gzipped where its first bytes say so.

    InputError: the file is absent, unreadable, damaged or not JSON.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot read ({error.strerror})") from error
    try:
        with uncollected():
            return json.loads(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: damaged gzip file ({error}); compress it again") from error
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
    """A temporary path beside `path` to write to; it takes the name `path` when the block ends without an error.

    InputError: the folder cannot be made or written to.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: cannot write ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_json(path: str | Path, value: Any) -> None:
    """`value` as JSON, whole or not at all. ValueError for NaN, which JSON does not have."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, allow_nan=False) + "\n")
