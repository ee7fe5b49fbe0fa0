"""ResNet: a hand-computed frozen batch norm, then torchvision's features with the same random weights."""

import pytest
import torch
from torch import nn

from dimofs.zoo.backbones.resnet import FrozenBatchNorm, resnet18, resnet50, resnet101


def test_frozen_batch_norm_by_hand():
    """A convolution that gives 7 and 2 with weights 1 and 1, normalized."""
    norm = FrozenBatchNorm(2)
    norm.weight[:] = torch.tensor([2.0, 1.0])
    norm.bias[:] = torch.tensor([3.0, -1.0])
    norm.running_mean[:] = torch.tensor([5.0, 0.0])
    norm.running_var[:] = torch.tensor([4.0, 0.25]) - norm.eps
    weight, bias = norm.fold(torch.ones(2, 1, 1, 1))
    x = torch.tensor([7.0, 2.0])
    assert (weight.flatten() * x + bias).tolist() == pytest.approx([2 * (7 - 5) / 2 + 3, 2 / 0.5 - 1])


def test_frozen_batch_norms_have_no_parameters_and_ignore_the_batch():
    model = resnet18().train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    assert not any("bn" in name for name, _ in model.named_parameters())
    model(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


def test_features_keep_half_precision_halved():
    assert resnet18().bfloat16()(torch.ones(1, 3, 32, 32, dtype=torch.bfloat16))[-1].dtype == torch.bfloat16


@pytest.mark.parametrize("build", [resnet18, resnet50, resnet101], ids=lambda f: f.__name__)
def test_features_equal_torchvision(build):
    models = pytest.importorskip("torchvision.models")
    norm = pytest.importorskip("torchvision.ops").FrozenBatchNorm2d
    utils = pytest.importorskip("torchvision.models._utils")
    peer = models.get_model(build.__name__, weights=None, norm_layer=norm)
    peer = utils.IntermediateLayerGetter(peer, {f"layer{i}": str(i) for i in range(1, 5)}).eval()
    randomize(peer, seed=1)
    model = build().eval()
    model.load_state_dict(peer.state_dict())
    x = torch.randn(2, 3, 64, 97, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        ours, theirs = model(x), list(peer(x).values())
    assert [len(f[0]) for f in ours] == list(model.channels)
    for a, b in zip(ours, theirs, strict=True):
        assert b.std() > 0.1
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_gradients_reach_the_stem():
    model = resnet18()
    model(torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(3)))[-1].sum().backward()
    assert model.conv1.weight.grad is not None
    assert model.conv1.weight.grad.abs().sum() > 0


def randomize(model: nn.Module, seed: int) -> None:
    """Random statistics in every frozen norm; those that close a residual branch scale it down, so that 33 blocks do
    not overflow."""
    generator = torch.Generator().manual_seed(seed)
    for name, buffer in model.named_buffers():
        values = torch.rand(buffer.shape, generator=generator)
        kind = name.split(".")[-1]
        if kind in ("weight", "running_var"):
            buffer.copy_(0.5 + values)
        else:
            buffer.copy_(values - 0.5)
        if kind == "weight" and name.split(".")[-2] in ("bn2", "bn3"):
            buffer.mul_(0.3)
