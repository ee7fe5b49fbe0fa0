"""The systems that recognition is compared with: TSN, TRN, C3D, R(2+1)D, and what they read of clips."""

import math
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

from dimofs.cli import InputError
from dimofs.datasets.labelled_clips import LabelledClip, class_folders
from dimofs.eval.tables import peers
from dimofs.eval.tables.peers import FUSION, KINETICS, PeerBench, peer_rows
from dimofs.zoo.converters.torchvision_video import load_r2plus1d
from dimofs.zoo.recognition import snippets as snippets_module
from dimofs.zoo.recognition import trn
from dimofs.zoo.recognition.c3d import C3D
from dimofs.zoo.recognition.r2plus1d import R2Plus1D
from dimofs.zoo.recognition.snippets import Snippets, stacked
from dimofs.zoo.recognition.trn import TRN, chosen_tuples
from dimofs.zoo.recognition.tsn import TSN, fused, segment_numbers
from dimofs.zoo.recognition.whole_clips import FROM_SCRATCH, ON_FEATURES, ClipTask, log_probabilities
from dimofs.zoo.training.feature_cache import FeatureCache
from dimofs.zoo.training.trainer import trained
from tests.support.clips import number, write_clip, write_video
from tests.support.tiny import tiny_model


def test_segments_have_equal_lengths():
    assert segment_numbers(8, 8) == list(range(8))
    assert segment_numbers(80, 4) == [10, 30, 50, 70]
    assert segment_numbers(3, 6) == [0, 0, 1, 1, 2, 2]
    with pytest.raises(ValueError, match="no segments"):
        segment_numbers(0)


def test_tuples_are_in_order_and_spread():
    assert chosen_tuples(3, 2) == [(0, 1), (0, 2), (1, 2)]
    # Of (0, 1) (0, 2) (0, 3) (1, 2) (1, 3) (2, 3) the first, the third (2.5 rounds to even) and the last.
    assert chosen_tuples(4, 2) == [(0, 1), (0, 3), (2, 3)]
    assert chosen_tuples(8, 8) == [tuple(range(8))]
    assert all(list(one) == sorted(one) for size in range(2, 9) for one in chosen_tuples(8, size))
    # Of these there are 2 * 10^12, of which the second half begins with 1.
    assert chosen_tuples(44, 22) == [tuple(range(22)), tuple(range(1, 23)), tuple(range(22, 44))]


@pytest.mark.parametrize("size", [2, 3, 5, 8])
def test_every_tuple_is_found_by_its_place(size):
    every = list(combinations(range(9), size))
    assert [trn._tuple_at(place, 9, size) for place in range(len(every))] == every


def test_fusion_multiplies_probabilities():
    """.8 * .5 against .2 * .5, and .6 * .1 against .4 * .9."""
    first, second = torch.tensor([[0.8, 0.2], [0.6, 0.4]]).log(), torch.tensor([[0.5, 0.5], [0.1, 0.9]]).log()
    torch.testing.assert_close(fused(first, second).exp(), torch.tensor([[0.8, 0.2], [1 / 7, 6 / 7]]))


def test_tsn_does_not_know_the_order_and_trn_does():
    x = torch.randn(2, 8, 5, generator=torch.Generator().manual_seed(0))
    tsn, trn = TSN(5, 3).eval(), TRN(5, 3).eval()
    torch.testing.assert_close(tsn(x), tsn(x.flip(1)))
    assert (trn(x) - trn(x.flip(1))).abs().max() > 1e-3


