"""Register functions that launch Triton kernels as PyTorch operators. Import this module only where Triton is.

On a GPU, torch.compile traces through these operators to the kernels. Triton's interpreter (TRITON_INTERPRET=1), which
runs kernels in NumPy on machines without a GPU, cannot be traced, so there the operators are opaque.

A rule for the kernels: torch.compile finds the tensors that a kernel writes by tracing the addresses of its stores back
to its arguments, and counts every pointer that a called function takes on the way as written. So a kernel itself loads
whatever decides an address, and does not leave that to a function it calls.
"""

import os
from collections.abc import Callable
from typing import Any

import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def operator(name: str, fake: Callable) -> Callable[[Callable], Any]:
    """Register the decorated function as the operator `dimofs::name`. `fake` makes results of the right shapes only."""
    kind: Any = torch.library.custom_op if INTERPRETED else torch.library.triton_op

    def register(function: Callable) -> Any:
        registered = kind(f"dimofs::{name}", function, mutates_args=())
        registered.register_fake(fake)
        return registered

    return register
