"""What the people in a video do: boxes, tracks, and an action and its probability over time.

    python -m dimofs.zoo.action --video x.mp4
    python -m dimofs.zoo.action --video 'clips/*.mp4' --weights runs/own/model --out results --no-overlay
    python -m dimofs.zoo.action --video x.mp4 --start 1 --end 5 --smooth 0.95 --shortest 0.5 --score 0.7

Results are written beside each input, or to --out. NAME.actions.jsonl has a header line and then a line per frame,

    {"frame": 0, "time": 0.0, "people": [{"id": 0, "score": 0.98, "box": [x1, y1, x2, y2],
     "action": "wave", "actions": {"wave": 0.61, "clap": 0.2, "throw": 0.05}}]}

with the three most probable actions, smoothed along the track. NAME.actions.csv has a row per segment: start and end in
seconds, track, action and its mean probability. NAME.actions.mp4 shows boxes, ids and actions. With --html
NAME.actions.html is a page for a browser that holds the film and shows them over it.

A model knows the actions that it was trained on and gives one of them to everybody, so that a low probability means
that it does not know. Train your own with python -m dimofs.zoo.train action --clips DIR.

An input that fails is reported in one line, the others are still processed, and the exit status is 2.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Annotated, Any

import torch
from tqdm import tqdm

from dimofs import boxes
from dimofs.actions import ActionDetections
from dimofs.cli import InputError, Range, check_ranges, run
from dimofs.detections import Detections
from dimofs.drawing import colour
from dimofs.files import check_writable, replacing
from dimofs.formats.writers import About
from dimofs.lettering import write_label
from dimofs.memory import keep_freed_memory
from dimofs.overlay import film
from dimofs.pages.player import page
from dimofs.segments import Segment, Segments, Smoother
from dimofs.shrinking import shrunk
from dimofs.sources import Source, printable, run_sources
from dimofs.tracking import NONE, Tracker, follow, tracker_named
from dimofs.video import Clip, Frame, open_clip, warn_of_damage
from dimofs.zoo import checkpoints
from dimofs.zoo.detection.action_localizer import ActionLocalizer
from dimofs.zoo.detection.action_stream import actions
from dimofs.zoo.devices import pick_device
from dimofs.zoo.recognition.recognizer import Recognizer

# Actions of a person that the results name.
SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class ActionOptions:
    """How videos run; the fields are options of the command."""

    weights: str
    tracker: Tracker
    smooth: float
    shortest: float
    start: float
    end: float | None
    batch: int
    overlay: bool
    html: bool
    quiet: bool


@dataclass(frozen=True, kw_only=True)
class Person:
    """A tracked person of a frame. actions: smoothed probability of each action, [C]."""

    track: int
    score: float
    box: list[float]
    actions: torch.Tensor


def main(
    *,
    video: Annotated[list[str], "videos, folders of images, globs, webcam numbers or URLs"],
    out: Annotated[Path | None, "folder of the results (default: beside each input)"] = None,
    overlay: Annotated[bool, "also write the frames with the actions drawn in"] = True,
    html: Annotated[bool, "also write a page for a browser, with the film in it"] = False,
    weights: Annotated[str, "a shipped model, or the folder of one"] = "action_mobile",
    size: Annotated[
        int | None, "longer side of the model's input, pixels (default: the model's own)", Range(32, 2**14)
    ] = None,
    score: Annotated[float, "minimum score of a person", Range(0, 1)] = 0.5,
    smooth: Annotated[float, "weight of the track's previous probabilities, 0 (off) to 1", Range(0, 1)] = 0.9,
    shortest: Annotated[float, "leave segments of fewer seconds out of the .csv", Range(0)] = 0.2,
    tracker: Annotated[str, "how people are linked (see dimofs.tracking)"] = "iou",
    start: Annotated[float, "start at this time, seconds", Range(low=0)] = 0.0,
    end: Annotated[float | None, "end before this time, seconds"] = None,
    device: Annotated[str | None, "cpu, cuda, cuda:1, ... (default: a GPU if there is one)"] = None,
    batch: Annotated[int, "frames at a time", Range(1, 1024)] = 1,
    quiet: Annotated[bool, "no progress bar and no summary"] = False,
) -> int:
    """Run the model over the inputs. Returns the exit status: 2 if one failed."""
    check_ranges(end=(end, start, inf))
    chosen = tracker_named(tracker)
    if chosen.motion:
        raise InputError(f"--tracker {tracker}: needs the motion that pose detectors estimate; choose another")
    if not chosen.iou:
        raise InputError(f"--tracker {tracker}: needs joints, and people have none here; choose another")
    linked = replace(chosen, oks=0.0, pck=0.0, score=max(chosen.score, score))
    options = ActionOptions(
        weights=weights, tracker=linked, smooth=smooth, shortest=shortest,
        start=start, end=end, batch=batch, overlay=overlay, html=html, quiet=quiet,
    )  # fmt: skip
    where = pick_device(device)

    def prepare() -> Callable[[Source], None]:
        keep_freed_memory()
        model = checkpoints.load_as(ActionLocalizer, weights, where, size)
        if isinstance(model, Recognizer):
            raise InputError(f"--weights {weights}: names whole clips; run python -m dimofs.zoo.recognize with it")
        return lambda source: run_source(source, out or source.folder, model, options)

    return run_sources(video, prepare, out)


def run_source(source: Source, folder: Path, model: ActionLocalizer, options: ActionOptions) -> None:
    """Write the results of one source; files appear whole under their names.

    InputError: the source cannot be read or a file not be written, the latter before any frame is read.
    """
    base = folder / f"{source.name}.actions"
    lines, table, drawn, web = (base.with_name(f"{base.name}.{end}") for end in ("jsonl", "csv", "mp4", "html"))
    outputs = [lines, table, *([drawn] if options.overlay else []), *([web] if options.html else [])]
    for path in outputs:
        check_writable(path)
    names = model.action_names
    segments, found = Segments(names, shortest=options.shortest), list[Segment]()
    with closing(open_clip(source)) as clip, ExitStack() as stack:
        people = stack.enter_context(closing(_people(clip, model, options)))
        file = stack.enter_context(stack.enter_context(replacing(lines)).open("w", encoding="utf-8"))
        draw: Any = None
        show: Any = None
        for frame, persons in people:
            if draw is None:
                about = _about(source, clip, frame, options)
                _line(file, _header(about, model))
                draw = stack.enter_context(film(drawn, about)) if options.overlay else lambda *_: None
                shown = page(web, about, source, None, embed=True)
                show = stack.enter_context(shown) if options.html else lambda *_: None
            ids = [person.track for person in persons]
            rows = torch.stack([person.actions for person in persons]) if persons else torch.zeros(0, len(names))
            found += segments.add(frame.time, frame.duration, ids, rows)
            _line(file, _content(frame, persons, names))
            draw(*_drawn(frame, persons, names))
            show(frame, _boxes(persons), [names[int(person.actions.argmax())] for person in persons])
        found += segments.finish()
    warn_of_damage(clip)
    with replacing(table) as temporary:
        _write_segments(temporary, found)
    if not options.quiet:
        print(f"{source.text}: {len(found)} segments -> {', '.join(map(str, outputs))}")


def _people(clip: Clip, model: ActionLocalizer, options: ActionOptions) -> Generator[tuple[Frame, list[Person]]]:
    """Each frame with its tracked people, under a progress bar."""
    frames = clip.frames(options.start, options.end, 1)
    total = clip.count(options.start, options.end, 1)
    reduced = (replace(frame, pixels=shrunk(frame.pixels), full_size=frame.size) for frame in frames)
    found = actions(model, reduced, batch=options.batch, min_score=options.tracker.least - 1e-6)
    tracks, smoother = NONE, Smoother(options.smooth)
    for frame, people in tqdm(found, clip.source.name, total, leave=False, unit="frame", disable=options.quiet):
        shown = _without_joints(people, frame)
        tracks, tracked = follow(tracks, shown, options.tracker, *frame.size)
        kept = _kept(shown, tracked)
        ids = [] if tracked.ids is None else tracked.ids.tolist()
        smoothed = smoother(ids, people.actions[kept])
        rows = zip(ids, tracked.scores.tolist(), tracked.boxes.tolist(), smoothed, strict=True)
        yield frame, [Person(track=i, score=s, box=b, actions=a) for i, s, b, a in rows]


def _without_joints(people: ActionDetections, frame: Frame) -> Detections:
    """The same people as the tracker reads them, with boxes inside the frame."""
    none = people.boxes.new_zeros(len(people), 0)
    return Detections(boxes.clip(people.boxes, *frame.size), people.scores, none[..., None].expand(-1, -1, 2), none)


def _kept(people: Detections, tracked: Detections) -> list[int]:
    """The index in `people` of each who is tracked; tracking may drop some and changes none."""
    same = (people.scores == tracked.scores[:, None]) & (people.boxes == tracked.boxes[:, None]).all(dim=2)
    return [row.index(True) for row in same.tolist()]


def _about(source: Source, clip: Clip, frame: Frame, options: ActionOptions) -> About:
    return About(
        source=source.text, name=printable(source.name), width=frame.size[1], height=frame.size[0], fps=clip.fps,
        keypoint_names=(), model=options.weights, delta=0, pixel_aspect=clip.pixel_aspect,
    )  # fmt: skip


def _header(about: About, model: ActionLocalizer) -> dict[str, Any]:
    sizes = {"width": about.width, "height": about.height, "fps": round(about.fps, 6)}
    known = {"model": about.model, "actions": list(model.action_names), "deltas": list(model.deltas)}
    return {"source": about.source, **sizes, **known}


def _content(frame: Frame, persons: list[Person], names: tuple[str, ...]) -> dict[str, Any]:
    people = []
    for person in persons:
        best = person.actions.topk(min(SHOWN, len(names)))
        top = {names[i]: round(p, 4) for p, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)}
        box = [round(x, 2) for x in person.box]
        entry = {"id": person.track, "score": round(person.score, 4), "box": box, "action": next(iter(top))}
        people.append({**entry, "actions": top})
    return {"frame": frame.index, "time": round(frame.time, 6), "people": people}


def _line(file: Any, content: dict[str, Any]) -> None:
    print(json.dumps(content, ensure_ascii=False, allow_nan=False), file=file)


def _drawn(frame: Frame, persons: list[Person], names: tuple[str, ...]) -> tuple[Frame, Detections]:
    """The frame with the actions written in, and the people for boxes and ids."""
    image = frame.pixels.copy()
    x, y = (image.shape[1 - i] / frame.size[1 - i] for i in (0, 1))
    for person in persons:
        probability, action = (value.item() for value in person.actions.max(0))
        text = f"{names[int(action)].replace('_', ' ')} {100 * probability:.0f}%"
        write_label(image, person.box[0] * x, person.box[3] * y, text, colour(person.track))
    return replace(frame, pixels=image), _boxes(persons)


def _boxes(persons: list[Person]) -> Detections:
    """The people without joints."""
    boxes = torch.tensor([person.box for person in persons]).reshape(-1, 4)
    scores = torch.tensor([person.score for person in persons])
    ids = torch.tensor([person.track for person in persons], dtype=torch.int64)
    none = torch.zeros(len(persons), 0)
    return Detections(boxes, scores, torch.zeros(len(persons), 0, 2), none, ids)


def _write_segments(path: Path, segments: list[Segment]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("start", "end", "track", "action", "score"))
        for s in sorted(segments, key=lambda s: (s.start, s.track)):
            table.writerow((f"{s.start:.3f}", f"{s.end:.3f}", s.track, s.action, f"{s.score:.4f}"))


if __name__ == "__main__":
    run(main)
