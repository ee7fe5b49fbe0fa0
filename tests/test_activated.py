"""Convolutions with their activations in one pass give what PyTorch gives in two."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dimofs.zoo.backbones.activated import activated
from dimofs.zoo.backbones.inverted_residual import SameConv2d
from dimofs.zoo.backbones.mobilenet import MobileNetV2
from dimofs.zoo.detection.fields import pooled_to
from tests.support.tiny import tiny_model

ACTIVATIONS = {"none": lambda x: x, "relu": F.relu, "relu6": F.relu6}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (16, 24)], ids=str)
@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(8, 12, 1),
        nn.Conv2d(8, 12, 3, padding=1, bias=False),
        nn.Conv2d(8, 8, 3, padding=3, dilation=3),
        nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8),
    ],
    ids=["1x1", "3x3", "dilated", "depthwise"],
)
def test_it_is_the_convolution_and_then_the_activation(conv, size, activation):
    torch.manual_seed(0)
    for x in (torch.randn(2, 8, *size) * 4, (torch.randn(2, 8, *size) * 4).to(memory_format=torch.channels_last)):
        right = ACTIVATIONS[activation](conv(x)).detach()
        with torch.inference_mode():
            torch.testing.assert_close(activated(conv, x, activation), right, rtol=1e-5, atol=1e-5)
        ours = activated(conv, x, activation)
        assert ours.requires_grad
        torch.testing.assert_close(ours.detach(), right)


def test_empty_batches_and_autocast():
    conv = nn.Conv2d(3, 4, 1)
    with torch.inference_mode():
        assert activated(conv, torch.zeros(0, 3, 5, 5), "relu").shape == (0, 4, 5, 5)
        x = torch.rand(1, 3, 8, 8)
        with torch.autocast("cpu", torch.bfloat16):
            half = activated(conv, x, "relu6")
        assert half.dtype == torch.bfloat16
        torch.testing.assert_close(half.float(), activated(conv, x, "relu6"), atol=0.02, rtol=0.02)


@pytest.mark.parametrize("size", [(64, 96), (33, 47)], ids=str)
def test_a_body_gives_the_same_with_and_without_gradients(size):
    torch.manual_seed(0)
    body, x = MobileNetV2().eval(), torch.rand(1, 3, *size)
    with torch.inference_mode():
        fast = body(x)
    for ours, slow in zip(fast, body(x), strict=True):
        assert slow.requires_grad
        torch.testing.assert_close(ours, slow.detach(), rtol=1e-3, atol=1e-4)


def test_padding_of_even_and_odd_maps_is_that_of_tensorflow():
    conv = SameConv2d(1, 1)
    nn.init.ones_(conv.weight)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    with torch.inference_mode():
        # Even: output 0 sums pixels 0 to 2, the last one pixels 2 and 3. Odd: pixels 0 and 1, 1 to 3, 3 and 4.
        assert conv(torch.ones(1, 1, 4, 4))[0, 0].tolist() == [[9, 6], [6, 4]]
        assert conv(torch.ones(1, 1, 5, 5))[0, 0, 1].tolist() == [6, 9, 6]


def test_a_detector_finds_the_same_with_and_without_gradients():
    detector, image = tiny_model().eval(), torch.rand(1, 3, 64, 64)
    (slow,) = detector(image)
    with torch.inference_mode():
        (fast,) = detector(image)
    torch.testing.assert_close(fast.boxes, slow.boxes.detach(), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(fast.scores, slow.scores.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(6, 8), (3, 4), (2, 2), (5, 3)], ids=str)
def test_means_on_a_coarser_grid(size):
    torch.manual_seed(0)
    maps = torch.rand(2, 3, 6, 8)
    torch.testing.assert_close(pooled_to(maps, size), F.adaptive_avg_pool2d(maps, size))
