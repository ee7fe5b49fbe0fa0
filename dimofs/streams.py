"""The picture stream of a source: its packets by number, and its decoded frames, each with the number of its packet.

Packets are numbered from 0 in the order of the file. Not every packet shows a frame (edit lists hide some, VP8 has
invisible ones, what precedes the first keyframe cannot be decoded), and frames are shown in another order than they are
decoded. So a frame is identified by the number of its packet, which decoders hand through in place of the timestamp.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice

import av
from av.container import InputContainer
from av.error import FFmpegError

from dimofs.cli import InputError
from dimofs.containers import count_tiles, fraction, open_file, picture_stream
from dimofs.sources import Source
from dimofs.timing import Clock, Stamps, frame_rate, stamps_of

# Frames a second where nothing says how many.
DEFAULT_RATE = 25.0
# How many packets are read ahead to measure the frame rate.
SAMPLE_PACKETS = 60
# A decoder shows a frame before it was given as many more packets.
REORDERED_PACKETS = 1000
NETWORK_SECONDS = 15.0
# The bit of a VP8 frame's first byte that says whether it is shown (RFC 6386, section 9.1).
VP8_SHOW_FRAME = 16
# Frames above this are decoded by one thread for each slice, since a thread for each frame holds many of them.
LARGE_FRAME_PIXELS = 1 << 24


class Stream:
    """An open picture stream.

    fps: frames a second. position: the number of the packet that is read next.
    damaged: packets that did not decode so far. broken: what ended the reading early; empty if nothing did.
    """

    def __init__(self, source: Source, threads: int = 0):
        """threads: 0 leaves it to FFmpeg. InputError: the source cannot be opened or holds no video."""
        self.source = source
        self.container = _opened(source)
        try:
            if tiles := count_tiles(self.container):
                raise InputError(f"{source.text}: is a picture of {tiles} tiles; convert it to JPEG")
            self.stream = picture_stream(self.container)
            if self.stream.codec_context is None:
                raise InputError(f"{source.text}: is damaged, or of a codec that FFmpeg does not know; convert it")
        except LookupError as error:
            self.container.close()
            raise InputError(f"{source.text}: holds no video; give a video or an image") from error
        except BaseException:
            self.container.close()
            raise
        context = self.stream.codec_context
        context.thread_count = threads
        context.thread_type = "SLICE" if context.width * context.height > LARGE_FRAME_PIXELS else "AUTO"
        self.tick = float(fraction(self.stream.time_base) or Fraction(1, 90_000))
        self.stamps: Stamps = stamps_of(self.container.format.name, context.name)
        # The timestamps of packets, by number, that the decoder may still hold.
        self._stamps: dict[int, int | None] = {}
        self.damaged = 0
        self.broken = ""
        self.position = 0
        self._demuxed = self._demux()
        # Looking ahead would delay a webcam.
        self._sample = [] if source.live else list(islice(self._demuxed, SAMPLE_PACKETS))
        self.fps = self._frame_rate()

    def close(self) -> None:
        """Free what the stream holds."""
        self.container.close()

    def clock(self) -> Clock:
        """A clock for its frames, from the first one on."""
        return Clock(self.stamps, self.tick, self.fps)

    @property
    def pixel_aspect(self) -> Fraction:
        """How much wider than high a stored pixel is shown."""
        return fraction(self.stream.sample_aspect_ratio) or Fraction(1)

    @property
    def seconds(self) -> float | None:
        """The length that the file claims."""
        if self.container.format.name == "avi":
            # FFmpeg takes the duration of an AVI from the size that the file has: a cut one would seem whole.
            return self.stream.frames * self.tick or None
        if self.stream.duration is not None:
            return self.stream.duration * self.tick
        return self.container.duration / av.time_base if self.container.duration else None

    def packets(self) -> Iterator[tuple[int, av.Packet]]:
        """The packets not read yet with their numbers; the last is empty, which has the decoder give what it holds."""
        while (packet := self._sample.pop(0) if self._sample else next(self._demuxed, None)) is not None:
            self.position += 1
            yield self.position - 1, packet

    def decode(self, packet: av.Packet, number: int) -> list[tuple[int, av.VideoFrame]]:
        """The frames that are shown next, if any, with the numbers of their packets.

        A packet that does not decode is counted.
        """
        if len(self._stamps) > 2 * REORDERED_PACKETS:
            self._stamps = {n: stamp for n, stamp in self._stamps.items() if n > number - REORDERED_PACKETS}
        self._stamps[number], packet.pts = packet.pts, number
        try:
            frames = self.stream.decode(packet if packet.size else None)
        except FFmpegError:
            self.damaged += 1
            return []
        decoded = []
        for frame in frames:
            shown = number if frame.pts is None else frame.pts
            frame.pts = self._stamps.get(shown)
            decoded.append((shown, frame))
        return decoded

    def seek(self, stamp: int) -> None:
        """Go on reading at a keyframe before this timestamp. FFmpegError: the container cannot do that."""
        self.container.seek(stamp, stream=self.stream)
        self._sample, self._demuxed = [], self._demux()

    def peek(self) -> av.Packet | None:
        """The next packet, which is read again by `packets`; None at the end."""
        if not self._sample:
            packet = next(self._demuxed, None)
            if packet is None:
                return None
            self._sample.append(packet)
        return self._sample[0]

    def _demux(self) -> Iterator[av.Packet]:
        try:
            yield from self.container.demux(self.stream)
        except FFmpegError as error:
            self.broken = reason(error)
            yield av.Packet()

    def _frame_rate(self) -> float:
        stated = (fraction(self.stream.guessed_rate), fraction(self.stream.average_rate))
        candidates = [float(rate) for rate in stated if rate]
        shown = [p for p in self._sample if not p.is_discard and p.size]
        stamps = [p.pts if self.stamps == "presentation" else p.dts for p in shown]
        times = [stamp * self.tick for stamp in stamps if stamp is not None]
        return frame_rate(times, candidates) or DEFAULT_RATE


def _opened(source: Source) -> InputContainer:
    try:
        if source.file is not None:
            return open_file(source.file)
        timeout = NETWORK_SECONDS if "://" in source.address else None
        return av.open(source.address, format=source.format, timeout=timeout, metadata_errors="replace")
    except (OSError, FFmpegError, ValueError) as error:
        raise InputError(f"{source.text}: cannot be read ({reason(error)}); is it a video, and whole?") from error


def reason(error: Exception) -> str:
    """What an exception says, in one line."""
    return " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())


@dataclass(frozen=True)
class Opening:
    """What decoding the first group of pictures of a stream shows about all of it.

    origin: the timestamp of the first frame shown. lost: the numbers of packets that the start of the file lacks the
    references of, so that their frames are never shown.
    """

    origin: int
    lost: frozenset[int]


def read_opening(source: Source, threads: int = 0) -> Opening | None:
    """The opening of a file, None unless each packet has a timestamp and shows one frame at the time that it states.

    Then packets alone tell how many frames precede one, and what comes before need not be decoded.
    """
    stream = Stream(source, threads)
    try:
        return None if stream.stamps != "presentation" else _opening(stream)
    finally:
        stream.close()


def _opening(stream: Stream) -> Opening | None:
    fed: dict[int, int] = {}
    shown: dict[int, int] = {}
    second_key = None
    for number, packet in stream.packets():
        if is_shown(packet, stream):
            if packet.pts is None:
                return None
            if packet.is_keyframe and shown and second_key is None:
                second_key = number
            fed[number] = packet.pts
        for frame_number, frame in stream.decode(packet, number):
            shown[frame_number] = -1 if frame.pts is None else frame.pts
        if second_key is not None and max(shown, default=-1) >= second_key:
            break
    if not shown or len(set(fed.values())) < len(fed):
        return None
    as_stated = all(fed.get(number) == stamp for number, stamp in shown.items())
    if not as_stated or list(shown.values()) != sorted(shown.values()):
        return None
    origin = next(iter(shown.values()))
    first_group = [number for number in fed if second_key is None or number < second_key]
    lost = frozenset(first_group) - shown.keys()
    return None if any(fed[number] > origin for number in lost) else Opening(origin, lost)


def is_shown(packet: av.Packet, stream: Stream) -> bool:
    """Whether a packet should show a frame: it is not hidden by an edit list and not one of VP8's invisible frames."""
    if not packet.size or packet.is_discard:
        return False
    return stream.stream.codec_context.name != "vp8" or bool(memoryview(packet)[0] & VP8_SHOW_FRAME)
