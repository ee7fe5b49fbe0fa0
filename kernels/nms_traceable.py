"""Non-maximum suppression in a batch of images, as an operator of fixed shapes that programs can be exported with.

`batched_nms` returns as many indices as there are boxes left, image by image; this one returns which boxes are left, so
that neither a loop over images nor a number that depends on values appears in the program.
"""

import torch
from torch import Tensor

from dimofs.kernels.nms import batched_nms


@torch.library.custom_op("dimofs::nms_mask", mutates_args=())
def nms_mask(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """Which of K boxes in each of N images are kept: boxes [N, K, 4], scores [N, K], classes [K] int64 -> [N, K] bool.

    In each image those that `batched_nms` returns.
    """
    keep = torch.zeros_like(scores, dtype=torch.bool)
    for image, (b, s) in enumerate(zip(boxes, scores, strict=True)):
        keep[image, batched_nms(b, s, idxs, iou_threshold)] = True
    return keep


@nms_mask.register_fake
def _(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)


def nms_mask_traceable(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """`nms_mask` from PyTorch's operators only, as its decomposition for programs that run where dimofs is not
    installed. Needs memory for N x K x K overlaps.

    The recurrence is iterated to its fixed point, which usually takes 3 to 5 rounds.
    """
    order = scores.argsort(dim=1, descending=True, stable=True)
    ordered = boxes.gather(1, order[..., None].expand(-1, -1, 4))
    sides = ordered.to(torch.promote_types(boxes.dtype, torch.float32)).permute(2, 0, 1)
    (x1, y1, x2, y2), (u1, v1, u2, v2) = sides[:, :, :, None], sides[:, :, None]
    shared = (torch.minimum(x2, u2) - torch.maximum(x1, u1)).clamp(min=0)
    shared = shared * (torch.minimum(y2, v2) - torch.maximum(y1, v1)).clamp(min=0)
    union = (x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - shared
    classes = idxs[order]
    same = classes[:, :, None] == classes[:, None]
    # over[n, i, j]: box i, which has the better score, overlaps box j.
    over = ((shared / union).double() > iou_threshold).logical_and(same).triu(1)

    def unsettled(keep: Tensor, after: Tensor, over: Tensor) -> Tensor:
        return (keep != after).any()

    def again(keep: Tensor, after: Tensor, over: Tensor) -> tuple[Tensor, Tensor]:
        return after.clone(), ~(over & after[:, :, None]).any(1)

    start = torch.ones_like(scores, dtype=torch.bool), ~over.any(1)
    keep, _ = torch.ops.higher_order.while_loop(unsettled, again, start, (over,))
    return torch.zeros_like(keep).scatter(1, order, keep)
