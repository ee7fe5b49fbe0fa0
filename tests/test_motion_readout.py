"""The read-out of motion: by hand, beside a checkpoint, and in the detector."""

import warnings

import pytest
import torch

from dimofs.camera import affine_motion, median_motion
from dimofs.cli import InputError
from dimofs.zoo import checkpoints
from dimofs.zoo.detection.box_detector import mean_motion
from dimofs.zoo.detection.motion_readout import (
    READOUT,
    MotionReadout,
    in_pixels,
    length_maps,
    read_readout,
    write_readout,
)
from dimofs.zoo.detection.offsets import OffsetNet
from dimofs.zoo.detection.pyramid_matching import POOLS, matching_fields
from tests.support.tiny import PRESETS, tiny, tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")


def levels(seed: int, shift: int = 0, batch: int = 1, channels: int = 4) -> list[torch.Tensor]:
    """P2..P5, 32 x 32 to 4 x 4: blocks of noise, moved `shift` cells of P3 to the right."""
    noise = torch.randn(batch, channels, 16, 24, generator=torch.Generator().manual_seed(seed))
    p3 = noise[..., 4 - shift : 20 - shift]
    p2 = p3.repeat_interleave(2, 2).repeat_interleave(2, 3)
    return [p2, p3, torch.zeros(batch, channels, 8, 8), torch.zeros(batch, channels, 4, 4)]


def fields(size: int = 4, value: float = 1.0) -> list[torch.Tensor]:
    """DiMoFs of one group a level: (dy, dx) = value * (level number, 0)."""
    found = [torch.zeros(1, 2, size >> i or 1, size >> i or 1) for i in range(4)]
    for number, field in enumerate(found):
        field[:, 0] = value * number
    return found


# --- the linear map ---


def test_readout_by_hand():
    """dy of 1, 2 and 3 cells on P3, P4, P5 are 8, 32 and 96 pixels; dx reads P3's dy half, dy the sum of all."""
    weight = torch.zeros(2, 8)
    weight[0, 2] = 0.5
    weight[1, ::2] = 1.0
    read = MotionReadout(weight)(levels(0), levels(1), fields())
    assert read.shape == (1, 2, 4, 4)
    assert torch.equal(read[0, 0], torch.full((4, 4), 4.0)) and torch.equal(read[0, 1], torch.full((4, 4), 136.0))
    assert [level[0, 0, 0, 0].item() for level in in_pixels(fields())] == [0, 8, 32, 96]


def test_without_matching_it_is_antisymmetric_where_the_net_is():
    a, b = levels(0), levels(1)
    net = OffsetNet(4, zero=False)
    readout = MotionReadout(torch.randn(2, 32))
    there, back = readout(a, b, net(a, b)), readout(b, a, net(b, a))
    torch.testing.assert_close(there, -back)
    assert there.abs().max() > 0.01


def test_score_of_what_moves_by_hand():
    """Only the coarse mean of P2's own log length counts: what moves stands out, the constant field does not."""
    dimofs = [torch.zeros(1, 2, 32 >> i, 32 >> i) for i in range(4)]
    dimofs[0][:, :, :8, :8] = 3
    maps = length_maps(dimofs)
    assert [m.shape[1:] for m in maps] == [
        (2, 32, 32),
        (2, 16, 16),
        (2, 8, 8),
        (2, 4, 4),
        (2, 4, 4),
        (2, 4, 4),
        (2, 4, 4),
    ]
    assert all(m.mean(dim=(2, 3)).abs().max() < 1e-5 for m in maps)
    weights = torch.zeros(15)
    weights[0], weights[1 + 8] = 0.25, 2.0
    score = MotionReadout(torch.zeros(2, 8), None, weights).moving(dimofs)[0]
    inside = torch.tensor((3.0**2 * 2 * 16) ** 0.5 + 0.1).log() - torch.tensor(0.1).log()
    assert score[2, 2].item() == pytest.approx(0.25 + 2 * inside.item() * 15 / 16, rel=1e-4)
    assert score[-2, -2].item() == pytest.approx(0.25 - 2 * inside.item() / 16, rel=1e-4)
    with pytest.raises(ValueError, match="without masks"):
        MotionReadout(torch.zeros(2, 8)).moving(dimofs)


# --- matching ---


@pytest.mark.parametrize("shift", [1, 3])
def test_matching_finds_shifted_features(shift):
    found = matching_fields(levels(0, channels=16), levels(0, shift, channels=16)).unflatten(1, (-1, 2))
    assert found.shape == (1, len(POOLS), 2, 16, 16)
    inner = found[0, :, :, 4:12, 4:11].mean(dim=(2, 3))
    assert inner[:, 1].tolist() == pytest.approx([shift] * len(POOLS), abs=0.25)
    assert inner[:, 0].abs().max() < 0.25


