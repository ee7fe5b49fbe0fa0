"""Kernels: hand-computed cases, then the twin and Triton (interpreted without a GPU) against torchvision."""

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor

from dimofs.kernels import batched_nms, deform_conv2d, deform_sample, roi_align

ops = pytest.importorskip("torchvision.ops")
pytestmark = pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # of NumPy in the interpreter
NAN = float("nan")
TRITON = {  # twin -> the function of the same arguments that launches Triton
    "correlate.correlate_torch": "correlate_triton.correlate_triton",
    "deform.deform_sample_torch": "deform_triton.deform_sample_triton",
    "deform_conv.convolve_torch": "deform_conv_triton.convolve_triton",
    "roi_align.pool_torch": "roi_align_triton.pool_triton",
    "nms.batched_nms_torch": "nms_triton.batched_nms_triton",
}


@pytest.fixture
def triton(monkeypatch) -> str:
    """The device on which the public functions launch Triton: without a GPU, its interpreter takes the twins' place."""
    pytest.importorskip("triton")
    if torch.cuda.is_available():
        return "cuda"
    for names in TRITON.items():
        (place, twin), (source, launcher) = (name.split(".") for name in names)
        place, source = (importlib.import_module(f"dimofs.kernels.{module}") for module in (place, source))
        monkeypatch.setattr(place, twin, getattr(source, launcher))
    return "cpu"


@pytest.fixture(params=["twin", "triton"])
def device(request) -> str:
    return "cpu" if request.param == "twin" else request.getfixturevalue("triton")


