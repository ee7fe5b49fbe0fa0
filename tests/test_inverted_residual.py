"""Blocks that are computed a few images at a time have the results and gradients of their layers one after another."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dimofs.zoo.backbones import inverted_residual
from dimofs.zoo.backbones.activated import is_fused
from dimofs.zoo.backbones.inverted_residual import ConvReLU6, InvertedResidual
from dimofs.zoo.training.trainer import recompute_blocks

# Inputs, outputs, stride, expansion.
BLOCKS = {"stride 2": (8, 16, 2, 6), "residual": (8, 8, 1, 6), "wider": (8, 12, 1, 6), "no expansion": (8, 4, 1, 1)}


def layers(block: InvertedResidual, x: Tensor) -> Tensor:
    """The block by PyTorch's layers, padded as TensorFlow does it."""
    y = F.relu6(block.expand.conv(x)) if isinstance(block.expand, ConvReLU6) else x
    depthwise, (height, width) = block.depthwise.conv, y.shape[-2:]
    two = depthwise.stride[0] == 2
    y = F.pad(y, (width % 2, 1, height % 2, 1) if two else (1, 1, 1, 1))
    y = F.relu6(F.conv2d(y, depthwise.weight, depthwise.bias, depthwise.stride, groups=depthwise.groups))
    return block.project(y) + (x if block.residual else 0)


def gradients(function, block: InvertedResidual, x: Tensor, slopes: Tensor) -> list[Tensor]:
    """The result, and its gradients by the input and each parameter."""
    leaves = [x.requires_grad_(), *block.parameters()]
    y = function(x)
    return [y.detach().float(), *(g.float() for g in torch.autograd.grad((y.float() * slopes).sum(), leaves))]


def built(kind: str, size: tuple[int, int]) -> tuple[InvertedResidual, Tensor, Tensor]:
    torch.manual_seed(0)
    inputs, outputs, stride, expansion = BLOCKS[kind]
    block = InvertedResidual(inputs, outputs, stride, expansion)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=1.0)  # so that many values lie beyond 0 and 6
    slopes = torch.randn(3, outputs, *(-(-side // stride) for side in size))
    return block, torch.randn(3, inputs, *size), slopes


@pytest.mark.parametrize("size", [(8, 12), (9, 7), (1, 1), (2, 5)], ids=str)
@pytest.mark.parametrize("kind", BLOCKS)
def test_gradients_are_those_of_the_layers(kind, size, monkeypatch):
    block, x, slopes = built(kind, size)
    assert is_fused(x, block.project.weight)
    right = gradients(lambda x: layers(block, x), block, x, slopes)
    for values in (1, 2 * 48 * size[0] * size[1], 2**30):  # one image at a time, two, all three
        monkeypatch.setattr(inverted_residual, "VALUES", values)
        for given in (x, x.detach().contiguous(memory_format=torch.channels_last)):
            found = gradients(block, block, given, slopes)
            for ours, theirs in zip(found, right, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * theirs.abs().max().item())


@pytest.mark.parametrize("kind", BLOCKS)
def test_gradients_in_bfloat16_are_near(kind):
    block, x, slopes = built(kind, (9, 12))
    right = gradients(lambda x: layers(block, x), block, x, slopes)
    with torch.autocast("cpu", torch.bfloat16):
        found = gradients(block, block, x, slopes)
    for ours, theirs in zip(found, right, strict=True):
        assert torch.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.99
        assert ours.norm() == pytest.approx(theirs.norm().item(), rel=0.06)


def test_what_is_frozen_gets_no_gradient():
    block, x, slopes = built("stride 2", (6, 6))
    right = gradients(block, block, x, slopes)[1:]
    names = ["x", *(name for name, _ in block.named_parameters())]
    for trained in ({"x"}, {"project.bias"}, {"depthwise.0.weight"}, {"x", "expand.0.weight", "project.weight"}):
        x = x.detach().requires_grad_("x" in trained)
        for name, parameter in block.named_parameters():
            parameter.requires_grad_(name in trained)
            parameter.grad = None
        (block(x) * slopes).sum().backward()
        found = [x.grad, *(p.grad for p in block.parameters())]
        assert {name for name, g in zip(names, found, strict=True) if g is not None} == trained
        for ours, theirs in zip(found, right, strict=True):
            if ours is not None:
                torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)


def test_a_block_may_be_recomputed_and_compiled():
    block, x, slopes = built("stride 2", (8, 8))
    right = gradients(block, block, x, slopes)
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    recompute_blocks(block)
    for function in (block, compiled):
        for ours, theirs in zip(gradients(function, block, x, slopes), right, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)
