"""Video out: frames with their poses drawn in, as H.264 that browsers play or, for one image, as PNG (PyAV)."""

from __future__ import annotations

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

from dimofs import skeletons
from dimofs.cli import InputError
from dimofs.detections import Detections
from dimofs.drawing import draw
from dimofs.files import replacing
from dimofs.formats.writers import About, Write
from dimofs.shrinking import shrunk, shrunk_size
from dimofs.video import Frame

# Timestamps per second.
TICKS = 90_000
# The H.264 code of the colours of HD television.
BT709 = 1


@contextmanager
def film(path: Path, about: About) -> Iterator[Write]:
    """An mp4 of the frames with their people, each shown as long as in the source.

    H.264, yuv420p, index first so that it plays while it loads. Sizes are even (an odd frame repeats its last row or
    column) and at most `shrinking.LONGEST`. Frames of another size are fitted into the first one's.
    InputError: it cannot be written.
    """
    limbs = skeletons.limbs(about.keypoint_names)
    with replacing(path) as temporary, _ffmpeg(path), _Film(temporary, about) as video:

        def write(frame: Frame, people: Detections) -> None:
            video.add(_drawn(frame, people, limbs), frame.time, frame.duration)

        yield write


@contextmanager
def picture(path: Path, about: About) -> Iterator[Write]:
    """A PNG of one frame with its people, its longer side at most `shrinking.LONGEST`. InputError: it cannot be
    written."""
    limbs = skeletons.limbs(about.keypoint_names)
    with replacing(path) as temporary:

        def write(frame: Frame, people: Detections) -> None:
            temporary.write_bytes(png(_drawn(frame, people, limbs)))

        yield write


def _drawn(frame: Frame, people: Detections, limbs: Sequence[tuple[int, int]]) -> np.ndarray:
    """A copy of the frame with its people drawn in, [h, w, 3], reduced if it is very large."""
    image = shrunk(frame.pixels)
    if image is frame.pixels:
        image = image.copy()
    scale = torch.tensor([image.shape[1] / frame.size[1], image.shape[0] / frame.size[0]])
    draw(image, replace(people, boxes=people.boxes * scale.repeat(2), keypoints=people.keypoints * scale), limbs)
    return image


def png(image: np.ndarray) -> bytes:
    """[H, W, 3] uint8 RGB as a PNG file."""
    codec = av.CodecContext.create("png", "w")
    codec.height, codec.width, _ = image.shape
    codec.pix_fmt, codec.time_base = "rgb24", Fraction(1)
    packets = codec.encode(av.VideoFrame.from_ndarray(image, format="rgb24")) + codec.encode(None)
    return b"".join(map(bytes, packets))


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
        options = {"preset": "veryfast", "crf": "21", "bf": "0"}
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
