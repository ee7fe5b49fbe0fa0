"""The pose files of eval.track: conversions, files and folders, bad input."""

import copy
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dimofs import skeletons
from dimofs.cli import InputError, arguments
from dimofs.eval import posetrack, track
from dimofs.formats.posefiles import read_poses
from dimofs.formats.posetrack import JOINTS
from dimofs.tracking import Tracker
from tests.support.pose_sets import (
    CASES,
    CROSSING,
    FORMATS,
    NAME,
    ids,
    lines,
    load,
    needs_cases,
    save,
    stand,
    tracked,
    video,
)
from tests.support.posetrack_sets import write

PLAIN = Tracker(gate=0.9, patience=10)


pytestmark = pytest.mark.usefixtures("one_thread")


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
    content = lines([[], [stand(10)]])
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
        assert len(read_poses(save(tmp_path / "x.json", found)).videos) == 1 and ids(found) == [0, 0]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("to", FORMATS)
def test_every_format_becomes_every_other(tmp_path, format, to):
    """With the people's joints and the tracks; empty videos too."""
    for frames in (CROSSING, [[], []]):
        found = tracked(tmp_path, video(format, frames), format=to)
        assert ids(found) == [0, 1, 1, 0, 0, 1][: len(ids(found))] and len(ids(found)) == sum(map(len, frames))
        poses = read_poses(save(tmp_path / NAME[to], found)).videos[0]
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
    text = "".join(json.dumps(line) + "\n" for line in lines(CROSSING))
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
    content = [*lines([]), {"frame": 0, "people": [{"keypoints": [[1, 2, 0.5]]}] * 10_001}]
    content[0]["keypoint_names"] = ["nose"]
    path = save(tmp_path / "x.jsonl", content)
    with pytest.raises(InputError, match=r"x.jsonl: 10001 tracks, .* 10000 at most; raise --score or use"):
        track.main(pred=path, out=tmp_path / "out", format="posetrack18")
    assert not (tmp_path / "out").exists()
    track.main(pred=path, out=tmp_path / "out")
    assert ids(load(tmp_path / "out/x.jsonl")) == list(range(10_001))
    content[1]["people"].pop()
    track.main(pred=save(path, content), out=tmp_path / "out", format="posetrack18")
    assert max(ids(load(tmp_path / "out/x.json"))) == 9_999


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tracker": "dimofs"}, "--tracker dimofs: needs the motion .*; choose one of default, .*detect-and-track"),
        ({"tracker": "none"}, "--tracker none: is unknown; choose one of default"),
        ({"gate": 1.5}, "--gate 1.5: must be at least 0 and at most 1"),
        ({"patience": -1}, "--patience -1: must be at least 0"),
    ],
)
def test_bad_options_are_named(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        tracked(tmp_path, video("jsonl", CROSSING), **options)
    for name in ("score", "joint-score"):
        with pytest.raises(InputError, match=f"--{name} nan: must be a finite number"):
            arguments(track.main, ["--pred=x", "--out=y", f"--{name}=nan"])


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
