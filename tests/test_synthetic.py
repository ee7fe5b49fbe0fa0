"""Synthetic clips: strokes, puppets, actions, cameras and labels, by hand and against slower twins."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch

from dimofs.datasets.augment.mixture import Mixture
from dimofs.datasets.synthetic import casting, gaits, puppets, scenery
from dimofs.datasets.synthetic import clips as synthetic
from dimofs.datasets.synthetic.casting import cast
from dimofs.datasets.synthetic.clips import Scene, Synthetic, SyntheticClip, synthetic_clip
from dimofs.datasets.synthetic.gaits import ACTIONS, Movement, Style, pace, perform
from dimofs.datasets.synthetic.puppets import Build
from dimofs.datasets.synthetic.scenery import Camera, Scenery, Thing
from dimofs.datasets.synthetic.strokes import FAINT, TEXTURE, Strokes, _colours, paint, rasterize
from tests.support.scenes import joint

SMALL: dict[str, Any] = {"length": 12, "height": 96, "width": 128}
PLAIN = Build(2.0, 1.0, 1.0, 1.0, 0.112, 0.1, 1.0, False, False)
STYLE = Style(1.0, 1.0, 0.0, "right")


def scene(seed: int, people: tuple[int, int] = (1, 6), **sizes: int) -> Scene:
    return Scene(seed, **(SMALL | sizes), people=people)


def still_life(seed: int, number: int) -> Scene:
    """A scene of `number` people where nothing moves, nothing stands in front and nobody casts a shadow."""
    made = scene(seed, (number, number))
    made.camera = Camera(np.zeros((12, 2)), np.ones(12))
    time = np.full(12, 0.3)
    made.actors = [bare(actor) for actor in cast(seed, number, made.stage, made.camera, time)]
    for person, actor in enumerate(made.actors):
        made.keypoints[:, person], made.heads[:, person] = actor.keypoints, actor.heads
    made.scenery = replace(made.scenery, things=())
    return made


def bare(actor: casting.Actor) -> casting.Actor:
    """The actor without a shadow."""
    nothing = np.zeros(0, np.int64)
    return replace(actor, shadow=[shadow.select(nothing) for shadow in actor.shadow])


# --- strokes ---


def strokes(*rows: tuple, alpha: float = 1.0, soft: float = 1.0) -> Strokes:
    """Strokes (x1, y1, x2, y2, half width, texture)."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    count, one = len(table), np.ones(len(table), np.float32)
    widths = np.repeat(table[:, 4:5], 4, 1)
    yes, owner = np.ones(count, bool), np.arange(count)
    texture = table[:, 5].astype(np.int64)
    return Strokes(table[:, :2], table[:, 2:4], widths, one, soft * one, alpha * one, texture, owner, yes, yes)


def coverage(group: Strokes, height: int, width: int) -> np.ndarray:
    """[H, W]: what the strokes cover, the largest where several do."""
    fragments, image = rasterize(group, height, width), np.zeros(height * width)
    np.maximum.at(image, fragments.pixels, fragments.coverage)
    return image.reshape(height, width)


def test_a_stroke_by_hand():
    """From (2, 3) to (6, 3), 2 thick: rows 2 and 3 are full between the ends, and a cap's pixel is cut.

    The pixel centre (6.5, 2.5) lies sqrt(0.5) = 0.7071 from the end, 0.2929 inside: covered by 0.5 + 0.2929.
    """
    image = coverage(strokes((2, 3, 6, 3, 1, 0)), 6, 9)
    assert image[2:4, 2:6] == pytest.approx(1)
    assert image[[1, 4]] == pytest.approx(0)
    assert image[2:4, [1, 6]] == pytest.approx(1.5 - np.sqrt(0.5))
    assert image[:, [0, 7, 8]] == pytest.approx(0)


def test_widths_are_a_cubic_through_four_values():
    """Widths 2, 5, 3, 4 at 0, 1/3, 2/3, 1 of a stroke 30 long: pixels where the place is just that have that width."""
    group = replace(strokes((0, 10.5, 30, 10.5, 1, 0)), widths=np.array([[2, 5, 3, 4]], np.float32))
    image = coverage(group, 21, 30)
    assert image[:, 9:11].sum(0).mean() == pytest.approx(10, abs=0.1)
    assert image[:, 19:21].sum(0).mean() == pytest.approx(6, abs=0.1)


