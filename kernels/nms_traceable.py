"""Non-maximum suppression from PyTorch operators only, for exported programs that run where dimofs is not installed."""

import torch
from torch import Tensor


def batched_nms_traceable(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """`batched_nms` for `torch.export`, as the decomposition of the operator. Needs memory for K x K overlaps.

    The recurrence is iterated to its fixed point, which usually takes 3 to 5 rounds.
    """
    order = scores.argsort(descending=True, stable=True)
    sides = boxes[order].to(torch.promote_types(boxes.dtype, torch.float32)).t()
    (x1, y1, x2, y2), (u1, v1, u2, v2) = sides[:, :, None], sides[:, None]
    shared = (torch.minimum(x2, u2) - torch.maximum(x1, u1)).clamp(min=0)
    shared = shared * (torch.minimum(y2, v2) - torch.maximum(y1, v1)).clamp(min=0)
    union = (x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - shared
    same = idxs[order][:, None] == idxs[order]
    # over[i, j]: box i, which has the better score, overlaps box j.
    over = ((shared / union).double() > iou_threshold).logical_and(same).triu(1)

    def unsettled(keep: Tensor, after: Tensor, over: Tensor) -> Tensor:
        return (keep != after).any()

    def again(keep: Tensor, after: Tensor, over: Tensor) -> tuple[Tensor, Tensor]:
        return after.clone(), ~(over & after[:, None]).any(0)

    start = torch.ones_like(scores, dtype=torch.bool), ~over.any(0)
    keep, _ = torch.ops.higher_order.while_loop(unsettled, again, start, (over,))
    return order[keep]
