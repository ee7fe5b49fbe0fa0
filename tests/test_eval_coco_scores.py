"""One meaning of a COCO score: pose --format coco and eval.coco; ground truth of awkward numbering; what is refused."""

import contextlib
import copy
import io
import json
from pathlib import Path

import pytest

from dimofs.cli import InputError
from dimofs.datasets.synthetic.clips import HELD_OUT, Synthetic
from dimofs.datasets.synthetic.stills import write_stills
from dimofs.eval import coco
from dimofs.eval.keypoints.coco_ap import KEYPOINT_STATS, evaluate, parse_results, parse_truth
from dimofs.zoo import pose


def stills(folder: Path, count: int) -> Path:
    """Synthetic stills whose image ids are the numbers in their names; the annotation file."""
    content = write_stills(folder / "images", Synthetic(count, seed=HELD_OUT))
    for image in content["images"]:
        name = f"{image['id']:06d}.png"
        (folder / "images" / image["file_name"]).rename(folder / "images" / name)
        image["file_name"] = name
    path = folder / "gt.json"
    path.write_text(json.dumps(content | {"info": {}}))
    return path


def test_pose_and_evaluation_write_the_same_results(tmp_path):
    """The same people in both files; scored by either, or by pycocotools alone, they give the same figures."""
    gt = stills(tmp_path, 4)
    status = pose.main(
        video=[str(p) for p in sorted((tmp_path / "images").iterdir())],
        out=tmp_path / "pose", format="coco", overlay=False, device="cpu", quiet=True,
    )  # fmt: skip
    assert status == 0
    people = [entry for path in sorted((tmp_path / "pose").iterdir()) for entry in json.loads(path.read_text())]
    (tmp_path / "pose.json").write_text(json.dumps(people))
    coco.main(gt=gt, images=tmp_path / "images", device="cpu", save=tmp_path / "eval.json", json=tmp_path / "a.json")
    assert people == json.loads((tmp_path / "eval.json").read_text()) and len(people) > 4
    assert all(0 < entry["score"] < entry["box_score"] for entry in people)
    coco.main(gt=gt, pred=tmp_path / "pose.json", json=tmp_path / "b.json")
    a, b = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert a == b and a["pose"]["AP"] > 0.2
    assert a["pose"] == pytest.approx(by_pycocotools(gt, tmp_path / "pose.json"))


