"""Filling the templates beside this module. Nothing that comes from elsewhere can leave the place it is put in."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import IO, Any

# Bytes of a file in one script element: a browser holds each element as one text.
PART_BYTES = 3 << 24


def read(name: str) -> str:
    """A template, style or script that ships with this package."""
    return files("dimofs.pages").joinpath(name).read_text(encoding="utf-8").strip()


def fill(file: IO[str], template: str, values: Mapping[str, str | Iterable[str]]) -> None:
    """Write `template` with each {{name}} replaced by its value, a text or the pieces of one, as it is."""
    for number, part in enumerate(re.split(r"\{\{(\w+)\}\}", template)):
        value = values[part] if number % 2 else part
        file.writelines([value] if isinstance(value, str) else value)


def text(value: object) -> str:
    """A value as text between tags or in a quoted attribute."""
    return html.escape(str(value))


def data(value: Any) -> str:
    """A value as JSON within a script element, which only "<" could end. ValueError for NaN."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c")


def encoded(content: bytes) -> str:
    """Bytes as base64."""
    return base64.b64encode(content).decode("ascii")


def parts(path: Path, kind: str) -> Iterator[str]:
    """A file as base64, in script elements of the class `kind`, which do not run."""
    with path.open("rb") as file:
        while piece := file.read(PART_BYTES):
            yield f'<script type="text/plain" class="{kind}">'
            yield encoded(piece)
            yield "</script>\n"
