"""Camera motion in flow fields: the affine motion that most of a field agrees with."""

import torch
from torch import Tensor

# Rounds of reweighting, and the residual below which a pixel no longer gains weight, in the unit of the field.
ROUNDS, NEAR = 5, 0.25


def affine_motion(flow: Tensor) -> Tensor:
    """Fields [..., 2, h, w] -> the affine fields u = M (x, y) + t, likewise, with the least sum of |residual|.

    By iteratively reweighted least squares, so that people who cover less than half of a frame hardly change it.
    """
    height, width = flow.shape[-2:]
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    basis = torch.stack((torch.ones_like(x), x, y)).flatten(1).to(flow)  # [3, hw]
    values = flow.flatten(-2)  # [..., 2, hw]
    weights = torch.ones_like(values[..., 0, :])
    fitted = torch.zeros_like(values)
    # A field of one row or column leaves one slope open, which the ridge sets to 0.
    ridge = 1e-4 * torch.eye(3).to(flow)
    for _ in range(ROUNDS):
        weighted = basis * weights[..., None, :]  # [..., 3, hw]
        gram = weighted @ basis.T
        scale = gram[..., :1, :1]
        solved = torch.linalg.solve(gram / scale + ridge, weighted @ values.transpose(-1, -2) / scale)
        fitted = solved.transpose(-1, -2) @ basis
        weights = 1 / (values - fitted).norm(dim=-2).clamp(min=NEAR)
    return fitted.unflatten(-1, (height, width))


def median_motion(flow: Tensor) -> Tensor:
    """Fields [..., 2, h, w] -> the median of each component, [..., 2, 1, 1]."""
    return flow.flatten(-2).median(dim=-1).values[..., None, None]
