"""Commands called from tests as from a command line."""

from collections.abc import Callable
from typing import Any

from dimofs.cli import arguments


def words(*positional: Any, **options: Any) -> list[str]:
    """The command line of these arguments: a list gives several values, a bool a flag, None nothing."""
    line = [str(value) for value in positional]
    for name, value in options.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            line.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, (list, tuple)):
            line += [f"--{flag}", *map(str, value)]
        elif value is not None:
            line.append(f"--{flag}={value}")
    return line


def call(main: Callable, *positional: Any, **options: Any) -> Any:
    """Call a command's `main`; its arguments are parsed and checked as those of a command line."""
    return main(**arguments(main, words(*positional, **options)))
