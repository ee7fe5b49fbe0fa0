"""Local correlation: a hand-computed case, then the twin and Triton against the plain formula."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dimofs.kernels import correlate
from tests.test_kernels import assert_same, device, randn, triton  # noqa: F401

NAN = float("nan")


def unfolded(a: Tensor, b: Tensor, radius: int) -> Tensor:
    """The formula with every neighbourhood laid out in memory."""
    n, c, h, w = a.shape
    span = 2 * radius + 1
    return (F.unfold(b, span, padding=radius).view(n, c, span * span, h, w) * a[:, :, None]).sum(1)


def test_by_hand(device):  # noqa: F811
    """Two channels, one row of two pixels: what lies above, below or beyond the row counts as 0."""
    a = torch.tensor([[1.0, 2], [10, 20]]).view(1, 2, 1, 2)
    b = torch.tensor([[3.0, 4], [5, 6]]).view(1, 2, 1, 2)
    out = correlate(a.to(device), b.to(device), 1)[0, :, 0].cpu()
    assert out.shape == (9, 2)
    assert out[3].tolist() == [0, 2 * 3 + 20 * 5]  # one to the left
    assert out[4].tolist() == [1 * 3 + 10 * 5, 2 * 4 + 20 * 6]  # the pixel itself
    assert out[5].tolist() == [1 * 4 + 10 * 6, 0]  # one to the right
    assert not out[[0, 1, 2, 6, 7, 8]].any()


@pytest.mark.parametrize(
    ("n", "c", "h", "w", "radius"),
    [(2, 3, 3, 5, 1), (1, 20, 2, 35, 1), (1, 1, 1, 1, 3), (1, 2, 2, 66, 2), (2, 4, 6, 3, 0), (1, 2, 4, 2, 3)],
    ids=lambda v: str(v),
)
def test_is_the_formula(device, n, c, h, w, radius):  # noqa: F811
    maps = {"a": randn(n, c, h, w), "b": randn(n, c, h, w, seed=1)}
    assert_same(lambda a, b: correlate(a, b, radius), lambda a, b: unfolded(a, b, radius), device, **maps)


def test_moved_features_peak_at_the_displacement(device):  # noqa: F811
    """b is a moved by (2, -1): inside, the largest correlation is at that displacement for every pixel."""
    a = F.normalize(randn(1, 16, 6, 40), dim=1)
    b = a.roll((2, -1), dims=(2, 3))
    best = correlate(a.to(device), b.to(device), 2).argmax(dim=1).cpu()
    assert (best[0, 2:-2, 2:-2] == (2 + 2) * 5 + (-1 + 2)).all()


def test_swapping_the_maps_turns_the_displacement(device):  # noqa: F811
    a, b = randn(1, 3, 6, 40).to(device), randn(1, 3, 6, 40, seed=1).to(device)
    there, back = correlate(a, b, 2), correlate(b, a, 2)
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            one = there[:, (dy + 2) * 5 + dx + 2, 2:-2, 2:-2]
            other = back[:, (2 - dy) * 5 + 2 - dx, 2 + dy : 4 + dy, 2 + dx : 38 + dx]
            torch.testing.assert_close(one, other)


def test_batched_is_single(device):  # noqa: F811
    a, b = randn(3, 4, 2, 33).to(device), randn(3, 4, 2, 33, seed=1).to(device)
    single = torch.cat([correlate(a[i : i + 1], b[i : i + 1], 1) for i in range(3)])
    torch.testing.assert_close(correlate(a, b, 1), single, atol=1e-5, rtol=1e-5)


def test_any_memory_layout(device):  # noqa: F811
    a, b = randn(1, 4, 5, 6).to(device), randn(1, 4, 5, 6, seed=1).to(device)
    expected = correlate(a, b, 1)
    strided = correlate(a.contiguous(memory_format=torch.channels_last), b.transpose(2, 3).contiguous().mT, 1)
    torch.testing.assert_close(strided, expected)


def test_nan_stays_in_its_cells(device):  # noqa: F811
    """A NaN of a in its pixel alone, one of b wherever a displacement leads there."""
    a, b = randn(1, 2, 4, 40), randn(1, 2, 4, 40, seed=1)
    expected = unfolded(a, b, 1)
    a[0, 0, 0, 0] = b[0, 1, 2, 5] = NAN
    out = correlate(a.to(device), b.to(device), 1).cpu()
    bad = torch.zeros_like(expected, dtype=torch.bool)
    bad[:, :, 0, 0] = True
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            bad[:, (dy + 1) * 3 + dx + 1, 2 - dy, 5 - dx] = True
    assert torch.equal(out.isnan(), bad)
    torch.testing.assert_close(out[~bad], expected[~bad], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (1, 0, 4, 5), (1, 3, 0, 5), (1, 3, 4, 0)], ids=str)
def test_empty(device, shape):  # noqa: F811
    a, b = torch.ones(shape, device=device, requires_grad=True), torch.ones(shape, device=device, requires_grad=True)
    out = correlate(a, b, 1)
    assert out.shape == (shape[0], 9, *shape[2:]) and not out.any()
    assert all(g.shape == shape for g in torch.autograd.grad(out.sum(), (a, b)))


def test_second_derivatives(device):  # noqa: F811
    a, b = (randn(1, 2, 2, 3, seed=s).double().to(device).requires_grad_() for s in (0, 1))
    assert torch.autograd.gradcheck(lambda a, b: correlate(a, b, 1), (a, b), fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda a, b: correlate(a, b, 1), (a, b), fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_near(dtype):
    a, b = randn(1, 64, 4, 8), randn(1, 64, 4, 8, seed=1)
    out = correlate(a.to(dtype), b.to(dtype), 1)
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), unfolded(a, b, 1), atol=0.4, rtol=0.02)


@pytest.mark.parametrize(
    ("a", "b", "radius", "words"),
    [
        (torch.ones(1, 2, 3, 3), torch.ones(1, 2, 3, 4), 1, "one shape"),
        (torch.ones(1, 2, 3, 3), torch.ones(1, 2, 3, 3).double(), 1, "one floating type"),
        (torch.ones(2, 3, 3), torch.ones(2, 3, 3), 1, r"\[N, C, H, W\]"),
        (torch.ones(1, 2, 3, 3).int(), torch.ones(1, 2, 3, 3).int(), 1, "floating"),
        (torch.ones(1, 2, 3, 3), torch.ones(1, 2, 3, 3), -1, "radius is -1"),
    ],
    ids=["shapes", "types", "dimensions", "integers", "radius"],
)
def test_what_does_not_fit_is_told(a, b, radius, words):
    with pytest.raises(ValueError, match=words):
        correlate(a, b, radius)


def test_it_is_an_operator_and_traces_whole():
    pytest.importorskip("triton")
    from dimofs.kernels.correlate_triton import correlate_maps

    a, b = (randn(1, 2, 2, 3, seed=s).requires_grad_() for s in (0, 1))
    torch.library.opcheck(correlate_maps, (a, b, 1))
    compiled = torch.compile(lambda a, b: correlate(a, b, 1).square(), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(a, b), correlate(a, b, 1).square())
