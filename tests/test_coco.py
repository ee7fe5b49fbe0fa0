"""COCO keypoint files: labels by hand, files as other programs write them, and mistakes, each named in one line."""

import gzip
import json
import math
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dimofs import skeletons
from dimofs.cli import InputError
from dimofs.datasets.augment.mixture import Mixture
from dimofs.datasets.coco import CocoKeypoints
from dimofs.eval.coco import predict
from dimofs.eval.keypoints.coco_ap import parse_truth
from tests.support.scenes import joint, write_image
from tests.test_images import exif, png_with


def keypoints(**joints: tuple[float, float, int]) -> list[float]:
    values = [0.0] * 51
    for name, point in joints.items():
        values[3 * joint(name) : 3 * joint(name) + 3] = point
    return values


def content(**change) -> dict[str, Any]:
    """Image 4 shows two people, a crowd and a dog, image 5 nobody."""
    nose = keypoints(nose=(7, 8, 2), left_wrist=(9, 10, 1))
    annotations = [
        {"image_id": 4, "category_id": 1, "bbox": [2, 3, 10, 20], "iscrowd": 0, "keypoints": nose},
        {"image_id": 4, "category_id": 1, "bbox": [30, 3, 10, 20], "iscrowd": 0, "keypoints": [0] * 51},
        {"image_id": 4, "category_id": 1, "bbox": [0, 30, 60, 8], "iscrowd": 1},
        {"image_id": 4, "category_id": 18, "bbox": [0, 0, 5, 5], "iscrowd": 0},
    ]
    categories = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]
    images = [{"id": 4, "file_name": "four.png"}, {"id": 5, "file_name": "five.png"}]
    return {"images": images, "annotations": annotations, "categories": categories} | change


# For evaluation: a person in image 4, and a model that is never called.
LABEL = {"image_id": 4, "category_id": 1, "bbox": [2, 3, 10, 20], "area": 9, "keypoints": [1] * 51}
BLIND: Any = SimpleNamespace(keypoint_names=skeletons.COCO)


def write(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def picture(path: Path, height: int = 40, width: int = 60) -> None:
    write_image(path, np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3))


def test_people_by_hand(tmp_path):
    picture(tmp_path / "four.png")
    source = CocoKeypoints(write(tmp_path / "p.json", content()), tmp_path)
    pair = source.pair(0, np.random.default_rng(0))
    assert len(source) == 1 and pair.name == "four.png" and pair.frame_a.shape == (3, 40, 60)
    assert pair.frame_a[:, 0, 1].tolist() == [3, 4, 5] and pair.frame_a is pair.frame_b
    assert pair.people.boxes.tolist() == [[2, 3, 12, 23], [30, 3, 40, 23]]
    assert pair.people.labelled.nonzero().tolist() == [[0, joint("nose")], [0, joint("left_wrist")]]
    assert pair.people.keypoints[pair.people.labelled].tolist() == [[7.5, 8.5], [9.5, 10.5]]
    assert pair.people.ignore.tolist() == [[0, 30, 60, 38]]
    assert [name for name, _ in source.frames()] == ["four.png"]


@pytest.mark.parametrize("person", [0, 2, "a"])
def test_the_category_is_found_by_its_name_and_ids_do_not_matter(tmp_path, person):
    made = content(categories=[{"id": 1, "name": "bicycle"}, {"id": person, "name": "Person"}])
    for annotation in made["annotations"]:
        annotation |= {"id": 0, "area": 0, "category_id": person if annotation["category_id"] == 1 else 1}
    ((_, _, people),) = CocoKeypoints(write(tmp_path / "p.json", made), tmp_path).items
    assert people.boxes.tolist() == [[2, 3, 12, 23], [30, 3, 40, 23]] and people.ignore.tolist() == [[0, 30, 60, 38]]


def test_people_to_ignore_and_joints_by_name_in_a_gzipped_file(tmp_path):
    annotations = [
        {
            "image_id": 4,
            "category_id": 1,
            "bbox": [2, 3, 10, 20],
            "ignore": 0,
            "keypoints": [5, 6, 2, 7, 8, 2, 1, 1, 2],
        },
        {"image_id": 4, "category_id": 1, "bbox": [30, 3, 10, 20], "ignore": 1, "keypoints": [0] * 9},
    ]
    categories = [{"id": 1, "name": "person", "keypoints": ["head_top", "Left Eye", "head_bottom"]}]
    made = json.dumps(content(annotations=annotations, categories=categories)).encode()
    (tmp_path / "p.json.gz").write_bytes(gzip.compress(made))
    ((name, _, people),) = CocoKeypoints(tmp_path / "p.json.gz", tmp_path).items
    assert name == "four.png" and people.boxes.tolist() == [[2, 3, 12, 23]]
    assert people.ignore.tolist() == [[30, 3, 40, 23]]
    named = [joint(name) for name in ("head_top", "left_eye", "neck")]
    assert people.keypoints[0, named].tolist() == [[5.5, 6.5], [7.5, 8.5], [1.5, 1.5]]
    assert people.labelled.sum() == 3


