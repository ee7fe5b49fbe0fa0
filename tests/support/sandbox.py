"""Run something in a forked process of its own, in an empty folder, and say how it ended."""

from __future__ import annotations

import faulthandler
import os
import re
import resource
import shutil
import signal
import stat
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

GIB = 2**30
MOST_MEMORY = 2.5 * GIB
# Address space beyond the parent's: more than the limit above, so that memory is measured before it is refused.
ADDRESS_SPACE = 6 * GIB
BUGS = ("traceback", "crash", "hang", "memory", "silently wrong", "many lines", "odd exit", "leftovers")


@dataclass(frozen=True)
class Outcome:
    """How a run ended, one of BUGS or "clear error" or "right result"; the end of what it said; seconds and bytes."""

    kind: str
    said: str = field(repr=False)
    seconds: float
    memory: int

    @property
    def reason(self) -> str:
        """The last line that it said, and for a traceback where in this package it came from."""
        lines = [line for line in re.split(r"[\r\n]+", self.said) if line.strip()] or [""]
        places = re.findall(r'File ".*?/((?:dimofs|zoo|eval|kernels|tests)/\S+\.py)", line (\d+)', self.said)
        place = f" ({places[-1][0]}:{places[-1][1]})" if places and self.kind == "traceback" else ""
        return lines[-1][:300] + place


class Refused(Exception):
    """What Python raised is the documented kind of error: its message stands in for the line of a command."""


def run(
    action: Callable[[], object],
    template: Path,
    check: Callable[[Path], bool] | None = None,
    *,
    must_fail: bool = False,
    timeout: float = 60,
) -> Outcome:
    """Fork, copy the folder `template`, go there and call `action`, whose exit status is that of SystemExit or 0.

    check: whether the folder holds the right result after an exit status of 0. must_fail: no result can be right.
    """
    with tempfile.TemporaryDirectory(prefix="sandbox") as parent:
        folder, log = Path(parent) / "work", Path(parent) / "log"
        shutil.copytree(template, folder, symlinks=True)
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            _child(action, folder, log)
        status, usage = _wait(child, began + timeout)
        said = log.read_bytes().decode(errors="replace")
        memory = usage.ru_maxrss * 1024
        kind = _kind(status, said, memory, folder)
        if kind == "right result":
            good = not must_fail and (check is None or _holds(check, folder))
            kind = kind if good else "silently wrong"
        return Outcome(kind, said[-6000:], time.monotonic() - began, memory)


def _child(action: Callable[[], object], folder: Path, log: Path) -> NoReturn:
    status = 70
    try:
        os.setsid()
        # pytest's would print the stacks of a crash among its own output.
        faulthandler.disable()
        written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (written, 1), (written, 2)):
            os.dup2(source, target)
        sys.stdout = os.fdopen(1, "w", buffering=1, encoding="utf-8", closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = int(pages * os.sysconf("SC_PAGE_SIZE") + ADDRESS_SPACE)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        # Without this an unforeseen exception becomes one line, and it would count as a clear error.
        os.environ["DIMOFS_DEBUG"] = "1"
        os.chdir(folder)
        status = _status(action)
        if not _flushes():
            status = 120
    finally:
        os._exit(status)


def _flushes() -> bool:
    """Python ends with the exit status 120 where it cannot write what is left of stdout."""
    try:
        if sys.stdout is not None and not sys.stdout.closed:
            sys.stdout.flush()
    except OSError:
        return False
    return True


def _status(action: Callable[[], object]) -> int:
    try:
        action()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except Refused as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BaseException:
        traceback.print_exc()
        return 70
    return 0


def _wait(child: int, deadline: float) -> tuple[int | None, resource.struct_rusage]:
    """The exit status, negative for a signal, None for a run that was still going; and what it used."""
    late = False
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            return None if late else os.waitstatus_to_exitcode(status), usage
        if time.monotonic() > deadline:
            late = True
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.01)


def _kind(status: int | None, said: str, memory: int, folder: Path) -> str:
    if status is None:
        return "hang"
    if memory > MOST_MEMORY or re.search(r"MemoryError|not enough memory|can't allocate memory", said):
        return "memory"
    if status < 0:
        return "crash"
    if status == 70 or "Traceback (most recent call last)" in said:
        return "traceback"
    if list(folder.rglob("*.part")) or list(folder.rglob(".*.tmp")):
        return "leftovers"
    if status == 0:
        return "right result"
    # Of a shell's programs, 141 says that the reader of a pipe has gone: nobody is there to be told.
    if status == 141:
        return "clear error"
    errors = [line for line in re.split(r"[\r\n]+", said) if re.match(r"(error: |.*: error: ).", line)]
    if status != 2:
        return "odd exit"
    lines = [line for line in re.split(r"[\r\n]+", said) if line.strip()]
    return "clear error" if errors and lines[-1] == errors[-1] else "many lines"


def _holds(check: Callable[[Path], bool], folder: Path) -> bool:
    try:
        return bool(check(folder))
    except Exception:
        return False


def is_kind(path: Path, kind: Callable[[int], bool]) -> bool:
    """Whether the path itself, not what it links to, is of a kind: stat.S_ISFIFO and so on."""
    return path.is_symlink() is (kind is stat.S_ISLNK) and kind(path.lstat().st_mode)
