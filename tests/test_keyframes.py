"""Key frames: people are found in some frames, and carried to the others."""

import shlex
from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dimofs.cli import run
from dimofs.detections import Detections
from dimofs.tracking import TRACKERS
from dimofs.video import Frame
from dimofs.zoo import pose
from dimofs.zoo.backbones.mobilenet import MobileNetV2
from dimofs.zoo.backbones.resnet import resnet18
from dimofs.zoo.detection.carrying import carry, described
from dimofs.zoo.detection.features import Features, Geometry
from dimofs.zoo.detection.keyframes import KeyFrames, keyed
from dimofs.zoo.detection.preprocess import Preprocess
from dimofs.zoo.detection.stream import poses, tracked
from tests.support.clips import write_clip
from tests.support.tiny import tiny_model
from tests.test_pose import StandIn, lines

SIZE = 64


def people(*places: float, score: float = 0.9) -> Detections:
    """People 20 wide and 40 high whose two joints are at x = `places`, y = 20 and 36."""
    boxes = torch.tensor([[x - 10, 10.0, x + 10, 50] for x in places]).reshape(-1, 4)
    joints = torch.tensor([[[x, 20.0], [x, 36.0]] for x in places]).reshape(-1, 2, 2)
    return Detections(boxes, torch.full((len(boxes),), score), joints, torch.full((len(boxes), 2), 4.0))


