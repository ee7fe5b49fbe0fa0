"""Tracked poses of the people in a video.

    python -m dimofs.zoo.pose --video x.mp4
    python -m dimofs.zoo.pose --video a.mp4 b.mp4 'clips/*.mp4' --out results --no-overlay
    python -m dimofs.zoo.pose --video photos --format coco --score 0.05
    python -m dimofs.zoo.pose --video x.mp4 --aggregate 2
    python -m dimofs.zoo.pose --video x.mp4 --delta -5 --start 1 --end 2.5 --every 2 --device cpu
    python -m dimofs.zoo.pose --video x.mp4 --format posetrack --tracker detect-and-track --out results
    torchrun --nproc-per-node 2 -m dimofs.zoo.pose --video 'clips/*.mp4'

An input is a video file, an image, a folder, a quoted glob, a webcam's number or a URL. The images of a folder are one
clip of 25 frames a second in the order of their names; images named one by one are stills.

Beside each input, or in --out: NAME.poses.jsonl with a header line and then a line per frame,

    {"frame": 0, "time": 0.0, "people": [{"id": 0, "score": 0.98, "box": [x1, y1, x2, y2],
     "keypoints": [[x, y, confidence], ...]}]}

in pixels of the upright frame (centres at integer + 0.5) and seconds since the first frame, and NAME.poses.mp4 (.png
for a still) with the poses drawn in. The header of a video whose pixels are not square (DVD) has `pixel_aspect`: how
much wider than high they are shown. --format writes instead csv (NAME.poses.csv, a row per person), coco
(NAME.poses.json, one results list; image_id is the number in the image's name) or posetrack (NAME.json, a PoseTrack18
file).

With --delta D the poses of each frame are found in the features of the frame D later (earlier if negative; frames are
counted after --every), or of the last (first) frame where the clip ends before that. With --aggregate D joints are
placed by the frames D before and D after as well, which is slower and more accurate. A failing input is reported in one
line, the others go on, and the exit status is then 2. Ctrl-C ends a webcam or the current input with what it has.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from math import inf
from pathlib import Path
from time import perf_counter, sleep
from typing import Annotated, Literal

import torch
from torch.distributed.rendezvous import rendezvous
from tqdm import tqdm

from dimofs.ahead import ahead, behind
from dimofs.cli import InputError, check_choices, check_ranges, run
from dimofs.formats.writers import FORMATS, About
from dimofs.memory import keep_freed_memory
from dimofs.overlay import film, picture
from dimofs.sources import Source, printable, sources
from dimofs.tracking import NONE, TRACKERS, Tracker, follow, tracker_named
from dimofs.video import Clip, open_clip
from dimofs.zoo import checkpoints
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.stream import poses
from dimofs.zoo.devices import pick_device, rank_and_world

DTYPES = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16")}
DTYPES |= {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Job:
    """A source, and the files that its results go to."""

    source: Source
    results: Path
    overlay: Path | None


@dataclass(frozen=True)
class Settings:
    """How each job runs. model: its name; span: start and end in seconds, and every how many frames."""

    model: str
    delta: int
    aggregate: int
    batch: int
    dtype: torch.dtype
    tracker: Tracker
    span: tuple[float, float | None, int]
    format: str
    quiet: bool


def main(
    *,
    video: Annotated[list[str], "videos, images, folders, globs, webcam numbers or URLs"],
    out: Annotated[Path | None, "folder of the results (default: beside each input)"] = None,
    format: Annotated[Literal["jsonl", "csv", "coco", "posetrack"], "what to write"] = "jsonl",
    overlay: Annotated[bool, "also write the frames with their poses drawn in"] = True,
    weights: Annotated[str, "a shipped model, keypointrcnn_resnet50_fpn_coco, a folder or a .pth"] = "dimofs_mobile",
    delta: Annotated[int, "frames from the one whose poses are sought to the one that is looked at"] = 0,
    aggregate: Annotated[int, "place joints by the frames so many before and after, too"] = 0,
    score: Annotated[float | None, "lowest score of a person (default: 0.5; 0.05 for coco)"] = None,
    tracker: Annotated[str, f"how people are joined: {', '.join(TRACKERS)} (see dimofs.tracking)"] = "default",
    gate: Annotated[float | None, "highest cost at which people are joined (default: the tracker's)"] = None,
    patience: Annotated[int | None, "frames that a track may miss (default: the tracker's)"] = None,
    birth: Annotated[float | None, "people below this score go on a track but begin none (default: 0)"] = None,
    smooth: Annotated[float | None, "part of a track's last pose in the next, 0 to 1 (default: 0)"] = None,
    start: Annotated[float, "seconds to begin at"] = 0.0,
    end: Annotated[float | None, "seconds to end before"] = None,
    every: Annotated[int, "take each n-th frame"] = 1,
    device: Annotated[str | None, "cpu, cuda, cuda:1, ... (default: a GPU if there is one)"] = None,
    dtype: Annotated[str, f"type of the network's arithmetic: {', '.join(DTYPES)}"] = "float32",
    batch: Annotated[int | None, "frames at a time (default: 1 on a CPU, 8 on a GPU)"] = None,
    quiet: Annotated[bool, "no progress and no summary"] = False,
) -> int:
    """Run the model over every input of this rank. Returns the exit status: 2 if one failed."""
    rank, world = rank_and_world()
    where = pick_device(device)
    batch = batch if batch is not None else 8 if where.type == "cuda" else 1
    check_choices(dtype=(dtype, DTYPES))
    check_ranges(
        every=(every, 1, inf),
        batch=(batch, 1, inf),
        aggregate=(aggregate, 0, inf),
        start=(start, 0, inf),
        end=(end, start, inf),
    )
    joins = tracker_named(tracker, gate=gate, patience=patience, birth=birth, smooth=smooth)
    least = score if score is not None else 0.05 if format == "coco" else 0.5
    joins = replace(joins, score=max(joins.score, least))
    settings = Settings(weights, delta, aggregate, batch, DTYPES[dtype], joins, (start, end, every), format, quiet)

    mine = list(_jobs(video, out, format, overlay))[rank::world]
    failed = False
    for fault in mine:
        if isinstance(fault, InputError):
            failed = _report(fault)
    if todo := [job for job in mine if isinstance(job, Job)]:
        keep_freed_memory()
        detector = checkpoints.load_as(PoseDetector, weights, where)
        for job in todo:
            try:
                process(job, detector, settings)
            except InputError as fault:
                failed = _report(fault)
    _await_ranks(failed, world)
    return 2 if failed else 0


def _report(fault: InputError) -> bool:
    print(f"error: {fault}", file=sys.stderr)
    return True


def _jobs(inputs: list[str], out: Path | None, format: str, overlay: bool) -> Iterator[Job | InputError]:
    """What to do about the inputs, each source once; an error in place of one that cannot be done."""
    owners: dict[Path, Source] = {}
    for text in inputs:
        try:
            found = sources(text)
        except InputError as error:
            yield error
            continue
        for source in found:
            folder = out or source.folder
            results = folder / FORMATS[format][0].format(source.name)
            owner = owners.setdefault(results.absolute(), source)
            if owner is source:
                drawn = folder / f"{source.name}.poses.{'png' if source.still else 'mp4'}"
                yield Job(source, results, drawn if overlay else None)
            elif owner != source:
                yield InputError(
                    f"{source.text}: {owner.text} has results of that name; run it apart with another --out"
                )


def process(job: Job, detector: PoseDetector, settings: Settings) -> None:
    """Write the results of one source, whole or not at all; after Ctrl-C, of its frames until then."""
    clip, began, count, tracks = open_clip(job.source), perf_counter(), 0, NONE
    with ExitStack() as stack:
        stack.callback(clip.close)
        pressed = stack.enter_context(_ctrl_c())
        # Reading, the network and drawing overlap; the network is in this thread, as OpenMP is slower in others.
        frames = stack.enter_context(closing(ahead(clip.frames(*settings.span), 2 * settings.batch)))
        batch = 1 if job.source.live else settings.batch
        motion, aggregate = settings.tracker.motion, settings.aggregate
        # The tracker drops people below its threshold, so their joints need not be found; it applies the exact value.
        found = poses(
            detector,
            frames,
            settings.delta,
            batch,
            dtype=settings.dtype,
            motion=motion,
            aggregate=aggregate,
            min_score=settings.tracker.score - 1e-6,
        )
        results = stack.enter_context(closing(found))
        first = next(results)
        shape = first.frame.pixels.shape
        writers = [stack.enter_context(writer) for writer in _writers(job, clip, shape, detector, settings)]
        draw = stack.enter_context(behind(lambda *found: [write(*found) for write in writers], 2 * settings.batch))
        for frame, people, motion in _progress(chain([first], results), clip, settings):
            if frame.pixels.shape != shape:  # another photograph
                shape, tracks = frame.pixels.shape, replace(NONE, next_id=tracks.next_id)
            tracks, people = follow(tracks, people, settings.tracker, *shape[:2], motion)
            draw(frame, people)
            count += 1
            if pressed.is_set():
                break
    if clip.complaint:
        print(f"warning: {clip.complaint}", file=sys.stderr)
    if not settings.quiet:
        files = ", ".join(str(path) for path in (job.results, job.overlay) if path)
        rate = count / (perf_counter() - began)
        print(f"{job.source.text}: {count} frames, {tracks.next_id} tracks, {rate:.1f} frames/s -> {files}")
    if pressed.is_set() and not job.source.live:
        raise KeyboardInterrupt


def _progress(results: Iterable, clip: Clip, settings: Settings) -> Iterable:
    """The results under a bar on stderr; in a log it moves seldom."""
    total, pause = clip.count(*settings.span), 0.2 if sys.stderr.isatty() else 10.0
    name, off = clip.source.name, settings.quiet
    return tqdm(results, name, total, leave=False, unit="frame", disable=off, mininterval=pause, maxinterval=pause)


def _writers(job: Job, clip: Clip, shape: tuple[int, ...], detector: PoseDetector, settings: Settings):
    """The contexts that write the results of frames of this shape."""
    source = job.source
    about = About(
        source=source.text,
        name=printable(source.name),
        width=shape[1],
        height=shape[0],
        fps=clip.fps,
        keypoint_names=detector.keypoint_names,
        model=settings.model,
        delta=settings.delta,
        pixel_aspect=clip.pixel_aspect,
    )
    yield FORMATS[settings.format][1](job.results, about)
    if job.overlay:
        yield (picture if source.still else film)(job.overlay, about)


@contextmanager
def _ctrl_c() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets, so that no file is cut within a frame; a second Ctrl-C interrupts as usual."""
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed
        return

    def press(*_) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, usual)

    usual = signal.signal(signal.SIGINT, press)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, usual)


def _await_ranks(failed: bool, world: int) -> None:
    """torchrun ends all ranks when one fails: a rank that has failed stays until the others are done."""
    if world == 1 or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return
    store, _, _ = next(iter(rendezvous("env://")))
    done = store.add("dimofs.pose", 1)
    while failed and done < world:
        sleep(0.2)
        done = store.add("dimofs.pose", 0)


if __name__ == "__main__":
    run(main)
