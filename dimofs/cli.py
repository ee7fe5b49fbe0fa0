"""Command lines from typed functions: the arguments of `main` are the options, the module docstring is the help.

    def main(*, video: Annotated[list[str], "video files"], delta: Annotated[int, "frames", Range(-99, 99)] = 0): ...

    if __name__ == "__main__":
        run(main)

Parameters before `*` are positional, those after it are options `--name`. A bool is a flag (`--name`, `--no-name`),
`Literal[...]` a choice, a list takes several values and `X | None` may be left out. A parameter whose type is a
dataclass stands for the fields of that dataclass, so that commands can share a list of options.

`run` checks every value before `main` sees it: numbers are finite and within their `Range`, names of files can exist,
files marked `RESULT` can be written, and would overwrite neither each other nor another file that is named.
"""

import argparse
import dataclasses
import inspect
import math
import os
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dimofs.interrupts import Stopped, stop_signals_as_exceptions

# A number option without a Range lies between -HUGE and HUGE.
HUGE = 10**9
# What every command says when `is_out_of_memory`.
MEMORY_IS_FULL = "the memory is full; make what is computed at once smaller, as by a lower --size or --batch"


class InputError(Exception):
    """Something the user gave cannot be used. The message is one line that names the file, the field and the remedy."""


@dataclasses.dataclass(frozen=True)
class Range:
    """The smallest and the largest value of a number option, or of each number in a list."""

    low: float = -HUGE
    high: float = HUGE


class ResultFile:
    """Marks a path that a command writes at its end: `run` refuses it if that cannot succeed."""


RESULT = ResultFile()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Option:
    """A parameter of `main`, or a field of a dataclass among them."""

    name: str
    kind: Any
    help: str
    marks: tuple[Any, ...]
    default: Any
    positional: bool

    @property
    def flag(self) -> str:
        """As written on the command line."""
        return self.name if self.positional else f"--{self.name.replace('_', '-')}"


def check_ranges(**options: tuple[float | None, float, float]) -> None:
    """InputError unless each option's value, the first of three, is None or lies between the two limits after it.

    For limits that depend on other options; all others are declared by `Range`.
    """
    for name, (value, low, high) in options.items():
        if value is not None:
            _check_number(f"--{name.replace('_', '-')}", value, Range(low, high))


def check_choices(**options: tuple[str | None, Iterable[str]]) -> None:
    """InputError unless each option's value, the first of two, is None or among the choices after it."""
    for name, (value, choices) in options.items():
        known = list(choices)
        if value is not None and value not in known:
            raise InputError(f"--{name.replace('_', '-')} {value}: not one of {', '.join(known)}")


def run(
    main: Callable[..., int | None], argv: Sequence[str] | None = None, program: str | None = None
) -> typing.NoReturn:
    """Parse `argv` (default: the process's) for `main`, call it and exit. program: how messages call the command.

    The exit status is the result of `main`; 2 after an error, told in one line; 128 + the signal's number after a
    signal that asks the process to stop; 141 where the reader of a pipe has gone.
    """
    _repair_streams()
    sys.exit(_status(main, argv, program))


def _status(main: Callable[..., int | None], argv: Sequence[str] | None, program: str | None) -> int:
    try:
        with stop_signals_as_exceptions():
            status = main(**arguments(main, argv, program)) or 0
        sys.stdout.flush()
        return status
    except InputError as error:
        _tell(f"error: {error}")
        return 2
    except Stopped as stop:
        return 128 + stop.signal
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _silence(sys.stdout)
        return 141
    except Exception as error:
        if os.environ.get("DIMOFS_DEBUG") == "1":
            raise
        if isinstance(error, OSError):
            # A full disk behind stdout would raise again when Python flushes it at exit.
            _silence(sys.stdout)
        if is_out_of_memory(error):
            _tell(f"error: {MEMORY_IS_FULL}")
            return 2
        lines = str(error).splitlines() or [""]
        # An error of a loader's worker has its traceback between these.
        message = lines[0] if len(lines) == 1 else f"{lines[0]} ... {lines[-1]}"
        _tell(f"error: unexpected {type(error).__name__}: {message} (DIMOFS_DEBUG=1 shows where; please report it)")
        return 2


def is_out_of_memory(error: Exception) -> bool:
    """Whether an array, a tensor or a tensor on a GPU did not fit into the memory."""
    # torch names its own only on a GPU; its class is not imported here, for commands that do without torch.
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))
    )


def arguments(main: Callable, argv: Sequence[str] | None = None, program: str | None = None) -> dict[str, Any]:
    """The arguments of `main` from a command line, checked.

    InputError: a value cannot be used. SystemExit, after a message: the line cannot be parsed, or asks for help.
    """
    given = vars(parser(main, program).parse_args(argv))
    known = list(options(main))
    for option in known:
        _check(option, given[option.name])
    _check_apart([(option, given[option.name]) for option in known])
    for name, kind in _parameter_types(main).items():
        if dataclasses.is_dataclass(kind):
            fields = {field.name: given.pop(field.name) for field in dataclasses.fields(kind)}
            given[name] = kind(**fields)  # type: ignore[operator]
    return given


