"""PoseTrack and unlabelled videos as training pairs, from made-up files and from real ones."""

import json
import os
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from dimofs.cli import InputError
from dimofs.datasets.posetrack import PoseTrack, people
from dimofs.datasets.teacher import Taught
from dimofs.datasets.videos import Videos
from dimofs.detections import Detections
from dimofs.formats import posetrack
from dimofs.skeletons import DIMOFS
from tests.support import clips
from tests.support.posetrack_sets import FOLDER, file17, file18, person, write
from tests.support.scenes import joint, write_clip, write_image
from tests.test_datasets import needs

SIZE = (240, 320)
SQUARE = [(20, 30), (60, 30), (60, 90), (20, 70)]


def posetrack_set(root: Path, content: dict, images: int) -> PoseTrack:
    """Frame n has the grey value 8 n."""
    write(root / "annotations/train/a.json", content)
    (root / f"images/{FOLDER}").mkdir(parents=True)
    for n in range(images):
        write_image(root / f"images/{FOLDER}/{n:06d}.jpg", np.full((*SIZE, 3), 8 * n, np.uint8))
    return PoseTrack(root, reach=3)


@pytest.mark.parametrize("form", [file18, file17], ids=["2018", "2017"])
def test_posetrack_by_hand(tmp_path, form):
    """Half a pixel leads to the pixel's centre; the left knee is outside. The box of 2017 is the extent of the joints,
    100 x 130 pixels, times 1.2; a person of whom only the head is known is ignored, and so are polygons."""
    somebody = person(0, 10, 0)
    somebody["points"] = {0: (10, 100, 1), 1: (60, 50, 1), 2: (110, 180, 1), 4: (410, 120, 1)}
    frames = [[], [somebody, person(1, 50, 60, joints=())], []]
    content = form(frames, True, {1: [SQUARE, [(-5, 200), (900, 200), (900, 300)]]})
    for entry in content.get("annotations", [])[1:]:
        entry["bbox"] = []
    source = posetrack_set(tmp_path, content, 3)
    found = source.pair(0, np.random.default_rng(0)).people
    names = [DIMOFS[i] for i in found.labelled[0].nonzero()[:, 0]]
    assert len(source) == len(found) == 1 and names == ["right_hip", "right_knee", "right_ankle"]
    assert found.keypoints[found.labelled].tolist() == [[110.5, 180.5], [60.5, 50.5], [10.5, 100.5]]
    box = [10.5, 0, 320, 20.5] if form is file18 else [0.5, 37.5, 120.5, 193.5]
    assert found.boxes[0].tolist() == pytest.approx(box)
    assert found.ignore.tolist() == [[50.5, 60.5, 80.5, 100.5], [20.5, 30.5, 60.5, 90.5], [0, 200.5, 320, 240]]


def test_the_neck_is_head_bottom(tmp_path):
    content = file18([[person(0, -1150, 50)]], True)
    found = posetrack_set(tmp_path, content, 1).pair(0, np.random.default_rng(0)).people
    names = [DIMOFS[i] for i in found.labelled[0].nonzero()[:, 0]]
    assert names == ["nose", "neck", "head_top"]
    assert found.keypoints[0, joint("neck"), 0] == -1150 + 100 * posetrack.JOINTS.index("neck") + 0.5


def test_posetrack_deltas(tmp_path):
    """Frame A has people, B is near it in the video, labelled or not; every value of -3..3 is met."""
    frames = [[person(0, 10, 100)] if n in (1, 4, 6) else [] for n in range(9)]
    source, random, seen = posetrack_set(tmp_path, file18(frames, True), 9), np.random.default_rng(0), set()
    for _ in range(80):
        pair = source.pair(0, random)
        a, b = (round(frame.float().mean().item() / 8) for frame in (pair.frame_a, pair.frame_b))
        assert pair.name == f"images/{FOLDER}/{a:06d}.jpg" and b - a == pair.delta
        assert len(pair.people) == 1 and a in (1, 4, 6)
        seen.add(pair.delta)
    assert seen == set(range(-3, 4))
    assert [name[-8:] for name, _ in source.frames()] == ["0001.jpg", "0004.jpg", "0006.jpg"]


