"""Keep the memory that a network frees and allocates again with every frame, instead of returning it to the system."""

import ctypes
from contextlib import suppress

# From glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8


def keep_freed_memory(limit: int = 2**30) -> None:
    """Make glibc's malloc keep freed blocks of up to `limit` bytes for reuse. Other C libraries are left as they are.

    By default large blocks return to the system, and each new one costs a page fault per 4 KiB, a tenth to a quarter of
    a network's time. This affects the whole process. All threads then share one arena, because the arenas of other
    threads keep no large blocks, so call it before any thread starts.
    """
    # Suppressed: there is no such function, or no way to look it up.
    with suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in ((_ARENA_MAX, 1), (_MMAP_THRESHOLD, limit), (_TRIM_THRESHOLD, limit)):
            mallopt(option, value)
