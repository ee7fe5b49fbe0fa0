"""`Stopwatch`: seconds spent in each stage of a job."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TypeVar

T = TypeVar("T")


class Stopwatch:
    """Adds up seconds by stage. finish: called before the time is taken, as to wait for a GPU."""

    def __init__(self, finish: Callable[[], object] | None = None):
        self.seconds: dict[str, float] = {}
        self._finish = finish

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count the time of a block."""
        began = perf_counter()
        try:
            yield
        finally:
            if self._finish is not None:
                self._finish()
            self.seconds[stage] = self.seconds.get(stage, 0.0) + perf_counter() - began

    def each(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """The items, counting the time that it takes to get each."""
        iterator = iter(items)
        while True:
            with self(stage):
                item = next(iterator, self)
            if item is self:
                return
            yield item  # type: ignore[misc]

    def per(self, count: int) -> str:
        """Milliseconds of each stage for one of `count` frames, as in "read 1.2, backbone 50.3"."""
        return ", ".join(f"{stage} {1000 * seconds / max(count, 1):.1f}" for stage, seconds in self.seconds.items())
