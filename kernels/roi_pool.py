"""Sums of rows of feature maps that lie channel by channel in memory, on the CPU, without a second copy of the maps.

A row is a pixel's channels. Maps hold a pixel's channels far apart, and sums of rows want them together: so the maps
are transposed for a few channels at a time, into a buffer that stays in the caches, or, where only few pixels are
needed, for those alone.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

BUFFER = 2**22  # values of a table at a time
CHANNELS = 32  # at a time, at least
TILE = 4096  # pixels that are transposed at a time
FEW = 4  # maps are transposed as a whole if they have less than so many pixels per entry


class Bags(NamedTuple):
    """A sparse matrix [cells, rows]: cell i sums weight * table[row] over the entries from first[i] on."""

    row: Tensor  # [entries] int
    weight: Tensor  # [entries]
    first: Tensor  # [cells], of the type of row

    def of(self, table: Tensor) -> Tensor:
        """The sums [cells, C] of a table [rows, C]."""
        return F.embedding_bag(self.row, table, self.first, mode="sum", per_sample_weights=self.weight)

    def transposed(self, rows: int) -> "Bags":
        """The transpose [rows, cells]."""
        lengths = torch.diff(self.first, append=self.first.new_tensor([len(self.row)]))
        order = self.row.argsort(stable=True)
        cell = torch.repeat_interleave(lengths)[order].to(self.row.dtype)
        counts = torch.bincount(self.row, minlength=rows)
        return Bags(cell, self.weight[order], (counts.cumsum(0) - counts).to(self.row.dtype))


def pool(bags: Bags, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """The sums of pixels of `maps`, each [N, C, H, W], numbered image by image and map by map -> [K, C, *size]."""
    return _Pool.apply(size, *bags, *maps)


class _Pool(torch.autograd.Function):
    """The product with the matrix of bags; its derivative is the one with the transpose, and the other way round."""

    @staticmethod
    def forward(ctx, size, row: Tensor, weight: Tensor, first: Tensor, *maps: Tensor) -> Tensor:
        ctx.save_for_backward(row, weight, first)
        ctx.shapes, c = [m.shape for m in maps], maps[0].shape[1]
        cells = size[0] * size[1]
        boxes = len(first) // cells
        if not len(row):
            return maps[0].new_zeros(boxes, c, *size)
        out = maps[0].new_empty(boxes, c, cells)
        rows, bags = _Rows.of(Bags(row, weight, first), ctx.shapes)
        for channels in rows.chunks(c):
            sums = bags.of(rows.read(maps, channels, weight.dtype))
            out[:, channels] = sums.view(boxes, cells, -1).mT
        return out.view(boxes, c, *size)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return None, None, None, None, *_Spread.apply(ctx.shapes, *ctx.saved_tensors, grad)


class _Spread(torch.autograd.Function):
    """The transpose of `_Pool`: grad [K, C, *size] to maps of `shapes`."""

    @staticmethod
    def forward(ctx, shapes, row: Tensor, weight: Tensor, first: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(row, weight, first)
        ctx.size = grad.shape[2:]
        if not len(row):
            return tuple(grad.new_zeros(shape) for shape in shapes)
        rows, bags = _Rows.of(Bags(row, weight, first), shapes)
        maps = tuple(grad.new_empty(s) if rows.used is None else grad.new_zeros(s) for s in shapes)
        transposed = bags.transposed(rows.count)
        for channels in rows.chunks(grad.shape[1]):
            cells = grad[:, channels].to(weight.dtype).flatten(2).mT.contiguous()  # [K, cells of a box, C]
            rows.write(maps, channels, transposed.of(cells.flatten(0, 1)))
        return maps

    @staticmethod
    def backward(ctx, *grads: Tensor):
        return None, None, None, None, _Pool.apply(ctx.size, *ctx.saved_tensors, *grads)


def cells_first(sums: Tensor, size: tuple[int, int]) -> Tensor:
    """[K * cells, C] -> [K, C, *size], a view."""
    return sums.view(-1, *size, sums.shape[1]).permute(0, 3, 1, 2)


def _transpose(source: Tensor, target: Tensor) -> None:
    """Copy a matrix transposed, in pieces that the caches hold."""
    long = int(source.shape[1] > source.shape[0])  # the axis of the source
    pieces = source.split(TILE, dim=long), target.split(TILE, dim=1 - long)
    for piece, place in zip(*pieces, strict=True):
        place.copy_(piece.t())


class _Rows:
    """The rows of a table that stands for maps: all of their pixels, or those `used`, ascending."""

    def __init__(self, shapes: Sequence[Sequence[int]], used: Tensor | None):
        areas = [s[2] * s[3] for s in shapes for _ in range(s[0])]  # of each image of each map
        self.starts = [sum(areas[:i]) for i in range(len(areas) + 1)]
        self.used = used
        self.limits = self.starts if used is None else torch.searchsorted(used, used.new_tensor(self.starts)).tolist()
        self.count = self.limits[-1]

    @classmethod
    def of(cls, bags: Bags, shapes: Sequence[Sequence[int]]) -> tuple["_Rows", Bags]:
        """The rows that `bags` need, and the bags renumbered to them."""
        if FEW * len(bags.row) > sum(s[0] * s[2] * s[3] for s in shapes):
            return cls(shapes, None), bags
        used, row = torch.unique(bags.row, return_inverse=True)
        return cls(shapes, used), bags._replace(row=row.to(bags.row.dtype))

    def chunks(self, channels: int) -> list[slice]:
        step = max(CHANNELS, BUFFER // self.count // CHANNELS * CHANNELS)
        return [slice(i, i + step) for i in range(0, channels, step)]

    def read(self, maps: Sequence[Tensor], channels: slice, dtype: torch.dtype) -> Tensor:
        """The table [rows, channels] of some channels."""
        width = len(range(maps[0].shape[1])[channels])
        table = torch.empty(self.count, width, dtype=dtype)
        for plane, rows, pixels in self._planes(maps, channels):
            _transpose(plane if pixels is None else plane.index_select(1, pixels), table[rows])
        return table

    def write(self, maps: Sequence[Tensor], channels: slice, table: Tensor) -> None:
        """Put the table into the maps."""
        for plane, rows, pixels in self._planes(maps, channels):
            if pixels is None:
                _transpose(table[rows], plane)
            else:
                plane.index_copy_(1, pixels, table[rows].t().to(plane.dtype))

    def _planes(self, maps: Sequence[Tensor], channels: slice) -> Iterator[tuple[Tensor, slice, Tensor | None]]:
        """Of each image of each map some channels [channels, H W], its rows of the table, and which of its pixels."""
        images = (image for m in maps for image in m.flatten(2))
        for i, image in enumerate(images):
            rows = slice(self.limits[i], self.limits[i + 1])
            if rows.start < rows.stop:
                pixels = None if self.used is None else self.used[rows].long() - self.starts[i]
                yield image[channels], rows, pixels
