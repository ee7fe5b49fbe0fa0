"""Kinds of localization errors, by hand; what is reported where people are and where nobody is."""

import json
import math

import numpy as np
import pytest
import torch

from dimofs.cli import InputError
from dimofs.detections import Detections
from dimofs.eval import coco
from dimofs.eval.keypoints.coco_ap import parse_truth
from dimofs.eval.keypoints.coco_errors import KINDS, SIZES, diagnose, kinds, match_people
from dimofs.eval.keypoints.false_people import count_people, reported
from dimofs.overlay import png
from dimofs.skeletons import COCO, oks_sigmas
from dimofs.zoo.negatives import pictures_in

GOOD, JITTER, INVERSION, SWAP, MISS = range(5)
LEFT, RIGHT = COCO.index("left_wrist"), COCO.index("right_wrist")
AREA = 10_000.0


def joints(x: float) -> np.ndarray:
    """17 labelled joints, 100 pixels apart in y, the right ones 50 pixels beside the left ones."""
    return np.array([(x + 50 * name.startswith("right"), 100.0 * j, 2) for j, name in enumerate(COCO)])


def person(x: float, **fields) -> dict:
    label = {"id": 1, "image_id": 7, "category_id": 1, "bbox": [x, 0, 100, 1700], "area": AREA, "iscrowd": 0}
    return {**label, "keypoints": joints(x).ravel().tolist(), "num_keypoints": 17, **fields}


def truth(*people: dict):
    image = {"id": 7, "file_name": "7.png", "width": 2000, "height": 2000}
    return parse_truth("gt", {"images": [image], "annotations": list(people)})


def result(label: dict, score: float, **fields) -> dict:
    return {name: label[name] for name in ("image_id", "category_id", "bbox", "keypoints")} | {"score": score, **fields}


def test_each_kind_by_hand():
    """The similarity of a wrist is exp(-d^2 / (2 s^2 k^2)) with s = 100 and k = 0.124: 0.85 at 7.07, 0.5 at 14.6."""
    own = joints(0)
    reach = 100 * 2 * oks_sigmas(COCO)[LEFT]
    for similarity, expected in ((0.851, GOOD), (0.849, JITTER), (0.501, JITTER), (0.499, MISS)):
        found = own[:, :2].copy()
        found[LEFT, 0] -= reach * math.sqrt(-2 * math.log(similarity))
        assert kinds(found, own, AREA)[LEFT] == expected
    found = own[:, :2].copy()
    found[LEFT] = own[RIGHT, :2]
    assert kinds(found, own, AREA)[LEFT] == INVERSION
    found[LEFT], found[RIGHT] = own[LEFT, :2] + (500, 0), own[LEFT, :2] + (500, 0)
    assert kinds(found, own, AREA)[[LEFT, RIGHT]].tolist() == [MISS, MISS]
    # The other person's left wrist is there: a swap for the left wrist, and also for the right one.
    assert kinds(found, own, AREA, [(joints(500), AREA)])[[LEFT, RIGHT]].tolist() == [SWAP, SWAP]


def test_joints_without_label_have_no_kind_and_no_part():
    own = joints(0)
    found = own[:, :2].copy()
    found[LEFT] = own[RIGHT, :2]
    own[RIGHT, 2] = 0
    assert kinds(found, own, AREA)[[LEFT, RIGHT]].tolist() == [MISS, -1]
    # The nose has no other side.
    found[0] += 1000
    assert kinds(found, own, AREA)[0] == MISS


def test_the_best_result_takes_the_person():
    labels = truth(person(0), person(400), person(800, iscrowd=1))
    near, exact = joints(0), joints(0)
    near[:, 0] += 2
    entries = [
        result(person(0), 0.5, keypoints=near.ravel().tolist()),
        result(person(0), 0.9, keypoints=exact.ravel().tolist()),
        result(person(800), 0.8),
    ]
    assert [(m.result, m.person) for m in match_people(labels, entries)] == [(1, 0)]
    assert match_people(labels, entries)[0].oks == 1


