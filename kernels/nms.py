"""Non-maximum suppression: a box is suppressed by a kept box of its class with a higher score that overlaps it.

keep[j] = not any(keep[i] and class(i) == class(j) and IoU(i, j) > threshold for i before j in descending score)
"""

import torch
from torch import Tensor

from dimofs.kernels.nms_torch import batched_nms_torch


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """Suppress overlapping `boxes` [K, 4] of the same class -> int64 indices of those kept, by descending score.

    `boxes` are (x1, y1, x2, y2), with `scores` [K] and classes `idxs` [K]. Boxes of equal score keep their order. The
    arguments and the result are those of torchvision.ops.batched_nms. Overlaps are computed in float32 (float64 for
    float64 boxes). Boxes that are not finite neither suppress others nor are suppressed, and a score that is NaN counts
    as the highest. Raises ValueError for shapes or devices that do not match, and for a threshold below 0 or NaN.
    """
    if not torch.compiler.is_compiling():
        # In a traced program the number of boxes is unknown, so it cannot be compared.
        _check(boxes, scores, idxs)
    if not iou_threshold >= 0:
        raise ValueError(f"iou_threshold {iou_threshold}: expected at least 0")
    if type(boxes) is Tensor and boxes.device.type == "cpu" and not torch.compiler.is_compiling():
        # The first call of an operator made in Python imports PyTorch's compiler: seconds, and 120 MB.
        with torch.no_grad():
            return batched_nms_torch(boxes, scores, idxs, iou_threshold)
    return _batched_nms(boxes, scores, idxs, iou_threshold)


def _check(boxes: Tensor, scores: Tensor, idxs: Tensor) -> None:
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes {[*boxes.shape]} do not fit: expected [K, 4]")
    for name, tensor in (("scores", scores), ("idxs", idxs)):
        if tensor.shape != boxes.shape[:1]:
            raise ValueError(f"{name} {[*tensor.shape]} do not fit: expected [{len(boxes)}], as there are boxes")
        if tensor.device != boxes.device:
            raise ValueError(f"{name} on {tensor.device}: expected {boxes.device}, where the boxes are")


@torch.library.custom_op("dimofs::batched_nms", mutates_args=())
def _batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """An operator that torch.compile does not trace, because the number of kept boxes depends on their values."""
    if boxes.is_cuda:
        from dimofs.kernels.nms_triton import batched_nms_triton

        return batched_nms_triton(boxes, scores, idxs, iou_threshold)
    return batched_nms_torch(boxes, scores, idxs, iou_threshold)


@_batched_nms.register_fake
def _(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    return boxes.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.int64)
