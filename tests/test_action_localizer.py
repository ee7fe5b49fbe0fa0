"""The action localizer: a case by hand, its streams, and agreement with the pose detector that it shares parts with."""

import json

import pytest
import torch
from torch import nn

from dimofs.cli import InputError
from dimofs.zoo import checkpoints
from dimofs.zoo.detection.action_head import ActionHead, Standardize, pool
from dimofs.zoo.detection.action_localizer import ActionLocalizer, Stream, shared_with_pose, steadied, stream_width
from dimofs.zoo.detection.box_detector import Boxes
from dimofs.zoo.detection.features import Features, Geometry
from dimofs.zoo.presets import PRESETS, action_mobile, dimofs_mobile
from dimofs.zoo.training.actions import start

SQUARE = torch.tensor([[0.0, 0, 32, 32]])
GEOMETRY = Geometry(frame=(64, 64), resized=(64, 64), padded=(64, 64))
ALL = ("appearance", "dimofs@10", "steady@10", "difference@-3", "later@10", "pose@2")


def constant(*values: float, channels: int = 2) -> list[torch.Tensor]:
    """Levels P2..P5 of a 64-pixel input, each of one value."""
    return [torch.full((1, channels, 16 >> i, 16 >> i), float(value)) for i, value in enumerate(values)]


def test_stream_names():
    assert Stream.parse("appearance") == ("appearance", 0) and Stream.parse("dimofs@-5") == ("dimofs", -5)
    for wrong in ("", "dimofs", "appearance@5", "flow@5", "dimofs@", "dimofs@1.5", "dimofs@99999"):
        with pytest.raises(ValueError, match="stream"):
            Stream.parse(wrong)


def test_pooling_by_hand():
    """A ramp of a level's columns: cell i of P2 has the value i, and 32 pixels are its first eight cells."""
    ramp = torch.arange(16.0).expand(1, 1, 16, 16)
    levels = [ramp, *constant(0, 0, 0, channels=1)[1:]]
    # Three cells of the average of 7x7: bins 0-2, 2-4 and 4-6. A bin of 8/7 cells is centred on (i + 1/2) 8/7, and
    # RoIAlign without the half-cell correction reads index x where the cell's centre is x.
    centres = [(i + 0.5) * 8 / 7 for i in range(7)]
    expected = [sum(centres[i : i + 3]) / 3 for i in (0, 2, 4)]
    found = pool(levels, [SQUARE], 3).view(3, 3)
    torch.testing.assert_close(found, torch.tensor([expected] * 3))


def test_standardize_by_hand():
    standard = Standardize(3)
    standard.fit(torch.tensor([[1.0, 5, 2], [3, 5, 2]]))
    torch.testing.assert_close(standard(torch.tensor([[4.0, 5, 99]])), torch.tensor([[2.0, 0, 5]]))
    # Rounding is not spread out to the size of a signal.
    standard.fit(torch.tensor([[1e-6, 0, 0], [-1e-6, 0, 0]]))
    torch.testing.assert_close(standard(torch.tensor([[1e-6, 0, 0]])), torch.tensor([[1e-6, 0, 0]]))


def test_head_by_hand():
    """One number a stream; weights of one: relu keeps the second layer's sums, which class 1 reads."""
    head = ActionHead([1, 1], actions=1, hidden=1).eval()
    for part in head.modules():
        if isinstance(part, nn.Linear):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)
    logits, deltas = head([torch.tensor([[2.0]]), torch.tensor([[-3.0]])])
    assert logits.tolist() == [[2, 2]] and deltas.tolist() == [[2] * 4]


class Fixed(nn.Module):
    """Stands for backbone, RPN and box head: one person in the upper left quarter, with even odds."""

    def forward(self, *_):
        raise AssertionError("features are given")


def hand_made(head: ActionHead, streams: tuple[str, ...]) -> ActionLocalizer:
    """A localizer of two channels whose offset net adds up the differences of its channels."""
    whole = action_mobile(["wave", "sit"], min_size=64, max_size=64)
    offsets = whole.offset_net
    offsets.convs = nn.ModuleList(nn.Conv2d(2, 2, 1, bias=False) for _ in range(4))
    for conv in offsets.convs:
        conv.weight.data = torch.tensor([[1.0, 1.0], [2.0, 2.0]])[..., None, None]
    return ActionLocalizer(
        preprocess=whole.preprocess, backbone=Fixed(), offset_net=offsets, mixing=whole.mixing, rpn=whole.rpn,
        box_head=whole.box_head, keypoint_head=None, head=head, streams=streams, cells=1, action_names=["wave", "sit"],
    ).eval()  # fmt: skip


