"""Options that would be ignored beside others are refused: tables of which exclude each other and which need others."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from dimofs.cli import InputError

# Options of either group exclude those of the other, and why.
Conflict = tuple[Sequence[str], Sequence[str], str]
# Each of these options needs one of those, and why.
Need = tuple[Sequence[str], Sequence[str], str]


def given(main: Callable, options: Mapping[str, Any]) -> list[str]:
    """The names of the options of `main` whose values are not the defaults."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(main).parameters.items()}
    return [name for name, default in defaults.items() if options[name] != default]


def check_options(given: Iterable[str], conflicts: Sequence[Conflict] = (), needs: Sequence[Need] = ()) -> None:
    """InputError: an option is given beside one that excludes it, or without one that it needs."""
    names = set(given)
    for left, right, reason in conflicts:
        for a in left:
            for b in right:
                if {a, b} <= names:
                    raise InputError(f"{written(a)} and {written(b)} exclude each other: {reason}; leave one out")
    for dependent, wanted, reason in needs:
        for name in dependent:
            if name in names and not names & set(wanted):
                raise InputError(f"{written(name)} needs {' or '.join(map(written, wanted))}: {reason}")


def check_distinct(option: str, values: Sequence[Any]) -> None:
    """InputError: a value of an option is given twice."""
    twice = [value for i, value in enumerate(values) if value in values[:i]]
    if twice:
        raise InputError(f"{written(option)}: {twice[0]} is given twice; leave one out")


def written(name: str) -> str:
    """An option as it is written on a command line; `tracking` is on unless it is turned off."""
    return "--no-tracking" if name == "tracking" else f"--{name.replace('_', '-')}"
