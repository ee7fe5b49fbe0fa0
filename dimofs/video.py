"""Video in: sources read as upright RGB frames with their true times (PyAV)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import chain
from math import ceil
from pathlib import Path

import av
import numpy as np

from dimofs.cli import InputError
from dimofs.images import read_image
from dimofs.pixels import Orientations, rgb
from dimofs.sources import Source
from dimofs.streams import Opening, Stream, is_shown, read_opening

# Frames a second of a folder of images.
IMAGE_RATE = 25.0
# Sizes of the packets of MPEG transport streams: plain, with a time code (.m2ts), with error correction.
TRANSPORT_PACKET_BYTES = (188, 192, 204)


@dataclass(frozen=True)
class Frame:
    """One frame of a source.

    pixels:   [H, W, 3] uint8 RGB, upright, contiguous.
    index:    its number in the source, from 0.
    time:     seconds since the source's first frame.
    duration: seconds that it is shown.
    file:     the image file that it is, if the source is images.
    full_size: (height, width) in the source, if `pixels` are a reduced copy.
    """

    pixels: np.ndarray
    index: int
    time: float
    duration: float
    file: Path | None = None
    full_size: tuple[int, int] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in the source, whose pixels are the unit of poses."""
        return self.full_size or (self.pixels.shape[0], self.pixels.shape[1])


def open_clip(source: Source) -> Clip:
    """InputError: it cannot be opened or holds no video."""
    return ImageClip(source) if source.images else VideoClip(source)


def warn_of_damage(clip: Clip) -> None:
    """Tell on stderr what was wrong with a clip, after its last frame, if anything was."""
    if clip.complaint:
        print(f"warning: {clip.complaint}", file=sys.stderr)


