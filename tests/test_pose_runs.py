"""Models over labelled videos: a seer that knows the labels scores full marks, a late one does not; the tables."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dimofs import skeletons
from dimofs.cli import InputError, run
from dimofs.datasets.people import People
from dimofs.datasets.sequences import LabelledVideo, Labels, annotate
from dimofs.datasets.synthetic.clips import HELD_OUT, SyntheticClip, synthetic_clip
from dimofs.detections import Detections
from dimofs.eval import posetrack
from dimofs.eval.tables.compare import (
    EvalOptions,
    Sweep,
    Trial,
    compare_trackers,
    score_model,
    sweep_deltas,
    tracker_lines,
)
from dimofs.eval.tables.runs import copied, find, ranked, track, without_joints
from dimofs.motion import Motion
from dimofs.tracking import TRACKERS
from dimofs.video import Frame
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.features import Features, Geometry

LENGTH, SPEED = 6, 8.0  # frames; pixels a frame, 1.3 of half a head
PEOPLE = 2


def walkers(number: int) -> Detections:
    """Two people, 100 pixels apart, who walk to the right."""
    left = torch.tensor([[20.0, 20], [120, 20]]) + torch.tensor([SPEED * number, 0])
    points = left[:, None] + torch.stack((torch.arange(19) * 2.0, torch.arange(19) * 4.0), dim=1)
    boxes = torch.cat((left - 4, left + torch.tensor([40.0, 80])), dim=1)
    return Detections(boxes, torch.tensor([0.9, 0.8]), points, torch.full((2, 19), 3.0), torch.arange(2))


class Seer(PoseDetector):
    """Finds the walkers of the frame whose number the picture shows, of A or, if it only `copies`, of B."""

    def __init__(self, copies: bool = False, keypoint_names=skeletons.DIMOFS):
        nn.Module.__init__(self)
        self.parameter = nn.Parameter(torch.zeros(1))
        self.keypoint_names, self.copies = keypoint_names, copies

    def features(self, images, resize=True, frame_size=None) -> Features:
        size = (images.shape[2], images.shape[3])
        geometry = Geometry(frame=size, resized=size, padded=size)
        return Features([images[:, :1, :1, :1].float()], geometry)

    def detect(self, a, b=None, beside=(), *, min_score=0.0, max_people=None) -> list[Detections]:
        people = [walkers(int(n)) for n in ((b or a) if self.copies else a).levels[0].flatten()]
        return [Detections(p.boxes, p.scores, p.keypoints, p.keypoint_scores) for p in people]

    def motion(self, a: Features, b: Features) -> list[Motion]:
        return [Motion(torch.tensor([SPEED, 0]).view(2, 1, 1), 240.0, 320.0) for _ in range(len(a))]


@pytest.fixture
def video(tmp_path) -> LabelledVideo:
    """The walkers, heads of 10 x 10 pixels, so that half a head is 4.2."""

    def frames():
        for n in range(LENGTH):
            yield Frame(np.full((240, 320, 3), n, np.uint8), n, n / 25, 0.04)

    labels = [Labels(p, torch.cat((p.boxes[:, :2], p.boxes[:, :2] + 10), 1)) for p in map(walkers, range(LENGTH))]
    for label in labels:
        label.people.keypoint_scores[:] = torch.inf
    truth = annotate(tmp_path / "truth", "walkers", labels, (240, 320))
    return LabelledVideo(truth=truth, frames=frames, people=lambda *_: People.empty())


def test_who_knows_the_labels_scores_full_marks(tmp_path, video):
    (scores,) = score_model(Seer(), [video], tmp_path, TRACKERS["default"], EvalOptions())
    assert scores.right[scores.has].all() and scores.annotated.tolist() == [LENGTH * PEOPLE] * 15
    assert not scores.misses.any() and not scores.switches.any() and not scores.false_positives.any()
    for folder in ("poses", "tracks"):
        content = json.loads((tmp_path / folder / "walkers.json").read_text())
        assert len(content["annotations"]) == LENGTH * PEOPLE


def test_poses_are_all_and_tracks_are_the_sure(tmp_path, video, monkeypatch):
    """The second person is scored 0.4: found, but not tracked. A joint of confidence 0.2 is in poses alone."""
    original = walkers

    def doubtful(number):
        people = original(number)
        people.scores[1], people.keypoint_scores[:, 0] = 0.4, torch.tensor(0.2).logit()
        return people

    monkeypatch.setattr("tests.test_pose_runs.walkers", doubtful)
    (scores,) = score_model(Seer(), [video], tmp_path, TRACKERS["default"], EvalOptions())
    assert scores.has.sum() == LENGTH * PEOPLE * 15
    nose = 13
    assert scores.detections.tolist() == [0 if j == nose else LENGTH - 1 for j in range(15)]


def test_motion_reaches_the_tracker(tmp_path, video):
    assert all(m is None for m in find(Seer(), video).motions)
    result = find(Seer(), video, motion=True)
    assert result.motions[0] is None and all(m is not None for m in result.motions[1:])
    found = track(result, TRACKERS["dimofs"], 0.0)
    assert [p.ids.tolist() for p in found if p.ids is not None] == [[0, 1]] * LENGTH


def test_ranked_and_without_joints_by_hand():
    people = walkers(0)
    people.keypoint_scores[0, :2] = torch.tensor([0.5, 0.25]).logit()
    assert ranked(people).confidences[0, :2].tolist() == pytest.approx([0.45, 0.225])
    left = without_joints(people, 0.3).keypoint_scores[0]
    assert left[1] == -torch.inf and left[0] == 0 and people.keypoint_scores[0, 1] > -torch.inf


def test_copied_is_limited_to_the_video():
    people = [walkers(n) for n in range(4)]
    assert [p.keypoints[0, 0, 0].item() for p in copied(people, 2)] == [36, 44, 44, 44]
    assert [p.keypoints[0, 0, 0].item() for p in copied(people, -1)] == [20, 20, 28, 36]
    assert copied(people, 0) == people


def test_figure_6_by_hand(tmp_path, video):
    """8 pixels a frame is farther than half a head, 4.2: copied poses are right where the video's end holds them."""
    sweep = sweep_deltas(Seer(), Seer(), [video], tmp_path, (-1, 0, 1))
    assert sweep.single == 100 and sweep.dimofs == [100] * 3
    assert sweep.copied[1] == 100
    # Of each person one frame of six is right: the first of the better person's and then of the other's, or the last.
    assert sweep.copied[0] == pytest.approx(100 * (1 + 2 / 7) / 12)
    assert sweep.copied[2] == pytest.approx(100 * (1 / 6 + 2 / 12) / 12)
    late = sweep_deltas(Seer(), Seer(copies=True), [video], tmp_path, (-1, 0, 1))
    assert late.dimofs == late.copied
    one = Seer()
    assert sweep_deltas(one, one, [video], tmp_path, (-1, 1)) == Sweep(
        deltas=[-1, 1], dimofs=[100] * 2, copied=sweep.copied[::2], single=100
    )


