"""The mark of results whose run was interrupted: `.partial` in the file's name, before the ending.

What a run has found until Ctrl-C or a signal is kept as x.partial.poses.jsonl, x.partial.poses.mp4 and so on. So a file
without the mark is whole, whatever its format, and a resumed run knows what is left to do.
"""

from pathlib import Path

MARK = ".partial"
_ENDINGS = (
    ".poses.jsonl", ".poses.csv", ".poses.json", ".poses.html", ".poses.mp4", ".poses.png", ".jsonl", ".json.gz",
    ".json",
)  # fmt: skip


def partial_path(path: Path) -> Path:
    """The path of the partial result in place of the whole result `path`."""
    ending = _ending(path)
    return path.with_name(f"{path.name.removesuffix(ending)}{MARK}{ending}")


def is_partial(path: Path) -> bool:
    """Whether the name has the mark."""
    return path.name.removesuffix(_ending(path)).endswith(MARK)


def _ending(path: Path) -> str:
    return next((ending for ending in _ENDINGS if path.name.endswith(ending)), path.suffix)
