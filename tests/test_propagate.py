"""Labels of some frames carried to the frames between."""

import json
import shlex
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dimofs.cli import InputError, run
from dimofs.formats.frame_labels import frame_labels
from dimofs.formats.posefiles import read_poses
from dimofs.zoo import propagate
from tests.support.clips import write_clip
from tests.support.tiny import tiny_model
from tests.test_keyframes import Script, frames, people

NAMES = ["nose", "left_knee"]


def coco(places: dict[int, dict[int, float]], listed: list[int] | None = None) -> dict[str, Any]:
    """A COCO file: by number of the frame and track id the x of both joints, which are 16 apart at y 20 and 36."""
    images = [{"id": 100 + n, "file_name": f"clip/{n:06d}.jpg", "width": 64, "height": 64} for n in (listed or places)]
    annotations = [
        {
            "id": 10 * number + track,
            "image_id": 100 + number,
            "category_id": 7,
            "track_id": track,
            "keypoints": [x - 0.5, 19.5, 2, x - 0.5, 35.5, 1],
            "num_keypoints": 2,
            "bbox": [x - 10, 10, 20, 40],
            "area": 400.0,
            "bbox_head": [x - 4, 12, 8, 8],
            "mood": "good",
        }
        for number, there in places.items()
        for track, x in there.items()
    ]
    category = {"id": 7, "name": "person", "keypoints": NAMES}
    return {"images": images, "annotations": annotations, "categories": [category]}


def posetrack17(places: dict[int, dict[int, float]]) -> dict[str, Any]:
    """The same as a PoseTrack17 file, whose joints are nose and left knee."""

    def person(track: int, x: float) -> dict:
        points = [{"id": [13], "x": [x - 0.5], "y": [19.5]}, {"id": [4], "x": [x - 0.5], "y": [35.5]}]
        return {"track_id": [track], "x1": [1], "x2": [2], "y1": [1], "y2": [2], "annopoints": [{"point": points}]}

    return {
        "annolist": [
            {"image": [{"name": f"clip/{n:06d}.jpg"}], "annorect": [person(*each) for each in there.items()]}
            for n, there in places.items()
        ]
    }


def added(content: dict[str, Any], image: int) -> list[dict]:
    return [entry for entry in content["annotations"] if entry["image_id"] == image]


def test_straight_lines_and_the_fields_of_new_people():
    content = coco({0: {3: 20.0}, 4: {3: 28.0, 5: 40.0}})
    before, labels = deepcopy(content), frame_labels(Path("x.json"), content)
    for found in propagate.propagate(Script([people(20.0)] * 5), frames(5), labels.people, "interpolation"):
        labels.add(found.number, found.people, found.confidences, found.like)
    assert [image["file_name"] for image in content["images"]] == [f"clip/{n:06d}.jpg" for n in range(5)]
    assert [image["id"] for image in content["images"]] == [100, 101, 102, 103, 104]
    # What was labelled stays as it is, and whoever is in one frame only goes nowhere.
    assert content["annotations"][: len(before["annotations"])] == before["annotations"]
    (person,) = added(content, 103)
    assert person == {
        "id": person["id"],
        "image_id": 103,
        "category_id": 7,
        "track_id": 3,
        "keypoints": [25.5, 19.5, 2, 25.5, 35.5, 1],
        "num_keypoints": 2,
        "bbox": [16, 10, 20, 40],
        "area": 400,
        "bbox_head": [22, 12, 8, 8],
        "mood": "good",
        "scores": [1, 1],
    }
    ids = [entry["id"] for entry in content["annotations"]]
    assert len(set(ids)) == len(ids)


def test_motion_goes_where_both_frames_see_it_and_is_sure_there():
    script = [people(x) for x in (20.0, 30, 24)]
    labels = frame_labels(Path("x.json"), coco({0: {3: 20.0}, 2: {3: 24.0}}))
    (found,) = propagate.propagate(Script(script), frames(3), labels.people)
    assert found.number == 1 and found.like == 0 and found.people.ids is not None and found.people.ids.tolist() == [3]
    assert 26 < found.people.keypoints[0, 0, 0] < 31 and (found.confidences > 0.9).all()


def test_confidence_falls_where_the_two_frames_disagree():
    class Two(Script):
        """Frame 1 shows the joint of frame 0 left of the line, that of frame 2 right of it."""

        def glance(self, frames):
            from tests.test_keyframes import spots

            places = {0: [(32.0, 20.0), (0.0, 0.0)], 2: [(0.0, 0.0), (32.0, 20.0)]}
            (frame,) = frames
            return spots(places.get(frame.index, [(22.0, 20.0), (42.0, 20.0)]))

    labels = frame_labels(Path("x.json"), coco({0: {3: 32.0}, 2: {3: 32.0}}))
    (found,) = propagate.propagate(Two([]), frames(3), labels.people)
    assert found.confidences[0, 0] < 0.2


def test_absent_joints_stay_absent():
    content = coco({0: {3: 20.0}, 2: {3: 24.0}})
    content["annotations"][1]["keypoints"][3:] = [0, 0, 0]
    labels = frame_labels(Path("x.json"), content)
    for found in propagate.propagate(Script([people(20.0)] * 3), frames(3), labels.people):
        labels.add(found.number, found.people, found.confidences, found.like)
    (person,) = added(content, 101)
    assert person["keypoints"][3:] == [0, 0, 0] and person["scores"][1] == 0 and person["num_keypoints"] == 1


