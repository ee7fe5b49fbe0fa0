"""A Ray cluster of this machine, whose nodes are process groups, and work for it that needs no model."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dimofs.cli import InputError
from dimofs.files import replacing

ROOT = Path(__file__).parents[2]


class Node:
    """One node, `ray start --block` in a process group of its own. The first one is the head.

    folder: of the head's files; sockets lie in it, whose names are limited to a hundred characters.
    """

    def __init__(self, folder: Path, port: int, *, head: bool):
        place = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder}"]
        sizes = ["--num-cpus=1", "--object-store-memory=100000000"]
        start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats", *sizes]
        self.process = subprocess.Popen(
            [*start, *(place if head else [f"--address=127.0.0.1:{port}"])],
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def kill(self) -> None:
        """As if the power failed."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


@dataclass(frozen=True)
class Counting:
    """Work that writes a file for each number, slowly, and a line in `log` for each time it begins one.

    A line is "number process parent"; the processes of a node have one parent. dies, fails: numbers at which the
    process is killed, and at which the work raises an error.
    """

    folder: Path
    seconds: float = 0.0
    dies: tuple[int, ...] = ()
    fails: tuple[int, ...] = ()

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def begun(self) -> list[list[int]]:
        """The lines of the log."""
        return [[int(word) for word in line.split()] for line in self.log.read_text().splitlines()]

    def __call__(self) -> Callable[[int], str | None]:
        return self._do

    def _do(self, number: int) -> str | None:
        result = self.folder / f"{number}.txt"
        if result.exists():
            return None
        with self.log.open("a") as file:
            file.write(f"{number} {os.getpid()} {os.getppid()}\n")
        if number in self.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        if number in self.fails:
            raise InputError(f"{number}: is no good")
        time.sleep(self.seconds)
        with replacing(result) as temporary:
            temporary.write_text(f"the square of {number} is {number * number}\n")
        return None
