"""Columns of Table 3 whose backbone learns: the split of the backbone, what learns and what does not, and refusals."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dimofs.cli import InputError
from dimofs.eval.tables.action_columns import Column, chosen_columns
from dimofs.eval.tables.action_streams import StreamSources
from dimofs.eval.tables.actions import Comparison, Part, mean_ap, truth_of
from dimofs.eval.tables.tuned import Sample, check_tuned, localizer, streams, tuned_trial
from dimofs.zoo.backbones.pyramids import KeypointPyramidBackbone
from dimofs.zoo.detection.action_localizer import ActionLocalizer
from dimofs.zoo.presets import action_mobile
from dimofs.zoo.training import trainer
from dimofs.zoo.training.action_data import LabelledClip
from dimofs.zoo.training.actions import ACTIONS
from tests.support.clips import write_video
from tests.test_action_tables import BOX, regions

DIMOFS = Column("DiMoFs", ("appearance", "dimofs@1"))


@pytest.fixture(scope="module")
def model() -> ActionLocalizer:
    torch.manual_seed(0)
    made = action_mobile(["wave", "sit"], cells=2, hidden=8, min_size=64, max_size=64).eval()
    torch.nn.init.normal_(made.offset_net.convs[0].weight, std=0.02)  # type: ignore[union-attr, index]
    return made


def bench(folder, model: ActionLocalizer, frame=(64, 64)) -> tuple[Comparison, StreamSources]:
    """Two clips of each of two actions, one with dark and one with bright people."""
    clips = []
    for number in range(4):
        noise = np.random.default_rng(number).integers(0, 100, (3, *frame, 3), dtype=np.uint8)
        path = write_video(folder / f"{number}.mp4", [*(noise + 120 * (number % 2)).astype(np.uint8)])
        boxes = torch.tensor([BOX] * 3)
        clips.append(LabelledClip(name=f"{number % 2}/{number}", path=path, label=number % 2, length=3, boxes=boxes))
    found = [replace(regions(), labels=regions().labels * (1 + clip.label)) for clip in clips]
    part = Part(clips=clips, parts=found)
    comparison = Comparison(
        train=part, test=part, classes=["wave", "sit"], hidden=8, seeds=[0], folder=folder / "cache",
        recipe=ACTIONS.changed(steps=100, batch=4, learning_rate=1e-2, warmup=0),
    )  # fmt: skip
    return comparison, StreamSources(model, folder / "cache", clips)


def test_the_stages_make_up_the_whole_backbone(model):
    backbone, x = model.backbone, torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = backbone.early(x)
        assert [tuple(one.shape[1:]) for one in maps] == [(40, 16, 24), (48, 8, 12), (96, 4, 6)]
        for part, whole in zip(backbone.late(maps), backbone(x), strict=True):
            assert torch.equal(part, whole)


@torch.no_grad()
def test_streams_from_kept_maps_are_those_of_the_frames(tmp_path, model):
    """The order of frames A and B counts: with several deltas each stream reads its own."""
    frames = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    column = Column("x", ("appearance", "dimofs@1", "later@2", "dimofs@0"))
    read = localizer(column, StreamSources(model, tmp_path, []), model.head)
    assert isinstance(read.backbone, KeypointPyramidBackbone)
    a, b, c = (model.features(frames[i : i + 2]) for i in range(3))
    boxes = [torch.tensor([BOX]), torch.tensor([[0.0, 0, 60, 60], BOX])]
    wanted = read.pooled(a, {1: b, 2: c}, boxes)
    inputs, _ = model.preprocess(frames[[0, 1, 2, 1, 2, 3]])
    maps = replace(a, levels=read.backbone.early(inputs))
    for found, expected in zip(streams(read, maps, boxes), wanted, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert wanted[1].any() and not wanted[3].any()


def test_late_stages_learn_and_the_others_do_not(tmp_path, model, monkeypatch):
    comparison, sources = bench(tmp_path, model)
    learned = []
    monkeypatch.setattr("dimofs.eval.tables.tuned.trained", lambda *given: learned.append(train(*given)) or learned[-1])
    train = trainer.trained
    trial = tuned_trial(comparison, sources, DIMOFS, 3)
    assert mean_ap(truth_of(comparison.test, comparison.classes), trial.found[0]) == 100
    before = model.state_dict()
    after = learned[0].state_dict()
    changed = {name for name, x in before.items() if not name.startswith("head.") and not torch.equal(x, after[name])}
    late = ("backbone.body.stages.3", "backbone.top_down", "backbone.hints", "backbone.fpn", "offset_net")
    assert {part for part in late if any(name.startswith(part) for name in changed)} == {*late}
    assert all(name.startswith(late) for name in changed)
    # What was learned is read again.
    again = tuned_trial(comparison, sources, DIMOFS, 3)
    assert len(learned) == 1 and np.array_equal(again.found[0].scores, trial.found[0].scores)


def test_a_column_without_motion_reads_frame_a_alone(tmp_path, model, monkeypatch):
    """Without a delta, and with one of 0, no Frame B is read."""
    comparison, sources = bench(tmp_path, model)
    asked = []
    join = Sample.join
    monkeypatch.setattr(Sample, "join", lambda parts: asked.append(len(parts[0].maps)) or join(parts))
    for column in (Column("appearance", ("appearance",)), Column("zero", ("appearance", "random@0"))):
        tuned_trial(comparison, sources, column, 1)
    tuned_trial(comparison, sources, DIMOFS, 1)
    assert asked == [1, 1, 2]


def test_clips_of_several_sizes_are_refused(tmp_path, model):
    comparison, sources = bench(tmp_path, model)
    (tmp_path / "wide").mkdir()
    wide = bench(tmp_path / "wide", model, frame=(64, 96))[0].train
    mixed = Part(clips=[*comparison.train.clips, *wide.clips], parts=[*comparison.train.parts, *wide.parts])
    with pytest.raises(InputError, match="--tune: the clips are of several sizes"):
        tuned_trial(replace(comparison, train=mixed), sources, DIMOFS, 5)


def test_columns_that_the_backbone_does_not_make_are_refused():
    check_tuned(chosen_columns(["appearance", "random offsets", "DiMoFs, delta 0", "DiMoFs", "f_B"], aligning=True))
    for name in ("Farneback", "pose", "inflated 3D", "B of another clip", "best"):
        with pytest.raises(InputError, match=r"--tune: '[a-z0-9@]+' is not of the backbone"):
            check_tuned(chosen_columns([name], aligning=True))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("appearance+dimofs@random", "'dimofs@random' has no delta of its own; give one, as in dimofs@10"),
        ("appearance+random@random", "'random@random' has no delta of its own"),
        ("appearance+random@10+dimofs@10", r"'appearance\+random@10\+dimofs@10' has streams of two offset nets"),
    ],
)
def test_columns_without_a_delta_or_of_two_offset_nets_are_refused(name, message):
    """A model has one offset net, and its frames B come after a number of frames."""
    with pytest.raises(InputError, match=f"--tune: {message}"):
        check_tuned(chosen_columns([name], aligning=True))
