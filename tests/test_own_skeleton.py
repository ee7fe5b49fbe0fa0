"""Anything with named joints, here mice with four: read, trained, validated, drawn, exported, evaluated."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dimofs.cli import InputError
from dimofs.datasets.augment.geometry import transform
from dimofs.datasets.coco import CocoKeypoints
from dimofs.detections import Detections
from dimofs.eval import carry, coco, pck, posetrack
from dimofs.eval.keypoints.coco_ap import evaluate, parse_results, read_truth
from dimofs.formats.coco_categories import choose
from dimofs.formats.coco_results import to_results
from dimofs.images import read_image
from dimofs.skeletons import COCO, COCO_PERSON, PEOPLE, mirror
from dimofs.zoo import checkpoints, pose, train
from dimofs.zoo.converters import keypointrcnn
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.presets import dimofs_mobile
from dimofs.zoo.training.data import HeldOutPaths, Paths, held_apart, skeleton_of
from dimofs.zoo.training.poses import input_size
from tests.support.commands import call
from tests.support.mice import write_mice
from tests.support.scenes import person
from tests.support.tiny import tiny, use_tiny

NAMES = ("nose", "left_ear", "right_ear", "tail_base")


@pytest.fixture
def mice(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_mice(tmp_path, 6)
    return tmp_path


def test_the_category_names_the_joints(mice):
    source = CocoKeypoints("mice.json", "photos")
    assert (source.skeleton.name, source.skeleton.joints) == ("mouse", NAMES)
    assert source.skeleton.limbs == (("nose", "left_ear"), ("nose", "right_ear"), ("nose", "tail_base"))
    pair = source.pair(0, np.random.default_rng(0))
    content = json.loads(Path("mice.json").read_text())
    first = next(person for person in content["annotations"] if person["image_id"] == 0)
    assert pair.people.keypoints[0].flatten().tolist() == pytest.approx(
        (np.reshape(first["keypoints"], (4, 3))[:, :2] + 0.5).ravel().tolist(), abs=1e-4
    )
    assert pair.people.labelled.all()


def test_the_input_is_as_large_as_the_canvas():
    assert input_size(dimofs_mobile, 256) == {"min_size": 256, "max_size": 341}
    assert input_size(dimofs_mobile, 384) == input_size(dimofs_mobile, 800) == input_size(tiny, 64) == {}


def test_a_mirror_swaps_their_sides():
    assert mirror(NAMES) == [0, 2, 1, 3]
    one = person((10, 10, 30, 30), nose=(12.0, 20.0))
    one.keypoints = torch.tensor([[[12.0, 20], [14, 14], [18, 14], [28, 20]]])
    one.labelled = torch.tensor([[True, True, False, True]])
    flip = torch.tensor([[-1.0, 0, 60], [0, 1, 0]], dtype=torch.float64)
    flipped = transform(one, flip, (60, 60), mirror(NAMES))
    assert flipped.keypoints[0].tolist() == [[48, 20], [42, 14], [46, 14], [32, 20]]
    assert flipped.labelled[0].tolist() == [True, False, True, True]


def content(*categories: dict) -> dict:
    return {"images": [], "annotations": [], "categories": [{"id": n, **c} for n, c in enumerate(categories, 3)]}


def test_which_category_is_meant():
    mouse, rat = {"name": "Mouse", "keypoints": ["a", "b"]}, {"name": "rat", "keypoints": ["a"]}
    people = {"name": "person"}
    assert choose("x", content(mouse)).skeleton.joints == ("a", "b")
    assert choose("x", content(mouse, {"name": "cage"})).ids == {3}
    assert choose("x", content(mouse, people)).skeleton is COCO_PERSON
    assert choose("x", content(mouse, people), "mouse").own
    assert not choose("x", {}).own
    with pytest.raises(InputError, match="several with keypoints, mouse, rat; name one by --category"):
        choose("x", content(mouse, rat))
    with pytest.raises(InputError, match="has no category 'cat'; it has mouse, rat"):
        choose("x", content(mouse, rat), "cat")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"keypoints": ["a", "A"]}, "different names"),
        ({"keypoints": ["a", "b"], "sigmas": [0.1]}, "sigmas is not a list of 2 numbers"),
        ({"keypoints": ["a", "b"], "sigmas": [0.1, float("nan")]}, "sigmas is not a list of 2 numbers"),
        ({"keypoints": ["a", "b"], "skeleton": [[0, 1]]}, r"skeleton holds \[0, 1\]"),
        ({"keypoints": ["a", "b"], "skeleton": [[1, 3]]}, r"skeleton holds \[1, 3\]"),
        ({"keypoints": []}, "none with keypoints"),
    ],
)
def test_categories_that_make_no_skeleton(fields, message):
    with pytest.raises(InputError, match=message):
        choose("x", content({"name": "mouse", **fields}))


def test_own_joints_and_those_of_people_are_not_mixed(mice):
    paths = Paths(coco=["mice.json"], coco_images=["photos"], synthetic=5)
    with pytest.raises(InputError, match="coco labels mouse, synthetic person, with other joints"):
        skeleton_of(paths.sources())


def test_a_part_is_held_out(mice):
    paths = Paths(coco=["mice.json"], coco_images=["photos"])
    train_, validate = HeldOutPaths().split(paths, paths.sources())
    assert (len(train_["coco"]), len(validate["coco"])) == (5, 1)
    names = {name for part in (train_, validate) for name, _ in part["coco"].frames()}
    assert names == {f"mouse_00{n}.png" for n in range(6)}
    again = held_apart(paths.sources()["coco"], 0.2)[1]
    assert [name for name, _ in again.frames()] == [name for name, _ in validate["coco"].frames()]
    given = HeldOutPaths(validate_coco=["mice.json"], validate_images=["photos"]).split(paths, paths.sources())
    assert len(given[0]["coco"]) == len(given[1]["coco"]) == 6
    people = Paths(synthetic=5)
    with pytest.raises(InputError, match="synthetic labels person, --validate-coco mouse, with other joints"):
        HeldOutPaths(validate_coco=["mice.json"], validate_images=["photos"]).split(people, people.sources())
    assert set(HeldOutPaths().split(people, people.sources())[1]) == {"synthetic"}
    with pytest.raises(InputError, match="--hold-out: is a share of the images of --coco"):
        HeldOutPaths(hold_out=0.5).split(people, people.sources())


def test_from_labels_to_figures(mice, monkeypatch, capsys):
    """A tiny model trains, its best weights are kept, and pose, export and eval read its joints from its checkpoint."""
    use_tiny(monkeypatch)
    data = {"coco": ["mice.json"], "coco_images": ["photos"]}
    call(train.main, "pose", out="run", steps=2, validate=1, single=1.0, dtype="auto", workers=0, quiet=True, **data)
    detector = checkpoints.load_as(PoseDetector, "run/best")
    assert detector.keypoint_names == NAMES and detector.limbs == [(0, 1), (0, 2), (0, 3)]
    validations = [json.loads(line) for line in Path("run/validation.jsonl").read_text().splitlines()]
    # Single frames are all that was trained on, so pairs are not judged.
    assert [row["score"] for row in validations] == [row["pck"] for row in validations] and len(validations) == 2
    assert "pck_pairs" not in validations[0]
    call(pose.main, video=["photos"], weights="run/best", score=0.0, quiet=True, device="cpu")
    header, *lines = map(json.loads, Path("photos.poses.jsonl").read_text().splitlines())
    assert header["keypoint_names"] == list(NAMES) and header["skeleton"] == [[0, 1], [0, 2], [0, 3]]
    assert len(lines) == 6 and len(lines[0]["people"][0]["keypoints"]) == 4
    assert read_image("photos.poses/mouse_000.jpg").shape == (64, 64, 3)
    call(coco.main, gt="mice.json", images="photos", weights="run/best", sigmas=[0.1] * 4, save="mice.results.json")
    assert "COCO, 6 images, run/best" in capsys.readouterr().out
    assert len(json.loads(Path("mice.results.json").read_text())[0]["keypoints"]) == 12
    with pytest.raises(InputError, match=r"--sigmas: are 2 numbers for 4 joints"):
        call(coco.main, gt="mice.json", images="photos", weights="run/best", sigmas=[0.1] * 2)


def found(x: float, names=NAMES) -> Detections:
    """A mouse of 40 x 20 pixels whose joints lie `x` pixels beside those of `truth`."""
    points = torch.tensor([[10.5, 10.5], [20.5, 15.5], [20.5, 5.5], [45.5, 10.5]])[None] + torch.tensor([x, 0.0])
    return Detections(torch.tensor([[5.0, 0, 45, 20]]), torch.tensor([0.9]), points, torch.full((1, 4), 5.0))


@pytest.mark.parametrize(("sigmas", "figures"), [(None, (1.0, 0.4)), ([0.02] * 4, (0.0, 0.0))])
def test_oks_by_hand(tmp_path, sigmas, figures):
    """4 pixels off at an area of 800: exp(-16 / (2 * 800 * 4 s^2)) is .67 for s = .079, and 1.9e-3 for s = .02."""
    joints = np.array([[10, 10], [20, 15], [20, 5], [45, 10]])
    label = {"id": 1, "image_id": 5, "category_id": 3, "bbox": [5, 0, 40, 20], "area": 800, "iscrowd": 0}
    label["keypoints"] = np.column_stack((joints, np.full(4, 2))).ravel().tolist()
    mouse = {"id": 3, "name": "mouse", "keypoints": list(NAMES)}
    images = [{"id": 5, "file_name": "5.png", "width": 60, "height": 30}]
    path = tmp_path / "mice.json"
    path.write_text(json.dumps({"images": images, "annotations": [label], "categories": [mouse]}))
    truth = read_truth(path, sigmas=sigmas)
    results = parse_results("model", to_results(found(4.0), NAMES, 5, 3), truth)
    pose_figures = evaluate(truth, results)["pose"]
    assert (pose_figures["AP50"], pose_figures["AP"]) == pytest.approx(figures)


def test_people_stay_people(mice):
    assert set(COCO_PERSON.joints) == set(COCO) < set(PEOPLE.joints)
    entry = to_results(found(0.0), ("nose", "left_ear", "right_ear", "left_hip"), 1)[0]
    assert len(entry["keypoints"]) == 51


def test_a_model_of_mice_is_not_scored_by_peoples_arms_and_legs(tmp_path, monkeypatch):
    """That it shares their nose and ears is no reason."""
    use_tiny(monkeypatch)
    checkpoints.save(tiny(NAMES), tmp_path / "model", {})
    for main in (pck.main, posetrack.main, carry.main):
        weights = [str(tmp_path / "model")] if main is posetrack.main else str(tmp_path / "model")
        with pytest.raises(InputError, match=r"^synthetic clips.*: labels joints that the model lacks \(left_sh"):
            call(main, weights=weights)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("nested", [None, "model", "state_dict"])
def test_torchvisions_files_in_the_forms_that_people_have(tmp_path, prefix, nested):
    """A state dict alone or in a training script's checkpoint, of one process or several, with joints of its own."""
    names = ["roi_heads.keypoint_predictor.kps_score_lowres.bias", "roi_heads.keypoint_head.0.bias"]
    state = {prefix + name: torch.full((4,), float(n)) for n, name in enumerate(names)}
    rest = {"optimizer": {"state": {}}, "epoch": 3, "args": argparse.Namespace(lr=0.1, model="keypointrcnn")}
    torch.save(state if nested is None else {nested: state, **rest}, tmp_path / "x.pth")
    tensors = keypointrcnn.read_state_dict(tmp_path / "x.pth")
    assert {name: float(t[0]) for name, t in tensors.items()} == {
        "keypoint_head.deconv.bias": 0.0,
        "keypoint_head.convs.0.bias": 1.0,
    }
    assert keypointrcnn.joints(tensors) == ["joint_0", "joint_1", "joint_2", "joint_3"]
    assert keypointrcnn.joints({"keypoint_head.deconv.bias": torch.zeros(17)}) == list(COCO)
