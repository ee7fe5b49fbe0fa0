"""Deformable sampling: each output pixel is a bilinear sample of the input at its own position plus a learned offset.

    out[n, c, i, j] = bilinear(x[n, c], i + offset[n, 2g, i, j], j + offset[n, 2g + 1, i, j]),    g = c // (C / G)

Coordinates are in pixels, with pixel centres at integers: (0, 0) is the centre of the first pixel, and (0, 0.25) lies a
quarter of the way to the next. Pixels outside the map count as 0, so samples fade to 0 within one pixel of the border
and are 0 beyond. An offset that is not finite samples 0. At whole coordinates, where the bilinear surface has a kink,
the gradient is that of the cell below and to the right.
"""

from torch import Tensor

from dimofs.kernels.deform_torch import deform_sample_torch


def deform_sample(x: Tensor, offset: Tensor) -> Tensor:
    """Sample `x` [N, C, H, W] at each pixel plus `offset` [N, 2G, H, W] -> [N, C, H, W], in the dtype of `x`.

    The channels form G contiguous groups of equal size (G divides C) that share an offset: channel 2g of `offset` is
    dy of group g, channel 2g + 1 is dx, both in pixels. With G = C every channel moves by itself, as the DiMoFs of the
    paper do (section 3). Coordinates are computed in float32 (float64 for a float64 `x`), whatever the dtypes of the
    inputs. Raises ValueError for shapes, dtypes or devices that do not match.
    """
    if x.ndim != 4 or offset.ndim != 4:
        raise ValueError(f"x {[*x.shape]} and offset {[*offset.shape]}: expected [N, C, H, W] and [N, 2G, H, W]")
    n, c, h, w = x.shape
    groups = offset.shape[1] // 2
    if offset.shape != (n, 2 * groups, h, w) or groups == 0 or c % groups:
        raise ValueError(f"offset {[*offset.shape]} does not fit x {[*x.shape]}: expected [N, 2G, H, W] with G | C")
    if not x.is_floating_point() or not offset.is_floating_point():
        raise ValueError(f"x of {x.dtype} and offset of {offset.dtype}: expected floating point")
    if x.device != offset.device:
        raise ValueError(f"x on {x.device} and offset on {offset.device}: expected one device")
    if x.is_cuda:
        from dimofs.kernels.deform_triton import deform_sample_triton

        return deform_sample_triton(x, offset)
    return deform_sample_torch(x, offset)
