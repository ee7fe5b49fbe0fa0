"""Sums by atomic addition, order-independent (hence deterministic) when determinism is requested.

Sums are float32, or float64 for float64 gradients, but never 16-bit types, whose atomics are slow
compare-and-swap loops. Atomic additions happen in any order and floating-point addition is not associative. So under
torch.use_deterministic_algorithms the sums are int64 in fixed point, scaled by a power of two such that the largest
possible sum does not overflow. The rounding error of each term is then below 2^-60 of the largest possible sum.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor


def new_sums(shape: tuple[int, ...], terms: int, *factors: Tensor) -> tuple[Tensor, Tensor]:
    """A zeroed buffer and its scale. Each sum has up to `terms` terms, which are products of one element per factor."""
    dtype = torch.promote_types(factors[0].dtype, torch.float32)
    if not torch.are_deterministic_algorithms_enabled() or factors[0].numel() == 0:
        buffer = factors[0].new_zeros(shape, dtype=dtype)
        return buffer, buffer
    peaks = [factor.abs().amax().double() for factor in factors]
    bound = torch.stack(peaks).prod() * terms
    scale = torch.exp2((61 - bound.log2().ceil()).clamp(max=500))
    return factors[0].new_zeros(shape, dtype=torch.int64), torch.where(bound.isfinite(), scale, torch.nan)


def read_sums(buffer: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """The sums as `dtype`. In fixed point all are NaN if any factor was not finite."""
    return (buffer.double() / scale if buffer.dtype == torch.int64 else buffer).to(dtype)


@triton.jit
def scatter_add(buffer, scale, index, value, mask):
    """buffer[index] += value where `mask` is set, for a buffer and scale made by `new_sums`."""
    if buffer.dtype.element_ty == tl.int64:
        value = (value.to(tl.float64) * tl.load(scale)).to(tl.int64)
    tl.atomic_add(buffer + index, value, mask=mask, sem="relaxed")
