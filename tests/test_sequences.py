"""Videos with PoseTrack's labels: the conversions by hand, and that nothing but the truth scores full marks on them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dimofs.cli import InputError
from dimofs.datasets.jhmdb import Jhmdb
from dimofs.datasets.sequences import (
    Labels,
    annotate,
    jhmdb_videos,
    pose_content,
    posetrack_videos,
    spread,
    synthetic_videos,
)
from dimofs.datasets.synthetic.clips import Synthetic, synthetic_clip
from dimofs.detections import Detections
from dimofs.eval.keypoints.frames import clean
from dimofs.formats.posetrack import JOINTS, read_annotations
from dimofs.skeletons import DIMOFS
from tests.support.scenes import write_clip, write_image


def someone(identity: int, **joints: tuple[float, float]) -> Detections:
    """A person of these joints and a box of 10 to 50."""
    points, logits = torch.zeros(1, 19, 2), torch.full((1, 19), -torch.inf)
    for name, point in joints.items():
        points[0, DIMOFS.index(name)], logits[0, DIMOFS.index(name)] = torch.tensor(point), torch.inf
    boxes = torch.tensor([[10.0, 10, 50, 50]])
    return Detections(boxes, torch.ones(1), points, logits, torch.tensor([identity]))


def test_labels_by_hand(tmp_path):
    people = someone(3, neck=(20.5, 30.5), left_knee=(40.0, 50.25))
    polygon = torch.tensor([[0.5, 0.5], [9.5, 0.5], [9.5, 8.5]])
    frames = [Labels(people, torch.tensor([[15.0, 12, 25, 26]]), [polygon]), Labels(people[:0], torch.zeros(0, 4))]
    video = annotate(tmp_path, "walk", frames, (60, 80))
    assert video.frames == ["images/walk/000000.jpg", "images/walk/000001.jpg"]
    assert video.frame.tolist() == [0] and video.track.tolist() == [3]
    assert {JOINTS[j]: xy for j, xy in zip(video.joint, video.xy.tolist(), strict=True)} == {
        "neck": [20, 30],
        "left_knee": [39.5, 49.75],
    }
    assert video.head.tolist() == [[14.5, 11.5, 24.5, 25.5]]
    assert [p.tolist() for p in video.regions[0]] == [[[0, 0], [9, 0], [9, 8]]] and video.regions[1] == []
    image = json.loads((tmp_path / "walk.json").read_text())["images"][0]
    assert (image["width"], image["height"]) == (80, 60)


def test_predictions_of_submissions_by_hand():
    """Two people without ids, one joint each; the second's is absent."""
    found = Detections.join([someone(0, nose=(5.0, 6.0)), someone(1)])
    found.ids, found.scores, found.keypoint_scores[0, 0] = None, torch.tensor([0.75, 0.5]), 0.0
    content = pose_content("000342_mpii_test", DIMOFS, [found], ["images/val/000342_mpii_test/000007.jpg"], (60, 80))
    one, other = content["annotations"]
    assert one["keypoints"][:3] == [4.5, 5.5, 1] and one["scores"][0] == 0.5 and one["score"] == 0.75
    assert not any(one["keypoints"][3:]) and not any(other["keypoints"])
    assert (one["track_id"], other["track_id"]) == (0, 1)
    assert content["images"][0]["id"] == one["image_id"] == 10003420007


def test_spread():
    assert spread("abcdefghij", 3) == ["a", "d", "g"]
    assert spread("abc", 5) == spread("abc", None) == ["a", "b", "c"]
    assert spread("", 5) == []


def test_synthetic_clips_keep_frames_joints_and_ids(tmp_path):
    (first, second) = synthetic_videos(tmp_path, Synthetic(2, seed=31, length=6, people=(2, 4)))
    clip = synthetic_clip(32, length=6, people=(2, 4))
    assert second.truth.name == clip.name and (tmp_path / f"{first.truth.name}.json").exists()
    frames = list(second.frames())
    assert len(frames) == len(second.truth.frames) == 6
    assert all(np.array_equal(frame.pixels, pixels) for frame, pixels in zip(frames, clip.frames, strict=True))
    number, person = np.nonzero(clip.present)
    assert second.truth.frame.tolist() == number.tolist() and second.truth.track.tolist() == person.tolist()
    known = [DIMOFS.index(name) for name in JOINTS]
    assert len(second.truth.joint) == clip.visible[clip.present][:, known].sum() > 0
    where = np.flatnonzero(second.truth.joint == JOINTS.index("nose"))
    shown = clip.present & clip.visible[..., 0]
    np.testing.assert_allclose(second.truth.xy[where], clip.keypoints[shown, 0] - 0.5, atol=0.0051)