def test_what_each_kind_costs():
    """Person 1 is exact but for a wrist on the wrong side, person 2 is not found, and nobody is found elsewhere."""
    labels = truth(person(0), person(400))
    entry = result(person(0), 0.9)
    entry["keypoints"] = np.array(entry["keypoints"], float).reshape(17, 3)
    entry["keypoints"][LEFT] = joints(0)[RIGHT]
    entry["keypoints"] = entry["keypoints"].ravel().tolist()
    far = result(person(1500), 0.95)
    table = diagnose(labels, [entry, far])
    assert list(table) == [*KINDS, "scores", "false", "unfound"]
    assert table["good"]["all"] == pytest.approx(16 / 17) and table["inversion"]["large"] == pytest.approx(1 / 17)
    assert table["good"]["medium"] is None and list(SIZES) == ["medium", "large"]
    # One of two people is found at OKS 16/17 = .94, below the threshold .95, with a false one before it: precision 1/2.
    points = 51 / 101
    assert table["good"]["AP"] == table["miss"]["AP"] == pytest.approx(0.9 * points / 2)
    assert table["inversion"]["AP"] == pytest.approx(points / 2)
    assert table["false"]["AP"] == table["scores"]["AP"] == pytest.approx(0.9 * points)
    # The added person comes first, then the false one, then the found one: 1, 1/2, 2/3; at .95 only the added one.
    assert table["unfound"]["AP"] == pytest.approx(0.9 * (51 + 50 * 2 / 3) / 101 + 0.1 * points)


def test_kinds_go_by_the_sigmas_in_use():
    """A wrist 20 pixels off misses by COCO's sigma of .062; by one of .2 its similarity is exp(-.125) = .88."""
    found = joints(0)
    found[LEFT, 0] -= 20
    image = {"id": 7, "file_name": "7.png", "width": 2000, "height": 2000}
    content = {"images": [image], "annotations": [person(0)]}
    entry = result(person(0), 0.9, keypoints=found.ravel().tolist())
    for sigmas, kind in ((None, MISS), ([0.2] * 17, GOOD), ([0.1] * 17, JITTER)):
        (match,) = match_people(parse_truth("gt", content, sigmas=sigmas), [entry])
        assert match.kinds[LEFT] == kind


def test_nobody_found():
    table = diagnose(truth(person(0)), [])
    assert table["miss"]["all"] is None and table["unfound"]["AP"] == pytest.approx(1) and table["good"]["AP"] == 0


def test_recall_and_precision_at_a_score():
    labels = truth(person(0), person(400), person(800, iscrowd=1))
    entries = [
        result(person(0), 0.2, box_score=0.9),
        result(person(20), 0.9, box_score=0.8),
        result(person(810), 0.9),
        result(person(400), 0.4),
    ]
    assert reported(labels, entries, 0.5) == (1 / 2, 1 / 2)
    assert reported(labels, entries, 0.85) == (1 / 2, 1)
    assert reported(labels, entries, 0.3) == (1, 2 / 3)
    assert reported(labels, [], 0.5) == (0, None)


class Fixed:
    """Finds two people of scores 0.9 and 0.4 in every frame."""

    keypoint_names = COCO

    def __call__(self, frame_a, frame_b=None):
        assert frame_a.shape[:2] == (1, 3) and frame_a.min() >= 0 and frame_a.max() <= 1
        scores = torch.tensor([0.9, 0.4])
        return [Detections(torch.ones(2, 4), scores, torch.zeros(2, 17, 2), torch.zeros(2, 17))]


def test_people_on_pictures_of_nobody(tmp_path, capsys, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes(png(np.full((8, 8, 3), 255, np.uint8)))
    assert list(count_people(Fixed(), pictures_in(tmp_path, "--nobody"), 0.5)) == [1, 1]
    assert list(count_people(Fixed(), pictures_in(tmp_path, "--nobody"), 0.3)) == [2, 2]
    monkeypatch.setattr(coco, "load_model", lambda *_: Fixed())
    monkeypatch.setattr(coco, "STILLS", 2)
    coco.main(nobody=tmp_path, score=0.3, errors=True, json=tmp_path / "f.json")
    content = json.loads((tmp_path / "f.json").read_text())
    assert content["reported"] | {"recall": 0, "precision": 0} == {
        "score": 0.3, "recall": 0, "precision": 0, "pictures": 2, "false_people": 4,
    }  # fmt: skip
    assert "4 people on 2 pictures of nobody" in capsys.readouterr().out and list(content["errors"])[:5] == list(KINDS)


def test_what_cannot_be_measured_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        coco.main(nobody=tmp_path / "x")
    with pytest.raises(InputError, match="--score needs --nobody"):
        coco.main(score=0.3)
    with pytest.raises(InputError, match="--boxes and --nobody exclude"):
        coco.main(nobody=tmp_path, boxes="labelled")
    gt = tmp_path / "gt.json"
    gt.write_text(json.dumps({"images": [{"id": 7, "file_name": "7.png"}], "annotations": [person(0)]}))
    boxes = {name: value for name, value in result(person(0), 1).items() if name != "keypoints"}
    (tmp_path / "boxes.json").write_text(json.dumps([boxes]))
    with pytest.raises(InputError, match="--errors: the results have boxes only"):
        coco.main(gt=gt, pred=tmp_path / "boxes.json", errors=True)
