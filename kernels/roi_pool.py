"""Weighted sums of pixels of feature maps on the CPU: products with a sparse matrix and its transpose.

Feature maps are NCHW, but this gather needs the channels of a pixel side by side. So a few channels at a time are
transposed into a buffer that stays in the caches, which avoids a second copy of the maps.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

# Values in the buffer of transposed pixels.
BUFFER = 2**22
# The fewest channels that are transposed at a time.
CHANNELS = 32
# Pixels per step of a transposition.
TILE = 4096


class Pooling(Protocol):
    """A linear function of the pixels of maps that is the same for all channels."""

    def pool(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps of [N, C, H, W] -> [K, C, h, w]."""
        ...

    def spread(self, grad: Tensor) -> tuple[Tensor, ...]:
        """The transpose, which distributes [K, C, h, w] to maps."""
        ...


def pool(pooling: Pooling, maps: Sequence[Tensor]) -> Tensor:
    """`pooling.pool(maps)`, with derivatives of every order."""
    if torch.is_grad_enabled() and any(m.requires_grad for m in maps):
        return _Pool.apply(pooling, *maps)
    return pooling.pool(maps)


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(ctx, pooling: Pooling, *maps: Tensor) -> Tensor:
        ctx.pooling = pooling
        return pooling.pool(maps)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return None, *_Spread.apply(ctx.pooling, grad)


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx, pooling: Pooling, grad: Tensor) -> tuple[Tensor, ...]:
        ctx.pooling = pooling
        return pooling.spread(grad)

    @staticmethod
    def backward(ctx, *grads: Tensor):
        return None, _Pool.apply(ctx.pooling, *grads)


class Bags(NamedTuple):
    """A sparse matrix [cells, rows]: cell i sums weight * table[row] over its entries, which start at first[i].

    `row` (integers) and `weight` are [entries], `first` is [cells] and has the dtype of `row`.
    """

    row: Tensor
    weight: Tensor
    first: Tensor

    def sums(self, table: Tensor) -> Tensor:
        """The sums [cells, C] over a table [rows, C]."""
        return F.embedding_bag(self.row, table, self.first, mode="sum", per_sample_weights=self.weight)

    def transposed(self, rows: int) -> "Bags":
        """The transpose [rows, cells]."""
        lengths = torch.diff(self.first, append=self.first.new_tensor([len(self.row)]))
        order = self.row.argsort(stable=True)
        cell = torch.repeat_interleave(lengths)[order].to(self.row.dtype)
        counts = torch.bincount(self.row, minlength=rows)
        return Bags(cell, self.weight[order], (counts.cumsum(0) - counts).to(self.row.dtype))


class BagPooling:
    """A `Pooling` by `Bags` of pixels, which are numbered from 1, map by map and image by image.

    Row 0 of the table is zero. Samples outside the map read it, as a weight of 0 would not keep NaN out of the sums.
    """

    def __init__(self, bags: Bags, size: tuple[int, int], maps: Sequence[Tensor]):
        self.bags, self.size, self.shapes = bags, size, [m.shape for m in maps]
        # One area for each image of each map.
        areas = [s[2] * s[3] for s in self.shapes for _ in range(s[0])]
        self.starts = [1 + sum(areas[:i]) for i in range(len(areas) + 1)]

    def pool(self, maps: Sequence[Tensor]) -> Tensor:
        cells, c = self.size[0] * self.size[1], maps[0].shape[1]
        boxes = len(self.bags.first) // cells
        if not len(self.bags.row):
            return maps[0].new_zeros(boxes, c, *self.size)
        out = maps[0].new_empty(boxes, c, cells)
        table = self.bags.weight.new_empty(self.starts[-1], min(c, self._step()))
        table[0] = 0
        for channels in self._chunks(c):
            part = table[:, : channels.stop - channels.start]
            for plane, rows in self._planes(maps, channels):
                _transpose(plane, part[rows])
            out[:, channels] = self.bags.sums(part).view(boxes, cells, -1).mT
        return out.view(boxes, c, *self.size)

    def spread(self, grad: Tensor) -> tuple[Tensor, ...]:
        if not len(self.bags.row):
            return tuple(grad.new_zeros(shape) for shape in self.shapes)
        maps = tuple(grad.new_empty(shape) for shape in self.shapes)
        transposed = self.bags.transposed(self.starts[-1])
        for channels in self._chunks(grad.shape[1]):
            # [K, cells of a box, C]
            cells = grad[:, channels].to(transposed.weight.dtype).flatten(2).mT.contiguous()
            self._write(transposed.sums(cells.flatten(0, 1)), maps, channels)
            # The next chunk reuses this memory while it is still in the caches.
            del cells
        return maps

    def _write(self, table: Tensor, maps: Sequence[Tensor], channels: slice) -> None:
        for plane, rows in self._planes(maps, channels):
            _transpose(table[rows], plane)

    def _step(self) -> int:
        return max(CHANNELS, BUFFER // self.starts[-1] // CHANNELS * CHANNELS)

    def _chunks(self, channels: int) -> list[slice]:
        return [slice(i, min(i + self._step(), channels)) for i in range(0, channels, self._step())]

    def _planes(self, maps: Sequence[Tensor], channels: slice) -> Iterator[tuple[Tensor, slice]]:
        """For each image of each map, the given channels as [channels, H W], and its rows in the table."""
        images = (image for m in maps for image in m.flatten(2))
        for image, start, stop in zip(images, self.starts, self.starts[1:], strict=False):
            yield image[channels], slice(start, stop)


def _transpose(source: Tensor, target: Tensor) -> None:
    """Copy the transpose of `source` to `target`, in pieces that fit in the caches."""
    # The longer axis of the source is split.
    long = int(source.shape[1] > source.shape[0])
    pieces = source.split(TILE, dim=long), target.split(TILE, dim=1 - long)
    for piece, place in zip(*pieces, strict=True):
        place.copy_(piece.t())