def test_bad_posetrack_folders_are_one_line(tmp_path):
    def refused(name: str, content: dict, message: str) -> None:
        write(tmp_path / name / "annotations/train/a.json", content)
        with pytest.raises(InputError, match=message) as fault:
            PoseTrack(tmp_path / name)
        assert "\n" not in str(fault.value)

    with pytest.raises(InputError, match=r"train: holds no \.json files; --posetrack"):
        PoseTrack(tmp_path)
    refused("empty", file18([[], []], True), "annotates no person")
    refused("pixels", file18([[person(0)]], True), r"000000\.jpg: absent; images must lie where .*a\.json names them")
    refused("other", {"people": []}, "neither annolist")
    outside = file18([[person(0)]], True)
    outside["images"][0]["file_name"] = "../../secret.jpg"
    refused("outside", outside, r"a\.json: image '\.\./\.\./secret\.jpg' is not a file inside")


def test_an_image_of_another_size_than_the_file_says_is_told(tmp_path):
    content = file18([[person(0)]], True)
    content["images"][0] |= {"height": 480, "width": 640}
    source = posetrack_set(tmp_path, content, 1)
    with pytest.raises(InputError, match=r"000000\.jpg: has 320 x 240 pixels, .* 640 x 480.*a\.json names it"):
        source.pair(0, np.random.default_rng(0))


@pytest.mark.parametrize("file", ["003418_mpii_test", "009473_mpii_test", "012834_mpii_test"])
def test_real_posetrack_files(file):
    """Every person with a box or a joint in the frame is found, with the file's joints and no others."""
    path = needs(f"formats/posetrack18/val/{file}.json")
    content = json.loads(path.read_text())
    (video,) = posetrack.read_annotations(path)
    size = (content["images"][0]["height"], content["images"][0]["width"])
    names = ["neck" if name == "head_bottom" else name for name in content["categories"][0]["keypoints"]]
    ears = [names.index(name) for name in ("left_ear", "right_ear")]
    for number, image in enumerate(content["images"]):
        mine = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        found = people(video, number, *size)
        assert len(found) + len(found.ignore) >= len(mine) and len(found) <= len(mine)
        joints = sum(
            0 <= x < size[1] - 0.5 and 0 <= y < size[0] - 0.5
            for a in mine
            for j, (x, y, v) in enumerate(zip(*[iter(a["keypoints"])] * 3, strict=True))
            if (x or y or v) and j not in ears
        )
        assert found.labelled.sum() == joints
        points = found.keypoints[found.labelled]
        assert (points >= 0).all() and (points < torch.tensor(size[::-1])).all()
        assert (found.boxes[:, 2:] > found.boxes[:, :2]).all() and (found.ignore[:, 2:] > found.ignore[:, :2]).all()


def test_videos_give_pairs_of_nobody(tmp_path):
    """Grey values tell the frames' numbers: A is every third frame, B - A = delta, within the clip."""
    write_clip(tmp_path / "b.avi", 12)
    write_clip(tmp_path / "a.avi", 7)
    write_image(tmp_path / "still.png", np.zeros((8, 8, 3), np.uint8))
    source, random, seen = Videos(str(tmp_path), reach=4, every=3), np.random.default_rng(0), set()
    assert source.names == ["a.avi", "b.avi"] and source.length("b.avi") == 12
    for _ in range(80):
        pair = source.pair(1, random)
        a, b = (round(frame.float().mean().item() / 8) for frame in (pair.frame_a, pair.frame_b))
        assert pair.name == f"b.avi/{a:06d}" and b - a == pair.delta and a % 3 == 0 and len(pair.people) == 0
        seen.add(pair.delta)
    assert seen == set(range(-4, 5))
    assert [name for name, _ in source.frames()][:4] == [f"a.avi/{n:06d}" for n in (0, 3, 6)] + ["b.avi/000000"]


