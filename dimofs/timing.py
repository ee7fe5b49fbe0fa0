"""When the frames of a video are shown: their rate, and times that ascend even where a file's timestamps do not."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from itertools import pairwise
from statistics import median
from typing import Literal

import av

# Containers and codecs whose packets have one timestamp, in the order of decoding, from which FFmpeg guesses when
# frames are shown, wrongly where frames are decoded in another order than they are shown.
UNRELIABLE = {"avi": ("h264", "hevc", "vvc"), "asf": ("",)}
# Two rates are taken for the same if they differ by less than this part.
SAME_RATE = 0.02
# A step back by more seconds, or more frames in a row that go back, is a recording that begins anew.
JUMP_SECONDS = 0.5
JUMP_FRAMES = 4

Stamps = Literal["presentation", "decoding"]


def stamps_of(container: str, codec: str) -> Stamps:
    """Which timestamps of a container (FFmpeg's name of it) say when frames of this codec are shown.

    "presentation": each frame has its own. "decoding": sorted, they are those of the frames in the order shown.
    """
    codecs = UNRELIABLE.get(container, ())
    return "decoding" if codecs == ("",) or codec in codecs else "presentation"


def frame_rate(times: Sequence[float], candidates: Sequence[float]) -> float | None:
    """Frames a second of a video whose first frames are shown at `times` (seconds, in any order).

    If they are evenly spaced it is the candidate (a rate that the file states) that fits them, or else their own rate;
    if they are not, it is the first candidate. None where neither times nor candidates are known.
    """
    ordered = sorted(times)
    steps = [b - a for a, b in pairwise(ordered) if b > a]
    if len(steps) < 2:
        return candidates[0] if candidates else None
    typical = median(steps)
    even = sum(abs(step - typical) <= 0.002 + SAME_RATE * typical for step in steps) > 0.8 * len(steps)
    if not even:
        return candidates[0] if candidates else 1 / typical
    # Timestamps are often rounded to milliseconds: the mean of the even steps is more precise than one of them.
    regular = [step for step in steps if abs(step - typical) <= 0.002 + SAME_RATE * typical]
    measured = len(regular) / sum(regular)
    fitting = [rate for rate in candidates if abs(rate / measured - 1) < SAME_RATE]
    return min(fitting, key=lambda rate: abs(rate - measured)) if fitting else measured


class Clock:
    """Gives the frames of a video, one by one in the order shown, times in seconds from 0 that strictly ascend.

    Timestamps that begin anew, as where recordings were joined, continue where the last ones ended. A frame without
    timestamp is shown when the one before it ends.
    """

    def __init__(self, stamps: Stamps, tick: float, fps: float):
        """stamps: from `stamps_of`. tick: seconds a unit of the timestamps. fps: frames a second, where they lack."""
        self.stamps, self.tick = stamps, tick
        # The usual distance of two frames, in units of the timestamps.
        self.step = max(1, round(1 / (fps * tick)))
        self.origin = 0
        # Added to timestamps since a recording began anew; the first timestamp of that recording.
        self.shift = 0
        self.first: int | None = None
        self.last: int | None = None
        self.last_duration = 0
        self.backward = 0
        self.waiting: list[tuple[int, int]] = []

    def start_at(self, origin: int) -> None:
        """Let the frame with the timestamp `origin` define time 0; frames after it may follow at once."""
        self.origin = self.first = origin
        self.last = origin - 1

    def feed(self, packet: av.Packet, number: int) -> None:
        """Note the timestamp of a packet that is decoded next."""
        if self.stamps == "decoding" and packet.dts is not None and packet.size and not packet.is_discard:
            heappush(self.waiting, (packet.dts, number))

    def time(self, frame: av.VideoFrame, number: int) -> float:
        """When the next frame is shown, which was decoded from packet `number`."""
        stamp = self._stamp(frame, number)
        if self.last is None:
            # The first frame defines time 0.
            value = self.origin = self.first = stamp or 0
        elif stamp is None:
            value = self.last + (self.last_duration or self.step)
        else:
            value = self._ascending(stamp, self.last)
        self.last, self.last_duration = value, frame.duration or 0
        return (value - self.origin) * self.tick

    def _stamp(self, frame: av.VideoFrame, number: int) -> int | None:
        if self.stamps == "presentation":
            return frame.pts
        if frame.key_frame:
            # Whatever precedes a keyframe in the file and was not shown before it never will be.
            self.waiting = [entry for entry in self.waiting if entry[1] >= number]
        return heappop(self.waiting)[0] if self.waiting else None

    def _ascending(self, stamp: int, last: int) -> int:
        """The timestamp, mended if it is not above the last one."""
        value = stamp + self.shift
        if value > last:
            self.backward = 0
            return value
        self.backward += 1
        anew = self.first is not None and stamp <= self.first
        if anew or self.backward >= JUMP_FRAMES or (last - value) * self.tick > JUMP_SECONDS:
            self.shift += last + (self.last_duration or self.step) - value
            self.first, self.backward = stamp, 0
            return stamp + self.shift
        return last + max(1, self.step // 2)