@pytest.fixture
def jhmdb(tmp_path) -> Jhmdb:
    """One test clip of 4 frames, an actor of 20 x 40 pixels at x = 20 whose face is 10 above the neck, and one clip
    whose joints are not clean."""
    labels, clips = tmp_path / "labels", tmp_path / "clips"
    (labels / "splits").mkdir(parents=True)
    (labels / "splits/walk_test_split1.txt").write_text("a.avi 2\nb.avi 2\n")
    joints = np.full((4, 15, 2), 30.5)
    joints[:, 0], joints[:, 2] = (30.5, 20.5), (30.5, 10.5)  # neck and face, counted from 1
    boxes = np.tile(np.array([20, 4, 39, 43], np.int16), (4, 1))
    for file, values in (("joints.npz", joints), ("boxes.npz", boxes)):
        np.savez(labels / file, allow_pickle=False, **{"walk/a": values, "walk/b": values})
    (labels / "joints_meta.json").write_text('{"walk/a": {"clean": true}, "walk/b": {"clean": false}}')
    for name in "ab":
        write_clip(clips / "walk" / f"{name}.avi", 4)
    return Jhmdb(clips, labels, part="test")


def test_jhmdb_by_hand(tmp_path, jhmdb):
    (video,) = jhmdb_videos(tmp_path / "truth", jhmdb)
    truth = video.truth
    assert truth.name == "walk_a" and len(list(video.frames())) == len(truth.frames) == 4
    assert truth.head[0].tolist() == [19.5, -0.5, 39.5, 19.5], (
        "a square of 20 around the face, pixel centres at integers"
    )
    nose = np.flatnonzero(truth.joint == JOINTS.index("nose"))
    assert truth.xy[nose].tolist() == [[29.5, 9.5]] * 4
    assert JOINTS.index("head_top") not in truth.joint and len(truth.joint) == 4 * 14


def test_a_clip_with_fewer_frames_than_labels_is_told(tmp_path, jhmdb):
    write_clip(jhmdb.clips / "walk/a.avi", 3)
    (video,) = jhmdb_videos(None, jhmdb)
    with pytest.raises(InputError, match=r"a\.avi: has 3 frames, its labels name 4"):
        list(video.frames())


def test_jhmdb_ignores_what_is_far_from_the_actor(tmp_path, jhmdb):
    """The box is 20 4 40 44; a fifth of 40 is 8, so that what is right of 48 does not count."""
    (video,) = jhmdb_videos(tmp_path / "truth", jhmdb)
    near, far = someone(0, nose=(47.0, 20.0), neck=(52.0, 20.0)), someone(1, nose=(60.0, 20.0))
    (tmp_path / "p.json").write_text(
        json.dumps(pose_content("p", DIMOFS, [Detections.join([near, far])] * 4, video.truth.frames, (48, 64)))
    )
    gt, found = clean(video.truth, read_annotations(tmp_path / "p.json")[0])
    assert gt.has.sum() == 4 * 14, "all of the actor's own joints count"
    assert found.has.sum(axis=1).tolist() == [1] * 4 and found.has[:, JOINTS.index("nose")].all()


def test_jhmdb_without_clean_clips_is_named(tmp_path, jhmdb):
    (Path(jhmdb.labels.root) / "joints_meta.json").write_text("{}")
    with pytest.raises(InputError, match="no clip of the split has clean joints"):
        jhmdb_videos(tmp_path, Jhmdb(jhmdb.clips, jhmdb.labels.root, part="test"))


def test_posetrack_folders(tmp_path):
    people = someone(0, neck=(20.5, 30.5))
    frames = [Labels(people, torch.tensor([[15.0, 12, 25, 26]]))] * 2
    annotate(tmp_path / "annotations/val", "000342_mpii_test", frames, (8, 12))
    with pytest.raises(InputError, match=r"000000\.jpg"):
        list(posetrack_videos(tmp_path)[0].frames())
    (tmp_path / "images/000342_mpii_test").mkdir(parents=True)
    for number in range(2):
        image = np.full((8, 12, 3), 100 * number, np.uint8)
        write_image(tmp_path / f"images/000342_mpii_test/{number:06d}.jpg", image)
    (video,) = posetrack_videos(tmp_path)
    assert [int(frame.pixels.mean()) for frame in video.frames()] == [0, 100]
    with pytest.raises(InputError, match="annotations/val"):
        posetrack_videos(tmp_path / "images")
