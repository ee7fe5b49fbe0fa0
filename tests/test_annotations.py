"""Labels of YOLO-pose, Label Studio and CVAT read as COCO's: numbers by hand, and the same labels in all formats."""

import json
from pathlib import Path

import numpy as np
import pytest

from dimofs.cli import InputError
from dimofs.datasets.coco import CocoKeypoints
from dimofs.eval.keypoints.coco_ap import parse_truth
from dimofs.formats.annotations import read_annotations
from dimofs.skeletons import COCO, DIMOFS
from tests.support.clips import picture, write_image

NAMES = ("left_ear", "nose", "right_ear")


@pytest.fixture
def images(tmp_path) -> Path:
    """Two images of 64 x 48 pixels, in a folder that has labels beside it."""
    folder = tmp_path / "images" / "train"
    folder.mkdir(parents=True)
    (tmp_path / "labels" / "train").mkdir(parents=True)
    for i in range(2):
        write_image(folder / f"{i}.png", picture(i))
    return folder


def only(content: dict) -> dict:
    """The only annotation."""
    (entry,) = content["annotations"]
    return entry


def joints(content: dict, number: int = 0) -> dict:
    """x, y and flag of each labelled joint of an annotation, by its name."""
    entry = content["annotations"][number]
    names = content["categories"][entry["category_id"] - 1]["keypoints"]
    triples = np.reshape(entry["keypoints"], (len(names), 3)).tolist()
    return {name: pytest.approx(triple) for name, triple in zip(names, triples, strict=True) if triple[2]}


# YOLO-pose

YAML = """
path: ../data
train: images/train
names: {0: mouse, 1: person}
kpt_shape: [3, 3]
kpt_names:
  0: [left_ear, nose, right_ear]
  1: [left_ear, nose, right_ear]
flip_idx: [2, 1, 0]
"""
# A box with the middle (32, 24), 16 pixels wide and 24 high; joints at (16, 12), absent, and hidden at (48, 36).
LINE = "1 0.5 0.5 0.25 0.5  0.25 0.25 2  0.9 0.9 0  0.75 0.75 1\n"


def yolo(images: Path, yaml: str = YAML, line: str = LINE) -> dict:
    pytest.importorskip("yaml", reason="PyYAML is not installed")
    about = images.parents[1] / "data.yaml"
    about.write_text(yaml)
    (images.parents[1] / "labels" / "train" / "0.txt").write_text(line)
    return read_annotations(about, images)


def test_yolo_by_hand(images):
    content = yolo(images)
    assert [(entry["file_name"], entry["width"], entry["height"]) for entry in content["images"]] == [
        ("0.png", 64, 48),
        ("1.png", 64, 48),
    ]
    assert [category["name"] for category in content["categories"]] == ["mouse", "person"]
    assert content["categories"][1]["keypoints"] == list(COCO)
    entry = only(content)
    assert (entry["image_id"], entry["category_id"], entry["bbox"]) == (1, 2, [24, 12, 16, 24])
    # COCO's numbers are half a pixel less.
    assert joints(content) == {"left_ear": [15.5, 11.5, 2], "right_ear": [47.5, 35.5, 1]}
    assert entry["num_keypoints"] == 2


def test_yolo_without_flags_and_names(images):
    yaml = "names: [fly]\nkpt_shape: [4, 2]\nflip_idx: [1, 0, 2, 3]"
    content = yolo(images, yaml, "0 0.5 0.5 0.25 0.5 0.25 0.25 0 0 0.5 0.5 -1 -1")
    assert content["categories"][0]["keypoints"] == ["left_point_0", "right_point_0", "point_2", "point_3"]
    assert only(content)["keypoints"] == [15.5, 11.5, 2, 0, 0, 0, 31.5, 23.5, 2, 0, 0, 0]
    content = yolo(images, "names: [person]\nkpt_shape: [17, 2]", "0 .5 .5 .2 .2" + " .5 .25" * 17)
    assert content["categories"][0]["keypoints"] == list(COCO)


