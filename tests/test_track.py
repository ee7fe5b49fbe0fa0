"""eval.track: ids by hand, what a file keeps, the command."""

import copy
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from dimofs import skeletons
from dimofs.cli import InputError, parser, run
from dimofs.detections import Detections
from dimofs.eval import posetrack, track
from dimofs.formats.posefiles import Poses, read_poses
from dimofs.formats.writers import About, jsonl
from dimofs.tracking import NONE, TRACKERS, Tracker, follow
from dimofs.video import Frame
from tests.support.pose_sets import (
    CASES,
    CROSSING,
    DATA,
    FORMATS,
    NAME,
    entries,
    furnished,
    ids,
    lines,
    load,
    needs_cases,
    save,
    stand,
    tracked,
    video,
)
from tests.support.posetrack_sets import NAMES, NAMES17, file18

PLAIN = Tracker(gate=0.9, patience=10)


pytestmark = pytest.mark.usefixtures("one_thread")


# --- by hand --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_two_people_cross(tmp_path, format):
    """Boxes are 24 wide and 44 or 22 high in the frame: IoU 14 / 34 with oneself, 308 / 1276 with the other."""
    assert ids(tracked(tmp_path, video(format, CROSSING))) == [0, 1, 1, 0, 0, 1]
    strict = tracked(tmp_path, video(format, CROSSING), gate=0.58, patience=0)
    assert ids(strict) == [0, 1, 2, 3, 4, 5], "1 - 14 / 34 is 0.588"


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(("gap", "expected"), [(1, [0, 0]), (2, [0, 1])])
def test_patience(tmp_path, format, gap, expected):
    frames = [[stand(0)], *[[]] * gap, [stand(0)]]
    assert ids(tracked(tmp_path, video(format, frames), patience=1)) == expected


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("frames", [[], [[]], [[], [stand(0)], []]])
def test_empty_frames_and_files(tmp_path, format, frames, capsys):
    content = video(format, frames)
    found = tracked(tmp_path, content)
    assert ids(found) == [0] * sum(map(len, frames))
    frames_of = {"posetrack17": lambda c: c["annolist"], "posetrack18": lambda c: c["images"], "jsonl": lambda c: c[1:]}
    assert len(frames_of[format](found)) == len(frames)
    assert (
        f"1 files, {len(frames)} frames, {len(ids(found))} people, {len(ids(found))} tracks" in capsys.readouterr().out
    )


@pytest.mark.parametrize("format", FORMATS)
def test_people_as_detections_by_hand(tmp_path, format):
    """Joints of 0.5 and 0.25; the extent 20 x 40 of all, of the second 10 x 10, both times 1.2."""
    second = stand(100, joints=(0, 1, 3), score=0.25)
    content = video(format, [[stand(0), second], [stand(5)]])
    (poses,) = read_poses(save(tmp_path / NAME[format], content)).videos
    people, has = poses.detections(), torch.zeros(3, 15, dtype=torch.bool)
    has[0], has[1, [0, 1, 3]], has[2] = True, True, True
    assert people.boxes.tolist() == [[-2, -4, 22, 44], [99, -1, 111, 11], [3, -4, 27, 44]]
    assert people.scores.tolist() == [0.5, 0.25, 0.5]
    assert people.keypoints[1, 3].tolist() == [100, 10] and people.keypoints[0, 14].tolist() == [20, 40]
    assert torch.equal(people.keypoint_scores == -torch.inf, ~has)
    assert people.confidences[has].tolist() == pytest.approx([0.5] * 15 + [0.25] * 3 + [0.5] * 15)
    assert poses.frames() == [slice(0, 2), slice(2, 3)]


def test_of_a_joints_repeats_the_first_counts_and_other_ids_do_not(tmp_path):
    content = video("posetrack17", [[stand(0)]])
    points = content["annolist"][0]["annorect"][0]["annopoints"][0]["point"]
    points += [{"id": [14], "x": [90], "y": [90], "score": [1]}, {"id": [15], "x": [90], "y": [90], "score": [1]}]
    (poses,) = read_poses(save(tmp_path / "x.json", content)).videos
    assert poses.xy[0, 14].tolist() == [20, 40] and poses.confidence[0, 14] == 0.5


def test_boxes_and_scores_of_the_file_come_first(tmp_path):
    content = video("posetrack18", [[stand(0), stand(50)]])
    content["annotations"][0] |= {"bbox": [1, 2, 30, 40], "score": 0.125}
    (poses,) = read_poses(save(tmp_path / "x.json", content)).videos
    assert poses.boxes().tolist() == [[1, 2, 31, 42], [48, -4, 72, 44]]
    assert poses.scores().tolist() == [0.125, 0.5]