def parser(main: Callable, program: str | None = None) -> argparse.ArgumentParser:
    """The argparse parser for the signature of `main`. program: the command's name (default: python -m and module)."""
    module = sys.modules[main.__module__]
    spec = getattr(module, "__spec__", None)
    built = argparse.ArgumentParser(
        prog=program or (f"python -m {spec.name}" if spec else None),
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_options(built, main)
    return built


def add_options(built: argparse.ArgumentParser, main: Callable) -> None:
    """Add the options of `main` to a parser."""
    for option in options(main):
        _add(built, option)


def options(main: Callable) -> Iterator[Option]:
    """The options of `main` in order, the fields of dataclasses among them."""
    parameters = inspect.signature(main).parameters
    for name, kind in _parameter_types(main).items():
        parameter = parameters[name]
        if dataclasses.is_dataclass(kind):
            types_ = typing.get_type_hints(kind, include_extras=True)
            for field in dataclasses.fields(kind):
                yield _option(field.name, types_[field.name], _field_default(field), positional=False)
        else:
            yield _option(name, kind, parameter.default, positional=parameter.kind is not parameter.KEYWORD_ONLY)


def _parameter_types(main: Callable) -> dict[str, Any]:
    hints = typing.get_type_hints(main, include_extras=True)
    return {name: hints[name] for name in inspect.signature(main).parameters}


def _field_default(field: dataclasses.Field) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return inspect.Parameter.empty if field.default_factory is dataclasses.MISSING else field.default_factory()


def _option(name: str, hint: Any, default: Any, *, positional: bool) -> Option:
    kind, text, marks = hint, "", ()
    if typing.get_origin(hint) is typing.Annotated:
        kind, (text, *marks) = hint.__origin__, hint.__metadata__
    return Option(name=name, kind=kind, help=text, marks=tuple(marks), default=default, positional=positional)


def _add(built: argparse.ArgumentParser, option: Option) -> None:
    required = option.default is inspect.Parameter.empty
    settings: dict = {"help": option.help.replace("%", "%%"), **_type(option.kind)}
    if not required:
        settings["default"] = option.default
        if option.default not in (None, False, True, ()):
            settings["help"] += f" (default: {option.default})"
    if not option.positional:
        built.add_argument(option.flag, dest=option.name, required=required, **settings)
    else:
        if not required and "nargs" not in settings:
            settings["nargs"] = "?"
        built.add_argument(option.name, **settings)


def _type(kind: Any) -> dict:
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
    return {"type": _path if kind is Path else kind, "metavar": kind.__name__.upper()}


def _path(text: str) -> Path:
    # Path("") would be the current folder.
    if not text:
        raise argparse.ArgumentTypeError("an empty name; give another")
    return Path(text)


# --- checks of values ---


def _check(option: Option, value: Any) -> None:
    """InputError: `value`, or an item of it, cannot be used."""
    values = value if isinstance(value, (list, tuple)) else [value]
    limits = next((mark for mark in option.marks if isinstance(mark, Range)), Range())
    for one in values:
        if isinstance(one, (int, float)) and not isinstance(one, bool):
            _check_number(option.flag, one, limits)
        elif isinstance(one, (str, Path)):
            _check_text(option.flag, str(one))
            if RESULT in option.marks:
                _check_result(option.flag, Path(one))


def _check_number(flag: str, value: float, limits: Range) -> None:
    if limits.low <= value <= limits.high and abs(value) != math.inf:
        return
    stated = []
    if limits.low > -HUGE or value < limits.low:
        stated.append(f"at least {_plain(limits.low)}")
    if limits.high < HUGE or value > limits.high:
        stated.append(f"at most {_plain(limits.high)}")
    wanted = " and ".join(stated) if abs(value) < math.inf else "a finite number"
    raise InputError(f"{flag} {_shortened(str(value))}: must be {wanted}")


def _plain(limit: float) -> str:
    return str(int(limit)) if limit == int(limit) else str(limit)


def _check_text(flag: str, text: str) -> None:
    """InputError: no file can have this name."""
    if not text:
        raise InputError(f"{flag}: is empty; give a name")
    try:
        name = os.fsencode(text)
    except UnicodeEncodeError as error:
        raise InputError(f"{flag} {_shortened(text)}: has characters that no name can have; give another") from error
    if b"\0" in name:
        raise InputError(f"{flag} {_shortened(text)}: has a NUL character, which no name can have; give another")
    longest = max(map(len, name.split(b"/")))
    if "://" not in text and (longest > 255 or len(name) > 4095):
        raise InputError(f"{flag} {_shortened(text)}: is longer than a name can be; give another")


def _check_result(flag: str, path: Path) -> None:
    """InputError: no file can be written at `path`."""
    if path.is_dir():
        raise InputError(f"{flag} {path}: is a folder; give the name of a file")
    if path.exists() and not path.is_file():
        raise InputError(f"{flag} {path}: is not a regular file; give another name")
    folder = path.absolute().parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise InputError(f"{flag} {path}: {folder} is not a folder; give another name")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{flag} {path}: cannot write to {folder}; give another name")


def _check_apart(given: Sequence[tuple[Option, Any]]) -> None:
    """InputError: a result has the name of another result, or of a file that another option names."""
    seen = {
        os.path.realpath(one): option.flag
        for option, value in given
        for one in (value if isinstance(value, list) else [value])
        if RESULT not in option.marks and isinstance(one, (str, Path)) and os.path.isfile(one)
    }
    for option, value in given:
        if RESULT in option.marks and value is not None:
            other = seen.setdefault(os.path.realpath(value), option.flag)
            if other != option.flag:
                raise InputError(f"{option.flag} {value}: is the file of {other} too; give another name")


def _shortened(text: str) -> str:
    shown = text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    return shown if len(shown) <= 60 else f"{shown[:60]}..."


# --- standard streams ---


def _repair_streams() -> None:
    """Let messages be printed whatever the streams are: closed streams swallow them, odd characters are escaped."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _tell(message: str) -> None:
    """Print one line on stderr, or nothing where that cannot be written."""
    try:
        print(" ".join(message.splitlines()), file=sys.stderr, flush=True)
    except OSError:
        _silence(sys.stderr)


def _silence(stream: Any) -> None:
    """Let what is left in a stream's buffer go nowhere, so that flushing it at exit does not fail."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError):
        return
