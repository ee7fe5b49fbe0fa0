"""Files read and written without surprises: JSON that names itself when it is broken, outputs that are whole or absent."""

import gzip
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dimofs.cli import InputError


def read_json(path: str | Path) -> Any:
    """The content of a JSON file, gzipped where its first bytes say so.

    InputError: the file is absent, unreadable, not text or not JSON.
    """
    try:
        content = Path(path).read_bytes()
        return json.loads(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or 'damaged gzip file'}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a JSON file ({error})") from error
    except Exception as error:  # zlib.error and EOFError: a gzip file cut short or overwritten
        raise InputError(f"{path}: damaged gzip file ({error})") from error


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
        raise InputError(f"{path}: cannot write ({error.strerror})") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | Path, value: Any) -> None:
    """`value` as JSON, under a temporary name first. ValueError for NaN, which JSON does not have."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, allow_nan=False) + "\n")