@pytest.mark.parametrize("format", FORMATS[:2])
def test_scores_that_are_no_probabilities_weigh_nothing(tmp_path, format):
    for score, mean in ((3.0, 3.0), (-0.5, -0.5), (None, 1.0)):
        (poses,) = read_poses(save(tmp_path / "x.json", video(format, [[stand(0, score=score)]]))).videos
        assert poses.confidences().tolist() == [[1] * 15] and poses.scores().tolist() == [mean]
        assert poses.detections().keypoint_scores.isfinite().all()


def test_a_joint_with_the_score_0_is_there(tmp_path):
    content = video("posetrack17", [[stand(0, score=0.0)]])
    (poses,) = read_poses(save(tmp_path / "x.json", content)).videos
    assert poses.detections().keypoint_scores.isfinite().all()
    (poses,) = read_poses(save(tmp_path / "x.jsonl", tracked(tmp_path, content, format="jsonl"))).videos
    assert poses.has.all()


@pytest.mark.parametrize("format", FORMATS)
def test_people_below_the_score_are_taken_out(tmp_path, format):
    content = video(format, [[stand(0, score=0.25), stand(50), stand(100, score=0.75)], [stand(0, score=0.25)]])
    found = tracked(tmp_path, content, score=0.5)
    assert ids(found) == [0, 1]
    assert _points(entries(found)[0]) == _points(entries(content)[1])
    assert all(ids(tracked(tmp_path, content, score=0.5, format=to)) == [0, 1] for to in FORMATS)


def _points(person: dict) -> Any:
    return person.get("keypoints") or person["annopoints"]


@pytest.mark.parametrize("format", FORMATS)
def test_joints_below_the_score_become_absent(tmp_path, format):
    """And people go who then have neither box nor joints."""
    mixed = stand(0)
    mixed["points"] |= {1: (*mixed["points"][1][:2], 0.25), 14: (*mixed["points"][14][:2], 0.0)}
    content = video(format, [[stand(50, score=0.25), mixed]])
    found = tracked(tmp_path, content, joint_score=0.5)
    (person,) = entries(found)
    for path, least in ((save(tmp_path / NAME[format], found), -np.inf), (tmp_path / "in" / NAME[format], 0.5)):
        (poses,) = read_poses(path, least).videos
        assert poses.has.tolist() == [[j not in (1, 14) for j in range(15)]]
        assert poses.xy[0, 14].tolist() == [0, 0]
    if format == "posetrack17":
        assert [point["id"] for point in person["annopoints"][0]["point"]] == [[j] for j in range(14) if j != 1]
    elif format == "posetrack18":
        knee = NAMES17.index(NAMES[1])
        assert person["keypoints"][3 * knee : 3 * knee + 3] == [0, 0, 0] and person["scores"][knee] == 0
    else:
        assert person["keypoints"][1] == person["keypoints"][14] == [0, 0, 0]
    assert ids(found) == [0]


@pytest.mark.parametrize("format", FORMATS)
def test_a_joint_that_two_claim_stays_with_one(tmp_path, format):
    """The surer person on the right has the left one's joint 1; a third person, all of it, is in the right one's place
    and has nothing left."""
    left, right, double = stand(0), stand(200, score=0.75), stand(201, score=0.25)
    right["points"][1] = (*left["points"][1][:2], 0.75)
    double["points"][1] = (*left["points"][1][:2], 0.25)
    content = video(format, [[left, right, double]])
    found = tracked(tmp_path, content, exclusive=True)
    (poses,) = read_poses(save(tmp_path / NAME[format], found)).videos
    assert ids(found) == [0, 1] and poses.has.tolist() == [[j != 1 for j in range(15)], [True] * 15]
    assert ids(tracked(tmp_path, content)) == [0, 1, 2]


def test_ears_below_the_score_become_absent_too(tmp_path):
    content = video("posetrack18", [[stand(0)]])
    content["annotations"][0]["keypoints"][9:15] = [1, 2, 1, 3, 4, 1]
    for missing in (None, -9999):
        content["annotations"][0]["scores"][3:5] = [0.25, missing]
        (person,) = tracked(tmp_path, content, joint_score=0.5)["annotations"]
        assert person["keypoints"][9:15] == [0, 0, 0, 3, 4, 1], "one without a score stays"


