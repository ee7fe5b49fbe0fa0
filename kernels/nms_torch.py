"""Non-maximum suppression in plain PyTorch: the twin of `nms_triton`, and the CPU path. The formula is in `nms`.

Small classes are solved together in batches; large classes one by one, in blocks of boxes. Everywhere `sides` are boxes
as rows (x1, y1, x2, y2) of shape [4, ...], sorted by descending score.
"""

import torch
from torch import Tensor

# Classes of up to this many boxes are solved in batches of classes, all pairs of a class at once.
SMALL_CLASS, CLASSES_PER_BATCH = 160, 64
# Boxes of a large class are decided in blocks: the first one small, as it may suppress most of the others.
FIRST_BLOCK, BLOCK = 128, 1024
# Within a block, this many boxes at a time are compared with those that may overlap them.
STRIP = 96
# Up to this many boxes are compared all with all, which is faster than looking for neighbours.
ALL_PAIRS = 256


def batched_nms_torch(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """`batched_nms` of checked arguments."""
    order = scores.argsort(descending=True, stable=True)
    sides = boxes.to(torch.promote_types(boxes.dtype, torch.float32)).t().index_select(1, order)
    threshold = rounded_down(iou_threshold, sides.dtype)
    if len(idxs) > SMALL_CLASS and (idxs == idxs[0]).all():
        return order[_survivors(sides, threshold)]
    classes, members = idxs[order].sort(stable=True)
    counts = torch.unique_consecutive(classes, return_counts=True)[1]
    starts = counts.cumsum(0) - counts
    small = (counts <= SMALL_CLASS).nonzero()[:, 0]
    # Classes of similar size share a batch, so that little is padded.
    small = small[counts[small].argsort()].split(CLASSES_PER_BATCH)
    kept = [_survivors_of_small(sides, members, starts[some], counts[some], threshold) for some in small if len(some)]
    for start, count in torch.stack((starts, counts), dim=1)[counts > SMALL_CLASS].tolist():
        ranks = members[start : start + count]
        kept.append(ranks[_survivors(sides.index_select(1, ranks), threshold)])
    return order[torch.cat([order[:0], *kept]).sort().values]


def _survivors_of_small(sides: Tensor, members: Tensor, starts: Tensor, counts: Tensor, threshold: float) -> Tensor:
    """The ranks kept in a batch of small classes, padded to equal size with boxes that overlap nothing."""
    index = torch.arange(int(counts.max()))
    exists = index < counts[:, None]
    ranks = members[(starts[:, None] + index).clamp(max=len(members) - 1)]
    padded = sides[:, ranks].masked_fill(~exists, torch.nan)  # [4, classes, boxes]
    group, i, j = _suppresses(padded, padded, threshold).triu_(1).nonzero().unbind(dim=1)
    first = group * len(index)
    return ranks[_settled(first + i, first + j, 0, ranks.numel()).view_as(ranks) & exists]


def _survivors(sides: Tensor, threshold: float) -> Tensor:
    """Indices of the kept boxes among `sides` [4, K] of one class.

    Each block of boxes is compared with the boxes kept so far and within itself. If the first block keeps few boxes,
    these are first compared with all other boxes at once, which removes most of them.
    """
    block, rest = torch.arange(sides.shape[1]).tensor_split((FIRST_BLOCK,))
    kept = block[_survivors_of_block(sides, block[:0], block, threshold)]
    # The first `compared` kept boxes have been compared with all later boxes already.
    compared = 0
    if 2 * len(kept) < len(block):
        over = _suppresses(sides[:, kept], sides[:, FIRST_BLOCK:], threshold)
        # The maximum of bytes is 20 times as fast as any() of booleans.
        rest = rest[over.view(torch.uint8).amax(dim=0) == 0]
        compared = len(kept)
    for block in rest.split(BLOCK) if len(rest) else ():
        kept = torch.cat((kept, block[_survivors_of_block(sides, kept[compared:], block, threshold)]))
    return kept


def _survivors_of_block(sides: Tensor, kept: Tensor, block: Tensor, threshold: float) -> Tensor:
    """Which boxes of `block` are suppressed neither by a box of `kept` nor within the block -> bool."""
    rivals = torch.cat((kept, block))
    rival = sides.index_select(1, rivals)
    if len(rivals) <= ALL_PAIRS:
        return _settled_matrix(_suppresses(rival, rival[:, len(kept) :], threshold).triu_(1 - len(kept)))
    better, worse = [], []
    order = (sides[0, block] + sides[2, block]).argsort()
    # Strips of boxes from left to right, each compared with the boxes that may overlap it.
    for part in order.split(STRIP):
        some = sides.index_select(1, block[part])
        # Comparisons with NaN are false, so boxes that are not finite count as near.
        far = (rival[0] >= some[2].max()) | (rival[2] <= some[0].min())
        near = (~far).nonzero()[:, 0]
        over = _suppresses(some, rival.index_select(1, near), threshold) & (near < part[:, None] + len(kept))
        pair = over.nonzero()
        better.append(near[pair[:, 1]])
        worse.append(part[pair[:, 0]])
    return _settled(torch.cat(better), torch.cat(worse), len(kept), len(block))


def _settled(better: Tensor, worse: Tensor, kept: int, count: int) -> Tensor:
    """Iterate the recurrence to its fixed point for `count` boxes that follow `kept` boxes known to be kept -> bool.

    Box better[i] overlaps box worse[i]; `better` counts from the first of the kept, `worse` from the first after them.
    """
    keep = torch.ones(kept + count, dtype=torch.bool)
    while True:
        after = torch.ones(kept + count, dtype=torch.bool)
        after[worse[keep[better]] + kept] = False
        if torch.equal(after, keep):
            return keep[kept:]
        keep = after


def _settled_matrix(over: Tensor) -> Tensor:
    """The same for a matrix `over` [kept + count, count]: whether a box overlaps each of the last `count`, if later."""
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
    """Whether the IoU of boxes `a` [4, ..., N] and `b` [4, ..., M] exceeds the threshold -> [..., N, M]."""
    (x1, y1, x2, y2), (u1, v1, u2, v2) = a[..., None], b[..., None, :]
    shared = torch.minimum(x2, u2).sub_(torch.maximum(x1, u1)).clamp_(min=0)
    shared *= torch.minimum(y2, v2).sub_(torch.maximum(y1, v1)).clamp_(min=0)
    union = ((x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1)).sub_(shared)
    return shared.div_(union) > threshold


def rounded_down(threshold: float, dtype: torch.dtype) -> float:
    """The largest number of `dtype` that is not above `threshold`.

    A number of that dtype exceeds it if and only if it exceeds `threshold` itself.
    """
    rounded = torch.tensor(threshold, dtype=dtype)
    if rounded.item() > threshold:
        rounded = torch.nextafter(rounded, rounded.new_tensor(-torch.inf))
    return rounded.item()
