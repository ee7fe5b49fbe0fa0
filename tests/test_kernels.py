"""Kernels against hand-computed cases and torchvision."""

import pytest
import torch

from dimofs.kernels import batched_nms, deform_conv2d, deform_sample, roi_align

ops = pytest.importorskip("torchvision.ops")


def test_deform_sample_by_hand():
    x = torch.tensor([[0.0, 1, 2], [10, 11, 12]])[None, None]
    offset = torch.zeros(1, 2, 2, 3)
    offset[0, :, 0, 0] = torch.tensor([0.5, 1.0])  # between 1 and 11
    offset[0, :, 1, 2] = torch.tensor([0.0, 0.25])  # a quarter of the way out of the map
    offset[0, :, 1, 1] = torch.tensor([1.0, 0.0])  # outside
    offset[0, :, 0, 1] = torch.nan
    expected = torch.tensor([[6.0, 0, 2], [10, 0, 9]])
    torch.testing.assert_close(deform_sample(x, offset)[0, 0], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_deform_sample_is_torchvisions(groups):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 6, 7, 5, generator=generator)
    offset = torch.randn(2, 2 * groups, 7, 5, generator=generator) * 3
    expected = ops.deform_conv2d(x, offset, torch.eye(6)[:, :, None, None])
    torch.testing.assert_close(deform_sample(x, offset), expected, atol=1e-4, rtol=1e-4)


def test_deform_conv2d_is_torchvisions():
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(*s, generator=generator) for s in ((2, 6, 7, 5), (4, 3, 3, 2), (4,)))
    offset, mask = (torch.randn(2, c, 4, 6, generator=generator) for c in (36, 18))
    arguments = (x, offset, weight, bias, (2, 1), (1, 1), (1, 1), mask)
    torch.testing.assert_close(deform_conv2d(*arguments), ops.deform_conv2d(*arguments), atol=1e-4, rtol=1e-4)


def test_roi_align_by_hand():
    features = torch.arange(25.0).view(1, 1, 5, 5)  # value = 5 row + column
    box = torch.tensor([[0, 1.0, 1, 3, 3]])
    aligned = roi_align(features, box, 2, 1.0, 1, aligned=True)  # bins of 1 pixel, at indices 1 and 2
    torch.testing.assert_close(aligned, torch.tensor([[6.0, 7], [11, 12]])[None, None])
    shifted = roi_align(features, box, 2, 1.0, 1, aligned=False)
    torch.testing.assert_close(shifted, aligned + 3)


@pytest.mark.parametrize("sampling_ratio", [-1, 2, 3])
@pytest.mark.parametrize("aligned", [False, True])
def test_roi_align_is_torchvisions(sampling_ratio, aligned):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 3, 8, 11, generator=generator)
    corner = torch.rand(20, 2, generator=generator) * 40 - 5
    boxes = torch.cat((torch.arange(20)[:, None] % 2, corner, corner + torch.rand(20, 2, generator=generator) * 30), 1)
    arguments = (features, boxes, (3, 2), 0.25, sampling_ratio, aligned)
    torch.testing.assert_close(roi_align(*arguments), ops.roi_align(*arguments))


def test_batched_nms_is_torchvisions():
    generator = torch.Generator().manual_seed(0)
    corner = torch.randint(0, 300, (900, 2), generator=generator).float()
    boxes = torch.cat((corner, corner + torch.randint(1, 200, (900, 2), generator=generator)), 1)
    scores, classes = torch.rand(900, generator=generator), torch.randint(0, 3, (900,), generator=generator)
    for threshold in (0.0, 0.3, 0.5, 0.7, 1.0):
        expected = ops.batched_nms(boxes, scores, classes, threshold)
        assert torch.equal(batched_nms(boxes, scores, classes, threshold), expected)
