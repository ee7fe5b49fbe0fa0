"""What each tracked person does over time: action probabilities smoothed along the track, and the segments that
follow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Times are sums of a frame's time and duration, seconds, and so not exact.
ROUNDING = 1e-6


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A stretch of one track with one action. start, end: seconds, of its first frame and of the end of its last.

    score: the mean smoothed probability of the action.
    """

    start: float
    end: float
    track: int
    action: str
    score: float


class Smoother:
    """Probabilities of each track as an exponential moving average over its frames.

    weight: of what was before, 0 (no smoothing) to 1.
    """

    def __init__(self, weight: float):
        self.weight = weight
        self._last: dict[int, Tensor] = {}

    def __call__(self, ids: Sequence[int], probabilities: Tensor) -> Tensor:
        """Those of one frame, [P, C], for the tracks `ids` -> smoothed [P, C]. The first frame of a track stays."""
        rows = []
        for track, row in zip(ids, probabilities, strict=True):
            before = self._last.get(track)
            self._last[track] = row if before is None else self.weight * before + (1 - self.weight) * row
            rows.append(self._last[track])
        return torch.stack(rows) if rows else probabilities


class Segments:
    """Collects segments frame by frame.

    A segment ends where the most probable action of its track changes, or where the track is out of sight for longer
    than `gap` seconds. Segments shorter than `shortest` seconds are left out, by more than the rounding of their times.
    """

    def __init__(self, names: Sequence[str], *, shortest: float = 0.0, gap: float = 0.5):
        self.names, self.shortest, self.gap = tuple(names), shortest, gap
        self._open: dict[int, _Open] = {}

    def add(self, time: float, duration: float, ids: Sequence[int], probabilities: Tensor) -> Iterator[Segment]:
        """Add the people of a frame that is shown from `time` for `duration`; gives the segments that have ended."""
        for track, row in zip(ids, probabilities, strict=True):
            score, action = (x.item() for x in row.max(0))
            current = self._open.get(track)
            if current is not None and (current.action != action or time - current.end > self.gap):
                yield from self._closed(track)
                current = None
            if current is None:
                current = self._open[track] = _Open(start=time, end=time, action=int(action), scores=[])
            current.end = time + duration
            current.scores.append(score)

    def finish(self) -> Iterator[Segment]:
        """The segments that are still open at the end of the clip."""
        for track in sorted(self._open):
            yield from self._closed(track)

    def _closed(self, track: int) -> Iterator[Segment]:
        segment = self._open.pop(track)
        if segment.end - segment.start >= self.shortest - ROUNDING:
            score = sum(segment.scores) / len(segment.scores)
            yield Segment(
                start=segment.start, end=segment.end, track=track, action=self.names[segment.action], score=score
            )


@dataclass(kw_only=True)
class _Open:
    start: float
    end: float
    action: int
    scores: list[float]
