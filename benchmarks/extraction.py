"""Rate of `dimofs.zoo.extract` beside that of `dimofs.zoo.pose --delta 5` run video by video on the same clips.

    python -m benchmarks.extraction --clips DIR --most 8 --json extraction.json

Both take turns, clip by clip, in one process that has loaded both models, so that other work on the machine slows both
and starting a process counts for neither; nor does the first clip. Extraction writes the subject and its DiMoFs of
every pair of frames to an empty folder, poses their JSON lines and, as the command does, the film with poses. Seconds
of the CPU and of the clock are shown, and after each clip the largest memory so far.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch

from dimofs.cli import RESULT, Range, run
from dimofs.datasets.labelled_clips import LabelledClip, class_folders
from dimofs.eval.timing.history import conditions
from dimofs.files import write_json
from dimofs.zoo import checkpoints
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.jobs import Job, PoseOptions, plan_jobs, run_job
from dimofs.zoo.extract import ExtractWork
from dimofs.zoo.recognition.clip_options import ClipOptions


def main(
    *,
    clips: Annotated[Path, "folder that holds a folder of videos for each class"],
    most: Annotated[int, "use so many clips, spread over all", Range(2)] = 8,
    weights: Annotated[str, "the pose detector of both"] = "dimofs_mobile_v2",
    threads: Annotated[int, "threads of the CPU", Range(1, 1024)] = 1,
    json: Annotated[Path | None, "write the figures here", RESULT] = None,
) -> None:
    torch.set_num_threads(threads)
    found = class_folders(clips).clips
    chosen = [found[int(place)] for place in np.linspace(0, len(found) - 1, most)]
    with tempfile.TemporaryDirectory() as folder:
        seconds = timed(chosen, Path(folder), weights, threads)
    ratios = {clock: seconds["poses"][clock] / seconds["extraction"][clock] for clock in ("cpu", "wall")}
    for name, clocks in seconds.items():
        rate = (most - 1) / clocks["wall"]
        print(f"{name:12}{clocks['cpu']:8.1f} s of the CPU {clocks['wall']:8.1f} s, {rate:.3f} clips/s")
    print(f"extraction is {ratios['cpu']:.2f} times as fast by the CPU, {ratios['wall']:.2f} times by the clock")
    if json is not None:
        about = conditions("cpu", quick=False)
        write_json(json, {"seconds": seconds, "ratios": ratios, "clips": most - 1, "conditions": about})


def timed(clips: list[LabelledClip], folder: Path, weights: str, threads: int) -> dict[str, dict[str, float]]:
    """Seconds of the CPU and of the clock of both on these clips."""
    options = ClipOptions(weights=weights, cache=folder / "cache")
    extract = ExtractWork(options=options, device="cpu", threads=threads)()
    detector = checkpoints.load_as(PoseDetector, weights)
    how = PoseOptions(model=weights, delta=5, quiet=True)

    def poses(clip: LabelledClip) -> None:
        for job in plan_jobs([str(clip.path)], folder / "poses", "jsonl", True):
            assert isinstance(job, Job)
            run_job(job, detector, how)

    works: dict[str, Callable[[LabelledClip], object]] = {"extraction": extract, "poses": poses}
    for work in works.values():
        # What is done only once, such as oneDNN's choice of kernels, counts for neither.
        work(clips[0])
    seconds = {name: {"cpu": 0.0, "wall": 0.0} for name in works}
    for clip in clips[1:]:
        for name, work in works.items():
            cpu, wall = time.process_time(), time.perf_counter()
            work(clip)
            seconds[name]["cpu"] += time.process_time() - cpu
            seconds[name]["wall"] += time.perf_counter() - wall
        print(f"{clip.name}: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB at most", flush=True)
    return seconds


if __name__ == "__main__":
    run(main)