def test_trackers_are_compared_on_each_set(tmp_path, video):
    chosen = {name: TRACKERS[name] for name in ("default", "detect-and-track")}
    trials = compare_trackers(Seer(), [[video], [video, video]], chosen, tmp_path, EvalOptions())
    assert trials["default"] == [Trial(100, 100, 0)] * 2
    assert [trial.mota for trial in trials["detect-and-track"]] == [-100, -100], "nobody is scored .95"
    lines = tracker_lines({"a": [Trial(50, 40, 3), Trial(60, 40, 5)], "longer": [Trial(70, 10, 1)]})
    assert [line.split()[0] for line in lines[1:]] == ["longer", "a"]
    assert lines[2].split() == ["a", "55.0", "±", "5.0", "40.0", "±", "0.0", "4", "±", "1"]


# The command.


class SyntheticSeer(Seer):
    """Knows the first synthetic test clip, whose frames it tells apart by their pixels."""

    def __init__(self, clip: SyntheticClip):
        super().__init__()
        self.clip = clip

    def features(self, images, resize=True, frame_size=None) -> Features:
        shown = images.permute(0, 2, 3, 1).numpy()
        numbers = [next(n for n, f in enumerate(self.clip.frames) if np.array_equal(f, s)) for s in shown]
        size = (images.shape[2], images.shape[3])
        return Features([torch.tensor(numbers).view(-1, 1, 1, 1)], Geometry(frame=size, resized=size, padded=size))

    def detect(self, a, b=None, beside=(), *, min_score=0.0, max_people=None) -> list[Detections]:
        return [self._people(int(number)) for number in a.levels[0].flatten()]

    def _people(self, number: int) -> Detections:
        present = self.clip.present[number]
        boxes, points, visible = (
            torch.from_numpy(values[number][present])
            for values in (self.clip.boxes, self.clip.keypoints, self.clip.visible)
        )
        return Detections(boxes, torch.full((len(boxes),), 0.99), points, torch.where(visible, 9.0, -torch.inf))


