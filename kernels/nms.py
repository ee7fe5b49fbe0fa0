"""Non-maximum suppression: a box falls when a box of its class with a higher score, itself kept, overlaps it more.

keep[j] = not any(keep[i] and class(i) == class(j) and IoU(i, j) > threshold for i before j in descending score)
"""

import torch
from torch import Tensor

from dimofs.kernels.nms_torch import batched_nms_torch


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
