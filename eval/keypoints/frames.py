"""Ground truth and predictions of a video as tables of joints: cleaned up as PoseTrack's tool does, and compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dimofs.cli import InputError
from dimofs.eval.keypoints.polygons import in_any
from dimofs.formats.posetrack import JOINTS, NO_SCORE, NO_TRACK, Video

# Distances that are held in memory at a time.
_BLOCK = 1 << 20


@dataclass(kw_only=True)
class JointTable:
    """The P people of one side (ground truth or predictions) in the F frames that count, sorted by frame.

    has:    [P, 15] bool, the joint is annotated or predicted.
    x, y:   [P, 15] float64, NaN where it is not.
    score:  [P, 15] float64.
    track:  [P] int64, the person's track, numbered from 0 without gaps; there are `tracks` of them.
    index:  [P] int64, the person's number in the Video.
    starts: [F + 1], frame f holds people starts[f] to starts[f + 1].
    """

    has: np.ndarray
    x: np.ndarray
    y: np.ndarray
    score: np.ndarray
    track: np.ndarray
    tracks: int
    index: np.ndarray
    starts: np.ndarray

    def frame(self, number: int) -> slice:
        """The people of frame `number`."""
        return slice(self.starts[number], self.starts[number + 1])


@dataclass(kw_only=True)
class Block:
    """F frames, padded to G people of the ground truth and P predicted ones.

    frames:      [F], their numbers.
    truth, found: [F, G] and [F, P], indices into the two sides' people, -1 for none.
    annotated, predicted: [F, 15, G] and [F, 15, P] bool, the joint is there.
    distance:    [F, 15, G, P] between joints, in units of the ground truth's size; NaN where one is not there.
    """

    frames: np.ndarray
    truth: np.ndarray
    found: np.ndarray
    annotated: np.ndarray
    predicted: np.ndarray
    distance: np.ndarray

    def __getitem__(self, index: np.ndarray) -> Block:
        """The frames that `index` selects."""
        return Block(**{name: values[index] for name, values in vars(self).items()})


def clean(truth: Video, predicted: Video) -> tuple[JointTable, JointTable]:
    """The people and joints of a video that count. What does not is dropped in this order:

    1. frames without people in the ground truth, with their predictions;
    2. people without a list of joints;
    3. in frames with ignore regions, joints strictly inside one, then people without any joint left.

    InputError: the videos differ in length.
    """
    if len(truth.frames) != len(predicted.frames):
        raise InputError(
            f"{predicted.file}: {predicted.name!r} has {len(predicted.frames)} frames, "
            f"{truth.file} has {len(truth.frames)}; predict every frame of the ground truth, empty ones too"
        )
    kept = np.bincount(truth.frame, minlength=len(truth.frames)) > 0
    return _people(truth, kept, truth.regions), _people(predicted, kept, truth.regions)


def _people(video: Video, kept: np.ndarray, regions: list[list[np.ndarray]]) -> JointTable:
    frame = video.frame[video.person]
    gone = np.zeros(len(frame), bool)
    limited = np.array([len(polygons) > 0 for polygons in regions], bool)
    for f in np.flatnonzero(kept & limited):
        of = slice(*np.searchsorted(frame, (f, f + 1)))
        gone[of] = in_any(video.xy[of], regions[f])
    left = np.bincount(video.person[~gone], minlength=len(video.frame)) > 0
    stays = kept[video.frame] & video.listed & (left | ~limited[video.frame])
    # In reverse, so that of a joint listed twice the first one is written last and stays.
    points = np.flatnonzero(~gone & stays[video.person] & (video.joint >= 0))[::-1]
    where = (np.cumsum(stays) - 1)[video.person[points]], video.joint[points]

    def spread(values, empty: float) -> np.ndarray:
        table = np.full((stays.sum(), len(JOINTS)), empty, type(empty))
        table[where] = values
        return table

    ids, track = np.unique(video.track[stays], return_inverse=True)
    return JointTable(
        has=spread(True, False),
        x=spread(video.xy[points, 0], np.nan),
        y=spread(video.xy[points, 1], np.nan),
        score=spread(video.confidence[points], NO_SCORE),
        track=track,
        tracks=len(ids),
        index=np.flatnonzero(stays),
        starts=np.searchsorted(video.frame[stays], np.append(np.flatnonzero(kept), len(kept))),
    )


def compare(truth: JointTable, predicted: JointTable, size: np.ndarray) -> Iterator[Block]:
    """The frames that have people on both sides, in order; `size` [P] is the unit of distance of each true person."""
    both = np.flatnonzero((np.diff(truth.starts) > 0) & (np.diff(predicted.starts) > 0))
    if not len(both):
        return
    most = [np.diff(side.starts)[both].max() for side in (truth, predicted)]
    step = max(1, _BLOCK // (len(JOINTS) * int(most[0]) * int(most[1])))
    true_places, found_places = (np.stack((side.x, side.y), axis=-1) for side in (truth, predicted))  # [P, 15, 2]
    for start in range(0, len(both), step):
        frames = both[start : start + step]
        g, p = _padded(truth, frames), _padded(predicted, frames)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            vectors = _at(true_places, g, np.nan)[:, :, :, None] - _at(found_places, p, np.nan)[:, :, None]
            distance = _length(vectors) / size[g][:, None, :, None]
        yield Block(
            frames=frames,
            truth=g,
            found=p,
            annotated=_at(truth.has, g, False),
            predicted=_at(predicted.has, p, False),
            distance=distance,
        )


def _length(vectors: np.ndarray) -> np.ndarray:
    """[..., 2] -> [...], to the last bit the `np.linalg.norm` of each vector: a dot product, which may fuse its steps.

    The official tool's figures depend on that bit where a distance is exactly at a limit, or two are equal.
    """
    return np.sqrt((vectors[..., None, :] @ vectors[..., None])[..., 0, 0])


def _padded(people: JointTable, frames: np.ndarray) -> np.ndarray:
    """[F, N] the people of these frames, padded with -1."""
    count = np.diff(people.starts)[frames, None]
    column = np.arange(count.max())
    return np.where(column < count, people.starts[frames, None] + column, -1)


def _at(values: np.ndarray, index: np.ndarray, empty: float) -> np.ndarray:
    """[P, 15, ...] taken at the people [F, N], with `empty` for -1 -> [F, 15, N, ...]."""
    nobody = np.expand_dims(index < 0, tuple(range(2, values.ndim + 1)))
    return np.where(nobody, empty, values[index]).swapaxes(1, 2)


def head_sizes(truth: Video, people: JointTable, predicted: JointTable) -> np.ndarray:
    """[P] 0.6 times the diagonal of each person's head box.

    InputError: a head box is missing in a frame with predictions.
    """
    head = truth.head[people.index]
    lacks = np.isnan(head).any(axis=1) & np.repeat(np.diff(predicted.starts) > 0, np.diff(people.starts))
    if lacks.any():
        place = truth.places[people.index[lacks.argmax()]]
        raise InputError(f"{truth.file}: {place} has no head box (bbox_head, or x1 to y2); evaluate with --oks")
    with np.errstate(invalid="ignore", over="ignore"):
        return 0.6 * _length(head[:, 2:] - head[:, :2])


def check_tracks(video: Video, people: JointTable) -> None:
    """InputError unless all `people` have a track id."""
    lacks = video.track[people.index] == NO_TRACK
    if lacks.any():
        place = video.places[people.index[lacks.argmax()]]
        raise InputError(f"{video.file}: {place}.track_id is missing; give ids, or evaluate with --no-tracking")
