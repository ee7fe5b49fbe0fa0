"""What `dimofs.eval.speed` measures: the same work done by our kernels and by torchvision's, on the same inputs.

Each case counts the bytes that any implementation must move: every input that it uses read once, every result written
once. Divided by the measured bandwidth they are the floor that the table shows.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dimofs.eval import traffic
from dimofs.eval.timing.inputs import FRAME, LEVELS, STRIDES, normal, people
from dimofs.kernels import batched_nms, deform_conv2d, deform_sample, roi_align


@dataclass(frozen=True)
class Case:
    """Two functions of no arguments that do the same, or work worth comparing, and the bytes that ours must move."""

    name: str
    shape: str
    dtype: str
    ours: Callable[[], object]
    peer: str
    theirs: Callable[[], object]
    size: int
    memory: bool = False  # whether the peak of allocated memory is measured too
    predict: Callable[[], float] | None = None  # our seconds on an H100
    count: int = 1  # how often each does its work: times are divided by it
    note: str = ""  # what the times do not tell


def kernel_cases(device: str = "cpu", quick: bool = False) -> Iterator[Case]:
    """The cases of `kernels`, made one after the other; a quick run leaves out the largest."""
    sizes = [*(LEVELS[2:] if quick else LEVELS), (128, 80, 48), (256, 8, 8)]
    for shape in sizes:
        yield from deform_sample_cases(shape, device)
    for shape in [*(LEVELS[3:] if quick else LEVELS[1:]), (256, 8, 8)]:
        for modulated in (False, True):
            yield from deform_conv2d_cases(shape, modulated, device)
    for side, count in itertools.product((7, 14), (1, 100) if quick else (1, 100, 1000)):
        yield from pyramid_cases(count, side, device)
    yield from one_roi_cases(device)
    for count, classes in itertools.product((1000,) if quick else (1000, 4000, 10000), (1, 80)):
        yield nms_case(count, classes, device)
    yield nms_case(2000, 1, device, crowd=40)


def deform_sample_cases(shape: tuple[int, int, int], device: str) -> Iterator[Case]:
    """Each channel of [1, C, H, W] moved by its own offsets of 2 pixels; torchvision's convolution is the identity."""
    from torchvision import ops

    c, h, w = shape
    x, offset = normal(1, c, h, w, device=device), normal(1, 2 * c, h, w, device=device, seed=1) * 2
    identity = torch.eye(c, device=device)[:, :, None, None]
    ours, theirs = both(deform_sample, lambda x, o: ops.deform_conv2d(x, o, identity), x, offset)
    name = f"{c}x{h}x{w}"
    for i, (kind, each) in enumerate((("deform_sample", 16), ("deform_sample backward", 28))):
        predict = lambda i=i: traffic.deform_seconds(offset.cpu(), backward=i == 1)  # noqa: E731
        yield Case(kind, name, "fp32", ours[i], "deform_conv2d", theirs[i], each * x.numel(), predict=predict)


def deform_conv2d_cases(shape: tuple[int, int, int], modulated: bool, device: str) -> Iterator[Case]:
    """A 3 x 3 convolution of [1, C, H, W] to as many channels, all moved together."""
    from torchvision import ops

    c, h, w = shape
    inputs = [normal(1, c, h, w, device=device), normal(1, 18, h, w, device=device, seed=1) * 2]
    inputs.append(normal(c, c, 3, 3, device=device, seed=2) / c)
    if modulated:
        inputs.append(normal(1, 9, h, w, device=device, seed=3))
    ours, theirs = both(
        lambda x, o, k, m=None: deform_conv2d(x, o, k, padding=1, mask=m),
        lambda x, o, k, m=None: ops.deform_conv2d(x, o, k, padding=(1, 1), mask=m),
        *inputs,
    )
    name, size = f"{c}x{h}x{w} 3x3" + " mask" * modulated, 4 * (sum(t.numel() for t in inputs) + c * h * w)
    predict = lambda: traffic.convolve_seconds(inputs[1].cpu(), c)  # noqa: E731
    yield Case("deform_conv2d", name, "fp32", ours[0], "deform_conv2d", theirs[0], size, True, predict)
    predict = lambda: traffic.convolve_backward_seconds(inputs[1].cpu(), c)  # noqa: E731
    yield Case("deform_conv2d backward", name, "fp32", ours[1], "deform_conv2d", theirs[1], 2 * size, True, predict)


