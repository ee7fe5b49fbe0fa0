"""Many inputs by the machines of a Ray cluster (the extra `dimofs[cluster]`), or by this process.

    ray start --head                        # on one machine
    ray start --address HEAD:6379           # on each other one, with the same dimofs installed
    python -m dimofs.zoo.pose --video '/shared/*.mp4' --out /shared/poses --ray auto

Each input has a result of its own that appears whole under its name, on storage that all machines see under the same
path. Work passes over inputs whose results are there. So when a machine dies, Ray does its tasks again on another one,
nothing is lost, and only the inputs that were being worked on are begun anew.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, TypeVar, runtime_checkable
from urllib.parse import urlsplit
from uuid import uuid4

from tqdm import tqdm

from dimofs.cli import MEMORY_IS_FULL, InputError, is_out_of_memory

# Seconds to reach the cluster's port in. Ray itself would try for two minutes.
REACH_SECONDS = 10.0
# How often a task is done again whose process or machine died.
RETRIES = 5
# The cluster that this machine belongs to, and one that is started for a single call.
AUTO, LOCAL = "auto", "local"

T = TypeVar("T")
# Does one input and returns None or, in one line, why it failed.
Work = Callable[[T], str | None]


@runtime_checkable
class Together(Protocol):
    """Work that also does several inputs together, which is faster; it gives what each returns, in order."""

    def __call__(self, item: Any, /) -> str | None: ...

    def together(self, items: Sequence[Any], /) -> Iterator[str | None]: ...


@dataclass(frozen=True)
class Outcome:
    """The number of an input that is finished, and why it failed if it did."""

    number: int
    failure: str | None = None


@dataclass(frozen=True, kw_only=True)
class TaskSize:
    """How many inputs a task does, and how many CPUs and GPUs of its machine it takes."""

    inputs: int = 4
    cpus: float = 1.0
    gpus: float = 0.0


def do_here(work: Work[T], inputs: Sequence[T]) -> Iterator[Outcome]:
    """Do all inputs in this process, in order. An exception of the work fails its input alone."""
    yield from (Outcome(number, failure) for number, failure in enumerate(_failures(work, inputs)))


class Cluster:
    """A connection to the Ray cluster at an address: "auto" (the one this machine belongs to), HOST:PORT,
    ray://HOST:PORT, or "local" for one of this machine alone that ends with the connection.

    InputError: Ray is not installed, or no cluster is reached.
    """

    def __init__(self, address: str):
        self.ray = _connected(address)

    def close(self) -> None:
        """Disconnect; tasks that run are ended."""
        self.ray.shutdown()

    @property
    def gpus(self) -> int:
        """How many GPUs all machines have."""
        return int(self.ray.cluster_resources().get("GPU", 0))

    def do(self, make: Callable[[], Work[T]], inputs: Sequence[T], size: TaskSize) -> Iterator[Outcome]:
        """Do all inputs; gives the outcome of each once, as they come.

        make: makes the work of a process, which may load a model. It and the inputs are sent by pickle. Work runs in a
        folder of the same name as the current one. An input fails alone: if its work raises an exception, or if a
        process dies again and again that does nothing but it.
        """
        tasks = [range(start, min(start + size.inputs, len(inputs))) for start in range(0, len(inputs), size.inputs)]
        remote = self.ray.remote(num_cpus=size.cpus, num_gpus=size.gpus, max_retries=RETRIES)(_do_task)
        key, folder, made = uuid4().hex, os.getcwd(), self.ray.put(make)

        def start(numbers: range) -> Any:
            return remote.remote(key, folder, made, [(number, inputs[number]) for number in numbers])

        running = {start(numbers): numbers for numbers in tasks}
        while running:
            (ready,), _ = self.ray.wait(list(running), num_returns=1)
            numbers = running.pop(ready)
            try:
                yield from (Outcome(number, failure) for number, failure in self.ray.get(ready))
            except self.ray.exceptions.RayError as error:
                if len(numbers) > 1:
                    # One of them ends every process; the others shall not suffer for it.
                    running |= {start(range(number, number + 1)): range(number, number + 1) for number in numbers}
                else:
                    yield Outcome(numbers[0], f"{type(error).__name__}: {_first_line(error)}")


def all_done(outcomes: Iterator[Outcome], names: Sequence[str], unit: str, *, quiet: bool = False) -> bool:
    """Wait for the outcomes of all inputs under a progress bar on stderr, and print each failure; whether none is."""
    failures = 0
    pause = 0.2 if sys.stderr.isatty() else 10.0
    with tqdm(outcomes, total=len(names), unit=unit, disable=quiet, mininterval=pause, maxinterval=pause) as bar:
        for outcome in bar:
            if outcome.failure is not None:
                failures += 1
                where = "" if names[outcome.number] in outcome.failure else f"{names[outcome.number]}: "
                bar.write(f"error: {where}{outcome.failure}", file=sys.stderr)
    return failures == 0


@contextmanager
def connected(address: str) -> Iterator[Cluster]:
    """A block with a connection to the cluster at an address. InputError: see `Cluster`."""
    with closing(Cluster(address)) as cluster:
        yield cluster


# The work of this process, by the key of the call that it belongs to.
_works: dict[str, Work] = {}


def _do_task(key: str, folder: str, make: Callable[[], Work], items: Sequence[tuple[int, Any]]) -> list:
    """What runs on a machine of the cluster: [(number, failure)] of the items."""
    if key not in _works:
        # Names of files are relative to where the command was given.
        os.chdir(folder)
        _works[key] = make()
    failures = _failures(_works[key], [item for _, item in items])
    return [(number, failure) for (number, _), failure in zip(items, failures, strict=True)]


def _failures(work: Work[T], items: Sequence[T]) -> Iterator[str | None]:
    """Of each input, in order, why it failed: done together as far as no exception comes, and then one by one."""
    done = 0
    if isinstance(work, Together):
        with suppress(Exception):
            for failure in work.together(items):
                yield failure
                done += 1
    yield from (_failure(work, item) for item in items[done:])


def _failure(work: Work[T], item: T) -> str | None:
    try:
        return work(item)
    except InputError as error:
        return " ".join(str(error).splitlines())
    except Exception as error:
        if os.environ.get("DIMOFS_DEBUG") == "1":
            raise
        if is_out_of_memory(error):
            return MEMORY_IS_FULL
        return f"unexpected {type(error).__name__}: {_first_line(error)} (DIMOFS_DEBUG=1 shows where)"


def _connected(address: str) -> Any:
    try:
        # Type checkers need not find an extra.
        ray: Any = import_module("ray")
    except ImportError as error:
        raise InputError("--ray: Ray is not installed; pip install 'dimofs[cluster]'") from error
    if address not in (AUTO, LOCAL):
        _check_reached(address)
    try:
        ray.init(address=address, logging_level="warning")
    except (ConnectionError, ValueError, RuntimeError, TimeoutError, ImportError) as error:
        raise InputError(f"--ray {address}: no cluster is reached ({_first_line(error)}); see `ray start`") from error
    return ray


def _check_reached(address: str) -> None:
    """InputError: nothing listens at HOST:PORT or ray://HOST:PORT."""
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port:
        raise InputError(f"--ray {address[:100]}: no address; give auto, local, HOST:PORT or ray://HOST:PORT")
    try:
        socket.create_connection((host, port), REACH_SECONDS).close()
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"--ray {address[:100]}: nothing answers there ({reason}); see `ray start`") from error


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
