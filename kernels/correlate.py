"""Local correlation (cost volume): every pixel of one map against the pixels around it in another.

    out[n, (dy + r) * (2r + 1) + dx + r, i, j] = sum over c of a[n, c, i, j] * b[n, c, i + dy, j + dx]

for displacements |dy|, |dx| up to the radius r.
Pixels outside the map count as 0. Optical flow networks match features this way (FlowNet, Dosovitskiy et al., 2015).
"""

from torch import Tensor

from dimofs.kernels.correlate_torch import correlate_torch


def correlate(a: Tensor, b: Tensor, radius: int) -> Tensor:
    """Correlate `a` with `b`, both [N, C, H, W], over displacements up to `radius` -> [N, (2 radius + 1)², H, W].

    Channel (dy + radius) * (2 radius + 1) + dx + radius holds displacement (dy, dx). The result has the type of the
    maps; sums are float32 (float64 for float64 maps). Raises ValueError for shapes, types or a radius that do not fit.
    """
    if a.ndim != 4 or a.shape != b.shape or a.dtype != b.dtype or not a.is_floating_point():
        found = f"{a.dtype} {[*a.shape]} and {b.dtype} {[*b.shape]}"
        raise ValueError(f"maps are {found}: expected two of one floating type and one shape [N, C, H, W]")
    if radius < 0:
        raise ValueError(f"radius is {radius}: expected 0 or more")
    if a.is_cuda:
        from dimofs.kernels.correlate_triton import correlate_triton

        return correlate_triton(a, b, radius)
    return correlate_torch(a, b, radius)
