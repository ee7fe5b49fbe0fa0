"""Random inputs for measuring speed and counting memory traffic: the pyramid of a frame, offsets and people."""

import math

import torch
from torch import Tensor

# Strides of the pyramid levels P2 to P5.
STRIDES = (4, 8, 16, 32)
# Height and width of a frame in pixels.
FRAME = (800, 1344)
# Channels, height and width of each level.
LEVELS = tuple((256, -(-FRAME[0] // s), -(-FRAME[1] // s)) for s in STRIDES)


def people(count: int, device: str = "cpu") -> Tensor:
    """Random boxes [count, 4] in a frame.

    Their sizes are log-uniform from 16 to 500 pixels, and they are up to 3 times as high as wide.
    """
    generator = torch.Generator().manual_seed(count)
    across, down, size, ratio = torch.rand(4, count, generator=generator)
    centre = torch.stack((across * FRAME[1], down * FRAME[0]), dim=1)
    half = 8 * torch.exp(size * math.log(500 / 16))[:, None] * torch.stack((3 ** (-ratio / 2), 3 ** (ratio / 2)), dim=1)
    boxes = torch.cat((centre - half, centre + half), dim=1)
    return boxes.clamp(min=0).minimum(torch.tensor([FRAME[1], FRAME[0]] * 2)).to(device)


def normal(*shape: int, device: str | torch.device = "cpu", seed: int = 0) -> Tensor:
    """Standard normal values of this shape, the same for the same seed on every device."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(device)
