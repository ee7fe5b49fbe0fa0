"""What was to become faster, beside the version before, in one run: ratios, memory, and what was aimed at.

    git worktree add --detach ../before 023ed3a
    python -m benchmarks.targets --before ../before --json benchmarks/2026-11-28-targets.json

Each version computes in a process of its own, on one thread, and takes turns with the other, so that other work on the
machine slows both. Times are medians of CPU time. The other version computes in float32; MoveNet has random weights,
which take the same time. Peak memory is that of `dimofs.zoo.pose` on 48 frames of full HD, with the film it writes, and
of `import torch` alone. --carry keeps what `dimofs.eval.carry --json` wrote in the same file.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch

from dimofs.cli import InputError, Range, run
from dimofs.files import read_json, write_json

ROOT = Path(__file__).resolve().parents[1]
# What a worker runs: this file by its path, with the package of the version that it measures.
WORKER = [sys.executable, __file__, "--work"]
PEAK = """
import re, sys
from pathlib import Path
import torch
if len(sys.argv) > 1:
    from dimofs.zoo import pose
    pose.main(video=[sys.argv[1]], out=Path(sys.argv[2]), device="cpu", quiet=True)
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024)
"""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A row of the table: what was measured, beside what, and the number that was aimed at.

    ours, other: milliseconds, or megabytes. measured: ours / other, or other / ours where `least` holds.
    least: the target is the least and not the most.
    """

    name: str
    beside: str
    ours: float
    other: float
    target: float
    least: bool = False

    @property
    def measured(self) -> float:
        return self.other / self.ours if self.least else self.ours / self.other

    @property
    def reached(self) -> bool:
        return self.measured >= self.target if self.least else self.measured <= self.target


# --- what is timed; only calls that both versions have ---


def work(name: str) -> Callable[[], object]:
    """What is timed under this name."""
    from dimofs.memory import keep_freed_memory

    keep_freed_memory(2**31 - 1)
    torch.set_num_threads(1)
    what, _, dtype = name.partition(" ")
    return {"train": _training, "all": _training}.get(what, _finding)(what, dtype or "float32")


def _finding(what: str, dtype: str) -> Callable[[], object]:
    from dimofs.datasets.synthetic.clips import synthetic_clip
    from dimofs.zoo import checkpoints
    from dimofs.zoo.presets import movenet_multipose

    frames = torch.from_numpy(synthetic_clip(3, length=3, height=540, width=960).frames).permute(0, 3, 1, 2)
    detector: Any = checkpoints.load("dimofs_mobile").eval()
    movenet = movenet_multipose().eval()

    @torch.inference_mode()
    def call() -> object:
        with torch.autocast("cpu", getattr(torch, dtype), enabled=dtype != "float32"):
            if what == "movenet":
                return movenet((detector.preprocess(frames[:1])[0] + 1) / 2)
            features = detector.features(frames[2:])
            a = start if what == "pair" else features
            return detector.detect(a, features if what == "pair" else None, min_score=0.5)

    with torch.inference_mode():
        start = detector.features(frames[:1])
    return call


def _training(what: str, dtype: str) -> Callable[[], object]:
    import numpy as np

    from dimofs.datasets.augment.mixture import collate
    from dimofs.datasets.synthetic.clips import Synthetic
    from dimofs.zoo.training.initialize import variant_of
    from dimofs.zoo.training.poses import PairBatch, PoseRecipe, PoseTask
    from dimofs.zoo.training.recipes import RECIPES
    from dimofs.zoo.training.trainer import Trainer

    source, random = Synthetic(8, height=384, width=384, people=(2, 4)), np.random.default_rng(0)
    batch = PairBatch(*collate([source.pair(i, random) for i in range(8)]))
    arguments = {"variant": variant_of("dimofs_mobile")}
    task = PoseTask(recipe=PoseRecipe(single=0.0, arguments=arguments), sources={})
    model = task.build()
    task.start(model, "dimofs_mobile")
    recipe = RECIPES["mobile"].changed(dtype=dtype, learning_rate=0.0, frozen=() if what == "all" else None)
    trainer = Trainer(task, model, recipe)
    return lambda: trainer.update([batch])


def serve() -> None:
    """Time what stdin names, line by line, and print seconds of the CPU."""
    known: dict[str, Callable[[], object]] = {}
    for line in sys.stdin:
        name = line.strip()
        if name not in known:
            known.clear()
            known[name] = work(name)
        began = time.process_time()
        known[name]()
        print(time.process_time() - began, flush=True)


# --- the run ---


def environment(root: Path) -> dict[str, str]:
    """The variables of a process on one thread that imports the package of the checkout `root`."""
    return {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}


class Version:
    """A process that times one version of the package."""

    def __init__(self, root: Path):
        self.process = subprocess.Popen(WORKER, env=environment(root), stdin=-1, stdout=-1, text=True)

    def __enter__(self) -> Version:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def seconds(self, name: str) -> float:
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None and stdout is not None
        stdin.write(name + "\n")
        stdin.flush()
        return float(stdout.readline())


def compared(ours: tuple[Version, str], other: tuple[Version, str], times: int, rest: float) -> tuple[float, float]:
    """Median milliseconds of both, in turns, after a first one that prepares. rest: seconds between turns."""
    for version, name in (ours, other):
        version.seconds(name)
    turns = []
    for _ in range(times):
        turns.append([version.seconds(name) for version, name in (ours, other)])
        time.sleep(rest)
    first, second = (1e3 * median(side) for side in zip(*turns, strict=True))
    return first, second