def by_pycocotools(gt: Path, results: Path) -> dict[str, float | None]:
    """What a user gets who follows COCO's own example."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(gt))
        judge = COCOeval(truth, truth.loadRes(str(results)), "keypoints")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return {name: None if v < 0 else v for name, v in zip(KEYPOINT_STATS, judge.stats, strict=True)}


# --- ground truth as other tools number it ---------------------------------------------------------------------------


def label(x: float, size: float = 100, **fields) -> dict:
    """A person with left edge x whose 17 joints stand on a diagonal of `size` pixels."""
    joints = [value for j in range(17) for value in (x + size * j / 16, 10 + size * j / 16, 2)]
    return {
        "image_id": 7, "category_id": 1, "keypoints": joints, "num_keypoints": 17, "bbox": [x, 10, size, size],
        "area": size * size / 2, "iscrowd": 0, **fields,
    }  # fmt: skip


def crowd_of_three(**fields) -> dict:
    people = [label(x, **fields) | {"id": i} for i, x in enumerate((0, 200, 400), 1)]
    image = {"id": 7, "file_name": "7.png", "width": 640, "height": 320}
    return {"images": [image], "annotations": people, "categories": [{"id": 1, "name": "person"}]}


def found(content: dict, category: int = 1, shift: float = 2) -> list[dict]:
    """Each labelled person, a little to the right, with descending scores."""
    entries = []
    for i, person in enumerate(content["annotations"]):
        joints, box = list(person["keypoints"]), list(person["bbox"])
        joints[0::3] = [x + shift for x in joints[0::3]]
        box[0] += shift
        fields = {"image_id": person["image_id"], "category_id": category, "score": 0.9 - i / 10}
        entries.append({**fields, "keypoints": joints, "bbox": box})
    return entries


def ap(content: dict, entries: list[dict]) -> tuple[float | None, float | None]:
    truth = parse_truth("gt.json", content)
    figures = evaluate(truth, parse_results("r.json", entries, truth))
    return figures["pose"]["AP"], figures["box"]["AP50"]


@pytest.mark.parametrize("ids", [(1, 2, 3), (0, 1, 2), (-1, 0, 1), (5, 5, 5), (10**30, 0, 7), None], ids=str)
def test_ids_of_annotations_only_name_them(ids):
    """pycocotools takes id 0 for "not matched" and lets repeated ids replace each other."""
    content = crowd_of_three()
    for person, number in zip(content["annotations"], ids or (0, 0, 0), strict=True):
        person["id"] = number
        if ids is None:
            del person["id"]
    assert ap(content, found(content)) == (pytest.approx(1), 1)
    assert parse_truth("gt.json", content).repeated == (2 if ids == (5, 5, 5) else 0)


@pytest.mark.parametrize("category", [0, 2, 90])
def test_people_go_by_the_name_of_their_category(category):
    """Bicycles are category 1: they neither count as people nor need what people need."""
    content = crowd_of_three(category_id=category)
    content["categories"] = [{"id": 1, "name": "bicycle"}, {"id": category, "name": "Person"}]
    content["annotations"].append({"image_id": 7, "category_id": 1, "bbox": [500, 10, 50, 50]})
    people = {**content, "annotations": content["annotations"][:3]}
    assert ap(content, found(people, category)) == (pytest.approx(1), 1)
    assert ap(content, found(people, 1)) == (pytest.approx(1), 1), "entries with joints are people"
    wheels = [{"image_id": 7, "category_id": 1, "bbox": [500, 10, 50, 50], "score": 1.0}]
    with pytest.raises(InputError, match=rf"r.json: no entry has category_id {category}, which is the person in gt"):
        ap(content, wheels)
    boxes = [{k: v for k, v in entry.items() if k != "keypoints"} for entry in found(people, category)]
    truth = parse_truth("gt.json", content)
    assert evaluate(truth, parse_results("r.json", wheels + boxes, truth))["box"]["AP50"] == 1


def test_labelled_joints_are_counted():
    """Converters write num_keypoints 0, which would leave the people out, or none."""
    content = crowd_of_three(num_keypoints=0)
    assert ap(content, found(content))[0] == pytest.approx(1)
    del content["annotations"][0]["num_keypoints"]
    assert ap(content, found(content))[0] == pytest.approx(1)


def test_joints_at_the_corner_do_not_stretch_a_pose():
    """80 pixels square is of medium size; with the two joints that the model lacks at (0, 0) it would be large."""
    content = crowd_of_three()
    content["annotations"] = [label(100, 80, area=6400.0)]
    (right,) = found(content)
    right["keypoints"][:6] = [0] * 6
    wrong = copy.deepcopy(right)
    wrong["keypoints"][6::3] = [x + 300 for x in wrong["keypoints"][6::3]]
    entries = [{k: v for k, v in entry.items() if k != "bbox"} for entry in (wrong | {"score": 1.0}, right)]
    truth = parse_truth("gt.json", content)
    figures = evaluate(truth, parse_results("r.json", entries, truth))["pose"]
    assert figures["AP50"] == pytest.approx(0.5) and figures["APm"] == figures["AP"]
    assert figures["APl"] is None


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (("annotations", 1, "area"), 0, r"annotations\[1\].area is 0, by which"),
        (("annotations", 1, "area"), NAN, r"annotations\[1\].area is not a finite number"),
        (("annotations", 1, "area"), 10**400, r"area is beyond the range"),
        (("annotations", 1, "bbox", 2), NAN, r"annotations\[1\].bbox has a number that is not within 1000000 pixels"),
        (("annotations", 1, "bbox", 2), 0, r"annotations\[1\].bbox has no width or height"),
        (("annotations", 1, "keypoints", 3), INF, r"annotations\[1\].keypoints has a number"),
        (("annotations", 1, "category_id"), "1", r"annotations\[1\].category_id is not a whole number"),
        (("categories", 0, "name"), "human", r"gt.json: categories has no 'person' and none with keypoints"),
        (("categories",), 3, r"gt.json: categories is not a list"),
        (("images",), [{"id": 7, "file_name": "a"}] * 2, r"images\[1\].id 7 is another image's too"),
        (("annotations",), [], r"gt.json: annotates no person"),
    ],
)
def test_what_cannot_be_scored_is_named(where, value, message):
    content = crowd_of_three()
    at: dict | list = content
    for key in where[:-1]:
        at = at[key]
    at[where[-1]] = value
    with pytest.raises(InputError, match=message):
        parse_truth("gt.json", content)


def test_a_missing_area_is_named():
    content = crowd_of_three()
    del content["annotations"][2]["area"]
    with pytest.raises(InputError, match=r"annotations\[2\].area is missing"):
        parse_truth("gt.json", content)


def test_joints_in_another_order_are_refused():
    content = crowd_of_three()
    content["categories"][0]["keypoints"] = ["left eye", "nose"]
    with pytest.raises(InputError, match=r"categories\[0\].keypoints are not in COCO's order"):
        parse_truth("gt.json", content)
    content["categories"][0]["keypoints"] = ["Nose", "left-eye", "point 3"]
    parse_truth("gt.json", content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": NAN}, r"\[1\].score is not a finite number"),
        ({"box_score": INF}, r"\[1\].box_score is not a finite number"),
        ({"bbox": [0, NAN, 1, 1]}, r"\[1\].bbox has a number that is not within"),
        ({"bbox": [0, 0, -1, 1]}, r"\[1\].bbox has a negative width or height"),
        ({"keypoints": [INF] * 51}, r"\[1\].keypoints has a number that is not within"),
    ],
)
def test_results_that_cannot_be_scored_are_named(change, message):
    content = crowd_of_three()
    entries = found(content)
    entries[1] |= change
    with pytest.raises(InputError, match=message):
        ap(content, entries)


def test_nobody_found_scores_nothing_where_somebody_is_labelled():
    figures = evaluate(parse_truth("gt.json", crowd_of_three()), [])
    assert figures["pose"]["AP"] == 0 and figures["box"]["AP"] == 0
    assert figures["box"]["APl"] is None, "nobody is so large"