def test_the_cameras_motion_is_taken_out_by_hand():
    """Everything moves by (2, -1) and zooms, but for one cell that moves by (3, 4) more: a length of 5."""
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    field = torch.stack((2 + 0.5 * y, -1 + 0.5 * x))[None]
    field[0, :, 2, 5] += torch.tensor([3.0, 4])
    expected = torch.zeros(1, 3, 8, 8)
    expected[0, :, 2, 5] = torch.tensor([3.0, 4, 5])
    torch.testing.assert_close(steadied(field), expected, atol=0.02, rtol=0)
    # Each group of channels has its own camera.
    both = steadied(torch.cat((2 * field, field), dim=1))
    torch.testing.assert_close(both[:, [2, 3, 5]], steadied(field), atol=1e-5, rtol=0)


def test_localizer_by_hand(monkeypatch):
    """f_A = 3, f_B = 1 everywhere: appearance (3, 3), DiMoFs (4, 8), |f_A - f_B| (2, 2), f_B (1, 1).

    The head halves them and adds them up: 12. The first action gets twice that, the others 0; the box moves by a fifth
    of it, in tenths of its width.
    """
    head = ActionHead([2, 2, 2, 2], actions=2, hidden=2).eval()
    for part in head.modules():
        if isinstance(part, nn.Linear):
            nn.init.zeros_(part.bias)
            nn.init.eye_(part.weight) if part.in_features == 2 else nn.init.zeros_(part.weight)
    for standard in head.standardize:
        torch.nn.init.constant_(standard.spread, 2.0)  # type: ignore[arg-type]
    head.logits.weight.data[1] = 2
    head.deltas.weight.data[0] = 0.2
    model = hand_made(head, ("appearance", "dimofs@4", "difference@4", "later@4"))
    monkeypatch.setattr(model, "mixed", lambda features: features.levels)
    monkeypatch.setattr(model, "find_boxes", lambda *_, **__: [Boxes(SQUARE, torch.tensor([0.5]))])
    a, b = Features(constant(3, 3, 3, 3), GEOMETRY), Features(constant(1, 1, 1, 1), GEOMETRY)
    pooled = model.pooled(a, {4: b}, [SQUARE])
    assert [x.tolist() for x in pooled] == [[[3, 3]], [[4, 8]], [[2, 2]], [[1, 1]]]
    (found,) = model.detect(a, {4: b})
    torch.testing.assert_close(found.actions, torch.tensor([0.0, 24, 0]).softmax(0)[None, 1:])
    assert found.scores.tolist() == [0.5]
    shift = 0.2 * 12 / 10 * 32
    torch.testing.assert_close(found.boxes, torch.tensor([[shift, 0, 32 + shift, 32]]))
    torch.testing.assert_close(found.joint_scores, 0.5 * found.actions)


@pytest.fixture(scope="module")
def localizer() -> ActionLocalizer:
    torch.manual_seed(0)
    model = action_mobile(["wave", "sit", "run"], streams=ALL, min_size=96, max_size=96).eval()
    nn.init.normal_(model.box_head.logits.weight, std=0.2)
    for conv in model.offset_net.convs:  # type: ignore[union-attr]
        nn.init.normal_(conv.weight, std=0.02)  # type: ignore[arg-type]
    return model


def clip(count: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, 72, 96, generator=torch.Generator().manual_seed(count))


@torch.inference_mode()
def test_batched_equals_single(localizer):
    frames = clip(3)
    a, b, c, d = (localizer.features(x) for x in (frames, frames.flip(0), frames.roll(1, 0), frames * 0.5))
    others = dict(zip(localizer.deltas, (b, c, d), strict=True))
    for i, together in enumerate(localizer.detect(a, others)):
        (alone,) = localizer.detect(a[i : i + 1], {delta: f[i : i + 1] for delta, f in others.items()})
        assert len(together) > 0
        for field in ("boxes", "scores", "actions"):
            torch.testing.assert_close(getattr(together, field), getattr(alone, field), atol=1e-3, rtol=1e-3)