def test_a_person_without_joints_stays_with_a_box_alone(tmp_path):
    content = video("posetrack18", [[stand(0, joints=()), stand(9, joints=())]])
    content["annotations"][1]["bbox"] = [1, 2, 30, 40]
    assert tracked(tmp_path, content)["annotations"] == [{**content["annotations"][1], "track_id": 0}]
    content = video("posetrack17", [[stand(0, joints=()), stand(9)]])
    content["annolist"][0]["annorect"][0]["annopoints"] = []
    assert ids(tracked(tmp_path, content)) == [0]


def test_people_are_clipped_where_the_size_is_known(tmp_path):
    """Detect-and-Track wants 50 square pixels inside the frame, 1000 wide: x = 978 leaves 22 x 44, 999 only 1 x 44."""
    content = lines([[stand(980, score=1.0), stand(1001, score=1.0)]])
    assert ids(tracked(tmp_path, content, tracker="detect-and-track")) == [0]
    content[1] |= {"width": 2000}
    assert ids(tracked(tmp_path, content, tracker="detect-and-track")) == [0, 1]
    content = file18([[stand(980, score=1.0), stand(1001, score=1.0)]], False)
    for person in content["annotations"]:
        del person["bbox"]
    assert len(ids(tracked(tmp_path, content, tracker="detect-and-track"))) == 2
    content["images"][0] |= {"width": 1000, "height": 600}
    assert len(ids(tracked(tmp_path, content, tracker="detect-and-track"))) == 1


def test_another_size_is_another_photograph(tmp_path):
    content = lines([[stand(0)], [stand(0)], [stand(0)]])
    content[2] |= {"width": 900}
    assert ids(tracked(tmp_path, content)) == [0, 1, 2]
    content = video("posetrack18", [[stand(0)], [stand(0)], [stand(0)]])
    content["images"][1] |= {"width": 900, "height": 600}
    assert ids(tracked(tmp_path, content)) == [0, 0, 0], "an unknown size is no other one"


def test_trackers_of_poses_see_the_joints(tmp_path):
    """Two people change places within the same boxes, one upside down: only the joints tell who is who."""

    def upside(tall: float) -> dict:
        person = stand(0, tall)
        flipped = {j: (x, tall - y, s) for j, (x, y, s) in person["points"].items()}
        return {**person, "points": flipped}

    frames = [[stand(0), upside(40)], [upside(40), stand(0)]]
    assert ids(tracked(tmp_path, video("posetrack17", frames), tracker="oks")) == [0, 1, 1, 0]
    assert ids(tracked(tmp_path, video("jsonl", frames), tracker="iou")) == [0, 1, 0, 1]


def test_whom_the_tracker_takes_is_known_even_if_it_moves_them(tmp_path):
    """Ids go to the right people where people are dropped and poses smoothed."""
    frames = [[stand(0, score=0.5), stand(50), stand(100)], [stand(0, score=0.2), stand(50, score=0.1), stand(103)]]
    (poses,) = read_poses(save(tmp_path / "x.json", video("posetrack17", frames))).videos
    tracker = replace(PLAIN, score=0.15, smooth=0.5)
    before = poses.xy.copy()
    assert track.linked(poses, tracker).ids.tolist() == [0, 1, 2, 0, -1, 2] and np.array_equal(poses.xy, before)


# --- what a file keeps ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_only_ids_change(tmp_path, format):
    content = furnished(format)
    found = tracked(tmp_path, copy.deepcopy(content))
    new = [0, 1, 1, 0, 0, 1]
    expected = copy.deepcopy(content)
    for person, track_id in zip(entries(expected), new, strict=True):
        person["id" if format == "jsonl" else "track_id"] = [track_id] if format == "posetrack17" else track_id
    if format == "posetrack18":  # its people stand in the file from the last to the first; within frames that is new
        assert ids(found) == [0, 1, 1, 0, 0, 1]
    assert json.dumps(found) == json.dumps(expected), "to the order of the fields"


@needs_cases
@pytest.mark.parametrize("path", sorted(CASES.glob("*/pred/*.json")), ids=lambda p: f"{p.parts[-3][:6]}-{p.stem}")
def test_only_ids_change_in_real_files(tmp_path, path):
    before, track_ids = load(path), []
    track.main(pred=path, out=tmp_path)
    after = load(tmp_path / path.name)
    for content in (before, after):
        track_ids.append(ids(content))
        for person in entries(content):
            person["track_id"] = None
    assert before == after and min(track_ids[1]) == 0


