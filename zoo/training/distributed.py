"""Training by several processes, one a GPU or some of a CPU's cores: what `torchrun` starts, and the sums they share.

Alone, a process is rank 0 of 1 and every function here gives back what it got.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dimofs.cli import InputError


@dataclass(frozen=True)
class Process:
    """Which of how many processes this is, and the device that it computes on."""

    rank: int
    world: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether it is the one that writes."""
        return self.rank == 0


@contextmanager
def join_processes(device: str | None = None) -> Iterator[Process]:
    """This process, joined with the others that torchrun started: by nccl on GPUs, by gloo on a CPU.

    device: default a GPU if there is one, with torchrun the process's own. InputError: it is not there.
    """
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if device is None:
        device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    where = _present(device)
    if world == 1:
        yield Process(rank, world, where)
        return
    if where.type == "cuda":
        torch.cuda.set_device(where)
    dist.init_process_group("nccl" if where.type == "cuda" else "gloo")
    try:
        yield Process(rank, world, where)
    finally:
        dist.destroy_process_group()


def _present(device: str) -> torch.device:
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {device}: not available ({str(error).splitlines()[0]})") from error


def total(values: Tensor) -> Tensor:
    """The sum over all processes."""
    if not dist.is_initialized():
        return values
    values = values.detach().clone()
    dist.all_reduce(values)
    return values


def gathered(names: Sequence[str]) -> list[str]:
    """The names of all processes, by rank."""
    if not dist.is_initialized():
        return list(names)
    parts: list = [None] * dist.get_world_size()
    dist.all_gather_object(parts, list(names))
    return [name for part in parts for name in part]


def sum_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Make every gradient the sum over all processes; one that no process has stays absent."""
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
