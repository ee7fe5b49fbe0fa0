"""Video out: frames with their poses drawn in, as H.264 that browsers play or as pictures (PyAV)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.error import FFmpegError
from av.video.reformatter import ColorRange, Colorspace

from dimofs.cli import InputError
from dimofs.detections import Detections
from dimofs.drawing import USUAL, Style, draw, draw_trails
from dimofs.files import replacing
from dimofs.flow_colours import tinted
from dimofs.formats.writers import About, Write
from dimofs.motion import Motion
from dimofs.picture import encoded, png
from dimofs.shrinking import shrunk, shrunk_size
from dimofs.video import Frame

# Timestamps per second.
TICKS = 90_000
# The H.264 code of the colours of HD television.
BT709 = 1
# The length of motion, as a share of the frame's longer side, at which its colours hide the frame.
FASTEST = 0.03
# Pixels of the longer side at which motion is coloured, before it is enlarged to the frame.
FINEST = 256


@contextmanager
def film(path: Path, about: About, style: Style = USUAL) -> Iterator[Write]:
    """An mp4 of the frames with their people, each shown as long as in the source.

    H.264, yuv420p, index first so that it plays while it loads. Sizes are even (an odd frame repeats its last row or
    column) and at most `shrinking.LONGEST`. Frames of another size are fitted into the first one's.
    InputError: it cannot be written.
    """
    pen = Pen(about.limbs, about.keypoint_names, style)
    with replacing(path) as temporary, _ffmpeg(path), _Film(temporary, about) as video:

        def write(frame: Frame, people: Detections) -> None:
            video.add(pen.draw(frame, people), frame.time, frame.duration)

        yield write


@contextmanager
def picture(path: Path, about: About, style: Style = USUAL) -> Iterator[Write]:
    """A PNG of one frame with its people, its longer side at most `shrinking.LONGEST`. InputError: it cannot be
    written."""
    with replacing(path) as temporary:

        def write(frame: Frame, people: Detections) -> None:
            image = drawn(frame, people, about.limbs, about.keypoint_names, style)
            temporary.write_bytes(png(image))

        yield write


@contextmanager
def pictures(folder: Path, about: About, style: Style = USUAL) -> Iterator[Write]:
    """A JPEG of each frame with its people in a folder, which is made: named like the image that the frame is, or by
    the frame's number. InputError: one cannot be written."""
    pen = Pen(about.limbs, about.keypoint_names, style)
    taken: set[str] = set()

    def write(frame: Frame, people: Detections) -> None:
        name = f"{frame.index:06d}" if frame.file is None else frame.file.stem
        if name in taken and frame.file is not None:
            name = frame.file.name
        taken.add(name)
        with replacing(folder / f"{name}.jpg") as temporary:
            temporary.write_bytes(encoded(pen.draw(frame, people), ".jpg"))

    yield write


class Pen:
    """Draws the frames of one clip, whose earlier frames leave trails."""

    def __init__(self, limbs: Sequence[tuple[int, int]], names: Sequence[str], style: Style = USUAL):
        self.limbs, self.names, self.style = limbs, names, style
        # Where each track was in the latest frames: the middle of its box.
        self.paths: dict[int, deque[tuple[int, np.ndarray]]] = {}
        self.count = 0

    def draw(self, frame: Frame, people: Detections) -> np.ndarray:
        """A copy of the next frame with its people drawn in, [h, w, 3], reduced if it is very large."""
        trails = self._trails(people) if self.style.trails else ()
        return drawn(frame, people, self.limbs, self.names, self.style, trails)

    def _trails(self, people: Detections) -> list[tuple[int, np.ndarray]]:
        self.count += 1
        middles = ((people.boxes[:, :2] + people.boxes[:, 2:]) / 2).numpy()
        for track, middle in zip(() if people.ids is None else people.ids.tolist(), middles, strict=False):
            self.paths.setdefault(track, deque()).append((self.count, middle))
        for track, path in list(self.paths.items()):
            while path and path[0][0] <= self.count - self.style.trails:
                path.popleft()
            if not path:
                del self.paths[track]
        return [(track, np.array([point for _, point in path])) for track, path in self.paths.items()]


