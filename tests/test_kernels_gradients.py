"""Gradients of the kernels: the same bits on every run where determinism is asked for, and second derivatives."""

import pytest
import torch
from torch import Tensor

from dimofs.kernels import deform_conv2d, deform_sample, roi_align
from dimofs.kernels.deform_conv_torch import convolve_torch
from tests.test_kernels import device, randn, random_boxes, triton  # noqa: F401

ops = pytest.importorskip("torchvision.ops")

pytestmark = pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # of NumPy in the interpreter


@pytest.fixture
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def moving(scale: float):
    """deform_sample of offsets of that size: near ones are collected by Triton, far ones scattered in fixed point."""
    return lambda: (deform_sample, randn(1, 2, 7, 6), randn(1, 4, 7, 6, seed=1) * scale)


def convolving():
    function = lambda x, o, k, m: deform_conv2d(x, o, k, padding=(0, 1), mask=m)  # noqa: E731
    return function, randn(1, 4, 4, 3), randn(1, 8, 4, 4, seed=1), randn(2, 2, 1, 2, seed=2), randn(1, 4, 4, 4, seed=3)


def pooling():
    rois = torch.cat((torch.zeros(2, 1), random_boxes(2, 12, 12)), dim=1)
    return lambda x: roi_align(x, rois.to(x.device), 2, 0.5, 2), randn(1, 3, 6, 6)


OPERATORS = {"near": moving(0.4), "far": moving(9), "convolution": convolving, "pooling": pooling}


@pytest.mark.parametrize("operator", OPERATORS)
def test_gradients_repeat_to_the_bit(device, deterministic, operator):  # noqa: F811
    """Twice the same bits, and the value of the default path."""
    function, *inputs = OPERATORS[operator]()
    leaves = [t.to(device).requires_grad_() for t in inputs]
    flow = randn(*function(*leaves).shape, seed=9).to(device)
    first, second = (torch.autograd.grad(function(*leaves), leaves, flow) for _ in range(2))
    torch.use_deterministic_algorithms(False)
    default = torch.autograd.grad(function(*leaves), leaves, flow)
    for a, b, expected in zip(first, second, default, strict=True):
        assert a.ne(0).any() and torch.equal(a, b)
        torch.testing.assert_close(a, expected, atol=1e-5, rtol=1e-5)


def test_order_does_not_change_a_deterministic_gradient(triton, deterministic):  # noqa: F811
    """Far samples in reverse order of pixels, terms of very different size: fixed-point sums have no order."""
    generator = torch.Generator().manual_seed(0)
    x, target = randn(1, 1, 1, 12).to(triton).requires_grad_(), torch.randint(0, 12, (12,), generator=generator) + 0.25
    flow = 10 ** (randn(12, seed=1) * 3)
    gradients = []
    for order in (torch.arange(12), torch.arange(12).flip(0)):
        offset = torch.zeros(1, 2, 1, 12)
        offset[0, 1, 0] = target[order] - torch.arange(12)
        sampled = deform_sample(x, offset.to(triton))
        gradients.append(torch.autograd.grad(sampled, x, flow[order].view(1, 1, 1, 12).to(triton))[0])
    assert torch.equal(*gradients)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 3e38])
def test_offsets_that_are_not_finite_collect_nothing(device, deterministic, bad):  # noqa: F811
    x, offset = torch.ones(1, 2, 5, 5).to(device).requires_grad_(), torch.zeros(1, 4, 5, 5)
    offset[0, 1, 2, 2] = bad
    (gradient,) = torch.autograd.grad(deform_sample(x, offset.to(device)).sum(), x)
    expected = torch.ones(2, 5, 5)
    expected[0, 2, 2] = 0
    torch.testing.assert_close(gradient[0].cpu(), expected, atol=1e-5, rtol=0)


