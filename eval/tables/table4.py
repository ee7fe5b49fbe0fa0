"""What eval.diving48 prints: each stage of recognition, and Table 4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from dimofs.cli import InputError
from dimofs.datasets.labelled_clips import ClipFault, summary
from dimofs.eval.tables.peers import PAPER, PeerBench, peer_rows
from dimofs.eval.tables.recognition import FINAL, FLOW, INIT, POSE, ROWS, RecognitionBench, Row, Trial
from dimofs.zoo.recognition.classifier import accuracies
from dimofs.zoo.recognition.pipeline import Surveyed

Stage = Literal["features", "clusters", "localizer", "classify"]
# Clips are resampled so often for an interval.
RESAMPLES = 2000
# Faults and clips without people that are named.
NAMED = 10
# Differences that are printed: the first row minus the second.
DIFFERENCES = (
    (INIT, POSE),
    (INIT, FLOW),
    (INIT, "init, random offset net"),
    (INIT, "init, B of another clip"),
    (INIT, "init, f_A - f_B"),
    (INIT, "init, |f_A - f_B|"),
    (FINAL, INIT),
    (FINAL, "final, random offset net"),
    (FINAL, "final, B of another clip"),
    (FINAL, "final, f_A - f_B"),
    (FINAL, "final, |f_A - f_B|"),
    ("actions directly", FINAL),
    ("actions directly", "actions, random offset net"),
    ("actions directly", "actions, f_A - f_B"),
)


def chosen_rows(names: Sequence[str] | None) -> list[Row]:
    """Our rows among these names, None for all. InputError: there is no such row, nor a peer of that name."""
    known = {row.name: row for row in ROWS}
    if unknown := [name for name in names or () if name not in (*known, *PAPER)]:
        raise InputError(f"--rows {unknown[0]!r}: is none of {', '.join((*known, *PAPER))}")
    return list(ROWS) if names is None else [known[name] for name in names if name in known]


def chosen_peers(names: Sequence[str] | None, every_one: bool) -> list[str]:
    """The other systems among these names or, if `every_one` is asked for, all."""
    return list(PAPER) if every_one else [name for name in names or () if name in PAPER]


def features(bench: RecognitionBench) -> dict[str, Any]:
    """Measure all clips; print and return how many pairs and which faults there are."""
    parts = {"train": bench.train, "test": bench.test}
    result: dict[str, Any] = {"data": bench.clips.described()}
    for name, part in parts.items():
        pairs = sum(map(len, part.subjects))
        result[name] = {"clips": len(part.clips), "pairs": pairs, "without people or pairs": part.empty}
    faults = [*bench.clips.missing, *bench.train.faults, *bench.test.faults]
    result["faults"] = [vars(fault) for fault in faults]
    print(bench.clips.described())
    for name, part in parts.items():
        print(f"{name}: {result[name]['pairs']} pairs of {len(part.clips)} clips{_empty(part)}")
    print(*_faults(faults), sep="\n")
    return result


def _empty(part: Surveyed) -> str:
    if not part.empty:
        return ""
    more = ", ..." if len(part.empty) > NAMED else ""
    return f"; {len(part.empty)} give none: {', '.join(part.empty[:NAMED])}{more}"


def _faults(faults: Sequence[ClipFault]) -> list[str]:
    """A line that counts the faults, and a line for each of the first."""
    lines = [f"  {fault.kind}: {fault.reason}" for fault in faults[:NAMED]]
    if len(faults) > NAMED:
        lines.append(f"  and {len(faults) - NAMED} more; --json lists all")
    return [summary(faults), *lines]


def clusters(bench: RecognitionBench, rows: Sequence[Row]) -> dict[str, Any]:
    """Cluster the training pairs; print and return the sizes of the clusters of each kind of motion and seed."""
    result: dict[str, Any] = {}
    for motion in dict.fromkeys(row.motion for row in rows if not row.direct):
        found = [bench.clustering(motion, seed) for seed in bench.seeds]
        sizes = [torch.bincount(ids, minlength=len(clustering)) for clustering, ids in found]
        result[motion or "pose"] = [size.tolist() for size in sizes]
        name = "pose" if motion is None else f"pose + {motion}"
        spread = f"{min(int(size.min()) for size in sizes)} to {max(int(size.max()) for size in sizes)}"
        print(f"{name}: {len(sizes[0])} clusters of {spread} pairs, {len(found)} seeds", flush=True)
    return result


def localizer(bench: RecognitionBench, rows: Sequence[Row]) -> dict[str, Any]:
    """Train the heads of rows that have one; print and return how often they tell the cluster of training pairs."""
    result = {}
    for row in rows:
        if row.pooled is None:
            continue
        right = [bench.agreement(row, seed) for seed in bench.seeds]
        result[row.name] = right
        print(f"{row.name}: names {_spread(right)} % of the training pairs rightly", flush=True)
    return result


def table4(
    bench: RecognitionBench, rows: Sequence[Row], peers: PeerBench | None = None, names: Sequence[str] = ()
) -> dict[str, Any]:
    """Print Table 4; returns the content of --json.

    peers, names: the other systems and which of them; without them what the paper says of them is printed.
    """
    labels, count = bench.test.labels, len(bench.clips.classes)
    chance = 100 / len(labels.unique())
    print(f"Table 4: {bench.clips.described()}, seeds {list(bench.seeds)}, accuracy in percent, chance {chance:.1f}")
    print(f"{'':28}{'linear':>13}{'classes':>9}{'MLP':>13}{'classes':>9}{'mean':>13}{'paper':>7}")
    result: dict[str, Any] = {}
    right: dict[str, np.ndarray] = {}
    ours: Sequence[Tensor] | None = None
    for row in rows:
        trial = bench.trial(row)
        result[row.name] = about = _figures(trial, labels, count, row.paper)
        right[row.name] = _right(trial, labels)
        print(_line(row.name, about), flush=True)
        if row.name == FINAL:
            ours = trial.scores["MLP"]
    if peers is not None and names:
        result |= peer_rows(peers, ours, names)
    else:
        for name, paper in PAPER.items():
            print(f"{name:28}{'':57}{paper:>7.1f}")
    return {
        "table": 4,
        "data": bench.clips.described(),
        "chance": chance,
        "rows": result,
        "differences": _differences(right),
    }


def _figures(trial: Trial, labels: Tensor, count: int, paper: float | None) -> dict[str, Any]:
    """Top-1 and the mean over classes of each classifier and seed; "mean" is over linear and MLP."""
    found = {
        name: [dict(zip(("top1", "classes"), accuracies(x, labels, count), strict=True)) for x in scores]
        for name, scores in trial.scores.items()
    }
    both = [(a["top1"] + b["top1"]) / 2 for a, b in zip(found["linear"], found["MLP"], strict=True)]
    return {**found, "mean": both, "paper": paper}


def _right(trial: Trial, labels: Tensor) -> np.ndarray:
    """How often each test clip is named rightly, 0 to 1, over seeds and both classifiers: [N]."""
    named = torch.stack([x.argmax(1) for name in ("linear", "MLP") for x in trial.scores[name]])
    return (named == labels).double().mean(0).numpy()


def _line(name: str, about: Mapping[str, Any]) -> str:
    cells = ""
    for kind in ("linear", "MLP"):
        top1, classes = ([seed[field] for seed in about[kind]] for field in ("top1", "classes"))
        cells += f"{_spread(top1):>13}{np.mean(classes):>9.1f}"
    paper = "-" if about["paper"] is None else f"{about['paper']:.1f}"
    direct = f"  (sum of activations {_spread([seed['top1'] for seed in about['sum']])})" if "sum" in about else ""
    return f"{name:28}{cells}{_spread(about['mean']):>13}{paper:>7}{direct}"


def _spread(values: Sequence[float]) -> str:
    """The mean and, of several values, the standard deviation of a sample."""
    deviation = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{np.mean(values):.1f}{deviation}"


def _differences(right: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Print and return the differences between rows, with 95 % intervals over resampled test clips."""
    found = []
    for better, worse in DIFFERENCES:
        if better not in right or worse not in right:
            continue
        gain = 100 * (right[better] - right[worse])
        random = np.random.default_rng(0)
        samples = gain[random.integers(0, len(gain), (RESAMPLES, len(gain)))].mean(1)
        low, high = np.percentile(samples, (2.5, 97.5))
        found.append({"row": better, "minus": worse, "gain": gain.mean(), "low": low, "high": high})
        print(f"{better} minus {worse}: {gain.mean():+.1f} [{low:+.1f}, {high:+.1f}]")
    return found
