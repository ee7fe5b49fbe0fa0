"""Joints that two people claim: by hand, over time, odd values."""

import math
from dataclasses import replace

import pytest
import torch

from dimofs.claims import claims, lost
from dimofs.detections import Detections
from dimofs.tracking import NONE, TRACKERS, Tracker, follow

ALONE = Tracker(gate=0.9, patience=5, exclusive=True)


def person(left: float, *joints: tuple[float, float], score: float = 1.0, confidence: float = 0.5) -> Detections:
    """A person of 20 x 20 pixels, whose unit of length is therefore 20."""
    box = torch.tensor([[left, 0.0, left + 20, 20]])
    logits = torch.full((1, len(joints)), math.log(confidence / (1 - confidence)))
    return Detections(box, torch.tensor([score]), torch.tensor([joints], dtype=torch.float32), logits)


def gone(people: Detections) -> list[list[bool]]:
    return (people.keypoint_scores == -torch.inf).tolist()


def test_claims_by_hand():
    """Confidence .5, score .8. Joints 4 pixels from the track's, reach .2 of 20: exp(-1/2). Kept always: 3 times."""
    found, last = person(0, (5, 5), (9, 5), score=0.8), person(0, (5, 5), (5, 5))
    index, kept = torch.tensor([0]), torch.tensor([[1.0, 0.5]])
    expected = torch.tensor([[0.4 * 3, 0.4 * 2 * math.exp(-0.5)]])
    torch.testing.assert_close(claims(found, index, last, kept, 0.2), expected)
    nobody = torch.zeros(0, dtype=torch.int64)
    torch.testing.assert_close(claims(found, nobody, last[:0], kept[:0], 0.2), torch.full((1, 2), 0.2))


@pytest.mark.parametrize(("distance", "one_place"), [(1.9, True), (2.1, False)])
def test_one_place_is_a_tenth_of_the_size(distance, one_place):
    both = Detections.join((person(0, (15, 5), (2, 2)), person(5, (15 + distance, 5), (23, 2))))
    better = torch.tensor([[1.0, 1.0], [2.0, 2.0]])
    assert lost(both, better).tolist() == [[one_place, False], [False, False]]
    assert not lost(both, torch.ones(2, 2)).any(), "neither claim is better"


def test_the_weaker_person_loses_the_joint_that_both_have():
    both = Detections.join((person(0, (15, 5), (2, 2)), person(10, (15, 5), (28, 2), score=0.9)))
    _, found = follow(NONE, both, ALONE, 100, 100)
    assert gone(found) == [[False, False], [True, False]]
    assert found.keypoints.tolist() == both.keypoints.tolist()
    _, found = follow(NONE, both, replace(ALONE, exclusive=False), 100, 100)
    assert not any(map(any, gone(found)))


def test_who_had_the_joint_keeps_it():
    """The newcomer is surer of the joint by .8 to .5, but it is where the track had it: 3 x .5 against .5 x .8."""
    first = person(0, (15, 5), (2, 2))
    tracks, _ = follow(NONE, first, ALONE, 100, 100)
    both = Detections.join((first, person(10, (15, 5), (28, 2), confidence=0.8)))
    _, found = follow(tracks, both, ALONE, 100, 100)
    assert gone(found) == [[False, False], [True, False]]
    _, found = follow(NONE, both, ALONE, 100, 100)
    assert gone(found) == [[True, False], [False, False]]


def test_a_track_remembers_the_joint_that_it_lost():
    """Links see the joint all the same, and the next frame, apart again, has it."""
    both = Detections.join((person(0, (15, 5), (2, 2)), person(10, (15, 5), (28, 2), score=0.9)))
    tracks, _ = follow(NONE, both, ALONE, 100, 100)
    assert tracks.last.keypoint_scores.isfinite().all() and tracks.kept.tolist() == [[1, 1], [0, 1]]
    apart = Detections.join((person(0, (10, 5), (2, 2)), person(10, (20, 5), (28, 2))))
    tracks, found = follow(tracks, apart, ALONE, 100, 100)
    assert not any(map(any, gone(found)))
    torch.testing.assert_close(tracks.kept, torch.tensor([[1.0, 1.0], [0.3, 1.0]]))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_joints_that_are_nowhere_take_nothing(value):
    both = Detections.join((person(0, (15, 5), (2, 2)), person(10, (value, 5), (2, 2), score=0.9)))
    tracks, found = follow(NONE, both, ALONE, 100, 100)
    assert gone(found) == [[False, False], [False, True]]
    _, found = follow(tracks, both, ALONE, 100, 100)
    assert gone(found) == [[False, False], [False, True]]


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_everybody_in_one_place(count):
    """Of any number of people who have all joints in common one keeps them."""
    crowd = Detections.join(
        [person(0, (5, 5), (9, 5), score=0.5 + i / 20) for i in range(count)] or [Detections.empty(2)]
    )
    tracks, found = follow(NONE, crowd, replace(TRACKERS["default"], sure=0.0), 100, 100)
    assert len(found) == count and sum(not any(row) for row in gone(found)) == min(count, 1)
    assert len(follow(tracks, crowd, TRACKERS["default"], 100, 100)[1]) == count
