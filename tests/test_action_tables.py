"""Table 3 and Figure 7: the bootstrap, the streams that stand in the DiMoFs' place, heads that learn, and refusals."""

import shlex
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from dimofs.cli import InputError, arguments
from dimofs.eval import jhmdb
from dimofs.eval.actions.frame_map import LabelledBoxes
from dimofs.eval.tables.action_columns import Column, chosen_columns, reach
from dimofs.eval.tables.action_streams import StreamSources, controls, flow_stream
from dimofs.eval.tables.action_tracks import along_tracks, followed
from dimofs.eval.tables.actions import (
    Comparison,
    Part,
    _flattened,
    bootstrap,
    clip_accuracy,
    limited,
    mean_ap,
    truth_of,
)
from dimofs.eval.tables.table3 import ActionBench, figure7, table3
from dimofs.zoo.backbones.inflated import Inflated
from dimofs.zoo.backbones.pyramids import KeypointPyramidBackbone
from dimofs.zoo.detection.coarse_to_fine import CoarseToFine
from dimofs.zoo.detection.offsets import OffsetNet
from dimofs.zoo.presets import motion_parts
from dimofs.zoo.training.action_data import LabelledClip, Regions
from dimofs.zoo.training.actions import ACTIONS
from tests.support.clips import write_video
from tests.support.tiny import Strides, tiny_action

BOX = [8.0, 8, 40, 40]
# What `Regions` say of each region.
ROWS = ("frames", "boxes", "scores", "labels", "targets")


def regions(frames: int = 3) -> Regions:
    """One person in each frame, in the whole labelled box, and background beside it."""
    boxes = torch.tensor([BOX, [44.0, 44, 60, 60]]).repeat(frames, 1)
    labels = torch.tensor([1, 0]).repeat(frames)
    return Regions(
        numbers=torch.arange(frames),
        clips=torch.zeros(frames, dtype=torch.int64),
        frames=torch.arange(frames).repeat_interleave(2),
        boxes=boxes,
        scores=torch.full((2 * frames,), 0.9),
        labels=labels,
        targets=torch.where((labels > 0)[:, None], boxes, torch.nan),
        scale=torch.ones(frames, 2),
    )


def part(tmp_path, count: int) -> Part:
    """Clips of two actions in turn."""
    clips = [
        LabelledClip(name=f"{i % 2}/{i}", path=tmp_path, label=i % 2, length=3, boxes=torch.tensor([BOX] * 3))
        for i in range(count)
    ]
    found = [replace(regions(), labels=regions().labels * (1 + clip.label)) for clip in clips]
    return Part(clips=clips, parts=found)


def telling(clip: LabelledClip, found: Regions) -> torch.Tensor:
    """A stream that says what the person does; background has the value of neither."""
    values = torch.where(found.labels > 0, 1.0 - 2 * clip.label, 0.0)
    return torch.stack((values, (found.labels > 0).float()), dim=1).half()


def silent(_: LabelledClip, found: Regions) -> torch.Tensor:
    return (found.labels > 0).float()[:, None].half()


def test_heads_learn_what_their_streams_tell_and_no_more(tmp_path):
    comparison = Comparison(
        train=part(tmp_path, 8), test=part(tmp_path, 4), classes=["wave", "sit"], hidden=8, seeds=[0, 1],
        recipe=ACTIONS.changed(steps=150, batch=8, learning_rate=1e-2, warmup=0), folder=tmp_path / "cache",
    )  # fmt: skip
    truth = truth_of(comparison.test, comparison.classes)
    told = comparison.trial([silent, telling])
    assert [mean_ap(truth, found) for found in told.found] == [100, 100] and list(told.accuracy) == [100, 100]
    untold = comparison.trial([silent])
    assert all(accuracy <= 50 for accuracy in untold.accuracy)
    # A clip without regions is not named, not even as the first class.
    none, judged = told.found[0][np.zeros(0, int)], comparison.test.table([silent])
    nobody = replace(judged, regions=replace(judged.regions, **{k: getattr(judged.regions, k)[:0] for k in ROWS}))
    assert clip_accuracy(none, nobody, 2) == 0
    # What was trained is read again, and gives the same.
    files = sorted((tmp_path / "cache").glob("??/*"))
    again = comparison.trial([silent, telling])
    assert np.array_equal(again.found[1].scores, told.found[1].scores)
    assert sorted((tmp_path / "cache").glob("??/*")) == files and len(files) == 4


