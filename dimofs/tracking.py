"""Tracking: link people from frame to frame by Hungarian assignment on boxes, poses, or poses moved by the DiMoFs.

    tracks = NONE
    for people in ...:
        tracks, people = follow(tracks, people, TRACKERS["default"], height, width)

The cost of linking a track with a person is the weighted mean of

    1 - IoU   of their boxes
    1 - OKS   of their joints: the mean of exp(-d^2 / (2 k^2 area)), d the distance between the two places of a joint,
              area that of the track's box
    1 - PCK   of their joints: the share of joints with d <= k sqrt(area)

Each joint is weighted by the product of its two confidences. k = 0.2 allows for the motion between two frames.

All of them work online, frame by frame. Tracks that are out of sight wait, or move on at constant velocity or with the
motion that the model saw. People who are not sure are linked after the others and start a track only where they
overlap nobody. A joint that two people claim in one place goes to one of them (`dimofs.claims`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from dimofs import boxes
from dimofs.claims import LATEST, claims, lost
from dimofs.cli import InputError, check_ranges
from dimofs.detections import Detections
from dimofs.kalman import Kinematics, centres
from dimofs.motion import Motion

# k: the distance that counts as near, in units of the square root of the area of the track's box.
REACH = 0.2
# Frames that have elapsed are computed from times, and so are not exact.
ROUNDING = 0.01
# An unsure person who overlaps a linked one by a larger IoU starts no track.
DOUBLE = 0.3


@dataclass(frozen=True, kw_only=True)
class Tracker:
    """How people are linked.

    iou, oks, pck: weights of the three costs.
    gate:     highest cost of a link; 1 accepts every link of the assignment.
    patience: frames that a track may miss before it ends.
    velocity: before linking, move the tracks on at constant velocity (`dimofs.kalman`), lost ones too.
    motion:   before linking, move the tracks by the motion that the model estimated since the previous frame.
              Without velocity and motion tracks wait where they were last seen.
    birth:    minimum score to start a track. Lower scores may still extend one, and are dropped otherwise.
    score:    minimum score of a person; people below it are dropped.
    sure:     people of at least this score are linked first, the others after them (ByteTrack, Zhang et al., 2022). The
              others start no track where they overlap a linked person: there they mostly are a second finding of that
              person, or a mixture of two.
    unsure_gate: highest cost of a link of people who are not sure.
    low:      if given, people from here to `score` may also continue tracks that were seen in the previous frame.
    exclusive: the same joint of two people is not in one place: who claims it less well loses it (`dimofs.claims`).
    area:     minimum area of a person's box inside the frame, in square pixels; people below it are dropped.
    smooth:   weight of the track's previous pose in its next one, 0 (no smoothing) to 1.
    """

    gate: float
    patience: int
    iou: float = 1.0
    oks: float = 0.0
    pck: float = 0.0
    velocity: bool = False
    motion: bool = False
    birth: float = 0.0
    score: float = 0.0
    sure: float = 0.0
    unsure_gate: float = 0.6
    low: float | None = None
    exclusive: bool = False
    area: float = 0.0
    smooth: float = 0.0

    @property
    def least(self) -> float:
        """The lowest score of a person who may be linked."""
        return self.score if self.low is None else min(self.low, self.score)


TRACKERS = {
    "default": Tracker(gate=0.9, patience=30, oks=1.0, velocity=True, sure=0.7, exclusive=True),
    "iou": Tracker(gate=0.9, patience=10),
    "oks": Tracker(gate=0.9, patience=10, iou=0.0, oks=1.0),
    "pck": Tracker(gate=0.9, patience=10, iou=0.0, pck=1.0),
    "iou+oks": Tracker(gate=0.9, patience=10, oks=1.0),
    "dimofs": Tracker(gate=0.9, patience=10, iou=0.0, oks=1.0, motion=True),
    "iou+dimofs": Tracker(gate=0.9, patience=10, oks=1.0, motion=True),
    "kalman": Tracker(gate=0.9, patience=30, oks=1.0, velocity=True),
    "default+dimofs": Tracker(gate=0.9, patience=30, oks=1.0, motion=True, sure=0.7, exclusive=True),
    "sure": Tracker(gate=0.9, patience=30, oks=1.0, velocity=True, sure=0.7),
    # ByteTrack (Zhang et al., 2022) with its thresholds; it links sure people of .6, and those of .7 start tracks.
    "byte": Tracker(gate=0.8, patience=30, velocity=True, sure=0.6, birth=0.7, low=0.1, unsure_gate=0.5),
    "byte+oks": Tracker(gate=0.9, patience=30, oks=1.0, velocity=True, sure=0.6, birth=0.7, low=0.1, unsure_gate=0.5),
    # Detect-and-Track (Girdhar et al., 2018): the previous frame only, no gate. Its boxes are inclusive and its IoU
    # adds 1 to their sizes, which is the IoU of the continuous boxes here.
    "detect-and-track": Tracker(gate=1.0, patience=0, score=0.95, area=50.0),
}


def tracker_named(
    name: str,
    *,
    gate: float | None = None,
    patience: int | None = None,
    birth: float | None = None,
    sure: float | None = None,
    smooth: float | None = None,
) -> Tracker:
    """TRACKERS[name] with the given values in place of its own. InputError: unknown name, or a value out of range."""
    if name not in TRACKERS:
        raise InputError(f"--tracker {name}: is unknown; choose one of {', '.join(TRACKERS)}")
    check_ranges(gate=(gate, 0, 1), patience=(patience, 0, inf), birth=(birth, -inf, inf), smooth=(smooth, 0, 1))
    check_ranges(sure=(sure, -inf, inf))
    given = {"gate": gate, "patience": patience, "birth": birth, "sure": sure, "smooth": smooth}
    return replace(TRACKERS[name], **{option: value for option, value in given.items() if value is not None})


@dataclass(frozen=True, kw_only=True)
class Tracks:
    """T tracks that can still be extended.

    last:    where each was last seen or, of a tracker that moves them on, is now expected, with its id.
    missed:  [T] float32, the number of frames since it was seen.
    moves:   how each moves.
    kept:    [T, J] float32, how often of late the joint was not another person's (`dimofs.claims`).
    next_id: the id of the next new track.
    """

    last: Detections
    missed: Tensor
    moves: Kinematics
    kept: Tensor
    next_id: int

    def __len__(self) -> int:
        return len(self.missed)

    def __getitem__(self, index: Tensor) -> Tracks:
        """The tracks that `index` (a bool mask or int64 indices) selects."""
        last, missed, moves, kept = (part[index] for part in (self.last, self.missed, self.moves, self.kept))
        return replace(self, last=last, missed=missed, moves=moves, kept=kept)


_NO_IDS = torch.zeros(0, dtype=torch.int64)
NONE = Tracks(
    last=replace(Detections.empty(0), ids=_NO_IDS),
    missed=torch.zeros(0),
    moves=Kinematics.start(torch.zeros(0, 4)),
    kept=torch.zeros(0, 0),
    next_id=0,
)


def follow(
    tracks: Tracks,
    people: Detections,
    tracker: Tracker,
    height: float,
    width: float,
    motion: Motion | None = None,
    elapsed: float = 1.0,
) -> tuple[Tracks, Detections]:
    """The tracks after one more frame of `height` x `width` pixels, and the people of this frame with their ids.

    people:  those found in the frame, on the CPU. They keep their order; their boxes are clipped to the frame. People
             whose box or score is NaN are dropped; a joint that is NaN, or whose score is, counts as not found.
    motion:  from the previous frame to this one, for trackers that use it.
    elapsed: since the previous frame, in frames: 2 where one was left out.

    Ids count from 0 and are never reused. ValueError: the fields of `people` have different lengths, or people have
    another number of joints than the tracks.
    """
    _check_shapes(tracks, people)
    people = people[people.scores >= tracker.least]
    people.boxes = boxes.clip(people.boxes, height, width)
    people = people[boxes.area(people.boxes) >= tracker.area]
    tracks, people = _with_joints(tracks, people)
    tracks = _expected(tracks, tracker, motion, elapsed)
    old, new = _links(tracks, people, tracker)
    if tracker.smooth:
        _smooth(people, new, tracks.last[old], tracker.smooth)

    linked = torch.zeros(len(people), dtype=torch.bool)
    linked[new] = True
    known = linked | _starts(people, linked, tracker)
    gone = torch.zeros_like(people.keypoint_scores, dtype=torch.bool)
    if tracker.exclusive:
        claim = claims(people, new, tracks.last[old], tracks.kept[old], REACH)
        gone[known] = lost(people[known], claim[known])
    seen = _seen(tracks, people, old, new, ~gone)[known]
    seen = _numbered(seen, tracks.next_id)

    missed = tracks.missed + elapsed
    waits = missed <= tracker.patience + ROUNDING
    waits[old] = False
    found = replace(seen.last, keypoint_scores=seen.last.keypoint_scores.masked_fill(gone[known], -inf))
    return _join(seen, replace(tracks, missed=missed)[waits]), found


def _with_joints(tracks: Tracks, people: Detections) -> tuple[Tracks, Detections]:
    """Tracks and people with equally many joints, where there are none of the one or of the other."""
    if not len(tracks):
        tracks = replace(tracks, last=replace(people[:0], ids=_NO_IDS), kept=people.confidences[:0])
    elif not len(people):
        nobody = tracks.last[:0]
        people = replace(people, keypoints=nobody.keypoints, keypoint_scores=nobody.keypoint_scores)
    return tracks, people


def _seen(tracks: Tracks, people: Detections, old: Tensor, new: Tensor, kept: Tensor) -> Tracks:
    """The people [P] as tracks: those of `new` continue the tracks `old`, the others have the id -1.

    kept: [P, J] bool, the joints that are not another person's.
    """
    assert tracks.last.ids is not None
    ids = torch.full((len(people),), -1).index_put((new,), tracks.last.ids[old])
    moves = Kinematics.start(people.boxes).replaced(new, tracks.moves[old].corrected(people.boxes[new]))
    often = kept.float()
    often[new] = tracks.kept[old].lerp(often[new], LATEST)
    missed = torch.zeros(len(people))
    return Tracks(last=replace(people, ids=ids), missed=missed, moves=moves, kept=often, next_id=tracks.next_id)


def _numbered(tracks: Tracks, next_id: int) -> Tracks:
    """The tracks with ids, from `next_id` on, in place of -1."""
    assert tracks.last.ids is not None
    fresh = tracks.last.ids < 0
    after = next_id + int(fresh.sum())
    ids = tracks.last.ids.masked_scatter(fresh, torch.arange(next_id, after))
    return replace(tracks, last=replace(tracks.last, ids=ids), next_id=after)


def _join(seen: Tracks, lost_ones: Tracks) -> Tracks:
    """All tracks; the next id is that of `seen`."""
    return Tracks(
        last=Detections.join((seen.last, lost_ones.last)),
        missed=torch.cat((seen.missed, lost_ones.missed)),
        moves=Kinematics.join((seen.moves, lost_ones.moves)),
        kept=torch.cat((seen.kept, lost_ones.kept)),
        next_id=seen.next_id,
    )


def _expected(tracks: Tracks, tracker: Tracker, motion: Motion | None, elapsed: float) -> Tracks:
    """The tracks where the tracker expects them in the next frame."""
    if tracker.motion and motion is not None:
        tracks = replace(tracks, last=moved(tracks.last, motion))
    if tracker.velocity:
        moves = tracks.moves.predicted(elapsed)
        shift = moves.centre - centres(tracks.last.boxes)
        tracks = replace(tracks, last=shifted(tracks.last, shift), moves=moves)
    return tracks


def _links(tracks: Tracks, people: Detections, tracker: Tracker) -> tuple[Tensor, Tensor]:
    """The tracks and the people that continue them: two index lists of equal length."""
    cost = pair_costs(tracks.last, people, tracker)
    sure = _sure(people, tracker)
    old, new = _assigned(cost, torch.ones(len(tracks), dtype=torch.bool), sure, tracker.gate)
    free = torch.ones(len(tracks), dtype=torch.bool)
    free[old] = False
    cost = cost.masked_fill((tracks.missed > 0)[:, None] & (people.scores < tracker.score), inf)
    more_old, more_new = _assigned(cost, free, ~sure, min(tracker.gate, tracker.unsure_gate))
    return torch.cat((old, more_old)), torch.cat((new, more_new))


def _sure(people: Detections, tracker: Tracker) -> Tensor:
    return people.scores >= max(tracker.score, tracker.sure)


def _starts(people: Detections, linked: Tensor, tracker: Tracker) -> Tensor:
    """[P] bool: those who may start a track, `linked` [P] or not."""
    sure = _sure(people, tracker)
    overlap = boxes.iou(people.boxes, people.boxes[linked | sure]) > DOUBLE
    return (people.scores >= max(tracker.birth, tracker.score)) & (sure | ~overlap.any(dim=1))


def _assigned(cost: Tensor, tracks: Tensor, people: Tensor, gate: float) -> tuple[Tensor, Tensor]:
    """The best assignment of the tracks to the people that two masks select, as numbers of rows and of columns."""
    rows, columns = tracks.nonzero()[:, 0], people.nonzero()[:, 0]
    old, new = assign(cost[rows][:, columns], gate)
    return rows[old], columns[new]


def _check_shapes(tracks: Tracks, people: Detections) -> None:
    count, joints = len(people.boxes), people.keypoints.shape[1]
    expected = ((count, 4), (count,), (count, joints, 2), (count, joints))
    shapes = tuple(tuple(t.shape) for t in (people.boxes, people.scores, people.keypoints, people.keypoint_scores))
    if shapes != expected:
        raise ValueError(f"boxes, scores, keypoints and keypoint_scores have shapes {shapes}, not {expected}")
    before = tracks.last.keypoints.shape[1]
    if len(tracks) and count and joints != before:
        raise ValueError(f"people have {joints} joints, the tracks {before}; start anew with NONE")


def moved(people: Detections, motion: Motion) -> Detections:
    """People with their joints moved by the motion; boxes are moved by the mean of their joints, by confidence."""
    keypoints = motion.move(people.keypoints)
    step = keypoints - people.keypoints
    weight = _weights(people)[..., None]
    shift = (weight * step.nan_to_num(0, 0, 0)).sum(dim=1) / weight.sum(dim=1).clamp(min=1e-6)
    return replace(people, boxes=people.boxes + shift.repeat(1, 2), keypoints=keypoints)


def shifted(people: Detections, shift: Tensor) -> Detections:
    """People moved as a whole, each by its x y of `shift` [P, 2]."""
    return replace(people, boxes=people.boxes + shift.repeat(1, 2), keypoints=people.keypoints + shift[:, None])


def _weights(people: Detections) -> Tensor:
    """[P, J] confidences; 0 where the place of a joint or its score is not a number."""
    return people.confidences.nan_to_num(0).where(people.keypoints.isfinite().all(dim=2), 0.0)


def pair_costs(last: Detections, people: Detections, tracker: Tracker) -> Tensor:
    """[T, P] costs in [0, 1] of linking T tracks, last seen so, with P new people; 1 where they share nothing."""
    similarity = tracker.iou * boxes.iou(last.boxes, people.boxes)
    if tracker.oks or tracker.pck:
        squared = _joint_distances(last, people)
        near = tracker.oks * (squared / -2).exp() if tracker.oks else torch.zeros_like(squared)
        if tracker.pck:
            near += tracker.pck * (squared <= 1)
        ours, theirs = _weights(last)[:, None], _weights(people)
        total = ours[:, 0] @ theirs.T
        similarity = similarity + (near * ours * theirs).sum(dim=2) / total.clamp(min=1e-6)
    return 1 - similarity / (tracker.iou + tracker.oks + tracker.pck)


def _joint_distances(last: Detections, people: Detections) -> Tensor:
    """[T, P, J] squared distances in units of REACH times the square root of the track's area; inf in place of NaN."""
    unit = REACH * boxes.area(last.boxes).clamp(min=1).sqrt()[:, None]
    x, y = (last.keypoints / unit[..., None])[:, None].unbind(-1)
    dx, dy = (x - people.keypoints[..., 0] / unit[:, None]), (y - people.keypoints[..., 1] / unit[:, None])
    return torch.nan_to_num(dx * dx + dy * dy, nan=torch.inf)


def _smooth(people: Detections, index: Tensor, last: Detections, weight: float) -> None:
    """Average the people [index] with their `last` poses, in place. Joints that either pose lacks stay as they are."""
    known = (_weights(last) > 0) & people.keypoints[index].isfinite().all(dim=2)
    people.boxes[index] = people.boxes[index].lerp(last.boxes, weight)
    averaged = people.keypoints[index].lerp(last.keypoints, weight)
    people.keypoints[index] = averaged.where(known[..., None], people.keypoints[index])


def assign(cost: Tensor, gate: float) -> tuple[Tensor, Tensor]:
    """The best assignment of rows to columns of [T, P] costs: two index lists of equal length.

    A cost above the gate counts as the gate, so that no good link is given up to make room for a bad one.
    """
    rows, columns = map(torch.from_numpy, linear_sum_assignment(cost.clamp(max=gate).double().numpy()))
    joined = cost[rows, columns] <= gate
    return rows[joined], columns[joined]
