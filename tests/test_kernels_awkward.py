"""Kernels on awkward input: boxes beyond the map, giant boxes, values that are not finite, empty and bad shapes."""

import importlib
import time

import pytest
import torch
from torch import Tensor

from dimofs.kernels import batched_nms, deform_conv2d, deform_sample, roi_align
from tests.test_kernels import device, pooling, randn, triton  # noqa: F401

ops = pytest.importorskip("torchvision.ops")
# NumPy warns of values that are not finite in Triton's interpreter.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
NAN, INF = float("nan"), float("inf")


def both(features: Tensor, rois: Tensor, place: str, size: int | tuple[int, int], ratio: int, aligned: bool = False):
    """Results and gradients of ours on `place`, and of torchvision on the CPU."""
    found = []
    for function, where in ((roi_align, place), (ops.roi_align, "cpu")):
        leaf = features.to(where, copy=True).requires_grad_()
        pooled = function(leaf, rois.to(where), size, 1.0, ratio, aligned)
        found += [pooled.detach().cpu(), torch.autograd.grad(pooled.sum(), leaf)[0].cpu()]
    return found


# roi_align: boxes


@pytest.mark.parametrize("ratio", [-1, 1, 2])
def test_boxes_that_miss_the_map_pool_zero_and_send_no_gradient(pooling, ratio):  # noqa: F811
    """The first spans far more than the map, and none of its samples lies on it; the second lies beside it."""
    features = torch.ones(1, 2, 40, 30, device=pooling, requires_grad=True)
    boxes = [[0, -400.0, -338, 2000, 2169], [0, 100, 100, 130, 120]]
    rois = torch.tensor(boxes[ratio == -1 :], device=pooling)
    pooled = roi_align(features, rois, (1, 3), 1.0, ratio)
    (gradient,) = torch.autograd.grad(pooled.sum(), features)
    assert pooled.eq(0).all() and gradient.eq(0).all() and gradient.shape == features.shape


def test_a_giant_box_takes_the_mean_of_its_samples_by_hand(pooling):  # noqa: F811
    """2000 samples along each axis, a pixel apart from -999.5 on: -0.5, 0.5, ... 3.5, five of them, read the map."""
    features = torch.ones(1, 1, 4, 4, device=pooling, requires_grad=True)
    pooled = roi_align(features, torch.tensor([[0, -1000.0, -1000, 1000, 1000]], device=pooling), 1)
    assert pooled.item() == pytest.approx((5 / 2000) ** 2)
    (gradient,) = torch.autograd.grad(pooled, features)
    assert gradient.sum().item() == pytest.approx((5 / 2000) ** 2)


@pytest.mark.parametrize("count", [1, 9])
def test_adaptive_sampling_of_giant_boxes_ends(pooling, count):  # noqa: F811
    """Boxes of up to 1e38 pixels, among ordinary ones whose values they do not change."""
    features = randn(1, 2, 6, 5)
    ordinary = torch.tensor([[0, 0.5, 0.5, 4.5, 3.5]])
    giant = torch.tensor([[0, -s, -s / 2, s, s] for s in (1e5, 1e9, 1e20, 1e38)]).repeat(count, 1)
    start = time.monotonic()
    pooled = roi_align(features.to(pooling), torch.cat((ordinary, giant, ordinary)).to(pooling), 2).cpu()
    assert time.monotonic() - start < 60
    assert pooled.isfinite().all() and pooled[1:-1].abs().max() < 1e-3
    torch.testing.assert_close(pooled[[0, -1]], ops.roi_align(features, ordinary.repeat(2, 1), 2))


def test_large_boxes_are_torchvisions(pooling):  # noqa: F811
    """Up to 90 x 90 samples a bin, of which most lie outside."""
    features = randn(2, 2, 6, 7)
    rois = torch.tensor([[0, -70.0, -80, 110, 100], [1, 2, 1, 5, 4], [1, -3, -90, 8, 90]])
    ours, gradient, theirs, expected = both(features, rois, pooling, 2, -1)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradient, expected)


