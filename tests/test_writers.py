"""Output formats: each number by hand, what the official tools read, and nothing left behind after a failure."""

import csv
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from dimofs import skeletons
from dimofs.cli import InputError
from dimofs.detections import Detections
from dimofs.formats import posetrack
from dimofs.formats.writers import FORMATS, About
from dimofs.video import Frame

NAMES = skeletons.DIMOFS
CONFIDENCE = 0.880797  # the sigmoid of 2


def about(name="clip", names=NAMES) -> About:
    return About(
        source="dir/clip.mp4", name=name, width=100, height=80, fps=29.97, keypoint_names=names, model="model", delta=-3
    )


ABOUT = about()


def frame(index=0, file=None, height=80) -> Frame:
    return Frame(np.zeros((height, 100, 3), dtype=np.uint8), index, index / 29.97, 1 / 29.97, file)


def two(names=NAMES) -> Detections:
    """Boxes 10 20 40 80 and 50 20 60 30; joint j of person p at (10 p + j + 0.5, j + 0.25), every logit 2."""
    joints = torch.arange(len(names), dtype=torch.float32)
    points = torch.stack(
        (torch.stack((joints + 0.5, joints + 0.25), 1), torch.stack((joints + 10.5, joints + 0.25), 1))
    )
    boxes = torch.tensor([[10.0, 20, 40, 80], [50, 20, 60, 30.123]])
    logits = torch.full((2, len(names)), 2.0)
    return Detections(boxes, torch.tensor([0.9, 0.8]), points, logits, torch.tensor([4, 0]))


def none() -> Detections:
    return Detections.empty(len(NAMES))


def written(path: Path, format: str, frames, about: About = ABOUT) -> str:
    """The file after these (frame, people) pairs."""
    with FORMATS[format][1](path, about) as write:
        for pair in frames:
            write(*pair)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    return path.read_text()


def test_json_lines_tell_the_shape_of_pixels(tmp_path):
    path = tmp_path / "x.jsonl"
    with FORMATS["jsonl"][1](path, replace(about(), pixel_aspect=Fraction(64, 45))):
        pass
    assert json.loads(path.read_text())["pixel_aspect"] == 1.422222


def test_json_lines(tmp_path):
    text = written(tmp_path / "x.jsonl", "jsonl", [(frame(0), two()), (frame(7), none())])
    header, first, last = map(json.loads, text.splitlines())
    assert list(header) == ["source", "width", "height", "fps", "keypoint_names", "skeleton", "model", "delta"]
    assert (header["source"], header["width"], header["height"], header["fps"]) == ("dir/clip.mp4", 100, 80, 29.97)
    assert (header["model"], header["delta"]) == ("model", -3)
    assert header["keypoint_names"] == list(NAMES)
    assert [NAMES.index("left_ankle"), NAMES.index("left_knee")] in header["skeleton"]
    assert first["frame"] == 0 and list(first) == ["frame", "time", "people"]
    assert last == {"frame": 7, "time": 0.233567, "people": []}
    person = first["people"][0]
    assert list(person) == ["id", "score", "box", "keypoints"]
    assert (person["id"], person["score"], person["box"]) == (4, 0.9, [10, 20, 40, 80])
    assert person["keypoints"][3] == [3.5, 3.25, CONFIDENCE] and len(person["keypoints"]) == 19
    assert first["people"][1]["box"] == [50, 20, 60, 30.12]


def test_json_lines_appear_frame_by_frame(tmp_path):
    with FORMATS["jsonl"][1](tmp_path / "x.jsonl", ABOUT) as write:
        for count in range(3):
            write(frame(count), two())
            (temporary,) = tmp_path.iterdir()
            assert temporary.name != "x.jsonl"
            assert len(temporary.read_text().splitlines()) == count + 2


def test_json_lines_of_images_name_them_and_their_size(tmp_path):
    frames = [(frame(0, Path("a/b.jpg")), none()), (frame(1, Path("a/c.jpg"), height=60), none())]
    _, first, last = map(json.loads, written(tmp_path / "x.jsonl", "jsonl", frames).splitlines())
    assert first == {"frame": 0, "time": 0.0, "file": "b.jpg", "people": []}
    assert (last["width"], last["height"], last["file"]) == (100, 60, "c.jpg")