def test_the_colour_by_hand():
    """On the axis a stroke shows its texture; at its edges, with light from above of strength 0.3, a horizontal stroke
    is 0.3 lighter at its upper edge and 0.3 darker at its lower, and both lose 0.2 for being round."""
    atlas = np.full((1, *TEXTURE, 3), 100, np.float32)
    group, image = strokes((-9, 5.5, 30, 5.5, 5, 0)), np.zeros((11, 20, 3), np.float32)
    paint(image, group, rasterize(group, 11, 20), atlas, np.array((0, -0.3), np.float32))
    assert image[5, 10] == pytest.approx(100)
    assert image[1, 10] == pytest.approx(100 * (1 + 0.3 * 0.8 - 0.2 * 0.64), rel=1e-5)
    assert image[9, 10] == pytest.approx(100 * (1 - 0.3 * 0.8 - 0.2 * 0.64), rel=1e-5)


def test_thin_strokes_fade():
    """A line a tenth of a pixel thick darkens a row of pixels by a tenth in sum, wherever it lies."""
    for y in (5.5, 5.8, 6.0):
        assert coverage(strokes((2, y, 18, y, 0.05, 0)), 12, 20)[:, 10].sum() == pytest.approx(0.1, abs=0.02)


def test_painting_equals_painting_one_by_one():
    """The deferred painter gives what painting stroke after stroke gives, translucent and soft strokes included."""
    random = np.random.default_rng(0)
    ends, rest = random.uniform(-5, 45, (40, 4)), np.stack((random.uniform(0.2, 6, 40), random.integers(0, 3, 40)), 1)
    group = strokes(*np.concatenate((ends, rest), 1))
    group = replace(
        group, alpha=random.choice((0.3, 1.0), 40).astype(np.float32), soft=random.choice((1, 4), 40).astype(np.float32)
    )
    atlas = random.uniform(0, 255, (3, *TEXTURE, 3)).astype(np.float32)
    light = np.array((0.2, -0.1), np.float32)
    fragments = rasterize(group, 30, 40)
    fast = np.full((30, 40, 3), 50, np.float32)
    slow = fast.copy()
    paint(fast, group, fragments, atlas, light)
    colours = _colours(group, fragments, atlas, light)
    for pixel, colour, part in zip(fragments.pixels, colours, fragments.coverage, strict=True):
        slow.reshape(-1, 3)[pixel] += (colour - slow.reshape(-1, 3)[pixel]) * part
    assert np.abs(fast - slow).max() < 1e-3
    assert np.abs(fast - 50).max() > 100


def test_rasterizing_looks_at_every_pixel():
    """No pixel within a stroke is missed, whatever its slope: against the distance at each pixel of the frame."""
    random = np.random.default_rng(1)
    y, x = np.mgrid[:30, :40] + 0.5
    for x1, y1, x2, y2 in random.uniform(-5, 45, (60, 4)).astype(np.float32):
        dx, dy = x2 - x1, y2 - y1
        t = np.clip(((x - x1) * dx + (y - y1) * dy) / (dx * dx + dy * dy), 0, 1)
        depth = 2.5 - np.hypot(x - x1 - t * dx, y - y1 - t * dy)
        expected = np.clip(depth + 0.5, 0, 1)
        found = coverage(strokes((x1, y1, x2, y2, 2.5, 0)), 30, 40)
        assert np.abs(found - np.where(expected > FAINT, expected, 0)).max() < 5e-3


def test_painting_refuses_a_copy():
    image = np.zeros((4, 5, 3), np.float32).transpose(1, 0, 2)
    group = strokes((0, 0, 3, 3, 1, 0))
    with pytest.raises(ValueError, match="contiguous"):
        paint(image, group, rasterize(group, 5, 4), np.zeros((1, *TEXTURE, 3), np.float32), np.zeros(2, np.float32))


# --- puppets and what they do ---


def statue(yaw: float, **pose: tuple[float, float]) -> puppets.Points:
    """The points of a person 2 m tall, all straight down or up but for the angles given."""
    names = ["trunk", "head", *(f"{s}_{p}" for s in gaits.SIDES for p in ("arm", "forearm", "thigh", "calf", "foot"))]
    angles = {name: np.array([pose.get(name, (0.0, 0.0))], float) for name in names}
    zero = np.zeros(1)
    return {k: p[0] for k, p in puppets.joints(PLAIN, Movement(angles, zero, zero, zero), np.array([yaw])).items()}


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