def timed(now: Version, before: Version, times: int, rest: float) -> list[Target]:
    """The rows of whole frames and of training steps."""
    plans = [
        ("every frame", "single", "before", 0.70, 9),
        ("pairs of frames", "pair", "before", 0.60, 9),
        ("training step, frozen backbone", "train", "before", 0.70, 3),
        ("training step, all trained", "all", "before", 0.60, 3),
    ]
    rows = []
    for name, what, beside, target, count in plans:
        for dtype in ("float32", "bfloat16"):
            ours, other = compared((now, f"{what} {dtype}"), (before, f"{what} float32"), min(times, count), rest)
            rows.append(Target(name=f"{name}, {dtype}", beside=beside, ours=ours, other=other, target=target))
    for dtype in ("float32", "bfloat16"):
        ours, other = compared((now, f"single {dtype}"), (now, f"movenet {dtype}"), min(times, 9), rest)
        name = f"every frame, {dtype}"
        rows.append(Target(name=name, beside="MoveNet", ours=ours, other=other, target=0.80, least=True))
    return rows


def kernels(seconds: float) -> list[Target]:
    """The rows of operators beside torchvision's, and of `correlate` beside unfold and multiply: time and memory."""
    from dimofs.eval.timing.case import peak_memory, time_case
    from dimofs.eval.timing.inputs import normal
    from dimofs.eval.timing.kernels import one_roi_cases, pyramid_cases
    from dimofs.kernels.correlate import correlate

    torch.set_num_threads(1)
    a, b = (normal(1, 64, 72, 128, seed=seed) for seed in (0, 1))

    def unfolded() -> torch.Tensor:
        around = torch.nn.functional.unfold(b, 9, padding=4).view(1, 64, 81, 72, 128)
        return (a[:, :, None] * around).sum(dim=1)

    rows = []
    for case, target in ((next(pyramid_cases(1000, 7, "cpu")), 10.0), (next(one_roi_cases("cpu")), 1.0)):
        row = time_case(case, 1e10, seconds)
        rows.append((f"{case.name}, {case.shape}", "torchvision", row["ours_ms"], row["peer_ms"], target))
    for _ in range(2):
        times = [[_took(call) for call in (lambda: correlate(a, b, 4), unfolded)] for _ in range(9)]
    ours, other = (1e3 * median(side) for side in zip(*times, strict=True))
    rows.append(("correlate, 64x72x128, radius 4", "unfold and multiply", ours, other, 3.0))
    memory = [peak_memory(call) / 1e6 for call in (lambda: correlate(a, b, 4), unfolded)]
    rows.append(("correlate, memory in MB", "unfold and multiply", *memory, 4.0))
    names = ("name", "beside", "ours", "other", "target")
    return [Target(**dict(zip(names, row, strict=True)), least=True) for row in rows]


def _took(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def memory(before: Path) -> list[Target]:
    """The rows of peak memory: of this version, of the one before, and of PyTorch alone."""
    import torch.nn.functional as F

    from dimofs.datasets.synthetic.clips import HELD_OUT, synthetic_clip
    from dimofs.eval.timing.models import write_video

    clip = synthetic_clip(HELD_OUT, length=48, height=288, width=512, people=(4, 6))
    frames = F.interpolate(torch.from_numpy(clip.frames).permute(0, 3, 1, 2) / 255, (1080, 1920), mode="bilinear")

    def peak(root: Path, folder: str, *arguments: str) -> float:
        command = [sys.executable, "-c", PEAK, *arguments]
        done = subprocess.run(command, env=environment(root), cwd=folder, stdout=-1, check=True, text=True)
        return float(done.stdout.split()[-1])

    with TemporaryDirectory() as folder:
        video = str(write_video(Path(folder) / "x.mp4", frames))
        del frames
        now, then, alone = peak(ROOT, folder, video, folder), peak(before, folder, video, folder), peak(ROOT, folder)
    name = "pose on full HD, peak MB"
    return [
        Target(name=name, beside="600 MB", ours=now, other=600.0, target=1.0),
        Target(name=name, beside="before", ours=now, other=then, target=1.0),
        Target(name=name, beside="import torch", ours=now, other=alone, target=1.0),
    ]


def main(
    *,
    before: Annotated[Path, "a checkout of the version to compare with"],
    carry: Annotated[Sequence[Path], "files of dimofs.eval.carry, whose rows are kept, too"] = (),
    times: Annotated[int, "turns of each pair, of training steps 3", Range(1, 1000)] = 9,
    rest: Annotated[float, "seconds between turns, in which other work has the machine", Range(0, 60)] = 0.0,
    json: Annotated[Path | None, "write the rows, machine and versions to this file"] = None,
) -> None:
    from dimofs.eval.timing.history import conditions

    if not (before / "dimofs" / "__init__.py").is_file():
        raise InputError(f"--before {before}: no checkout of dimofs; make one with git worktree add")
    carried = {file.stem: read_json(file) for file in carry}
    with ExitStack() as stack:
        now, then = (stack.enter_context(Version(root)) for root in (ROOT, before.resolve()))
        rows = timed(now, then, times, rest)
    rows += [*kernels(2.0), *memory(before.resolve())]
    for row in rows:
        print(line(row))
    if json is not None:
        found = [asdict(row) | {"measured": row.measured, "reached": row.reached} for row in rows]
        write_json(json, {"conditions": conditions("cpu", False), "targets": found, "carry": carried})


def line(row: Target) -> str:
    """A row as text."""
    sign, verdict = (">=" if row.least else "<="), ("reached" if row.reached else "missed")
    numbers = f"{row.ours:9.1f} {row.other:9.1f} {row.measured:7.2f} {sign} {row.target:<5.2f} {verdict}"
    return f"{row.name:42} {row.beside:20} {numbers}"


if __name__ == "__main__":
    if sys.argv[1:] == ["--work"]:
        serve()
    else:
        run(main)
