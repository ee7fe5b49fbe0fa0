"""The folder of a training run, which whatever kills the run leaves such that the same command goes on.

    recipe.json        the recipe, and how many items each data set has
    metrics.jsonl      a line a step: losses, learning rate, seconds of training
    validation.jsonl   a line a validation
    state.pt           all that the next step needs, at the last checkpoint
    model/, best/      the averaged weights at that checkpoint, and at the best validation

What a checkpoint consists of is on the disk before state.pt takes its name; lines of later steps are cut off when the
run goes on.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from pathlib import Path
from typing import Any

import torch

from dimofs.cli import InputError
from dimofs.files import read_json, replacing, write_json
from dimofs.zoo.training.trainer import Trainer

STATE, METRICS, VALIDATIONS = "state.pt", "metrics.jsonl", "validation.jsonl"


class RunFolder:
    """Where one run writes. best: the score of best/, -1 before there is one."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.best = -1.0
        self._began, self._before = time.monotonic(), 0.0
        self._board: Any = None

    def state(self, plan: dict) -> dict | None:
        """The last checkpoint of the run, None where it has none.

        InputError: it is damaged, or the run follows another plan; only `steps` may change, to no fewer than are done.
        """
        path = self.path / STATE
        if not path.exists():
            return None
        _compare(self.path / "recipe.json", plan)
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            done = int(state["step"])
        except Exception as error:  # torch's reader of damaged bytes raises a dozen types
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"{path}: damaged ({reason}); give another --out, or delete it to begin again") from error
        if plan["steps"] < done:
            raise InputError(f"{path}: is at step {done}, beyond --steps {plan['steps']}; give that many or more")
        return state

    def begin(self, plan: dict, step: int) -> None:
        """Write the plan, and clear away what earlier attempts wrote of the steps after `step`."""
        for unfinished in self.path.glob(".*.part"):
            shutil.rmtree(unfinished) if unfinished.is_dir() else unfinished.unlink()
        write_json(self.path / "recipe.json", plan)
        rows = _cut(self.path / METRICS, step)
        self._before = rows[-1].get("seconds", 0.0) if rows else 0.0
        self.best = max((row["score"] for row in _cut(self.path / VALIDATIONS, step)), default=-1.0)
        self._board = _tensorboard(self.path / "tensorboard", step)
        self._began = time.monotonic()

    def log(self, step: int, figures: dict[str, float], file: str = METRICS) -> None:
        """Add a line about `step`."""
        seconds = round(self._before + time.monotonic() - self._began, 1)
        _append(self.path / file, {"step": step, "seconds": seconds, **figures})
        if self._board is not None:
            for name, value in figures.items():
                self._board.add_scalar(f"{Path(file).stem}/{name}", value, step)

    def validated(self, trainer: Trainer, figures: dict[str, float]) -> None:
        """Add a line about a validation; its weights become best/ if its score is higher than any before."""
        score = trainer.task.score(figures)
        self.log(trainer.step, {"score": score, **figures}, VALIDATIONS)
        if score > self.best:
            self.best = score
            trainer.export(self.path / "best", {"score": f"{score:.4f}"})

    def save(self, trainer: Trainer) -> None:
        """Make a checkpoint."""
        trainer.export(self.path / "model")
        for file in (METRICS, VALIDATIONS):
            _flush(self.path / file)
        with replacing(self.path / STATE) as temporary:
            _write_state(trainer.state(), temporary)


def _write_state(state: dict, path: Path) -> None:
    try:
        with open(path, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
    except RuntimeError as error:  # what torch makes of a full disk
        raise OSError(str(error).splitlines()[0]) from error


def _append(path: Path, row: dict) -> None:
    """Add a line to a file. InputError: it cannot be written."""
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    except OSError as error:
        raise InputError(f"{path}: cannot write ({error.strerror}); free space, then give the same command") from error


def _flush(path: Path) -> None:
    """Have the disk hold what was written to a file."""
    if path.exists():
        with open(path, "rb") as file:
            os.fsync(file.fileno())


def _cut(path: Path, step: int) -> list[dict]:
    """Drop what stands in a file of lines after `step`, the torn end of a killed run too; returns the rows left."""
    if not path.exists():
        return []
    rows: list[dict] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            break
        if not isinstance(row, dict) or not row.get("step", math.inf) <= step:
            break
        rows.append(row)
    with replacing(path) as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return rows


def _compare(path: Path, plan: dict) -> None:
    """InputError, naming the field, unless the run's plan at `path` is `plan` in all but its steps."""
    theirs, ours = read_json(path), json.loads(json.dumps(plan))
    if not isinstance(theirs, dict):
        raise InputError(f"{path}: not the recipe of a run; give another --out")
    theirs, ours = _flat(theirs), _flat(ours)
    for field in [*ours, *theirs]:
        if field != "steps" and theirs.get(field) != ours.get(field):
            there, here = (json.dumps(values.get(field)) for values in (theirs, ours))
            remedy = "give the same options to go on, or another --out"
            raise InputError(f"{path}: {field} is {there} in this run, {here} now; {remedy}")


def _flat(values: dict, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _tensorboard(path: Path, step: int) -> Any:
    """A writer of TensorBoard's files that forgets what is after `step`; None where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(path), purge_step=step + 1)
