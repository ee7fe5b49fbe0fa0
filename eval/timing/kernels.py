"""The cases of `dimofs.eval.speed kernels`: our operators beside those of torchvision, on the same inputs.

The size of a case is the number of bytes that any implementation must move: every input used is read once, every result
written once. Divided by the measured bandwidth it gives the floor in the table.
"""

import itertools
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from dimofs.eval.timing import sectors
from dimofs.eval.timing.case import Case
from dimofs.eval.timing.inputs import FRAME, LEVELS, STRIDES, normal, people
from dimofs.kernels import batched_nms, deform_conv2d, deform_sample, roi_align


def kernel_cases(device: str = "cpu", quick: bool = False) -> Iterator[Case]:
    """The cases of `kernels`, made one after the other. `quick` leaves out the largest."""
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
    """Each channel of [1, C, H, W] sampled at its own offsets of about 2 pixels. The peer convolves by the identity."""
    from torchvision import ops

    c, h, w = shape
    x, offset = normal(1, c, h, w, device=device), normal(1, 2 * c, h, w, device=device, seed=1) * 2
    identity = torch.eye(c, device=device)[:, :, None, None]
    ours, theirs = both(deform_sample, lambda x, o: ops.deform_conv2d(x, o, identity), x, offset)
    name = f"{c}x{h}x{w}"
    # Bytes per value: forward x, two offsets and the result; backward also the gradients.
    for i, (kind, each) in enumerate((("deform_sample", 16), ("deform_sample backward", 28))):
        yield Case(
            name=kind,
            shape=name,
            dtype="fp32",
            ours=ours[i],
            peer="deform_conv2d",
            theirs=theirs[i],
            size=each * x.numel(),
            predict=partial(_predicted, sectors.deform_seconds, offset, backward=i == 1),
        )


def deform_conv2d_cases(shape: tuple[int, int, int], modulated: bool, device: str) -> Iterator[Case]:
    """A 3 x 3 convolution of [1, C, H, W] to C channels, which all share their offsets."""
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
    name = f"{c}x{h}x{w} 3x3 mask" if modulated else f"{c}x{h}x{w} 3x3"
    size = 4 * (sum(t.numel() for t in inputs) + c * h * w)
    predictions = sectors.convolve_seconds, sectors.convolve_backward_seconds
    for i, kind in enumerate(("deform_conv2d", "deform_conv2d backward")):
        yield Case(
            name=kind,
            shape=name,
            dtype="fp32",
            ours=ours[i],
            peer="deform_conv2d",
            theirs=theirs[i],
            size=(1 + i) * size,
            memory=True,
            predict=partial(_predicted, predictions[i], inputs[1], c),
        )


def pyramid_cases(count: int, side: int, device: str) -> Iterator[Case]:
    """`count` boxes pooled to side x side bins from the four levels of a frame."""
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
        yield Case(
            name=kind,
            shape=name,
            dtype="fp32",
            ours=ours[i],
            peer="MultiScaleRoIAlign",
            theirs=theirs[i],
            size=size,
            predict=partial(_predicted, sectors.pool_seconds, boxes[0], side, backward=i == 1),
        )


def one_roi_cases(device: str) -> Iterator[Case]:
    """One box on one small map, where only the overhead counts."""
    from torchvision import ops

    x, box = normal(1, 256, 8, 8, device=device), torch.tensor([[0, 1.2, 0.7, 6.1, 7.4]], device=device)
    ours, theirs = both(
        lambda x: roi_align(x, box, 7, 1.0, 2, True), lambda x: ops.roi_align(x, box, 7, 1.0, 2, True), x
    )
    size = 4 * (x.numel() + 49 * 256)
    for i, kind in enumerate(("roi_align", "roi_align backward")):
        yield Case(
            name=kind,
            shape="1x256x7x7 of 8x8",
            dtype="fp32",
            ours=ours[i],
            peer="roi_align",
            theirs=theirs[i],
            size=size,
            predict=partial(sectors.small_pool_seconds, backward=i == 1),
        )


def nms_case(count: int, classes: int, device: str, crowd: int = 0) -> Case:
    """Boxes all over a frame or, with a `crowd`, many around each of that many people, as region proposals are."""
    from torchvision import ops

    boxes = people(count, device)
    if crowd:
        boxes = people(crowd, device).repeat(count // crowd, 1)
        boxes = boxes + normal(*boxes.shape, device=device) * (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2) / 10
    scores = torch.rand(count, generator=torch.Generator().manual_seed(1)).to(device)
    labels = torch.arange(count, device=device) % classes
    kinds = f"{crowd} people" if crowd else "1 class" if classes == 1 else f"{classes} classes"
    return Case(
        name="batched_nms",
        shape=f"{count} boxes, {kinds}",
        dtype="fp32",
        ours=partial(batched_nms, boxes, scores, labels, 0.5),
        peer="batched_nms",
        theirs=partial(ops.batched_nms, boxes, scores, labels, 0.5),
        size=28 * count,
        predict=partial(sectors.suppress_seconds, count),
    )


def _predicted(prediction: Callable[..., float], tensor: Tensor, *rest, **options) -> float:
    """A prediction from a tensor that is brought to the CPU only when the prediction is asked for."""
    return prediction(tensor.cpu(), *rest, **options)


def both(ours: Callable, theirs: Callable, *inputs: Tensor) -> list[tuple[Callable, Callable]]:
    """For each of two functions, a call of its forward pass and a call of its backward pass to all inputs."""
    leaves = [t.detach().requires_grad_() for t in inputs]
    calls = []
    for function in (ours, theirs):
        out = function(*leaves)
        grad = normal(*out.shape, device=out.device, seed=9)

        def backward(out=out, grad=grad):
            return torch.autograd.grad(out, leaves, grad, retain_graph=True)

        calls.append((lambda f=function: f(*inputs), backward))
    return calls
