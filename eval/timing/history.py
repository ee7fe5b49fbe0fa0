"""Benchmark files: the rows of a run of `dimofs.eval.speed`, with the machine and the versions it measured.

A file is a JSON object with `conditions` (see `conditions`) and `rows`, each as `time_case` returns it. Files of
several machines and versions under `benchmarks/` are the history to which a new run is compared.
"""

import math
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import dimofs
from dimofs.cli import InputError
from dimofs.files import read_json, write_json

# CPU features that decide which code PyTorch runs.
FEATURES = (
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_tile",
    "amx_bf16",
    "asimd",
    "sve",
    "bf16",
)
PACKAGES = ("torch", "torchvision", "triton", "numpy")
# Conditions that make times hard to compare if they differ, and what to call them.
COMPARED = {
    "quick": "quick",
    "device": "device",
    "cpu": "CPU",
    "features": "CPU features",
    "threads": "threads",
    "python": "Python",
    "torch": "torch",
    "torchvision": "torchvision",
    "triton": "triton",
}
KEY = ("name", "shape", "dtype")


def conditions(device: str, quick: bool) -> dict[str, Any]:
    """The conditions of a run: date, device, CPU, its features, threads, versions, and the commit of dimofs."""
    flags = _cpuinfo("flags") or _cpuinfo("Features")
    found: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "quick": quick,
        "device": "cpu" if device == "cpu" else torch.cuda.get_device_name(),
        "cpu": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "features": sorted(set(FEATURES) & set(flags.split())),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
    }
    return found | {package: _version(package) for package in PACKAGES} | {"dimofs": _commit() or _version("dimofs")}


def write_run(path: Path, run: dict) -> None:
    """Write a run, {"conditions": ..., "rows": ...}. InputError: the file cannot be written."""
    write_json(path, run)


def read_run(path: Path) -> dict:
    """A run that `write_run` wrote. InputError: the file is absent, damaged, or something else."""
    content = read_json(path)
    fault = _fault(content)
    if fault:
        raise InputError(f"{path}: not a benchmark file ({fault}); write one with `python -m eval.speed --json FILE`")
    return content


def _fault(content: Any) -> str:
    """What is wrong with the content of a file, or nothing."""
    if not isinstance(content, dict):
        return "not an object"
    for field, kind, text in (("rows", list, "a list"), ("conditions", dict, "an object")):
        if not isinstance(content.get(field), kind):
            return f"`{field}` is not {text}"
    seen = set()
    for number, row in enumerate(content["rows"]):
        fault = _row_fault(row)
        if fault:
            return f"rows[{number}]: {fault}"
        if _key(row) in seen:
            return f"rows[{number}]: the case {', '.join(_key(row))} occurs twice"
        seen.add(_key(row))
    return ""


def _row_fault(row: Any) -> str:
    """What is wrong with a row of a file, or nothing."""
    if not isinstance(row, dict):
        return "not an object"
    for field in KEY:
        if not isinstance(row.get(field), str):
            return f"`{field}` is not a text"
    for field in ("ours_ms", "peer_ms"):
        value = row.get(field)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            return f"`{field}` is not a positive number"
    return ""


def differences(then: dict, now: dict) -> list[str]:
    """One line for each of `COMPARED` in which two runs differ, given their conditions."""
    return [
        f"{text}: {_shown(then.get(field))} then, {_shown(now.get(field))} now"
        for field, text in COMPARED.items()
        if then.get(field) != now.get(field)
    ]


def compare(then: Iterable[dict], now: Iterable[dict]) -> str:
    """A table of the cases in both runs: our medians then and now, and the ratios then / now of ours and the peer's.

    A ratio above 1 means faster now. The peer's ratio shows the effect of the machine and of the peer's version. Below
    the table stand the geometric means, and how many cases are in only one of the runs.
    """
    before, after = ({_key(row): row for row in rows} for rows in (then, now))
    both = [key for key in after if key in before]
    lines: list[tuple[str, ...]] = [(*KEY, "then_ms", "now_ms", "ratio", "peer_ratio")]
    ratios = []
    for key in both:
        ours, peer = (before[key][field] / after[key][field] for field in ("ours_ms", "peer_ms"))
        ratios.append((ours, peer))
        times = (f"{rows[key]['ours_ms']:.4g}" for rows in (before, after))
        lines.append((*key, *times, f"{ours:.2f}", f"{peer:.2f}"))
    text = aligned(lines, left=KEY) if both else "no case is in both"
    if both:
        ours, peer = (math.exp(sum(map(math.log, side)) / len(both)) for side in zip(*ratios, strict=True))
        text += f"\ngeometric mean of {len(both)} cases: ours {ours:.2f}, peers {peer:.2f}"
    for count, place in ((len(before) - len(both), "then"), (len(after) - len(both), "now")):
        if count:
            text += f"\n{count} more cases were measured {place} only"
    return text


def aligned(lines: Sequence[tuple[str, ...]], left: Sequence[str]) -> str:
    """Lines of cells as text in columns. The first line holds the titles; columns of titles in `left` align left."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = []
    for line in lines:
        padded = [
            cell.ljust(width) if title in left else cell.rjust(width)
            for cell, width, title in zip(line, widths, lines[0], strict=True)
        ]
        shown.append("  ".join(padded))
    return "\n".join(shown)


def _key(row: dict) -> tuple[str, ...]:
    return tuple(row[field] for field in KEY)


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _cpuinfo(field: str) -> str:
    """A field of the first processor in /proc/cpuinfo; empty where Linux does not tell."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
    found = re.search(rf"^{field}\s*: *(.*)$", text, re.MULTILINE)
    return found[1].strip() if found else ""


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the checkout that this code runs from, with -dirty if files changed; None outside a checkout."""
    root = Path(dimofs.__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
