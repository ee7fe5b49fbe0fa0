"""Refuse options that another option would make useless.

Tables say which options exclude each other and which need others; a value equal to the default counts as not given.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dimofs.cli import InputError

# Options of either group exclude those of the other, and why.
Conflict = tuple[Sequence[str], Sequence[str], str]
# Each of these options needs one of those, and why.
Need = tuple[Sequence[str], Sequence[str], str]


def check_options(
    main: Callable,
    options: Mapping[str, Any],
    *,
    conflicts: Sequence[Conflict] = (),
    needs: Sequence[Need] = (),
) -> None:
    """Check the `options`, by name, that `main` was called with.

    InputError: an option is given beside one that excludes it, or without one that it needs.
    """
    defaults = {name: parameter.default for name, parameter in inspect.signature(main).parameters.items()}
    given = {name for name, default in defaults.items() if options[name] != default}
    for left, right, reason in conflicts:
        for a in left:
            for b in right:
                if {a, b} <= given:
                    raise InputError(f"{_written(a)} and {_written(b)} exclude each other: {reason}; leave one out")
    for dependent, wanted, reason in needs:
        for name in dependent:
            if name in given and not given & set(wanted):
                raise InputError(f"{_written(name)} needs {' or '.join(map(_written, wanted))}: {reason}")


def check_distinct(option: str, values: Sequence[Any]) -> None:
    """InputError: a value of an option is given twice."""
    twice = [value for i, value in enumerate(values) if value in values[:i]]
    if twice:
        raise InputError(f"{_written(option)}: {twice[0]} is given twice; leave one out")


def _written(name: str) -> str:
    """An option as it is written on a command line; `tracking` is on unless it is turned off."""
    return "--no-tracking" if name == "tracking" else f"--{name.replace('_', '-')}"
