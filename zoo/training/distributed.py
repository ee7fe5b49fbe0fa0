"""Training by several processes that `torchrun` starts, one per GPU or several on a CPU, and the sums they share.

A process that runs alone is rank 0 of 1, and every function here returns what it got.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dimofs.cli import InputError
from dimofs.zoo.devices import pick_device, rank_and_world


@dataclass(frozen=True)
class Process:
    """The number of this process (`rank`), the number of processes (`world`), and the device this one computes on."""

    rank: int
    world: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0


@contextmanager
def join_processes(device: str | None = None) -> Iterator[Process]:
    """This process, joined with the others that torchrun started: by nccl on GPUs, by gloo on CPUs.

    device: see `pick_device`. InputError: there is no such device, or torchrun's variables are not numbers.
    """
    rank, world = rank_and_world()
    where = pick_device(device)
    if world == 1:
        yield Process(rank, world, where)
        return
    if where.type == "cuda":
        torch.cuda.set_device(where)
    try:
        dist.init_process_group("nccl" if where.type == "cuda" else "gloo")
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"WORLD_SIZE={world}: cannot join the other processes ({reason}); use torchrun") from error
    try:
        yield Process(rank, world, where)
    finally:
        dist.destroy_process_group()


def total(values: Tensor) -> Tensor:
    """The sum over all processes."""
    if not dist.is_initialized():
        return values
    values = values.detach().clone()
    dist.all_reduce(values)
    return values


def any_of(flag: bool, device: torch.device) -> bool:
    """Whether `flag` is set in any of the processes."""
    if not dist.is_initialized():
        return flag
    return bool(total(torch.tensor(int(flag), device=device)).item())


def gathered(names: Sequence[str]) -> list[str]:
    """The names of all processes, by rank."""
    if not dist.is_initialized():
        return list(names)
    parts: list = [None] * dist.get_world_size()
    dist.all_gather_object(parts, list(names))
    return [name for part in parts for name in part]


def sum_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Make every gradient the sum over all processes. A gradient that no process has stays None."""
    if not dist.is_initialized():
        return
    present = total(torch.tensor([p.grad is not None for p in parameters], device=parameters[0].device).float())
    for p, processes in zip(parameters, present.tolist(), strict=True):
        if processes and p.grad is None:
            p.grad = torch.zeros_like(p)
    gradients = [p.grad for p in parameters if p.grad is not None]
    sums = total(torch.cat([g.flatten() for g in gradients]))
    for gradient, values in zip(gradients, sums.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(values.view_as(gradient))
