"""Deformable sampling: every output pixel reads its own input pixel plus a learned offset, bilinearly.

    out[n, c, i, j] = bilinear(x[n, c], i + offset[n, 2g, i, j], j + offset[n, 2g + 1, i, j]),    g = c // (C / G)

Coordinates are pixels with centres at integers. A corner outside the map counts as 0, so the value fades to 0 over
the last pixel and stays 0 from there on; an offset that is not finite samples 0. At whole coordinates, where the
bilinear surface has a kink, the gradient is the one of the cell below and to the right.
"""

from torch import Tensor

from dimofs.kernels.deform_torch import deform_sample_torch


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
