"""What a backbone makes of frames, and how the pixels of frames and of the network's input correspond."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """The sizes (height, width) that frames of one size have on their way into the network.

    frame: as it came. resized: the part of the network's input that shows it, from the upper left corner.
    padded: the network's input.
    """

    frame: tuple[int, int]
    resized: tuple[int, int]
    padded: tuple[int, int]

    def to_input(self, coordinates: Tensor) -> Tensor:
        """Points [..., 2] or boxes [..., 4], x before y, from pixels of the frame to pixels of the input."""
        return _scaled(coordinates, self.resized[1] / self.frame[1], self.resized[0] / self.frame[0])

    def to_frame(self, coordinates: Tensor) -> Tensor:
        """Points [..., 2] or boxes [..., 4], x before y, from pixels of the input to pixels of the frame."""
        return _scaled(coordinates, self.frame[1] / self.resized[1], self.frame[0] / self.resized[0])


def _scaled(coordinates: Tensor, x: float, y: float) -> Tensor:
    return coordinates * coordinates.new_tensor([x, y]).repeat(coordinates.shape[-1] // 2)


@dataclass
class Features:
    """Pyramid levels P2..P5 of N frames of one size, [N, C, h, w] each, finest first, and their geometry."""

    levels: list[Tensor]
    geometry: Geometry

    def __len__(self) -> int:
        return len(self.levels[0])

    def __getitem__(self, index: slice) -> Features:
        """The frames that a slice selects."""
        return replace(self, levels=[level[index] for level in self.levels])

    def described(self) -> str:
        """How many frames of which size, for messages."""
        height, width = self.geometry.frame
        return f"{len(self)} frames of {height} x {width} pixels"

    @staticmethod
    def cat(parts: Sequence[Features]) -> Features:
        """The frames of all parts, which have one size."""
        levels = zip(*(part.levels for part in parts), strict=True)
        return replace(parts[0], levels=[torch.cat(same) for same in levels])
