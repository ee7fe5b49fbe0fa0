"""Triton kernels of non-maximum suppression: first a bit matrix of overlaps, then rounds of the recurrence.

    keep[j] = not any(keep[i] and overlaps[j, i] for i < j),    boxes sorted by descending score

A round recomputes `keep` for all boxes from that of the round before, until nothing changes. Box j is final one round
after the boxes that decide it, so the number of rounds is the length of the longest chain of suppressions: three to
five for thousands of boxes.
"""

# pyright: reportArgumentType=false
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from dimofs.kernels.nms_torch import rounded_down

# Boxes per program of `overlap_kernel`, and words per step of `round_kernel`.
BOXES, WORDS = 64, 64
# Without fused multiply-add, overlaps equal those of the CPU bit for bit.
OPTIONS: Any = {"num_warps": 8, "enable_fp_fusion": False}
# Bits per word of the matrix.
BITS = tl.constexpr(32)


def batched_nms_triton(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """`batched_nms` of checked arguments on a GPU. The host waits once a round, and for the number of kept boxes."""
    order = scores.argsort(descending=True, stable=True)
    dtype = torch.promote_types(boxes.dtype, torch.float32)
    ranked, classes, count = boxes[order].to(dtype).contiguous(), idxs[order].contiguous(), len(order)
    words = triton.cdiv(count, BITS.value)
    overlaps = order.new_empty(count, words, dtype=torch.int32)
    if count:
        grid = (triton.cdiv(count, BOXES), words)
        threshold = ranked.new_tensor(rounded_down(iou_threshold, dtype))
        double = dtype == torch.float64
        overlap_kernel[grid](ranked, classes, overlaps, threshold, count, words, double, BOXES, **OPTIONS)
    keep = order.new_full((words,), -1, dtype=torch.int32)
    settled = count == 0
    while not settled:
        after = keep.new_empty(words)
        round_kernel[(words,)](overlaps, keep, after, count, words, WORDS)
        settled, keep = torch.equal(after, keep), after
    bits = keep[:, None] >> torch.arange(BITS.value, dtype=torch.int32, device=boxes.device) & 1
    return order[bits.flatten()[:count].nonzero()[:, 0]]


@triton.jit
def overlap_kernel(boxes, classes, overlaps, threshold, count, words, DOUBLE: tl.constexpr, BOXES: tl.constexpr):
    """One program: for each box j of a block one word, whose bits are the boxes i < j of its class that it overlaps."""
    j = tl.program_id(0) * BOXES + tl.arange(0, BOXES)
    i = tl.program_id(1) * BITS + tl.arange(0, BITS)
    left_j, top_j, right_j, bottom_j, class_j = _load(boxes, classes, j, count)
    left_i, top_i, right_i, bottom_i, class_i = _load(boxes, classes, i, count)
    width = tl.minimum(right_j[:, None], right_i) - tl.maximum(left_j[:, None], left_i)
    height = tl.minimum(bottom_j[:, None], bottom_i) - tl.maximum(top_j[:, None], top_i)
    shared = tl.maximum(width, 0.0) * tl.maximum(height, 0.0)
    union = ((right_j - left_j) * (bottom_j - top_j))[:, None] + (right_i - left_i) * (bottom_i - top_i) - shared
    iou = shared / union if DOUBLE else tl.div_rn(shared, union)
    over = (iou > tl.load(threshold)) & (class_j[:, None] == class_i) & (i < j[:, None])
    word = tl.sum(over.to(tl.int32) << tl.arange(0, BITS), axis=1)
    tl.store(overlaps + j.to(tl.int64) * words + tl.program_id(1), word, mask=j < count)


@triton.jit
def round_kernel(overlaps, keep, after, count, words, WORDS: tl.constexpr):
    """One program: one word of `keep` for the next round."""
    word = tl.program_id(0)
    j = word * BITS + tl.arange(0, BITS)
    suppressors = tl.zeros([BITS], tl.int32)
    for start in range(0, word + 1, WORDS):
        w = start + tl.arange(0, WORDS)
        kept = tl.load(keep + w, mask=w <= word, other=0)
        at = overlaps + j[:, None].to(tl.int64) * words + w
        bits = tl.load(at, mask=(j < count)[:, None] & (w <= word), other=0)
        suppressors += tl.sum(((bits & kept) != 0).to(tl.int32), axis=1)
    tl.store(after + word, tl.sum((suppressors == 0).to(tl.int32) << tl.arange(0, BITS), axis=0))


@triton.jit
def _load(boxes, classes, index, count):
    at, exists = boxes + index * 4, index < count
    left, top = tl.load(at, mask=exists, other=0.0), tl.load(at + 1, mask=exists, other=0.0)
    right, bottom = tl.load(at + 2, mask=exists, other=0.0), tl.load(at + 3, mask=exists, other=0.0)
    return left, top, right, bottom, tl.load(classes + index, mask=exists, other=0)