def test_equal_frames_have_not_moved():
    a = levels(0)
    assert not matching_fields(a, a).any()
    repeated = [level.expand(3, -1, -1, -1) for level in a]
    later = levels(1, batch=3)
    torch.testing.assert_close(matching_fields(repeated, later)[1:2], matching_fields(a, [m[1:2] for m in later]))


# --- cameras ---


def test_affine_motion_is_found_beneath_a_moving_person():
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    camera = torch.stack((3 + 0.1 * x - 0.2 * y, -1 + 0.05 * y))
    flow = camera.clone()
    flow[:, 5:15, 8:16] += torch.tensor([9.0, -4.0])[:, None, None]
    error = (affine_motion(flow[None])[0] - camera).norm(dim=0).max()
    assert error < 0.1, "an eighth of the field moves by 10"
    assert affine_motion(torch.ones(2, 1, 5)).flatten().tolist() == pytest.approx([1] * 10, abs=1e-2)
    assert median_motion(flow[:, :3])[0].item() == flow[0, :3].median().item()


# --- in the detector and in files ---


def test_detector_without_readout_gives_the_mean_of_p2():
    """Displacements of 1 and 3 cells down on P2, 4 pixels each: 8 pixels of the input, twice that in the frame."""
    model = tiny_model().eval()
    a = model.features(torch.rand(1, 3, 128, 128))
    dimofs = [torch.zeros(1, 4, 16, 16), *(torch.zeros(1, 4, 8 >> i, 8 >> i) for i in range(3))]
    dimofs[0][:, 0], dimofs[0][:, 2] = 1, 3
    assert mean_motion(dimofs)[0, :, 5, 5].tolist() == [0, 8]
    vars(model.offset_net)["forward"] = lambda *_: dimofs
    (motion,) = model.motion(a, a)
    assert motion.flow[:, 3, 3].tolist() == [0, 16] and (motion.height, motion.width) == (128, 128)


def test_detector_uses_its_readout():
    model = tiny_model().eval()
    model.readout = MotionReadout(torch.randn(2, 64), torch.randn(2, 2 * len(POOLS)))
    a, b = (model.features(torch.rand(2, 3, 64, 64)) for _ in range(2))
    expected = model.readout(a.levels, b.levels, model.dimofs(a, b))
    assert torch.equal(torch.stack([motion.flow for motion in model.motion(a, b)]), expected)
    assert "readout" not in " ".join(model.state_dict())
    assert not model.motion(a, a)[0].flow.any()


@pytest.fixture
def saved(tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS, "tiny", tiny)
    model = tiny_model()
    checkpoints.save(model, tmp_path / "m", {})
    return model, tmp_path / "m"


def test_readouts_lie_beside_weights(saved):
    model, folder = saved
    write_readout(folder / READOUT, MotionReadout(torch.ones(2, 64), None, torch.ones(9)), model, {"fitted": "here"})
    readout = checkpoints.load(folder).readout
    assert isinstance(readout, MotionReadout) and readout.matching is None and readout.mask is not None
    assert torch.equal(readout.dimofs, torch.ones(2, 64)) and torch.equal(readout.mask, torch.ones(9))
    half = folder.with_name("half")
    checkpoints.save(checkpoints.load(folder), half, {}, half=True)
    (half / READOUT).write_bytes((folder / READOUT).read_bytes())
    assert checkpoints.load(half).readout is not None, "weights stored as float16 are the same"


def test_readout_of_other_weights_is_left_out(saved):
    model, folder = saved
    write_readout(folder / READOUT, MotionReadout(torch.ones(2, 64)), model, {})
    with torch.no_grad():
        model.offset_net.convs[2].weight[0, 0, 0, 0] = 1
    checkpoints.save(model, folder, {})
    with pytest.warns(UserWarning, match="fitted to other weights"):
        assert checkpoints.load(folder).readout is None
    (folder / READOUT).unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert checkpoints.load(folder).readout is None


def test_damaged_readouts(saved):
    model, folder = saved
    (folder / READOUT).write_bytes(b"x" * 100)
    with pytest.raises(InputError, match="damaged or not a safetensors file"):
        checkpoints.load(folder)
    write_readout(folder / READOUT, MotionReadout(torch.full((2, 64), torch.nan)), model, {})
    with pytest.raises(InputError, match="not those of a motion read-out"):
        read_readout(folder / READOUT, model)
