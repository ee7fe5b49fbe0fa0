"""What a video shows, and what says so: the frames, the person and the joints that a classifier of clips looked at.

    python -m dimofs.zoo.recognize --video x.mp4
    python -m dimofs.zoo.recognize --video 'clips/*.mp4' --weights runs/own/model --out results --no-overlay
    python -m dimofs.zoo.recognize --video x.mp4 --start 1 --end 3 --every 2

A video gets one label, from pairs of frames of its main person; so give clips of one action each, or a part of a film
by --start and --end. A line per video is printed, and results are written beside each input, or to --out.
NAME.recognition.json holds

    {"source": "x.mp4", "model": "recognize_mobile", "label": "golf", "confidence": 0.83,
     "probabilities": {"golf": 0.83, ...}, "delta": 5,
     "looked_at": [{"frame": 0, "time": 0.0, "box": [x1, y1, x2, y2], "score": 0.98, "weight": 0.02,
                    "joints": {"nose": [x, y, confidence, weight], ...}}]}

Frames are numbered from the video's start, whatever --start says. A weight is by how much the label's probability falls
without the frame, or without what is seen around the joint.
NAME.recognition.png shows the frames of the largest weights, and joints from blue (against the label) to red (for it).

A classifier knows the classes that it was trained on and gives one of them to every video: a low confidence means that
it does not know. Train your own with python -m dimofs.zoo.train recognize --clips DIR.

An input that fails is reported in one line, the others are still processed, and the exit status is 2.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from math import ceil, inf
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from tqdm import tqdm

from dimofs.cli import InputError, Range, check_ranges, run
from dimofs.files import check_writable, write_json
from dimofs.picture import Picture
from dimofs.sources import Source, run_sources
from dimofs.video import Frame, open_clip, warn_of_damage
from dimofs.zoo import checkpoints
from dimofs.zoo.devices import pick_device
from dimofs.zoo.recognition.recognizer import Recognition, Recognizer
from dimofs.zoo.recognition.sheet import FRAMES, sheet

# Of long videos pairs are thinned out to about so many.
MOST_PAIRS = 300
# The address of standard input.
PIPE = "pipe:0"
# Classes whose probabilities are printed.
SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class RecognizeOptions:
    """How videos are labelled; the fields are options of the command."""

    weights: str
    every: int | None
    start: float
    end: float | None
    overlay: bool
    quiet: bool


def main(
    *,
    video: Annotated[list[str], "videos, folders of images, globs or URLs"],
    out: Annotated[Path | None, "folder of the results (default: beside each input)"] = None,
    overlay: Annotated[bool, "also write a picture of the frames that say most"] = True,
    weights: Annotated[str, "a shipped model, or the folder of one"] = "recognize_mobile",
    every: Annotated[
        int | None, f"Frame A is one of every N-th frame (default: so that there are at most {MOST_PAIRS})", Range(1)
    ] = None,
    start: Annotated[float, "start at this time, seconds", Range(low=0)] = 0.0,
    end: Annotated[float | None, "end before this time, seconds"] = None,
    device: Annotated[str | None, "cpu, cuda, cuda:1, ... (default: a GPU if there is one)"] = None,
    quiet: Annotated[bool, "no progress bar and no summary"] = False,
) -> int:
    """Label the inputs. Returns the exit status: 2 if one failed."""
    check_ranges(end=(end, start, inf))
    options = RecognizeOptions(weights=weights, every=every, start=start, end=end, overlay=overlay, quiet=quiet)
    where = pick_device(device)

    def prepare() -> Callable[[Source], None]:
        model = checkpoints.load_as(Recognizer, weights, where)
        return lambda source: run_source(source, out or source.folder, model, options)

    return run_sources(video, prepare, out)


def run_source(source: Source, folder: Path, model: Recognizer, options: RecognizeOptions) -> None:
    """Label one source and write its results.

    InputError: the source cannot be read, shows nobody or is too short, or a file cannot be written.
    """
    if source.live or (source.address == PIPE and options.overlay):
        raise InputError(f"{source.text}: is read twice, for the picture too; record it to a file and give that")
    base = folder / f"{source.name}.recognition"
    written, drawn = (base.with_name(f"{base.name}.{ending}") for ending in ("json", "png"))
    for path in (written, *([drawn] if options.overlay else [])):
        check_writable(path)
    found, times = find(source, model, options)
    content = {"source": source.text, "model": options.weights, **described(found, model, times)}
    write_json(written, content)
    if options.overlay:
        best = found.frames.topk(min(FRAMES, len(found.frames))).indices.sort().values
        frames = _frames(source, options, set(found.subject.numbers[best].tolist()))
        Picture(sheet(found, best.tolist(), frames, f"{content['label']} {content['confidence']:.2f}")).save(drawn)
    if not options.quiet:
        files = f"{written}, {drawn}" if options.overlay else str(written)
        shown = ", ".join(f"{name} {p:.2f}" for name, p in list(content["probabilities"].items())[:SHOWN])
        print(f"{source.text}: {shown} -> {files}")


def find(source: Source, model: Recognizer, options: RecognizeOptions) -> tuple[Recognition, dict[int, float]]:
    """What a source shows, and the time of each of its frames, seconds. Frames are numbered from the source's start."""
    times: dict[int, float] = {}
    with closing(open_clip(source)) as clip:
        total = clip.count(options.start, options.end)
        every = options.every or max(1, ceil((total or 1) / MOST_PAIRS))
        frames = clip.frames(options.start, options.end)
        bar = tqdm(frames, source.name, total, leave=False, unit="frame", disable=options.quiet)
        found = model.recognize(_timed(bar, times, source), every)
    if len(times) <= model.delta:
        raise InputError(f"{source.text}: has {len(times)} frames; a pair needs {model.delta + 1}")
    if found is None:
        raise InputError(f"{source.text}: shows nobody; give a video of a person")
    warn_of_damage(clip)
    numbers = torch.tensor(list(times))[found.subject.numbers]
    return replace(found, subject=replace(found.subject, numbers=numbers)), times


