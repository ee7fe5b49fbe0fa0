"""The table of how well people are carried to frames in which nobody looked for them."""

import json
import shlex
from functools import partial

import numpy as np
import pytest
import torch

from dimofs.cli import run
from dimofs.datasets.people import People
from dimofs.datasets.sequences import LabelledVideo, synthetic_videos
from dimofs.datasets.synthetic.clips import Synthetic
from dimofs.detections import Detections
from dimofs.eval import carry
from dimofs.skeletons import DIMOFS
from dimofs.video import Frame
from tests.support.tiny import tiny_model


def labelled_video(places: list[float]) -> LabelledVideo:
    """One person of 20 x 20 pixels, all of whose joints are at x = `places`, one for each frame, and y = 30."""
    (one,) = synthetic_videos(None, Synthetic(1, seed=5, length=2, height=48, width=48))

    def people(number: int, height: int, width: int) -> People:
        x = places[number]
        points = torch.tensor([[[x, 30.0]] * len(DIMOFS)])
        box = torch.tensor([[x - 10, 20.0, x + 10, 40.0]])
        known = torch.ones(1, len(DIMOFS), dtype=torch.bool)
        return People(boxes=box, keypoints=points, labelled=known, ignore=torch.zeros(0, 4))

    def frames():
        return (Frame(np.zeros((64, 64, 3), np.uint8), n, n / 25, 1 / 25) for n in range(len(places)))

    return LabelledVideo(truth=one.truth, frames=frames, people=people)


def test_labels_on_a_straight_line_are_found_by_straight_lines_alone():
    # Copies are 3 and 6 pixels off, 0.15 and 0.3 of the box.
    rows = carry.label_rows(tiny_model().eval(), [labelled_video([10, 13, 16, 19, 22.0])], [4], dense=False)
    figures = {row["between"]: (row["PCK@0.2"], row["PCK@0.1"]) for row in rows}
    assert figures["interpolation"] == (100, 100) and figures["copying"][1] == 0
    assert figures["copying"][0] == pytest.approx(200 / 3, abs=0.1)
    # The frames are blank, so nothing in them says otherwise.
    assert figures["motion"] == (100, 100)


class Everywhere(carry.Network):
    """Finds one person where the number of the frame says."""

    def people(self, frame: Frame) -> Detections:
        x = 10.0 + 3 * frame.index
        points = torch.tensor([[[x, 30.0]] * len(DIMOFS)])
        return Detections(torch.tensor([[x - 10, 20.0, x + 10, 40.0]]), torch.ones(1), points, torch.ones(1, 19))


def test_key_frames_of_a_straight_line(monkeypatch, tmp_path):
    monkeypatch.setattr(carry, "Network", Everywhere)
    video = labelled_video([10, 13, 16, 19, 22.0])
    rows = carry.keyframe_rows(tiny_model().eval(), [video], [4], tmp_path, tracks=False)
    assert [(row["every"], row["between"]) for row in rows] == [(1, "-"), *((4, how) for how in carry.METHODS)]
    assert [row["found in"] for row in rows] == [1, 0.4, 0.4, 0.4]
    assert [row["PCK@0.1"] for row in rows] == [100, 100, 100, pytest.approx(40)]


def test_the_command(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(carry.checkpoints, "load_as", lambda *_: tiny_model().eval())
    small = partial(Synthetic, length=5, height=64, width=64)
    monkeypatch.setattr(carry, "Synthetic", small)

    def command(line: str) -> int:
        with pytest.raises(SystemExit) as exit:
            run(carry.main, shlex.split(line))
        return exit.value.code if isinstance(exit.value.code, int) else 0

    assert command(f"--videos 1 --every 2 --json {tmp_path / 'x.json'}") == 0
    assert "times as fast" in capsys.readouterr().out
    content = json.loads((tmp_path / "x.json").read_text())
    assert content["clips"] == 1 and [row["every"] for row in content["rows"]] == [1, 2, 2, 2]
    assert content["rows"][0]["times as fast"] == 1 and all("MOTA" in row for row in content["rows"])
    for line, expected in {
        "--labelled": "needs --jhmdb",
        "--dense": "belongs to --labelled",
        "--every 1": "must be at least 2",
    }.items():
        assert command(line) == 2 and expected in capsys.readouterr().err