@pytest.mark.skipif(not (DATA / "formats").is_dir(), reason="no files at ../shared/data/formats")
def test_real_annotations_get_ids(tmp_path):
    folder = DATA / "formats/posetrack18/val"
    track.main(pred=folder, out=tmp_path)
    for path in folder.glob("*.json"):
        before, after = load(path), load(tmp_path / path.name)
        assert before["images"] == after["images"] and len(after["annotations"]) > 0
        posetrack.main(gt=path, pred=tmp_path / path.name)  # well-formed for the benchmark


@pytest.mark.parametrize("format", FORMATS)
def test_ids_that_are_there_do_not_matter(tmp_path, format):
    """The same for all, beyond all limits, or none."""
    for old in (0, 123_456, -1, None):
        content = video(format, CROSSING)
        for person in entries(content):
            person.pop("track_id", None)
            if old is not None:
                person["id" if format == "jsonl" else "track_id"] = [old] if format == "posetrack17" else old
        assert ids(tracked(tmp_path, content)) == [0, 1, 1, 0, 0, 1]


def at(numbers: list[int], **header) -> list[dict]:
    """JSON lines of one person who walks 4 pixels a frame, in the frames of these numbers."""
    content = lines([[stand(4 * number)] for number in numbers])
    for line, number in zip(content[1:], numbers, strict=True):
        line |= {"frame": number, "time": number / 25}
    content[0] |= header
    return content


@pytest.mark.parametrize("header", [{}, {"fps": 25.0}])
def test_frames_that_are_left_out_count(tmp_path, header):
    """A track that is not seen moves on at its speed, and ends after `patience` frames, in whichever it was missed."""
    assert ids(tracked(tmp_path, at([0, 1, 2, 3, 4, 5, 20], **header), tracker="kalman")) == [0] * 7
    for gap, expected in ((10, [0, 1, 0]), (11, [0, 1, 2])):
        content = at([0, gap, gap + 1], **header)
        content[2]["people"] = at([100])[1]["people"]
        content[3]["people"] = content[1]["people"]
        assert ids(tracked(tmp_path, content, tracker="iou", patience=10)) == expected


def test_times_tell_more_than_numbers(tmp_path):
    """Of a variable rate: frame 6 is shown 15 frames after frame 5, where somebody who walks then is."""
    content = at([0, 1, 2, 3, 4, 5, 20], fps=25.0)
    content[-1]["frame"] = 6
    assert ids(tracked(tmp_path, content, tracker="kalman")) == [0] * 7
    del content[-1]["time"]
    assert ids(tracked(tmp_path, content, tracker="kalman")) == [0] * 6 + [1]


@pytest.mark.parametrize(("numbers", "field"), [([0, 0], "frame"), ([5, 0], "frame")])
def test_frames_out_of_order_are_refused(tmp_path, numbers, field):
    with pytest.raises(InputError, match=rf"x.jsonl: line 3.{field} is not above that of the line before; sort"):
        tracked(tmp_path, at(numbers))
    content = at([0, 1], fps=25.0)
    content[2]["time"] = 0.0
    with pytest.raises(InputError, match=r"line 3.time is not above that of the line before; sort the lines"):
        tracked(tmp_path, content)


def test_lines_of_the_pose_command_come_back_byte_for_byte(tmp_path):
    """Written with the ids of a tracker, read and tracked by the same one."""
    about = About(
        source="dir/é.mp4",
        name="é",
        width=100,
        height=80,
        fps=29.97,
        keypoint_names=skeletons.DIMOFS,
        model="m",
        delta=0,
    )
    path, tracks = tmp_path / "in/é.poses.jsonl", NONE
    random = torch.Generator().manual_seed(0)
    homes = torch.tensor([[10.0, 10.0], [60.0, 30.0], [40.0, 20.0]])
    with jsonl(path, about) as put:
        for f in range(20):
            low = homes + 3 * torch.randn(3, 2, generator=random)
            points = low[:, None] + 20 * torch.rand(3, 19, 2, generator=random)
            people = Detections(torch.cat((low, low + 20), 1), torch.full((3,), 0.9), points, torch.zeros(3, 19))
            tracks, people = follow(tracks, people, TRACKERS["default"], 80, 100)
            put(Frame(np.zeros((80, 100, 3), np.uint8), f, f / 29.97, 1 / 29.97), people)
    track.main(pred=tmp_path / "in", out=tmp_path / "out")
    assert (tmp_path / "out/é.poses.jsonl").read_bytes() == path.read_bytes()