@pytest.mark.parametrize(
    ("yaml", "line", "message"),
    [
        ("names: [a", LINE, "not a YAML file"),
        ("- a", LINE, "has no names"),
        ("names: [a]", LINE, "kpt_shape is None"),
        ("names: [a]\nkpt_shape: [3, 4]", LINE, "kpt_shape is"),
        ("names: {1: a}\nkpt_shape: [3, 3]", LINE, "names is not a list"),
        (YAML.replace("[2, 1, 0]", "[0, 1]"), LINE, "flip_idx is not an order"),
        (YAML.replace("[2, 1, 0]", "[1, 0, 2]"), LINE, "flip_idx swaps left_ear with nose"),
        (YAML.replace("nose, ", ""), LINE, "kpt_names has 2 names"),
        (YAML, "0 .5 .5", "line 1 has 3 numbers"),
        (YAML, "\n7" + LINE[1:], "line 2: class 7"),
        (YAML, "1 x" + LINE[5:], "line 1: could not convert"),
        (YAML, LINE.replace("0.9", "300"), "divide pixels"),
        (YAML, LINE.replace("0.9", "nan"), "no part of the image"),
    ],
)
def test_yolo_faults_are_named(images, yaml, line, message):
    with pytest.raises(InputError, match=message.replace("[", r"\[")):
        yolo(images, yaml, line)


def test_yolo_images_without_any_labels(images, tmp_path):
    content = yolo(images)
    assert len(content["images"]) == 2
    (tmp_path / "elsewhere").mkdir()
    write_image(tmp_path / "elsewhere" / "0.png", picture(0))
    with pytest.raises(InputError, match=r"no image there has labels.*elsewhere.0\.txt"):
        read_annotations(tmp_path / "data.yaml", tmp_path / "elsewhere")


# Label Studio


def region(kind: str, number: str, label: str, parent: str = "", **value) -> dict:
    return {
        "id": number, "type": kind, "parentID": parent or None, "original_width": 64, "original_height": 48,
        "image_rotation": 0, "value": {**value, kind: [label]},
    }  # fmt: skip


def tasks(*results: dict, image: str = "/data/upload/1/0a1b2c3d-0.png") -> list[dict]:
    return [{"id": 7, "data": {"note": "a text", "image": image}, "annotations": [{"result": list(results)}]}]


BOX = region("rectanglelabels", "b", "person", x=25, y=25, width=50, height=50)
NOSE = region("keypointlabels", "n", "nose", x=50, y=50, width=0.5)
EAR = region("keypointlabels", "e", "left_ear", x=12.5, y=10, width=0.5, parent="b")


def label_studio(tmp_path: Path, images: Path, content: list) -> dict:
    path = tmp_path / "export.json"
    path.write_text(json.dumps(content))
    return read_annotations(path, images)


def test_label_studio_by_hand(tmp_path, images):
    content = label_studio(tmp_path, images, tasks(NOSE, BOX, EAR))
    assert content["images"] == [{"id": 1, "file_name": "0.png", "width": 64, "height": 48}]
    assert content["categories"][0]["name"] == "person" and content["categories"][0]["keypoints"] == list(COCO)
    assert only(content)["bbox"] == [16, 12, 32, 24]
    # Continuous (8, 4.8) and (32, 24); COCO's are half a pixel less.
    assert joints(content) == {"left_ear": [7.5, 4.3, 2], "nose": [31.5, 23.5, 2]}


@pytest.mark.parametrize(("program", "things", "refused"), [
    ("Label Studio", [{"bbox": [0, 0, 1, 1]}, {"keypoints": [1, 2, 2]}], True),
    ("Label Studio", [{"bbox": [0, 0, 1, 1]}], False),
    ("another", [{"keypoints": [1, 2, 2]}], False),
])  # fmt: skip
def test_coco_export_of_label_studio_is_refused(tmp_path, program, things, refused):
    content = {"info": {"contributor": program}, "annotations": things}
    (tmp_path / "result.json").write_text(json.dumps(content))
    if refused:
        with pytest.raises(InputError, match=r"result\.json: .* mixes up joints; export JSON there"):
            read_annotations(tmp_path / "result.json", None)
    else:
        assert read_annotations(tmp_path / "result.json", None) == content