def test_the_bootstrap_resamples_clips(tmp_path):
    """Of two clips one is found: the mean of its class is 100, 0 or 50 as it is drawn twice, never or once."""
    clips = part(tmp_path, 4)
    truth = truth_of(clips, ["wave", "sit"])
    kept = np.isin(truth.boxes.frames, range(6))
    found = replace(truth.boxes[kept], scores=np.linspace(1, 0.5, kept.sum()))
    sampled = bootstrap(truth, [found, truth.boxes], samples=40)
    assert sampled.shape == (40, 2) and np.allclose(sampled[:, 1], 100)
    assert mean_ap(truth, found) == 50 and 30 < sampled[:, 0].mean() < 70 and sampled[:, 0].std() > 10
    wrong = replace(found, labels=1 - found.labels)
    assert not bootstrap(truth, [wrong], samples=5).any()


def test_clips_without_labels_may_be_resampled(tmp_path):
    """Of two clips one has no label: where it is drawn twice there is nothing to find, and that sample is left out."""
    clips = part(tmp_path, 2)
    nobody = replace(clips.clips[1], boxes=torch.full((3, 4), torch.nan))
    truth = truth_of(replace(clips, clips=[clips.clips[0], nobody]), ["wave", "sit"])
    sampled = bootstrap(truth, [truth.boxes], samples=40)
    assert 20 < len(sampled) < 40 and np.allclose(sampled, 100)


def test_nothing_labelled_is_told(tmp_path):
    clips = part(tmp_path, 2)
    nobody = [replace(clip, boxes=torch.full((3, 4), torch.nan)) for clip in clips.clips]
    with pytest.raises(InputError, match="frames that are judged have no labelled box"):
        truth_of(replace(clips, clips=nobody), ["wave", "sit"])


def test_narrow_boxes_do_not_end_before_they_begin(tmp_path):
    """Inclusive of its last pixel, a box of less than a pixel is one pixel."""
    found = _flattened(torch.tensor([3]), torch.tensor([[5.2, 1, 5.6, 9]]), torch.tensor([[0.5, 0.25]]))
    assert found.boxes.tolist() == [pytest.approx([5.2, 1, 5.2, 8])] * 2
    assert found.frames.tolist() == [3, 3] and found.labels.tolist() == [0, 1] and found.scores.tolist() == [0.5, 0.25]


def test_limits_are_per_class(tmp_path):
    assert [clip.name for clip in limited(part(tmp_path, 7).clips, 2)] == ["0/0", "1/1", "0/2", "1/3"]
    assert len(limited(part(tmp_path, 7).clips, None)) == 7


def moving(folder, speed: int, count: int = 4) -> LabelledClip:
    """Blurred noise that moves to the right."""
    noise = torch.rand(1, 1, 16, 40, generator=torch.Generator().manual_seed(0))
    wide = 255 * nn.functional.interpolate(noise, size=(64, 160), mode="bicubic").clamp(0, 1)[0, 0].numpy()
    images = [wide[:, 60 - speed * i :][:, :64].astype(np.uint8)[..., None].repeat(3, -1) for i in range(count)]
    path = write_video(folder / f"{speed}.mp4", images)
    return LabelledClip(name=f"{speed}", path=path, label=0, length=count, boxes=torch.tensor([BOX] * count))


@pytest.mark.parametrize("method", ["farneback", "dis"])
def test_flow_is_pooled_as_the_dimofs_are(tmp_path, method):
    pytest.importorskip("cv2")
    found = flow_stream(moving(tmp_path, 3), regions(2), method, torch.tensor([1, 2]), 3).view(4, 2, 3, 3).float()
    assert (found[::2, 0] - 3).abs().mean() < 0.7 and found[::2, 1].abs().mean() < 0.5


def test_columns_by_name_and_by_streams():
    """A detector whose offset net aligns has two more; streams may be put together at will."""
    assert [len(chosen_columns(None, aligning)) for aligning in (False, True)] == [14, 16]
    named, own = chosen_columns(["f_B", "appearance+dimofs@-20+steady@5"], aligning=True)
    assert named.streams == ("appearance", "later@10") and own.streams == ["appearance", "dimofs@-20", "steady@5"]
    assert reach([named]) == 10 and reach([own]) == 5 and reach([Column("x", ["dimofs@random"])]) == 40
    assert reach([Column("x", ["appearance"])]) == 0 and reach([Column("x", ["appearance", "dimofs@-5"])]) == 0
    # Of twins no more frames are drawn than this, and the inflated backbone reads four, three apart.
    assert reach(chosen_columns(["inflated 3D"], aligning=True)) == 9


