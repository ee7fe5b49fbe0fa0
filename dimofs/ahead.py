"""Work ahead: an iterable's items, made by a thread of their own while the reader handles earlier ones."""

import queue
import threading
from collections.abc import Generator, Iterable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Iterable[T], depth: int) -> Generator[T]:
    """The same items, made by a thread of their own up to `depth` ahead of the reader.

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