def test_joints_of_another_spelling_in_cocos_order(tmp_path):
    names = ["nose", "Left Eye", *(f"point {n}" for n in range(2, 17))]
    made = content(categories=[{"id": 1, "name": "person", "keypoints": names}])
    ((_, _, people),) = CocoKeypoints(write(tmp_path / "p.json", made), tmp_path).items
    assert people.labelled.nonzero().tolist() == [[0, joint("nose")], [0, joint("left_wrist")]]
    made["categories"][0]["keypoints"] = ["left_wrist", *names[1:]]
    ((_, _, people),) = CocoKeypoints(write(tmp_path / "p.json", made), tmp_path).items
    assert people.labelled.nonzero().tolist() == [[0, joint("left_wrist")]]
    del made["categories"]
    ((_, _, people),) = CocoKeypoints(write(tmp_path / "p.json", made), tmp_path).items
    assert people.labelled.sum() == 2


def test_pictures_of_nobody_if_asked(tmp_path):
    path = write(tmp_path / "p.json", content())
    items = CocoKeypoints(path, tmp_path, empty=True).items
    assert [(name, len(people)) for name, _, people in items] == [("five.png", 0), ("four.png", 2)]
    for name in ("five.png", "four.png"):
        picture(tmp_path / name)
    nobody = CocoKeypoints(write(tmp_path / "n.json", content(annotations=[])), tmp_path, empty=True)
    assert len(nobody) == 2
    mixture = Mixture([(nobody, 1), (CocoKeypoints(path, tmp_path), 1)], (64, 64), 8, mosaic=0.5, paste=0.5)
    assert {len(pair.people) > 0 for pair in mixture} == {True, False}


def test_a_person_without_a_box_takes_the_extent_of_the_joints(tmp_path):
    """Joints 10 x 20 pixels apart, grown by a fifth and cut at the image's left edge; one without joints is dropped."""
    joints = keypoints(nose=(0, 5, 2), left_ankle=(10, 25, 2))
    annotations = [
        {"image_id": 4, "category_id": 1, "bbox": [0, 0, 0, 0], "keypoints": joints},
        {"image_id": 4, "category_id": 1, "bbox": [5, 5, 0, 9]},
    ]
    images = [{"id": 4, "file_name": "four.png", "height": 40, "width": 60}]
    ((_, _, people),) = CocoKeypoints(
        write(tmp_path / "p.json", content(annotations=annotations, images=images)), "."
    ).items
    assert people.boxes[0].tolist() == pytest.approx([0, 3.5, 11.5, 27.5]) and len(people) == 1


def test_joints_outside_the_image_have_no_label(tmp_path):
    """The last pixel column of 60 is number 59; a joint at 60 or above the first row lies outside."""
    picture(tmp_path / "four.png")
    joints = keypoints(nose=(59, 39, 2), left_eye=(60, 10, 2), left_ear=(10, -1, 1))
    made = content(annotations=[{"image_id": 4, "category_id": 1, "bbox": [2, 3, 10, 20], "keypoints": joints}])
    people = CocoKeypoints(write(tmp_path / "p.json", made), tmp_path).pair(0, np.random.default_rng(0)).people
    assert people.labelled.nonzero().tolist() == [[0, joint("nose")]]


def test_the_size_that_the_file_states(tmp_path):
    """None, the right one, and a wrong one, which is told with the names of both files and both sizes."""
    picture(tmp_path / "four.png")
    for size in ({}, {"height": 40, "width": 60}, {"height": 40}, {"height": 0, "width": 0}):
        made = content(images=[{"id": 4, "file_name": "four.png", **size}])
        assert len(CocoKeypoints(write(tmp_path / "p.json", made), tmp_path).pair(0, np.random.default_rng(0)).people)
    made = content(images=[{"id": 4, "file_name": "four.png", "height": 80, "width": 120}])
    source = CocoKeypoints(write(tmp_path / "p.json", made), tmp_path)
    with pytest.raises(InputError, match=r"four.png: has 60 x 40 pixels.*120 x 80.*p.json"):
        source.pair(0, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("stated", "shape"),
    [({}, (60, 40)), ({"height": 60, "width": 40}, (60, 40)), ({"height": 40, "width": 60}, (40, 60))],
)
def test_the_stated_size_decides_whether_labels_refer_to_the_upright_image(tmp_path, stated, shape):
    """A photograph of 40 x 60 stored pixels whose EXIF orientation asks for a quarter turn."""
    image = np.arange(40 * 60 * 3, dtype=np.uint8).reshape(40, 60, 3)
    png_with(tmp_path / "four.png", image, b"eXIf", exif(6))
    made = content(images=[{"id": 4, "file_name": "four.png", **stated}])
    frame = CocoKeypoints(write(tmp_path / "p.json", made), tmp_path).pair(0, np.random.default_rng(0)).frame_a
    assert tuple(frame.shape[1:]) == shape
    expected = image if shape == (40, 60) else np.rot90(image, -1)
    assert (frame.permute(1, 2, 0).numpy() == expected).all()


