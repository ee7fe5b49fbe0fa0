"""Confidences become probabilities, and joints stay where they are."""

import numpy as np
import pytest
import torch

from dimofs.cli import InputError
from dimofs.detections import Detections
from dimofs.skeletons import COCO, DIMOFS
from dimofs.zoo import calibrate, checkpoints
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.person_score import PersonScore
from dimofs.zoo.presets import dimofs_mobile
from dimofs.zoo.training import calibration
from tests.support.commands import call


def test_fit_recovers_a_known_curve():
    random = np.random.default_rng(0)
    logits = random.normal(4, 3, 20_000)
    right = random.random(20_000) < 1 / (1 + np.exp(-(0.7 * logits - 2)))
    slope, shift = calibration.fit(logits, right)
    assert slope == pytest.approx(0.7, abs=0.05)
    assert shift == pytest.approx(-2, abs=0.15)


def test_fit_without_data_is_its_center():
    none = np.zeros(0)
    assert calibration.fit(none, none.astype(bool), (0.5, -1.0)) == pytest.approx((0.5, -1.0))


@torch.no_grad()
def test_apply_moves_scores_and_leaves_peaks():
    torch.manual_seed(0)
    model = dimofs_mobile()
    # Smoothed heatmaps are of probabilities, which a slope makes sharper or blunter.
    vars(model.keypoint_head)["smoothing"] = None
    levels = [torch.rand(1, 64, 64 >> i, 64 >> i) for i in range(4)]
    regions = torch.tensor([[10.0, 10, 200, 220], [50, 30, 120, 200]])
    points, before = model.find_joints([levels], [regions])
    logits = before.repeat(300, 1)
    right = torch.rand(logits.shape, generator=torch.Generator().manual_seed(0)) < 0.8
    calibration.apply(model, logits, right, torch.ones_like(right))
    moved, after = model.find_joints([levels], [regions])
    torch.testing.assert_close(moved, points)
    assert after.sigmoid().mean().item() == pytest.approx(0.8, abs=0.02)
    assert before.sigmoid().mean().item() != pytest.approx(0.8, abs=0.02)


def test_scores_of_people_learn_what_joints_tell():
    """Boxes say nothing here, joints everything; people who are found by few of them are labelled more often."""
    random = torch.Generator().manual_seed(0)
    images = []
    for _ in range(200):
        right = torch.rand(10, generator=random) < 0.5
        joints = torch.where(right, 3.0, -3.0) + torch.randn(10, generator=random)
        images.append(calibration.Found(torch.full((10,), 0.7), joints, right, int(right.sum())))
    score = calibration.fit_person_score(images)
    assert score.joints > 1 and score.box > 0
    found = torch.cat([image.joints for image in images])
    right = torch.cat([image.right for image in images])
    scores = score(torch.full_like(found, 0.7), found[:, None])
    # At .5 as many are found as are labelled.
    assert abs(int((scores >= 0.5).sum()) - int(right.sum())) <= 2
    with pytest.raises(InputError, match="finds only people, or none"):
        calibration.fit_person_score([calibration.Found(torch.rand(2), torch.rand(2), torch.ones(2).bool(), 2)])


def test_a_found_person_is_right_once_and_crowds_do_not_count():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60], [80, 80, 90, 90]])
    people = Detections(boxes, torch.ones(4), torch.zeros(4, 1, 2), torch.zeros(4, 1))
    right, counted = calibration._right(people, boxes[:1], boxes[2:3])
    assert right.tolist() == [True, False, False, False]
    assert counted.tolist() == [True, True, False, True]


def test_people_are_scored_by_a_command(tmp_path):
    torch.manual_seed(0)
    checkpoints.save(dimofs_mobile(min_size=96, max_size=128), tmp_path / "model", {})
    with pytest.raises(InputError, match="nothing is left"):
        call(calibrate.main, weights=str(tmp_path / "model"), out=tmp_path / "none", joints=False)
    call(calibrate.main, weights=str(tmp_path / "model"), out=tmp_path / "scored", joints=False, people=True, count=3)
    before, after = (checkpoints.load_as(PoseDetector, str(tmp_path / name)) for name in ("model", "scored"))
    assert before.person_score is None and after.person_score is not None
    assert all(torch.equal(after.state_dict()[name], tensor) for name, tensor in before.state_dict().items())


@pytest.mark.parametrize(
    ("names", "people", "refused"),
    [
        (DIMOFS, False, False),
        (COCO, False, True),
        (COCO, True, False),
        (("nose", "left_ear", "tail"), False, True),
        (("nose", "left_ear", "tail"), True, True),
    ],
)
def test_other_joints_than_those_of_the_data_are_refused(tmp_path, monkeypatch, names, people, refused):
    """Scores of people do not need every joint of the data; a model of something else finds none of its people."""
    torch.manual_seed(0)
    checkpoints.save(dimofs_mobile(names, min_size=96, max_size=128), tmp_path / "model", {})
    monkeypatch.setattr(calibration, "fit_person_score", lambda found: PersonScore(0.0, 1.0, 0.0))
    options = {"weights": str(tmp_path / "model"), "out": tmp_path / "out", "count": 2, "joints": not people}
    if refused:
        with pytest.raises(InputError, match=r"model: has other joints than the person of the data \(nose, left_eye"):
            call(calibrate.main, **options, people=people)
    else:
        call(calibrate.main, **options, people=people)
    assert (tmp_path / "out").exists() != refused


def test_where_nothing_can_be_written_is_told_before_the_work(tmp_path, monkeypatch):
    """A file where the folder should be, which `save` refuses as well."""
    torch.manual_seed(0)
    model = dimofs_mobile(min_size=96, max_size=128)
    checkpoints.save(model, tmp_path / "model", {})
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr(calibrate, "calibrated", None)
    with pytest.raises(InputError, match=r"file/model.safetensors: cannot write \(Not a directory\)$"):
        call(calibrate.main, weights=str(tmp_path / "model"), out=tmp_path / "file")
    with pytest.raises(InputError, match=r"file: cannot write \(Not a directory\)$"):
        checkpoints.save(model, tmp_path / "file", {})
    assert (tmp_path / "file").read_text() == "mine"


def test_without_data_it_calibrates_on_synthetic_clips(tmp_path):
    torch.manual_seed(0)
    checkpoints.save(dimofs_mobile(min_size=96, max_size=128), tmp_path / "model", {})
    call(calibrate.main, weights=str(tmp_path / "model"), out=tmp_path / "calibrated", count=6)
    before, after = (checkpoints.load(tmp_path / name).state_dict() for name in ("model", "calibrated"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"keypoint_head.deconv.weight", "keypoint_head.deconv.bias"}
