"""How the C library keeps the memory that a network frees and asks for again with every frame."""

import ctypes
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # of glibc's malloc.h


def keep_freed_memory(limit: int = 2**30) -> None:
    """Let malloc keep freed blocks up to `limit` bytes for the next request, where it is glibc's; else do nothing.

    By default large blocks return to the system, and a new one costs a page fault per 4 KiB, a tenth to a quarter of a
    network's time. One arena serves all threads, since those of other threads hold no large blocks: call this before
    threads begin. It is for the whole process.
    """
    with suppress(AttributeError, OSError, TypeError):  # no such function, or no way to look for it
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in ((_ARENA_MAX, 1), (_MMAP_THRESHOLD, limit), (_TRIM_THRESHOLD, limit)):
            mallopt(option, value)