NAMES = [
    "../four.png", "a/../../four.png", "/etc/hostname", "http://127.0.0.1:9/four.png", "concat:four.png|five.png",
    "file:four.png", "C:/four.png", "..\\four.png", "", "four\0.png",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_file_names_stay_inside_the_folder(tmp_path, name):
    picture(tmp_path / "four.png")
    (tmp_path / "in").mkdir()
    path = write(tmp_path / "p.json", content(images=[{"id": 4, "file_name": name}]))
    with pytest.raises(InputError, match=r"images\[0\].file_name .* is not a file inside the folder") as caught:
        CocoKeypoints(path, tmp_path / "in")
    assert "\n" not in str(caught.value)


def test_a_pattern_or_a_playlist_is_no_image(tmp_path):
    """FFmpeg would read im1.png for im%01d.png, and the file that a playlist names."""
    picture(tmp_path / "im1.png")
    (tmp_path / "list.png").write_text(f"ffconcat version 1.0\nfile {tmp_path / 'im1.png'}\n")
    for name, fault in (("im%01d.png", "no such image file"), ("list.png", "not an image")):
        source = CocoKeypoints(write(tmp_path / "p.json", content(images=[{"id": 4, "file_name": name}])), tmp_path)
        with pytest.raises(InputError, match=fault):
            source.pair(0, np.random.default_rng(0))


def changed(part: str, number: int, field: str, value: Any) -> dict:
    made = content()
    made[part][number][field] = value
    return made


def without(part: str, number: int, field: str) -> dict:
    made = content()
    del made[part][number][field]
    return made


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ([], "is not an object with images"),
        ({}, "images is missing"),
        (content(images=None), "images is not a list"),
        (content(images=[4]), r"images\[0\] is not an object"),
        (content(annotations={}), "annotations is not a list"),
        (content(annotations=[]), "annotates no person"),
        (content(categories=[]), r"categories has no 'person' and none with keypoints; name one by --category"),
        (without("categories", 0, "name"), r"categories\[0\].name is missing"),
        (changed("categories", 0, "keypoints", ["tail"]), r"categories\[0\].keypoints names no joint known here"),
        (changed("images", 1, "id", 4), r"images\[1\].id 4 is another image's too"),
        (changed("images", 1, "file_name", "four.png"), r"images\[1\].file_name 'four.png' is another image's too"),
        (changed("images", 1, "file_name", 5), r"images\[1\].file_name is not a text"),
        (changed("images", 0, "width", -1), r"images\[0\].width -1 is not a number of pixels"),
        (changed("images", 0, "width", 0.5), r"images\[0\].width 0.5 is not a number of pixels"),
        (changed("images", 0, "width", math.nan), r"images\[0\].width nan is not a number of pixels"),
        (changed("images", 0, "height", "40"), r"images\[0\].height is not a number"),
        (changed("annotations", 1, "image_id", 7), r"annotations\[1\].image_id 7 is the id of no image"),
        (without("annotations", 1, "image_id"), r"annotations\[1\].image_id is missing"),
        (without("annotations", 1, "category_id"), r"annotations\[1\].category_id is missing"),
        (without("annotations", 1, "bbox"), r"annotations\[1\].bbox is missing"),
        (changed("annotations", 1, "bbox", [1, 2, 3]), r"annotations\[1\].bbox is not a list of 4 numbers"),
        (changed("annotations", 1, "bbox", [1, 2, 3, "4"]), r"annotations\[1\].bbox is not a list of 4 numbers"),
        (
            changed("annotations", 1, "bbox", [1, 2, 3, math.nan]),
            r"annotations\[1\].bbox has a number that is not within",
        ),
        (
            changed("annotations", 1, "bbox", [0, 0, 1e20, 9]),
            r"annotations\[1\].bbox has a number that is not within 1000000",
        ),
        (changed("annotations", 1, "bbox", [-9000, -9000, 20, 20]), r"annotations\[1\].bbox lies outside its image"),
        (changed("annotations", 1, "bbox", [5, -7, 5, 7]), r"annotations\[1\].bbox lies outside its image"),
        (changed("annotations", 1, "bbox", [1, 2, -3, 4]), r"annotations\[1\].bbox has a negative width"),
        (changed("annotations", 0, "keypoints", [1] * 50), r"annotations\[0\].keypoints is not a list of 51 numbers"),
        (changed("annotations", 0, "keypoints", [math.inf] * 51), r"annotations\[0\].keypoints has a number"),
        (changed("annotations", 0, "keypoints", [1e20] * 51), r"annotations\[0\].keypoints has a number that is not"),
        (changed("annotations", 0, "iscrowd", "no"), r"annotations\[0\].iscrowd is not 0 or 1"),
    ],
)
def test_mistakes_are_named(tmp_path, made, message):
    with pytest.raises(InputError, match=message) as caught:
        CocoKeypoints(write(tmp_path / "p.json", made), tmp_path)
    assert str(caught.value).startswith(str(tmp_path / "p.json")) and "\n" not in str(caught.value)