def test_controls_are_of_the_same_kind():
    """Random weights throughout; an aligning net also has itself before training, and the paper's beside it."""
    torch.manual_seed(1)
    levels = [[torch.rand(1, 8, 16 >> i, 16 >> i) for i in range(4)] for _ in range(2)]
    paper, aligning = (motion_parts(8, variant)["offset_net"] for variant in ("paper", "matching"))
    assert list(controls(paper, 8, 0)) == ["random"]
    nets = controls(aligning, 8, 0)
    assert [type(net) for net in nets.values()] == [CoarseToFine, CoarseToFine, OffsetNet]
    # Before training the convolutions add nothing to what matching finds.
    added = {
        name: [p.std().item() for key, p in nets[name].named_parameters() if "residual" in key]
        for name in ("random", "untrained")
    }
    assert min(added["random"]) > 0.01 and max(added["untrained"]) == 0
    shapes = {name: net(*levels)[0].shape[1] for name, net in nets.items()}
    assert shapes == {"random": 2, "untrained": 2, "channels": 16}
    assert nets["random"](levels[0], levels[0])[0].abs().max() < 1e-4
    first, again = (torch.cat([p.flatten() for p in controls(paper, 8, 0)["random"].parameters()]) for _ in range(2))
    assert torch.equal(first, again) and first.std() > 0.01


def test_actions_are_averaged_along_tracks():
    """Two people who stand still, listed in another order in each frame, and a clip that begins anew."""
    given = regions(4)
    order = torch.tensor([0, 1, 3, 2, 4, 5, 6, 7])
    given = replace(given, boxes=given.boxes[order], clips=torch.tensor([0, 0, 0, 1]))
    assert followed(given).tolist() == [0, 1, 1, 0, 0, 1, 2, 3]
    values = torch.tensor([[1.0], [10], [20], [2], [6], [30], [7], [8]])
    assert along_tracks(given, values).flatten().tolist() == [3, 20, 20, 3, 3, 20, 7, 8]
    # Who is elsewhere is somebody else.
    away = replace(given, boxes=given.boxes + 40 * given.frames[:, None])
    assert followed(away).unique().tolist() == list(range(8))


def test_a_recipe_is_chosen_without_the_test_clips(tmp_path, monkeypatch):
    """Held-out clips are training clips; the test part's are not asked for."""
    asked = []

    def clips(self, name, length):
        asked.append(name)
        return part(tmp_path, 16).clips, ["wave", "sit"]

    monkeypatch.setattr(ActionBench, "_clips", clips)
    bench = ActionBench(
        jhmdb="x", jhmdb_labels="y", split=1, weights="x", every=1, most=None, cells=3, hidden=8, steps=1, seeds=[0],
        cache=tmp_path, part="held-out",
    )  # fmt: skip
    kept, held, _ = bench._parts(None)
    assert asked == ["train"] and [clip.name for clip in held] == ["0/12", "1/13", "0/14", "1/15"] and len(kept) == 12


@pytest.mark.parametrize("twins", [None, 4])
def test_the_paper_has_no_figures_on_twins(tmp_path, monkeypatch, capsys, twins):
    comparison = Comparison(
        train=part(tmp_path, 4), test=part(tmp_path, 4), classes=["wave", "sit"], hidden=4, seeds=[0],
        recipe=ACTIONS.changed(steps=1, batch=2), folder=tmp_path / "cache",
    )  # fmt: skip
    bench = ActionBench(
        jhmdb="x", jhmdb_labels="y", twins=twins, split=1, weights="x", every=1, most=None, cells=3, hidden=4, steps=1,
        seeds=[0], cache=tmp_path,
    )  # fmt: skip
    sources = SimpleNamespace(named=lambda name: telling if "@" in name else silent)
    monkeypatch.setattr(ActionBench, "prepare", lambda *_: (comparison, sources))
    result = table3(bench, chosen_columns(["appearance", "DiMoFs"], aligning=False))
    printed = capsys.readouterr().out
    assert ("paper" in printed, "54.4" in printed) == (twins is None, twins is None)
    assert result["rows"]["DiMoFs"]["paper"] == (None if twins else 54.4)
    assert set(result["gains"]) == {"appearance", "DiMoFs"}
    assert table3(bench, chosen_columns(["appearance"], aligning=False))["gains"] == {}
    assert "minus" not in capsys.readouterr().out