def test_bad_video_folders_are_one_line(tmp_path):
    write_clip(tmp_path / "x/a.avi", 2)
    write_clip(tmp_path / "y/a.avi", 2)
    (tmp_path / "z").mkdir()
    (tmp_path / "z/broken.avi").write_bytes(b"not a video")
    with pytest.raises(InputError, match=r"two videos are called a\.avi"):
        Videos(str(tmp_path / "*/a.avi"))
    with pytest.raises(InputError, match="no video"):
        Videos(str(tmp_path))
    with pytest.raises(InputError, match=r"broken\.avi: cannot be read"):
        Videos(str(tmp_path / "z")).pair(0, np.random.default_rng(0))


def cut(source: Path, target: Path, first: int) -> None:
    """`source` from frame `first` on, without re-encoding: an edit list hides what decodes before it."""
    with av.open(str(source)) as whole, av.open(str(target), "w") as part:
        stream = whole.streams.video[0]
        copied = part.add_stream_from_template(stream)
        assert stream.time_base is not None
        shift = round(first / 25 / stream.time_base)
        for packet in whole.demux(stream):
            if packet.pts is not None and packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copied
                part.mux(packet)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/nonexistent")])
def test_what_is_no_file_is_told_before_training(tmp_path, make):
    make(tmp_path / "a.mp4")
    with pytest.raises(InputError, match=r"a\.mp4: not a file"):
        Videos(str(tmp_path))


def numbered(frame: torch.Tensor) -> int:
    return clips.number(frame.permute(1, 2, 0).numpy())


def test_pairs_and_teacher_labels_of_a_cut_clip_are_of_the_frames_shown(tmp_path):
    """Of 40 frames the last 26 are shown: frame k is picture 14 + k, for the teacher and in every pair."""
    (tmp_path / "in").mkdir()
    cut(clips.write_clip(tmp_path / "whole.mp4", 40), tmp_path / "in/c.mp4", 14)
    videos = Videos(str(tmp_path / "in"))
    assert videos.length("c.mp4") == 26
    labels = {}
    for name, frame in videos.frames():
        shown = numbered(frame)
        assert int(name.removeprefix("c.mp4/")) == shown - 14
        box = torch.tensor([[0.0, 0.0, shown, 20.0]])
        labels[name] = Detections(box, torch.ones(1), torch.zeros(1, 17, 2), torch.zeros(1, 17))
    assert len(labels) == 26
    source, random = Taught(videos, labels), np.random.default_rng(0)
    for _ in range(200):
        pair = source.pair(0, random)
        assert pair.people.boxes[0, 2] == numbered(pair.frame_a)
        assert numbered(pair.frame_b) == numbered(pair.frame_a) + pair.delta


def test_videos_are_read_upright(tmp_path):
    """A clip to be turned counterclockwise: its red quarter goes from the upper left to the lower left."""
    clips.write_clip(tmp_path / "a.mp4", 3, rotation=90)
    source = Videos(str(tmp_path))
    frame = source.pair(0, np.random.default_rng(0)).frame_a
    ((_, first), *_) = source.frames()
    for upright in (frame, first):
        assert upright.shape == (3, 64, 48)
        red = upright[0].float() - upright[1].float() > 100
        assert red[40:, :16].all() and not red[:24].any() and not red[:, 32:].any()


UNREADABLE = {
    "empty": b"",
    "text": b"This is not a video.\n" * 50,
    "half a header": b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41",
    "a playlist": b"#EXTM3U\n#EXTINF:1,\n/etc/hostname\n",
}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
def test_unreadable_videos_are_told_in_one_line(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    source = Videos(str(tmp_path))
    for read in (lambda: source.pair(0, np.random.default_rng(0)), lambda: list(source.frames())):
        with pytest.raises(InputError, match=r"a\.mp4") as error:
            read()
        assert "\n" not in str(error.value)