def test_label_studio_without_boxes_has_one_thing(tmp_path, images):
    entry = only(label_studio(tmp_path, images, tasks(NOSE, region("keypointlabels", "f", "tail", x=25, y=75))))
    assert entry["keypoints"] == pytest.approx([31.5, 23.5, 2, 15.5, 35.5, 2])
    # The joints' extent, (16, 24) to (32, 36), times 1.2.
    assert entry["bbox"] == pytest.approx([14.4, 22.8, 19.2, 14.4])


def test_label_studio_joints_of_two_boxes(tmp_path, images):
    other = region("rectanglelabels", "c", "person", x=0, y=0, width=100, height=100)
    with pytest.raises(InputError, match=r"\[0\] has a joint nose in 2 boxes; drag it"):
        label_studio(tmp_path, images, tasks(NOSE, BOX, other))
    relation = {"type": "relation", "from_id": "n", "to_id": "c", "direction": "right"}
    content = label_studio(tmp_path, images, tasks(NOSE, BOX, other, EAR, relation))
    assert list(joints(content, 0)) == ["left_ear"] and list(joints(content, 1)) == ["nose"]
    again = region("keypointlabels", "m", "nose", x=51, y=50)
    with pytest.raises(InputError, match="two joints nose in one box"):
        label_studio(tmp_path, images, tasks(NOSE, BOX, again))


def test_label_studio_skips_what_nobody_labelled(tmp_path, images):
    skipped = {"data": {"image": "x.png"}, "annotations": [{"was_cancelled": True, "result": []}]}
    unlabelled = {"data": {"image": "x.png"}, "annotations": []}
    nobody = {"data": {"image": "s3://bucket/deep/1.png"}, "annotations": [{"result": []}]}
    content = label_studio(tmp_path, images, [skipped, unlabelled, nobody, *tasks(NOSE)])
    assert [entry["file_name"] for entry in content["images"]] == ["1.png", "0.png"]
    assert only(content)["image_id"] == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"image": "0.png", "label": []}], "has no keypoints.*not JSON-MIN"),
        (tasks(NOSE, image="9.png"), "its image 9.png is not in"),
        (tasks(NOSE, image="/data/local-files/?d=../../etc/0.txt"), "names no image"),
        (tasks({**NOSE, "value": {}}), r"result\[0\]\.value has no keypointlabels"),
        (tasks({**NOSE, "original_width": None}), "lacks numbers"),
        (tasks({**NOSE, "image_rotation": 90}), "is rotated"),
        ([*tasks(NOSE), 3], r"\[1\] is not an object"),
    ],
)
def test_label_studio_faults_are_named(tmp_path, images, content, message):
    with pytest.raises(InputError, match=message):
        label_studio(tmp_path, images, content)


# CVAT

SVG = "".join(
    f'<circle r="1" cx="1" cy="1" data-type="element node" data-element-id="{i}" data-node-id="{i}" '
    f'data-label-name="{name}"></circle>'
    for i, name in enumerate(NAMES, 1)
)
SVG += '<line x1="0" y1="0" x2="1" y2="1" data-type="edge" data-node-from="2" data-node-to="3"></line>'
LABELS = (
    f"<label><name>person</name><type>skeleton</type><svg>{SVG.replace('<', '&lt;').replace('>', '&gt;')}</svg></label>"
)
LABELS += "".join(f"<label><name>{name}</name><type>points</type><parent>person</parent></label>" for name in NAMES)
SKELETON = """
<skeleton label="person" source="manual" z_order="0" group_id="4">
  <points label="nose" outside="0" occluded="1" points="32.00,24.00"></points>
  <points label="left_ear" outside="0" occluded="0" points="8.00,4.80"></points>
  <points label="right_ear" outside="1" occluded="0" points="1.00,1.00"></points>
</skeleton>"""


def cvat(
    tmp_path: Path, shapes: str = SKELETON, labels: str = LABELS, image: str = 'name="0.png" width="64" height="48"'
):
    path = tmp_path / "annotations.xml"
    meta = f"<meta><task><labels>{labels}</labels></task></meta>"
    path.write_text(
        f'<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version>{meta}'
        f'<image id="0" {image}>{shapes}</image><image id="1" name="1.png" width="64" height="48"></image>'
        "</annotations>"
    )
    return read_annotations(path, None)


