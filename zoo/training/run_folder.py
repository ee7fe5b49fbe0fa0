"""A training run's folder. The run can always be resumed by the same command, however it ended.

    recipe.json        the recipe, and how many items and which labels each data set has
    metrics.jsonl      a line per step: losses, learning rate, seconds of training
    validation.jsonl   a line per validation
    state.pt           everything that the next step needs, at the last checkpoint; with a checksum (see `state_file`)
    model/, best/      the averaged weights at that checkpoint, and at the best validation
    .lock              locked while a training works in the folder

All other parts of a checkpoint are on the disk before state.pt takes its name. Lines about later steps are dropped when
the run resumes.
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import re
import shutil
import time
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from dimofs.cli import InputError
from dimofs.files import read_json, replacing, write_json
from dimofs.zoo.training import state_file
from dimofs.zoo.training.trainer import Trainer

RECIPE, STATE, METRICS, VALIDATIONS, LOCK = "recipe.json", "state.pt", "metrics.jsonl", "validation.jsonl", ".lock"
MODEL, BEST = "model", "best"
# What a killed run may leave: the temporary names, with the process's number, of files and folders of a run.
_UNFINISHED = re.compile(r"\.(recipe\.json|state\.pt|metrics\.jsonl|validation\.jsonl|model|best)\.\d+\.part")


class RunFolder:
    """Where one run writes. best: the highest score of a validation so far, -1 before there is one."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.best = -1.0
        self._began, self._before = time.monotonic(), 0.0
        self._board: Any = None
        self._locked: TextIOWrapper | None = None

    def lock(self) -> None:
        """Keep other trainings out of the folder, which must exist, until `close` or the end of this process.

        InputError: another training is at work in it.
        """
        if self._locked is not None:
            return
        # A record lock belongs to one process: loader workers, which may live a little longer, do not inherit it.
        try:
            file = open(self.path / LOCK, "a", encoding="utf-8")  # noqa: SIM115
        except OSError as error:
            raise InputError(f"{self.path}: cannot write ({error.strerror}); give another --out") from error
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                file.close()
                remedy = "wait until it ends, or give another --out"
                raise InputError(f"{self.path}: another training is running in this folder; {remedy}") from error
            # Some network disks know no locks; training there is as safe as it was without them.
        self._locked = file

    def close(self) -> None:
        """Let other trainings into the folder."""
        if self._locked is not None:
            self._locked.close()
            self._locked = None

    def state(self, plan: dict) -> dict | None:
        """The last checkpoint of the run; None if it has none.

        InputError: the checkpoint is damaged, the run follows another plan, or the folder is not a run's. Of the plan
        only `steps` may change, to no fewer than are done.
        """
        path = self.path / STATE
        if not path.exists():
            self._check_foreign()
            return None
        if not (self.path / RECIPE).exists():
            raise InputError(f"{self.path / RECIPE}: absent beside {STATE}; restore it, or give another --out")
        _compare(self.path / RECIPE, plan)
        state = state_file.read(path)
        done = state["step"]
        if plan["steps"] < done:
            raise InputError(f"{path}: is at step {done}, beyond --steps {plan['steps']}; give that many or more")
        for file in (METRICS, VALIDATIONS):
            _rows(self.path / file, done)
        return state

    def _check_foreign(self) -> None:
        """InputError: the folder holds what a run would replace, but no run has written it."""
        names = [name for name in (METRICS, VALIDATIONS, MODEL, BEST) if (self.path / name).exists()]
        if names and not (self.path / RECIPE).exists():
            raise InputError(f"{self.path / names[0]}: is not part of a run, as {RECIPE} is absent; give another --out")

    def begin(self, plan: dict, step: int) -> None:
        """Lock the folder, write the plan, and clear away what earlier attempts wrote about the steps after `step`.

        InputError: another training is at work in the folder, or it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.path}: cannot make this folder ({error.strerror}); give another --out") from error
        if self._locked is None:
            self.lock()
            if (self.path / STATE).exists() and step == 0:
                raise InputError(f"{self.path}: another training has just ended here; give the same command again")
        for path in self.path.iterdir():
            if _UNFINISHED.fullmatch(path.name):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        write_json(self.path / RECIPE, plan)
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
            trainer.export(self.path / BEST, {"score": f"{score:.4f}"})

    def save(self, trainer: Trainer) -> None:
        """Write a checkpoint."""
        trainer.export(self.path / MODEL)
        for file in (METRICS, VALIDATIONS):
            _flush(self.path / file)
        with replacing(self.path / STATE) as temporary:
            state_file.write(temporary, trainer.state())


def recorded_dtype(out: str | Path) -> str | None:
    """The number format of the run that the folder `out` holds; None if it holds none. InputError: it is damaged."""
    path = Path(out) / RECIPE
    recipe = read_json(path) if path.exists() else None
    dtype = recipe.get("dtype") if isinstance(recipe, dict) else None
    return dtype if isinstance(dtype, str) else None


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
    """Drop the lines of a log after `step`, and the torn end that a killed run leaves; returns the rows left."""
    if not path.exists():
        return []
    rows = _rows(path, step)
    with replacing(path) as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return rows


def _rows(path: Path, step: int) -> list[dict]:
    """The rows of a log about the steps up to `step`; none if there is no such file.

    InputError: a line among them is damaged, or metrics, of which every step has a line, end before `step`.
    """
    if not path.exists():
        return []
    try:
        *lines, _torn = path.read_bytes().split(b"\n")
    except OSError as error:
        raise InputError(f"{path}: cannot read ({error.strerror})") from error
    every_step = path.name == METRICS
    rows: list[dict] = []
    last = 0
    for number, line in enumerate(lines, 1):
        if every_step and last == step:
            # A killed run may leave anything after the last line that its checkpoint needs.
            break
        row = _row(line, "step" if every_step else "score")
        if row is None or row["step"] <= last or (every_step and rows and row["step"] != last + 1):
            raise InputError(f"{path}: line {number} is damaged; restore the file, or delete it to resume without it")
        if row["step"] > step:
            break
        rows.append(row)
        last = row["step"]
    if every_step and rows and last < step:
        raise InputError(f"{path}: ends before step {step}; restore the file, or delete it to resume without it")
    return rows


def _row(line: bytes, field: str) -> dict | None:
    """The object of a line if it has a step and a number as `field`; else None."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or type(row.get("step")) is not int:
        return None
    numbers = [row.get(field), row.get("seconds", 0.0)]
    return row if all(type(n) in (int, float) and math.isfinite(n) for n in numbers) else None


def _compare(path: Path, plan: dict) -> None:
    """InputError, naming the field, unless the run's plan at `path` is `plan` except for its steps."""
    theirs, ours = read_json(path), json.loads(json.dumps(plan))
    if not isinstance(theirs, dict):
        raise InputError(f"{path}: not the recipe of a run; give another --out")
    if "labels" not in theirs:
        # Runs that were begun before digests of labels were recorded resume without them.
        ours.pop("labels", None)
    theirs, ours = _flat(theirs), _flat(ours)
    for field in [*ours, *theirs]:
        if field != "steps" and theirs.get(field) != ours.get(field):
            there, here = (json.dumps(values.get(field)) for values in (theirs, ours))
            remedy = "give the same options to resume it, or another --out"
            raise InputError(f"{path}: {field} is {there} in this run, {here} now; {remedy}")


def _flat(values: dict, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _tensorboard(path: Path, step: int) -> Any:
    """A writer of TensorBoard's files that forgets what is after `step`; None if TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(path), purge_step=step + 1)