def test_all_images_listed_and_a_first_number():
    content = coco({1: {3: 20.0}, 4: {3: 26.0}}, listed=[1, 2, 3, 4])
    labels = frame_labels(Path("x.json"), content, first=1)
    assert list(labels.people) == [0, 3]
    numbers = [found.number for found in propagate.propagate(Script([people(20.0)] * 9), frames(9), labels.people)]
    assert numbers == [1, 2] and len(content["images"]) == 4


def test_a_labelled_frame_without_people_ends_everybody():
    content = coco({0: {3: 20.0}, 4: {3: 26.0}}, listed=[0, 2, 4])
    content["images"][1]["is_labeled"] = True
    labels = frame_labels(Path("x.json"), content)
    found = list(propagate.propagate(Script([people(20.0)] * 5), frames(5), labels.people))
    assert [len(each.people) for each in found] == [0, 0]


def test_posetrack17_is_read_and_written(tmp_path):
    content = posetrack17({0: {3: 20.0}, 2: {3: 24.0}})
    labels = frame_labels(Path("x.json"), content)
    for found in propagate.propagate(Script([]), frames(3), labels.people, "interpolation"):
        labels.add(found.number, found.people, found.confidences, found.like)
    (person,) = content["annolist"][1]["annorect"]
    assert person == {
        "track_id": [3],
        "annopoints": [
            {
                "point": [
                    {"id": [4], "x": [21.5], "y": [35.5], "score": [1.0]},
                    {"id": [13], "x": [21.5], "y": [19.5], "score": [1.0]},
                ]
            }
        ],
    }
    (tmp_path / "x.json").write_text(json.dumps(content))
    (read,) = read_poses(tmp_path / "x.json").videos
    assert read.images == [f"clip/{n:06d}.jpg" for n in range(3)] and read.has.sum() == 6


@pytest.fixture
def here(monkeypatch, tmp_path) -> Path:
    detector = tiny_model().eval()
    monkeypatch.setattr(propagate.checkpoints, "load_as", lambda *_: detector)
    monkeypatch.chdir(tmp_path)
    write_clip(Path("x.mp4"), 7)
    return tmp_path


def command(line: str) -> int:
    with pytest.raises(SystemExit) as exit:
        run(propagate.main, shlex.split(line))
    return exit.value.code if isinstance(exit.value.code, int) else 0


def sized(content: dict[str, Any], width: int, height: int) -> dict[str, Any]:
    for image in content["images"]:
        image |= {"width": width, "height": height}
    return content


def test_the_command_completes_a_file(here, capsys):
    from dimofs.sources import sources
    from dimofs.video import open_clip

    height, width = next(open_clip(sources("x.mp4")[0]).frames()).size
    Path("x.json").write_text(json.dumps(sized(coco({0: {3: 20.0}, 6: {3: 26.0}}), width, height)))
    assert command("--labels x.json --video x.mp4") == 0
    assert "5 people in 5 frames added to 2 labelled frames -> x.complete.json" in capsys.readouterr().out
    content = json.loads(Path("x.complete.json").read_text())
    assert [len(added(content, 100 + n)) for n in range(7)] == [1] * 7
    assert np.isfinite([entry["keypoints"] for entry in content["annotations"]]).all()


def test_bad_input_is_told_in_one_line(here, capsys):
    good = coco({0: {3: 20.0}, 4: {3: 26.0}})

    def fault(content: Any, options: str = "") -> str:
        Path("x.json").write_text(json.dumps(content))
        assert command(f"--labels x.json --video x.mp4 {options}") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and not Path("x.complete.json").exists()
        return line

    assert "frames of 64 x 64 pixels, those of x.mp4 have" in fault(good)
    assert "is the file of --labels" in fault(good, "--out x.json")
    assert "has neither images" in fault([1])
    assert "nobody is labelled" in fault({**good, "annotations": []})
    assert "no category has keypoints" in fault({**good, "categories": []})
    assert "lower --first" in fault(good, "--first 1")
    for change, expected in {
        "track_id": "annotations[1].track_id is missing",
        "image_id": "annotations[1].image_id is missing",
        "keypoints": "annotations[1].keypoints is missing",
    }.items():
        content = deepcopy(good)
        del content["annotations"][1][change]
        assert expected in fault(content)
    content = deepcopy(good)
    content["annotations"][1]["image_id"] = 100
    assert "two people have track id 3" in fault(content)
    content = deepcopy(good)
    content["images"][1]["file_name"] = "other/000004.jpg"
    assert "holds 2 videos" in fault(content)
    content["images"][1]["file_name"] = "clip/last.jpg"
    assert "has no number in its name" in fault(content)
    content["images"][1]["file_name"] = "clip/0.jpg"
    assert "two images have number 0" in fault(content)
    late = coco({0: {3: 20.0}, 40: {3: 26.0}})
    for image in late["images"]:
        del image["width"], image["height"]
    assert "frame 40 is labelled, x.mp4 ends after" in fault(late)
    with pytest.raises(InputError, match="annolist"):
        frame_labels(Path("x.json"), {"annolist": [{"image": []}]})
