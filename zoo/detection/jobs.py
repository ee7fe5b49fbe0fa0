"""Poses of one input after the other: which files each input's results go to, and the run that writes them."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from time import perf_counter

import torch
from tqdm import tqdm

from dimofs import flow_folder
from dimofs.ahead import ahead, behind
from dimofs.cli import InputError
from dimofs.detections import Detections
from dimofs.drawing import USUAL, Style
from dimofs.files import check_writable, replacing
from dimofs.formats.partial import partial_path
from dimofs.formats.writers import FORMATS, STDOUT, About, Write, check_own
from dimofs.interrupts import StopRequest, stop_requests
from dimofs.motion import Motion
from dimofs.overlay import Pen, film, picture, pictures, with_motion
from dimofs.pages.player import page, plain_film
from dimofs.selection import EVERYBODY, Selection
from dimofs.smoothing import OneEuro
from dimofs.sources import Source, printable, sources
from dimofs.stopwatch import Stopwatch
from dimofs.tracking import TRACKERS, Tracker
from dimofs.video import Clip, Frame, open_clip, warn_of_damage
from dimofs.window import Window
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.stream import Found, poses, reduced, tracked

# For each value of --format the name of the results, made from that of the source.
NAMES = {format: name for format, (name, _) in FORMATS.items()} | {"html": "{}.poses.html"}


@dataclass(frozen=True, kw_only=True)
class Job:
    """A source, and where its results go.

    results: the file of the poses, or `STDOUT`. overlay: the film, or the picture of a still. pictures: the folder of
    the drawn frames. motion: the folder of flow files. The last three are None where nobody asked for them.
    """

    source: Source
    results: Path
    overlay: Path | None
    pictures: Path | None = None
    motion: Path | None = None

    @property
    def streamed(self) -> bool:
        """Whether the results go to standard output."""
        return self.results == STDOUT

    @property
    def outputs(self) -> list[Path]:
        """The files that take their names when all is done."""
        files = [] if self.streamed else [self.results]
        return files if self.overlay is None else [*files, self.overlay]


@dataclass(frozen=True, kw_only=True)
class PoseOptions:
    """How each job runs.

    model: the name of the weights, for the header of the results.
    delta, aggregate, keyframe, dtype: see `stream.poses`. batch: frames that go through the network together.
    start, end: the part of the source in seconds; every: take each n-th frame of it.
    select: the people who are kept. apart: the images of a folder are photographs, not the frames of a clip.
    smooth: lowest cutoff of a One-Euro filter on the joints, Hz. style: what is drawn. motion: draw motion, too.
    save_motion: the kind of flow files, as `flow_folder.saving` has it.
    format: a key of `NAMES`. embed: a page holds its film. show: also show the frames in a window. profile: also tell
    the time of each stage. quiet: no progress and no summary.
    """

    model: str = ""
    delta: int = 0
    aggregate: int = 0
    keyframe: int = 1
    batch: int = 1
    dtype: torch.dtype = torch.float32
    tracker: Tracker = field(default_factory=lambda: TRACKERS["default"])
    start: float = 0.0
    end: float | None = None
    every: int = 1
    select: Selection = EVERYBODY
    apart: bool = False
    smooth: float | None = None
    style: Style = USUAL
    motion: bool = False
    save_motion: str | None = None
    format: str = "jsonl"
    embed: bool = False
    show: bool = False
    profile: bool = False
    quiet: bool = False

    @property
    def onward(self) -> int:
        """How many frames the motion that is drawn or saved spans; 0 where neither is asked for."""
        return (self.delta or 1) if self.motion or self.save_motion else 0


def plan_jobs(
    inputs: Iterable[str],
    out: Path | None,
    format: str,
    overlay: bool,
    *,
    apart: bool = False,
    each: bool = False,
    motion: bool = False,
) -> Iterator[Job | InputError]:
    """A job for each source that the inputs name, each source once; an error in place of one that cannot be done.

    apart: the images of a folder are photographs, whose overlay is a picture of each. each: write every drawn frame of
    videos as a picture, too. motion: write the motion of videos.
    """
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
            if source.piped and out is None:
                yield _to_stdout(source, format, motion)
                continue
            owner = owners.setdefault(results.absolute(), source)
            if owner is source:
                photos = apart and bool(source.images) and not source.still
                drawn = folder / f"{source.name}.poses.{'png' if source.still else 'mp4'}"
                # A page shows the images themselves.
                wanted = overlay and not (format == "html" and source.images)
                pictures = folder / f"{source.name}.poses"
                yield Job(
                    source=source,
                    results=results,
                    overlay=drawn if wanted and not photos else None,
                    pictures=pictures if each or (wanted and photos) else None,
                    motion=folder / f"{source.name}.motion" if motion and not source.still else None,
                )
            elif owner != source:
                yield InputError(
                    f"{source.text}: {owner.text} has results of that name; run it apart with another --out"
                )


def _to_stdout(source: Source, format: str, motion: bool) -> Job | InputError:
    """The job of standard input, whose results go to standard output."""
    if format == "html":
        return InputError(f"{source.text}: a page is written to a file; name its folder with --out")
    if motion:
        return InputError(f"{source.text}: motion is written to files; name their folder with --out")
    return Job(source=source, results=STDOUT, overlay=None)


def is_done(job: Job, options: PoseOptions) -> bool:
    """Whether all outputs of a job are there and whole. JSON lines must also be from this model and delta."""
    if job.streamed or not all(path.is_file() for path in job.outputs) or (job.motion and not job.motion.is_dir()):
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
    if options.format == "posetrack" and not job.streamed:
        check_own(job.results)
    if job.motion:
        flow_folder.check_folder(job.motion)
    began = perf_counter()
    watch = Stopwatch(torch.cuda.synchronize if torch.cuda.is_available() else None) if options.profile else None
    with stop_requests() as request, closing(open_clip(job.source)) as clip:
        request.raise_if_set()
        frames, tracks, stopped = _write_all(job, clip, detector, options, request, watch)
        outputs = [partial_path(path) if stopped else _publish(path) for path in job.outputs]
        if job.motion:
            partial = partial_path(job.motion)
            outputs.append(partial if stopped else flow_folder.publish(partial, job.motion))
    warn_of_damage(clip)
    if not options.quiet:
        _summarize(job, frames, tracks, perf_counter() - began, outputs, watch)
    if not (job.source.live and request.signal == signal.SIGINT):
        request.raise_if_set()


def _summarize(
    job: Job, frames: int, tracks: int, seconds: float, outputs: Sequence[Path], watch: Stopwatch | None
) -> None:
    """Print what was done, on stderr where the results are on stdout."""
    where = [*outputs, *([job.pictures] if job.pictures else [])]
    files = f" -> {', '.join(map(str, where))}" if where else ""
    stream = sys.stderr if job.streamed else sys.stdout
    print(f"{job.source.text}: {frames} frames, {tracks} tracks, {frames / seconds:.1f} frames/s{files}", file=stream)
    if watch is not None:
        print(f"ms per frame: {watch.per(frames)} (read and write beside the network)", file=stream)


def _write_all(
    job: Job,
    clip: Clip,
    detector: PoseDetector,
    options: PoseOptions,
    request: StopRequest,
    watch: Stopwatch | None,
) -> tuple[int, int, bool]:
    """Write the outputs under their partial names. Returns how many frames and tracks there are, and whether a request
    to stop, or the reader who closed the window, ended the source early."""
    count = tracks = 0
    with ExitStack() as stack:
        # Reading, the network and drawing overlap. The network stays in this thread: OpenMP is slower in others.
        source = stack.enter_context(closing(clip.frames(options.start, options.end, options.every)))
        first = next(source)
        size, depth = first.size, 2 * options.batch
        writers = [stack.enter_context(writer) for writer in _writers(job, clip, size, detector, options)]
        save = stack.enter_context(_saving(job, options))
        draw = stack.enter_context(behind(_all_of(writers, save, options, watch), depth))
        read = chain([first], source if watch is None else watch.each("read", source))
        frames = stack.enter_context(closing(ahead(map(reduced, read), depth)))
        found = stack.enter_context(closing(_poses(job, detector, frames, options, watch)))
        window = stack.enter_context(Window(job.source.text)) if options.show else None
        pen = Pen(detector.limbs, detector.keypoint_names, options.style)
        photos = job.source.still or (options.apart and bool(job.source.images))
        smooth = None if options.smooth is None or photos else OneEuro(options.smooth)
        progress = _progress(found, clip, options)
        for frame, people, _, motion in tracked(progress, options.tracker, options.select, fps=clip.fps, apart=photos):
            if smooth is not None:
                people = smooth(people, frame.time)
            draw(frame, people, motion)
            count += 1
            tracks = max([tracks, *(1 + track for track in _ids(people))])
            if request or (window is not None and not window.show(pen.draw(_moving(frame, motion, options), people))):
                return count, tracks, not job.source.live
    return count, tracks, False


def _all_of(
    writers: Sequence[Callable[..., None]],
    save: flow_folder.Save | None,
    options: PoseOptions,
    watch: Stopwatch | None,
) -> Callable[[Frame, Detections, Motion | None], None]:
    """The writers as one, that of the results first and those of drawn frames after it, and what saves motion."""
    results, *overlays = writers

    def write(frame: Frame, people: Detections, motion: Motion | None) -> None:
        with nullcontext() if watch is None else watch("write"):
            if options.format == "html":
                results(frame, people, motion=motion)
            else:
                results(frame, people)
            shown = _moving(frame, motion, options) if overlays else frame
            for one in overlays:
                one(shown, people)
            if save is not None and motion is not None:
                save(frame, motion)

    return write


def _moving(frame: Frame, motion: Motion | None, options: PoseOptions) -> Frame:
    """The frame with its motion drawn in, if that is asked for and there is any; a page draws it itself."""
    if motion is None or not options.motion or options.format == "html":
        return frame
    return with_motion(frame, motion, options.onward)


def _saving(job: Job, options: PoseOptions) -> AbstractContextManager[flow_folder.Save | None]:
    if job.motion is None or options.save_motion is None:
        return nullcontext()
    return flow_folder.saving(partial_path(job.motion), options.save_motion)


def _ids(people: Detections) -> list[int]:
    return [] if people.ids is None else people.ids.tolist()


def _poses(
    job: Job, detector: PoseDetector, frames: Iterable[Frame], options: PoseOptions, watch: Stopwatch | None
) -> Generator[Found]:
    return poses(
        detector,
        frames,
        options.delta,
        batch=1 if job.source.live else options.batch,
        dtype=options.dtype,
        motion=options.tracker.motion,
        onward=0 if options.apart and job.source.images else options.onward,
        aggregate=options.aggregate,
        keyframe=options.keyframe,
        # The tracker drops people below its threshold, so their joints need not be found. It applies the exact value.
        min_score=options.tracker.least - 1e-6,
        watch=watch,
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
        onward = options.onward if options.motion else 0
        yield page(partial_path(job.results), about, job.source, job.overlay, options.embed, onward)
    else:
        yield FORMATS[options.format][1](STDOUT if job.streamed else partial_path(job.results), about)
    if job.overlay:
        path = partial_path(job.overlay)
        if options.format == "html" and not job.source.still:
            yield plain_film(path, about)
        else:
            yield (picture if job.source.still else film)(path, about, options.style)
    if job.pictures:
        yield pictures(job.pictures, about, options.style)


def _publish(path: Path) -> Path:
    """Give a whole output its name. InputError: it cannot be written."""
    with replacing(path) as temporary:
        shutil.move(partial_path(path), temporary)
    return path
