"""Tracks that move on and people who are not sure: the Kalman filter by hand, crossings, occlusions, two stages."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from dimofs.detections import Detections
from dimofs.kalman import Kinematics
from dimofs.motion import Motion
from dimofs.tracking import NONE, TRACKERS, Tracker, follow

STILL = Tracker(gate=0.9, patience=30)
MOVING = replace(STILL, velocity=True)
SURE = replace(STILL, sure=0.7)


def people(*found: tuple[float, float]) -> Detections:
    """People of 10 x 20 pixels, from (left edge, score); all their joints lie in the upper left corner."""
    lefts, scores = torch.tensor(found).reshape(-1, 2).unbind(1)
    boxes = torch.stack((lefts, torch.zeros_like(lefts), lefts + 10, torch.full_like(lefts, 20)), dim=1)
    corners = boxes[:, None, :2].expand(-1, 3, 2)
    return Detections(boxes, scores, corners, torch.zeros(len(lefts), 3))


def walk(*paths: Sequence[float | None]) -> list[Detections]:
    """Frame by frame the people, all sure, who walk along `paths` of left edges; None hides one."""
    return [people(*((x, 1.0) for x in frame if x is not None)) for frame in zip(*paths, strict=True)]


def ids(
    frames: Sequence[Detections], tracker: Tracker, motions: Sequence[Motion | None] | None = None
) -> list[list[int]]:
    tracks, result = NONE, []
    for found, motion in zip(frames, motions or [None] * len(frames), strict=True):
        tracks, found = follow(tracks, found, tracker, 100, 400, motion)
        assert found.ids is not None
        result.append(found.ids.tolist())
    return result


# --- the filter -----------------------------------------------------------------------------------------------------


def test_the_filter_by_hand():
    """A frame later the variances are .01 + .0625² + (1/320)² = .013916 of the place and .0625² + (1/160)²/2 = .003926
    of both. Measured with .05², the place takes .013916/.016416 = .8477 of the surprise, the velocity .2391."""
    start = Kinematics.start(torch.tensor([[0.0, 0, 10, 20]]))
    torch.testing.assert_close(start.variance, torch.tensor([[0.01, 0, 0.0625**2]]))
    ahead = start.predicted()
    torch.testing.assert_close(ahead.centre, torch.tensor([[5.0, 10.0]]))
    torch.testing.assert_close(ahead.variance, torch.tensor([[0.0139160, 0.0039258, 0.0039453]]), atol=1e-7, rtol=0)
    seen = ahead.corrected(torch.tensor([[10.0, 0, 20, 20]]))
    torch.testing.assert_close(seen.centre, torch.tensor([[5 + 8.4771, 10]]), atol=1e-3, rtol=0)
    torch.testing.assert_close(seen.velocity, torch.tensor([[2.3914, 0]]), atol=1e-3, rtol=0)
    assert seen.variance[0, 0].item() == pytest.approx(0.013916 * (1 - 0.84771), abs=1e-6)


def test_the_filter_learns_a_constant_velocity():
    moves = Kinematics.start(torch.tensor([[0.0, 0, 10, 20]]))
    for step in range(1, 30):
        moves = moves.predicted().corrected(torch.tensor([[3.0 * step, -step, 10 + 3 * step, 20 - step]]))
    torch.testing.assert_close(moves.velocity, torch.tensor([[3.0, -1]]), atol=0.05, rtol=0)
    torch.testing.assert_close(moves.predicted().centre, torch.tensor([[5 + 90.0, 10 - 30]]), atol=0.2, rtol=0)


def test_two_frames_at_once_are_two_frames():
    """The place and velocity expected are the same, and so is the variance but for how the acceleration is drawn."""
    moves = Kinematics(torch.tensor([[5.0, 10]]), torch.tensor([[3.0, -1]]), torch.tensor([[0.01, 0.002, 0.004]]))
    once, twice = moves.predicted(2), moves.predicted().predicted()
    torch.testing.assert_close(once.centre, twice.centre)
    torch.testing.assert_close(once.variance, twice.variance, atol=2e-4, rtol=0)
    torch.testing.assert_close(moves.predicted(0).variance, moves.variance)


def test_variances_stay_positive():
    moves = Kinematics.start(torch.zeros(1, 4))
    for step in range(2000):
        moves = moves.predicted()
        if step % 3:
            moves = moves.corrected(torch.zeros(1, 4))
        place, both, velocity = moves.variance[0].tolist()
        assert place > 0 and velocity > 0 and place * velocity > both**2


# --- tracks that move on --------------------------------------------------------------------------------------------


def test_two_of_a_size_cross():
    """5 pixels a frame: at 25 and 27 they have met, then one is at 30 and the other at 22, nearer to where the other
    one was."""
    right, left = [5.0 * t for t in range(11)], [52 - 5.0 * t for t in range(11)]
    assert ids(walk(right, left), MOVING) == [[0, 1]] * 11
    assert ids(walk(right, left), STILL)[6:] == [[1, 0]] * 5


def test_ten_frames_of_occlusion():
    """A walker of 4 pixels a frame comes back 44 pixels on, behind somebody who stands there."""
    walker: list[float | None] = [4.0 * t if not 8 <= t < 18 else None for t in range(25)]
    stander = [50.0] * 25
    assert [found[-1] for found in ids(walk(stander, walker), MOVING) if len(found) == 2] == [1] * 15
    assert ids(walk(stander, walker), STILL)[-1] == [0, 2]
    assert ids(walk(stander, walker), replace(MOVING, patience=9))[-1] == [0, 2]
    assert ids(walk(stander, walker), TRACKERS["default"])[-1] == [0, 1]


def test_the_motion_of_the_picture_instead():
    """The same walker, but what the model saw move carries the lost track on."""
    walker: list[float | None] = [4.0 * t if not 8 <= t < 18 else None for t in range(25)]
    flow = Motion(torch.tensor([4.0, 0]).reshape(2, 1, 1), 100, 400)
    assert ids(walk(walker), replace(STILL, motion=True), [None, *[flow] * 24])[-1] == [0]


def test_frames_left_out_count():
    """4 pixels a frame, then 5 frames are left out: 24 pixels at once."""
    tracks = NONE
    for t in range(8):
        tracks, _ = follow(tracks, people((4.0 * t, 1)), MOVING, 100, 400)
    for elapsed, expected in ((6, [0]), (1, [1])):
        _, found = follow(tracks, people((28 + 24.0, 1)), MOVING, 100, 400, elapsed=elapsed)
        assert found.ids is not None and found.ids.tolist() == expected
    tracks, _ = follow(tracks, people(), MOVING, 100, 400, elapsed=30)
    assert len(tracks) == 1 and len(follow(tracks, people(), MOVING, 100, 400, elapsed=0.5)[0]) == 0


def test_lost_tracks_that_move_on_leave_the_frame_and_end():
    tracks = NONE
    for t in range(8):
        tracks, _ = follow(tracks, people((350 + 5.0 * t, 1)), MOVING, 100, 400)
    for _ in range(30):
        tracks, _ = follow(tracks, people(), MOVING, 100, 400)
    assert tracks.last.boxes[0, 0] > 400
    assert len(follow(tracks, people(), MOVING, 100, 400)[0]) == 0


# --- people who are not sure ----------------------------------------------------------------------------------------


def test_the_sure_are_linked_first():
    """The track at 0 continues in the sure person at 3, not in the unsure one at 1, who overlaps and starts none."""
    frames = [people((0, 0.9)), people((1, 0.6), (3, 0.9))]
    assert ids(frames, SURE) == [[0], [0]]
    assert ids(frames, STILL) == [[0], [0, 1]]


def test_the_unsure_continue_tracks():
    """3 pixels on, the IoU is 7/13 and the cost .4615. They also continue a track after a frame without anybody."""
    assert ids([people((0, 0.9)), people((3, 0.6)), people((6, 0.5))], SURE) == [[0], [0], [0]]
    assert ids([people((0, 0.9)), people(), people((0, 0.6))], SURE) == [[0], [], [0]]
    assert ids([people((0, 0.9)), people((3, 0.6))], replace(SURE, unsure_gate=0.46)) == [[0], [1]]
    assert ids([people((0, 0.9)), people((3, 0.6))], replace(SURE, unsure_gate=0.47)) == [[0], [0]]


@pytest.mark.parametrize(("left", "starts"), [(5.0, False), (5.5, True), (50.0, True)])
def test_the_unsure_start_tracks_apart_from_others(left, starts):
    """At 5 the IoU with the sure person at 0 is 5/15, at 5.5 it is 4.5/15.5 = .29."""
    assert ids([people((0, 0.9), (left, 0.6))], SURE) == [[0, 1] if starts else [0]]


def test_two_unsure_people_alone_both_start():
    assert ids([people((0, 0.6), (2, 0.6))], SURE) == [[0, 1]]


def test_scores_below_the_threshold_continue_tracks_and_start_none():
    """ByteTrack's second stage: .2 continues, but not a track that was lost before; .1 is too low; a lone .4 starts
    nothing."""
    byte = replace(SURE, score=0.5, low=0.2)
    assert ids([people((0, 0.9)), people(), people((0, 0.4)), people((0, 0.6))], byte) == [[0], [], [], [0]]
    frames = [people((0, 0.9), (50, 0.4)), people((1, 0.2), (50, 0.4)), people((2, 0.1)), people((2, 0.9))]
    assert ids(frames, byte) == [[0], [0], [], [0]]
    assert ids(frames, replace(byte, low=None)) == [[0], [], [], [0]]


@pytest.mark.parametrize("name", TRACKERS)
def test_nan_scores_are_nobody(name):
    tracks, found = follow(NONE, people((0, math.nan), (50, 0.99)), replace(TRACKERS[name], area=0.0), 100, 400)
    assert found.ids is not None and found.ids.tolist() == [0] and len(tracks) == 1
