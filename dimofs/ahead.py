"""Run a producer (`ahead`) or a consumer (`behind`) in a background thread."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterable[T], depth: int) -> Generator[T]:
    """The same items, produced by a background thread that runs up to `depth` items ahead of the reader.

    An exception among them is raised here in its place. Closing this generator closes `items` and ends the thread.
    """
    ready: queue.Queue = queue.Queue(depth)
    stop = threading.Event()

    def work() -> None:
        last: BaseException | None = None
        iterator = iter(items)
        try:
            for item in iterator:
                ready.put((item, False))
                if stop.is_set():
                    break
        except BaseException as error:
            last = error
        finally:
            with suppress(AttributeError):
                iterator.close()  # type: ignore[attr-defined]
            ready.put((last, True))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            item, last = ready.get()
            if last:
                break
            yield item
        if item is not None:
            raise item
    finally:
        stop.set()
        while thread.is_alive():
            with suppress(queue.Empty):
                ready.get(timeout=0.05)
        thread.join()


@contextmanager
def behind(work: Callable[..., object], depth: int) -> Iterator[Callable[..., None]]:
    """A function that makes a background thread call `work`, in order and at most `depth` calls behind.

    An exception of `work` is raised by a later call or by the end of the context, which waits for all calls.
    """
    with ThreadPoolExecutor(1) as thread:
        waiting: deque[Future] = deque()

        def hand_over(*arguments: object) -> None:
            while len(waiting) >= depth:
                waiting.popleft().result()
            waiting.append(thread.submit(work, *arguments))

        yield hand_over
        for call in waiting:
            call.result()
