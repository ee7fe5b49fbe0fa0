"""Motion twins: alike in the first frame and after a period, different between."""

import numpy as np
import pytest

from dimofs.datasets.synthetic.twins import CLASSES, LIMBS, PERIOD, TwinScene, turning, twin_path, write_twins
from dimofs.reader import read_frames
from dimofs.skeletons import DIMOFS


@pytest.fixture(scope="module")
def scenes() -> dict[str, TwinScene]:
    return {action: TwinScene(3, action) for action in CLASSES}


def test_frame_a_is_bit_identical_in_all_classes(scenes):
    first = scenes["still"].shoot(0)
    assert len(scenes) == 9 and first.present[0]
    for scene in scenes.values():
        shot = scene.shoot(0)
        assert np.array_equal(shot.frame, first.frame) and np.array_equal(shot.boxes, first.boxes)


def test_only_the_limb_of_the_class_moves(scenes):
    """A quarter period later: its end joint has moved, those of the other limbs have not; forward is not backward."""
    ends = {limb: DIMOFS.index(limb.replace("arm", "wrist").replace("leg", "ankle")) for limb in LIMBS}
    for action, scene in scenes.items():
        d = scene.keypoints[PERIOD // 4, 0] - scene.keypoints[0, 0]
        # A leg that turns lowers or lifts the whole body with it.
        d -= d[DIMOFS.index("neck")]
        far = {limb: float(np.linalg.norm(d[end])) for limb, end in ends.items()}
        moving = action.rpartition("_")[0]
        assert all((distance > 2) == (limb == moving) for limb, distance in far.items()), (action, far)
    there, back = (scenes[f"left_arm_{way}"].keypoints[PERIOD // 4] for way in ("forward", "backward"))
    assert np.abs(there - back).max() > 5


def test_after_a_period_everything_is_back(scenes):
    for scene in scenes.values():
        np.testing.assert_allclose(scene.keypoints[PERIOD], scene.keypoints[0], atol=1e-3)


def test_after_half_a_period_the_direction_is_lost(scenes):
    there, back = (scenes[f"left_arm_{way}"].keypoints[PERIOD // 2] for way in ("forward", "backward"))
    np.testing.assert_allclose(there, back, atol=1e-3)


def test_still_is_still():
    pose = turning("still", np.arange(4.0)).pose
    assert all(np.ptp(angles, axis=0).max() == 0 for angles in pose.values())


def test_clips_are_written_without_loss(tmp_path, monkeypatch):
    monkeypatch.setattr("dimofs.datasets.synthetic.twins.CLASSES", ("still", "left_arm_forward"))
    boxes = write_twins(tmp_path, 3, 6)
    scene = TwinScene(3, "left_arm_forward")
    for number, frame in zip((0, 5), read_frames(twin_path(tmp_path, "left_arm_forward", 3, 6), (0, 5)), strict=True):
        assert np.array_equal(frame, scene.shoot(number).frame)
    assert np.array_equal(boxes["left_arm_forward"][5], scene.shoot(5).boxes[0])
    monkeypatch.setattr(TwinScene, "shoot", lambda *_: pytest.fail("drawn again"))
    assert np.array_equal(write_twins(tmp_path, 3, 6)["still"], boxes["still"])
