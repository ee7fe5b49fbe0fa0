"""Single frames of videos by number: frame k is the k-th that is shown, as `dimofs.video` counts them."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError

from dimofs.cli import InputError
from dimofs.pixels import Orientations, rgb
from dimofs.sources import Source, video_source
from dimofs.streams import Stream, is_shown, read_opening
from dimofs.video import open_clip

# A file with more packets is not decoded whole to number its frames, if its packets tell their numbers.
DECODED_WHOLE_PACKETS = 1000
# As many packets are read from the start rather than found by seeking.
READ_THROUGH_PACKETS = 300
CACHED_INDEXES = 4096


@dataclass(frozen=True)
class Index:
    """Which packet shows which frame of a file.

    order: the number of the packet of each frame, in the order shown; numbers: the frame of each packet that shows one.
    keys: the numbers of packets with keyframes.
    stamps, places: each packet's decoding timestamp and place in the file, None where unknown.
    """

    order: list[int]
    numbers: dict[int, int]
    keys: list[int]
    stamps: list[int | None]
    places: list[int | None]


class FrameReader:
    """Random access to the frames of a video file. The index of a file is made once and kept in memory.

    InputError: the file is absent, is no video, or shows no frame.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.source = video_source(self.path)
        self.index = _cached_index(self.path)
        self._orientation = Orientations()

    def __len__(self) -> int:
        return len(self.index.order)

    def read(self, numbers: Sequence[int]) -> list[np.ndarray]:
        """The frames with these numbers, each [H, W, 3] uint8 RGB, upright; decodes from the last keyframe before.

        InputError: the video is shorter, or a frame does not decode.
        """
        if not all(0 <= number < len(self) for number in numbers):
            raise InputError(f"{self.path}: has {len(self)} frames, its labels name frame {max(numbers)}")
        wanted = {self.index.order[number]: number for number in numbers}
        keys = self._keys_before(min(numbers))
        while keys:
            found = self._decode(keys.pop(), wanted)
            if len(found) == len(wanted):
                return [found[number] for number in numbers]
        raise InputError(f"{self.path}: frame {max(numbers)} does not decode; download it again")

    def _keys_before(self, number: int) -> list[int]:
        """Where decoding may start for a frame, best last: keyframes that are shown no later, or the start."""
        index = self.index
        before = index.keys[: bisect_right(index.keys, index.order[number])]
        # A keyframe that is never shown, as an edit list hides it, is as good.
        good = (key for key in reversed(before) if index.numbers.get(key, -1) <= number)
        return [0, *reversed(list(islice(good, 2)))]

    def _decode(self, key: int, wanted: dict[int, int]) -> dict[int, np.ndarray]:
        """Frames by number, decoded from packet `key` on; `wanted` gives their numbers by those of their packets."""
        found: dict[int, np.ndarray] = {}
        with closing(self._open_at(key)) as opened:
            for packet, frame in opened:
                number = wanted.get(packet)
                if number is not None:
                    found[number] = self._orientation(frame).apply(rgb(frame))
                    if len(found) == len(wanted):
                        break
        return found

    def _open_at(self, key: int) -> Generator[tuple[int, av.VideoFrame]]:
        """The frames that decode from packet `key` on, with the numbers of their packets."""
        stream = Stream(self.source, threads=1)
        try:
            if key > READ_THROUGH_PACKETS and not self._seek(stream, key):
                stream.close()
                stream = Stream(self.source, threads=1)
            for number, packet in stream.packets():
                if number >= key or not packet.size:
                    yield from stream.decode(packet, number)
        finally:
            stream.close()

    def _seek(self, stream: Stream, key: int) -> bool:
        """Go to a packet no later than `key`; False where the container does not tell which one that is."""
        stamp = self.index.stamps[key]
        if stamp is None:
            return False
        try:
            stream.seek(stamp)
            packet = stream.peek()
        except FFmpegError:
            return False
        if packet is None or packet.pos is None or self.index.places.count(packet.pos) != 1:
            return False
        stream.position = self.index.places.index(packet.pos)
        return stream.position <= key and self.index.stamps[stream.position] == packet.dts


def count_frames(path: str | Path) -> int:
    """How many frames a video shows. InputError: absent, damaged or empty."""
    return len(FrameReader(path))


def read_frames(path: str | Path, numbers: Sequence[int]) -> list[np.ndarray]:
    """The frames with these numbers (see `FrameReader.read`)."""
    return FrameReader(path).read(numbers)


def read_clip(path: str | Path) -> Iterator[np.ndarray]:
    """Each frame of a video, [H, W, 3] uint8 RGB, upright, in the order shown. InputError: absent or damaged."""
    clip = open_clip(video_source(Path(path)))
    with closing(clip), closing(clip.frames()) as frames:
        for frame in frames:
            yield frame.pixels


_indexes: OrderedDict[tuple, Index] = OrderedDict()


def _cached_index(path: Path) -> Index:
    try:
        about = path.stat()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    key = (path, about.st_size, about.st_mtime_ns)
    if key not in _indexes:
        _indexes[key] = _make_index(path)
        if len(_indexes) > CACHED_INDEXES:
            _indexes.popitem(last=False)
    _indexes.move_to_end(key)
    return _indexes[key]


def _make_index(path: Path) -> Index:
    source = video_source(path)
    keys: list[int] = []
    stamps: list[int | None] = []
    places: list[int | None] = []
    shown: dict[int, int | None] = {}
    with closing(Stream(source, threads=1)) as stream:
        for number, packet in stream.packets():
            if not packet.size:
                break
            stamps.append(packet.dts)
            places.append(packet.pos)
            if packet.is_keyframe:
                keys.append(number)
            if is_shown(packet, stream):
                shown[number] = packet.pts
    order = _told_order(source, shown) if len(stamps) > DECODED_WHOLE_PACKETS else None
    order = order or _decoded_order(source)
    if not order:
        raise InputError(f"{path}: holds no frame; download it again")
    return Index(order, {packet: number for number, packet in enumerate(order)}, keys, stamps, places)


def _told_order(source: Source, shown: dict[int, int | None]) -> list[int] | None:
    """The packets of all frames in the order shown, by their timestamps; None where these do not tell it."""
    stamps = {number: stamp for number, stamp in shown.items() if stamp is not None}
    opening = read_opening(source, threads=1)
    if opening is None or len(set(stamps.values())) < len(shown):
        return None
    return sorted(stamps.keys() - opening.lost, key=stamps.__getitem__)


def _decoded_order(source: Source) -> list[int]:
    """The packets of all frames in the order shown, by decoding them."""
    with closing(Stream(source, threads=1)) as stream:
        return [shown for number, packet in stream.packets() for shown, _ in stream.decode(packet, number)]