# --- cameras ---


def test_the_camera_moves_people_as_it_moves_the_place():
    """A white pixel of the backdrop is seen where `project` puts it, to a thousandth of a pixel."""
    camera = Camera(np.array([(0, 0), (2.3, -1.6), (-3.25, 2.5)]), np.array((1.0, 1.0, 1.2)))
    image = np.zeros((60, 80, 3), np.float32)
    image[25, 33] = 100  # its middle lies at world (33.5 - 10, 25.5 - 8)
    place = Scenery(image, (), (-10, -8), np.zeros(2, np.float32))
    for number in range(3):
        seen = place.view(camera, number, 44, 60)[..., 0].astype(float)
        y, x = (np.arange(n) + 0.5 for n in seen.shape)
        centre = np.array(((seen.sum(0) * x).sum(), (seen.sum(1) * y).sum())) / seen.sum()
        expected = camera.project(np.array([(23.5, 17.5)]), number, 44, 60)[0]
        # sampling every 1 / 1.2 pixels weighs a single pixel unevenly, but no more than this
        assert centre == pytest.approx(expected, abs=2e-3 if number < 2 else 0.15)


def test_project_by_hand():
    """Zoom 2 about the middle (30, 20) of the shifted view: (36, 20) less the shift (2, 1) is (4, -1) off it."""
    camera = Camera(np.array([(2.0, 1.0)]), np.array((2.0,)))
    assert camera.project(np.array((36.0, 20.0)), 0, 40, 60) == pytest.approx((38, 18))
    assert camera.project(np.full((1, 5, 2), 20.0), slice(None), 40, 60)[0, 3] == pytest.approx((6, 18))


def test_all_kinds_of_cameras_stay_on_the_backdrop():
    time, kinds = np.arange(300) / 25, set()
    for seed in range(20):
        camera = Camera.sample(np.random.default_rng(seed), time, 96, 128)
        kinds.add((bool(np.ptp(camera.shift) > 0), bool(np.ptp(camera.zoom) > 0)))
        room = np.array((scenery.MARGIN[1] * 128, scenery.MARGIN[0] * 96))
        assert (np.abs(camera.shift) < room - 1).all() and (camera.zoom >= 1).all()
    assert kinds == {(False, False), (True, False), (True, True)}


# --- scenes and their labels ---


def test_nothing_moves_when_time_stands_still():
    """People at one moment before a camera at rest: joints, boxes and heads stay, frames differ by noise alone."""
    clip = still_life(5, 3).clip()
    assert clip.present.any()
    assert (clip.displacement(4) == 0).all()
    assert (clip.boxes == clip.boxes[:1]).all() and (clip.heads == clip.heads[:1]).all()
    assert np.abs(np.diff(clip.frames.astype(int), axis=0)).mean() < 8


def test_displacement_by_hand():
    """A joint that moves by (2, -1) a frame for four frames: three frames on by (6, -3), but not past the end."""
    moving = np.arange(4)[:, None] * np.array((2, -1), np.float32)
    keypoints = np.broadcast_to(moving[:, None, None], (4, 1, 19, 2)).astype(np.float32)
    none = np.zeros((4, 1, 4), np.float32)
    frames, yes = np.zeros((4, 48, 48, 3), np.uint8), np.ones((4, 1), bool)
    clip = SyntheticClip("x", frames, 25.0, yes, none, none, keypoints, np.ones((4, 1, 19), bool), ("walk",))
    assert clip.displacement(3)[:, 0, 7].tolist() == [[6, -3], [4, -2], [2, -1], [0, 0]]
    assert clip.displacement(-1)[:, 0, 7].tolist() == [[0, 0], [-2, 1], [-2, 1], [-2, 1]]
    assert not clip.displacement(0).any()