def test_csv(tmp_path):
    text = written(tmp_path / "x.csv", "csv", [(frame(0), none()), (frame(3), two())])
    rows = list(csv.DictReader(text.splitlines()))
    assert [row["id"] for row in rows] == ["4", "0"] and rows[0]["frame"] == "3"
    assert [float(rows[0][k]) for k in ("x1", "y1", "x2", "y2", "score")] == [10, 20, 40, 80, 0.9]
    assert [float(rows[1][f"head_top_{k}"]) for k in ("x", "y", "score")] == [28.5, 18.25, CONFIDENCE]


# COCO: numbers of pixels, so half a pixel less than here; 17 joints; boxes x y w h.


def test_coco_results(tmp_path):
    frames = [(frame(0, Path("p/COCO_val2014_000000000139.jpg")), two()), (frame(1, Path("p/7.jpg")), none())]
    results = json.loads(written(tmp_path / "x.json", "coco", frames))
    assert [(r["image_id"], r["category_id"], r["box_score"]) for r in results] == [(139, 1, 0.9), (139, 1, 0.8)]
    assert [r["score"] for r in results] == pytest.approx([0.9 * CONFIDENCE, 0.8 * CONFIDENCE], abs=1e-6)
    assert results[1]["bbox"] == [50, 20, 10, 10.12]
    assert len(results[0]["keypoints"]) == 51
    assert results[0]["keypoints"][9:12] == [3.0, 2.75, 1.0]  # joint 3 at (3.5, 3.25)


@pytest.mark.parametrize("frames", [[], [(frame(), none())]])
def test_coco_without_people_is_an_empty_list(tmp_path, frames):
    assert json.loads(written(tmp_path / "x.json", "coco", frames)) == []


def test_coco_of_a_video_numbers_its_frames(tmp_path):
    results = json.loads(written(tmp_path / "x.json", "coco", [(frame(5), two())]))
    assert results[0]["image_id"] == 5


@pytest.mark.parametrize("names", [("x.jpg",), ("a1.jpg", "b1.jpg")])
def test_coco_needs_a_number_in_each_name(tmp_path, names):
    with pytest.raises(InputError, match=names[-1]):
        written(tmp_path / "x.json", "coco", [(frame(i, Path(n)), none()) for i, n in enumerate(names)])
    assert list(tmp_path.iterdir()) == []


