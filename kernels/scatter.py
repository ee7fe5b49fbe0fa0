"""Sums into memory by atomic addition, in an order that does not matter where determinism is asked for.

A sum is a float buffer: float32, or float64 for float64 gradients; never a 16-bit type, whose atomics are loops of
compare-and-swap. Floating-point addition is not associative and atomics come in any order; so under
torch.use_deterministic_algorithms the buffer is int64 in fixed point, scaled by the power of two that lets every term
reach its bound without overflow. Each term is then off by less than 2^-60 of the largest possible sum.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor


def new_sums(shape: tuple[int, ...], terms: int, *factors: Tensor) -> tuple[Tensor, Tensor]:
    """A zeroed buffer for sums of up to `terms` products of an element of each of `factors` each, and its scale."""
    dtype = torch.promote_types(factors[0].dtype, torch.float32)
    if not torch.are_deterministic_algorithms_enabled() or factors[0].numel() == 0:
        buffer = factors[0].new_zeros(shape, dtype=dtype)
        return buffer, buffer
    peaks = [factor.abs().amax().double() for factor in factors]
    bound = torch.stack(peaks).prod() * terms
    scale = torch.exp2((61 - bound.log2().ceil()).clamp(max=500))
    return factors[0].new_zeros(shape, dtype=torch.int64), torch.where(bound.isfinite(), scale, torch.nan)


def read_sums(buffer: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """The sums as `dtype`; NaN if a term's bound was not finite."""
    return (buffer.double() / scale if buffer.dtype == torch.int64 else buffer).to(dtype)


@triton.jit
def scatter_add(buffer, scale, index, value, mask):
    """buffer[index] += value where `mask`, for a buffer and scale of `new_sums`."""
    if buffer.dtype.element_ty == tl.int64:
        value = (value.to(tl.float64) * tl.load(scale)).to(tl.int64)
    tl.atomic_add(buffer + index, value, mask=mask, sem="relaxed")
