"""Deformable sampling: every output pixel reads its own input pixel plus a learned offset, bilinearly.

    out[n, c, i, j] = bilinear(x[n, c], i + offset[n, 2g, i, j], j + offset[n, 2g + 1, i, j]),    g = c // (C / G)

Coordinates are pixels with centres at integers. A corner outside the map counts as 0, so the value fades to 0 over
the last pixel and stays 0 from there on; an offset that is not finite samples 0. At whole coordinates, where the
bilinear surface has a kink, the gradient is the one of the cell below and to the right.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

OUTSIDE = 4.0  # in the normalized coordinates of grid_sample, where the map spans [-1, 1]


def deform_sample(x: Tensor, offset: Tensor) -> Tensor:
    """Sample `x` [N, C, H, W] at its own pixels moved by `offset` [N, 2G, H, W] -> [N, C, H, W], in the type of `x`.

    G divides C; the channels split into G contiguous groups. Offset channel 2g is dy, 2g + 1 dx, in pixels. G = C gives
    every channel its own motion: the DiMoFs of the paper (section 3). Coordinates are float32 (float64 for a float64
    `x`) whatever the types. Raises ValueError for shapes that do not fit.
    """
    n, c, h, w = x.shape
    groups = offset.shape[1] // 2
    if offset.shape != (n, 2 * groups, h, w) or groups == 0 or c % groups:
        raise ValueError(f"offset {[*offset.shape]} does not fit x {[*x.shape]}: expected [N, 2G, H, W] with G | C")
    if x.is_cuda:
        from dimofs.kernels.deform_triton import deform_sample_triton

        return deform_sample_triton(x, offset)
    return deform_sample_torch(x, offset)


def deform_sample_torch(x: Tensor, offset: Tensor) -> Tensor:
    """The twin of the Triton kernels in plain PyTorch, and the CPU path."""
    n, c, h, w = x.shape
    groups = offset.shape[1] // 2
    pixels = torch.meshgrid(torch.arange(h, device=x.device), torch.arange(w, device=x.device), indexing="ij")
    planes = bilinear(
        x.reshape(n * groups, c // groups, h, w), offset.reshape(n * groups, 2, h, w), torch.stack(pixels)
    )
    return planes.view(n, c, h, w)


def bilinear(x: Tensor, offset: Tensor, position: Tensor) -> Tensor:
    """Sample `x` [B, C, H, W] at the (row, column) `position` [2, h, w] + `offset` [B, 2, h, w] -> [B, C, h, w].

    The offsets stay planar: grid_sample sees the transposed image and a strided grid, so nothing is copied but the grid
    itself. The grid lies two roundings beyond the position, so that a whole coordinate never lands in the cell before.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    size = torch.tensor(x.shape[2:], dtype=dtype, device=x.device).view(2, 1, 1)
    base = (2 * position.to(dtype) + 1) / size - 1 + 2 * torch.finfo(dtype).eps
    grid = torch.addcmul(base, offset.to(dtype), 2 / size)  # [B, 2, h, w], the map spans [-1, 1]
    with torch.no_grad():  # outside the map the gradient of grid_sample is 0 already
        grid.nan_to_num_(OUTSIDE, OUTSIDE, -OUTSIDE)
    sampled = F.grid_sample(x.to(dtype).transpose(2, 3), grid.permute(0, 2, 3, 1), align_corners=False)
    return sampled.to(x.dtype)