@pytest.mark.parametrize("seed", range(6))
def test_the_box_is_where_the_person_is(seed):
    """Taking one person away changes pixels in the box alone, and up to each of its sides."""
    made = still_life(20 + seed, 1)
    shot = made.shoot(0)
    changed = np.abs(shot.frame.astype(int) - made.shoot(0, without=[0]).frame).max(-1)
    x1, y1, x2, y2 = shot.boxes[0].astype(int)
    assert x2 - x1 > 3 and y2 - y1 > 10
    slightly, clearly = (np.argwhere(changed > least) for least in (0, 6))
    assert (slightly >= (y1 - 1, x1 - 1)).all() and (slightly <= (y2, x2)).all()
    assert (clearly.min(0) <= (y1 + 1, x1 + 1)).all() and (clearly.max(0) >= (y2 - 2, x2 - 2)).all()


def test_joints_lie_in_boxes_and_on_bodies():
    """Where all of a person shows, the box holds all joints, give or take the hair's breadth by which a joint may lie
    outside of what is drawn over it, and most joints lie on pixels that the person changes."""
    on, total = 0, 0
    for seed in range(8):
        made = scene(seed, (1, 3), length=3)
        clip = made.clip()
        for p in np.flatnonzero(clip.visible[0].all(-1)):
            box, points = clip.boxes[0, p], clip.keypoints[0, p]
            slack = 0.03 * (box[3] - box[1]) + 0.5
            assert (points >= box[:2] - slack).all() and (points <= box[2:] + slack).all()
            changed = (clip.frames[0] != made.shoot(0, without=[int(p)]).frame).any(-1)
            x, y = points.astype(int).T
            on, total = on + int(changed[y, x].sum()), total + len(x)
    assert total > 100 and on / total > 0.9


def test_heads():
    """The box of an upright head: its upper side at the head's top, nose, eyes and ears inside, the neck below it."""
    time = np.zeros(1)
    for action in ("stand", "wave", "walk"):
        for yaw in (0.0, 1.0, 2.5, -1.6):
            points = puppets.joints(PLAIN, perform(action, time, STYLE), np.array([yaw]))
            path = casting.Path(np.array([60.0]), np.array([50.0]), np.array([yaw]))
            made = still_life(3, 1)
            project = casting._Projection(made.stage, path, made.camera)
            box = casting._head_boxes(puppets.figure(PLAIN, points), project)[0]
            where = dict(zip(synthetic.DIMOFS, project(puppets.keypoints(points))[0], strict=True))
            assert where["head_top"][1] == pytest.approx(box[1], abs=2.0)
            assert where["neck"][1] > box[3] - 2.0
            for name in ("nose", "left_eye", "right_eye", "left_ear", "right_ear"):
                assert (where[name] > box[:2] - 0.5).all() and (where[name] < box[2:] + 0.5).all(), name


def test_who_is_in_front_hides():
    """A person with an exact copy a little nearer is hidden but for joints at the rim; the copy is seen as before."""
    made = still_life(23, 1)
    alone = made.shoot(0)
    assert alone.visible.sum() > 15
    actor = made.actors[0]
    made.actors = [actor, replace(actor, scale=1.01 * actor.scale)]
    made.keypoints = np.repeat(made.keypoints, 2, 1)
    both = made.shoot(0)
    assert both.visible[1].tolist() == alone.visible[0].tolist()
    assert both.visible[0].sum() <= 3
    assert both.present.tolist() == [False, True]
    assert (both.boxes[0] == both.boxes[1]).all()


def test_things_hide_whom_they_stand_before():
    """A thing over all the frame hides those farther away, and is not there for those nearer."""
    made = still_life(24, 2)
    free, away = made.shoot(0), made.shoot(0, without=[0, 1])
    rows, columns = made.scenery.image.shape[:2]
    wall = Thing((0, 0, columns, rows), np.ones((rows, columns), np.float32), ground=1e6)
    made.scenery = replace(made.scenery, things=(wall,))
    hidden = made.shoot(0)
    assert (hidden.frame == away.frame).all() and (free.frame != away.frame).any()
    assert free.present.any() and not hidden.present.any()
    assert free.visible.any() and not hidden.visible.any()
    assert (hidden.boxes == free.boxes).all()
    made.scenery = replace(made.scenery, things=(replace(wall, ground=-1e6),))
    before = made.shoot(0)
    assert (before.frame == free.frame).all() and (before.visible == free.visible).all()


