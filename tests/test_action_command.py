"""`dimofs.zoo.action`: smoothing, segments and labels by hand, and the command from a video to its three files."""

import csv
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from dimofs.actions import ActionDetections
from dimofs.cli import InputError
from dimofs.lettering import lettering, write_label
from dimofs.segments import Segments, Smoother
from dimofs.tracking import TRACKERS
from dimofs.video import Frame
from dimofs.zoo import action, checkpoints
from dimofs.zoo.detection.action_localizer import ActionLocalizer
from dimofs.zoo.detection.action_stream import FoundActions, actions
from dimofs.zoo.detection.features import Features
from tests.support.clips import write_clip, write_cut
from tests.support.commands import call
from tests.support.tiny import tiny_action, tiny_model, use_tiny

WAVE, SIT = torch.tensor([0.8, 0.1]), torch.tensor([0.2, 0.6])


def test_smoothing_is_a_moving_average_of_each_track():
    smooth = Smoother(0.5)
    assert torch.equal(smooth([3], WAVE[None]), WAVE[None])
    torch.testing.assert_close(smooth([4, 3], torch.stack((SIT, SIT))), torch.stack((SIT, (WAVE + SIT) / 2)))
    assert smooth([], torch.zeros(0, 2)).shape == (0, 2)


def test_segments_end_with_the_action_a_gap_or_the_clip():
    """Track 0 waves at 0, 1 and 2 s, sits at 3; track 1 waves at 0 and again at 5, after a gap."""
    segments, found = Segments(["wave", "sit"], gap=1.5), []
    for time, rows in enumerate([{0: WAVE, 1: WAVE}, {0: WAVE}, {0: WAVE}, {0: SIT}, {}, {1: WAVE}]):
        probabilities = torch.stack(list(rows.values())) if rows else torch.zeros(0, 2)
        found += segments.add(time, 1.0, list(rows), probabilities)
    found += segments.finish()
    told = [(s.start, s.end, s.track, s.action, round(s.score, 3)) for s in found]
    assert told == [(0, 3, 0, "wave", 0.8), (0, 1, 1, "wave", 0.8), (3, 4, 0, "sit", 0.6), (5, 6, 1, "wave", 0.8)]


def test_short_segments_are_left_out():
    segments = Segments(["wave", "sit"], shortest=2)
    found = [
        *segments.add(0, 1, [0], WAVE[None]),
        *segments.add(1, 1, [0], SIT[None]),
        *segments.add(2, 1, [0], SIT[None]),
    ]
    assert [(s.start, s.end, s.action) for s in (*found, *segments.finish())] == [(1, 3, "sit")]


@pytest.mark.parametrize("fps", [10, 24, 25, 30, 60])
def test_segments_of_just_the_shortest_length_stay(fps):
    """Whatever the rounding of a frame's time."""
    count = fps // 5
    for start in range(200):
        segments = Segments(["wave", "sit"], shortest=count / fps)
        frames = [*segments.add(start / fps, 1 / fps, [0], SIT[None])]
        for number in range(start + 1, start + 1 + count):
            frames += segments.add(number / fps, 1 / fps, [0], WAVE[None])
        assert [s.action for s in (*frames, *segments.finish())] == (["sit"] if count == 1 else []) + ["wave"]


def test_letters_by_hand():
    """T: a bar of five pixels, and a stem below its middle."""
    mask = lettering("t")
    assert mask.shape == (9, 7) and mask[1].tolist() == [False, *[True] * 5, False]
    assert mask[2:8, 3].all() and mask.sum() == 5 + 6
    assert np.array_equal(lettering("T", 2)[::2, ::2], mask) and not lettering("_ ").any()


@pytest.mark.parametrize("x", [-50, 0, 3.4, 200])
def test_labels_stay_in_the_image(x):
    image = np.full((20, 60, 3), 9, np.uint8)
    write_label(image, x, 500, "SIT", (200, 100, 50))
    assert (image[-9:] == (200, 100, 50)).all(-1).sum() > 50 and (image[:11] == 9).all()
    write_label(image[:4, :4], 0, 0, "SIT", (1, 2, 3))
    assert image[0, 0].tolist() == [1, 2, 3]