def test_cvat_by_hand(tmp_path):
    content = cvat(tmp_path)
    assert [entry["file_name"] for entry in content["images"]] == ["0.png", "1.png"]
    (category,) = content["categories"]
    assert (category["name"], category["keypoints"], category["skeleton"]) == ("person", list(COCO), [[1, 5]])
    assert joints(content) == {"left_ear": [7.5, 4.3, 2], "nose": [31.5, 23.5, 1]}
    entry = only(content)
    # The extent (8, 4.8) to (32, 24) times 1.2.
    assert entry["bbox"] == pytest.approx([5.6, 2.88, 28.8, 23.04]) and entry["area"] == pytest.approx(28.8 * 23.04)


def test_cvat_boxes_of_the_group(tmp_path):
    box = '<box label="person" xtl="1.5" ytl="2" xbr="60" ybr="40" group_id="{}"/>'
    assert only(cvat(tmp_path, SKELETON + box.format(4)))["bbox"] == [1.5, 2, 58.5, 38]
    assert only(cvat(tmp_path, SKELETON + box.format(5)))["bbox"][0] == pytest.approx(5.6)


def test_cvat_skeletons_of_ones_own(tmp_path):
    content = cvat(tmp_path, SKELETON.replace("nose", "Tail 1"), LABELS.replace("nose", "Tail 1"))
    (category,) = content["categories"]
    assert category["keypoints"] == ["left_ear", "Tail 1", "right_ear"] and category["skeleton"] == [[2, 3]]
    assert joints(content) == {"left_ear": [7.5, 4.3, 2], "Tail 1": [31.5, 23.5, 1]}
    (category,) = cvat(tmp_path, SKELETON.replace("nose", "tail"), labels="")["categories"]
    assert category["keypoints"] == ["tail", "left_ear", "right_ear"] and category["skeleton"] == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"shapes": "", "labels": ""}, "holds no skeletons"),
        ({"shapes": SKELETON.replace("32.00,", "")}, "not x,y"),
        ({"shapes": SKELETON.replace('label="person"', "")}, "<skeleton> has no label"),
        ({"image": 'name="0.png" width="64"'}, "image 1: <image> has no height"),
        ({"image": 'name="0.png" width="w" height="48"'}, "width is 'w'"),
        ({"shapes": "</image>"}, "not an XML file"),
    ],
)
def test_cvat_faults_are_named(tmp_path, changed, message):
    with pytest.raises(InputError, match=message):
        cvat(tmp_path, **changed)


def test_other_xml_is_refused(tmp_path):
    path = tmp_path / "x.xml"
    for content in ("<html/>", '<!DOCTYPE a [<!ENTITY b "c">]><annotations>&b;</annotations>'):
        path.write_text(content)
        with pytest.raises(InputError, match="not a file of CVAT"):
            read_annotations(path, None)
    path.write_text("<annotations><track/></annotations>")
    with pytest.raises(InputError, match="holds tracks"):
        read_annotations(path, None)


# In use


def test_all_formats_give_the_same_labels(tmp_path, images):
    """The same person in each format: joints at (8, 4.8) and (32, 24)."""
    line = "1 0.5 0.5 0.5 0.5  0.125 0.1 2  0.5 0.5 2  0 0 0"
    box = '<box label="person" xtl="16" ytl="12" xbr="48" ybr="36" group_id="4"/>'
    contents = [
        label_studio(tmp_path, images, tasks(BOX, NOSE, EAR)),
        cvat(tmp_path, SKELETON + box),
        yolo(images, line=line),
    ]
    for content in contents:
        path = tmp_path / "coco.json"
        path.write_text(json.dumps(content))
        people = CocoKeypoints(path, images).pair(0, np.random.default_rng(0)).people
        assert people.boxes.tolist() == [[16, 12, 48, 36]]
        found = {DIMOFS[j]: people.keypoints[0, j].tolist() for j in people.labelled[0].nonzero()[:, 0].tolist()}
        assert found == {"nose": pytest.approx([32, 24]), "left_ear": pytest.approx([8, 4.8])}
        assert len(parse_truth("x", content).people) == 1


def test_training_data_reads_them_by_their_names(tmp_path, images):
    label_studio(tmp_path, images, tasks(BOX, NOSE, EAR))
    assert len(CocoKeypoints(tmp_path / "export.json", images)) == 1