@pytest.mark.parametrize("box", [[60, 3, 9, 9], [3, 40, 9, 9]])
def test_a_box_outside_an_image_of_stated_size_is_refused(tmp_path, box):
    """The image has 60 x 40 pixels; a box that overlaps it by a hundredth of a pixel is a person at its edge."""
    made = changed("annotations", 1, "bbox", box)
    assert len(CocoKeypoints(write(tmp_path / "p.json", made), tmp_path).items[0][2]) == 2
    made["images"][0] |= {"width": 60, "height": 40}
    with pytest.raises(InputError, match=r"annotations\[1\].bbox lies outside its image; correct or remove it"):
        CocoKeypoints(write(tmp_path / "p.json", made), tmp_path)
    made["annotations"][1]["bbox"] = [value - 0.01 for value in box]
    assert len(CocoKeypoints(write(tmp_path / "p.json", made), tmp_path).items[0][2]) == 2


def test_absent_images_are_told_at_the_start(tmp_path):
    """Of those that are used: five.png shows nobody."""
    source = CocoKeypoints(write(tmp_path / "p.json", content()), tmp_path)
    with pytest.raises(InputError, match=r"four.png: no such image file \(.*p.json names it\); give the folder"):
        source.check_images()
    picture(tmp_path / "four.png")
    source.check_images()
    with pytest.raises(InputError, match=r"five.png: no such image file"):
        CocoKeypoints(tmp_path / "p.json", tmp_path, empty=True).check_images()
    truth = parse_truth("gt.json", content(annotations=[LABEL]))
    with pytest.raises(InputError, match=r"five.png: no such image file \(gt.json names it\)"):
        predict(BLIND, truth, tmp_path)


@pytest.mark.parametrize("value", [None, 0, 1, True, False])
def test_flags_are_numbers_or_booleans(tmp_path, value):
    made = changed("annotations", 1, "iscrowd", value)
    ((_, _, people),) = CocoKeypoints(write(tmp_path / "p.json", made), tmp_path).items
    assert len(people.ignore) == (2 if value else 1)


ODD = [None, True, -1, 0, 1e400, math.nan, 10**30, "", "x", [], [1], [None] * 4, {}, {"a": 1}, "\ud800"]


def test_any_value_anywhere_is_read_or_named(tmp_path):
    """Three hundred files with one to three odd values: read, or refused in one line that names the file."""
    chance = random.Random(0)
    refused = 0
    for _ in range(300):
        made = content(images=[{"id": 4, "file_name": "four.png", "height": 40, "width": 60, "license": 1}])
        for _ in range(chance.randint(1, 3)):
            part = chance.choice(list(made))
            entries = made[part]
            if isinstance(entries, list) and entries and chance.random() < 0.9:
                entry = chance.choice(entries)
                if isinstance(entry, dict) and entry:
                    entry[chance.choice(list(entry))] = chance.choice(ODD)
                    continue
            made[part] = chance.choice(ODD)
        try:
            CocoKeypoints(write(tmp_path / "p.json", made), tmp_path)
        except InputError as error:
            refused += 1
            assert str(tmp_path / "p.json") in str(error) and "\n" not in str(error)
    assert 150 < refused < 300


def test_evaluation_reads_images_by_the_same_rules(tmp_path):
    picture(tmp_path / "four.png")
    for entry, message in (
        ({"file_name": "../four.png"}, r"images\[0\].file_name '../four.png' is not a file inside"),
        ({"file_name": "four.png", "width": 7, "height": 9}, r"four.png: has 60 x 40 pixels, .* 7 x 9"),
    ):
        truth = parse_truth("gt.json", content(images=[{"id": 4, **entry}], annotations=[LABEL]))
        with pytest.raises(InputError, match=message):
            predict(BLIND, truth, tmp_path)