def loud() -> ActionLocalizer:
    """A tiny model that finds people in any picture."""
    torch.manual_seed(0)
    model = tiny_action(["wave", "sit", "run", "clap"], streams=["appearance", "dimofs@2", "difference@-1"]).eval()
    nn.init.constant_(model.box_head.logits.bias, 0.0)
    model.box_head.logits.bias.data[1] = 3
    return model


@pytest.fixture
def folder(tmp_path, monkeypatch):
    use_tiny(monkeypatch)
    write_clip(tmp_path / "x.mp4", 6)
    checkpoints.save(loud(), tmp_path / "model", {})
    return tmp_path


def test_frames_b_are_those_of_the_deltas():
    """Frame by frame as with all frames at once; two frames later at the end is the last one."""
    model = loud()
    pixels = torch.randint(
        0, 256, (5, 64, 64, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    ).numpy()
    frames = [Frame(image, i, i / 25, 1 / 25) for i, image in enumerate(pixels)]
    with torch.inference_mode():
        features = model.features(torch.from_numpy(pixels).permute(0, 3, 1, 2))
        at = lambda *numbers: Features.cat([features[i : i + 1] for i in numbers])  # noqa: E731
        expected = model.detect(features, {2: at(2, 3, 4, 4, 4), -1: at(0, 0, 1, 2, 3)})
    for batch in (1, 2, 7):
        found = list(actions(model, iter(frames), batch=batch))
        assert [f.frame.index for f in found] == list(range(5))
        for one, other in zip(found, expected, strict=True):
            assert len(other) > 0
            torch.testing.assert_close(one.people.actions, other.actions, atol=1e-4, rtol=1e-4)


def test_a_video_becomes_lines_segments_and_a_film(folder, capsys):
    status = call(action.main, video=[folder / "x.mp4"], weights=folder / "model", device="cpu", shortest=0)
    assert status == 0 and "x.mp4" in capsys.readouterr().out
    header, *lines = map(json.loads, (folder / "x.actions.jsonl").read_text().splitlines())
    assert header["actions"] == ["wave", "sit", "run", "clap"] and header["deltas"] == [-1, 2]
    assert [line["frame"] for line in lines] == list(range(6)) and lines[0]["people"]
    for person in (person for line in lines for person in line["people"]):
        values = list(person["actions"].values())
        assert len(values) == 3 and values == sorted(values, reverse=True)
        assert person["action"] == next(iter(person["actions"]))
    rows = list(csv.DictReader((folder / "x.actions.csv").open()))
    assert {row["track"] for row in rows} == {str(p["id"]) for line in lines for p in line["people"]}
    assert all(float(row["start"]) < float(row["end"]) <= 6 / 25 + 1e-6 for row in rows)
    assert (folder / "x.actions.mp4").stat().st_size > 500


def test_a_page_names_the_actions(folder):
    call(action.main, video=[folder / "x.mp4"], weights=folder / "model", device="cpu", overlay=False, html=True)
    page = (folder / "x.actions.html").read_text()
    _, *lines = map(json.loads, (folder / "x.actions.jsonl").read_text().splitlines())
    (told,) = re.findall(r'id="about">(.*?)</script>', page)
    assert set(json.loads(told)["actions"]) == {person["action"] for line in lines for person in line["people"]}
    assert page.count('class="film"') == 1 and not (folder / "x.actions.mp4").exists()


def test_one_input_that_fails_leaves_the_others(folder, capsys):
    status = call(
        action.main, video=[folder / "absent.mp4", folder / "x.mp4"], weights=folder / "model", out=folder / "out",
        overlay=False, quiet=True,
    )  # fmt: skip
    assert status == 2 and "absent.mp4: no such file" in capsys.readouterr().err
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["x.actions.csv", "x.actions.jsonl"]


def test_what_cannot_run_is_refused(folder):
    checkpoints.save(tiny_model(), folder / "pose", {})
    with pytest.raises(InputError, match="names whole clips; run"):
        call(action.main, video=[folder / "x.mp4"], weights="recognize_mobile", device="cpu")
    with pytest.raises(InputError, match="holds weights of PoseDetector, not of ActionLocalizer; give others"):
        call(action.main, video=[folder / "x.mp4"], weights=folder / "pose")
    with pytest.raises(InputError, match="--tracker dimofs: needs the motion"):
        call(action.main, video=[folder / "x.mp4"], weights=folder / "model", tracker="dimofs")
    with pytest.raises(InputError, match="--tracker oks: needs joints"):
        call(action.main, video=[folder / "x.mp4"], weights=folder / "model", tracker="oks")


def found_people(monkeypatch, scores):
    """Make the model find, in each frame, people of these scores in boxes 20 pixels wide."""

    def detect(model, frames, *, batch, min_score):
        for frame, row in zip(frames, scores, strict=False):
            places = torch.tensor([[2.0 + 30 * i, 2, 22 + 30 * i, 40] for i in range(len(row))]).reshape(-1, 4)
            known = torch.tensor(row)
            kept = known >= min_score
            actions_of = torch.eye(4)[: len(row)]
            yield FoundActions(frame, ActionDetections(places[kept], known[kept], actions_of[kept]))

    monkeypatch.setattr(action, "actions", detect)


def ids_of(folder) -> list[list[int]]:
    _, *lines = map(json.loads, (folder / "x.actions.jsonl").read_text().splitlines())
    return [[person["id"] for person in line["people"]] for line in lines]


@pytest.mark.parametrize("tracker", ["iou", "iou+oks", "default", "byte", "byte+oks"])
def test_trackers_link_by_boxes_alone(folder, monkeypatch, tracker):
    """People who stay in place keep their ids, whatever share joints have in a tracker's cost."""
    found_people(monkeypatch, [[0.9, 0.8]] * 6)
    call(action.main, video=[folder / "x.mp4"], weights=folder / "model", device="cpu", overlay=False, tracker=tracker)
    assert ids_of(folder) == [[0, 1]] * 6


def test_byte_follows_people_of_low_scores(folder, monkeypatch):
    found_people(monkeypatch, [[0.9], [0.9], [0.3], [0.3], [0.9], [0.05]])
    line = {"video": [folder / "x.mp4"], "weights": folder / "model", "device": "cpu", "overlay": False}
    call(action.main, **line, tracker="byte")
    assert ids_of(folder) == [[0]] * 5 + [[]]
    call(action.main, **line)
    assert ids_of(folder) == [[0], [0], [], [], [0], []]


def test_actions_stay_with_their_people(folder, monkeypatch):
    """Of two people of one score the first is too small to be tracked; what the second does is told."""
    monkeypatch.setitem(TRACKERS, "iou", replace(TRACKERS["iou"], area=100.0))
    flat = torch.tensor([[2.0, 2, 3, 3], [30, 2, 50, 40]])
    monkeypatch.setattr(
        action,
        "actions",
        lambda model, frames, **_: (
            FoundActions(frame, ActionDetections(flat, torch.ones(2), torch.eye(4)[:2])) for frame in frames
        ),
    )
    call(action.main, video=[folder / "x.mp4"], weights=folder / "model", device="cpu", overlay=False)
    _, *lines = map(json.loads, (folder / "x.actions.jsonl").read_text().splitlines())
    assert [[person["action"] for person in line["people"]] for line in lines] == [["sit"]] * 6


def test_a_video_that_ends_early_is_told(folder, capsys):
    write_cut(folder / "x.mp4", 64)
    assert call(action.main, video=[folder / "x.mp4"], weights=folder / "model", overlay=False, quiet=True) == 0
    told = capsys.readouterr().err
    assert told.startswith(f"warning: {folder / 'x.mp4'}: ends early (") and told.count("\n") == 1


def test_the_shipped_model_loads_and_names_jhmdbs_actions():
    model = checkpoints.load_as(ActionLocalizer, "action_mobile")
    assert len(model.action_names) == 21 and model.deltas == (10,)
    assert (checkpoints.SHIPPED / "action_mobile/model.safetensors").stat().st_size < 8e6
