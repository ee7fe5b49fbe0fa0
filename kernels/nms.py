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
    return _batched_nms(boxes, scores, idxs, iou_threshold)


@torch.library.custom_op("dimofs::batched_nms", mutates_args=())
def _batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """An operator opaque to torch.compile: how many boxes survive depends on their values."""
    if boxes.is_cuda:
        from dimofs.kernels.nms_triton import batched_nms_triton

        return batched_nms_triton(boxes, scores, idxs, iou_threshold)
    return batched_nms_torch(boxes, scores, idxs, iou_threshold)


@_batched_nms.register_fake
def _(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    return boxes.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.int64)


def batched_nms_torch(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """The twin of the Triton kernel in plain PyTorch, and the CPU path: class by class."""
    order = scores.argsort(descending=True, stable=True)
    boxes, idxs = boxes[order].to(torch.promote_types(boxes.dtype, torch.float32)), idxs[order]
    counts = torch.unique(idxs, return_counts=True)[1].tolist()
    members = idxs.argsort(stable=True).split(counts)
    threshold = rounded_down(iou_threshold, boxes.dtype)
    kept = [ranks[_survivors(boxes[ranks], threshold)] for ranks in members]
    return order[torch.cat([order[:0], *kept]).sort().values]


def _survivors(boxes: Tensor, threshold: float) -> Tensor:
    """Indices of the `boxes` [K, 4] of one class, best first, that survive.

    Blocks of boxes meet those kept so far; inside a block the definition's recurrence is iterated to its fixed point,
    which takes as many rounds as the longest chain of suppressions.
    """
    kept = torch.arange(0, device=boxes.device)
    for block in torch.arange(len(boxes), device=boxes.device).split(BLOCK):
        if len(kept):
            block = block[~_suppresses(boxes[kept], boxes[block], threshold).any(dim=0)]
        inside = _suppresses(boxes[block], boxes[block], threshold).triu(1)
        kept = torch.cat((kept, block[_fixed_point(inside)]))
    return kept


def _fixed_point(suppresses: Tensor) -> Tensor:
    """Solve keep[j] = not any_i(keep[i] and suppresses[i, j]) for a strictly upper triangular matrix -> bool."""
    keep = torch.ones(len(suppresses), dtype=torch.bool, device=suppresses.device)
    while True:
        after = ~(suppresses & keep[:, None]).any(dim=0)
        if torch.equal(after, keep):
            return keep
        keep = after


def _suppresses(a: Tensor, b: Tensor, threshold: float) -> Tensor:
    """Whether the boxes `a` [N, 4] overlap `b` [M, 4] beyond the threshold -> [N, M]."""
    width = (torch.minimum(a[:, 2, None], b[:, 2]) - torch.maximum(a[:, 0, None], b[:, 0])).clamp_(min=0)
    height = (torch.minimum(a[:, 3, None], b[:, 3]) - torch.maximum(a[:, 1, None], b[:, 1])).clamp_(min=0)
    shared = width.mul_(height)
    area_a, area_b = ((t[:, 2] - t[:, 0]) * (t[:, 3] - t[:, 1]) for t in (a, b))
    union = (area_a[:, None] + area_b).sub_(shared)
    return shared.div_(union) > threshold


def rounded_down(threshold: float, dtype: torch.dtype) -> float:
    """The largest number of `dtype` up to `threshold`: just as many overlaps of that type exceed it."""
    rounded = torch.tensor(threshold, dtype=dtype)
    if rounded.item() > threshold:
        rounded = torch.nextafter(rounded, rounded.new_tensor(-torch.inf))
    return rounded.item()
