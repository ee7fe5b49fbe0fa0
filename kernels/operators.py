"""Make PyTorch operators of functions that launch Triton kernels.

On a GPU torch.compile sees through them to the kernel; Triton's interpreter, which runs the kernels in NumPy on a
machine without one (TRITON_INTERPRET=1), cannot be traced, so there they are opaque. Imported only where Triton runs.

torch.compile learns what a kernel writes by following the addresses of its stores back to its arguments, and counts
every pointer that a called function takes on the way. So what decides an address is loaded in the kernel itself.
"""

import os
from collections.abc import Callable
from typing import Any

import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def operator(name: str, fake: Callable) -> Callable[[Callable], Any]:
    """Register the decorated function as the operator `dimofs::name`; `fake` makes its results without their values."""

    kind: Any = torch.library.custom_op if INTERPRETED else torch.library.triton_op

    def register(function: Callable) -> Any:
        registered = kind(f"dimofs::{name}", function, mutates_args=())
        registered.register_fake(fake)
        return registered

    return register
