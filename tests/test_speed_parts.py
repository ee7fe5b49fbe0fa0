"""`eval.speed model`, `train` and `eval`: both sides of every case do what the case says."""

import math
from unittest.mock import patch

import numpy as np
import pytest
import torch

from dimofs.datasets.people import People
from dimofs.detections import Detections
from dimofs.eval.actions.frame_map import frame_ap
from dimofs.eval.timing import actions as speed_actions
from dimofs.eval.timing import evaluators as speed_eval
from dimofs.eval.timing import models as speed_model
from dimofs.eval.timing import training as speed_train
from dimofs.skeletons import DIMOFS
from dimofs.sources import sources
from dimofs.video import open_clip
from dimofs.zoo.backbones.inverted_residual import InvertedResidual

pytest.importorskip("torchvision")


@pytest.fixture(scope="module")
def frames() -> torch.Tensor:
    return speed_model.clip_frames(6)


def test_both_keypoint_rcnns_find_the_same_people(frames):
    """In bfloat16, too, most joints have the same places, since the heatmaps are sure of them."""
    fp32, bf16 = speed_model.resnet50_cases(frames[:1], (128, 224))
    ours, theirs, rough = fp32.ours(), fp32.theirs(), bf16.ours()
    assert isinstance(ours, Detections) and isinstance(theirs, Detections) and isinstance(rough, Detections)
    assert len(ours) == len(theirs) == speed_model.PEOPLE and fp32.shape == "125x224, 6 people"
    assert theirs.boxes.std(dim=0).min() > 10 and theirs.keypoints.std(dim=(0, 1)).min() > 10
    torch.testing.assert_close(ours.boxes, theirs.boxes, rtol=0, atol=0.5)
    assert (ours.keypoints - theirs.keypoints).norm(dim=-1).median() < 0.5
    assert not torch.equal(rough.scores, ours.scores)
    assert all(float(case.note.split()[0]) < 2 for case in (fp32, bf16))


def test_a_gap_by_hand():
    """Joints 0, 3, 4 and 50 pixels away: 3 is their lower median."""
    joints = torch.zeros(1, 4, 2)
    moved = joints + torch.tensor([[0, 0], [3, 0], [0, 4], [30, 40]])
    assert speed_model.gap_note(moved, joints) == "3 px apart in the median, 5e+01 at most"
    assert speed_model.gap_note(moved[:0], joints) == "0 people instead of 1"


def test_joints_in_given_boxes_are_those_of_a_detection(frames):
    whole, single, _ = speed_model.mobile_cases(frames, "cpu")
    detector = speed_model.checkpoints.load_as(speed_model.PoseDetector, "dimofs_mobile")
    people = single.ours()
    assert isinstance(people, Detections) and len(people) > 0
    a, b = (speed_model._features(detector, frames[i : i + 1], torch.float32) for i in (0, speed_model.DELTA))
    joints = speed_model.joints_in(detector, a, b, people.boxes)
    assert (joints - people.keypoints).norm(dim=-1).median() < 0.05
    assert len(single.theirs()) == 1 and whole.count == 6  # type: ignore[arg-type]


def test_the_whole_path_goes_from_video_to_json(frames, monkeypatch):
    """The file is there as long as the case is."""
    seen = []
    run_job = speed_model.run_job
    monkeypatch.setattr(speed_model, "run_job", lambda job, *rest: [run_job(job, *rest), seen.append(job.results)])
    cases = speed_model.mobile_cases(frames, "cpu")
    whole = next(cases)
    whole.ours()
    assert len(seen[0].read_text().splitlines()) == 7
    assert len(whole.theirs()) == 6  # type: ignore[arg-type]
    cases.close()
    assert not seen[0].exists()


def test_a_written_video_shows_the_frames(frames, tmp_path):
    path = speed_model.write_video(tmp_path / "x.mp4", frames[:3])
    pixels = [frame.pixels for frame in open_clip(sources(str(path))[0]).frames()]
    assert len(pixels) == 3 and pixels[0].shape == (720, 1280, 3)
    expected = (frames[0].permute(1, 2, 0) * 255).numpy()
    assert abs(pixels[0] - expected).mean() < 8


def test_both_training_steps_learn():
    """They begin with losses of one size, and a second step on the same batch has others."""
    for case in list(speed_train.train_cases(quick=True))[-2:]:
        ours = [sum(case.ours().values()) for _ in range(2)]  # type: ignore[attr-defined]
        theirs = [float(case.theirs()) for _ in range(2)]  # type: ignore[arg-type]
        assert all(map(math.isfinite, (*ours, *theirs))) and ours[0] != ours[1] and theirs[0] != theirs[1]
        assert ours[0] == pytest.approx(theirs[0], rel=0.5)


def test_a_step_of_the_shipped_model_is_the_one_by_layers():
    """Also after a step; the peer computes no block at a time."""
    for case in speed_train.mobile_cases("cpu", quick=True):
        with patch.object(InvertedResidual, "_trained", side_effect=AssertionError("by block")):
            theirs = case.theirs()
        ours = case.ours()
        tolerance = {"fp32": 1e-3, "bf16": 0.1}[case.dtype]
        assert sum(ours.values()) == pytest.approx(sum(theirs.values()), rel=tolerance)  # type: ignore[attr-defined]


def test_torchvisions_targets_by_hand():
    joints, labelled = torch.zeros(1, len(DIMOFS), 2), torch.zeros(1, len(DIMOFS), dtype=torch.bool)
    joints[0, 0], labelled[0, 0] = torch.tensor([3.0, 4.0]), True
    target = speed_train.target(
        People(
            boxes=torch.tensor([[1.0, 2.0, 5.0, 9.0]]), keypoints=joints, labelled=labelled, ignore=torch.zeros(0, 4)
        )
    )
    assert target["labels"].tolist() == [1] and target["boxes"].tolist() == [[1, 2, 5, 9]]
    assert target["keypoints"][0, :2].tolist() == [[3, 4, 1], [0, 0, 0]]


def test_frame_map_and_the_plain_loop_give_the_same_figures():
    """Class by class; without labels neither has one."""
    truth, found = speed_actions.made_up(3000)
    ours, theirs = frame_ap(truth, found, 21), speed_actions.plain_loop(truth, found, 21)
    np.testing.assert_allclose(ours, theirs, atol=1e-12)
    assert 0.1 < np.nanmean(ours) < 0.9
    assert np.isnan(speed_actions.plain_loop(truth[np.zeros(0, int)], found, 21)).all()


def test_both_evaluators_give_the_same_figure():
    pytest.importorskip("pycocotools")
    _, case = speed_eval.eval_cases(quick=True)
    ours, theirs = case.ours()["AP"], 100 * case.theirs()  # type: ignore[index,operator]
    assert 10 < ours < 90 and ours == pytest.approx(theirs, abs=1e-9)
    assert case.note.startswith(f"AP {ours:.1f}")
