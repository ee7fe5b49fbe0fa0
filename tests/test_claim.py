"""`eval.claim`, variants of the motion parts, and models that forget motion."""

import json

import pytest
import torch

from dimofs.cli import InputError
from dimofs.eval import claim
from dimofs.eval.tables import bench
from dimofs.zoo import checkpoints
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.offsets import DeformableLayer, OffsetNet
from dimofs.zoo.presets import VARIANTS, dimofs_mobile
from dimofs.zoo.training import initialize
from dimofs.zoo.training.trainer import Trainer


def row(ap: float, found: list, copied: list, pck: float) -> dict:
    return {"ap": [None] * 7 + [ap], "mota": [1.0] * 8, "found": found, "copied": copied, "pck": [pck, pck / 2]}


FOUND = {
    "single": [row(60, [None, 60, None], [20, 60, 10], 80), row(64, [None, 64, None], [22, 64, 16], 90)],
    "dimofs": [row(66, [50, 66, 54], [20, 66, 20], 90), row(66, [50, 66, 54], [20, 66, 20], 90)],
}


def test_tables_by_hand():
    """At -10 and 10 the single-frame models copy 15 and 19: 17 ± 2, of 60 and 64 they lose 45 each."""
    lines = [line.split() for line in claim.tables(FOUND, [-10, 0, 10])]
    assert lines[1] == ["single", *"-" * 7, "62.0±2.0"]
    assert lines[4] == ["single", *["1.0±0.0"] * 8]
    assert lines[6][:3] == ["mAP", "at", "±10"]
    assert lines[7] == ["single", "62.0±2.0", "-", "-", "17.0±2.0", "45.0±0.0", "85.0±5.0", "42.5±2.5"]
    assert lines[8][1:4] == ["66.0±0.0", "52.0±0.0", "14.0±0.0"]


def test_figure_6_by_hand():
    sweep = claim.sweep(FOUND, [-10, 0, 10])
    assert (sweep.dimofs, sweep.copied, sweep.single) == ([50, 66, 54], [21, 62, 13], 62)


def test_runs_are_trained_measured_and_not_repeated(tmp_path, monkeypatch, capsys):
    options = {"steps": 1, "batch": 1, "canvas": 64, "videos": 1, "size": 64, "seeds": [0], "deltas": [3]}
    monkeypatch.setattr(bench, "CLIPS", 1)
    monkeypatch.setattr(claim, "CALIBRATION", 2)
    claim.main(out=tmp_path, runs=["single", "dimofs", "pixel"], json=tmp_path / "claim.json", **options)
    first = capsys.readouterr().out
    content = json.loads((tmp_path / "claim.json").read_text())
    assert content["deltas"] == [0, 3] and content["runs"]["single"][0]["found"][1] is None
    assert content["runs"]["dimofs"][0]["found"][1] is not None
    assert {p.name for p in tmp_path.iterdir()} >= {"start", "single-0", "dimofs-0", "pixel-0", "figure6.png"}
    pixel = checkpoints.load_as(PoseDetector, tmp_path / "pixel-0" / "model")
    assert [parameter.shape[0] for parameter in pixel.offset_net.parameters()] == [2] * 4
    recipes = [json.loads((tmp_path / f"{name}-0" / "recipe.json").read_text()) for name in ("single", "pixel")]
    assert {k for k in recipes[0] if recipes[0][k] != recipes[1][k]} == {"single", "arguments"}

    monkeypatch.setattr(Trainer, "update", lambda *_: pytest.fail("trained again"))
    monkeypatch.setattr(claim.Test, "_figures", lambda *_: pytest.fail("measured again"))
    claim.main(out=tmp_path, runs=["single", "dimofs"], **options)
    assert capsys.readouterr().out.splitlines()[1:3] == first.splitlines()[1:3]
    with pytest.raises(InputError, match=r"started from dimofs_mobile, not \S*other; give another --out"):
        claim.main(out=tmp_path, start=str(tmp_path / "other"), **options)


def test_unknown_runs_are_refused(tmp_path):
    with pytest.raises(InputError, match="--runs flow: not one of single, dimofs, mixed, groups, pixel"):
        claim.main(out=tmp_path, runs=["flow"])


def test_channels_share_displacements_by_variant():
    """What a random offset net moves by: 8 channels apart, in 2 groups, together; levels alike where it is shared."""
    torch.manual_seed(0)
    a, b = ([torch.rand(1, 8, 6, 6) for _ in range(2)] for _ in range(2))
    assert OffsetNet(8, 2, zero=False)(a, b)[0].shape[1] == 16
    assert OffsetNet(8, 2, groups=2, zero=False)(a, b)[1].shape[1] == 4
    ramp = torch.arange(6.0).expand(1, 8, 6, 6)
    together = DeformableLayer(8, 1)([ramp], OffsetNet(8, 1, groups=1, zero=False)(a[:1], b[:1]))[0]
    assert torch.equal(together, together[:, :1].expand_as(together)) and not torch.equal(together, ramp)
    shared = OffsetNet(8, 2, shared=True, zero=False)
    assert torch.equal(*shared([a[0], a[0]], [b[0], b[0]]))
    assert not torch.equal(*OffsetNet(8, 2, zero=False)([a[0], a[0]], [b[0], b[0]]))
    spot = torch.zeros(1, 8, 9, 9)
    spot[..., 4, 4] = 1
    seen = OffsetNet(8, 1, dilation=3, zero=False)([spot], [0 * spot])[0].abs().sum((0, 1)).nonzero()
    assert {tuple(place) for place in seen.tolist()} == {(y, x) for y in (1, 4, 7) for x in (1, 4, 7)}
    assert not list(DeformableLayer(8, mixing=False).parameters())


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_model_that_forgets_motion_finds_the_same_in_single_frames(variant):
    torch.manual_seed(0)
    model = dimofs_mobile(variant=variant)
    model.eval()
    for parameter in (*model.offset_net.parameters(), *model.deformable.parameters()):
        parameter.normal_(std=0.1)
    x = torch.rand(1, 3, 64, 96)
    before = model.align(model.features(x))
    initialize.forget_motion(model)
    features, other = model.features(x), model.features(x.flip(3))
    for levels in (model.align(features), model.align(features, features)):
        for level, wanted in zip(levels, before, strict=True):
            torch.testing.assert_close(level, wanted, rtol=1e-3, atol=1e-4)
    if isinstance(model.offset_net, OffsetNet):
        assert all(offsets.eq(0).all() for offsets in model.dimofs(features, other))
    else:
        last = [p for name, p in model.offset_net.named_parameters() if "residual" in name or "deviate" in name]
        assert not any(parameter.any() for parameter in last)


@torch.no_grad()
def test_a_variant_starts_from_the_paper_ones_weights(tmp_path):
    """All but the motion parts, which stay as they began; what is found in single frames is the same."""
    torch.manual_seed(0)
    first, second = dimofs_mobile(), dimofs_mobile(variant="random")
    for model in (first, second):
        model.eval()
    for parameter in first.deformable.parameters():
        parameter.normal_(std=0.1)
    checkpoints.save(first, tmp_path / "first", {})
    offsets = next(second.offset_net.parameters()).clone()
    initialize.start(second, str(tmp_path / "first"))
    x = torch.rand(1, 3, 64, 96)
    for level, wanted in zip(second.align(second.features(x)), first.align(first.features(x)), strict=True):
        torch.testing.assert_close(level, wanted, rtol=1e-3, atol=1e-4)
    assert torch.equal(next(second.offset_net.parameters()), offsets) and offsets.any()
