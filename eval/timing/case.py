"""A comparison of two functions that do the same work, and how its times and memory are measured."""

import itertools
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, kw_only=True)
class Case:
    """Two functions without arguments, ours and the peer's, that do the same work, or work worth comparing.

    `size` is the number of bytes that the work must move. Both functions do the work `count` times per call, so their
    times are divided by it. `memory` asks for the peak of allocated memory too. `predict` gives the seconds that ours
    should take on an H100. `note` tells what times do not, such as how far the results differ.
    """

    name: str
    shape: str
    dtype: str
    ours: Callable[[], object]
    peer: str
    theirs: Callable[[], object]
    size: int
    memory: bool = False
    predict: Callable[[], float] | None = None
    count: int = 1
    note: str = ""


# The most turns of one case.
MAX_TURNS = 200


def time_case(case: Case, bandwidth: float, budget: float, least: int = 3, device: str = "cpu") -> dict:
    """Measure a case -> its row of the table, as a dictionary that JSON can hold.

    Ours and the peer take turns for `budget` seconds, at least `least` times, after a first turn that only warms up.
    `bandwidth` is that of the memory, in bytes per second.
    """
    turns: list[tuple[float, float]] = []
    start = time.perf_counter()
    while len(turns) <= least or (time.perf_counter() - start < budget and len(turns) < MAX_TURNS):
        turns.append((seconds(case.ours, device) / case.count, seconds(case.theirs, device) / case.count))
    (ours, ours_spread), (peer, peer_spread) = (median_and_spread(side) for side in zip(*turns[1:], strict=True))
    row = {"name": case.name, "shape": case.shape, "dtype": case.dtype, "ours_ms": ours, "ours_spread": ours_spread}
    row |= {"peer": case.peer, "peer_ms": peer, "peer_spread": peer_spread, "ratio": peer / ours}
    row["floor_ms"] = 1e3 * case.size / bandwidth
    if case.memory and device == "cpu":
        row["ours_mb"], row["peer_mb"] = (peak_memory(call) / 1e6 for call in (case.ours, case.theirs))
    if case.predict is not None and device != "cpu":
        row["predicted_ms"] = 1e3 * case.predict()
    if case.note:
        row["note"] = case.note
    return row


def seconds(call: Callable[[], object], device: str = "cpu") -> float:
    """How long a call takes until its result is ready."""
    if device != "cpu":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    result = call()
    if device != "cpu":
        torch.cuda.synchronize(device)
    elapsed = time.perf_counter() - start
    # Freeing the result is not part of the work.
    del result
    return elapsed


def median_and_spread(times: Sequence[float]) -> tuple[float, float]:
    """The median in milliseconds, and half the distance between the quartiles as a fraction of it."""
    low, median, high = torch.tensor(times, dtype=torch.float64).quantile(torch.tensor([0.25, 0.5, 0.75]).double())
    return 1e3 * median.item(), ((high - low) / (2 * median)).item()


def copy_bandwidth(device: str, elements: int = 2**26) -> float:
    """Bytes read and written per second while copying a float32 tensor too large for the caches, the best of ten."""
    source, target = (torch.zeros(elements, device=device) for _ in range(2))
    times = [seconds(lambda: target.copy_(source), device) for _ in range(10)]
    return 8 * elements / min(times)


def peak_memory(call: Callable[[], object]) -> int:
    """The peak number of bytes that PyTorch's CPU allocator held during a call, beyond those held before it."""
    # Otherwise the profiler prints a warning on machines without a GPU.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = call()
    events = profiler.profiler.kineto_results.events()  # type: ignore[union-attr]
    del result
    memory: list[Any] = [event for event in events if event.name() == "[memory]"]
    changes = sorted((event.start_ns(), event.nbytes()) for event in memory)
    return max(itertools.accumulate((change for _, change in changes), initial=0))