def test_a_collected_gradient_by_hand(device, deterministic):  # noqa: F811
    """Three pixels in a row, of which the last two move a quarter to the left: 1/4 and 3/4 of each arrive."""
    x, offset = torch.zeros(1, 1, 1, 3).to(device).requires_grad_(), torch.tensor([[0, 0, 0], [0, -0.25, -0.25]])
    flow = torch.tensor([1.0, 10, 100]).view(1, 1, 1, 3).to(device)
    (gradient,) = torch.autograd.grad(deform_sample(x, offset.view(1, 2, 1, 3).to(device)), x, flow)
    torch.testing.assert_close(gradient.flatten().cpu(), torch.tensor([1 + 2.5, 7.5 + 25, 75]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("operator", ["near", "convolution", "pooling"])
def test_second_derivatives(device, operator):  # noqa: F811
    function, *inputs = OPERATORS[operator]()
    leaves = [t[..., :3, :3] if t.shape[-1] > 3 and operator == "near" else t for t in inputs]
    leaves = [t.double().to(device).requires_grad_() for t in leaves]
    assert torch.autograd.gradgradcheck(function, leaves, fast_mode=True)


@pytest.mark.parametrize("count", [2, 40], ids=["few boxes", "many boxes"])
def test_pooling_few_or_many_boxes_has_derivatives(count):
    """Few boxes read the pixels that they need, many transpose the maps."""
    maps = [randn(2, 3, s, s).double().requires_grad_() for s in (12, 6)]
    boxes = [random_boxes(count, 48, 40), random_boxes(1, 48, 40, seed=1)]

    def function(*maps: Tensor) -> Tensor:
        return roi_align(maps, boxes, 1, (0.25, 0.125), 1, canonical_scale=32)

    assert torch.autograd.gradcheck(function, maps, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, maps, fast_mode=True)


def test_second_derivatives_of_a_float32_convolution(triton):  # noqa: F811
    """The kernel that keeps taps in registers, against the twin."""
    from dimofs.kernels.deform_conv_triton import convolve_triton

    results = []
    for place, convolve in (("cpu", convolve_torch), (triton, convolve_triton)):
        _, *inputs = convolving()
        x, offset, weight, mask = (t.to(place).requires_grad_() for t in inputs)
        out = convolve(x, offset, mask, weight, ((1, 2), (1, 1), (0, 1), (1, 1)))
        (flow,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
        results.append(torch.autograd.grad(flow.square().sum(), (x, offset, weight, mask)))
    for expected, actual in zip(*results, strict=True):
        torch.testing.assert_close(actual.cpu(), expected, rtol=1e-4, atol=1e-3)


def test_triton_sums_in_fixed_point_when_determinism_is_asked_for(triton):  # noqa: F811
    """Terms of very different size, twice in different order: equal bits, and torchvision's gradient."""
    torch.use_deterministic_algorithms(True)
    try:
        x, rois = randn(1, 2, 4, 4).to(triton).requires_grad_(), torch.tensor([[0, 0.0, 0, 4, 4], [0, 1, 1, 3, 4]])
        scale = torch.tensor([1e-3, 1e4])
        grads = []
        for order in ([0, 1], [1, 0]):
            pooled = roi_align(x, rois[order].to(triton), 2, 1.0, 2) * scale[order].view(2, 1, 1, 1).to(triton)
            grads.append(torch.autograd.grad(pooled.sum(), x)[0])
        offset = torch.zeros(1, 2, 4, 4, device=triton)
        torch.testing.assert_close(torch.autograd.grad(deform_sample(x, offset).sum(), x)[0], torch.ones_like(x))
        offset[0, 0, 0, 0] = 9  # far: this plane is scattered
        infinite = torch.autograd.grad(deform_sample(x, offset).sum() * torch.inf, x)[0]
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(*grads)
    leaf = x.detach().cpu().requires_grad_()
    expected = (ops.roi_align(leaf, rois, 2, 1.0, 2) * scale.view(2, 1, 1, 1)).sum()
    torch.testing.assert_close(grads[0].cpu(), torch.autograd.grad(expected, leaf)[0])
    assert infinite.isnan().all()
