"""JSON objects read column by column: fast if all entries are well-formed, and the first malformed one is named.

    people = Records("gt.json", content["annotations"], "annotations[{}]".format)
    keypoints = people.rows("keypoints", 51)

InputErrors read `gt.json: annotations[3].keypoints is not a list of 51 numbers`.
"""

from collections.abc import Callable, Sequence
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from dimofs.cli import InputError

MISSING: Any = object()
# Limit of coordinates and sizes, beyond which they are mistakes; float32 then holds the squares of areas.
MOST_PIXELS = 1e6
_NUMBERS = {int, float}
_NONE = type(None)


def as_list(file: str | Path, value: Any, place: str) -> list:
    """`value`, which must be a list. InputError: it is not, or is MISSING."""
    if type(value) is not list:
        raise InputError(f"{file}: {place} is {'missing' if value is MISSING else 'not a list'}")
    return value


class Records:
    """Objects of one kind in a JSON file; `place(i)` is the place of object i. InputError: one is not an object."""

    def __init__(self, file: str | Path, items: list, place: Callable[[int], str]):
        self.file, self.items, self.place = file, items, place
        self._check([type(item) is dict for item in items], "", "an object")

    def __len__(self) -> int:
        return len(self.items)

    def error(self, index: int, fault: str) -> InputError:
        """An InputError about record `index`; `fault` follows its place, as in ".bbox is too small"."""
        return InputError(f"{self.file}: {self.place(index)}{fault}")

    def column(self, field: str, kinds: set[type], what: str, default: Any = MISSING) -> list:
        """The field of every record, or the `default` where it is absent. InputError: its type is not among `kinds`."""
        try:
            values = list(map(itemgetter(field), self.items))
        except KeyError:
            values = [item.get(field, default) for item in self.items]
        kinds = kinds | {type(default)} - {type(MISSING)}
        if not set(map(type, values)) <= kinds:
            self._check([type(value) in kinds for value in values], field, what)
        return values

    def lists(self, field: str, default: Any = MISSING) -> list[list]:
        """The field of every record, which must be a list, or the `default` where it is absent."""
        return self.column(field, {list}, "a list", default)

    def rows(self, field: str, width: int, default: float | None = None, null: bool = False) -> np.ndarray:
        """[n, width] float64: the field of every record, which must be a list of `width` numbers.

        With a `default` the list may be absent, null or empty; with `null` its elements may be null, and become NaN.
        """
        if width == 1 and (single := self._single(field)) is not None:
            return single
        what, absent = f"a list of {width} number{'s' * (width > 1)}", [default] * width
        if default is None:
            values = self.column(field, {list}, what)
        elif not all(values := self.column(field, {list}, what, None)):
            values = [value or absent for value in values]
        kinds, flat = _NUMBERS | {_NONE} if null else _NUMBERS, list(chain.from_iterable(values))
        if not set(map(len, values)) <= {width} or not set(map(type, flat)) <= kinds:
            self._check([len(v) == width and set(map(type, v)) <= kinds for v in values], field, what)
        return self._array(flat, field).reshape(len(values), width)

    def pixels(self, field: str, width: int, default: float | None = None) -> np.ndarray:
        """`rows` of numbers of pixels. InputError: one is NaN, or beyond MOST_PIXELS."""
        values = self.rows(field, width, default)
        right = (np.abs(values) <= MOST_PIXELS).all(axis=1)
        if not right.all():
            raise self.error(int(right.argmin()), f".{field} has a number that is not within {MOST_PIXELS:.0f} pixels")
        return values

    def numbers(self, field: str, default: float | None = None) -> np.ndarray:
        """[n] float64: the field of every record, which must be a number. With a `default` it may be absent or null."""
        if default is None:
            return self._array(self.column(field, _NUMBERS, "a number"), field)
        values = self.column(field, _NUMBERS, "a number", None)
        return self._array([default if value is None else value for value in values], field)

    def _single(self, field: str) -> np.ndarray | None:
        """[n, 1] if every record has a list of one number, else None. In one pass: PoseTrack17 has millions of them."""
        try:
            flat = [value for (value,) in map(itemgetter(field), self.items)]
        except (KeyError, TypeError, ValueError):
            return None
        return self._array(flat, field)[:, None] if set(map(type, flat)) <= _NUMBERS else None

    def _array(self, values: list, field: str) -> np.ndarray:
        try:
            return np.array(values, np.float64)  # None becomes NaN
        except OverflowError as error:
            raise InputError(f"{self.file}: a value of {field} is beyond the range of numbers") from error

    def _check(self, right: Sequence[bool], field: str, what: str) -> None:
        if not all(right):
            index = right.index(False)
            missing = field and field not in self.items[index]
            raise self.error(index, f"{'.' if field else ''}{field} is {'missing' if missing else f'not {what}'}")
