"""Ways to spoil a file, values that a file should not hold, and names that a file should not have."""

from __future__ import annotations

import gzip
import json
import os
import random
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.clips import picture, write_image


def _cut(part: float) -> Callable[[Path, random.Random], object]:
    def spoil(path: Path, _: random.Random) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: int(part * len(content))])

    return spoil


def _flipped(bits: int) -> Callable[[Path, random.Random], object]:
    def spoil(path: Path, draw: random.Random) -> None:
        content = bytearray(path.read_bytes())
        for _ in range(bits):
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(bytes(content))

    return spoil


def _holding(content: bytes) -> Callable[[Path, random.Random], object]:
    return lambda path, _: path.write_bytes(content)


def _instead(make: Callable[[Path], object]) -> Callable[[Path, random.Random], object]:
    def spoil(path: Path, _: random.Random) -> None:
        path.unlink()
        make(path)

    return spoil


def _gzipped_zeros(path: Path, _: random.Random) -> None:
    """Four megabytes that unpack to four gigabytes."""
    megabytes = gzip.compress(bytes(64 << 20), 1)
    path.write_bytes(megabytes * 64)


def _recoded(encoding: str) -> Callable[[Path, random.Random], object]:
    return lambda path, _: path.write_bytes(path.read_bytes().decode("latin-1").encode(encoding))


def make_device(path: Path, minor: int) -> None:
    """A device of its own: 3 is /dev/null, 5 /dev/zero, 7 /dev/full. A pipe where devices cannot be made.

    Never name a real device in a test: as root, a writer that has a bug replaces it for the whole machine.
    """
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
    except OSError:
        os.mkfifo(path)


BROKEN_BYTES: dict[str, Callable[[Path, random.Random], object]] = {
    "absent": lambda path, _: path.unlink(),
    "empty": _holding(b""),
    "cut to a tenth": _cut(0.1),
    "cut to a half": _cut(0.5),
    "cut before the end": _cut(0.98),
    "one bit": _flipped(1),
    "fifty bits": _flipped(50),
    "random bytes": lambda path, draw: path.write_bytes(draw.randbytes(5000)),
    "zeros": _holding(bytes(5000)),
    "a picture": lambda path, _: write_image(path, picture(3)),
    "text": _holding(b"hello\nworld\n"),
    "a pickle": _holding(b"cos\nsystem\n(S'touch pickle-was-run'\ntR."),
    "huge header": _holding((2**62).to_bytes(8, "little") + b'{"x": 1}'),
    "a folder": _instead(lambda path: path.mkdir()),
    "a pipe that nobody writes": _instead(os.mkfifo),
    "a link to itself": _instead(lambda path: path.symlink_to(path.name)),
    "the empty device": _instead(lambda path: make_device(path, 3)),
    "the endless device": _instead(lambda path: make_device(path, 5)),
    "nested deeply": _holding(b"[" * 200_000),
    "another JSON": _holding(b'{"a": [1, 2, null]}'),
    "a JSON list": _holding(b"[[1], {}, 3]"),
    "a JSON number": _holding(b"1e999"),
    "a long integer": _holding(b"[" + b"9" * 5000 + b"]"),
    "gzip cut": lambda path, _: path.write_bytes(gzip.compress(path.read_bytes())[:-9]),
    "gzip of zeros": _gzipped_zeros,
    "UTF-16": _recoded("utf-16"),
    "not UTF-8": _holding(b'{"name": "\xff\xfe"}'),
}

BROKEN_VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "-1": -1,
    "2**70": 2**70,
    "1e308": 1e308,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "text": "x",
    "superscript": "²",
    "surrogate": "\ud800",
    "list": [],
    "nested": [[1, [2]], {}],
    "object": {},
    "long text": "x" * 70_000,
}

STRANGE_NAMES = {
    "superscript digits": "x²³.mp4",
    "digits alone": "²",
    "spaces": " a  b .mp4",
    "newline": "a\nb.mp4",
    "brackets": "x[1].mp4",
    "star": "x*.mp4",
    "percent": "x%01d.mp4",
    "quotes": "x'\"`.mp4",
    "colon": "http:x.mp4",
    "colon in the middle": "a:b.mp4",
    "protocol": "concat:x.mp4|y.mp4",
    "leading dash": "./-x.mp4",
    "surrogate": "x\udcff.mp4",
    "NUL": "x\0.mp4",
    "5000 characters": "x" * 5000 + ".mp4",
    "255 characters": "x" * 251 + ".mp4",
    "combining": "é\u0301\u202ex.mp4",
    "braces": "{x}{0}.mp4",
}


def broken_json(path: Path, draw: random.Random) -> None:
    """Replace, remove or repeat one value at a random place of a JSON file, or of a random line of JSON lines."""
    if path.suffix == ".jsonl":
        lines = path.read_text().splitlines()
        number = draw.randrange(len(lines))
        lines[number] = json.dumps(_changed(json.loads(lines[number]), draw))
        path.write_text("\n".join(lines) + "\n")
    else:
        path.write_text(json.dumps(_changed(json.loads(path.read_text()), draw)))


def _changed(content: Any, draw: random.Random) -> Any:
    places = list(_places(content))
    where, key = draw.choice(places)
    change = draw.choice(["replace", "replace", "remove", "repeat"])
    if change == "remove":
        del where[key]
    elif change == "repeat" and isinstance(where, list):
        where.insert(key, where[key])
    else:
        where[key] = draw.choice(list(BROKEN_VALUES.values()))
    return content


def _places(content: Any):
    """Every (container, key) in a JSON value."""
    pairs = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in pairs:
        yield content, key
        yield from _places(value)