def test_samples_on_the_border_of_the_map_are_torchvisions(pooling, request):  # noqa: F811
    """Thirds are not exact: whether a sample counts, at -1 and at the size of the map, hangs on the last bit."""
    x1, y1 = torch.meshgrid(torch.arange(-6.0, 3), torch.arange(-5.0, 4), indexing="ij")
    x1, y1 = x1.flatten(), y1.flatten()
    rois = torch.stack((x1 * 0, x1 / 3, y1 / 3, x1 / 3 + 7, y1 / 3 + 5), dim=1)
    if "triton" in request.node.name and pooling == "cpu":
        # Triton's interpreter takes milliseconds for each sample.
        rois = rois[::9]
    ours, gradient, theirs, expected = both(torch.ones(1, 1, 5, 6), rois, pooling, (3, 5), 1)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("index", [-1, 2, 99, NAN, INF], ids=str)
def test_an_image_index_out_of_range_is_an_error(pooling, index):  # noqa: F811
    features = torch.zeros(2, 1, 4, 4, device=pooling)
    rois = torch.tensor([[0, 0.0, 0, 2, 2], [index, 0, 0, 2, 2]], device=pooling)
    with pytest.raises(ValueError, match=f"image index {index} is out of range, there are 2 images"):
        roi_align(features, rois, 2)
    with pytest.raises(ValueError, match=r"image index .* is out of range, there are 0 images"):
        roi_align(features[:0], rois[:1], 2)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_list_of_boxes_for_other_images_is_an_error(pooling, count):  # noqa: F811
    box = torch.tensor([[0.0, 0, 2, 2]], device=pooling)
    with pytest.raises(ValueError, match=f"boxes of {count} images: there are 2 images"):
        roi_align(torch.zeros(2, 1, 4, 4, device=pooling), [box] * count, 2)


# roi_align: values


def test_values_that_are_not_finite_stay_in_their_cells_by_hand(pooling):  # noqa: F811
    """Four bins sample columns 0.9, 1.9, 2.9 and 3.9. Column 0 is read by the first, column 3 by the last two.

    The second box lies outside, the third does not read what is not finite.
    """
    features = torch.tensor([NAN, 0, 0, INF, 0, 0, 0], device=pooling).expand(1, 1, 3, 7)
    rois = torch.tensor([[0, 0.4, 0.3, 4.4, 1.3], [0, 50, 50, 54, 51], [0, 4.1, 0.3, 5.4, 1.3]], device=pooling)
    pooled = roi_align(features, rois, (1, 4), 1.0, 1)[:, 0, 0].cpu()
    assert pooled[0].isnan().tolist() == [True, False, False, False]
    assert pooled[0, 1:].tolist() == [0, INF, INF]
    assert pooled[1:].eq(0).all()


@pytest.mark.parametrize("ratio", [-1, 2])
def test_nan_reaches_the_bins_and_pixels_of_torchvision(pooling, ratio):  # noqa: F811
    features = randn(1, 2, 7, 8)
    features[0, 1, 4, 5] = NAN
    rois = torch.tensor([[0, 0.3, 0.2, 7.3, 6.1], [0, 2.2, 1.1, 5.4, 3.2], [0, 6.3, 5.1, 30.2, 20.7]])
    results = []
    for function, place in ((roi_align, pooling), (ops.roi_align, "cpu")):
        leaf = features.to(place, copy=True).requires_grad_()
        pooled = function(leaf, rois.to(place), 3, 1.0, ratio)
        flow = torch.ones_like(pooled)
        flow[1, 0, 2, 0] = NAN
        results.append([pooled.detach().cpu(), torch.autograd.grad(pooled, leaf, flow)[0].cpu()])
    for ours, theirs in zip(*results, strict=True):
        assert theirs.isnan().any() and not theirs.isnan().all()
        torch.testing.assert_close(ours, theirs, equal_nan=True)


def test_no_channels_pool_to_nothing_and_still_train(pooling):  # noqa: F811
    for maps in ([torch.zeros(1, 0, 6, 6)], [torch.zeros(1, 0, 6, 6), torch.zeros(1, 0, 3, 3)]):
        leaves = [m.to(pooling).requires_grad_() for m in maps]
        rois = torch.tensor([[0, 1.0, 1, 4, 4], [0, 9, 9, 30, 30]], device=pooling)
        for ratio in (-1, 2):
            pooled = roi_align(leaves, rois, (2, 3), [1.0, 0.5][: len(maps)], ratio)
            assert pooled.shape == (2, 0, 2, 3)
            assert [g.shape for g in torch.autograd.grad(pooled.sum(), leaves)] == [m.shape for m in maps]