@pytest.fixture(params=["patches", "bags", "triton"])
def pooling(request, monkeypatch) -> str:
    """The device of each way to pool: few boxes from patches, many by sums of rows, and Triton."""
    if request.param == "triton":
        return request.getfixturevalue("triton")
    monkeypatch.setattr(
        importlib.import_module("dimofs.kernels.roi_align_torch"), "MIN_PATCH_BOXES", 99 * (request.param == "patches")
    )
    monkeypatch.setattr(importlib.import_module("dimofs.kernels.roi_align_torch"), "PIXELS_PER_BOX", 2**40)
    return "cpu"


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def random_boxes(count: int, span: float, largest: float, seed: int = 0) -> Tensor:
    """[count, 4], partly outside [0, span]²."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 1.2 * span - 0.1 * span
    return torch.cat((corner, corner + torch.rand(count, 2, generator=generator) * largest), dim=1)


def assert_same(function, reference, device: str, /, **inputs: Tensor) -> None:
    """Equal results and equal gradients of every float input, each relative to its largest magnitude."""
    results = []
    for call, place in ((function, device), (reference, "cpu")):
        leaves = {n: t.detach().to(place, copy=True).requires_grad_(t.is_floating_point()) for n, t in inputs.items()}
        out = call(**leaves)
        grads = torch.autograd.grad(out, list(leaves.values()), randn(*out.shape, seed=9).to(out), allow_unused=True)
        results.append({"out": out} | {f"d{n}": g for n, g in zip(leaves, grads, strict=True) if g is not None})
    actual, expected = results
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        error = (actual[name].cpu() - value).abs().max() / value.abs().max().clamp(min=1e-6)
        assert error < 1e-4, f"{name}: relative error {error:.1e}"


# deform_sample


def test_deform_sample_by_hand(device):
    x = torch.tensor([[0.0, 1, 2], [10, 11, 12]])[None, None]
    offset = torch.zeros(1, 2, 2, 3)
    offset[0, :, 0, 0] = torch.tensor([0.5, 1.0])  # between 1 and 11
    offset[0, :, 1, 2] = torch.tensor([0.0, 0.25])  # a quarter of the way out of the map
    offset[0, :, 1, 1] = torch.tensor([1.0, 0.0])  # outside
    offset[0, :, 0, 1] = torch.tensor([0.0, NAN])
    expected = torch.tensor([[6.0, 0, 2], [10, 0, 9]])
    torch.testing.assert_close(deform_sample(x.to(device), offset.to(device))[0, 0].cpu(), expected, atol=1e-4, rtol=0)


def test_gradient_of_an_unmoved_sample_by_hand(device):
    x = torch.tensor([[0.0, 1], [10, 13]], device=device)[None, None].requires_grad_()
    offset = torch.zeros(1, 2, 2, 2, device=device, requires_grad=True)
    dx, doffset = torch.autograd.grad(deform_sample(x, offset)[0, 0, 0, 0], (x, offset))
    torch.testing.assert_close(dx[0, 0].cpu(), torch.tensor([[1.0, 0], [0, 0]]), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        doffset[0, :, 0, 0].cpu(), torch.tensor([10.0, 1]), atol=1e-4, rtol=0
    )  # downwards, right


@pytest.mark.parametrize(
    ("n", "c", "groups", "h", "w"),
    [(2, 4, 1, 7, 5), (1, 4, 2, 5, 7), (1, 3, 3, 17, 9), (1, 2, 2, 1, 6), (1, 2, 1, 6, 1), (2, 1, 1, 1, 1)],
    ids=lambda v: str(v),
)
def test_deform_sample_is_torchvisions(device, n, c, groups, h, w):
    offset = randn(n, 2 * groups, h, w, seed=1) * 3
    offset[..., ::2] = offset[..., ::2].round()  # whole pixels, where the gradient jumps
    identity = torch.eye(c)[:, :, None, None]
    assert_same(
        deform_sample,
        lambda x, offset: ops.deform_conv2d(x, offset, identity),
        device,
        x=randn(n, c, h, w),
        offset=offset,
    )


def test_channels_last_and_strided_inputs_change_nothing(device):
    x, offset = randn(1, 4, 5, 6).to(device), randn(1, 8, 5, 6, seed=1).to(device)
    strided = deform_sample(x.to(memory_format=torch.channels_last), offset.mT.contiguous().mT)
    torch.testing.assert_close(strided, deform_sample(x, offset))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_coordinates_are_float32_whatever_the_type(device, dtype):
    """The second of two taps, 1300 columns apart, reads column 1300.3: float16 would round that to 1300."""
    x = torch.zeros(1, 1, 1, 1302, dtype=dtype, device=device)
    x[..., 1301] = 1
    offset, weight = torch.full((1, 4, 1, 2), 0.3).to(x), torch.tensor([[[[0.0, 1]]]]).to(x)
    offset[:, 2] = 0
    out = deform_conv2d(x, offset, weight, dilation=(1, 1300))
    assert out.dtype == dtype
    torch.testing.assert_close(out.float().flatten().cpu(), torch.tensor([0.3, 0.7]), atol=4e-3, rtol=0)
    if dtype == torch.float16:
        assert ops.deform_conv2d(x.cpu(), offset.cpu(), weight.cpu(), dilation=(1, 1300)).flatten()[0] == 0


@pytest.mark.parametrize("bad", [NAN, float("inf"), -float("inf"), 3e38])
def test_offsets_that_are_not_finite_sample_zero_and_take_no_gradient(device, bad):
    offset = torch.zeros(1, 2, 3, 3)
    offset[0, 0, 1, 1] = bad
    x, offset = torch.ones(1, 1, 3, 3).to(device).requires_grad_(), offset.to(device).requires_grad_()
    sampled = deform_sample(x, offset)
    dx, doffset = torch.autograd.grad(sampled.sum(), (x, offset))
    assert sampled[0, 0, 1, 1] == 0 and sampled.isfinite().all()
    assert doffset[0, :, 1, 1].tolist() == [0, 0] and doffset.isfinite().all() and dx.isfinite().all()


def test_no_images_give_no_samples(device):
    x = torch.zeros(0, 4, 3, 3, device=device, requires_grad=True)
    sampled = deform_sample(x, torch.zeros(0, 2, 3, 3, device=device))
    sampled.sum().backward()
    assert sampled.shape == (0, 4, 3, 3)


def test_deform_sample_refuses_offsets_that_do_not_fit():
    with pytest.raises(ValueError, match=r"offset \[1, 6, 5, 5\] does not fit x \[1, 4, 5, 5\]"):
        deform_sample(torch.zeros(1, 4, 5, 5), torch.zeros(1, 6, 5, 5))


# deform_conv2d


def test_deform_conv2d_by_hand(device):
    """A 1 x 2 kernel of weights 1, 10 whose second tap moves one pixel down, half masked; bias 100."""
    x = torch.tensor([[1.0, 2, 3], [4, 5, 6]], device=device)[None, None]
    offset = torch.zeros(1, 4, 2, 2, device=device)
    offset[0, 2] = 1
    mask = torch.tensor([1.0, 0.5], device=device).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    weight = torch.tensor([1.0, 10], device=device).view(1, 1, 1, 2)
    out = deform_conv2d(x, offset, weight, torch.tensor([100.0], device=device), mask=mask)
    torch.testing.assert_close(out[0, 0].cpu(), torch.tensor([[126.0, 132], [104, 105]]), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "groups", "offset_groups", "modulated"),
    [((3, 2), (2, 1), (1, 0), (1, 2), 2, 1, True), ((1, 1), 1, 0, 1, 1, 2, False), ((2, 2), 2, 1, 2, 1, 4, True)],
    ids=["k32-s21-p10-d12-g2-G1-mask", "k11-g1-G2", "k22-s2-p1-d2-G4-mask"],
)
def test_deform_conv2d_is_torchvisions(device, kernel, stride, padding, dilation, groups, offset_groups, modulated):
    x, weight, bias = randn(1, 4, 5, 6), randn(6, 4 // groups, *kernel, seed=1), randn(6, seed=2)
    size = torch.nn.functional.conv2d(x, weight, bias, stride, padding, dilation, groups).shape[2:]
    taps = offset_groups * kernel[0] * kernel[1]
    inputs = {"input": x, "offset": randn(1, 2 * taps, *size, seed=3) * 2, "weight": weight, "bias": bias}
    if modulated:
        inputs["mask"] = randn(1, taps, *size, seed=4)
    geometry: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
    assert_same(
        lambda **t: deform_conv2d(**t, **geometry), lambda **t: ops.deform_conv2d(**t, **geometry), device, **inputs
    )


@pytest.mark.parametrize("field", ["offset", "weight", "mask"])
def test_deform_conv2d_refuses_shapes_that_do_not_fit(field):
    shapes = {"input": (1, 4, 5, 5), "offset": (1, 18, 3, 3), "weight": (2, 4, 3, 3), "mask": (1, 9, 3, 3)}
    x, offset, weight, mask = (torch.zeros((1, 7, 3, 3) if name == field else s) for name, s in shapes.items())
    with pytest.raises(ValueError, match=f"{field} .* does not fit"):
        deform_conv2d(x, offset, weight, mask=mask)


# roi_align


def test_roi_align_by_hand(pooling):
    features = torch.arange(25.0, device=pooling).view(1, 1, 5, 5)  # value = 5 row + column
    box = torch.tensor([[0, 1.0, 1, 3, 3]], device=pooling)
    aligned = roi_align(features, box, 2, 1.0, 1, aligned=True)  # bins of 1 pixel, at indices 1 and 2
    torch.testing.assert_close(aligned[0, 0].cpu(), torch.tensor([[6.0, 7], [11, 12]]))
    shifted = roi_align(features, box, 2, 1.0, 1, aligned=False)  # half a pixel down and right: 5 / 2 + 1 / 2
    torch.testing.assert_close(shifted, aligned + 3)


def test_roi_align_at_the_edges_of_the_map_by_hand(pooling):
    """A sample up to one pixel outside reads the border, beyond it 0; the far end is the size of the map, 4."""
    features = torch.tensor([10.0, 20, 30, 40], device=pooling).view(1, 1, 4, 1).expand(1, 1, 4, 3)
    rows = torch.tensor([-1.01, -1, 0.5, 3.5, 4, 4.01])
    zeros = torch.zeros(6)
    rois = torch.stack((zeros, zeros + 1, rows - 0.5, zeros + 2, rows + 0.5), dim=1).to(pooling)
    assert roi_align(features, rois, 1, 1.0, 1).flatten().tolist() == [0, 10, 15, 40, 40, 0]


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("sampling_ratio", [-1, 2])
def test_roi_align_is_torchvisions(pooling, sampling_ratio, aligned):
    rois = torch.cat((torch.tensor([[0.0], [1], [1], [0]]), random_boxes(4, 44, 30)), dim=1)
    rois[3, 3:] = rois[3, 1:3] - 5  # turned inside out
    assert_same(
        lambda features: roi_align(features, rois.to(pooling), (3, 2), 0.25, sampling_ratio, aligned),
        lambda features: ops.roi_align(features, rois, (3, 2), 0.25, sampling_ratio, aligned),
        pooling,
        features=randn(2, 3, 8, 11),
    )


def test_roi_align_pools_each_box_from_its_level_of_a_pyramid(pooling):
    boxes = [random_boxes(2, 256, 500), torch.zeros(0, 4), random_boxes(1, 256, 100, seed=1)]
    for side in (112.0, 223.99, 224, 448, 0):  # the levels' limits
        boxes.append(torch.tensor([[8.0, 8, 8 + side, 8 + side]]))
    shapes = [(len(boxes), 2, 256 // s, 288 // s) for s in (4, 8, 16, 32)]
    peer = ops.MultiScaleRoIAlign(["0", "1", "2", "3"], output_size=2, sampling_ratio=1)
    assert_same(
        lambda **maps: roi_align(
            list(maps.values()), [b.to(pooling) for b in boxes], 2, [1 / s for s in (4, 8, 16, 32)], 1
        ),
        lambda **maps: peer({k[1:]: m for k, m in maps.items()}, boxes, [(256, 288)] * len(boxes)),
        pooling,
        **{f"p{i}": randn(*shape, seed=i) for i, shape in enumerate(shapes)},
    )


def test_roi_align_in_16_bits_is_float32_rounded_once(pooling):
    features, rois = randn(1, 3, 40, 40).bfloat16(), torch.tensor([[0, 3.3, 2.7, 38.1, 35.9]])
    pooled = roi_align(features.to(pooling), rois.to(pooling), 2, 1.0, 2)
    assert pooled.dtype == torch.bfloat16
    expected = roi_align(features.float(), rois, 2, 1.0, 2)
    torch.testing.assert_close(pooled.float().cpu(), expected, atol=1e-6, rtol=2**-7)  # the interpreter truncates


@pytest.mark.parametrize("sampling_ratio", [-1, 2])
def test_boxes_that_are_not_finite_pool_zero(pooling, sampling_ratio):
    features = torch.ones(1, 2, 6, 6, device=pooling, requires_grad=True)
    rois = torch.tensor([[0, NAN, 0, 3, 3], [0, 0, 0, 3, float("inf")], [0, 1, 1, 4, 4]], device=pooling)
    pooled = roi_align(features, rois, 2, 1.0, sampling_ratio)
    assert pooled[:2].eq(0).all() and pooled[2].eq(1).all()
    (gradient,) = torch.autograd.grad(pooled.sum(), features)
    torch.testing.assert_close(gradient.sum(), pooled.sum())  # only the third box sends any


@pytest.mark.parametrize("sampling_ratio", [-1, 2])
@pytest.mark.parametrize("images", [0, 2])
def test_no_boxes_pool_to_nothing_and_still_train(pooling, images, sampling_ratio):
    maps = [torch.zeros(images, 3, s, s, device=pooling, requires_grad=True) for s in (8, 4)]
    pooled = roi_align(maps, [torch.zeros(0, 4, device=pooling)] * images, (7, 5), (0.5, 0.25), sampling_ratio)
    assert pooled.shape == (0, 3, 7, 5)
    assert all(gradient.eq(0).all() for gradient in torch.autograd.grad(pooled.sum(), maps))


@pytest.mark.parametrize("sampling_ratio", [-1, 1])
@pytest.mark.parametrize("size", [(1, 2), (3, 3)], ids=["1x2", "3x3"])
def test_roi_align_of_bins_far_larger_than_pixels_is_torchvisions(pooling, size, sampling_ratio):
    """One sample a bin lies apart from the next one along one axis, the other, or both; one box is inside out."""
    corners = torch.tensor([[1, 2, 39, 5], [2, 1, 4, 38], [-3, 0, 41, 44], [30, 30, 33, 31.5], [30, 20, 10, 15]])
    rois = torch.cat((torch.tensor([[0.0], [1], [1], [0], [0]]), corners), dim=1)
    assert_same(
        lambda features: roi_align(features, rois.to(pooling), size, 1.0, sampling_ratio, aligned=True),
        lambda features: ops.roi_align(features, rois, size, 1.0, sampling_ratio, aligned=True),
        pooling,
        features=randn(2, 3, 40, 40),
    )


def test_maps_without_boxes_train_too(pooling):
    """Their gradients are zero, whole tensors in .grad."""
    maps = [torch.zeros(1, 3, s, s, device=pooling, requires_grad=True) for s in (32, 16)]
    roi_align(maps, [torch.tensor([[8.0, 8, 24, 24]], device=pooling)], 2, (0.5, 0.25), 2).sum().backward()
    gradients = [m.grad for m in maps]
    assert all(g is not None and g.is_contiguous() for g in gradients)
    torch.testing.assert_close([g.sum().item() for g in gradients if g is not None], [12.0, 0.0])


def test_roi_align_refuses_arguments_that_do_not_fit():
    with pytest.raises(ValueError, match="1 feature maps need as many spatial scales, and at least one, got 2"):
        roi_align(torch.zeros(1, 1, 4, 4), torch.zeros(1, 5), 2, (0.5, 0.25))
    with pytest.raises(ValueError, match=r"boxes \[1, 4\] do not fit"):
        roi_align(torch.zeros(1, 1, 4, 4), torch.zeros(1, 4), 2)


# batched_nms


def test_batched_nms_by_hand(device):
    """Box 1 overlaps 0 by 9 / 11, box 3 overlaps 1 alone, box 4 repeats 0 in another class."""
    left = torch.tensor([0.0, 1, 40, 5.5, 0], device=device)
    boxes = torch.stack((left, torch.zeros_like(left), left + 10, torch.ones_like(left)), dim=1)
    scores = torch.tensor([0.9, 0.8, 0.95, 0.7, 0.6], device=device)
    classes = torch.tensor([0, 0, 0, 0, 1], device=device)
    assert batched_nms(boxes, scores, classes, 0.35).tolist() == [2, 0, 3, 4]
    assert batched_nms(boxes, scores, classes, 0.9).tolist() == [2, 0, 1, 3, 4]


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("count", [0, 1, 150])
def test_batched_nms_is_torchvisions(device, count, threshold):
    """Boxes on a coarse grid of whole pixels, so that many overlaps are exactly the threshold."""
    boxes = (random_boxes(count, 12, 12) + torch.tensor([0, 0, 1, 1])).round()
    scores = torch.randperm(count, generator=torch.Generator().manual_seed(1)) / max(count, 1)
    classes = torch.arange(count) % 2
    expected = ops.batched_nms(boxes, scores, classes, threshold)
    kept = batched_nms(boxes.to(device), scores.to(device), classes.to(device), threshold)
    assert kept.dtype == torch.int64 and kept.tolist() == expected.tolist()


def test_batched_nms_of_thousands_is_torchvisions():
    boxes, scores = random_boxes(1500, 300, 200), torch.randperm(1500) / 1500
    classes = torch.arange(1500) % 3
    boxes[7, 2], boxes[8] = NAN, torch.tensor([0, 0, torch.inf, 9])
    crowd = boxes[:30].repeat(50, 1) + randn(1500, 4) * 3  # few of many survive
    for threshold, some in ((0.3, boxes), (0.7, boxes), (0.5, crowd)):
        for labels in (classes, classes * 0, torch.arange(1500) // 9):  # large classes, one, small ones
            expected = ops.batched_nms(some, scores, labels, threshold)
            assert torch.equal(batched_nms(some, scores, labels, threshold), expected)


def test_of_equal_boxes_the_best_survives():
    boxes, scores = torch.tensor([[1.0, 1, 5, 6]]).expand(700, 4), torch.arange(700.0)
    assert batched_nms(boxes, scores, torch.zeros(700, dtype=torch.int64), 0.5).tolist() == [699]


def test_a_chain_of_suppressions_and_ties_in_score(device):
    """Each box overlaps its neighbours by 0.6: every second one survives, the first of equal scores leading."""
    left = torch.arange(40.0, device=device) * 2.5
    boxes = torch.stack((left, torch.zeros_like(left), left + 10, torch.ones_like(left)), dim=1)
    zeros = torch.zeros(40, dtype=torch.int64, device=device)
    assert batched_nms(boxes, torch.zeros(40, device=device), zeros, 0.59).tolist() == list(range(0, 40, 2))


def test_boxes_that_are_not_finite_neither_suppress_nor_fall(device):
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, NAN, 4], [0, 0, 4, 4], [0, 0, float("inf"), 4]], device=device)
    scores, classes = (
        torch.tensor([0.5, 0.9, 0.4, 0.8], device=device),
        torch.zeros(4, dtype=torch.int64, device=device),
    )
    assert batched_nms(boxes, scores, classes, 0.5).tolist() == [1, 3, 0]


# all of them


def test_twins_have_first_and_second_derivatives():
    x, offset = randn(1, 2, 3, 4).double(), randn(1, 4, 3, 4, seed=1).double() * 2
    weight, mask = randn(2, 2, 1, 2, seed=2).double(), randn(1, 4, 3, 3, seed=3).double()
    moved = randn(1, 8, 3, 3, seed=4).double()
    for tensor in (x, offset, weight, mask, moved):
        tensor.requires_grad_()
    conv = lambda *t: deform_conv2d(*t[:3], mask=t[3])  # noqa: E731
    for function, inputs in ((deform_sample, (x, offset)), (conv, (x, moved, weight, mask))):
        assert torch.autograd.gradcheck(function, inputs)
        assert torch.autograd.gradgradcheck(function, inputs)
    rois = torch.tensor([[0, 0.2, 0.1, 2.7, 3.1]])
    assert torch.autograd.gradcheck(lambda x: roi_align(x, rois, 2, 1.0, 2), (x,))
    assert torch.autograd.gradcheck(lambda x: roi_align(x, rois, 2, 1.0), (x,))


@pytest.fixture
def guarded(monkeypatch):
    """Surround every tensor, given or allocated by the kernels' code, by values that no kernel may read or write."""
    buffers = []

    def surround(tensor: Tensor) -> Tensor:
        guard = NAN if tensor.is_floating_point() else torch.iinfo(tensor.dtype).min
        buffer = torch.full((tensor.numel() + 512,), guard, dtype=tensor.dtype, device=tensor.device)
        buffers.append((buffer, guard))
        return buffer[256:-256].view(tensor.shape).copy_(tensor)

    for name in ("new_empty", "new_zeros", "new_full"):
        allocate = getattr(Tensor, name)
        monkeypatch.setattr(Tensor, name, lambda *a, allocate=allocate, **k: surround(allocate(*a, **k)))
    yield surround
    for buffer, guard in buffers:
        for end in (buffer[:256], buffer[-256:]):
            assert end.isnan().all() if guard != guard else end.eq(guard).all()


def test_triton_neither_reads_nor_writes_beyond_its_tensors(triton, guarded):
    x, offset, mask = (
        guarded(t.to(triton)).requires_grad_() for t in (randn(1, 3, 5, 3), randn(1, 4, 5, 2) * 4, randn(1, 2, 5, 2))
    )
    out = deform_conv2d(x, offset, randn(1, 3, 1, 2).to(triton), mask=mask)
    rois = guarded(torch.cat((torch.zeros(2, 1), random_boxes(2, 5, 6)), dim=1).to(triton))
    pooled = roi_align(x, rois, (2, 1), 1.0, -1)
    grads = torch.autograd.grad(out.sum() + pooled.sum(), (x, offset, mask))
    assert all(t.isfinite().all() for t in (out, pooled, *grads))
    boxes, scores = guarded(random_boxes(33, 20, 20).to(triton)), guarded(randn(33).to(triton))
    assert len(batched_nms(boxes, scores, guarded(torch.zeros(33, dtype=torch.int64, device=triton)), 0.5))
