"""Poses of one input after the other: which files each input's results go to, and the run that writes them."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from time import perf_counter

import torch
from tqdm import tqdm

from dimofs.ahead import ahead, behind
from dimofs.cli import InputError
from dimofs.detections import Detections
from dimofs.files import check_writable, replacing
from dimofs.formats.partial import partial_path
from dimofs.formats.writers import FORMATS, About, Write, check_own
from dimofs.interrupts import StopRequest, stop_requests
from dimofs.overlay import film, picture
from dimofs.pages.player import page, plain_film
from dimofs.sources import Source, printable, sources
from dimofs.tracking import TRACKERS, Tracker
from dimofs.video import Clip, Frame, open_clip
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.stream import Found, poses, reduced, tracked

# For each value of --format the name of the results, made from that of the source.
NAMES = {format: name for format, (name, _) in FORMATS.items()} | {"html": "{}.poses.html"}


@dataclass(frozen=True, kw_only=True)
class Job:
    """A source, and the files that its results go to."""

    source: Source
    results: Path
    overlay: Path | None

    @property
    def outputs(self) -> list[Path]:
        """The results and, where asked for, the overlay."""
        return [self.results] if self.overlay is None else [self.results, self.overlay]


@dataclass(frozen=True, kw_only=True)
class PoseOptions:
    """How each job runs.

    model: the name of the weights, for the header of the results.
    delta, aggregate, dtype: see `stream.poses`. batch: frames that go through the network together.
    start, end: the part of the source in seconds; every: take each n-th frame of it.
    format: a key of `NAMES`. embed: a page holds its film. quiet: no progress and no summary.
    """

    model: str = ""
    delta: int = 0
    aggregate: int = 0
    batch: int = 1
    dtype: torch.dtype = torch.float32
    tracker: Tracker = field(default_factory=lambda: TRACKERS["default"])
    start: float = 0.0
    end: float | None = None
    every: int = 1
    format: str = "jsonl"
    embed: bool = False
    quiet: bool = False


def plan_jobs(inputs: Iterable[str], out: Path | None, format: str, overlay: bool) -> Iterator[Job | InputError]:
    """A job for each source that the inputs name, each source once; an error in place of one that cannot be done."""
    owners: dict[Path, Source] = {}
    for text in inputs:
        try:
            found = sources(text)
        except InputError as error:
            yield error
            continue
        for source in found:
            folder = out or source.folder
            results = folder / NAMES[format].format(source.name)
            owner = owners.setdefault(results.absolute(), source)
            if owner is source:
                drawn = folder / f"{source.name}.poses.{'png' if source.still else 'mp4'}"
                # A page shows the images themselves.
                wanted = overlay and not (format == "html" and source.images)
                yield Job(source=source, results=results, overlay=drawn if wanted else None)
            elif owner != source:
                yield InputError(
                    f"{source.text}: {owner.text} has results of that name; run it apart with another --out"
                )


def is_done(job: Job, options: PoseOptions) -> bool:
    """Whether all outputs of a job are there and whole. JSON lines must also be from this model and delta."""
    if not all(path.is_file() for path in job.outputs):
        return False
    if options.format != "jsonl":
        return True
    try:
        with job.results.open(encoding="utf-8") as file:
            header = json.loads(file.readline(2**20))
    except (OSError, ValueError):
        return False
    made = (header.get("model"), header.get("delta")) if isinstance(header, dict) else None
    return made == (options.model, options.delta)


def run_job(job: Job, detector: PoseDetector, options: PoseOptions) -> None:
    """Write the results of one source.

    Files appear whole under their names. A signal to stop ends a webcam as its end would; of other sources the results
    so far are kept under the names of `partial_path`, and `Stopped` is raised.
    InputError: the source cannot be read or a file not be written; in the latter case before any frame is read.
    """
    for path in job.outputs:
        check_writable(path)
    if options.format == "posetrack":
        check_own(job.results)
    began = perf_counter()
    with stop_requests() as request, closing(open_clip(job.source)) as clip:
        request.raise_if_set()
        frames, tracks, stopped = _write_all(job, clip, detector, options, request)
        outputs = [partial_path(path) if stopped else _publish(path) for path in job.outputs]
    if clip.complaint:
        print(f"warning: {clip.complaint}", file=sys.stderr)
    if not options.quiet:
        rate = frames / (perf_counter() - began)
        files = ", ".join(map(str, outputs))
        print(f"{job.source.text}: {frames} frames, {tracks} tracks, {rate:.1f} frames/s -> {files}")
    if not (job.source.live and request.signal == signal.SIGINT):
        request.raise_if_set()


def _write_all(
    job: Job, clip: Clip, detector: PoseDetector, options: PoseOptions, request: StopRequest
) -> tuple[int, int, bool]:
    """Write the outputs under their partial names. Returns how many frames and tracks there are, and whether a request
    to stop ended the source early."""
    count = tracks = 0
    with ExitStack() as stack:
        # Reading, the network and drawing overlap. The network stays in this thread: OpenMP is slower in others.
        source = stack.enter_context(closing(clip.frames(options.start, options.end, options.every)))
        first = next(source)
        size, depth = first.size, 2 * options.batch
        writers = [stack.enter_context(writer) for writer in _writers(job, clip, size, detector, options)]
        draw = stack.enter_context(behind(lambda *found: [write(*found) for write in writers], depth))
        frames = stack.enter_context(closing(ahead(map(reduced, chain([first], source)), depth)))
        found = stack.enter_context(closing(_poses(job, detector, frames, options)))
        progress = _progress(found, clip, options)
        for frame, people, _ in tracked(progress, options.tracker, fps=clip.fps, apart=job.source.still):
            draw(frame, people)
            count += 1
            tracks = max([tracks, *(1 + track for track in _ids(people))])
            if request:
                return count, tracks, not job.source.live
    return count, tracks, False


def _ids(people: Detections) -> list[int]:
    return [] if people.ids is None else people.ids.tolist()


def _poses(job: Job, detector: PoseDetector, frames: Iterable[Frame], options: PoseOptions) -> Generator[Found]:
    return poses(
        detector,
        frames,
        options.delta,
        batch=1 if job.source.live else options.batch,
        dtype=options.dtype,
        motion=options.tracker.motion,
        aggregate=options.aggregate,
        # The tracker drops people below its threshold, so their joints need not be found. It applies the exact value.
        min_score=options.tracker.least - 1e-6,
    )


def _progress(found: Iterable[Found], clip: Clip, options: PoseOptions) -> Iterable[Found]:
    """The results under a progress bar on stderr, which moves rarely where stderr is a log."""
    total = clip.count(options.start, options.end, options.every)
    pause = 0.2 if sys.stderr.isatty() else 10.0
    name, off = clip.source.name, options.quiet
    return tqdm(found, name, total, leave=False, unit="frame", disable=off, mininterval=pause, maxinterval=pause)


def _writers(
    job: Job, clip: Clip, size: tuple[int, int], detector: PoseDetector, options: PoseOptions
) -> Iterator[AbstractContextManager[Write]]:
    """The contexts that write the results of frames of this (height, width)."""
    about = About(
        source=job.source.text,
        name=printable(job.source.name),
        width=size[1],
        height=size[0],
        fps=clip.fps,
        keypoint_names=detector.keypoint_names,
        limbs=detector.limbs,
        model=options.model,
        delta=options.delta,
        pixel_aspect=clip.pixel_aspect,
    )
    if options.format == "html":
        yield page(partial_path(job.results), about, job.source, job.overlay, options.embed)
    else:
        yield FORMATS[options.format][1](partial_path(job.results), about)
    if job.overlay:
        draw = picture if job.source.still else plain_film if options.format == "html" else film
        yield draw(partial_path(job.overlay), about)


def _publish(path: Path) -> Path:
    """Give a whole output its name. InputError: it cannot be written."""
    with replacing(path) as temporary:
        shutil.move(partial_path(path), temporary)
    return path
