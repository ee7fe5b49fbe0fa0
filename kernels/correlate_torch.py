"""PyTorch twin of the Triton kernels of local correlation, and the CPU path; the formula is in `correlate`."""

import torch
import torch.nn.functional as F
from torch import Tensor

# Pixels of a row that are multiplied by their common neighbourhood at once.
TILE = 32


def correlate_torch(a: Tensor, b: Tensor, radius: int) -> Tensor:
    """`correlate` by matrix products: TILE pixels of a row with the TILE + 2 radius pixels around them in another row.

    Only the band of each product that lies within the radius is used; the rest is cheaper than to gather neighbours.
    """
    n, _, height, width = a.shape
    span = 2 * radius + 1
    if a.numel() == 0 or b.numel() == 0:
        return a.sum() * b.sum() * a.new_zeros(n, span * span, height, width)
    tile = min(TILE, width)
    fill = -width % tile
    tiles = (width + fill) // tile
    left = F.pad(a, (0, fill)).permute(0, 2, 3, 1).unflatten(2, (tiles, tile))  # [N, H, tiles, tile, C]
    right = F.pad(b, (radius, radius + fill, radius, radius)).permute(0, 2, 1, 3)
    right = right.unfold(3, tile + 2 * radius, tile).transpose(2, 3).contiguous()  # [N, H + 2r, tiles, C, tile + 2r]
    left = left.contiguous()
    if torch.compiler.is_compiling():
        # Compilers trace no loop over an unknown number of images.
        volumes = _volumes(left, right, span)
    else:
        # The products of one image stay in the caches.
        volumes = torch.cat([_volumes(*one, span) for one in zip(left.split(1), right.split(1), strict=True)])
    return volumes[..., :width].flatten(1, 2).contiguous()


def _volumes(left: Tensor, right: Tensor, span: int) -> Tensor:
    """Tiles [N, H, tiles, tile, C] and what lies around them [N, H + span - 1, tiles, C, tile + span - 1] -> products
    [N, dy, dx, H, tiles * tile]."""
    n, height, tiles = left.shape[:3]
    rows = [torch.bmm(left.flatten(0, 2), right[:, dy : dy + height].flatten(0, 2)) for dy in range(span)]
    bands = torch.stack([_band(row, span) for row in rows])  # [dy, N * H * tiles, tile, dx]
    return bands.unflatten(1, (n, height, tiles)).permute(1, 0, 5, 2, 3, 4).flatten(4)


def _band(products: Tensor, span: int) -> Tensor:
    """Entries [i, i + d] with 0 <= d < span of matrices [B, T, T + span - 1] -> [B, T, span].

    In memory the entry one row down and one column right lies one row and one element farther: rows that are longer by
    one element turn the diagonals into columns.
    """
    rows, columns = products.shape[1:]
    return F.pad(products.flatten(1), (0, rows)).view(-1, rows, columns + 1)[..., :span]