def test_things_are_painted_where_they_hide():
    """The masks in frame pixels lie where the things are in the picture: behind all things together nothing else shows
    than in the picture without anybody."""
    tried = 0
    for seed in range(12):
        made = scene(seed, (1, 6), length=4)
        made.actors = [bare(replace(actor, ground=actor.ground - 1e6)) for actor in made.actors]
        covered = made.scenery.covered(made.camera, 3, made.height, made.width)
        tried += int((covered[-1] == 1).any())
        full, empty = made.shoot(3).frame, made.shoot(3, without=range(len(made.actors))).frame
        assert (full == empty)[covered[-1] == 1].all()
    assert tried > 3


def test_people_enter_leave_and_cross():
    entered = left = crossed = partly = 0
    for seed in range(12):
        clip = synthetic_clip(seed, length=30, height=64, width=96)
        entered += int((clip.present[1:] & ~clip.present[:-1]).any())
        left += int((clip.present[:-1] & ~clip.present[1:]).any())
        middle = (clip.boxes[..., 0] + clip.boxes[..., 2]) / 2
        both = clip.present[0] & clip.present[-1]
        order = middle[:, both][:, :, None] < middle[:, both][:, None]
        crossed += int((order[0] != order[-1]).any())
        inside = ((clip.keypoints >= 0) & (clip.keypoints < (96, 64))).all(-1)
        assert (inside | ~clip.visible).all()
        partly += int((clip.present[..., None] & inside & ~clip.visible).any())
        outside = ~inside.any(-1) & (clip.boxes[..., 2] == 0)
        assert not (clip.present & outside).any()
    assert min(entered, left, crossed, partly) >= 2


def test_boxes_are_clipped():
    clips = [synthetic_clip(seed, length=16, height=64, width=96) for seed in range(12)]
    boxes = np.concatenate([clip.boxes.reshape(-1, 4) for clip in clips])
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= (96, 64)).all() and (boxes[:, :2] <= boxes[:, 2:]).all()
    assert (boxes[:, 0] == 0).any() and (boxes[:, 2] == 96).any()
    present = np.concatenate([clip.present.ravel() for clip in clips])
    assert (boxes[present][:, 2:] > boxes[present][:, :2]).all()


# --- clips ---


@pytest.mark.parametrize("height,width,length", [(240, 320, 2), (49, 111, 3), (48, 400, 2), (301, 50, 1)])
def test_shapes(height, width, length):
    clip = synthetic_clip(8, length=length, height=height, width=width, people=(4, 4))
    expected = {
        "frames": ((length, height, width, 3), np.uint8),
        "present": ((length, 4), np.bool_),
        "boxes": ((length, 4, 4), np.float32),
        "heads": ((length, 4, 4), np.float32),
        "keypoints": ((length, 4, 19, 2), np.float32),
        "visible": ((length, 4, 19), np.bool_),
    }
    for name, (shape, kind) in expected.items():
        value = getattr(clip, name)
        assert (value.shape, value.dtype) == (shape, kind), name
    assert clip.frames.flags.c_contiguous and clip.fps == 25 and clip.name == "synthetic_000008"
    assert len(clip.actions) == 4 and set(clip.actions) <= set(ACTIONS)
    assert np.isfinite(clip.keypoints).all() and np.isfinite(clip.heads).all()
    assert clip.displacement(1).dtype == np.float32 and clip.displacement(1).shape == (length, 4, 19, 2)
    assert clip.frames.std() > 10


def test_nobody():
    clip = synthetic_clip(1, **SMALL, people=(0, 0))
    assert clip.keypoints.shape == (12, 0, 19, 2) and clip.boxes.shape == (12, 0, 4) and clip.actions == ()
    assert len(clip.people(3)) == 0 and clip.people(3).labelled.shape == (0, 19)


def same(one: SyntheticClip, two: SyntheticClip) -> bool:
    return all(np.array_equal(getattr(one, f.name), getattr(two, f.name)) for f in fields(SyntheticClip))


def test_the_seed_decides_everything_and_nothing_else_does():
    first = synthetic_clip(11, **SMALL)
    np.random.seed(3)
    torch.manual_seed(3)
    synthetic_clip(12, **SMALL)
    assert same(first, synthetic_clip(11, **SMALL))
    assert not same(first, replace(synthetic_clip(12, **SMALL), name=first.name))


