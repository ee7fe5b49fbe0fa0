"""Signals that ask a process to stop: Ctrl-C (SIGINT), SIGTERM of a job scheduler, SIGHUP of a closed terminal.

Unhandled, the last two end a process at once and leave files half written. Here all three raise an exception, and a
block of work that must not be cut can ask to be told instead.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Stopped(KeyboardInterrupt):
    """A signal asks this process to stop; `signal` is its number. `run` makes it the exit status 128 + number."""

    def __init__(self, signal: int = signal.SIGINT):
        super().__init__(f"stopped by signal {signal}")
        self.signal = signal


class StopRequest:
    """Whether a signal has asked to stop, and which; 0 is none."""

    signal: int = 0

    def __bool__(self) -> bool:
        return self.signal != 0

    def raise_if_set(self) -> None:
        """Stopped: a signal has asked to stop."""
        if self:
            raise Stopped(self.signal)


@contextmanager
def stop_signals_as_exceptions() -> Iterator[None]:
    """A block in which each of the signals raises `Stopped` in the main thread."""

    def stop(number: int, _: FrameType | None) -> None:
        raise Stopped(number)

    with _handlers(stop):
        yield


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """A block in which the first signal only sets the request that is yielded, and a second one raises `Stopped`.

    The block asks for the request where it can stop without loss.
    """
    request = StopRequest()

    def stop(number: int, _: FrameType | None) -> None:
        if request:
            raise Stopped(number)
        request.signal = number

    with _handlers(stop):
        yield request


@contextmanager
def _handlers(handler) -> Iterator[None]:
    """A block with `handler` for the signals that are not ignored; only the main thread can set handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # `nohup` ignores SIGHUP, and that stays so.
    handled = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = [(number, signal.signal(number, handler)) for number in handled]
    try:
        yield
    finally:
        for number, usual in before:
            # None is a handler that Python did not set and cannot put back.
            signal.signal(number, signal.SIG_DFL if usual is None else usual)
