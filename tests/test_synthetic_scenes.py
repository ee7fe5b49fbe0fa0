"""Cameras and scenes of synthetic clips, and the labels that follow from them."""

from dataclasses import replace

import numpy as np
import pytest

from dimofs.datasets.synthetic import casting, puppets, scenery
from dimofs.datasets.synthetic import clips as synthetic
from dimofs.datasets.synthetic.clips import SyntheticClip, synthetic_clip
from dimofs.datasets.synthetic.gaits import perform
from dimofs.datasets.synthetic.scenery import Camera, Scenery, Thing
from tests.support.synthetic import PLAIN, STYLE, bare, scene, still_life

# --- cameras ---


def test_the_camera_moves_people_as_it_moves_the_place():
    """A white pixel of the backdrop is seen where `project` puts it, to a thousandth of a pixel."""
    camera = Camera(np.array([(0, 0), (2.3, -1.6), (-3.25, 2.5)]), np.array((1.0, 1.0, 1.2)))
    image = np.zeros((60, 80, 3), np.float32)
    image[25, 33] = 100  # its middle lies at world (33.5 - 10, 25.5 - 8)
    place = Scenery(image=image, things=(), origin=(-10, -8), light=np.zeros(2, np.float32))
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
    clip = SyntheticClip(
        name="x",
        frames=frames,
        fps=25.0,
        present=yes,
        boxes=none,
        heads=none,
        keypoints=keypoints,
        visible=np.ones((4, 1, 19), bool),
        actions=("walk",),
    )
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
