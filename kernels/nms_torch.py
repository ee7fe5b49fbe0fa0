"""PyTorch twin of the Triton kernels of non-maximum suppression, and the CPU path; the formula is in `nms`."""

import torch
from torch import Tensor

SMALL, BATCH = 160, 64  # boxes of a class that are all compared with one another, and classes at a time
FIRST, BLOCK = 128, 1024  # boxes of a large class that are decided together, at first and later
PART = 96  # of them that are compared together
DENSE = 256  # boxes that are all compared with one another


def batched_nms_torch(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """The twin of the Triton kernel in plain PyTorch, and the CPU path: small classes together, large ones alone."""
    order = scores.argsort(descending=True, stable=True)
    sides = boxes.to(torch.promote_types(boxes.dtype, torch.float32)).t().index_select(1, order)
    threshold = rounded_down(iou_threshold, sides.dtype)
    if len(idxs) > SMALL and (idxs == idxs[0]).all():
        return order[_survivors(sides, threshold)]
    classes, members = idxs[order].sort(stable=True)
    counts = torch.unique_consecutive(classes, return_counts=True)[1]
    starts = counts.cumsum(0) - counts
    small = (counts <= SMALL).nonzero()[:, 0]
    small = small[counts[small].argsort()].split(BATCH)  # classes of like size together
    kept = [_survivors_of_small(sides, members, starts[some], counts[some], threshold) for some in small if len(some)]
    for start, count in torch.stack((starts, counts), dim=1)[counts > SMALL].tolist():
        ranks = members[start : start + count]
        kept.append(ranks[_survivors(sides.index_select(1, ranks), threshold)])
    return order[torch.cat([order[:0], *kept]).sort().values]


def _survivors_of_small(sides: Tensor, members: Tensor, starts: Tensor, counts: Tensor, threshold: float) -> Tensor:
    """Ranks that survive in small classes: their boxes meet in one batch, padded by boxes without overlap."""
    index = torch.arange(int(counts.max()))
    exists = index < counts[:, None]
    ranks = members[(starts[:, None] + index).clamp(max=len(members) - 1)]
    padded = sides[:, ranks].masked_fill(~exists, torch.nan)  # [4, classes, boxes]
    group, i, j = _suppresses(padded, padded, threshold).triu_(1).nonzero().unbind(dim=1)
    first = group * len(index)
    return ranks[_settled(first + i, first + j, 0, ranks.numel()).view_as(ranks) & exists]


def _survivors(sides: Tensor, threshold: float) -> Tensor:
    """Indices of the boxes [4, K] of one class, best first, that survive.

    Blocks of boxes meet those kept so far and one another. If few of the first are kept, these first meet all others.
    """
    block, rest = torch.arange(sides.shape[1]).tensor_split((FIRST,))
    kept = block[_survivors_of_block(sides, block[:0], block, threshold)]
    met = 0  # of those kept, so many have met all others
    if 2 * len(kept) < len(block):
        over = _suppresses(sides[:, kept], sides[:, FIRST:], threshold)
        rest = rest[over.view(torch.uint8).amax(dim=0) == 0]  # any() takes twenty times as long
        met = len(kept)
    for block in rest.split(BLOCK) if len(rest) else ():
        kept = torch.cat((kept, block[_survivors_of_block(sides, kept[met:], block, threshold)]))
    return kept


def _survivors_of_block(sides: Tensor, kept: Tensor, block: Tensor, threshold: float) -> Tensor:
    """Which of the indices `block` survive those that are `kept` and one another -> bool."""
    rivals = torch.cat((kept, block))
    rival = sides.index_select(1, rivals)
    if len(rivals) <= DENSE:
        return _settled_matrix(_suppresses(rival, rival[:, len(kept) :], threshold).triu_(1 - len(kept)))
    better, worse = [], []
    order = (sides[0, block] + sides[2, block]).argsort()
    for part in order.split(PART):  # from left to right
        some = sides.index_select(1, block[part])
        far = (rival[0] >= some[2].max()) | (rival[2] <= some[0].min())  # nothing is far from NaN
        near = (~far).nonzero()[:, 0]
        over = _suppresses(some, rival.index_select(1, near), threshold) & (near < part[:, None] + len(kept))
        pair = over.nonzero()
        better.append(near[pair[:, 1]])
        worse.append(part[pair[:, 0]])
    return _settled(torch.cat(better), torch.cat(worse), len(kept), len(block))


def _settled(better: Tensor, worse: Tensor, kept: int, count: int) -> Tensor:
    """Solve the recurrence for `count` boxes after `kept` that are certain, given who overlaps whom -> bool."""
    keep = torch.ones(kept + count, dtype=torch.bool)
    while True:
        after = torch.ones(kept + count, dtype=torch.bool)
        after[worse[keep[better]] + kept] = False
        if torch.equal(after, keep):
            return keep[kept:]
        keep = after


def _settled_matrix(over: Tensor) -> Tensor:
    """The same, given whether each box [kept + count, count] overlaps each of the last `count` after it."""
    over = over.float()
    kept, count = len(over) - over.shape[1], over.shape[1]
    keep = torch.ones(kept + count)
    while True:
        after = keep.clone()
        after[kept:] = keep @ over == 0
        if torch.equal(after, keep):
            return keep[kept:] > 0
        keep = after


def _suppresses(a: Tensor, b: Tensor, threshold: float) -> Tensor:
    """Whether boxes `a` [4, ..., N] overlap `b` [4, ..., M] beyond the threshold -> [..., N, M]."""
    (x1, y1, x2, y2), (u1, v1, u2, v2) = a[..., None], b[..., None, :]
    shared = torch.minimum(x2, u2).sub_(torch.maximum(x1, u1)).clamp_(min=0)
    shared *= torch.minimum(y2, v2).sub_(torch.maximum(y1, v1)).clamp_(min=0)
    union = ((x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1)).sub_(shared)
    return shared.div_(union) > threshold


def rounded_down(threshold: float, dtype: torch.dtype) -> float:
    """The largest number of `dtype` up to `threshold`: just as many overlaps of that type exceed it."""
    rounded = torch.tensor(threshold, dtype=dtype)
    if rounded.item() > threshold:
        rounded = torch.nextafter(rounded, rounded.new_tensor(-torch.inf))
    return rounded.item()
