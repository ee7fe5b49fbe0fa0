"""How fast all is beside its peers and beside the memory, measured in one process.

    python -m eval.speed
    python -m eval.speed --quick --threads 1 --json speed.json
    python -m eval.speed kernels --device cuda

`kernels`: each operator and its derivative beside torchvision's. `model`: whole models beside torchvision's Keypoint
R-CNN with the same weights and beside MoveNet MultiPose, and the shipped one on a video, from decoding to JSON, beside
a pass of its own backbone. `train`: a training step beside torchvision's. `eval`: an evaluator beside pycocotools.
Without one of these names, all.

Ours and the peer's take turns, so that whatever else the machine does slows both. The table shows medians, half the
spread between the quartiles in per cent, the ratio of the peer's time to ours (above 1: ours is faster) and the floor:
the time that the machine's memory needs for the bytes that the work must move, at the bandwidth of a copy measured in
the same run. For deform_conv2d it shows the peak of allocated memory too. On a GPU the times that `dimofs.eval.traffic`
predicts stand beside those measured. Needs torchvision (`pip install dimofs[dev]`).
"""

import gc
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import torch
from tqdm import tqdm

from dimofs.cli import InputError, check_ranges, run
from dimofs.eval.timing.evaluators import eval_cases
from dimofs.eval.timing.kernels import Case, kernel_cases, peak_memory
from dimofs.eval.timing.models import model_cases
from dimofs.eval.timing.training import train_cases
from dimofs.files import write_json
from dimofs.memory import keep_freed_memory

COLUMNS = (
    "name",
    "shape",
    "dtype",
    "ours_ms",
    "+-%",
    "peer",
    "peer_ms",
    "+-%",
    "ratio",
    "floor_ms",
    "ours_mb",
    "peer_mb",
    "predicted_ms",
    "note",
)
PARTS: dict[str, Callable[[str, bool], Iterable[Case]]] = {
    "kernels": kernel_cases,
    "model": model_cases,
    "train": train_cases,
    "eval": eval_cases,
}


def main(
    what: Annotated[Literal["kernels", "model", "train", "eval", "all"], "what is measured"] = "all",
    *,
    quick: Annotated[bool, "leave out the largest shapes and repeat less: under a minute"] = False,
    only: Annotated[str, "measure only the rows whose name starts so"] = "",
    threads: Annotated[int | None, "threads of the CPU; without it PyTorch's choice"] = None,
    device: Annotated[Literal["cpu", "cuda"], "where to measure"] = "cpu",
    json: Annotated[Path | None, "write the rows here"] = None,
) -> None:
    check_ranges(threads=(threads, 1, 1024))
    require(device)
    if threads is not None:
        torch.set_num_threads(threads)
    bandwidth = copy_bandwidth(device, 2**24 if quick else 2**26)
    keep_freed_memory()
    parts = PARTS.values() if what == "all" else [PARTS[what]]
    cases = (c for part in parts for c in part(device, quick) if c.name.startswith(only))
    effort = (0.3, 2) if quick else (2.0, 3)
    rows = [measure(case, bandwidth, *effort, device=device) for case in tqdm(cases, leave=False)]
    print(table(rows))
    print(f"{torch.get_num_threads()} threads, {bandwidth / 1e9:.1f} GB/s in a copy" if device == "cpu" else device)
    if json is not None:
        write_json(json, rows)


def require(device: str) -> None:
    """InputError unless torchvision and the device are there."""
    try:
        import torchvision  # noqa: F401
    except ImportError as error:
        raise InputError("torchvision is not installed; pip install dimofs[dev] brings the peers") from error
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: PyTorch finds no CUDA device here")


def copy_bandwidth(device: str, elements: int = 2**26) -> float:
    """Bytes read and written per second while a float32 tensor too large for the caches is copied, the best of ten."""
    source, target = (torch.zeros(elements, device=device) for _ in range(2))
    times = [seconds(lambda: target.copy_(source), device) for _ in range(10)]
    return 8 * elements / min(times)


def measure(case: Case, bandwidth: float, budget: float, least: int = 3, device: str = "cpu") -> dict:
    """One row: ours and the peer's in turn for `budget` seconds, at least `least` times after a first that only warms
    up."""
    turns: list[tuple[float, float]] = []
    start = time.perf_counter()
    while len(turns) <= least or (time.perf_counter() - start < budget and len(turns) < 200):
        turns.append((seconds(case.ours, device) / case.count, seconds(case.theirs, device) / case.count))
    (ours, ours_spread), (peer, peer_spread) = (centre(side) for side in zip(*turns[1:], strict=True))
    row = {"name": case.name, "shape": case.shape, "dtype": case.dtype, "ours_ms": ours, "ours_spread": ours_spread}
    row |= {"peer": case.peer, "peer_ms": peer, "peer_spread": peer_spread, "ratio": peer / ours}
    row["floor_ms"] = 1e3 * case.size / bandwidth
    if case.memory and device == "cpu":
        row["ours_mb"], row["peer_mb"] = (peak_memory(call) / 1e6 for call in (case.ours, case.theirs))
    if case.predict is not None and device == "cuda":
        row["predicted_ms"] = 1e3 * case.predict()
    if case.note:
        row["note"] = case.note
    gc.collect()
    return row


def seconds(call: Callable[[], object], device: str = "cpu") -> float:
    """How long a call takes, until its result is there."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    result = call()
    if device == "cuda":
        torch.cuda.synchronize()
    elapsed = time.perf_counter() - start
    del result
    return elapsed


def centre(times: Sequence[float]) -> tuple[float, float]:
    """The median in milliseconds, and half the distance of the quartiles as a fraction of it."""
    low, median, high = torch.tensor(times, dtype=torch.float64).quantile(torch.tensor([0.25, 0.5, 0.75]).double())
    return 1e3 * median.item(), ((high - low) / (2 * median)).item()


def table(rows: Iterable[dict]) -> str:
    """The rows as aligned text, without columns that are empty."""
    columns = [column for column in zip(COLUMNS, *map(cells, rows), strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    left = [column[0] in ("name", "shape", "dtype", "peer", "note") for column in columns]
    return "\n".join(
        "  ".join(c.ljust(w) if to_left else c.rjust(w) for c, w, to_left in zip(line, widths, left, strict=True))
        for line in zip(*columns, strict=True)
    )


def cells(row: dict) -> tuple[str, ...]:
    ours, peer = (f"{100 * row[f'{side}_spread']:.0f}" for side in ("ours", "peer"))
    rest = (f"{row[key]:.3g}" if key in row else "" for key in ("ours_mb", "peer_mb", "predicted_ms"))
    times = {key: f"{row[key]:.3g}" if row[key] < 100 else f"{row[key]:.0f}" for key in ("ours_ms", "peer_ms")}
    head = (row["name"], row["shape"], row["dtype"], times["ours_ms"], ours, row["peer"], times["peer_ms"], peer)
    return *head, f"{row['ratio']:.2f}", f"{row['floor_ms']:.3g}", *rest, row.get("note", "")


if __name__ == "__main__":
    run(main)