REFUSED = {
    "no maps": (lambda x, r: ([], r, 2, []), "0 feature maps"),
    "three axes": (lambda x, r: (x[0], r, 2), r"features \[3, 4, 5\] do not fit"),
    "no pixels": (lambda x, r: (x[:, :, :0], r, 2), r"features \[1, 3, 0, 5\] do not fit"),
    "integers": (lambda x, r: (x.int(), r, 2), "features of torch.int32"),
    "other channels": (lambda x, r: ([x, x[:, :2]], r, 2, [1, 0.5]), "differ in images or channels"),
    "other types": (lambda x, r: ([x, x.double()], r, 2, [1, 0.5]), "expected one floating point dtype"),
    "scale 0": (lambda x, r: (x, r, 2, 0), "spatial_scale"),
    "scale NaN": (lambda x, r: (x, r, 2, NAN), "spatial_scale"),
    "no bins": (lambda x, r: (x, r, (2, 0)), "output_size"),
    "flat boxes": (lambda x, r: (x, r[0], 2), r"boxes \[5\] do not fit"),
    "rows in a list": (lambda x, r: (x, [r], 2), r"boxes \[1, 5\] do not fit"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_roi_align_says_what_it_expects(name):
    arguments, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        roi_align(*arguments(torch.zeros(1, 3, 4, 5), torch.zeros(1, 5)))


def test_an_empty_list_of_boxes_pools_to_nothing():
    assert roi_align(torch.zeros(0, 3, 4, 4), [], 2).shape == (0, 3, 2, 2)


# deform_sample and deform_conv2d


@pytest.mark.parametrize("shape", [(1, 0, 3, 3), (1, 2, 0, 3), (0, 2, 3, 3)], ids=str)
def test_nothing_is_sampled_and_gradients_are_zero(device, shape):  # noqa: F811
    x = torch.zeros(shape, device=device, requires_grad=True)
    offset = torch.zeros(shape[0], 2, *shape[2:], device=device, requires_grad=True)
    out = deform_sample(x, offset)
    grads = torch.autograd.grad(out.sum(), (x, offset))
    assert out.shape == x.shape and all(g.eq(0).all() for g in grads)


def test_a_convolution_of_no_channels_is_its_bias(device):  # noqa: F811
    x, offset = torch.zeros(1, 0, 4, 4, device=device), torch.zeros(1, 18, 2, 2, device=device)
    weight, bias = torch.zeros(3, 0, 3, 3, device=device), torch.tensor([1.0, 2, 3], device=device)
    leaves = x, offset, weight, bias = tuple(t.requires_grad_() for t in (x, offset, weight, bias))
    out = deform_conv2d(x, offset, weight, bias)
    assert out[0, :, 0, 0].tolist() == [1, 2, 3] and out.shape == (1, 3, 2, 2)
    grads = torch.autograd.grad(out.sum(), leaves)
    assert grads[1].eq(0).all() and grads[3].tolist() == [4, 4, 4]


@pytest.mark.parametrize("bad", [NAN, INF, -INF, 1e9, 3e38])
def test_a_convolution_reads_nothing_at_offsets_that_are_not_finite(device, bad):  # noqa: F811
    """One of nine taps of ones is lost, at one pixel."""
    offset = torch.zeros(1, 18, 1, 2)
    offset[0, 4, 0, 1] = bad
    x, weight = torch.ones(1, 1, 3, 4).to(device).requires_grad_(), torch.ones(1, 1, 3, 3, device=device)
    offset = offset.to(device).requires_grad_()
    out = deform_conv2d(x, offset, weight)
    torch.testing.assert_close(out.flatten().cpu(), torch.tensor([9.0, 8]), rtol=0, atol=1e-4)
    assert all(g.isfinite().all() for g in torch.autograd.grad(out.sum(), (x, offset)))


SHAPES = {"input": (1, 4, 5, 5), "offset": (1, 18, 3, 3), "weight": (2, 4, 3, 3), "bias": (2,), "mask": (1, 9, 3, 3)}
CONVOLVED = {
    "input of 3 axes": ({"input": torch.zeros(4, 5, 5)}, "input .* does not fit: expected 4 axes"),
    "small input": ({"input": torch.zeros(1, 4, 2, 5)}, "input .* smaller than the kernel"),
    "integers": ({"offset": torch.zeros(1, 18, 3, 3).int()}, "offset of torch.int32"),
    "weight without channels": ({"weight": torch.zeros(2, 0, 3, 3)}, "weight .* does not fit an input of 4 channels"),
    "empty kernel": ({"weight": torch.zeros(2, 4, 0, 3)}, "expected at least 1"),
    "bias": ({"bias": torch.zeros(3)}, r"bias \[3\] does not fit: expected \[2\]"),
    "stride": ({"stride": 0}, "expected at least 1"),
    "padding": ({"padding": -1}, "and 0 for the padding"),
}


@pytest.mark.parametrize("name", CONVOLVED)
def test_deform_conv2d_says_what_it_expects(name):
    changed, message = CONVOLVED[name]
    inputs = {field: torch.zeros(shape) for field, shape in SHAPES.items()}
    with pytest.raises(ValueError, match=message):
        deform_conv2d(**inputs | changed)


def test_deform_sample_says_what_it_expects():
    with pytest.raises(ValueError, match=r"expected \[N, C, H, W\]"):
        deform_sample(torch.zeros(4, 5, 5), torch.zeros(1, 2, 5, 5))
    with pytest.raises(ValueError, match="expected floating point"):
        deform_sample(torch.zeros(1, 4, 5, 5).int(), torch.zeros(1, 2, 5, 5))


# batched_nms


def test_scores_that_are_nan_come_first(device):  # noqa: F811
    """As torchvision sorts them."""
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 3.9], [9, 9, 12, 12]], device=device)
    scores, classes = torch.tensor([0.9, NAN, INF], device=device), torch.zeros(3, dtype=torch.int64, device=device)
    assert batched_nms(boxes, scores, classes, 0.5).tolist() == [1, 2]