@pytest.fixture
def command(monkeypatch, tmp_path, capsys):
    """Runs the command on one synthetic clip by a seer, in an empty folder: (exit status, output, errors)."""
    seer = SyntheticSeer(synthetic_clip(HELD_OUT))
    monkeypatch.setattr(posetrack.checkpoints, "load_as", lambda *_: seer)
    monkeypatch.chdir(tmp_path)

    def call(line: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit:
            run(posetrack.main, shlex.split(line))
        out, err = capsys.readouterr()
        return exit.value.code if isinstance(exit.value.code, int) else 0, out, err

    return call


def test_without_arguments_the_model_runs_over_synthetic_clips(command):
    status, out, _ = command("--videos 1 --json a.json --plot a.png --out o --hota")
    result = json.loads(Path("a.json").read_text())
    assert status == 0 and "dimofs_mobile on synthetic clips of seed 0, delta 0, tracker default: 1 sequences" in out
    assert result["ap"][-1] == 100 and result["mota"][-1] == 100 and result["hota"][-1] > 90
    assert set(result) >= {"definition", "joints", "ap", "mota", "counts", "sequences"}
    assert sorted(p.name for p in Path("o").iterdir()) == ["poses", "tracks", "truth"]
    assert Path("a.png").read_bytes()[1:4] == b"PNG"
    assert command("--gt o/truth --pred o/tracks --json b.json")[0] == 0
    assert json.loads(Path("b.json").read_text())["mota"] == result["mota"], "as anybody would measure it"


@pytest.mark.parametrize("number, field", [(1, "ap"), (2, "mota")])
def test_tables(command, number, field):
    status, out, _ = command(f"--table {number} --weights single dimofs --videos 1 --json t.json --plot t.svg")
    content = json.loads(Path("t.json").read_text())
    assert status == 0 and f"Table {number}" in out and "single" in out and "dimofs" in out
    assert [content["rows"][name][field][-1] for name in ("single", "dimofs")] == [100, 100]
    assert Path("t.svg").stat().st_size > 1000


def test_figure_6(command):
    status, out, _ = command("--figure 6 --videos 1 --deltas -1 0 1 --json f.json")
    content = json.loads(Path("f.json").read_text())
    assert status == 0 and "-> figure6.png" in out and Path("figure6.png").exists()
    assert content["dimofs"] == [100] * 3 and content["copied"][1] == 100 and content["single"] == 100


def test_comparing_trackers(command):
    status, out, _ = command("--trackers iou detect-and-track --videos 1 --json c.json")
    content = json.loads(Path("c.json").read_text())["trackers"]
    assert status == 0 and "iou" in out and "seed 0" in out
    assert content["iou"][0]["mota"] == 100 and content["iou"][0]["switches"] == 0


@pytest.mark.parametrize(
    "line, message",
    [
        ("--gt here", "--pred"),
        ("--videos 0", "--videos 0: must be"),
        ("--jhmdb clips", "--jhmdb-labels"),
        ("--jhmdb-labels labels", "--jhmdb-labels needs --jhmdb"),
        ("--tracker nearest", "--tracker nearest: is unknown"),
        ("--trackers iou nearest", "--trackers nearest: not one of default, iou"),
        ("--seeds -1", "--seeds -1"),
        ("--root nowhere", "nowhere/annotations/val"),
        ("--oks", "--oks needs --gt"),
        ("--batch 0", "--batch 0"),
        ("--joint-score nan", "--joint-score nan"),
        ("--videos 1 --plot a.doc", "--plot a.doc"),
        ("--videos 1 --table 1 --plot a.doc", "--plot a.doc"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(command, line, message):
    status, _, errors = command(line)
    assert status == 2 and message in errors
    assert errors.splitlines()[-1].startswith("error: ") and "Traceback" not in errors


def test_malformed_weights_are_named():
    with pytest.raises(InputError, match="nowhere"):
        posetrack.main(weights=["nowhere"])