def spots(places: Sequence[tuple[float, float]]) -> Features:
    """A frame that shows a spot of a kind of its own at each of up to four places, 4 pixels to a cell."""
    centre = 4 * torch.arange(SIZE // 4) + 2.0
    y, x = centre[:, None], centre[None]
    places = [*places, *[(1000.0, 1000.0)] * (4 - len(places))]
    maps = [torch.exp(-((x - px) ** 2 + (y - py) ** 2) / 32) for px, py in places]
    level = torch.stack([*maps, torch.full_like(maps[0], 0.1)])[None]
    size = (SIZE, SIZE)
    return Features([level], Geometry(frame=size, resized=size, padded=size))


class Script:
    """A network that finds what a script says of each frame; every frame shows spots at the joints of who is there."""

    def __init__(self, script: list[Detections]):
        self.script, self.looked, self.glanced = script, list[int](), list[int]()

    def people(self, frame: Frame) -> Detections:
        self.looked.append(frame.index)
        return self.script[frame.index]

    def glance(self, frames) -> Features:
        self.glanced += [frame.index for frame in frames]
        shown = [spots(self.script[frame.index].keypoints.flatten(0, 1).tolist()) for frame in frames]
        return Features.cat(shown)


def frames(count: int, size: int = SIZE) -> list[Frame]:
    return [Frame(np.zeros((size, size, 3), np.uint8), number, number / 25, 1 / 25) for number in range(count)]


def across(script: list[Detections], **options) -> tuple[list[list[float]], Script]:
    """The x of everybody's first joint in each frame, and the network that was asked."""
    network = Script(script)
    placed = list(keyed(network, frames(len(script)), KeyFrames(**options)))
    assert [p.frame.index for p in placed] == list(range(len(script)))
    assert [p.frame.index for p in placed if p.found] == sorted(network.looked)
    return [p.people.keypoints[:, 0, 0].tolist() for p in placed], network


def test_copies_and_straight_lines():
    script = [people(x) for x in (20.0, 30, 20, 20, 24, 25)]
    copied, network = across(script, every=4, between="copying")
    assert copied == [[20], [20], [20], [24], [24], [25]] and sorted(network.looked) == [0, 4, 5]
    straight, network = across(script, every=4, between="interpolation")
    assert straight == [[20], [21], [22], [23], [24], [25]] and network.glanced == []


def test_motion_follows_what_straight_lines_miss():
    places = [20.0, 24, 30, 27, 24, 22]
    found, network = across([people(x) for x in places], every=5, dissent=inf)
    assert sorted(network.looked) == [0, 5] and network.glanced == [0, 1, 2, 3, 4, 5]
    moved = [x for (x,) in found]
    straight = [20 + 0.4 * number for number in range(6)]
    for right, ours, line in zip(places[1:-1], moved[1:-1], straight[1:-1], strict=True):
        assert abs(ours - right) < max(0.5 * abs(line - right), 0.9)


def test_carrying_moves_boxes_with_their_joints_and_keeps_scores():
    a, b = people(20.0, score=0.8), people(24.0, score=0.6)
    shown = [spots([(x, 20), (x, 36)]) for x in (20.0, 30, 24)]
    found = carry(a, b, 0.5, *shown).people
    shift = found.keypoints[0].mean(dim=0) - torch.tensor([22.0, 28.0])
    assert shift[0] > 4
    torch.testing.assert_close(found.boxes[0], torch.tensor([12.0, 10, 32, 50]) + shift.repeat(2))
    assert found.scores.tolist() == pytest.approx([0.7])


def test_nothing_alike_leaves_the_straight_line():
    flat = spots([(1000.0, 1000)])
    a, b = people(20.0), people(28.0)
    carried = carry(a, b, 0.25, flat, flat, flat)
    assert carried.people.keypoints[0, :, 0].tolist() == pytest.approx([22.0, 22.0], abs=1e-3)
    assert carried.dissent.tolist() == pytest.approx([0.0], abs=1e-5)


def test_key_frames_that_disagree_are_looked_between():
    class Two(Script):
        """Frame 2 shows the first joint of A left of the line, that of B right of it."""

        def glance(self, frames) -> Features:
            kinds = {0: [(32.0, 20), (0.0, 0)], 4: [(0.0, 0), (32.0, 20)]}
            return Features.cat([spots(kinds.get(f.index, [(22.0, 20), (42.0, 20)])) for f in frames])

    network = Two([people(32.0)] * 5)
    list(keyed(network, frames(5), KeyFrames(every=4)))
    assert 2 in network.looked
    network = Two([people(32.0)] * 5)
    list(keyed(network, frames(5), KeyFrames(every=4, dissent=inf)))
    assert sorted(network.looked) == [0, 4]


@pytest.mark.parametrize("enters", range(1, 9))
def test_who_enters_is_there_from_the_right_frame(enters):
    script = [people(15.0) if number < enters else people(15.0, 45.0) for number in range(9)]
    found, network = across(script, every=8, dissent=inf)
    assert [len(each) for each in found] == [1] * enters + [2] * (9 - enters)
    # The two ends and a frame for each halving.
    assert len(network.looked) == 5


def test_faint_people_are_no_reason_to_look_and_stay_until_the_middle():
    faint = Detections.join([people(15.0), people(45.0, score=0.6)])
    found, network = across([faint, *[people(15.0)] * 6], every=6, dissent=inf)
    assert sorted(network.looked) == [0, 6]
    assert [len(each) for each in found] == [2, 2, 2, 2, 1, 1, 1]


def test_the_unwanted_only_continue_the_wanted():
    script = [Detections.join([people(15.0, score=s), people(45.0, score=0.35)]) for s in (0.9, 0.9, 0.4)]
    found, network = across(script, every=2, dissent=inf)
    assert [len(each) for each in found] == [2, 1, 2] and sorted(network.looked) == [0, 2]


def test_without_people_or_neighbours_nothing_is_glanced_at():
    assert across([people()] * 6, every=3)[1].glanced == []
    assert across([people(20.0)], every=3)[0] == [[20.0]]
    found, network = across([people(20.0)] * 3, every=1)
    assert network.glanced == [] and found == [[20.0]] * 3
    assert list(keyed(Script([]), [], KeyFrames(every=3))) == []


def test_another_size_is_another_clip():
    network = Script([people(20.0)] * 7)
    clip = [*frames(4), *(Frame(f.pixels[:32], 4 + f.index, f.time, f.duration) for f in frames(3))]
    found = list(keyed(network, clip, KeyFrames(every=10)))
    assert [p.found for p in found] == [True, False, False, True, True, False, True]


def test_joints_that_are_nowhere_stay_there():
    a, b = people(20.0), people(24.0)
    a.keypoints[0, 1] = torch.nan
    shown = spots([(22.0, 20)])
    found = carry(a, b, 0.5, shown, shown, shown).people
    assert (
        found.keypoints[0, 1].isnan().all() and found.keypoints[0, 0].isfinite().all() and found.boxes.isfinite().all()
    )


def test_descriptions_have_unit_length_at_the_edges_too():
    found = described(spots([(3.0, 3), (60.0, 60)]), torch.tensor([[-50.0, 3], [3, 3], [SIZE, SIZE + 9.0]]))
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))


