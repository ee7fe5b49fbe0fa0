"""Poses, tracks and motion from video. Each command tells its options with --help:

    dimofs pose --video x.mp4
    dimofs train pose --out runs/first
    dimofs eval posetrack --help
    dimofs models

    dimofs --version
    dimofs --completion bash > ~/.local/share/bash-completion/completions/dimofs     (also zsh, tcsh)

`dimofs NAME` is `python -m dimofs.zoo.NAME`, and `dimofs eval NAME` is `python -m dimofs.eval.NAME`.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from dimofs import __version__
from dimofs.cli import InputError, add_options, run

# The packages whose modules are commands, and what their names begin with.
HOMES = {"dimofs.zoo": (), "dimofs.eval": ("eval",)}
# Commands that have a shorter name, too.
SHORT = {("track",): "dimofs.eval.track"}
RUNS_MAIN = '\nif __name__ == "__main__":\n    run(main)'
SHELLS = ("bash", "zsh", "tcsh")


def commands() -> dict[tuple[str, ...], str]:
    """The words of each command and its module. Modules are not imported, which would take seconds."""
    found = {(*words, path.stem): f"{home}.{path.stem}" for home, words in HOMES.items() for path in _files(home)}
    return dict(sorted((SHORT | found).items(), key=lambda item: (len(item[0]), item[0])))


def _files(home: str) -> Iterator[Path]:
    spec = find_spec(home)
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in Path(folder).glob("*.py"):
            if RUNS_MAIN in path.read_text(encoding="utf-8"):
                yield path


def summary(module: str) -> str:
    """The first sentence of a module's docstring, without importing it."""
    spec = find_spec(module)
    assert spec is not None and spec.origin is not None
    text = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""
    return text.split("\n\n")[0].replace("\n", " ").rstrip(".")


def overview() -> str:
    """What `dimofs` alone prints."""
    rows = [f"  {' '.join(words):<18} {summary(module)}" for words, module in commands().items()]
    return "\n".join(["usage: dimofs COMMAND ...", "", (__doc__ or "").strip(), "", "commands:", *rows])


def versions() -> str:
    """The version of dimofs, and of what its results depend on."""
    parts = [f"dimofs {__version__}", f"Python {sys.version.split()[0]}"]
    for name in ("torch", "triton", "av"):
        try:
            parts.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(parts)


def completion(shell: str) -> str:
    """A script by which the shell completes all commands and options. InputError: another shell, or no shtab."""
    if shell not in SHELLS:
        raise InputError(f"--completion {shell[:40]}: not one of {', '.join(SHELLS)}")
    try:
        import shtab  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError("--completion: needs a package that is not installed; pip install shtab") from error
    whole = argparse.ArgumentParser(prog="dimofs")
    groups: dict[tuple[str, ...], argparse._SubParsersAction] = {(): whole.add_subparsers()}
    for words, module in commands().items():
        if words[:-1] not in groups:
            (first,) = words[:-1]
            groups[words[:-1]] = groups[()].add_parser(first).add_subparsers()
        main = import_module(module).main
        add_options(groups[words[:-1]].add_parser(words[-1], help=summary(module)), main)
    for action in _actions(whole):
        if action.type is not None and action.choices is None and action.type not in (int, float):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    return shtab.complete(whole, shell=shell)


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _actions(inner)


def _module(words: list[str]) -> tuple[ModuleType, int]:
    """The module of the command that a line begins with, and the number of words that name it."""
    known = commands()
    for length in (2, 1):
        if module := known.get(tuple(words[:length])):
            return import_module(module), length
    given, first = " ".join(words[:2]), words[0]
    group = [" ".join(name) for name in known if first in name] or [" ".join(name) for name in known]
    raise InputError(f"dimofs {given[:60]}: no such command; the commands are {', '.join(group)}")


def main(words: list[str] | None = None) -> NoReturn:
    """Run the command that the words of the command line name."""
    words = sys.argv[1:] if words is None else words
    if not words or words[0] in ("-h", "--help"):
        print(overview())
        sys.exit(0)
    if words[0] == "--version":
        print(versions())
        sys.exit(0)
    try:
        if words[0] == "--completion":
            print(completion(words[1] if len(words) > 1 else ""))
            sys.exit(0)
        module, length = _module(words)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    run(module.main, words[length:], f"dimofs {' '.join(words[:length])}")


if __name__ == "__main__":
    main()