def test_seeds_vary_everything():
    clips = [synthetic_clip(seed, length=1, height=240, width=320) for seed in range(40)]
    assert {len(clip.actions) for clip in clips} == {1, 2, 3, 4, 5, 6}
    assert {action for clip in clips for action in clip.actions} == set(ACTIONS)
    tall = np.concatenate([clip.boxes[0, :, 3] - clip.boxes[0, :, 1] for clip in clips])
    assert 20 < tall[tall > 0].min() < 60 and tall.max() > 180
    assert len({clip.frames.mean().round(3) for clip in clips}) == 40


@pytest.mark.parametrize(
    "wrong", [{"length": 0}, {"height": 47}, {"width": 10}, {"people": (3, 2)}, {"people": (-1, 2)}]
)
def test_sizes_that_make_no_sense(wrong):
    with pytest.raises(ValueError, match=r"length 0|47 x|x 10|people"):
        synthetic_clip(0, **(SMALL | {"people": (1, 2)} | wrong))
    with pytest.raises(ValueError):
        Synthetic(3, **(SMALL | {"people": (1, 2)} | wrong))


def test_people_for_training():
    """Present people with the joints inside the frame; the others that show at all are regions to ignore."""
    seen = 0
    for seed in range(12):
        clip = synthetic_clip(seed, length=1, height=64, width=96)
        people = clip.people(0)
        here, area = clip.present[0], clip.boxes[0, :, 2] > clip.boxes[0, :, 0]
        inside = ((clip.keypoints[0] >= 0) & (clip.keypoints[0] < (96, 64))).all(-1)
        assert people.boxes.tolist() == clip.boxes[0, here].tolist()
        assert people.keypoints.tolist() == clip.keypoints[0, here].tolist()
        assert people.labelled.tolist() == inside[here].tolist()
        assert people.ignore.tolist() == clip.boxes[0, ~here & area].tolist()
        assert (people.boxes.dtype, people.labelled.dtype) == (torch.float32, torch.bool)
        seen += len(people.ignore)
    assert seen > 0


# --- the source ---


def test_pairs_equal_the_clip():
    """Bit for bit, frames and labels, at either end of the clip too."""
    source, random = Synthetic(3, seed=40, **SMALL, reach=4), np.random.default_rng(0)
    clips = [synthetic_clip(40 + i, **SMALL) for i in range(3)]
    deltas = set()
    for index in [0, 1, 2] * 8:
        pair = source.pair(index, random)
        clip, (name, a) = clips[index], pair.name.split("/")
        expected = clip.people(int(a))
        assert name == clip.name and len(a) == 4
        assert (pair.frame_a.permute(1, 2, 0).numpy() == clip.frames[int(a)]).all()
        assert (pair.frame_b.permute(1, 2, 0).numpy() == clip.frames[int(a) + pair.delta]).all()
        assert pair.frame_a.is_contiguous() and pair.frame_a.dtype == torch.uint8
        for part in ("boxes", "keypoints", "labelled", "ignore"):
            assert torch.equal(getattr(pair.people, part), getattr(expected, part)), part
        deltas.add(pair.delta)
    assert deltas >= {-4, 4} and max(deltas) == 4


def test_the_source_counts_its_frames():
    source = Synthetic(2, seed=7, **SMALL, every=5)
    frames = dict(source.frames())
    assert list(frames) == [f"synthetic_{n:06d}/{t:04d}" for n in (7, 8) for t in (0, 5, 10)]
    assert (frames["synthetic_000008/0005"].permute(1, 2, 0).numpy() == synthetic_clip(8, **SMALL).frames[5]).all()
    pairs = [source.pair(1, np.random.default_rng(seed)).name for seed in range(20)]
    assert set(pairs) == {"synthetic_000008/0000", "synthetic_000008/0005", "synthetic_000008/0010"}
    assert len(source) == 2
    with pytest.raises(IndexError):
        source.pair(2, np.random.default_rng(0))


def test_a_frame_paired_with_itself_is_one():
    pair = Synthetic(1, **SMALL, reach=0).pair(0, np.random.default_rng(0))
    assert pair.delta == 0 and pair.frame_b is pair.frame_a


def test_the_source_trains():
    mixture = Mixture([(Synthetic(4, **SMALL), 1.0)], size=(96, 128), length=6)
    pairs = [mixture[number] for number in range(6)]
    assert all(pair.frame_a.shape == (3, 96, 128) for pair in pairs)
    assert sum(len(pair.people) for pair in pairs) > 0