def test_the_points_of_figure_7_are_in_order(tmp_path, monkeypatch, capsys):
    comparison = Comparison(
        train=part(tmp_path, 4), test=part(tmp_path, 4), classes=["wave", "sit"], hidden=4, seeds=[0],
        recipe=ACTIONS.changed(steps=1, batch=2), folder=tmp_path / "cache",
    )  # fmt: skip
    bench = ActionBench(
        jhmdb="x", jhmdb_labels="y", split=1, weights="x", every=1, most=None, cells=3, hidden=4, steps=1, seeds=[0],
        cache=tmp_path,
    )  # fmt: skip
    sources = SimpleNamespace(named=lambda name: telling if "@" in name else silent)
    monkeypatch.setattr(ActionBench, "prepare", lambda *_: (comparison, sources))
    result = figure7(bench, ["difference", "dimofs"], [0, -5, 10], tmp_path / "x.png")
    assert result["deltas"] == [-5, 0, 10] and len(result["curves"]["dimofs"]) == 3
    rows = capsys.readouterr().out.splitlines()[1:4]
    assert len({len(row) for row in rows}) == 1 and rows[0].split() == ["delta", "-5", "0", "10"]


def test_streams_by_name(tmp_path):
    torch.manual_seed(0)
    model = tiny_action(["wave", "sit"]).eval()
    clips = [moving(tmp_path, speed) for speed in (1, 2, 4)]
    sources, given = StreamSources(model, tmp_path / "cache", clips), regions(4)

    def stream(name: str, clip: LabelledClip = clips[0]) -> torch.Tensor:
        return sources.named(name)(clip, given)

    trained = stream("dimofs@2")
    assert trained.any() and not stream("dimofs@0").any() and not stream("random@0").any()
    for other in ("random@2", "stranger@2", "dimofs@1", "difference@2", "later@2", "appearance"):
        assert stream(other).shape != trained.shape or not torch.equal(stream(other), trained)
    assert torch.equal(stream("later@0"), stream("appearance"))
    assert torch.equal(stream("dimofs@random"), stream("dimofs@random"))
    assert stream("inflated").shape == stream("appearance").shape


def test_flow_at_a_random_delta_is_not_that_of_a_frame_to_itself(tmp_path):
    pytest.importorskip("cv2")
    clip, given = moving(tmp_path, 1, count=60), regions(50)
    sources = StreamSources(tiny_action(["wave", "sit"]).eval(), tmp_path / "cache", [clip])
    found = sources.named("farneback@random")(clip, given).abs().sum(1)[::2]
    assert 0 < (found < 1).sum() < 10 and (found > 10).sum() > 30


def test_a_frame_of_another_clip_needs_another_clip(tmp_path):
    clip = moving(tmp_path, 2)
    sources = StreamSources(tiny_action(["wave", "sit"]).eval(), tmp_path / "cache", [clip])
    with pytest.raises(InputError, match="there is no other clip than 2; give more"):
        sources.named("stranger@10")(clip, regions(4))
    wide = write_video(tmp_path / "wide.mp4", [np.zeros((64, 128, 3), np.uint8)] * 4)
    other = LabelledClip(name="wide", path=wide, label=0, length=4)
    sources = StreamSources(tiny_action(["wave", "sit"]).eval(), tmp_path / "cache", [other])
    with pytest.raises(InputError, match=r"wide.mp4: has frames of another size than .*2.mp4; give clips of one size"):
        sources.named("stranger@10")(clip, regions(4))


# --- inflation ---


def test_an_inflated_convolution_by_hand():
    """Weights of 3 over three frames: the sum of a frame and its neighbours, the ends repeated."""
    conv = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    nn.init.zeros_(conv.weight)
    conv.weight.data[0, 0, 1, 1] = 3
    values = torch.tensor([1.0, 2, 4, 10, 20, 30])[:, None, None, None]
    with Inflated(frames=3):
        out = conv(values).flatten()
    assert out.tolist() == pytest.approx([1 + 1 + 2, 1 + 2 + 4, 2 + 4 + 4, 40, 60, 80])
    # One pixel stays within its frame.
    point = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.ones_(point.weight)
    with Inflated(frames=3):
        assert torch.equal(point(values), values)
    assert conv(values).flatten().tolist() == (3 * values.flatten()).tolist()