def pyramid_cases(count: int, side: int, device: str) -> Iterator[Case]:
    """Boxes pooled from the four levels of a frame."""
    from torchvision import ops

    maps = [normal(1, *shape, device=device, seed=i) for i, shape in enumerate(LEVELS)]
    boxes = [people(count, device)]
    peer = ops.MultiScaleRoIAlign(["0", "1", "2", "3"], side, 2)
    ours, theirs = both(
        lambda *m: roi_align(m, boxes, side, [1 / s for s in STRIDES], 2),
        lambda *m: peer({str(i): level for i, level in enumerate(m)}, boxes, [FRAME]),
        *maps,
    )
    pixels, cells = sum(m.numel() for m in maps), 256 * count * side**2
    name = f"{count}x256x{side}x{side}"
    forward, backward = 4 * (cells + min(pixels, 16 * cells)), 4 * (cells + pixels)
    for i, (kind, size) in enumerate((("roi_align, 4 levels", forward), ("roi_align, 4 levels backward", backward))):
        predict = lambda i=i: traffic.pool_seconds(boxes[0], side, backward=i == 1)  # noqa: E731
        yield Case(kind, name, "fp32", ours[i], "MultiScaleRoIAlign", theirs[i], size, predict=predict)


def one_roi_cases(device: str) -> Iterator[Case]:
    """One box on one small map, where nothing but the overhead counts."""
    from torchvision import ops

    x, box = normal(1, 256, 8, 8, device=device), torch.tensor([[0, 1.2, 0.7, 6.1, 7.4]], device=device)
    ours, theirs = both(
        lambda x: roi_align(x, box, 7, 1.0, 2, True), lambda x: ops.roi_align(x, box, 7, 1.0, 2, True), x
    )
    size = 4 * (x.numel() + 49 * 256)
    for i, kind in enumerate(("roi_align", "roi_align backward")):
        predict = lambda i=i: traffic.small_pool_seconds(backward=i == 1)  # noqa: E731
        yield Case(kind, "1x256x7x7 of 8x8", "fp32", ours[i], "roi_align", theirs[i], size, predict=predict)


def nms_case(count: int, classes: int, device: str, crowd: int = 0) -> Case:
    """Boxes all over a frame or, with a `crowd`, that many people each found many times, as region proposals are."""
    from torchvision import ops

    boxes = people(count, device)
    if crowd:
        boxes = people(crowd, device).repeat(count // crowd, 1)
        boxes = boxes + normal(*boxes.shape, device=device) * (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2) / 10
    scores = torch.rand(count, generator=torch.Generator().manual_seed(1)).to(device)
    labels = torch.arange(count, device=device) % classes
    name = f"{count} boxes, " + (f"{crowd} people" if crowd else f"{classes} class" + "es" * (classes > 1))
    calls = [lambda f=f: f(boxes, scores, labels, 0.5) for f in (batched_nms, ops.batched_nms)]
    predict = lambda: traffic.suppress_seconds(count)  # noqa: E731
    return Case("batched_nms", name, "fp32", calls[0], "batched_nms", calls[1], 28 * count, predict=predict)


def both(ours: Callable, theirs: Callable, *inputs: Tensor) -> list[tuple[Callable, Callable]]:
    """For each of two functions a call of its forward pass and one of its backward pass to every input."""
    leaves = [t.detach().requires_grad_() for t in inputs]
    calls = []
    for function in (ours, theirs):
        out = function(*leaves)
        grad = normal(*out.shape, device=out.device, seed=9)

        def backward(out=out, grad=grad):
            return torch.autograd.grad(out, leaves, grad, retain_graph=True)

        calls.append((lambda f=function: f(*inputs), backward))
    return calls


def peak_memory(call: Callable[[], object]) -> int:
    """The most bytes that PyTorch's CPU allocator held at once for a call, beyond what was there before."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it tells of GPUs that it misses
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = call()
    events = profiler.profiler.kineto_results.events()  # type: ignore[union-attr]
    del result
    memory: list[Any] = [event for event in events if event.name() == "[memory]"]
    changes = sorted((event.start_ns(), event.nbytes()) for event in memory)
    return max(itertools.accumulate((change for _, change in changes), initial=0))