@pytest.mark.parametrize("body", [MobileNetV2, resnet18])
def test_the_first_maps_are_those_of_the_whole(body):
    torch.manual_seed(0)
    model, x = body().eval(), torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        for first, whole in zip(model.first_maps(x), model(x)[:2], strict=True):
            torch.testing.assert_close(first, whole)


def test_a_glance_has_half_the_size_and_the_frame_of_the_whole():
    detector = tiny_model().eval()
    with torch.no_grad():
        seen = detector.glance(torch.zeros(2, 3, 48, 96, dtype=torch.uint8), frame_size=(480, 960))
    assert seen.geometry == Geometry(frame=(480, 960), resized=(16, 32), padded=(32, 32))
    assert [tuple(level.shape) for level in seen.levels] == [(2, 8, 8, 8), (2, 8, 4, 4)]


def test_half_is_antialiased_for_bytes_and_floats():
    torch.manual_seed(0)
    image = torch.randint(0, 256, (1, 3, 128, 256), dtype=torch.uint8)
    half = Preprocess(64, 128, mean=(0, 0, 0), std=(1, 1, 1)).half
    (ours, size), (floats, _) = half(image), half(image / 255)
    assert size == (32, 64)
    torch.testing.assert_close(ours, floats, atol=0.01, rtol=0)
    # A quarter of the side: the mean over about 16 pixels, whose deviation is a fourth of theirs or less.
    assert ours.std() < 0.3 * (image / 255).std()


def test_streams_keep_ids_and_refuse_what_needs_every_frame():
    detector = tiny_model().eval()
    clip = [Frame(np.full((64, 64, 3), 9 * number, np.uint8), number, number / 25, 1 / 25) for number in range(5)]
    found = list(tracked(poses(detector, clip, keyframe=2), TRACKERS["iou"]))
    assert [f.frame.index for f in found] == list(range(5)) and all(f.people.ids is not None for f in found)
    wrongs: list[dict[str, Any]] = [{"delta": 1}, {"aggregate": 1}, {"motion": True}]
    for wrong in wrongs:
        with pytest.raises(ValueError, match="key frames"):
            next(poses(detector, clip, keyframe=2, **wrong))


def test_the_command_finds_people_in_key_frames_alone(monkeypatch, tmp_path, capsys):
    detector = StandIn()
    monkeypatch.setattr(pose.checkpoints, "load", lambda *_: detector)
    monkeypatch.chdir(tmp_path)
    write_clip(Path("x.mp4"), 9)
    with pytest.raises(SystemExit) as exit:
        run(pose.main, shlex.split("--video x.mp4 --keyframe 4 --no-overlay --quiet"))
    assert not exit.value.code and detector.passes == 3
    # The first joint of the stand-in's person is at the number of the frame.
    found = [line["people"][0] for line in lines("x.poses.jsonl")[1:]]
    assert [person["id"] for person in found] == [0] * 9
    assert [person["keypoints"][0][0] for person in found] == pytest.approx(range(9), abs=0.02)
    for wrong in ("--delta 2", "--aggregate 1", "--tracker dimofs"):
        with pytest.raises(SystemExit):
            run(pose.main, shlex.split(f"--video x.mp4 --keyframe 4 {wrong}"))
        assert "--keyframe: leave out" in capsys.readouterr().err
