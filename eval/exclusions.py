"""What a command checks before it works: options that would be ignored, and results that cannot be written.

Tables say which options exclude each other and which need others; a value equal to the default counts as not given.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dimofs.cli import InputError
from dimofs.files import check_writable

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
    results: Sequence[str] = (),
) -> None:
    """Check the `options`, by name, that `main` was called with.

    InputError: an option is given beside one that excludes it or without one that it needs; or the file that one of the
    options `results` names cannot be written, or is the same as another's.
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
    _check_results({name: options[name] for name in results if name in given})


def _check_results(paths: Mapping[str, Any]) -> None:
    owners: dict[str, str] = {}
    for name, path in paths.items():
        check_writable(path)
        owner = owners.setdefault(os.path.realpath(path), name)
        if owner != name:
            raise InputError(f"{_written(owner)} and {_written(name)} are the same file; name different ones")


def check_distinct(option: str, values: Sequence[Any]) -> None:
    """InputError: a value of an option is given twice."""
    twice = [value for i, value in enumerate(values) if value in values[:i]]
    if twice:
        raise InputError(f"{_written(option)}: {twice[0]} is given twice; leave one out")


def _written(name: str) -> str:
    """An option as it is written on a command line; `tracking` is on unless it is turned off."""
    return "--no-tracking" if name == "tracking" else f"--{name.replace('_', '-')}"