class Clip:
    """An open source.

    fps: frames a second; where frames are not evenly spaced, the rate that the file states.
    seconds: the length, if known.
    pixel_aspect: how much wider than high a pixel is shown (upright); valid from the first frame on.
    complaint: after the last frame, what was wrong with the source, in one line; empty if nothing was.
    """

    def __init__(self, source: Source, fps: float, seconds: float | None, pixel_aspect: Fraction = Fraction(1)):
        self.source, self.fps, self.seconds, self.pixel_aspect = source, fps, seconds, pixel_aspect
        self.complaint = ""

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
    """A video file, a stream or a webcam.

    skipped: the packets that were not decoded, because they come before the keyframe that `start` needs.
    """

    def __init__(self, source: Source):
        self.stream = Stream(source)
        seconds = None if source.live else self.stream.seconds
        super().__init__(source, self.stream.fps, seconds, self.stream.pixel_aspect)
        self.skipped = 0
        self._orientation = Orientations()

    def close(self):
        self.stream.close()

    def _all(self, start):
        held: Shown | None = None
        until = 0.0
        for shown in self._shown(start):
            if held is None:
                if self._orientation(shown.frame).transpose:
                    self.pixel_aspect = 1 / self.stream.pixel_aspect
            else:
                self._check_size(held.frame, shown)
            if self.source.live:
                yield shown.time, partial(self._frame, shown, 1 / self.fps)
            elif held is not None:
                # A frame is shown until the next one, whatever duration the file states.
                yield held.time, partial(self._frame, held, shown.time - held.time)
            held = shown
        if held is not None and not self.source.live:
            duration = held.frame.duration * self.stream.tick if held.frame.duration else 1 / self.fps
            until = held.time + duration
            yield held.time, partial(self._frame, held, duration)
        self.complaint = self._verdict(held.number + 1 if held else 0, until)

    def _frame(self, shown: Shown, duration: float) -> Frame:
        pixels = self._orientation(shown.frame).apply(rgb(shown.frame))
        return Frame(pixels, shown.number, shown.time, duration)

    def _check_size(self, before: av.VideoFrame, shown: Shown) -> None:
        size, now = (before.width, before.height), (shown.frame.width, shown.frame.height)
        if size != now:
            change = f"{size[0]}x{size[1]} to {now[0]}x{now[1]} at frame {shown.number}"
            raise InputError(f"{self.source.text}: the frame size changes from {change}; convert it to one size")

    def _shown(self, start: float) -> Iterator[Shown]:
        """The frames from the last keyframe at or before `start` on, or all where only decoding can number them."""
        if start > 0 and self.source.file is not None and self.source.file.is_file():
            opening = read_opening(self.source)
            frames = None if opening is None else self._from_keyframe(start, opening)
            first = None if frames is None else next(frames, None)
            if frames is not None and first is not None:
                yield first
                yield from frames
                return
            # What was read without decoding has to be decoded after all.
            self.stream.close()
            self.stream = Stream(self.source)
            self.skipped = 0
        clock = self.stream.clock()
        number = 0
        for at, packet in self.stream.packets():
            clock.feed(packet, at)
            for shown, frame in self.stream.decode(packet, at):
                yield Shown(number, clock.time(frame, shown), frame)
                number += 1

    def _from_keyframe(self, start: float, opening: Opening) -> Iterator[Shown]:
        """The frames from the last keyframe at or before `start` on; none where packets do not tell their numbers."""
        stamps: list[int] = []
        group = self._skip(start, opening, stamps)
        if not group:
            return
        key_number, key = group[0]
        self.skipped = key_number
        clock = self.stream.clock()
        clock.start_at(opening.origin)
        number = None
        for at, packet in chain(group, self.stream.packets()):
            if number is None and at > group[-1][0] and is_shown(packet, self.stream):
                stamps.append(packet.pts or 0)
            for shown, frame in self.stream.decode(packet, at):
                if number is None:
                    if frame.pts is None or (frame.pts < (key.pts or 0) and key_number > 0):
                        # A frame between two keyframes that also needs the skipped one.
                        continue
                    if key_number > 0 and not key.is_discard and shown != key_number:
                        # The keyframe was none: a picture that is refreshed bit by bit.
                        return
                    number = sum(stamp < frame.pts for stamp in stamps)
                yield Shown(number, clock.time(frame, shown), frame)
                number += 1

    def _skip(self, start: float, opening: Opening, stamps: list[int]) -> list[tuple[int, av.Packet]]:
        """Read up to the time `start`; give the packets since the last keyframe, and note the timestamps of frames.

        Empty where timestamps lack or go back.
        """
        group: list[tuple[int, av.Packet]] = []
        last = None
        for number, packet in self.stream.packets():
            if not packet.size:
                group.append((number, packet))
                break
            if packet.pts is None or (last is not None and packet.dts is not None and packet.dts < last):
                return []
            last = packet.dts if packet.dts is not None else last
            time = (packet.pts - opening.origin) * self.stream.tick
            if packet.is_keyframe and time <= start:
                group.clear()
            group.append((number, packet))
            if is_shown(packet, self.stream) and number not in opening.lost:
                stamps.append(packet.pts)
            if time > start:
                break
        return group

    def _verdict(self, frames: int, until: float) -> str:
        """What was wrong, if anything, with a video that was read to its end at `until` seconds."""
        missing = (self.seconds or until) - until
        broken, damaged = self.stream.broken, self.stream.damaged
        if broken or missing > max(1.5 / self.fps, min(1.0, 0.1 * until)):
            seen = f"{frames} frames, {until:.1f}" + (f" of {self.seconds:.1f} s" if self.seconds else " s")
            return f"{self.source.text}: ends early ({seen}): {broken or 'truncated'}; what decodes was used"
        if self._cut_within_a_packet():
            return f"{self.source.text}: ends within a packet; its last frame may be damaged"
        return f"{self.source.text}: {damaged} packets do not decode" if damaged else ""

    def _cut_within_a_packet(self) -> bool:
        """Whether a transport stream's file does not end where a packet does; FFmpeg then shows a smeared frame."""
        file = self.source.file
        if self.stream.container.format.name != "mpegts" or file is None or not file.is_file():
            return False
        return all(file.stat().st_size % size for size in TRANSPORT_PACKET_BYTES)


@dataclass(frozen=True)
class Shown:
    """A decoded frame, its number among the frames shown and its time in seconds."""

    number: int
    time: float
    frame: av.VideoFrame
