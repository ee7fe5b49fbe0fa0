"""Arguments of presets as a checkpoint's config.json holds them, checked against the preset's signature.

A preset's annotations say what its arguments may be: bool, int, float, str, Literal, lists (`Sequence[str]`), objects
(`dict[str, float]`), unions with None, and `Annotated[int, Limits(1, 100)]` where the default limits do not fit.
"""

import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple


class Limits(NamedTuple):
    """The lowest and the highest value of a number."""

    low: float
    high: float


# Nothing larger can be meant; checked before a model allocates anything.
INTEGERS = Limits(0, 2**14)
ENTRIES = 1000
LETTERS = 200
SHOWN = 60


def check_arguments(build: Callable[..., Any], values: Mapping[str, Any]) -> None:
    """ValueError unless `build` can be called with these values, which come from JSON. The message is one line."""
    parameters = inspect.signature(build).parameters
    hints = typing.get_type_hints(build, include_extras=True)
    for name, value in values.items():
        if name not in parameters:
            raise ValueError(f"has {_shown(name)}, which {build.__name__} does not take")
        if not _fits(value, hints.get(name, Any)):
            raise ValueError(f"{name!r} cannot be {_shown(value)}; expected {_expected(hints[name])}")
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in values:
            raise ValueError(f"lacks {name!r}, which {build.__name__} needs")


def _fits(value: Any, hint: Any, limits: Limits | None = None) -> bool:
    """Whether a JSON value is of an annotation's kind, and no larger than is sane."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _fits(value, inner[0], next((x for x in inner[1:] if isinstance(x, Limits)), limits))
    if origin is Literal:
        return value in inner
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, kind, limits) for kind in inner)
    if origin in (list, tuple, Sequence):
        return isinstance(value, list) and 0 < len(value) <= ENTRIES and all(_fits(v, inner[0], limits) for v in value)
    if origin in (dict, Mapping):
        values = list(value.values()) if isinstance(value, dict) else []
        return isinstance(value, dict) and len(values) <= ENTRIES and all(_fits(v, inner[1], limits) for v in values)
    return _fits_plain(value, hint, limits)


def _fits_plain(value: Any, kind: Any, limits: Limits | None) -> bool:
    if kind is bool:
        return isinstance(value, bool)
    if kind is int:
        low, high = limits or INTEGERS
        return type(value) is int and low <= value <= high
    if kind is float:
        low, high = limits or Limits(-math.inf, math.inf)
        return type(value) in (int, float) and abs(value) < 1e300 and low <= value <= high
    if kind is str:
        return isinstance(value, str) and len(value) <= LETTERS
    if kind in (None, types.NoneType):
        return value is None
    return kind is Any


def _expected(hint: Any, limits: Limits | None = None) -> str:
    """What `_fits` accepts, in words."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _expected(inner[0], next((x for x in inner[1:] if isinstance(x, Limits)), limits))
    if origin is Literal:
        return "one of " + ", ".join(map(str, inner))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_expected(kind, limits) for kind in inner)
    if origin in (list, tuple, Sequence):
        return f"a list of 1 to {ENTRIES} entries, each {_expected(inner[0], limits)}"
    if origin in (dict, Mapping):
        return f"an object of at most {ENTRIES} entries, each {_expected(inner[1], limits)}"
    if hint is int:
        low, high = limits or INTEGERS
        return f"a whole number from {low:g} to {high:g}"
    names = {bool: "true or false", float: "a finite number", str: f"text of at most {LETTERS} letters"}
    return names.get(hint, "null")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
