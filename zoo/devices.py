"""Which device a command computes on, and which process of how many it is when `torchrun` starts several."""

import os
import re
from functools import cache
from time import perf_counter, sleep

import torch
from torch.distributed.rendezvous import rendezvous

from dimofs.cli import InputError

# Types of the network's arithmetic by name.
DTYPES = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16")}
DTYPES |= {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# What --dtype takes: one of these types, or the one that `dtype_named` chooses.
DTYPE_NAMES = (*DTYPES, "auto")
# How many times as fast bfloat16 must be on a CPU to be chosen. Where it is emulated it is slower.
FASTER = 1.3
KNOWN = re.compile(r"(cpu|cuda|mps|xpu)(:[0-9]{1,4})?")


def pick_device(name: str | None) -> torch.device:
    """The device called `name` (cpu, cuda, cuda:1, mps, ...), known to work.

    None is a GPU if there is one, under `torchrun` the one with the process's own number, else the CPU.
    InputError: there is no such device.
    """
    if name is None:
        name = f"cuda:{_number('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    if not KNOWN.fullmatch(name):
        raise InputError(f"device {name[:40]!r}: not a device; give cpu, cuda, cuda:1 or another number, mps or xpu")
    try:
        return torch.empty(1, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name}: not available ({str(error).splitlines()[0]})") from error


def dtype_named(name: str, device: torch.device) -> torch.dtype:
    """The type of a name of DTYPE_NAMES. "auto" is bfloat16 on a CPU that computes it natively, which a convolution
    timed once tells, and else float32. InputError: unknown name."""
    if name not in DTYPE_NAMES:
        raise InputError(f"dtype {name[:40]!r}: not one of {', '.join(DTYPE_NAMES)}")
    if name != "auto":
        return DTYPES[name]
    return torch.bfloat16 if device.type == "cpu" and _bfloat16_is_fast() else torch.float32


@cache
@torch.inference_mode()
def _bfloat16_is_fast() -> bool:
    """Whether a convolution like those of `dimofs_mobile` is faster in bfloat16 on this CPU."""

    def seconds(dtype: torch.dtype) -> float:
        conv = torch.nn.Conv2d(64, 64, 3, padding=1, dtype=dtype)
        x = torch.rand(1, 64, 72, 128, dtype=dtype).contiguous(memory_format=torch.channels_last)
        times = []
        # The first one compiles.
        for _ in range(6):
            began = perf_counter()
            conv(x)
            times.append(perf_counter() - began)
        return min(times[1:])

    return seconds(torch.float32) > FASTER * seconds(torch.bfloat16)


def rank_and_world() -> tuple[int, int]:
    """This process's number and how many there are, as `torchrun` says in RANK and WORLD_SIZE; alone (0, 1).

    InputError: these are not such numbers.
    """
    world = _number("WORLD_SIZE", 1)
    rank = _number("RANK", 0)
    if world < 1 or rank >= world:
        raise InputError(f"RANK={rank} WORLD_SIZE={world}: RANK must be below WORLD_SIZE; unset both, or use torchrun")
    return rank, world


def await_ranks(failed: bool, world: int) -> None:
    """Keep a rank that has failed until the others are done, since torchrun ends all ranks when one fails."""
    if world == 1 or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return
    try:
        store, _, _ = next(iter(rendezvous("env://")))
        done = store.add("dimofs.ranks", 1)
        while failed and done < world:
            sleep(0.2)
            done = store.add("dimofs.ranks", 0)
    except (ValueError, RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"torchrun's other ranks cannot be reached ({reason}); start with torchrun") from error


def _number(variable: str, default: int) -> int:
    """A whole number of at least 0 from the environment."""
    text = os.environ.get(variable, str(default))
    if not re.fullmatch("[0-9]{1,6}", text):
        raise InputError(f"{variable}={text[:40]!r}: must be a whole number; unset it, or start with torchrun")
    return int(text)