def test_several_videos_in_a_file_are_tracked_apart(tmp_path):
    """Two videos, their frames mixed up: ids as if each were alone."""
    other = [[stand(300)], [stand(20), stand(302)], [stand(303)]]
    mixed = [frame for pair in zip(CROSSING, other, strict=True) for frame in pair]
    content = video("posetrack18", mixed, folders=["one", "two"] * 3)
    assert ids(tracked(tmp_path, content)) == [0, 1, 0, 1, 0, 1, 0, 0, 1, 0]
    odd = video("posetrack18", mixed, folders=["one", "one/."] * 3)
    assert ids(tracked(tmp_path, odd)) == ids(tracked(tmp_path, content)), "folders are told apart as by the reader"
    one = video("posetrack18", mixed)
    assert ids(tracked(tmp_path, one)) != ids(tracked(tmp_path, content))
    for format in ("posetrack17", "jsonl"):
        with pytest.raises(InputError, match=r"x.json: has 2 videos.*leave out --format"):
            tracked(tmp_path, content, format=format)


def test_sizes_belong_to_their_videos(tmp_path):
    """Frames of two videos mixed: those of one are 1000 pixels wide, of the other 10, where nobody is."""
    content = video("posetrack18", [[stand(20)]] * 4, folders=["a", "b"] * 2)
    for i, image in enumerate(content["images"]):
        image |= {"width": (1000, 10)[i % 2], "height": 1000}
    (a, b) = read_poses(save(tmp_path / "x.json", content)).videos
    assert a.sizes.tolist() == [[1000, 1000]] * 2 and b.sizes.tolist() == [[10, 1000]] * 2


# --- the command ----------------------------------------------------------------------------------------------------


def _run(*arguments: object) -> object:
    """The exit status of the command."""
    with pytest.raises(SystemExit) as done:
        run(track.main, [str(argument) for argument in arguments])
    return done.value.code


def test_the_command_from_end_to_end(tmp_path, capsys):
    path = save(tmp_path / "x.json.gz", video("posetrack18", CROSSING))
    assert _run("--pred", path, "--out", tmp_path / "out", "--tracker", "iou", "--gate", "0.9", "--patience", "2") == 0
    assert ids(load(tmp_path / "out/x.json.gz")) == [0, 1, 1, 0, 0, 1]
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1 and captured.out.startswith("1 files, 3 frames, 6 people, 2 tracks, ")
    assert captured.err == ""


def test_a_fault_is_one_line_and_exit_code_2(tmp_path, capsys):
    """Results of other files stay; of the bad one there is none, not even in part."""
    save(tmp_path / "in/a.json", video("posetrack18", CROSSING))
    save(tmp_path / "in/b.json", "{")
    assert _run("--pred", tmp_path / "in", "--out", tmp_path / "out") == 2
    captured = capsys.readouterr()
    assert captured.out.startswith("1 files, 3 frames, ") and captured.err.count("\n") == 1
    assert captured.err.startswith(f"error: {tmp_path / 'in/b.json'}: not a JSON file")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.json"]


def test_every_documented_command_runs(tmp_path, monkeypatch, capsys):
    save(tmp_path / "poses/a.json", video("posetrack17", CROSSING))
    save(tmp_path / "x.poses.jsonl", video("jsonl", CROSSING))
    monkeypatch.chdir(tmp_path)
    lines = [line.split("#")[0].split() for line in (track.__doc__ or "").splitlines() if "python -m" in line]
    assert len(lines) == 4
    for line in lines:
        track.main(**vars(parser(track.main).parse_args(line[3:])))
    assert capsys.readouterr().out.count("-> tracked") == 4
    assert sorted(path.name for path in (tmp_path / "tracked").iterdir()) == ["a.json", "x.json"]


def test_poses_without_people_have_no_boxes():
    nobody = np.zeros((0, 3))
    poses = Poses(
        name="x", joints="abc", centre=0.0, images=[], numbers=[], times=np.zeros(0), sizes=np.zeros((0, 2)),
        frame=nobody[:, 0], box=np.zeros((0, 4)), score=nobody[:, 0], xy=np.zeros((0, 3, 2)), has=nobody > 0,
        confidence=nobody, entries=[],
    )  # fmt: skip
    assert poses.boxes().shape == (0, 4) and len(poses.detections()) == 0 and poses.frames() == []