@torch.inference_mode()
def test_forward_takes_a_frame_for_each_delta(localizer):
    assert localizer.deltas == (-3, 2, 10)
    frame = clip()
    (found,) = localizer(frame, frame, frame, frame)
    torch.testing.assert_close(found.actions, localizer(frame)[0].actions)
    with pytest.raises(ValueError, match=r"1 frames B; expected one for each delta of \[-3, 2, 10\]"):
        localizer(frame, frame)
    assert localizer.detect(localizer.features(frame)[:0], {}) == []


@torch.inference_mode()
def test_without_motion_dimofs_and_displacements_are_zero(localizer):
    a = localizer.features(clip())
    pooled = dict(zip(ALL, localizer.pooled(a, {}, [SQUARE]), strict=True))
    assert not pooled["dimofs@10"].any() and not pooled["difference@-3"].any()
    assert torch.equal(pooled["later@10"], pooled["appearance"])
    pose = pooled["pose@2"].view(1, -1, 5)
    assert not pose[..., 2:4].any() and pose[..., :2].any()
    widths = [stream_width(Stream.parse(s), 64, 128, 19, localizer.cells) for s in ALL]
    assert widths == [x.shape[1] for x in pooled.values()]


@torch.inference_mode()
def test_people_are_those_of_the_pose_detector():
    torch.manual_seed(1)
    pose = dimofs_mobile(min_size=96, max_size=96).eval()
    nn.init.normal_(pose.box_head.logits.weight, std=0.2)
    model = action_mobile(["wave", "sit"], min_size=96, max_size=96).eval()
    missing, unexpected = model.load_state_dict(shared_with_pose(pose.state_dict()), strict=False)
    assert not unexpected and all(name.startswith("head.") for name in missing)
    a = model.features(clip())
    expected = pose.find_boxes(pose.align(a), a.geometry)
    torch.testing.assert_close(model.find_boxes(model.mixed(a), a.geometry)[0].boxes, expected[0].boxes)


def test_start_copies_a_shipped_detector_and_refuses_others(tmp_path):
    model = action_mobile(["wave", "sit"])
    head = {name: t.clone() for name, t in model.head.state_dict().items()}
    start(model, "dimofs_mobile_v2")
    shipped = checkpoints.load("dimofs_mobile_v2").state_dict()
    assert torch.equal(model.mixing[0].weight, shipped["deformable.convs.0.weight"])  # type: ignore[arg-type]
    assert torch.equal(model.backbone.fpn.output[0].weight, shipped["backbone.fpn.output.0.weight"])  # type: ignore
    assert all(torch.equal(t, model.head.state_dict()[name]) for name, t in head.items())
    checkpoints.save(dimofs_mobile(variant="pixel"), tmp_path / "other", {})
    with pytest.raises(InputError, match="has another shape of offset_net"):
        start(model, str(tmp_path / "other"))


def test_heads_alone_are_saved_above_their_base(tmp_path):
    model = action_mobile(["wave", "sit"], hidden=8).eval()
    with pytest.raises(InputError, match="dimofs_mobile_v2: has another backbone"):
        checkpoints.save(model, tmp_path / "heads", {}, base="dimofs_mobile_v2")
    start(model, "dimofs_mobile_v2")
    checkpoints.save(model, tmp_path / "heads", {}, base="dimofs_mobile_v2")
    assert (tmp_path / "heads/model.safetensors").stat().st_size < 2**17
    loaded = checkpoints.load_as(ActionLocalizer, tmp_path / "heads")
    assert loaded.action_names == ("wave", "sit")
    assert all(torch.equal(t, loaded.state_dict()[name]) for name, t in model.state_dict().items())


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (3, '"base" is not an object'),
        ({"weights": "nothing"}, "nothing: is no base"),
        ({"weights": "dimofs_mobile_v2", "sha256": "0"}, "was trained above other weights of dimofs_mobile_v2"),
        (None, "tensor .* is missing"),
    ],
)
def test_a_base_that_does_not_fit_is_refused(tmp_path, base, message):
    model = action_mobile(["wave", "sit"], hidden=8)
    start(model, "dimofs_mobile_v2")
    checkpoints.save(model, tmp_path / "heads", {}, base="dimofs_mobile_v2")
    config = json.loads((tmp_path / "heads/config.json").read_text())
    (tmp_path / "heads/config.json").write_text(json.dumps(config | {"base": base}))
    with pytest.raises(InputError, match=message):
        checkpoints.load(tmp_path / "heads")


def test_presets():
    assert {"action_mobile", "action_resnet101"} <= PRESETS.keys()
    with pytest.raises(ValueError, match="stream"):
        action_mobile(["wave"], streams=["flow@3"])
