"""Bodies, actions and paths of synthetic people, by hand."""

from dataclasses import replace

import numpy as np
import pytest

from dimofs.datasets.synthetic import casting, gaits, puppets
from dimofs.datasets.synthetic.gaits import ACTIONS, Movement, pace, perform
from tests.support.scenes import joint
from tests.support.synthetic import PLAIN, STYLE, still_life


def statue(yaw: float, **pose: tuple[float, float]) -> puppets.Points:
    """The points of a person 2 m tall, all straight down or up but for the angles given."""
    names = ["trunk", "head", *(f"{s}_{p}" for s in gaits.SIDES for p in ("arm", "forearm", "thigh", "calf", "foot"))]
    angles = {name: np.array([pose.get(name, (0.0, 0.0))], float) for name in names}
    zero = np.zeros(1)
    still = Movement(pose=angles, lift=zero, twist=zero, gaze=zero)
    return {name: point[0] for name, point in puppets.joints(PLAIN, still, np.array([yaw])).items()}


def test_a_statue_by_hand():
    """Facing the camera (x right, z to it), 2 m tall: the hips 0.112 m from the middle, the left one to the right; the
    thigh 0.49 m, the calf 0.476 m; shoulders 0.2 m out, arms 0.33 m and 0.284 m down."""
    p = statue(0)
    assert p["left_hip"] - p["pelvis"] == pytest.approx((0.112, 0, 0))
    assert p["right_knee"] - p["right_hip"] == pytest.approx((0, -0.49, 0))
    assert p["right_ankle"] - p["right_knee"] == pytest.approx((0, -0.476, 0))
    assert p["left_wrist"] - p["chest"] == pytest.approx((0.2, -0.024 - 0.33 - 0.284, 0))
    assert p["head_top"][1] == pytest.approx(2.0, abs=0.04)  # the floor at 0
    assert p["left_eye"][0] > p["nose"][0] > p["right_eye"][0]


def test_yaw_and_angles_by_hand():
    """A quarter turn faces right: an arm raised straight forward points right, its elbow bent up by 90 degrees points
    up; the left side is away from the camera."""
    p = statue(np.pi / 2, left_arm=(np.pi / 2, 0), left_forearm=(np.pi, 0), right_arm=(0, np.pi / 2))
    assert p["left_elbow"] - p["left_shoulder"] == pytest.approx((0.33, 0, 0))
    assert p["left_wrist"] - p["left_elbow"] == pytest.approx((0, 0.284, 0))
    assert p["left_hip"] - p["right_hip"] == pytest.approx((0, 0, -0.224))
    assert p["right_elbow"] - p["right_shoulder"] == pytest.approx((0, 0, 0.33))  # away from the body, to the camera
    assert p["nose"][0] > p["skull"][0]


def test_facing_the_camera_the_left_hand_is_on_the_right_of_the_image():
    """And facing away on the left; in frame pixels of a whole scene."""
    made = still_life(3, 1)
    for yaw, sign in ((0.0, 1), (np.pi, -1)):
        points = {name: p[None] for name, p in statue(yaw).items()}
        path = casting.Path(np.array([60.0]), np.array([30.0]), np.array([yaw]))
        x = casting._Projection(made.stage, path, made.camera)(puppets.keypoints(points))[0, :, 0]
        assert sign * (x[joint("left_wrist")] - x[joint("right_wrist")]) == pytest.approx(30 * 2 * 0.2, rel=1e-4)


def act(action: str, seconds: float = 4.0) -> puppets.Points:
    """A person 2 m tall who acts facing the camera."""
    time = np.arange(0, seconds, 0.04)
    return puppets.joints(PLAIN, perform(action, time, STYLE), np.zeros(len(time)))


def test_each_action_does_what_its_name_says():
    hips = {action: act(action)["pelvis"][:, 1] for action in ACTIONS}
    assert np.ptp(hips["stand"]) < 0.02 < np.ptp(hips["walk"])
    assert np.ptp(hips["squat"]) > 0.35 and act("squat")["left_knee"][:, 2].max() > 0.35
    feet = np.minimum(act("jump")["left_toe"][:, 1], act("jump")["right_toe"][:, 1])
    assert feet.min() < 0.05 and feet.max() > 0.35
    wave, clap, punch, kick = (act(name) for name in ("wave", "clap", "punch", "kick"))
    assert (wave["right_wrist"][:, 1] > wave["right_shoulder"][:, 1]).all()
    assert (wave["left_wrist"][:, 1] < wave["left_elbow"][:, 1]).all()
    gap = np.linalg.norm(clap["left_hand"] - clap["right_hand"], axis=-1)
    assert gap.min() < 0.25 and gap.max() > 0.5
    reach = [punch[f"{side}_wrist"][:, 2] - punch[f"{side}_shoulder"][:, 2] for side in gaits.SIDES]
    assert all(r.max() > 0.5 and r.min() < 0.35 for r in reach)
    assert kick["right_ankle"][:, 1].max() > 0.7 and kick["left_ankle"][:, 1].max() < 0.3
    assert act("bow")["head_top"][:, 1].min() < 1.2
    assert np.ptp(act("jack")["left_ankle"][:, 0]) > 0.25
    throw = act("throw")["right_wrist"]
    assert throw[:, 1].max() > act("throw")["right_shoulder"][:, 1].max() and np.ptp(throw[:, 1]) > 0.6


def test_actions_differ():
    """Each action's mean and spread of joints are nearer to itself at another phase than to any other action."""

    def describe(action: str, phase: float) -> np.ndarray:
        time = np.arange(0, 8, 0.04)
        points = puppets.joints(PLAIN, perform(action, time, replace(STYLE, phase=phase)), np.zeros(len(time)))
        joints = puppets.keypoints(points) - points["pelvis"][:, None]
        return np.concatenate((joints.mean(0).ravel(), 2 * joints.std(0).ravel(), [5 * points["pelvis"][:, 1].std()]))

    first, second = (np.stack([describe(action, phase) for action in ACTIONS]) for phase in (0.0, 2.0))
    nearest = np.linalg.norm(first[:, None] - second[None], axis=-1).argmin(1)
    assert [ACTIONS[i] for i in nearest] == list(ACTIONS)


@pytest.mark.parametrize("action", ["walk", "run"])
def test_feet_do_not_slide(action):
    """Whichever foot is lower goes back, against the body, about as fast as the body goes forward."""
    p = act(action)
    ankles = np.stack([p[f"{side}_ankle"] - p["pelvis"] for side in gaits.SIDES])
    lower = ankles[:, :-1, 1].argmin(0)
    speed = np.diff(ankles[:, :, 2], axis=1)[lower, np.arange(len(lower))] / 0.04
    body = pace(action, STYLE) * 0.5 * PLAIN.stature
    assert -np.median(speed) == pytest.approx(body, rel=0.25)


def test_there_and_back_by_hand():
    """Between -5 and 5: 2 m on from the middle, 5 m at the far end, 8 m back at 2; the last metre turns about."""
    place, turn = casting._to_and_fro(np.array((0, 2, 4.5, 5, 8, 13, 15.0)), 10.0, 1.0)
    assert place == pytest.approx((0, 2, 4.5, 5, 2, -3, -5))
    assert turn == pytest.approx((0, 0, 0.5, 1, 1, 1, 2))
