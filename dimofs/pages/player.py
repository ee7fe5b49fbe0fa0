"""A page that plays a clip and draws its people over it: what `dimofs.zoo.pose --format html` writes."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import numpy as np
import torch

from dimofs.detections import Detections
from dimofs.drawing import LEFT_COLOUR, RIGHT_COLOUR, colour
from dimofs.files import replacing
from dimofs.formats.writers import About, Write
from dimofs.motion import Motion
from dimofs.overlay import film
from dimofs.pages import template
from dimofs.picture import png
from dimofs.shrinking import shrunk, shrunk_size
from dimofs.sources import Source, printable
from dimofs.video import Frame

# The width and height of a frame in the units of the page's coordinates; player_data.js has the same number.
UNIT = 16384
SCRIPTS = ("player_data.js", "player_media.js", "player_drawing.js", "player.js")
# Suffixes of images that browsers show.
SHOWN = (".avif", ".bmp", ".jpeg", ".jpg", ".png", ".webp")


@contextmanager
def page(
    path: Path, about: About, source: Source, kept: Path | None, embed: bool, onward: int = 0
) -> Iterator[Callable[..., None]]:
    """A page of the frames of `source` and their people. It takes its name when the context ends without an error.

    Yields `write(frame, people)`, which takes the action of each person as `actions` where actions are known and, with
    `onward`, the `motion` from the frame to the one so many frames later, if there is one. The arrows of the page then
    are of that motion at the joints; without it they lead to where the track has its joints later.

    kept:  the `plain_film` that is written beside the page, which the page plays. Without it the page plays the source
           itself, which has to stay where it is, as the images of a folder have to.
    embed: put the film or the images into the page instead.
    InputError: it cannot be written.
    """
    with TemporaryDirectory() as folder:
        inside = Path(folder) / "film.mp4" if embed and not source.images else None
        clip = _Clip(about, kept is not None or inside is not None, onward)
        images: list[Path] = []
        with plain_film(inside, about) if inside else nullcontext() as encode:

            def write(
                frame: Frame, people: Detections, actions: Sequence[str] = (), motion: Motion | None = None
            ) -> None:
                clip.add(frame, people, actions, motion)
                if frame.file:
                    images.append(_showable(frame, Path(folder)) if embed else frame.file)
                if encode:
                    encode(frame, people)

            yield write
        contents = clip.contents()
        if source.images:
            contents["images"] = None if embed else [_address(image, path) for image in images]
        elif kept:
            contents["film"] = kept.name
        elif not embed:
            contents["address"] = _address(source.file, path) if source.file else None
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            values = {
                "title": template.text(about.name),
                "style": template.read("player.css"),
                "script": (f"{template.read(name)}\n\n" for name in SCRIPTS),
                "about": template.data(contents),
                "poses": clip.columns(),
                "media": template.parts(inside, "film") if inside else _inlined(images if embed else []),
            }
            template.fill(file, template.read("player.html"), values)


@contextmanager
def plain_film(path: Path, about: About) -> Iterator[Write]:
    """The film of `overlay.film` with nobody drawn in."""
    with film(path, about) as write:
        yield lambda frame, people: write(frame, people[:0])


class _Clip:
    """The frames and people written so far, as the columns that player_data.js reads.

    reduced: whether the page plays a `plain_film`, whose first frame's time is 0 and whose size is even. onward: how
    many frames the motion spans, 0 without motion.
    """

    def __init__(self, about: About, reduced: bool, onward: int):
        self.about, self.reduced, self.onward = about, reduced, onward
        self.times: list[float] = []
        self.until = 0.0
        self.starts = [0]
        # The place of each track, by its id, in the order in which they begin.
        self.tracks: dict[int, int] = {}
        # The place of each action, by its name.
        self.actions: dict[str, int] = {}
        # Of all people: place of the track, coordinates, motion of the joints with `onward`, place of the action or -1,
        # score, confidences.
        self.people = [bytearray() for _ in range(6 if onward else 5)]

    def add(self, frame: Frame, people: Detections, actions: Sequence[str], motion: Motion | None) -> None:
        """The next frame and the people in it, with the action of each or of nobody."""
        self.times.append(frame.time)
        self.until = frame.time + frame.duration
        self.starts.append(self.starts[-1] + len(people))
        ids = range(len(people)) if people.ids is None else people.ids.tolist()
        tracks = [self.tracks.setdefault(number, len(self.tracks)) for number in ids]
        points = np.concatenate((people.boxes.reshape(-1, 2, 2).numpy(), people.keypoints.numpy()), axis=1)
        extent = self._extent(frame)
        columns = [np.array(tracks, "<i4"), _units(points / extent)]
        if self.onward:
            moves = torch.zeros_like(people.keypoints) if motion is None else motion.at(people.keypoints)
            columns.append(_units(moves.numpy() / extent))
        done = [self.actions.setdefault(name, len(self.actions)) for name in actions] or [-1] * len(people)
        scores = _bytes(people.scores), _bytes(people.confidences)
        for column, part in zip(self.people, [*columns, np.array(done, "<i2"), *scores], strict=True):
            column += part.tobytes()

    def _extent(self, frame: Frame) -> np.ndarray:
        """The width and height that the picture in the page has, in pixels of the frame."""
        height, width = frame.size
        if not self.reduced:
            return np.array([width, height])
        small = shrunk_size(height, width)
        return np.array([(small[1] + small[1] % 2) * width / small[1], (small[0] + small[0] % 2) * height / small[0]])

    def contents(self) -> dict[str, Any]:
        """What the page says about the clip."""
        about, origin = self.about, self._origin()
        told = [f"{len(self.times)} frames", f"{len(self.tracks)} tracks", about.model]
        return {
            "summary": " · ".join(printable(part) for part in told if part),
            "frames": len(self.times),
            "people": self.starts[-1],
            "seconds": self.until - origin,
            "shape": about.width * float(about.pixel_aspect) / about.height,
            "joints": list(about.keypoint_names),
            "limbs": about.limbs,
            "ids": list(self.tracks),
            "colours": [_hex(colour(number)) for number in self.tracks],
            "sides": {"left_": _hex(LEFT_COLOUR), "right_": _hex(RIGHT_COLOUR)},
            "actions": list(self.actions),
            "onward": self.onward,
        }

    def _origin(self) -> float:
        return self.times[0] if self.reduced and self.times else 0.0

    def columns(self) -> str:
        """The columns, one after the other, as base64."""
        times = np.array(self.times, "<f8") - self._origin()
        starts = np.array(self.starts, "<u4")
        return template.encoded(b"".join((times.tobytes(), starts.tobytes(), *self.people)))


def _units(parts: np.ndarray) -> np.ndarray:
    """Parts of the width and height as whole numbers of 16 bits."""
    return np.nan_to_num(parts * UNIT).round().clip(-2 * UNIT, 2 * UNIT - 1).astype("<i2")


def _hex(colour: tuple[int, int, int]) -> str:
    return f"#{bytes(colour).hex()}"


def _bytes(scores: Any) -> np.ndarray:
    """Numbers from 0 to 1 as bytes from 0 to 255."""
    return (scores.numpy() * 255).round().astype(np.uint8)


def _address(file: Path, page: Path) -> str:
    """The address of a file as the page, if it stays where it is, finds it."""
    try:
        relative = os.path.relpath(file, page.parent)
    except ValueError:
        # Windows has no way from one drive to another.
        return file.resolve().as_uri()
    return quote(os.fsencode(Path(relative).as_posix()))


def _showable(frame: Frame, folder: Path) -> Path:
    """The image file of a frame, or a copy of it in `folder` that browsers show."""
    assert frame.file is not None
    if frame.file.suffix.lower() in SHOWN:
        return frame.file
    copy = folder / f"{frame.index}.png"
    copy.write_bytes(png(shrunk(frame.pixels)))
    return copy


def _inlined(images: list[Path]) -> Iterator[str]:
    """Images as script elements, which hold their addresses."""
    for image in images:
        kind = mimetypes.guess_type(image.name)[0] or "image/png"
        yield f'<script type="text/plain" class="image">data:{kind};base64,'
        yield template.encoded(image.read_bytes())
        yield "</script>\n"
