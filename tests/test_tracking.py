"""Tracks by hand: walks, crossings, gaps, gates, ties, empty frames, NaN, and the Detect-and-Track baseline."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dimofs.detections import Detections
from dimofs.motion import Motion
from dimofs.tracking import NONE, TRACKERS, Tracker, follow, moved, pair_costs

PLAIN = Tracker(gate=0.8, patience=2)
BASELINE = TRACKERS["detect-and-track"]


def people(*lefts, heights=(20.0,), scores=None) -> Detections:
    """People 10 pixels wide and 20 high, with these left edges, side by side."""
    sizes = heights * len(lefts) if len(heights) == 1 else heights
    boxes = torch.tensor([[x, 0.0, x + 10.0, h] for x, h in zip(lefts, sizes, strict=True)]).reshape(-1, 4)
    found = Detections.empty(3)
    return replace(
        found,
        boxes=boxes,
        scores=torch.ones(len(boxes)) if scores is None else torch.tensor(scores),
        keypoints=boxes[:, None, :2].expand(-1, 3, 2),
        keypoint_scores=torch.zeros(len(boxes), 3),
    )


def ids(frames, tracker=PLAIN, height=100, width=200) -> list[list[int]]:
    tracks, result = NONE, []
    for found in frames:
        tracks, found = follow(tracks, found, tracker, height, width)
        assert found.ids is not None
        result.append(found.ids.tolist())
    return result


def test_two_walk_on():
    assert ids([people(0, 50), people(3, 52), people(54, 6)]) == [[0, 1], [0, 1], [1, 0]]


def test_two_cross():
    """A tall one goes right and a small one left, 4 pixels a frame; at 20 the boxes share their upper left corner."""
    frames = [people(4 * i, 40 - 4 * i, heights=(20.0, 10.0)) for i in range(11)]
    assert ids(frames) == [[0, 1]] * 11


def test_the_total_cost_decides():
    """IoUs [[7/13, 1/19], [8/12, 6/14]]: the best single pair, 8/12, is given up for 7/13 + 6/14."""
    assert ids([people(0, 5), people(3, 9)]) == [[0, 1], [0, 1]]


def test_gated_pairs_do_not_spoil_good_ones():
    """0 goes on at 1 (cost 0.18); pairing it with 8 (cost 0.89, over the gate) would free 1 for the track at 9."""
    assert ids([people(0, 9), people(1)]) == [[0, 1], [0]]
    assert ids([people(0), people(9)]) == [[0], [1]]
    assert ids([people(0), people(9)], replace(PLAIN, gate=1.0)) == [[0], [0]]


def test_gate_includes_its_own_cost():
    shift = [people(0), people(5)]  # IoU 1/3
    assert ids(shift, replace(PLAIN, gate=0.667)) == [[0], [0]]
    assert ids(shift, replace(PLAIN, gate=0.666)) == [[0], [1]]


@pytest.mark.parametrize("gap, after", [(1, 0), (2, 0), (3, 1)])
def test_patience_outlasts_short_gaps(gap, after):
    assert ids([people(0), *[people()] * gap, people(1)])[-1] == [after]


def test_no_patience_ends_a_track_at_once():
    assert ids([people(0), people(), people(0)], replace(PLAIN, patience=0)) == [[0], [], [1]]


def test_lost_and_seen_tracks_compete():
    """A newcomer near a waiting track takes its id; the seen one keeps its own."""
    assert ids([people(0, 50), people(50), people(49, 2)])[-1] == [1, 0]


def test_empty_frames():
    assert ids([people(), people(), people(5), people()]) == [[], [], [0], []]


def test_new_people_get_new_ids_in_their_order_and_none_is_used_twice():
    assert ids([people(0, 30), people(60, 0, 90), people(), people(), people(), people(0)]) == [
        [0, 1], [2, 0, 3], [], [], [], [4]
    ]  # fmt: skip


def test_ties_are_settled_the_same_way_every_time():
    frames = [people(0, 0), people(0, 0), people(0, 0, 0)]
    assert ids(frames) == ids(frames)
    assert [sorted(i) for i in ids(frames)] == [[0, 1], [0, 1], [0, 1, 2]]


def state(tracks) -> list[torch.Tensor]:
    return [tracks.missed, *(getattr(tracks.last, field) for field in ("boxes", "keypoints", "keypoint_scores", "ids"))]


def test_input_and_state_are_left_alone():
    tracks, _ = follow(NONE, people(0, 50), PLAIN, 100, 200)
    before = [t.clone() for t in state(tracks)]
    found = people(-5, 52)
    follow(tracks, found, PLAIN, 100, 200)
    assert all(torch.equal(a, b) for a, b in zip(before, state(tracks), strict=True))
    assert found.ids is None and found.boxes[0, 0] == -5 and len(NONE) == 0


def test_boxes_are_clipped_and_keep_their_people():
    _, found = follow(NONE, people(-5, 195), PLAIN, 15, 200)
    assert found.boxes.tolist() == [[0, 0, 5, 15], [195, 0, 200, 15]]
    assert found.keypoints[:, 0, 0].tolist() == [-5, 195]  # joints are not


def test_boxes_without_numbers_are_dropped():
    assert ids([people(0, float("nan"))]) == [[0]]


# Detect-and-Track (Girdhar et al., 2018): score >= 0.95, clip, area >= 50; Hungarian assignment on 1 - IoU with the
# previous frame, no gate; new ids for the rest.


def test_baseline_keeps_sure_and_large_people():
    found = people(0, 20, 40, 197.6, scores=[0.95, 0.94, 1.0, 1.0])
    _, kept = follow(NONE, found, BASELINE, 100, 200)  # the last shows 2.4 x 20 = 48 square pixels
    assert kept.boxes[:, 0].tolist() == [0, 40] and kept.ids is not None


def test_baseline_pairs_even_what_does_not_overlap():
    assert ids([people(0, 50), people(100, 150), people(0)], BASELINE)[1:] in ([[0, 1], [0]], [[0, 1], [1]])
    assert ids([people(0), people(100)], BASELINE) == [[0], [0]]


def test_baseline_knows_the_previous_frame_only():
    assert ids([people(0), people(), people(0)], BASELINE) == [[0], [], [1]]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 180), max_size=5), max_size=6), st.sampled_from([PLAIN, *TRACKERS.values()]))
def test_ids_are_unique_and_new_ones_count_up(walks, tracker):
    used: set[int] = set()
    for found in ids([people(*map(float, lefts)) for lefts in walks], tracker):
        assert len(set(found)) == len(found)
        fresh = sorted(set(found) - used)
        assert fresh == list(range(len(used), len(used) + len(fresh)))
        used |= set(found)


@settings(max_examples=40, deadline=None)
@given(st.permutations(range(5)))
def test_ids_follow_people_whatever_their_order(order):
    """Five people apart, given in another order: each keeps its id."""
    lefts = [0.0, 30.0, 60.0, 90.0, 120.0]
    assert ids([people(*lefts), people(*(lefts[i] + 2 for i in order))])[1] == list(order)


# Costs by hand: one track of a 10 x 10 box, so that the unit of distance is 0.2 * 10 = 2 pixels.


def pose(*points, confidences=None, box=(0.0, 0.0, 10.0, 10.0)) -> Detections:
    confidences = torch.tensor([confidences or [1.0] * len(points)])
    return Detections(
        torch.tensor([box]), torch.ones(1), torch.tensor([points]), torch.logit(confidences), torch.tensor([0])
    )


OKS, PCK = replace(PLAIN, iou=0.0, oks=1.0), replace(PLAIN, iou=0.0, pck=1.0)


def cost(last, found, tracker) -> float:
    return pair_costs(last, found, tracker).item()


def test_pose_costs_by_hand():
    last, found = pose((0.0, 0.0), (5.0, 5.0)), pose((2.0, 0.0), (5.0, 8.0))  # 1 and 1.5 units off
    oks, pck = (math.exp(-0.5) + math.exp(-1.125)) / 2, 0.5
    assert cost(last, found, OKS) == pytest.approx(1 - oks)
    assert cost(last, found, PCK) == pytest.approx(1 - pck)
    assert cost(last, found, replace(PLAIN, oks=2.0, pck=1.0)) == pytest.approx(1 - (1 + 2 * oks + pck) / 4)


def test_joints_count_by_the_product_of_their_confidences():
    last = pose((0.0, 0.0), (5.0, 5.0), confidences=[0.5, 0.8])
    found = pose((0.0, 0.0), (50.0, 5.0), confidences=[0.4, 0.25])  # weights 0.2 and 0.2
    assert cost(last, found, OKS) == pytest.approx(0.5)
    absent = pose((0.0, 0.0), (math.nan, math.nan), confidences=[1.0, 0.0])
    assert cost(last, absent, OKS) == pytest.approx(0)
    assert cost(absent, pose((9.0, 9.0), (5.0, 5.0), confidences=[0.0, 1.0]), OKS) == 1, "no joint in common"


def test_poses_tell_apart_whom_boxes_do_not():
    """Two in the same box, one with the arms up: boxes tie, poses do not."""
    up, down = pose((2.0, 0.0), (8.0, 0.0)), pose((2.0, 9.0), (8.0, 9.0))
    frames = [Detections.join((up, down)), Detections.join((down, up))]
    assert ids(frames, OKS)[1] == ids(frames, PCK)[1] == [1, 0]


def motion(dx: float, dy: float) -> Motion:
    return Motion(torch.tensor([dx, dy], dtype=torch.float32).reshape(2, 1, 1).expand(2, 5, 10), 100, 200)


def test_motion_moves_points_between_its_cells_and_holds_at_the_edge():
    flow = torch.tensor([[[0.0, 4.0]], [[1.0, 1.0]]])  # cells of 10 x 20 pixels, centres at x = 5 and 15
    points = torch.tensor([[5.0, 3.0], [10.0, 3.0], [15.0, 3.0], [-40.0, 90.0]])
    moved_points = Motion(flow, 20, 20).move(points)
    torch.testing.assert_close(moved_points - points, torch.tensor([[0.0, 1], [2, 1], [4, 1], [0, 1]]))
    assert Motion(flow, 20, 20).move(torch.zeros(0, 3, 2)).shape == (0, 3, 2)


def test_tracks_move_with_the_picture():
    """The camera jumps by 60 pixels: by boxes alone everybody is new; waiting tracks move too."""
    moving = replace(PLAIN, motion=True)
    tracks, first = follow(NONE, people(0, 60), moving, 100, 200)
    tracks, second = follow(tracks, people(60), moving, 100, 200, motion(60, 0))
    assert first.ids is not None and second.ids is not None and second.ids.tolist() == [0]
    assert sorted(tracks.last.boxes[:, 0].tolist()) == [60, 120]
    _, third = follow(tracks, people(120), moving, 100, 200, motion(0, 0))
    assert third.ids is not None and third.ids.tolist() == [1]
    _, still = follow(tracks, people(10), replace(moving, motion=False), 100, 200, motion(-50, 0))
    assert still.ids is not None and still.ids.tolist() == [2]


def test_boxes_move_as_their_sure_joints():
    last = pose((0.0, 0.0), (10.0, 0.0), confidences=[0.75, 0.25])
    flow = Motion(torch.tensor([[[8.0, 0.0]], [[0.0, 0.0]]]), 5, 10)  # 8 pixels at x <= 2.5, none at x >= 7.5
    there = moved(last, flow)
    torch.testing.assert_close(there.keypoints, torch.tensor([[[8.0, 0], [10, 0]]]))
    torch.testing.assert_close(there.boxes, torch.tensor([[6.0, 0, 16, 10]]))


def test_the_unsure_join_tracks_but_begin_none():
    born = replace(PLAIN, birth=0.7)
    assert ids([people(0, 50, scores=[0.9, 0.6]), people(1, 50, scores=[0.5, 0.8])], born) == [[0], [0, 1]]


def test_smoothing_keeps_a_part_of_the_last_pose():
    smooth = replace(PLAIN, smooth=0.25)
    tracks, _ = follow(NONE, people(0.0), smooth, 100, 200)
    tracks, found = follow(tracks, people(4.0), smooth, 100, 200)
    assert found.keypoints[0, 0, 0] == 3 and found.boxes[0].tolist() == [3, 0, 13, 20]
    _, found = follow(tracks, people(3.0), smooth, 100, 200)
    assert found.keypoints[0, 0, 0] == 3


def test_smoothing_leaves_joints_alone_that_were_absent():
    last = pose((0.0, 0.0), (0.0, 0.0), confidences=[1.0, 0.0])
    tracks, _ = follow(NONE, last, replace(PLAIN, smooth=0.5), 100, 200)
    _, found = follow(tracks, pose((4.0, 4.0), (4.0, 4.0)), replace(PLAIN, smooth=0.5), 100, 200)
    assert found.keypoints.tolist() == [[[2, 2], [4, 4]]]


@pytest.mark.parametrize("name", TRACKERS)
def test_every_tracker_follows_five_who_walk(name):
    frames = [people(*(30.0 * i + t for i in range(5))) for t in range(4)]
    assert ids(frames, TRACKERS[name]) == [[0, 1, 2, 3, 4]] * 4


def test_people_of_several_parts_are_joined():
    parts = people(0, 5), people(), people(9)
    assert Detections.join(parts).boxes[:, 0].tolist() == [0, 5, 9]
    assert len(Detections.join((people(), people()))) == 0
    with pytest.raises(ValueError, match="ids"):
        Detections.join((people(0), pose((0.0, 0.0), (1.0, 1.0), (2.0, 2.0))))


@pytest.mark.parametrize("name", TRACKERS)
def test_people_without_a_place_or_a_score_are_dropped(name):
    """Of four people the second has a NaN in its box and the third a NaN score; the others keep their ids."""
    found = people(0.0, 40.0, 80.0, 120.0)
    broken = replace(found, boxes=found.boxes.clone(), scores=found.scores.clone())
    broken.boxes[1, 2], broken.scores[2] = math.nan, math.nan
    still = Motion(torch.zeros(2, 1, 1), 100, 200)
    tracks, first = follow(NONE, broken, TRACKERS[name], 100, 200, still)
    tracks, second = follow(tracks, broken, TRACKERS[name], 100, 200, still)
    for result in (first, second):
        assert result.ids is not None and result.ids.tolist() == [0, 1]
        assert result.boxes[:, 0].tolist() == [0.0, 120.0]


@pytest.mark.parametrize("name", TRACKERS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_joints_that_are_not_numbers_count_as_not_found(name, value):
    """Two people stand still. One joint of each is broken, the score of another is NaN: the rest links them."""
    found = people(0.0, 60.0)
    broken = replace(found, keypoints=found.keypoints.clone(), keypoint_scores=found.keypoint_scores.clone())
    broken.keypoints[:, 0], broken.keypoint_scores[:, 1] = value, math.nan
    tracker, drift = replace(TRACKERS[name], smooth=0.5), Motion(torch.ones(2, 1, 1), 100, 200)
    tracks, _ = follow(NONE, broken, tracker, 100, 200, drift)
    for _ in range(2):
        tracks, result = follow(tracks, broken, tracker, 100, 200, drift)
        assert result.ids is not None and result.ids.tolist() == [0, 1]
        assert result.boxes.isfinite().all() and result.keypoints[:, 1:].isfinite().all()


def test_another_number_of_joints_is_refused():
    tracks, _ = follow(NONE, people(0.0), PLAIN, 100, 200)
    more = replace(people(0.0), keypoints=torch.zeros(1, 5, 2), keypoint_scores=torch.zeros(1, 5))
    with pytest.raises(ValueError, match="5 joints, the tracks 3"):
        follow(tracks, more, PLAIN, 100, 200)
    tracks, _ = follow(tracks, Detections.empty(5), PLAIN, 100, 200)
    assert len(tracks) == 1
    with pytest.raises(ValueError, match="have shapes"):
        follow(NONE, replace(people(0.0), scores=torch.ones(2)), PLAIN, 100, 200)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_motion_that_is_not_finite_moves_nothing(value):
    motion = Motion(torch.full((2, 1, 1), value), 100, 200)
    assert torch.equal(motion.move(people(3.0).keypoints), people(3.0).keypoints)
    assert torch.equal(moved(people(3.0), motion).boxes, people(3.0).boxes)


def test_anything_in_is_finite_people_with_distinct_ids_out():
    """Three hundred tracks of four frames, each with up to two values that are odd, by every tracker."""
    chance = torch.Generator().manual_seed(0)
    odd = torch.tensor([math.nan, math.inf, -math.inf, 1e38, -1e38, 0.0])

    def some(*shape: int) -> torch.Tensor:
        values = torch.rand(shape, generator=chance) * 100
        place = torch.randint(2 * values.numel() + 1, (1,), generator=chance)
        values.view(-1)[place[place < values.numel()]] = odd[torch.randint(6, (1,), generator=chance)]
        return values

    for trial in range(300):
        tracker = replace(list(TRACKERS.values())[trial % len(TRACKERS)], smooth=0.3 * (trial % 2))
        tracks = NONE
        for _ in range(4):
            count = int(torch.randint(4, (1,), generator=chance))
            found = Detections(some(count, 4), some(count) / 100, some(count, 3, 2), some(count, 3) - 50)
            tracks, result = follow(tracks, found, tracker, 100, 100, Motion(some(2, 2, 2), 100, 100))
            assert result.ids is not None and len(set(result.ids.tolist())) == len(result)
            assert result.boxes.isfinite().all()


def alike(overlap: float, near: int, distance: float) -> tuple[Detections, Detections]:
    """Two people of 100 x 100 pixels and 25 joints, so k sqrt(area) is 20 pixels: boxes of this IoU, `near` joints
    moved by `distance` pixels and the others by a thousand."""
    joints = torch.full((1, 25, 2), 50.0)
    moved_joints = joints.clone()
    moved_joints[:, :near, 0] += distance
    moved_joints[:, near:, 0] += 1000
    shift = 100 * (1 - overlap) / (1 + overlap)
    box = torch.tensor([[0.0, 0.0, 100.0, 100.0]])
    moved_box = box + torch.tensor([shift, 0.0, shift, 0.0])
    sure = torch.full((1, 25), torch.inf)
    return (
        Detections(box, torch.ones(1), joints, sure),
        Detections(moved_box, torch.ones(1), moved_joints, sure),
    )


def test_the_cost_of_each_tracker_by_hand():
    """IoU 0.5; OKS 0.8 exp(-0.5), as 20 of 25 joints moved by k sqrt(area); PCK 0.8."""
    overlap, oks, pck = 0.5, 0.8 * math.exp(-0.5), 0.8
    expected = {
        **dict.fromkeys(("iou", "byte", "detect-and-track"), 1 - overlap),
        **dict.fromkeys(("oks", "dimofs"), 1 - oks),
        **dict.fromkeys(("default", "default+dimofs", "kalman", "sure", "byte+oks"), 1 - (overlap + oks) / 2),
        **dict.fromkeys(("iou+oks", "iou+dimofs"), 1 - (overlap + oks) / 2),
        "pck": 1 - pck,
    }
    found = {name: pair_costs(*alike(0.5, 20, 19.999), tracker).item() for name, tracker in TRACKERS.items()}
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", [name for name in TRACKERS if name != "detect-and-track"])
def test_gate_and_patience_of_the_trackers_by_hand(name):
    """Of likeness 0.12 people are linked, of 0.08 not (0.24 and 0.16 by ByteTrack's gate); a track waits for ten frames
    and not for eleven (30 and 31)."""
    looser = 2 if name == "byte" else 1
    for near, links in ((3 * looser, True), (2 * looser, False)):
        first, second = alike(near / 25, near, 0.0)
        tracks, _ = follow(NONE, first, TRACKERS[name], 2000, 2000)
        _, found = follow(tracks, second, TRACKERS[name], 2000, 2000)
        assert found.ids is not None and found.ids.tolist() == ([0] if links else [1])
    patience = 30 if TRACKERS[name].velocity or name == "default+dimofs" else 10
    for gap, links in ((patience, True), (patience + 1, False)):
        frames = [people(5.0), *[people()] * gap, people(5.0)]
        assert ids(frames, TRACKERS[name])[-1] == ([0] if links else [1])


def test_limits_of_the_baseline_by_hand():
    """Score 0.95 and 50 square pixels are enough, 0.949 and 49 are not; a track does not wait; any overlap links."""
    assert ids([people(0, 20, scores=[0.95, 0.949])], BASELINE) == [[0]]
    assert ids([people(0, 20, heights=(5.0, 4.9))], BASELINE) == [[0]]
    assert ids([people(0), people(), people(0)], BASELINE) == [[0], [], [1]]
    assert ids([people(0), people(150)], BASELINE) == [[0], [0]]