@pytest.mark.parametrize("make", [Strides, lambda: KeypointPyramidBackbone(8)])
@torch.inference_mode()
def test_inflated_backbones(make):
    """A clip of equal frames has the features of its frame; of other frames it has not, and each clip its own."""
    torch.manual_seed(0)
    network, frames = make().eval(), torch.rand(5, 3, 64, 64)
    with Inflated(frames=4):
        still = network(frames[:1].repeat(4, 1, 1, 1))
        clips = network(frames[[0, 1, 2, 3, 4, 4, 4, 4]])
    plain = network(frames)
    seen = []
    for alone, equal, mixed in zip(plain, still, clips, strict=True):
        torch.testing.assert_close(equal, alone[:1].expand_as(equal), atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(mixed[4:], alone[4:].expand_as(mixed[4:]), atol=1e-4, rtol=1e-3)
        seen.append((mixed[1] - alone[1]).abs().max() > 1e-3)
    assert any(seen)


def test_depths_without_a_middle_are_refused():
    with pytest.raises(ValueError, match="odd depth"):
        Inflated(frames=4, depth=2)


# --- refusals ---


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--gt x", "--gt needs --pred"),
        ("--pred x", "--pred needs --gt"),
        ("--gt x --pred y --table 3", "--gt and --table exclude each other"),
        ("--gt x --pred y --every 2", "--gt and --every exclude each other: no model runs"),
        ("--jhmdb x --jhmdb-labels y --table 3 --figure 7", "--table and --figure exclude each other"),
        ("--jhmdb x --jhmdb-labels y --table 3 --nms 0.3", "--table and --nms exclude each other"),
        ("--columns f_B", "--columns needs --table"),
        ("--kinds later", "--kinds needs --figure"),
        ("--steps 5", "--steps needs --table or --figure"),
        ("", "without --gt this command needs --jhmdb beside it"),
        ("--jhmdb x", "--jhmdb needs --jhmdb-labels"),
        ("--jhmdb x --jhmdb-labels y", "without --gt, --table and --figure this command needs --weights"),
        ("--jhmdb x --jhmdb-labels y --table 3 --columns flow", "--columns 'flow': is none of 'inflated 3D', "),
        (
            "--jhmdb x --jhmdb-labels y --table 3 --columns appearance+dimofs",
            "--columns 'dimofs': expected appearance, ",
        ),
        (
            "--jhmdb x --jhmdb-labels y --table 3 --columns appearance+untrained@5",
            "untrained@5: is of offset nets that",
        ),
        ("--part held-out", "--part needs --table or --figure"),
        ("--jhmdb x --jhmdb-labels absent --table 3", "absent/splits: holds no lists"),
        ("--jhmdb x --jhmdb-labels y --figure 7 --plot x.doc", "--plot x.doc: the name must end in"),
        ("--jhmdb x --jhmdb-labels y --figure 7 --kinds flow", "--kinds 'flow': is none of dimofs, "),
        ("--gt x --pred y --matrix x.doc", "--matrix x.doc: the name must end in"),
        ("--jhmdb x --jhmdb-labels y --table 3 --seeds 1 1", "--seeds: 1 is given twice"),
        ("--jhmdb x --jhmdb-labels y --figure 7 --deltas 4 0 4", "--deltas: 4 is given twice"),
        ("--jhmdb x --jhmdb-labels y --figure 7 --kinds stranger", "--kinds 'stranger': is none of dimofs, "),
        ("--jhmdb x --jhmdb-labels y --figure 7 --kinds appearance", "--kinds 'appearance': is none of dimofs, "),
        ("--jhmdb x --jhmdb-labels y --table 3 --columns appearance+stranger@random", "no delta; write stranger@10"),
    ],
)
def test_options_that_would_be_ignored_are_refused(line, message):
    with pytest.raises(InputError, match=message) as error:
        jhmdb.main(**arguments(jhmdb.main, shlex.split(line)))
    assert "\n" not in str(error.value)


def test_found_boxes_are_written_and_read_again(tmp_path):
    from dimofs.eval.actions.files import read_found, write_found

    truth = truth_of(part(tmp_path, 2), ["wave", "sit"])
    found = LabelledBoxes(
        frames=np.array([0, 5]),
        labels=np.array([1, 0]),
        boxes=np.array([[0.0, 1, 2, 3]] * 2),
        scores=np.array([0.5, 1]),
    )
    write_found(tmp_path / "found.json", truth, found)
    again, _ = read_found(tmp_path / "found.json", truth)
    assert all(np.array_equal(getattr(again, name), getattr(found, name)) for name in ("frames", "labels", "scores"))