def _timed(frames: Iterable[Frame], times: dict[int, float], source: Source) -> Iterator[Frame]:
    """The frames, numbered from 0; their times are added to `times` under their own numbers.

    InputError: their sizes differ.
    """
    size = None
    for number, frame in enumerate(frames):
        size = size or frame.size
        if frame.size != size:
            change = f"{size[1]}x{size[0]} to {frame.size[1]}x{frame.size[0]} at frame {frame.index}"
            raise InputError(f"{source.text}: the size changes from {change}; give images of one size")
        times[frame.index] = frame.time
        yield replace(frame, index=number)


def _frames(source: Source, options: RecognizeOptions, numbers: Collection[int]) -> dict[int, np.ndarray]:
    """Some of the frames by number, [H, W, 3] uint8."""
    with closing(open_clip(source)) as clip:
        frames = clip.frames(options.start, options.end)
        return {frame.index: frame.pixels for frame in frames if frame.index in numbers}


def described(found: Recognition, model: Recognizer, times: Mapping[int, float]) -> dict[str, Any]:
    """The content of the JSON file, classes from the most probable one on."""
    order = found.probabilities.argsort(descending=True).tolist()
    named = {model.class_names[i]: round(float(found.probabilities[i]), 4) for i in order}
    label, confidence = next(iter(named.items()))
    subject = found.subject
    scale = subject.to_frame
    joints = torch.cat((subject.joints * scale, subject.confidences[..., None], found.joints[..., None]), dim=2)
    looked_at = []
    for row, number in enumerate(subject.numbers.tolist()):
        points = zip(model.keypoint_names, joints[row].tolist(), strict=True)
        looked_at.append(
            {
                "frame": number,
                "time": round(times[number], 6),
                "box": [round(x, 2) for x in (subject.boxes[row] * scale.repeat(2)).tolist()],
                "score": round(float(subject.scores[row]), 4),
                "weight": round(float(found.frames[row]), 5),
                "joints": {name: [*(round(x, 2) for x in values[:3]), round(values[3], 5)] for name, values in points},
            }
        )
    probable = {"label": label, "confidence": confidence, "probabilities": named}
    return {**probable, "delta": model.delta, "looked_at": looked_at}


if __name__ == "__main__":
    run(main)
