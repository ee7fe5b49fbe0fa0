"""Tracks by hand: walks, crossings, gaps, gates, ties and empty frames, and the setting of [16]."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dimofs.detections import Detections
from dimofs.tracking import NONE, TRACKERS, Tracker, follow

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


def test_input_and_state_are_left_alone():
    tracks, _ = follow(NONE, people(0, 50), PLAIN, 100, 200)
    before = tracks.boxes.clone(), tracks.ids.clone(), tracks.missed.clone()
    found = people(-5, 52)
    follow(tracks, found, PLAIN, 100, 200)
    assert all(torch.equal(a, b) for a, b in zip(before, (tracks.boxes, tracks.ids, tracks.missed), strict=True))
    assert found.ids is None and found.boxes[0, 0] == -5 and len(NONE.ids) == 0


def test_boxes_are_clipped_and_keep_their_people():
    _, found = follow(NONE, people(-5, 195), PLAIN, 15, 200)
    assert found.boxes.tolist() == [[0, 0, 5, 15], [195, 0, 200, 15]]
    assert found.keypoints[:, 0, 0].tolist() == [-5, 195]  # joints are not


def test_boxes_without_numbers_are_dropped():
    assert ids([people(0, float("nan"))]) == [[0]]


# [16]: score >= 0.95, clip, area >= 50; Hungarian on 1 - IoU with the previous frame, no gate; new ids for the rest.


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
@given(st.lists(st.lists(st.integers(0, 180), max_size=5), max_size=6), st.sampled_from([PLAIN, BASELINE]))
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