def test_coco_is_read_by_the_official_tool(tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    written(tmp_path / "x.json", "coco", [(frame(0, Path("7.jpg")), two())])
    truth = coco.COCO()
    truth.dataset = {"images": [{"id": 7}], "annotations": [], "categories": [{"id": 1, "name": "person"}]}
    truth.createIndex()
    assert len(truth.loadRes(str(tmp_path / "x.json")).getAnnIds(imgIds=[7])) == 2


# PoseTrack18


def test_posetrack(tmp_path):
    name = "003418_mpii_test"
    frames = [(frame(0, Path(f"val/{name}/000004.jpg")), two()), (frame(1, Path(f"val/{name}/000005.jpg")), none())]
    content = json.loads(written(tmp_path / f"{name}.json", "posetrack", frames, about(name)))
    (category,) = content["categories"]
    assert category["name"] == "person" and len(category["keypoints"]) == 17
    assert category["keypoints"][:5] == ["nose", "head_bottom", "head_top", "left_ear", "right_ear"]
    assert [image["id"] for image in content["images"]] == [10034180004, 10034180005]
    assert [image["frame_id"] for image in content["images"]] == [10034180004, 10034180005]
    assert content["images"][1]["file_name"] == "images/003418_mpii_test/000005.jpg"
    assert {(i["vid_id"], i["nframes"]) for i in content["images"]} == {("003418", 2)}
    first, second = content["annotations"]
    assert (first["id"], second["id"]) == (1003418000400, 1003418000401)
    assert (first["track_id"], first["image_id"], first["category_id"]) == (4, 10034180004, 1)
    assert first["bbox"] == [10, 20, 30, 60] and len(first["scores"]) == 17
    assert first["keypoints"][3:6] == [NAMES.index("neck"), NAMES.index("neck") - 0.25, 1.0]  # "head_bottom"
    assert first["scores"][0] == CONFIDENCE and first["score"] == 0.9


@pytest.mark.parametrize("name", ["003418_mpii_test", "my walk"])
def test_posetrack_is_read_by_its_reader(tmp_path, name):
    path = tmp_path / f"{name}.json"
    written(path, "posetrack", [(frame(0), two()), (frame(1), none())], about(name))
    (video,) = posetrack.read_annotations(path)
    assert (video.name, len(video.frames), video.track.tolist()) == (name, 2, [4, 0])
    assert video.box[0].tolist() == [10, 20, 40, 80] and len(video.xy) == 2 * 15  # no ears
    nose = (video.person == 1) & (video.joint == posetrack.JOINTS.index("nose"))
    assert video.xy[nose].tolist() == [[10, -0.25]] and video.confidence[nose] == [CONFIDENCE]


def test_posetrack_marks_joints_that_the_model_lacks(tmp_path):
    text = written(tmp_path / "x.json", "posetrack", [(frame(), two(skeletons.COCO))], about(names=skeletons.COCO))
    person = json.loads(text)["annotations"][0]
    assert person["keypoints"][3:9] == [0, 0, 0, 0, 0, 0]  # head_bottom, head_top: x = y = v = 0
    assert person["scores"][1:3] == [0, 0] and person["keypoints"][9:12] == [3, 2.75, 1]


@pytest.mark.parametrize("name, start", [("000342_mpii_test", 10003420000), ("001001_mpiinew_test", 30010010000)])
def test_posetrack_numbers_sequences_as_the_data_set_does(tmp_path, name, start):
    content = json.loads(written(tmp_path / "x.json", "posetrack", [(frame(), none())], about(name)))
    assert content["images"][0]["id"] == start


def test_posetrack_of_any_name_has_a_number_for_the_official_tool(tmp_path):
    """The tool takes int(folder.split("_")[0]), the kind folder.split("_")[1] and int(stem) from `file_name`."""
    image = json.loads(written(tmp_path / "x.json", "posetrack", [(frame(12), none())], about("my walk")))["images"][0]
    _, folder, file = image["file_name"].split("/")
    number, kind, *rest = folder.split("_")
    assert len(number) == 6 and kind == "mpii" and "_".join(rest) == "my walk" and file == "000012.jpg"
    assert image["id"] == 10**10 + int(number) * 10**4 + 12


def test_posetrack_reads_at_most_ten_thousand_tracks(tmp_path):
    crowd = two()
    for last, good in ((9_999, True), (10_000, False)):
        crowd = replace(crowd, ids=torch.tensor([0, last]))
        if good:
            written(tmp_path / "x.json", "posetrack", [(frame(), crowd)])
        else:
            with pytest.raises(InputError, match="10000 tracks"):
                written(tmp_path / "y.json", "posetrack", [(frame(), crowd)])


def test_posetrack_spares_annotations_but_not_its_own_files(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"images": []}')
    with pytest.raises(InputError, match=r"x\.json: exists"):
        written(path, "posetrack", [(frame(), two())])
    assert path.read_text() == '{"images": []}'
    path.unlink()
    assert written(path, "posetrack", [(frame(), two())]) == written(path, "posetrack", [(frame(), two())])


# All


@pytest.mark.parametrize("format", FORMATS)
def test_failure_leaves_what_was_there(tmp_path, format):
    path = tmp_path / "x"
    with pytest.raises(RuntimeError), FORMATS[format][1](path, ABOUT) as write:
        write(frame(), two())
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", FORMATS)
def test_folder_that_cannot_be_written(tmp_path, format):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        written(tmp_path / "file" / "x", format, [(frame(), two())])


WITHOUT_IDS = {
    "jsonl": lambda text: [person["id"] for person in json.loads(text.splitlines()[1])["people"]],
    "csv": lambda text: [row["id"] or None for row in csv.DictReader(text.splitlines())],
    "posetrack": lambda text: [entry["track_id"] for entry in json.loads(text)["annotations"]],
    "coco": lambda text: [result.get("id") for result in json.loads(text)],
}


@pytest.mark.parametrize("format", FORMATS)
def test_people_without_ids(tmp_path, format):
    """No id is written; PoseTrack's format needs one, so there people are numbered within their frame."""
    text = written(tmp_path / "x", format, [(frame(), replace(two(), ids=None))])
    assert WITHOUT_IDS[format](text) == ([0, 1] if format == "posetrack" else [None, None])