def drawn(
    frame: Frame,
    people: Detections,
    limbs: Sequence[tuple[int, int]],
    names: Sequence[str] = (),
    style: Style = USUAL,
    trails: Sequence[tuple[int, np.ndarray]] = (),
) -> np.ndarray:
    """A copy of the frame with its people, and the trails of tracks, drawn in, [h, w, 3], reduced if it is very large.
    See `drawing.draw` and `drawing.draw_trails`."""
    image = shrunk(frame.pixels)
    if image is frame.pixels:
        image = image.copy()
    scale = torch.tensor([image.shape[1] / frame.size[1], image.shape[0] / frame.size[0]])
    draw_trails(image, [(track, points * scale.numpy()) for track, points in trails])
    scaled = replace(people, boxes=people.boxes * scale.repeat(2), keypoints=people.keypoints * scale)
    draw(image, scaled, limbs, names, style)
    return image


def with_motion(frame: Frame, motion: Motion, frames: int = 1) -> Frame:
    """The frame with its motion drawn over it, in the colours of Middlebury's wheel, which is in a corner: pixels at
    rest stay, those that move by FASTEST a frame or more are hidden.

    motion: in pixels of `frame.size`. frames: from the frame to the one that the motion leads to.
    """
    height, width = frame.size
    # The motion itself has fewer pixels than this.
    part = min(1.0, FINEST / max(height, width))
    rows, columns = max(1, round(height * part)), max(1, round(width * part))
    coarse = Motion(motion.flow, motion.height * rows / height, motion.width * columns / width).dense(rows, columns)
    return replace(frame, pixels=tinted(frame.pixels, coarse.numpy(), FASTEST * max(height, width) * abs(frames)))


@contextmanager
def _ffmpeg(path: Path) -> Iterator[None]:
    try:
        yield
    except FFmpegError as error:
        raise InputError(f"{path}: cannot write ({error.strerror}); --no-overlay leaves it out") from error


class _Film:
    """An mp4 file being encoded; a context, and complete when that ends."""

    def __init__(self, path: Path, about: About):
        self.container = av.open(str(path), "w", format="mp4", options={"movflags": "faststart"})
        rate = Fraction(about.fps).limit_denominator(1001)
        # No B-frames: with them the timestamps of a variable frame rate lose the length of the clip.
        # A shorter look ahead than usual, as each frame of it takes 6 MB at full HD.
        options = {"preset": "veryfast", "crf": "21", "bf": "0", "rc-lookahead": "4"}
        self.stream = self.container.add_stream("libx264", rate=max(rate, Fraction(1)), options=options)
        height, width = shrunk_size(about.height, about.width)
        self.stream.width, self.stream.height = width + width % 2, height + height % 2
        self.stream.pix_fmt = "yuv420p"
        self.stream.codec_context.sample_aspect_ratio = about.pixel_aspect
        self.stream.gop_size = max(1, round(4 * about.fps))
        self.stream.codec_context.time_base = Fraction(1, TICKS)
        for tag in ("colorspace", "color_primaries", "color_trc", "color_range"):
            setattr(self.stream.codec_context, tag, BT709)
        self.size = width, height
        self.start: float | None = None
        self.last = -1
        # In ticks, by timestamp.
        self.durations: dict[int, int] = {}

    def __enter__(self) -> _Film:
        return self

    def __exit__(self, kind, *_) -> None:
        try:
            if kind is None:
                self._mux(self.stream.encode())
        finally:
            self.container.close()

    def add(self, image: np.ndarray, time: float, duration: float) -> None:
        """Encode [H, W, 3] uint8 RGB, to be shown from `time` on; the first frame's time is the film's 0."""
        self.start = time if self.start is None else self.start
        frame = av.VideoFrame.from_ndarray(_fitted(image, *self.size), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
        self.last = frame.pts = max(round((time - self.start) * TICKS), self.last + 1)
        frame.time_base = Fraction(1, TICKS)
        self.durations[frame.pts] = max(1, round(duration * TICKS))
        self._mux(self.stream.encode(frame))

    def _mux(self, packets: list[av.Packet]) -> None:
        for packet in packets:
            packet.duration = self.durations.pop(packet.pts or 0)
            self.container.mux(packet)


def _fitted(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """`image` in a frame of this size, padded to even sides; an image of another size is scaled to fit, on black."""
    if image.shape[:2] != (height, width):
        scale = min(height / image.shape[0], width / image.shape[1])
        h, w = (max(1, round(side * scale)) for side in image.shape[:2])
        small = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(width=w, height=h).to_ndarray()
        image = np.zeros((height, width, 3), dtype=np.uint8)
        y, x = (height - h) // 2, (width - w) // 2
        image[y : y + h, x : x + w] = small
    return np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
