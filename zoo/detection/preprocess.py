"""From frames to what a backbone reads: checked, resized, normalized, padded."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dimofs.shrinking import sampled, shrunk_batch

# Inputs are padded to whole cells of the coarsest pyramid level.
STRIDE = 32
# Frames of so many times as many pixels as the result are reduced by reading only what it needs.
LARGER = 6
# Floating-point frames may leave [0, 1] this far, as resized ones do; beyond it they are in other units.
OVERSHOOT = 0.5


class Preprocess(nn.Module):
    """Resizes the shorter side to `min_size`, or the longer one to `max_size` where it would become longer than that
    (bilinear, half-pixel centres); computes (x - mean) / std; pads with zeros at the right and bottom to a multiple of
    32. The result is channels last in memory, which convolutions on a CPU are faster with."""

    mean: Tensor
    std: Tensor

    def __init__(self, min_size: int, max_size: int, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.min_size, self.max_size = min_size, max_size
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(3, 1, 1), persistent=False)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of a frame after resizing."""
        scale = min(self.min_size / min(height, width), self.max_size / max(height, width))
        return max(1, math.floor(height * scale)), max(1, math.floor(width * scale))

    def forward(self, images: Tensor, resize: bool = True) -> tuple[Tensor, tuple[int, int]]:
        """Images [N, 3, H, W], uint8 or float in [0, 1] -> padded [N, 3, H', W'], and (height, width) before padding.

        Without `resize` they keep their size. Larger frames than `shrinking.LONGEST` are reduced before they become
        floating point. ValueError: the images are something else, see `check_images`.
        """
        check_images(images)
        height, width = images.shape[-2:]
        if resize:
            images = shrunk_batch(images if images.device.type == "cpu" else self._floats(images))
        size = self.size(height, width) if resize else (height, width)
        if _is_much_larger(images, size) and self.mean.dtype == torch.float32 and self.mean.device == images.device:
            return self._normalized(sampled(images, size)), size
        images = self._floats(images)
        if size != tuple(images.shape[-2:]):
            images = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
        return self._normalized(images), size

    def half(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """The same at half the height and width, antialiased."""
        check_images(images)
        height, width = (max(1, side // 2) for side in self.size(images.shape[-2], images.shape[-1]))
        if images.device != self.mean.device or images.dtype != torch.uint8 or images.device.type != "cpu":
            images = self._floats(images)
        images = F.interpolate(images, size=(height, width), mode="bilinear", antialias=True)
        return self._normalized(self._floats(images)), (height, width)

    def _normalized(self, images: Tensor) -> Tensor:
        """(x - mean) / std, padded."""
        size = images.shape[-2:]
        images = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        return F.pad(images, (0, -size[1] % STRIDE, 0, -size[0] % STRIDE))

    def _floats(self, images: Tensor) -> Tensor:
        """On the device of the model and in its type, in [0, 1]."""
        images = images.to(self.mean.device)
        return (images / 255 if images.dtype == torch.uint8 else images).to(self.mean.dtype)


def _is_much_larger(images: Tensor, size: tuple[int, int]) -> bool:
    """Whether it is faster to look up the pixels that a smaller image needs: in large uint8 frames on a CPU."""
    if images.dtype != torch.uint8 or images.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    return images.shape[2] * images.shape[3] > LARGER * size[0] * size[1]


def check_images(images: Tensor) -> None:
    """ValueError, which says what is expected, unless `images` is [N, 3, H, W] with H, W > 0, of uint8 or of finite
    floats in [0, 1]."""
    expected = "expected a torch.Tensor [N, 3, height, width], RGB, uint8 or float in [0, 1]"
    if not isinstance(images, Tensor):
        raise ValueError(f"frames are a {type(images).__name__}; {expected}")
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape[2:]:
        raise ValueError(f"frames have shape {list(images.shape)}; {expected}")
    if images.dtype == torch.uint8:
        return
    if not images.is_floating_point():
        raise ValueError(f"frames are {images.dtype}; {expected}")
    # Values cannot be looked at while a compiler traces; an empty batch has none.
    if torch.compiler.is_compiling() or not len(images):
        return
    low, high = (x.item() for x in images.aminmax())
    if not (low >= -OVERSHOOT and high <= 1 + OVERSHOOT):
        raise ValueError(f"frames have values from {low:g} to {high:g}; {expected}")