@pytest.mark.parametrize("make", [lambda: C3D(4, width=2, hidden=8, side=32), lambda: R2Plus1D(4, width=8)])
def test_three_dimensional_networks_see_the_order_of_frames(make):
    clips = torch.rand(2, 3, 16, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    model = make().eval()
    with torch.inference_mode():
        logits = model(clips)
        assert logits.shape == (2, 4)
        assert not torch.allclose(logits, model(clips.flip(2)), atol=1e-6)
        torch.testing.assert_close(model(clips[:1]), logits[:1], atol=1e-5, rtol=1e-4)


def test_c3d_has_the_papers_size():
    """Worked out on paper from the table of layers, with the 487 classes of Sports-1M: 27,655,936 in convolutions."""
    with torch.device("meta"):
        model = C3D(487)
    assert model.fc6.weight.shape == (4096, 8192)
    assert sum(p.numel() for p in model.parameters()) == 79_991_015


def test_r2plus1d_is_torchvisions():
    video = pytest.importorskip("torchvision.models.video")
    torch.manual_seed(0)
    theirs, ours = video.r2plus1d_18(num_classes=5).eval(), R2Plus1D(5).eval()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            assert module.running_mean is not None and module.running_var is not None
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    ours.load_state_dict(theirs.state_dict())
    clips = torch.randn(2, 3, 7, 30, 26)
    with torch.inference_mode():
        torch.testing.assert_close(ours(clips), theirs(clips))


def test_weights_load_by_path_and_nothing_else_does(tmp_path):
    torch.manual_seed(0)
    model = R2Plus1D(6, width=8).eval()
    path = tmp_path / "kinetics.pth"
    torch.save({"state_dict": {f"module.{name}": t for name, t in model.state_dict().items()}}, path)
    loaded = load_r2plus1d(path)
    clips = torch.randn(1, 3, 4, 16, 16)
    torch.testing.assert_close(loaded(clips), model(clips))
    torch.save(model, path)
    with pytest.raises(InputError, match="not a state dict"):
        load_r2plus1d(path)
    state = model.state_dict()
    del state["layer3.0.conv1.0.0.weight"]
    torch.save(state, path)
    with pytest.raises(InputError, match=r"layer3\.0\.conv1\.0\.0\.weight"):
        load_r2plus1d(path)
    torch.save({"weight": torch.zeros(2)}, path)
    with pytest.raises(InputError, match="no R"):
        load_r2plus1d(path)


# --- what they read ---


def clip_of(path: Path, end: int | None = None) -> LabelledClip:
    return LabelledClip(name=path.stem, path=path, label=0, part="train", end=end)


def test_snippets_are_measured_once(tmp_path, monkeypatch):
    clip = clip_of(write_clip(tmp_path / "a.mp4", 9))
    snippets = Snippets(tiny_model(), tmp_path / "kept", segments=3)
    rgb = snippets.rgb(clip)
    # Eight channels on each of four levels, their mean and their maximum.
    assert rgb.shape == (3, 2 * 4 * 8) and rgb.dtype == torch.float16
    single = Snippets(tiny_model(), tmp_path / "other", segments=9).rgb(clip)
    torch.testing.assert_close(rgb, single[[1, 4, 7]])
    monkeypatch.setattr(snippets, "_levels", lambda *_: pytest.fail("measured again"))
    assert torch.equal(snippets.rgb(clip), rgb)


def test_snippets_use_features_that_are_known(tmp_path, monkeypatch):
    clip, model = clip_of(write_clip(tmp_path / "a.mp4", 12)), tiny_model()
    fresh = Snippets(model, tmp_path / "fresh", segments=3, every=5).rgb(clip)
    FeatureCache(tmp_path / "kept", model).features(clip.path, [0, 5, 10])
    monkeypatch.setattr(type(model), "features", lambda *_, **__: pytest.fail("computed again"))
    known = Snippets(model, tmp_path / "kept", segments=3, every=5).rgb(clip)
    torch.testing.assert_close(known, fresh, atol=2e-2, rtol=1e-2)


def test_pixels_are_evenly_spaced_frames(tmp_path):
    clip = clip_of(write_clip(tmp_path / "a.mp4", 16))
    pixels = Snippets(tiny_model(), tmp_path / "kept").pixels(clip, 4, 8)
    assert pixels.shape == (3, 4, 8, 8) and pixels.dtype == torch.uint8
    shown = [number(frame) for frame in pixels.permute(1, 2, 3, 0).numpy()]
    assert shown == [2, 6, 10, 14]


def test_the_last_frame_of_a_damaged_clip_stands_in(tmp_path, monkeypatch):
    """The packets of a long video are counted, and not all of them decode."""
    monkeypatch.setattr(snippets_module, "count_frames", lambda _: 32)
    snippets = Snippets(tiny_model(), tmp_path / "kept", segments=4)
    clip = clip_of(write_clip(tmp_path / "a.mp4", 16))
    shown = [number(frame) for frame in snippets.pixels(clip, 4, 8).permute(1, 2, 3, 0).numpy()]
    assert shown == [4, 12, 15, 15]
    rgb = snippets.rgb(clip)
    assert torch.equal(rgb[2], rgb[3]) and not torch.equal(rgb[1], rgb[2])
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(InputError, match=r"text\.mp4: no frame decodes"):
        snippets.pixels(clip_of(tmp_path / "text.mp4"), 4, 8)


def test_flow_of_a_moving_square_points_where_it_moves(tmp_path):
    images = [np.full((48, 64, 3), 40, np.uint8) for _ in range(8)]
    texture = np.random.default_rng(0).integers(0, 255, (32, 200, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    for place, image in enumerate(images):
        image[:] = texture[:48, 40 - place : 104 - place]
    clip = clip_of(write_video(tmp_path / "a.mp4", images))
    flow = Snippets(tiny_model(), tmp_path / "kept", segments=1).flow(clip)
    # From frame 4 to the last one the pattern moves right by three pixels, of 64; frames are read at 160.
    dx, dy, length = flow.float().view(3, -1).mean(1).tolist()
    assert dx == pytest.approx(3 * 160 / 64, rel=0.35) and abs(dy) < 1 and length >= abs(dx) - 1


def test_clips_that_cannot_be_used_are_zeros(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    snippets = Snippets(tiny_model(), tmp_path / "kept", segments=3)
    good, bad = clip_of(write_clip(tmp_path / "a.mp4", 4)), clip_of(tmp_path / "text.mp4")
    both = stacked([snippets.rgb(good), snippets.rgb(bad), snippets.rgb(clip_of(tmp_path / "none.mp4"))])
    assert both.shape[0] == 3 and both[0].abs().sum() > 0 and both[1:].abs().sum() == 0
    assert snippets.pixels(bad, 2, 4).sum() == 0
    with pytest.raises(InputError, match="no clip can be used"):
        stacked([snippets.rgb(bad)])


# --- the table ---


def test_rows_of_peers_are_measured_once_for_each_seed(tmp_path, capsys, monkeypatch):
    # Maps of one pixel would have bfloat16 gradients of whatever was in memory, see findings.
    monkeypatch.setattr(peers, "SMALL", (16, 32))
    for name in ("train/a/1", "train/a/2", "train/b/3", "train/b/4", "test/a/5", "test/b/6"):
        path = tmp_path / "clips" / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_clip(path, 5 + int(name[-1]))
    snippets = Snippets(tiny_model(), tmp_path / "kept", segments=3)
    bench = PeerBench(clips=class_folders(tmp_path / "clips"), snippets=snippets, seeds=[0, 1], steps=2)
    ours = [torch.tensor([[1.0, 0.0], [0.0, 1.0]])] * 2
    names = ["TSN (RGB)", "TSN (RGB + flow)", "R(2+1)D", FUSION, KINETICS]
    assert peer_rows(bench, None, ["TRN"])["TRN"]["paper"] == 22.8
    found = peer_rows(bench, ours, names)
    assert list(found) == names[:4] and all(len(row["top1"]) == 2 for row in found.values())
    # Ours are sure and right, so that their product with anything is.
    assert found[FUSION]["top1"] == [100, 100]
    assert "not measured" in capsys.readouterr().out.splitlines()[-1]
    again = peer_rows(replace(bench, snippets=replace_read(snippets)), ours, names)
    assert again == found


def replace_read(snippets: Snippets) -> Snippets:
    """The same snippets by a detector that must not run."""
    again = Snippets(tiny_model(), snippets.folder, segments=3)
    again._levels = lambda *_: pytest.fail("measured again")  # type: ignore[method-assign]
    return again


# --- training ---


def ordered_clips(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Snippets of two classes with the same frames, in rising or in falling order."""
    random = torch.Generator().manual_seed(0)
    rising = torch.linspace(-1, 1, 8)[:, None] * torch.ones(4) + 0.1 * torch.randn(count, 8, 4, generator=random)
    labels = torch.arange(count) % 2
    return torch.where(labels[:, None, None] == 1, rising.flip(1), rising), labels


def test_what_depends_on_order_alone_is_learned_by_trn_and_not_by_tsn():
    x, labels = ordered_clips(80)
    right = {}
    for name, make in (("TSN", lambda: TSN(4, 2, 16)), ("TRN", lambda: TRN(4, 2, hidden=16))):
        task = ClipTask(inputs=x[:40], labels=labels[:40], make=make)
        model = trained(task, ON_FEATURES.changed(steps=40, batch=16), seed=0)
        right[name] = float((log_probabilities(model, x[40:]).argmax(1) == labels[40:]).float().mean())
    assert right["TRN"] > 0.95 and right["TSN"] < 0.75


def test_a_tiny_3d_network_learns_the_direction_of_motion():
    random = np.random.default_rng(0)
    clips, labels = [], []
    for place in range(48):
        texture = random.integers(0, 255, (3, 16, 16), dtype=np.uint8)
        step = 2 if place % 2 else -2
        clips.append(np.stack([np.roll(texture, step * t, 2) for t in range(4)], 1))
        labels.append(place % 2)
    x, y = torch.from_numpy(np.stack(clips)), torch.tensor(labels)
    task = ClipTask(inputs=x[:32], labels=y[:32], make=lambda: R2Plus1D(2, width=8, blocks=(1, 1, 1, 1)))
    model = trained(task, FROM_SCRATCH.changed(steps=60, batch=16, learning_rate=3e-3), seed=0)
    loss = -log_probabilities(model, x[:32]).gather(1, y[:32, None]).mean()
    assert float(loss) < math.log(2) / 2


def test_a_run_is_the_same_each_time():
    x, labels = ordered_clips(20)
    task = ClipTask(inputs=x, labels=labels, make=lambda: TRN(4, 2, hidden=8))
    recipe = ON_FEATURES.changed(steps=3, batch=8)
    first, again, other = (trained(task, recipe, seed) for seed in (1, 1, 2))
    assert torch.equal(log_probabilities(first, x), log_probabilities(again, x))
    assert not torch.equal(log_probabilities(first, x), log_probabilities(other, x))
