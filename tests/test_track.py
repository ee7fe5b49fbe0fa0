"""eval.track and the pose files it reads: ids by hand, what a file keeps, conversions, bad input, the command."""

import copy
import gzip
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from posetrack_sets import NAMES, NAMES17, file17, file18, write

from dimofs import skeletons
from dimofs.cli import InputError, parser, run
from dimofs.datasets.posetrack import JOINTS
from dimofs.detections import Detections
from dimofs.eval import posetrack, track
from dimofs.posefiles import Poses, read
from dimofs.tracking import NONE, TRACKERS, Tracker, follow
from dimofs.video import Frame
from dimofs.writers import About, jsonl

DATA = Path(__file__).parents[2] / "shared/data"
CASES, FORMATS = DATA / "posetrack_cases", ("posetrack17", "posetrack18", "jsonl")
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not at ../shared/data/posetrack_cases")
PLAIN = Tracker(gate=0.9, patience=10)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def stand(
    x: float, tall: float = 40.0, y: float = 0.0, score: float | None = 0.5, joints: Sequence[int] = range(15)
) -> dict:
    """A person 20 wide and `tall` high from (x, y); without scores if `score` is None."""
    points = {j: (x + 10 * (j % 3), y + tall * (j // 3) / 4, 0.0 if score is None else score) for j in joints}
    return {"track": 7, "points": points, "head": (x, y, 3.0, 4.0), "scored": score is not None}


def video(format: str, frames: list[list[dict]], **options) -> Any:
    """The content of a file of these people, without boxes; of JSON lines a list."""
    if format == "jsonl":
        return _lines(frames)
    content = file17(frames, False) if format == "posetrack17" else file18(frames, False, **options)
    everyone = [person for people in frames for person in people]
    for entry, person in zip(_entries(content), everyone, strict=True):
        entry.pop("bbox", None)
        if not person["scored"]:
            entry.pop("scores", None)
            for point in entry.get("annopoints", [{"point": []}])[0]["point"]:
                del point["score"]
    return content


def _lines(frames: list[list[dict]]) -> list[dict]:
    lines: list[dict] = [{"source": "x.mp4", "width": 1000, "height": 1000, "keypoint_names": list(JOINTS)}]
    for f, people in enumerate(frames):
        lines.append({"frame": f, "time": f / 25, "people": []})
        for person in people:
            joints = [list(person["points"].get(j, (0.0, 0.0, 0.0))) for j in range(15)]
            lines[-1]["people"].append({"id": None, "keypoints": joints})
    return lines


def _entries(content: Any) -> list[dict]:
    """The people's objects in the order of the file."""
    if isinstance(content, list):
        return [person for line in content[1:] for person in line["people"]]
    if "images" in content:
        return content["annotations"]
    return [person for frame in content["annolist"] for person in frame["annorect"]]


def save(path: Path, content: Any) -> Path:
    lines = isinstance(content, list)
    return write(path, "".join(json.dumps(line) + "\n" for line in content) if lines else content)


def load(path: Path) -> Any:
    binary = path.read_bytes()
    text = (gzip.decompress(binary) if binary[:2] == b"\x1f\x8b" else binary).decode()
    return [json.loads(line) for line in text.split("\n") if line] if path.suffix == ".jsonl" else json.loads(text)


NAME = {"posetrack17": "x.json", "posetrack18": "x.json", "jsonl": "x.jsonl"}


def tracked(folder: Path, content: Any, **options) -> Any:
    """The content of what the command makes of a file with this content."""
    name = "x.jsonl" if isinstance(content, list) else "x.json"
    track.main(pred=save(folder / "in" / name, content), out=folder / "out", **options)
    (result,) = (folder / "out").iterdir()
    found = load(result)
    result.unlink()
    return found


def ids(content: Any) -> list[int]:
    def one(person: dict) -> int:
        value = person["id" if isinstance(content, list) else "track_id"]
        return value[0] if isinstance(value, list) else value

    return [one(person) for person in _entries(content)]


# --- by hand --------------------------------------------------------------------------------------------------------

# A tall one goes right, 10 pixels a frame, and a small one left; the second frame lists them the other way round.
CROSSING = [[stand(10), stand(30, 20)], [stand(20, 20), stand(20)], [stand(30), stand(10, 20)]]


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
    (poses,) = read(save(tmp_path / NAME[format], content)).videos
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
    (poses,) = read(save(tmp_path / "x.json", content)).videos
    assert poses.xy[0, 14].tolist() == [20, 40] and poses.confidence[0, 14] == 0.5


def test_boxes_and_scores_of_the_file_come_first(tmp_path):
    content = video("posetrack18", [[stand(0), stand(50)]])
    content["annotations"][0] |= {"bbox": [1, 2, 30, 40], "score": 0.125}
    (poses,) = read(save(tmp_path / "x.json", content)).videos
    assert poses.boxes().tolist() == [[1, 2, 31, 42], [48, -4, 72, 44]]
    assert poses.scores().tolist() == [0.125, 0.5]


@pytest.mark.parametrize("format", FORMATS[:2])
def test_scores_that_are_no_probabilities_weigh_nothing(tmp_path, format):
    for score, mean in ((3.0, 3.0), (-0.5, -0.5), (None, 1.0)):
        (poses,) = read(save(tmp_path / "x.json", video(format, [[stand(0, score=score)]]))).videos
        assert poses.confidences().tolist() == [[1] * 15] and poses.scores().tolist() == [mean]
        assert poses.detections().keypoint_scores.isfinite().all()


def test_a_joint_with_the_score_0_is_there(tmp_path):
    content = video("posetrack17", [[stand(0, score=0.0)]])
    (poses,) = read(save(tmp_path / "x.json", content)).videos
    assert poses.detections().keypoint_scores.isfinite().all()
    (poses,) = read(save(tmp_path / "x.jsonl", tracked(tmp_path, content, format="jsonl"))).videos
    assert poses.has.all()


@pytest.mark.parametrize("format", FORMATS)
def test_people_below_the_score_are_taken_out(tmp_path, format):
    content = video(format, [[stand(0, score=0.25), stand(50), stand(100, score=0.75)], [stand(0, score=0.25)]])
    found = tracked(tmp_path, content, score=0.5)
    assert ids(found) == [0, 1]
    assert _points(_entries(found)[0]) == _points(_entries(content)[1])
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
    (person,) = _entries(found)
    for path, least in ((save(tmp_path / NAME[format], found), -np.inf), (tmp_path / "in" / NAME[format], 0.5)):
        (poses,) = read(path, least).videos
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
    """[16] wants 50 square pixels in the frame, of 1000 pixels: from x = 978 there are 22 x 44, from 999 1 x 44."""
    content = _lines([[stand(980, score=1.0), stand(1001, score=1.0)]])
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
    content = _lines([[stand(0)], [stand(0)], [stand(0)]])
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
    (poses,) = read(save(tmp_path / "x.json", video("posetrack17", frames))).videos
    tracker = replace(PLAIN, score=0.15, smooth=0.5)
    before = poses.xy.copy()
    assert track.link(poses, tracker).tolist() == [0, 1, 2, 0, -1, 2] and np.array_equal(poses.xy, before)


# --- what a file keeps ----------------------------------------------------------------------------------------------


def _furnished(format: str) -> Any:
    """A file with much that is not the tracker's."""
    content = video(format, CROSSING)
    for i, person in enumerate(_entries(content)):
        person |= {"note": [i, {"é": None}], "num": 1.0}
    if format == "posetrack18":
        for person in content["annotations"]:
            person["keypoints"][9:15], person["scores"][3:5] = [1.5, 2, 1, 3, 4, 0], [0.125, None]
        content["images"][1] |= {"ignore_regions_x": [[1, 2, 3]], "ignore_regions_y": [[1, 2, 4]]}
        content["annotations"].reverse()
        content["licence"] = "x"
    elif format == "posetrack17":
        content["annolist"][1] |= {
            "imgnum": [2],
            "ignore_regions": [{"point": [{"x": [i], "y": [i * i]} for i in range(3)]}],
        }
        content["annolist"][0]["annorect"][0]["annopoints"][0]["point"].append({"id": [16], "x": [1], "y": [2]})
    else:
        content[0] |= {"fps": 29.97, "model": "ü\u2028\ud800", "delta": -3}
        content[1] |= {"file": "a b.jpg"}
    return content


@pytest.mark.parametrize("format", FORMATS)
def test_only_ids_change(tmp_path, format):
    content = _furnished(format)
    found = tracked(tmp_path, copy.deepcopy(content))
    new = [0, 1, 1, 0, 0, 1]
    expected = copy.deepcopy(content)
    for person, track_id in zip(_entries(expected), new, strict=True):
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
        for person in _entries(content):
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
        for person in _entries(content):
            person.pop("track_id", None)
            if old is not None:
                person["id" if format == "jsonl" else "track_id"] = [old] if format == "posetrack17" else old
        assert ids(tracked(tmp_path, content)) == [0, 1, 1, 0, 0, 1]


def test_lines_of_the_pose_command_come_back_byte_for_byte(tmp_path):
    """Written with the ids of a tracker, read and tracked by the same one."""
    about = About("dir/é.mp4", "é", 100, 80, 29.97, skeletons.DIMOFS, "model", 0)
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
    (a, b) = read(save(tmp_path / "x.json", content)).videos
    assert a.sizes.tolist() == [[1000, 1000]] * 2 and b.sizes.tolist() == [[10, 1000]] * 2


# --- other formats --------------------------------------------------------------------------------------------------


@needs_cases
def test_there_and_back_the_figures_are_the_same(tmp_path):
    """17 to 18 to 17, and by JSON lines: what eval.posetrack says of the poses and of their tracks."""
    gt, figures = CASES / "case05_posetrack17_format/gt", []
    expected = json.loads((gt.parent / "expected.json").read_text())
    steps = {"kept": None, "18": "posetrack18", "17": "posetrack17", "lines": "jsonl", "back": "posetrack17"}
    folder = gt.parent / "pred"
    for name, format in steps.items():
        track.main(pred=folder, out=tmp_path / name, format=format)  # type: ignore[arg-type]
        folder = tmp_path / name
        if format != "jsonl":
            posetrack.main(gt=gt, pred=folder, json=tmp_path / "figures.json")
            figures.append(json.loads((tmp_path / "figures.json").read_text()))
    assert figures[0]["ap"][-1] == pytest.approx(expected["AP"]["ap"][-1], abs=1e-9) and figures[0]["mota"][-1] > 0
    assert "images" in load(next((tmp_path / "18").iterdir()))
    assert all(found == figures[0] for found in figures[1:])


def test_lines_to_posetrack18_by_hand(tmp_path):
    """Half a pixel less; names and numbers as the data set has them; joints that the file lacks are absent."""
    content = _lines([[], [stand(10)]])
    content[2]["frame"] = 5
    content[2]["people"][0] |= {"box": [1, 2, 31, 42], "score": 0.75}
    track.main(pred=save(tmp_path / "000342_mpii_test.poses.jsonl", content), out=tmp_path / "o", format="posetrack18")
    found = load(tmp_path / "o/000342_mpii_test.json")
    assert [image["id"] for image in found["images"]] == [10003420000, 10003420005]
    assert found["images"][1]["file_name"] == "images/000342_mpii_test/000005.jpg"
    assert (found["images"][0]["width"], found["images"][0]["nframes"]) == (1000, 2)
    (person,) = found["annotations"]
    assert (person["image_id"], person["track_id"], person["score"]) == (10003420005, 0, 0.75)
    assert person["bbox"] == [1, 2, 30, 40]
    nose, ear = skeletons.POSETRACK18.index("nose"), skeletons.POSETRACK18.index("left_ear")
    assert person["keypoints"][3 * nose : 3 * nose + 3] == [19.5, 39.5, 1] and person["scores"][nose] == 0.5
    assert person["keypoints"][3 * ear : 3 * ear + 3] == [0, 0, 0] and person["scores"][ear] == 0
    assert found["categories"][0]["keypoints"] == ["head_bottom" if n == "neck" else n for n in skeletons.POSETRACK18]


def test_posetrack_to_lines_by_hand(tmp_path):
    content = video("posetrack18", [[stand(10, joints=(0, 1, 3))], []])
    content["images"][1] |= {"width": 640, "height": 480}
    header, first, last = tracked(tmp_path, content, format="jsonl")
    assert header["keypoint_names"] == list(JOINTS) and (header["width"], header["height"]) == (None, None)
    assert (first["frame"], first["file"]) == (0, "images/000342_mpii_test/000000.jpg")
    assert (last["frame"], last["width"], last["height"], last["people"]) == (1, 640, 480, [])
    (person,) = first["people"]
    assert list(person) == ["id", "score", "box", "keypoints"] and person["score"] == 0.5
    assert person["box"] == [9, -1, 21, 11], "the extent of the joints, 1.2 times as wide and high"
    assert person["keypoints"][1] == [20.5, 0.5, 0.5] and person["keypoints"][2] == [0, 0, 0]


def test_posetrack18_to_17_by_hand(tmp_path):
    content = video("posetrack18", [[stand(10, joints=(12,)), stand(60, score=None, joints=(0, 4))]])
    content["annotations"][0]["score"] = 0.25
    (frame,) = tracked(tmp_path, content, format="posetrack17")["annolist"]
    assert frame["image"] == [{"name": "images/000342_mpii_test/000000.jpg"}]
    first, second = frame["annorect"]
    point = {"id": [12], "x": [10], "y": [40], "score": [0.5]}
    assert first == {"track_id": [0], "annopoints": [{"point": [point]}], "score": [0.25]}
    points = [{"id": [0], "x": [60], "y": [0]}, {"id": [4], "x": [70], "y": [10]}]
    assert second == {"track_id": [1], "annopoints": [{"point": points}]}


def test_images_without_a_folder_or_with_several_are_named_anew(tmp_path):
    """For the reader tells videos apart by folder; the id of a frame is its own."""
    for names in (["1.jpg", "2.jpg"], ["a/1.jpg", "b/1.jpg"]):
        content = video("posetrack17", [[stand(0)], [stand(0)]])
        for frame, name in zip(content["annolist"], names, strict=True):
            frame["image"][0]["name"] = name
        found = tracked(tmp_path, content, format="posetrack18")
        assert len({image["file_name"] for image in found["images"]}) == 2
        assert len(read(save(tmp_path / "x.json", found)).videos) == 1 and ids(found) == [0, 0]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("to", FORMATS)
def test_every_format_becomes_every_other(tmp_path, format, to):
    """With the people's joints and the tracks; empty videos too."""
    for frames in (CROSSING, [[], []]):
        found = tracked(tmp_path, video(format, frames), format=to)
        assert ids(found) == [0, 1, 1, 0, 0, 1][: len(ids(found))] and len(ids(found)) == sum(map(len, frames))
        poses = read(save(tmp_path / NAME[to], found)).videos[0]
        shift = 0.5 * ((to == "jsonl") - (format == "jsonl"))
        columns = skeletons.indices(poses.joints, JOINTS)
        assert poses.has[:, columns].all() and len(poses.images) == len(frames)
        expected = [[(x + shift, y + shift) for x, y, _ in p["points"].values()] for people in frames for p in people]
        assert poses.xy[:, columns].tolist() == np.array(expected).reshape(-1, 15, 2).tolist()
        assert (poses.confidence[:, columns] == 0.5).all()


# --- files and folders ----------------------------------------------------------------------------------------------


def test_a_folder_of_all_formats(tmp_path, capsys):
    for name, format in (("a.json", FORMATS[0]), ("b.json.gz", FORMATS[1]), ("c.poses.jsonl", FORMATS[2])):
        save(tmp_path / "in" / name, video(format, CROSSING))
    (tmp_path / "in/readme.txt").write_text("not looked at")
    track.main(pred=tmp_path / "in", out=tmp_path / "new/out")
    found = sorted((tmp_path / "new/out").iterdir())
    assert [path.name for path in found] == ["a.json", "b.json.gz", "c.poses.jsonl"]
    assert [ids(load(path)) for path in found] == [[0, 1, 1, 0, 0, 1]] * 3
    assert found[1].read_bytes()[:2] == b"\x1f\x8b" != found[0].read_bytes()[:2]
    assert capsys.readouterr().out.startswith("3 files, 9 frames, 18 people, 6 tracks, ")
    track.main(pred=tmp_path / "in", out=tmp_path / "lines", format="jsonl")
    assert sorted(p.name for p in (tmp_path / "lines").iterdir()) == ["a.poses.jsonl", "b.poses.jsonl", "c.poses.jsonl"]
    track.main(pred=tmp_path / "in", out=tmp_path / "18", format="posetrack18")
    assert sorted(p.name for p in (tmp_path / "18").iterdir()) == ["a.json", "b.json.gz", "c.json"]


def test_paths_are_named(tmp_path):
    path = save(tmp_path / "in/a.json", video("posetrack17", CROSSING))
    text = path.read_text()
    for pred, out in ((path, path.parent), (path.parent, tmp_path / "in/../in")):
        with pytest.raises(InputError, match="would be written over; name another folder"):
            track.main(pred=pred, out=out)
    assert path.read_text() == text
    save(tmp_path / "in/a.poses.jsonl", video("jsonl", CROSSING))
    with pytest.raises(InputError, match=r"a.poses.jsonl: its result a.json is that of a.json too"):
        track.main(pred=tmp_path / "in", out=tmp_path / "out", format="posetrack17")
    with pytest.raises(InputError, match=r"none: no such file or folder"):
        track.main(pred=tmp_path / "none", out=tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: holds no .json, .json.gz or .jsonl files"):
        track.main(pred=tmp_path / "empty", out=tmp_path / "out")
    with pytest.raises(InputError, match=r"a.csv: must end in .json, .json.gz or .jsonl; rename it"):
        track.main(pred=save(tmp_path / "a.csv", []), out=tmp_path / "out")
    with pytest.raises(InputError, match="cannot write"):
        track.main(pred=path, out=tmp_path / "in/a.json/out")
    assert not (tmp_path / "out").exists()


# --- bad input ------------------------------------------------------------------------------------------------------


def drop(*place):
    def change(content) -> None:
        for key in place[:-1]:
            content = content[key]
        del content[place[-1]]

    return change


def put(value, *place):
    def change(content) -> None:
        for key in place[:-1]:
            content = content[key]
        content[place[-1]] = value

    return change


RECT = ("annolist", 0, "annorect", 0)
POINT = (*RECT, "annopoints", 0, "point", 0)


@pytest.mark.parametrize(
    ("format", "change", "message"),
    [
        ("posetrack17", put("x", *POINT, "x", 0), r"annolist\[0\].annorect\[0\].annopoints\[0\].point\[0\].x is not a"),
        ("posetrack17", drop(*POINT, "y"), r"point\[0\].y is missing"),
        ("posetrack17", put(2e6, *POINT, "y", 0), r"annorect\[0\]: a joint is not within 1000000 pixels; correct"),
        ("posetrack17", drop(*RECT[:-1]), r"annolist\[0\].annorect is missing"),
        ("posetrack17", put({}, "annolist"), r"annolist is not a list"),
        ("posetrack17", put(float("nan"), *RECT, "note"), r"cannot be written as JSON .*; replace NaN"),
        ("posetrack18", drop("annotations", 1, "keypoints"), r"annotations\[1\].keypoints is missing"),
        ("posetrack18", put([1, 2], "annotations", 1, "keypoints"), r"annotations\[1\].keypoints is not a list of 51"),
        ("posetrack18", put([1, 2], "annotations", 1, "bbox"), r"annotations\[1\].bbox is not a list of 4 numbers"),
        ("posetrack18", put([1, 2, 3, 1e9], "annotations", 1, "bbox"), r"annotations\[1\].bbox is not within 1000000"),
        ("posetrack18", put([0.5], "annotations", 0, "scores"), r"annotations\[0\].scores is not a list of 17 numbers"),
        ("posetrack18", put("x", "annotations", 0, "score"), r"annotations\[0\].score is not a number"),
        ("posetrack18", put("x", "images", 2, "width"), r"images\[2\].width is not a number"),
        ("posetrack18", put(-1, "images", 2, "height"), r"images\[2\].height is not above 0 and at most 1000000"),
        ("posetrack18", drop("images"), r"has neither annolist \(PoseTrack17\) nor images \(PoseTrack18\)"),
        ("posetrack18", drop("categories"), r"categories is missing"),
        ("jsonl", drop(0), r"has no header line with keypoint_names"),
        ("jsonl", put([1], 0, "keypoint_names"), r"line 1.keypoint_names is not a list of texts"),
        ("jsonl", put([], 2), r"line 3 is not an object"),
        ("jsonl", drop(2, "people"), r"line 3.people is missing"),
        ("jsonl", drop(2, "frame"), r"line 3.frame is missing"),
        ("jsonl", put("x", 2, "people", 1, "score"), r"line 3: people\[1\].score is not a number"),
        ("jsonl", drop(2, "people", 1, "keypoints"), r"line 3: people\[1\].keypoints is missing"),
        (
            "jsonl",
            put([1, 2], 2, "people", 1, "keypoints", 4),
            r"people\[1\].keypoints is not a list of 15 \[x, y, con",
        ),
        (
            "jsonl",
            put("1", 2, "people", 1, "keypoints", 4, 0),
            r"people\[1\].keypoints is not a list of 15 \[x, y, con",
        ),
        (
            "jsonl",
            drop(2, "people", 1, "keypoints", 4),
            r"line 3: people\[1\].keypoints is not a list of 15 \[x, y, con",
        ),
        ("jsonl", put(-1e7, 2, "people", 1, "keypoints", 4, 0), r"line 3: people\[1\].keypoints is not within 1000000"),
        ("jsonl", put([1, 2, 3], 2, "people", 0, "box"), r"line 3: people\[0\].box is not a list of 4 numbers"),
        ("jsonl", put([1, 2, 3, 1e9], 2, "people", 0, "box"), r"line 3: people\[0\].box is not within 1000000"),
        ("jsonl", put(1e308, 0, "width"), r"line 1.width is not above 0 and at most 1000000"),
        ("jsonl", put(0, 2, "width"), r"line 3.width is not above 0 and at most 1000000"),
    ],
)
def test_bad_files_are_named(tmp_path, format, change, message):
    content = video(format, CROSSING)
    change(content)
    with pytest.raises(InputError, match=rf"in/{NAME[format]}: .*{message}") as error:
        tracked(tmp_path, content)
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_broken_lines_are_named(tmp_path):
    """With the number that an editor shows, blank lines counted."""
    text = "".join(json.dumps(line) + "\n" for line in _lines(CROSSING))
    for broken, message in (
        (text[:-20], r"x.jsonl: line 4 is not JSON \(.*\); correct or remove it"),
        ("\n" + text.replace('"frame": 1', "oops"), r"x.jsonl: line 4 is not JSON"),
        ("\n" + text.replace('"frame": 1', '"frame": "1"'), r"x.jsonl: line 4.frame is not a whole number"),
        ("", r"x.jsonl: has no header line"),
        ("[" * 100_000, r"x.jsonl: line 1 is not JSON"),
    ):
        with pytest.raises(InputError, match=message):
            track.main(pred=write(tmp_path / "x.jsonl", broken), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_posetrack_reads_ten_thousand_tracks(tmp_path):
    lines = [*_lines([]), {"frame": 0, "people": [{"keypoints": [[1, 2, 0.5]]}] * 10_001}]
    lines[0]["keypoint_names"] = ["nose"]
    path = save(tmp_path / "x.jsonl", lines)
    with pytest.raises(InputError, match=r"x.jsonl: 10001 tracks, .* 10000 at most; raise --score or use"):
        track.main(pred=path, out=tmp_path / "out", format="posetrack18")
    assert not (tmp_path / "out").exists()
    track.main(pred=path, out=tmp_path / "out")
    assert ids(load(tmp_path / "out/x.jsonl")) == list(range(10_001))
    lines[1]["people"].pop()
    track.main(pred=save(path, lines), out=tmp_path / "out", format="posetrack18")
    assert max(ids(load(tmp_path / "out/x.json"))) == 9_999


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tracker": "dimofs"}, "--tracker dimofs: needs the motion .*; choose one of default, .*detect-and-track"),
        ({"tracker": "none"}, "--tracker none: is unknown; choose one of default"),
        ({"gate": 1.5}, "--gate 1.5: must be at least 0 and at most 1"),
        ({"patience": -1}, "--patience -1: must be at least 0"),
        ({"score": float("nan")}, "--score nan: must be a number"),
        ({"joint_score": float("nan")}, "--joint-score nan: must be a number"),
    ],
)
def test_bad_options_are_named(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        tracked(tmp_path, video("jsonl", CROSSING), **options)


SMALL = [[stand(0), stand(20, 20, joints=(0, 3, 7))], [stand(10, 20)]]
ODD = [
    None,
    True,
    -1,
    2.5,
    float("nan"),
    float("inf"),
    "x",
    "",
    "\ud800",
    [],
    [[]],
    [None],
    {},
    10**400,
    1e308,
    [1, 2],
    0,
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_broken_file_ends_in_a_file_or_one_line(tmp_path, data):
    """Fields of a valid file dropped, retyped or swapped. What is written can be read again."""
    content = json.loads(json.dumps(_furnished_small(data.draw(st.sampled_from(FORMATS)))))
    for _ in range(data.draw(st.integers(1, 2))):
        _damage(content, data)
    to, least = data.draw(st.sampled_from([None, *FORMATS])), data.draw(st.sampled_from([None, 0.4]))
    tracker = data.draw(st.sampled_from(["default", "detect-and-track", "default"]))
    try:
        found = tracked(tmp_path, content, format=to, joint_score=least, tracker=tracker, score=0.0)
    except InputError as error:
        assert "\n" not in str(error) and "x.json" in str(error)
    else:
        assert min(ids(found), default=0) == 0 and len(ids(tracked(tmp_path, found))) <= len(ids(found))


def _furnished_small(format: str) -> Any:
    content = video(format, SMALL)
    if format == "posetrack18":
        content["annotations"][0] |= {"bbox": [1, 2, 30, 40], "score": 0.5}
        content["images"][0] |= {"width": 640, "height": 480}
    if format == "jsonl":
        content[1]["people"][0] |= {"box": [1, 2, 30, 40], "score": 0.5}
        content[2] |= {"file": "a.jpg", "width": 640}
    return content


def _damage(content: Any, data) -> None:
    at, parents = content, []
    for _ in range(data.draw(st.integers(1, 8))):
        keys = list(at) if isinstance(at, dict) else list(range(len(at))) if isinstance(at, list) else []
        if not keys:
            break
        parents.append((at, data.draw(st.sampled_from(keys))))
        at = at[parents[-1][1]]
    if not parents:
        return
    place, key = parents[-1]
    action = data.draw(st.sampled_from(["drop", "retype", "swap"]))
    if action == "drop":
        del place[key]
    elif action == "retype":
        place[key] = copy.deepcopy(data.draw(st.sampled_from(ODD)))
    else:
        other = data.draw(st.sampled_from(list(place) if isinstance(place, dict) else list(range(len(place)))))
        place[key], place[other] = place[other], place[key]


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
    assert captured.out == "" and captured.err.count("\n") == 1
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
    poses = Poses("x", "abc", 0.0, [], [], np.zeros((0, 2)), nobody[:, 0], np.zeros((0, 4)), nobody[:, 0],
                  np.zeros((0, 3, 2)), nobody > 0, nobody, [])  # fmt: skip
    assert poses.boxes().shape == (0, 4) and len(poses.detections()) == 0 and poses.frames() == []
