"""Non-maximum suppression: a box falls when a box of its class with a higher score, itself kept, overlaps it more.

keep[j] = not any(keep[i] and class(i) == class(j) and IoU(i, j) > threshold for i before j in descending score)
"""

import torch
from torch import Tensor

BLOCK = 256


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """The `boxes` [K, 4] that survive non-maximum suppression in their class -> int64 indices, scores descending.

    `scores` [K], classes `idxs` [K]. Equal scores keep their order. Semantics of torchvision.ops.batched_nms: overlap
    is computed in float32 (float64 for float64 boxes), and boxes that are not finite neither suppress nor fall.
    """
    return batched_nms_torch(boxes, scores, idxs, iou_threshold)


def batched_nms_torch(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """The twin of the Triton kernel in plain PyTorch, and the CPU path.

    Blocks of boxes in descending score meet the boxes kept so far; inside a block the definition's recurrence is
    iterated to its fixed point, which takes as many rounds as the longest chain of suppressions.
    """
    order = scores.argsort(descending=True, stable=True)
    dtype = torch.promote_types(boxes.dtype, torch.float32)
    sorted_boxes, classes = boxes[order].to(dtype), idxs[order]
    threshold = _rounded_down(iou_threshold, dtype)
    kept = order.new_empty(0)
    for block in torch.arange(len(order), device=order.device).split(BLOCK):
        free = ~_suppresses(sorted_boxes, classes, kept, block, threshold).any(dim=0)
        block = block[free]
        inside = _suppresses(sorted_boxes, classes, block, block, threshold).triu(1)
        kept = torch.cat((kept, block[_fixed_point(inside)]))
    return order[kept]


def _fixed_point(suppresses: Tensor) -> Tensor:
    """Solve keep[j] = not any_i(keep[i] and suppresses[i, j]) for a strictly upper triangular matrix -> bool."""
    keep = torch.ones(len(suppresses), dtype=torch.bool, device=suppresses.device)
    while True:
        after = ~(suppresses & keep[:, None]).any(dim=0)
        if torch.equal(after, keep):
            return keep
        keep = after


def _suppresses(boxes: Tensor, classes: Tensor, first: Tensor, second: Tensor, threshold: float) -> Tensor:
    """Whether the boxes at `first` [N] overlap those at `second` [M] of their class beyond the threshold -> [N, M]."""
    a, b = boxes[first], boxes[second]
    width = (torch.minimum(a[:, None, 2], b[:, 2]) - torch.maximum(a[:, None, 0], b[:, 0])).clamp_(min=0)
    height = (torch.minimum(a[:, None, 3], b[:, 3]) - torch.maximum(a[:, None, 1], b[:, 1])).clamp_(min=0)
    shared = width.mul_(height)
    areas = ((t[:, 2] - t[:, 0]) * (t[:, 3] - t[:, 1]) for t in (a, b))
    union = next(areas)[:, None] + next(areas) - shared
    return (shared.div_(union) > threshold) & (classes[first, None] == classes[second])


def _rounded_down(threshold: float, dtype: torch.dtype) -> float:
    """The largest number of `dtype` up to `threshold`: just as many overlaps of that type exceed it."""
    rounded = torch.tensor(threshold, dtype=dtype)
    if rounded.item() > threshold:
        rounded = torch.nextafter(rounded, rounded.new_tensor(-torch.inf))
    return rounded.item()
