"""Video in: sources read as upright RGB frames with their true times (PyAV)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from math import ceil
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from dimofs.cli import InputError
from dimofs.images import read_image
from dimofs.pixels import orientation_of_frame, rgb
from dimofs.sources import Source

IMAGE_RATE = 25.0  # frames a second of a folder of images


@dataclass(frozen=True)
class Frame:
    """One frame of a source.

    pixels:   [H, W, 3] uint8 RGB, upright, contiguous.
    index:    its number in the source, from 0.
    time:     seconds since the source's first frame.
    duration: seconds that it is shown.
    file:     the image file that it is, if the source is images.
    """

    pixels: np.ndarray
    index: int
    time: float
    duration: float
    file: Path | None = None


def open_clip(source: Source) -> Clip:
    """InputError: it cannot be opened or holds no video."""
    return ImageClip(source) if source.images else VideoClip(source)


class Clip:
    """An open source.

    fps: frames a second on average. seconds: the length, if known.
    complaint: after the last frame, what was wrong with the source, in one line; empty if nothing was.
    """

    def __init__(self, source: Source, fps: float, seconds: float | None):
        self.source, self.fps, self.seconds, self.complaint = source, fps, seconds, ""

    def frames(self, start: float = 0.0, end: float | None = None, every: int = 1) -> Generator[Frame]:
        """Each `every`-th of the frames with start <= time < end, in order of presentation.

        InputError: nothing decodes, or the frames of a video change their size.
        """
        passed = given = 0
        with closing(self._all(start)) as found:
            for time, read in found:
                if end is not None and time >= end:
                    break
                if time >= start:
                    frame = read() if passed % every == 0 else None
                    passed += 1
                    if frame is not None:
                        given += 1
                        yield frame
        if not given:
            raise InputError(f"{self.source.text}: no frame decodes" + (" in that time" if start or end else ""))

    def count(self, start: float = 0.0, end: float | None = None, every: int = 1) -> int | None:
        """About how many frames `frames` gives, if that is known."""
        last = min((x for x in (self.seconds, end) if x is not None), default=None)
        if last is None:
            return None
        passed = ceil(last * self.fps - 1e-3) - ceil(start * self.fps - 1e-3)
        return max(1, ceil(passed / every))

    def close(self) -> None:
        """Free what the source holds."""

    def _all(self, start: float) -> Generator[tuple[float, Callable[[], Frame | None]]]:
        """The time of every frame from about `start` on, and what reads it: None for an image that is damaged."""
        raise NotImplementedError


class ImageClip(Clip):
    """Images as a clip of 25 frames a second. Their sizes may differ; damaged ones are left out."""

    def __init__(self, source: Source):
        super().__init__(source, IMAGE_RATE, len(source.images) / IMAGE_RATE)
        self.damaged: list[str] = []

    def _all(self, start):
        for index in range(len(self.source.images)):
            yield index / IMAGE_RATE, partial(self._read, index)
        if self.damaged:
            some = f"{', '.join(self.damaged[:3])}{', ...' if len(self.damaged) > 3 else ''}"
            self.complaint = f"{self.source.text}: {len(self.damaged)} images do not decode: {some}"

    def _read(self, index: int) -> Frame | None:
        path = self.source.images[index]
        try:
            return Frame(read_image(path), index, index / IMAGE_RATE, 1 / IMAGE_RATE, path)
        except InputError:
            if self.source.still:
                raise
            self.damaged.append(path.name)
            return None


class VideoClip(Clip):
    """A video file, a stream or a webcam."""

    def __init__(self, source: Source):
        self.container = _opened(source)
        try:
            self.stream = _video_stream(source, self.container)
        except InputError:
            self.container.close()
            raise
        self.stream.thread_type = "AUTO"
        self.tick = float(self.stream.time_base or 0)  # seconds a unit of its timestamps
        rate = self.stream.average_rate or self.stream.guessed_rate
        fps = float(rate) if rate else IMAGE_RATE
        super().__init__(source, fps, None if source.live else self._seconds(fps))
        self.origin: int | None = None  # the timestamp of time 0
        self.skipped = self.damaged = 0  # packets
        self.broken = ""  # what ended the reading

    def close(self):
        self.container.close()

    def _seconds(self, fps: float) -> float | None:
        """The length that the file claims."""
        if self.container.format.name == "avi":  # whose duration FFmpeg takes from the size that the file has
            return self.stream.frames / fps or None
        if self.stream.duration is not None:
            return self.stream.duration * self.tick
        return self.container.duration / av.time_base if self.container.duration else None

    def _all(self, start):
        size, until, number = None, 0.0, 0
        for number, frame in self._numbered(start):
            size = size or (frame.width, frame.height)
            if size != (frame.width, frame.height):
                change = f"{size[0]}x{size[1]} to {frame.width}x{frame.height} at frame {number}"
                raise InputError(f"{self.source.text}: the frame size changes from {change}; convert it to one size")
            time, shown = self._time(frame.pts, number), self._span(frame)
            until = time + shown
            yield time, partial(self._frame, frame, number, time, shown)
        self.complaint = self._verdict(number + 1 if size else 0, until)

    def _frame(self, frame: av.VideoFrame, number: int, time: float, shown: float) -> Frame:
        return Frame(orientation_of_frame(frame).apply(rgb(frame)), number, time, shown)

    def _time(self, pts: int | None, number: int) -> float:
        if pts is None or self.origin is None:
            return number / self.fps
        return (pts - self.origin) * self.tick

    def _span(self, frame: av.VideoFrame) -> float:
        return frame.duration * self.tick if frame.duration else 1 / self.fps

    def _numbered(self, start: float) -> Iterator[tuple[int, av.VideoFrame]]:
        """Frames and their numbers, from the last keyframe at or before `start` on."""
        fed: list[int] = []
        number = None
        for packet in self._packets(start):
            if number is None and packet.pts is not None and not packet.is_discard:
                fed.append(packet.pts)
            for frame in self._decoded(packet):
                if number is None:  # packets whose frames come before it, and do not decode without what was skipped
                    number = self.skipped + sum(pts < frame.pts for pts in fed if frame.pts is not None)
                yield number, frame
                number += 1

    def _packets(self, start: float) -> Iterator[av.Packet]:
        """The packets from the last keyframe at or before `start` on; those before it are counted only."""
        held: list[av.Packet] | None = []
        for packet in self._demuxed():
            if self.origin is None and packet.pts is not None:
                start_time = self.stream.start_time
                self.origin = packet.pts if start_time is None else max(packet.pts, start_time)
            if held is None:
                yield packet
            elif packet.pts is None or self._time(packet.pts, 0) > start:
                yield from held
                yield packet
                held = None
            else:
                if packet.is_keyframe:
                    self.skipped += sum(not p.is_discard for p in held)
                    held.clear()
                held.append(packet)
        yield from held or ()

    def _demuxed(self) -> Iterator[av.Packet]:
        try:
            yield from self.container.demux(self.stream)
        except FFmpegError as error:
            self.broken = _reason(error)
            yield av.Packet()  # has the decoder give what it holds

    def _decoded(self, packet: av.Packet) -> list[av.VideoFrame]:
        try:
            return self.stream.decode(packet if packet.size else None)
        except FFmpegError:
            self.damaged += 1
            return []

    def _verdict(self, frames: int, until: float) -> str:
        """What was wrong, if anything, with a video that was read to its end at `until` seconds."""
        missing = (self.seconds or until) - until
        if self.broken or missing > max(1.5 / self.fps, min(1.0, 0.1 * until)):
            seen = f"{frames} frames, {until:.1f}" + (f" of {self.seconds:.1f} s" if self.seconds else " s")
            return f"{self.source.text}: ends early ({seen}): {self.broken or 'truncated'}; what decodes was used"
        return f"{self.source.text}: {self.damaged} packets do not decode" if self.damaged else ""


def _opened(source: Source) -> InputContainer:
    try:
        return av.open(source.address, format=source.format, timeout=15.0 if "://" in source.address else None)
    except (OSError, FFmpegError, ValueError) as error:
        raise InputError(f"{source.text}: cannot be read ({_reason(error)}); is it a video, and whole?") from error


def _video_stream(source: Source, container: InputContainer) -> VideoStream:
    """The first real video stream: no cover of a song, no text that FFmpeg would show as a terminal."""
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams or container.format.name == "tty":
        raise InputError(f"{source.text}: holds no video; give a video or an image")
    return streams[0]


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
