"""Offset nets that only align: `CoarseToFine`, `Matching`, displacement fields, the deformable layer's border."""

import pytest
import torch

from dimofs.zoo.detection.coarse_to_fine import CoarseToFine, alignment
from dimofs.zoo.detection.fields import displacements, enlarged, kept_on_map, reduced
from dimofs.zoo.detection.matching import Differences, Matching
from dimofs.zoo.detection.offsets import DeformableLayer, OffsetNet
from dimofs.zoo.presets import VARIANTS, motion_parts

ALIGNING = [name for name, variant in VARIANTS.items() if variant.kind is CoarseToFine]


def pyramid(seed: int, height: int = 32, width: int = 32, channels: int = 8) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(2, channels, height // 2**i, width // 2**i, generator=random) for i in range(4)]


def test_displacements_stay_on_the_map():
    """Of a map of 3 x 4 cells: what leads beyond the first or the last row or column is cut there."""
    field = torch.zeros(1, 2, 3, 4)
    field[0, :, 1, 2] = torch.tensor([-5.0, 5.0])
    field[0, :, 2, 0] = torch.tensor([1.0, 0.5])
    kept = kept_on_map(field)
    assert kept[0, :, 1, 2].tolist() == [-1, 1]
    assert kept[0, :, 2, 0].tolist() == [0, 0.5]
    assert torch.equal(kept_on_map(field.repeat(1, 3, 1, 1)), kept.repeat(1, 3, 1, 1))


def test_fields_change_their_level():
    field = torch.tensor([2.0, -4.0])[None, :, None, None].expand(1, 2, 4, 6)
    assert torch.equal(enlarged(field, (8, 12)), 2 * torch.tensor([2.0, -4.0])[None, :, None, None].expand(1, 2, 8, 12))
    assert torch.equal(reduced(field, (2, 3)), torch.tensor([1.0, -2.0])[None, :, None, None].expand(1, 2, 2, 3))


def test_displacements_are_read_in_pixels():
    """Cells of 4 pixels; the centre of cell (row 1, column 2) is (10, 6). Two groups are averaged."""
    field = torch.zeros(4, 3, 4)
    field[:, 1, 2] = torch.tensor([1.0, 2.0, 3.0, 6.0])
    moved = displacements(field, torch.tensor([[10.0, 6.0], [8.0, 6.0], [0.0, 0.0], [99.0, 99.0]]), 4)
    assert moved.tolist() == [[16, 8], [8, 4], [0, 0], [0, 0]]


@pytest.mark.parametrize("dy, dx", [(0, 0), (2, -3), (-1, 4)])
def test_matching_finds_the_shift(dy, dx):
    """B is A shifted: far from the borders the guess is the shift, and the likeness is 1 there."""
    torch.manual_seed(0)
    a = torch.randn(1, 16, 20, 20)
    b = a.roll((dy, dx), dims=(2, 3))
    found = Matching(16, width=16, radius=5)(a, b)
    inside = found.guess[:, :, 6:-6, 6:-6]
    wanted = torch.tensor([dy, dx], dtype=torch.float32)[None, :, None, None].expand_as(inside)
    torch.testing.assert_close(inside, wanted, atol=0.05, rtol=0)
    torch.testing.assert_close(found.likeness[:, 1, 6:-6, 6:-6], torch.ones(1, 8, 8), atol=1e-3, rtol=0)


def test_the_guess_is_the_mean_displacement():
    """Two equal cosines at (0, 0) and (0, 1), all else far below, without a pull: half a cell to the right."""
    matching = Matching(4, width=4, radius=1)
    with torch.no_grad():
        matching.logs.copy_(torch.tensor([40.0, 1e-9]).log())
    cosines = torch.full((1, 9, 1, 1), -1.0)
    cosines[0, [4, 5]] = 1.0
    torch.testing.assert_close(matching.expected(cosines)[0, :, 0, 0], torch.tensor([0.0, 0.5]))
    with torch.no_grad():
        matching.logs.copy_(torch.tensor([40.0, 2.0]).log())
    pulled = 1 / (1 + torch.tensor(2.0).exp())
    torch.testing.assert_close(matching.expected(cosines)[0, 1, 0, 0], pulled, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", [lambda: Matching(8, width=8, radius=2), lambda: Differences(8, width=8)])
def test_equal_maps_give_no_evidence(kind):
    a = torch.randn(2, 8, 5, 7)
    found = kind()(a, a)
    for values in (found.evidence, found.guess):
        torch.testing.assert_close(values, torch.zeros_like(values), atol=1e-6, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("variant", ALIGNING)
def test_equal_frames_have_not_moved_and_fields_fit_every_level(variant):
    torch.manual_seed(0)
    net = motion_parts(8, variant)["offset_net"]
    for parameter in net.parameters():
        parameter.add_(0.03 * torch.randn_like(parameter))
    a, b = pyramid(1), pyramid(2)
    moved = net(a, b)
    groups = 8 if variant == "deviating" else 1
    assert [tuple(field.shape) for field in moved] == [(2, 2 * groups, 32 >> i, 32 >> i) for i in range(4)]
    assert all(field.abs().max() > 0.01 for field in moved)
    for field in net(a, a):
        torch.testing.assert_close(field, torch.zeros_like(field), atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_shifted_pyramid_gives_the_shift_on_every_level():
    """The picture moves by 8 cells of P2, which are 4 of P3 and 2 of P4, down and to the left."""
    torch.manual_seed(0)
    net = CoarseToFine(16, confident=False)
    fine = torch.randn(1, 16, 96, 96)
    fine = torch.nn.functional.avg_pool2d(fine, 9, stride=1, padding=4)
    a, b = fine, fine.roll((8, -8), dims=(2, 3))
    levels = [[torch.nn.functional.avg_pool2d(x, 2**i) for i in range(4)] for x in (a, b)]
    for number, field in enumerate(net(*levels)):
        shift = 8 / 2**number
        middle = field[0, :, field.shape[2] // 3 : -(field.shape[2] // 3), field.shape[3] // 3 : -(field.shape[3] // 3)]
        assert abs(middle[0].median() - shift) < 0.15 * shift and abs(middle[1].median() + shift) < 0.15 * shift


@torch.no_grad()
def test_a_deviation_never_exceeds_its_bound():
    torch.manual_seed(0)
    net = CoarseToFine(8, deviation=0.5)
    assert net.deviate is not None
    net.deviate.weight.normal_(std=1e3)
    found = net.align(pyramid(1), pyramid(2))
    assert found.confidence is not None
    shared = found.confidence.sigmoid() * found.steps[-1]
    deviation = found.dimofs[1].unflatten(1, (8, 2)) - shared[:, None]
    assert 0.45 < deviation.abs().max() <= 0.5001


@torch.no_grad()
def test_without_confidence_nothing_moves():
    net = CoarseToFine(8)
    assert net.confidence is not None
    torch.nn.init.constant_(net.confidence.bias, -100.0)  # type: ignore[arg-type]
    assert all(field.abs().max() < 1e-20 for field in net(pyramid(1), pyramid(2)))


def test_a_border_takes_the_place_of_zeros():
    """A ramp of columns 0..3, sampled three columns to the right: 3 at the border, or 0 beyond it."""
    ramp = torch.arange(4.0).expand(1, 1, 2, 4)
    right = torch.tensor([0.0, 3.0])[None, :, None, None].expand(1, 2, 2, 4)
    layers = [DeformableLayer(1, 1, mixing=False, border=border) for border in (True, False)]
    found = torch.stack([layer([ramp], [right])[0][0, 0, 0] for layer in layers])
    torch.testing.assert_close(found, torch.tensor([[3.0, 3, 3, 3], [3, 0, 0, 0]]), atol=1e-5, rtol=0)


def test_every_part_of_an_aligning_net_learns():
    """From where points go and from whether the scene is one; the confidence only from the latter."""
    net = CoarseToFine(8, deviation=1.0)
    for step in net.steps:
        torch.nn.init.normal_(step.residual.weight, std=0.1)  # type: ignore[union-attr, arg-type]
        torch.nn.init.normal_(step.source.embed.context.weight, std=0.1)  # type: ignore[union-attr, arg-type]
    found = net.align(pyramid(1), pyramid(2))
    assert found.confidence is not None
    sum(field.square().sum() for field in found.dimofs).backward(retain_graph=True)  # type: ignore[union-attr]
    silent = {name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()}
    assert silent == {name for name, _ in net.named_parameters() if "similar" in name or name.startswith("confidence")}
    found.confidence.sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_any_offset_net_gives_an_alignment():
    found = alignment(OffsetNet(8), pyramid(1), pyramid(2))
    assert len(found.dimofs) == 4 and found.confidence is None and not found.steps


@torch.no_grad()
def test_autocast_and_single_precision_agree():
    torch.manual_seed(0)
    net = CoarseToFine(8)
    a, b = pyramid(1), pyramid(2)
    exact = net(a, b)
    with torch.autocast("cpu", torch.bfloat16):
        rough = net(a, b)
    for x, y in zip(exact, rough, strict=True):
        assert (x - y.float()).abs().mean() < 0.1 * x.abs().mean()
