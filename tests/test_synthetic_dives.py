"""Synthetic dives: kinds, turns and twists that can be counted, and routines that a single frame cannot tell apart."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from dimofs.cli import InputError
from dimofs.datasets.diving48 import Dive, open_clip_set, read_vocabulary
from dimofs.datasets.labelled_clips import ClipReader
from dimofs.datasets.synthetic import dives
from dimofs.datasets.synthetic.dives import (
    DIVES,
    ROUTINES,
    DiveScene,
    RoutineScene,
    routine_order,
    somersaults,
    twists,
    write_dives,
    write_routines,
)
from dimofs.eval.dives import main as write_clips
from dimofs.skeletons import DIMOFS
from dimofs.zoo.recognition.pairs import DELTA, Pairing

VOCABULARY = Path(__file__).resolve().parents[2] / "shared/data/formats/diving48/Diving48_vocab.json"
LENGTH = 160
NECK = DIMOFS.index("neck")
HIPS = [DIMOFS.index("left_hip"), DIMOFS.index("right_hip")]


def test_the_kinds_are_those_of_diving48():
    assert len(set(DIVES)) == 48
    assert DIVES[0] == Dive("Back", "15som", "05Twis", "FREE") and DIVES[30] == Dive("Forward", "Dive", "NoTwis", "STR")
    if not VOCABULARY.exists():
        pytest.skip("needs ../shared/data")
    assert read_vocabulary(VOCABULARY) == DIVES


def test_the_words_of_the_vocabulary_are_counts():
    counts = [(somersaults(kind), twists(kind)) for kind in (DIVES[0], DIVES[9], DIVES[15], DIVES[17], DIVES[28])]
    assert counts == [(1.5, 0.5), (2, 1.5), (0.5, 0), (1.5, 1), (4.5, 0)]


def turns(scene: DiveScene) -> float:
    """How often the line from hips to neck turns round in the image, clockwise."""
    keypoints = scene.keypoints[:, 0]
    up = keypoints[:, NECK] - keypoints[:, HIPS].mean(1)
    angles = np.unwrap(np.arctan2(up[:, 0], -up[:, 1]))
    return float((angles[-1] - angles[0]) / (2 * np.pi))


@pytest.mark.parametrize("kind", [DIVES[number] for number in (4, 13, 16, 19, 20, 28, 32, 36, 44)], ids=" ".join)
def test_a_body_turns_as_often_as_its_kind_says(kind, monkeypatch):
    monkeypatch.setattr(dives, "play", keep_keypoints)
    scene = DiveScene(1, kind, length=LENGTH)
    # Facing right, a turn forward is clockwise; the trunk leans at the start and at the end by less than a tenth.
    assert abs(turns(scene)) == pytest.approx(somersaults(kind), abs=0.06)
    travels = np.sign(scene.keypoints[-1, 0, HIPS, 0].mean() - scene.keypoints[0, 0, HIPS, 0].mean())
    faces = travels if kind.takeoff in ("Forward", "Reverse") else -travels
    forward = faces if kind.takeoff in ("Forward", "Inward") else -faces
    assert np.sign(turns(scene)) == forward


def keep_keypoints(scene, random, build, points, x, scale) -> None:
    """In place of `play`: the joints as a camera sees them, x, y and depth, without strokes."""
    joints = dives.puppets.keypoints(points)
    scene.keypoints = (joints * (scale, -scale, scale) + x[:, None, None] * (1, 0, 0))[:, None]


@pytest.mark.parametrize("kind", [DIVES[number] for number in (1, 18, 23, 40)], ids=" ".join)
def test_a_body_twists_as_often_as_its_kind_says(kind, monkeypatch):
    monkeypatch.setattr(dives, "play", keep_keypoints)
    scene = DiveScene(2, kind, length=LENGTH)
    # Across the axis of the somersaults, which lies nearly along the line of sight, the hips show each twist.
    left, right = (scene.keypoints[:, 0, hip, 2] for hip in HIPS)
    assert np.count_nonzero(np.diff(np.sign(left - right))) == 2 * twists(kind)


def test_a_seed_gives_the_same_dive_and_another_one_another():
    first, again, other = (DiveScene(seed, DIVES[3], height=80, width=96).shoot(20) for seed in (4, 4, 5))
    assert np.array_equal(first.frame, again.frame) and first.present[0]
    assert not np.array_equal(first.frame, other.frame)


def test_routines_have_the_same_frames_each_once():
    held = [0] * DELTA
    for kind in ROUTINES:
        # Each frame is once the first of a pair.
        firsts = Pairing().numbers(len(routine_order(kind)))
        assert sorted(routine_order(kind)[firsts]) == list(range(39))
    assert routine_order("reversed").tolist() == [*range(38, -1, -1), *held]
    assert routine_order("mirrored").tolist() == [*range(26, 39), *range(13, 26), *range(13), *held]
    assert routine_order("fast").tolist() == [*range(0, 39, 2), *range(1, 39, 2), *held]
    assert len({tuple(routine_order(kind)) for kind in ROUTINES}) == 4


def test_routines_lift_one_limb_after_the_other_and_begin_at_rest():
    scene = RoutineScene(3, height=80, width=96)
    ends = {limb: DIMOFS.index(limb) for limb in ("left_wrist", "right_wrist", "left_ankle", "right_ankle")}
    moved = np.abs(scene.keypoints[:, 0] - scene.keypoints[0, 0]).max(-1)
    moved = np.abs(moved - moved[:, [DIMOFS.index("neck")]])
    busiest = [max(ends, key=lambda limb: moved[part, ends[limb]].max()) for part in (slice(0, 13), slice(13, 26))]
    assert busiest == ["left_wrist", "right_wrist"]
    assert moved[26:, ends["left_ankle"]].max() > 3 > moved[:26, ends["left_ankle"]].max()
    for start in (0, 13, 26):
        np.testing.assert_allclose(scene.keypoints[start], scene.keypoints[0], atol=0.5)


def test_written_routines_have_the_same_frames_in_other_orders(tmp_path, monkeypatch):
    monkeypatch.setattr(dives, "RoutineScene", partial(RoutineScene, height=64, width=80))
    paths = list(write_routines(tmp_path, train=1, test=1))
    clips = open_clip_set(tmp_path)
    assert len(paths) == 8 and clips.classes == sorted(ROUTINES) and clips.counts("test").tolist() == [1, 1, 1, 1]
    read = {clip.name.split("/")[1]: frames(clip) for clip in clips.part("train")}
    assert {kind: sorted(f) for kind, f in read.items()} == dict.fromkeys(ROUTINES, sorted(read["as_is"]))
    assert read["reversed"][:39] == read["as_is"][38::-1]
    assert read["fast"][:39] == read["as_is"][:39:2] + read["as_is"][1:39:2]


def frames(clip) -> list[bytes]:
    return [frame.pixels.tobytes() for frame in ClipReader(clip)]


def test_dives_are_written_once_by_class_and_part(tmp_path, monkeypatch):
    monkeypatch.setattr(dives, "DiveScene", partial(DiveScene, height=64, width=80))
    small = [DIVES[3], DIVES[29]]
    paths = list(write_dives(tmp_path, small, train=2, test=1, length=3))
    clips = open_clip_set(tmp_path)
    assert clips.classes == ["Back_15som_NoTwis_PIKE", "Forward_Dive_NoTwis_PIKE"]
    assert clips.counts("train").tolist() == [2, 2] and clips.counts("test").tolist() == [1, 1]
    monkeypatch.setattr(dives, "shots", lambda scene: pytest.fail("drawn again"))
    # The command draws the same, here of the first and the twenty-fourth kind.
    with pytest.raises(pytest.fail.Exception, match="drawn again"):
        write_clips(out=tmp_path / "other", kinds=2, train=2, test=1, length=8, quiet=True)
    assert list(write_dives(tmp_path, small, train=2, test=1, length=3)) == paths
    # With three clips to train on, the one to test on would be among them.
    with pytest.raises(InputError, match=r"holds test/Back_15som_NoTwis_PIKE/00000002\.mkv, of other options"):
        list(write_dives(tmp_path, small, train=3, test=1, length=3))
    with pytest.raises(InputError, match="give another folder"):
        list(write_routines(tmp_path, train=1, test=1))
