"""Speed of kernels, models and evaluators relative to other libraries and to memory bandwidth.

    python -m eval.speed
    python -m eval.speed --quick --threads 1 --json speed.json
    python -m eval.speed --quick --threads 1 --against speed.json
    python -m eval.speed kernels --device cuda

`kernels`: each operator and its derivative beside torchvision's. `model`: whole models beside torchvision's Keypoint
R-CNN with the same weights and beside MoveNet MultiPose, and the shipped model on a video, from decoding to JSON,
beside a pass of its own backbone. `train`: a training step beside torchvision's, and one of `dimofs_mobile` beside the
same step layer by layer. `eval`: an evaluator beside pycocotools. Without one of these names, all of them.

Ours and the peer take turns, so that other work on the machine slows both. The table shows medians, half the distance
between the quartiles in per cent, the ratio of the peer's time to ours (above 1: ours is faster) and the floor: the
time that the machine's memory needs for the bytes that the work must move, at the bandwidth of a copy measured in the
same run. For deform_conv2d it also shows the peak of allocated memory, and on a GPU the times that
`dimofs.eval.traffic` predicts. Needs torchvision (`pip install dimofs[dev]`).

`--json` writes the rows with the machine's name and all versions; such files are kept under `benchmarks/`. `--against`
compares this run to one of them, case by case, and says in what the two machines differ.
"""

import gc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Literal

import torch
from tqdm import tqdm

from dimofs.cli import RESULT, InputError, check_ranges, run
from dimofs.eval.timing.case import Case, copy_bandwidth, time_case
from dimofs.eval.timing.evaluators import eval_cases
from dimofs.eval.timing.history import aligned, compare, conditions, differences, read_run, write_run
from dimofs.eval.timing.kernels import kernel_cases
from dimofs.eval.timing.models import model_cases
from dimofs.eval.timing.training import train_cases
from dimofs.memory import keep_freed_memory
from dimofs.pages.report import recorded
from dimofs.zoo.devices import pick_device

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
    what: Annotated[Literal["kernels", "model", "train", "eval", "all"], "what to measure"] = "all",
    *,
    quick: Annotated[bool, "leave out the largest shapes and repeat less: under a minute"] = False,
    only: Annotated[str, "measure only the cases whose name starts with this"] = "",
    threads: Annotated[int | None, "CPU threads (default: PyTorch's choice)"] = None,
    device: Annotated[str | None, "cpu, cuda, cuda:1, ... (default: a GPU if there is one)"] = None,
    json: Annotated[Path | None, "write the rows, machine and versions to this file"] = None,
    html: Annotated[Path | None, "write the printed tables here as a page", RESULT] = None,
    against: Annotated[Path | None, "compare to this file that --json wrote earlier"] = None,
) -> None:
    check_ranges(threads=(threads, 1, 1024))
    device = require_peers(device)
    stored = None if against is None else read_run(against)
    if threads is not None:
        torch.set_num_threads(threads)
    bandwidth = copy_bandwidth(device, 2**24 if quick else 2**26)
    keep_freed_memory()
    parts = PARTS.values() if what == "all" else [PARTS[what]]
    cases = (c for part in parts for c in part(device, quick) if c.name.startswith(only))
    seconds, turns = (0.3, 2) if quick else (2.0, 3)
    rows = []
    for case in tqdm(cases, leave=False):
        rows.append(time_case(case, bandwidth, seconds, turns, device))
        gc.collect()
    measured = {"conditions": conditions(device, quick), "rows": rows}
    with recorded(html, "Speed"):
        print(table(rows))
        at = f"{torch.get_num_threads()} threads, {bandwidth / 1e9:.1f} GB/s in a copy" if device == "cpu" else device
        print(at)
        if stored is not None:
            print(f"\nagainst {against}, measured {stored['conditions'].get('date', 'at an unknown date')}")
            for line in differences(stored["conditions"], measured["conditions"]):
                print(f"differs: {line}")
            print(compare(stored["rows"], rows))
    if json is not None:
        write_run(json, measured)


def require_peers(device: str | None) -> str:
    """The device to measure on. InputError: it is not there, or torchvision is not installed."""
    try:
        import torchvision  # noqa: F401
    except ImportError as error:
        raise InputError("torchvision is not installed; pip install dimofs[dev] brings the peers") from error
    picked = pick_device(device)
    if picked.type not in ("cpu", "cuda"):
        raise InputError(f"--device {device}: speed is measured on cpu and cuda only")
    return str(picked)


def table(rows: Iterable[dict]) -> str:
    """The rows as aligned text, without columns that are empty."""
    columns = [column for column in zip(COLUMNS, *map(cells, rows), strict=True) if any(column[1:])]
    return aligned(list(zip(*columns, strict=True)), left=("name", "shape", "dtype", "peer", "note"))


def cells(row: dict) -> tuple[str, ...]:
    """A row as the texts of `COLUMNS`."""
    ours, peer = (f"{100 * row[f'{side}_spread']:.0f}" for side in ("ours", "peer"))
    rest = (f"{row[key]:.3g}" if key in row else "" for key in ("ours_mb", "peer_mb", "predicted_ms"))
    times = {key: f"{row[key]:.3g}" if row[key] < 100 else f"{row[key]:.0f}" for key in ("ours_ms", "peer_ms")}
    head = (row["name"], row["shape"], row["dtype"], times["ours_ms"], ours, row["peer"], times["peer_ms"], peer)
    return *head, f"{row['ratio']:.2f}", f"{row['floor_ms']:.3g}", *rest, row.get("note", "")


if __name__ == "__main__":
    run(main)
