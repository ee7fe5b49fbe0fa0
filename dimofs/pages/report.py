"""A page of what a command measured: the tables that it prints, its plots and its pictures, in one file."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from datetime import UTC, datetime
from io import StringIO, TextIOBase
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

from dimofs.files import replacing
from dimofs.pages import template

# The kinds of pictures that a page can hold.
KINDS = {".png": "image/png", ".svg": "image/svg+xml"}


class Report:
    """The pictures of a page that is being made; `folder` is None where none is wanted."""

    def __init__(self, folder: Path | None):
        self.folder = folder
        self.pictures: dict[str, Path] = {}

    def picture(self, path: Path | None, name: str, kind: str = ".svg") -> Path | None:
        """Where to write a picture, which the page then shows under this name: `path`, or else a temporary file whose
        name ends in `kind`.

        None where neither a file nor a page is wanted.
        """
        if self.folder is None:
            return path
        shown = path if path is not None and path.suffix.lower() in KINDS else None
        if path is None:
            path = shown = self.folder / f"{len(self.pictures)}{kind}"
        if shown is not None:
            self.pictures[name] = shown
        return path


@contextmanager
def recorded(path: Path | None, title: str) -> Iterator[Report]:
    """Make a page of all that is printed in the context, and of the pictures written in it, once it ends without an
    error. Without a `path` nothing is made. InputError: it cannot be written."""
    if path is None:
        yield Report(None)
        return
    with TemporaryDirectory() as folder:
        report, printed = Report(Path(folder)), StringIO()
        with redirect_stdout(_Both(sys.stdout, printed)):  # type: ignore[type-var]
            yield report
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            values = {
                "title": template.text(title),
                "made": template.text(_made()),
                "command": template.text(_command()),
                "content": [*_text(printed.getvalue().splitlines()), *_pictures(report.pictures)],
            }
            template.fill(file, template.read("report.html"), values)


class _Both(TextIOBase):
    """A stream that writes to two."""

    def __init__(self, first, second):
        self.streams = first, second

    def write(self, text: str) -> int:
        for stream in self.streams:
            stream.write(text)
        return len(text)

    def flush(self) -> None:
        for stream in self.streams:
            stream.flush()


def _made() -> str:
    return f"{datetime.now(UTC):%d %B %Y, %H:%M} UTC"


def _command() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = ["python", "-m", spec.name] if spec and spec.name else [Path(sys.argv[0]).name]
    return shlex.join([*program, *sys.argv[1:]])


def _text(lines: Sequence[str]) -> Iterator[str]:
    """Printed lines as HTML: those in aligned columns as tables, the others as paragraphs."""
    for aligned, group in groupby(lines, _is_row):
        block = list(group)
        if aligned and len(block) > 1:
            yield from map(_table, tables(block))
        else:
            yield from (f"<p>{template.text(line)}</p>\n" for line in block if line.strip())


def _is_row(line: str) -> bool:
    """Whether a line may be the row of a table: a name and a number, or more cells."""
    cells = re.split(" {2,}", line.rstrip())
    return len(cells) > 2 or (len(cells) == 2 and _is_number(cells[1]))


def _is_number(cell: str) -> bool:
    return re.match(r"[-+]?[0-9]|-$", cell) is not None


def tables(lines: Sequence[str]) -> list[list[list[str]]]:
    """The cells of aligned lines, row by row. Two spaces or more above one another separate columns, and a row without
    numbers after its first cell is the head of a new table."""
    width = max(map(len, lines))
    filled = "".join(" " if all(line[i : i + 1].strip() == "" for line in lines) else "x" for i in range(width))
    spans = [match.span() for match in re.finditer("x+( x+)*", filled)]
    found: list[list[list[str]]] = []
    for line in lines:
        row = [line[start:end].strip() for start, end in spans]
        if not found or _is_head(row):
            found.append([])
        found[-1].append(row)
    return found


def _is_head(row: Sequence[str]) -> bool:
    return not any(map(_is_number, row[1:]))


def _table(rows: Sequence[Sequence[str]]) -> str:
    def line(row: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{template.text(cell)}</{tag}>" for cell in row) + "</tr>\n"

    heads = 1 if _is_head(rows[0]) else 0
    head, body = ("".join(line(row, tag) for row in part) for part, tag in ((rows[:heads], "th"), (rows[heads:], "td")))
    return f'<div class="wide"><table><thead>{head}</thead><tbody>{body}</tbody></table></div>\n'


def _pictures(pictures: dict[str, Path]) -> Iterator[str]:
    for name, path in pictures.items():
        if path.exists():
            kind = KINDS[path.suffix.lower()]
            source = f"data:{kind};base64,{template.encoded(path.read_bytes())}"
            text = template.text(name)
            yield f'<figure><img alt="{text}" src="{source}"><figcaption>{text}</figcaption></figure>\n'
