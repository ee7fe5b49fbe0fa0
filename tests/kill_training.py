"""Kill trainings at random moments and resume them: nothing may be lost beyond the last checkpoint.

    python -m tests.kill_training FOLDER --moments 40 --ranks 1
    python -m tests.kill_training FOLDER --moments 40 --ranks 2

A small model is trained by the training command, alone or by two processes, in new folders below FOLDER. Each training
gets SIGKILL or SIGTERM at a random moment, in one of its processes or in all, and is then run again to its end. Its
weights, averages, optimizer and logs must be bit for bit those of a training that was never stopped. After SIGTERM the
last finished step must be saved, after SIGKILL that of the last multiple of --save-every. Prints a line per moment;
exits with 1 if one of them fails.
"""

import argparse
import json
import os
import random
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import torch

from dimofs.cli import run
from dimofs.zoo import train
from dimofs.zoo.presets import PRESETS
from dimofs.zoo.training import data, state_file
from dimofs.zoo.training.poses import POSE_RECIPES
from dimofs.zoo.training.recipes import RECIPES
from tests.support.scenes import Dots
from tests.support.tiny import TINY, TINY_POSES, tiny

STEPS, SAVE_EVERY = 12, 3
# Seconds after which a training hangs, and between SIGTERM and SIGKILL.
LONGEST, GRACE = 300.0, 10.0
OPTIONS = f"pose --synthetic 3 --steps {STEPS} --save-every {SAVE_EVERY} --validate 5 --held-out 2 --quiet --device cpu"


class Dotted(Dots):
    """Cheap pairs in place of synthetic clips."""

    def __init__(self, clips: int, seed: int = 0):
        super().__init__(apart=1)


def start(out: Path, ranks: int, workers: int) -> list[int]:
    """Begin or resume a training in `out`; returns the ids of its processes. What they say goes to `out`.log."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(ranks):
        process = os.fork()
        if process == 0:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            told = os.open(f"{out}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(told, 1)
            os.dup2(told, 2)
            os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(ranks)}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            run(train.main, [*OPTIONS.split(), f"--out={out}", f"--workers={workers}"])
        processes.append(process)
    return processes


def ends(processes: list[int]) -> list[int]:
    """The exit status of each process, negative after a signal. As torchrun does, once one has failed the others get
    SIGTERM, and SIGKILL if that does not end them. TimeoutError: processes hang though none has failed."""
    statuses: dict[int, int] = {}
    signals = [(0.0, signal.SIGTERM), (GRACE, signal.SIGKILL)]
    began, failed = time.monotonic(), None
    while len(statuses) < len(processes):
        for process in set(processes) - set(statuses):
            found, status = os.waitpid(process, os.WNOHANG)
            if found:
                statuses[process] = os.waitstatus_to_exitcode(status)
        now = time.monotonic()
        if failed is None and any(statuses.values()):
            failed = now
        hangs = failed is None and now - began > LONGEST
        while hangs or (failed is not None and signals and now - failed >= signals[0][0]):
            number = signal.SIGKILL if hangs else signals.pop(0)[1]
            for process in set(processes) - set(statuses):
                os.kill(process, number)
            if hangs:
                raise TimeoutError(f"{len(processes) - len(statuses)} processes hang")
        time.sleep(0.002)
    return [statuses[process] for process in processes]


def rows(path: Path) -> list[dict]:
    """The whole lines of a log without the times."""
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [{name: value for name, value in json.loads(line).items() if name != "seconds"} for line in lines]


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """The tensors and values of a state by name."""
    if isinstance(value, dict):
        pairs = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, (list, tuple)):
        pairs = [(str(number), item) for number, item in enumerate(value)]
    else:
        return {name: value}
    return {inner: item for key, part in pairs for inner, item in flat(part, f"{name}.{key}").items()}


def same(one: Path, other: Path) -> bool:
    """Whether two runs have learned the same, to the last bit, and logged the same."""
    a, b = (flat(state_file.read(folder / "state.pt")) for folder in (one, other))
    equal = [torch.equal(v, b[k]) if isinstance(v, torch.Tensor) else v == b[k] for k, v in a.items()]
    logs = [rows(one / name) == rows(other / name) for name in ("metrics.jsonl", "validation.jsonl")]
    return a.keys() == b.keys() and all(equal) and all(logs)


def fault_of(out: Path, whole: Path, ranks: int, delay: float, number: int, victims: list[int], workers: int) -> str:
    """What went wrong with a training that is killed after `delay` seconds and resumed; "" if nothing did."""
    processes = start(out, ranks, workers)
    time.sleep(delay)
    for victim in victims:
        os.kill(processes[victim], number)
    statuses = ends(processes)
    logged = rows(out / "metrics.jsonl")
    done = logged[-1]["step"] if logged else 0
    saved = state_file.read(out / "state.pt")["step"] if (out / "state.pt").exists() else 0
    # A step is logged before it is saved, so that SIGKILL may cut the checkpoint of the last step.
    expected = max(done - 1, 0) // SAVE_EVERY * SAVE_EVERY
    if number == signal.SIGTERM:
        expected = done
        if any(statuses[victim] not in (0, 143, -signal.SIGTERM) for victim in victims):
            return f"exit {statuses}"
    if saved < expected:
        return f"saved step {saved} of {done}"
    again = ends(start(out, ranks, workers))
    if again != [0] * ranks:
        return f"resuming ends with {again}"
    left = [path.name for path in out.rglob(".*.part")]
    if left:
        return f"leaves {left}"
    return "" if same(whole, out) else "ends with another result"


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("--moments", type=int, default=40)
    options.add_argument("--ranks", type=int, default=1, choices=(1, 2))
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    torch.set_num_threads(1)
    PRESETS["tiny"], RECIPES["mobile"], POSE_RECIPES["mobile"] = tiny, TINY, TINY_POSES
    # Drawing synthetic clips would take most of the time.
    data.Synthetic = Dotted
    given.folder.mkdir(parents=True, exist_ok=True)
    whole = given.folder / "whole"
    began = time.monotonic()
    if ends(start(whole, given.ranks, 0)) != [0] * given.ranks:
        print(Path(f"{whole}.log").read_text())
        return 1
    seconds, choose, faults = time.monotonic() - began, random.Random(given.seed), 0
    for moment in range(given.moments):
        delay, number = choose.uniform(0, 1.1 * seconds), choose.choice([signal.SIGKILL, signal.SIGTERM])
        victims = choose.choice([[0], [given.ranks - 1], list(range(given.ranks))])
        workers, out = choose.choice([0, 1]), given.folder / f"{moment}"
        fault = fault_of(out, whole, given.ranks, delay, number, victims, workers)
        faults += bool(fault)
        print(
            f"{moment}: {number.name} to {victims} after {delay:.2f} of {seconds:.2f} s: {fault or 'good'}", flush=True
        )
    print(f"{given.moments - faults} of {given.moments} good")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
