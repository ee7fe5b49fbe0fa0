"""Command lines from typed functions: the arguments of `main` are the options, the module docstring is the help.

    def main(*, video: Annotated[list[str], "video files"], delta: Annotated[int, "frames from A to B"] = 0): ...

    if __name__ == "__main__":
        run(main)

Parameters before `*` are positional, those after it options `--name`; a bool is a flag (`--name`, `--no-name`),
`Literal[...]` a choice, a list takes several values and `X | None` may be left out.
"""

import argparse
import inspect
import math
import sys
import types
import typing
from collections.abc import Callable, Iterable, Sequence


class InputError(Exception):
    """Something the user gave cannot be used. The message is one line that names the file, the field and the remedy."""


def check_ranges(**options: tuple[float | None, float, float]) -> None:
    """InputError unless each option's value, the first of three, is None or lies between the two limits after it."""
    for name, (value, low, high) in options.items():
        if value is not None and not low <= value <= high:
            limits = " and ".join([f"at least {low:g}"] * (low > -math.inf) + [f"at most {high:g}"] * (high < math.inf))
            raise InputError(f"--{name.replace('_', '-')} {value}: must be {limits or 'a number'}")


def check_choices(**options: tuple[str | None, Iterable[str]]) -> None:
    """InputError unless each option's value, the first of two, is None or among the choices after it."""
    for name, (value, choices) in options.items():
        if value is not None and value not in (known := list(choices)):
            raise InputError(f"--{name.replace('_', '-')} {value}: not one of {', '.join(known)}")


def run(main: Callable[..., int | None], argv: Sequence[str] | None = None) -> typing.NoReturn:
    """Parse `argv` (default: the process's) for `main`, call it and exit: with its result, or 2 after an InputError."""
    options = vars(parser(main).parse_args(argv))
    try:
        sys.exit(main(**options) or 0)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)


def parser(main: Callable) -> argparse.ArgumentParser:
    """The argparse parser for the signature of `main`."""
    module = sys.modules[main.__module__]
    spec = getattr(module, "__spec__", None)
    built = argparse.ArgumentParser(
        prog=f"python -m {spec.name}" if spec else None,
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    hints = typing.get_type_hints(main, include_extras=True)
    for name, parameter in inspect.signature(main).parameters.items():
        _add(built, name, hints[name], parameter)
    return built


def _add(built: argparse.ArgumentParser, name: str, hint, parameter: inspect.Parameter) -> None:
    kind, text = hint, ""
    if typing.get_origin(hint) is typing.Annotated:
        kind, text = hint.__origin__, hint.__metadata__[0]
    required = parameter.default is parameter.empty
    settings: dict = {"help": text.replace("%", "%%"), **_type(kind)}
    if not required:
        settings["default"] = parameter.default
        if parameter.default not in (None, False, True, ()):
            settings["help"] += f" (default: {parameter.default})"
    if parameter.kind is parameter.KEYWORD_ONLY:
        built.add_argument(f"--{name.replace('_', '-')}", dest=name, required=required, **settings)
    else:
        if not required and "nargs" not in settings:
            settings["nargs"] = "?"
        built.add_argument(name, **settings)


def _type(kind) -> dict:
    """argparse's settings for one annotation."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        (kind,) = (a for a in arguments if a is not type(None))
        return _type(kind)
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    if origin is typing.Literal:
        return {"choices": arguments, "type": type(arguments[0])}
    if origin in (list, Sequence):
        return {"nargs": "+", **_type(arguments[0])}
    return {"type": kind, "metavar": kind.__name__.upper()}