SUPPRESSED = {
    "flat boxes": ((torch.zeros(4), torch.zeros(1), torch.zeros(1)), 0.5, r"boxes \[4\] do not fit: expected \[K, 4\]"),
    "five columns": ((torch.zeros(2, 5), torch.zeros(2), torch.zeros(2)), 0.5, "boxes .* do not fit"),
    "scores": ((torch.zeros(2, 4), torch.zeros(3), torch.zeros(2)), 0.5, r"scores \[3\] do not fit: expected \[2\]"),
    "classes": ((torch.zeros(2, 4), torch.zeros(2), torch.zeros(2, 1)), 0.5, r"idxs \[2, 1\] do not fit"),
    "below 0": ((torch.zeros(2, 4), torch.zeros(2), torch.zeros(2)), -0.1, "iou_threshold -0.1"),
    "NaN": ((torch.zeros(2, 4), torch.zeros(2), torch.zeros(2)), NAN, "iou_threshold nan"),
}


@pytest.mark.parametrize("name", SUPPRESSED)
def test_batched_nms_says_what_it_expects(name):
    tensors, threshold, message = SUPPRESSED[name]
    with pytest.raises(ValueError, match=message):
        batched_nms(*tensors, threshold)


# all of them


@pytest.mark.parametrize("seed", range(12))
def test_random_awkward_boxes_are_torchvisions(monkeypatch, seed):
    """Either way of the CPU, boxes inside out, of whole pixels, or giant, and maps of single rows."""
    generator = torch.Generator().manual_seed(seed)
    module = importlib.import_module("dimofs.kernels.roi_align_torch")
    monkeypatch.setattr(module, "MIN_PATCH_BOXES", 99 * (seed % 2))
    monkeypatch.setattr(module, "PIXELS_PER_BOX", 2**40)
    height, width = torch.randint(1, 9, (2,), generator=generator).tolist()
    boxes = torch.rand(8, 4, generator=generator) * 24 - 6
    boxes[:2] = boxes[:2].round()
    boxes[2:4] *= 20
    boxes[4:] = torch.cat((boxes[4:, :2], boxes[4:, :2] + boxes[4:, 2:].abs()), dim=1)
    rois = torch.cat((torch.randint(0, 2, (8, 1), generator=generator).float(), boxes), dim=1)
    features = torch.randn(2, 3, height, width, generator=generator)
    ours, gradient, theirs, expected = both(features, rois, "cpu", (2, 3), [-1, 1, 2][seed % 3])
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(gradient, expected, atol=1e-4, rtol=1e-4)
