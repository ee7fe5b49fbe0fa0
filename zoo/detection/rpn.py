"""Region proposal network (Ren et al., NIPS 2015) over a feature pyramid: anchors, head, proposals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dimofs import boxes as box
from dimofs.kernels.nms import batched_nms
from dimofs.zoo.backbones.activated import convolved
from dimofs.zoo.detection import box_coder

# Scales of the regression targets (dx, dy, dw, dh).
WEIGHTS = (1.0, 1.0, 1.0, 1.0)
# Proposals smaller than this many pixels are dropped.
MIN_SIZE = 1e-3


class Prediction(NamedTuple):
    """What the head predicts for every anchor, level by level, row by row, the aspect ratio varying fastest."""

    logits: Tensor  # [N, A]
    deltas: Tensor  # [N, A, 4]
    anchors: Tensor  # [A, 4] x1 y1 x2 y2 in pixels of the network's input
    counts: list[int]  # anchors per level


class Candidates(NamedTuple):
    """Boxes that may become proposals, level by level, best first within a level."""

    boxes: Tensor  # [N, K, 4]
    scores: Tensor  # [N, K]
    large: Tensor  # [N, K], whether they have at least MIN_SIZE
    level_of: Tensor  # [K] int64


class RegionProposals(nn.Module):
    """Proposes boxes of objects of any class.

    hidden: prepares each level for the two 1x1 predictions (default: 3x3 convolution, ReLU).
    anchor_sizes: one per level, the square root of the area in pixels. aspect_ratios: height / width.
    before_nms, after_nms: most proposals per level before, and per image after non-maximum suppression.
    """

    def __init__(
        self,
        channels: int,
        *,
        hidden: nn.Module | None = None,
        anchor_sizes: Sequence[float],
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        before_nms: int = 1000,
        after_nms: int = 1000,
        iou_threshold: float = 0.7,
    ):
        super().__init__()
        self.anchor_sizes, self.aspect_ratios = tuple(anchor_sizes), tuple(aspect_ratios)
        self.before_nms, self.after_nms, self.iou_threshold = before_nms, after_nms, iou_threshold
        self.hidden = hidden or nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(inplace=True))
        self.objectness = nn.Conv2d(channels, len(self.aspect_ratios), 1)
        self.deltas = nn.Conv2d(channels, 4 * len(self.aspect_ratios), 1)
        for conv in (self.objectness, self.deltas):
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, levels: Sequence[Tensor], size: tuple[int, int]) -> Prediction:
        """Predictions for levels [N, C, h, w] of an input of `size` (height, width, padding included)."""
        shapes = len(self.aspect_ratios)
        weight, bias = (torch.cat(p) for p in zip(self.objectness.parameters(), self.deltas.parameters(), strict=True))
        logits, deltas, anchors = [], [], []
        for level, anchor_size in zip(levels, self.anchor_sizes, strict=True):
            both = convolved(self.hidden(level), weight, bias, self.objectness)
            both = both.permute(0, 2, 3, 1)  # [N, h, w, R + 4 R]
            logits.append(both[..., :shapes].flatten(1))
            # level.shape[0] and not len(level), which torch.export would make a constant.
            deltas.append(both[..., shapes:].reshape(level.shape[0], -1, 4))
            anchors.append(grid_anchors(level, size, anchor_size, self.aspect_ratios))
        counts = [len(a) for a in anchors]
        return Prediction(torch.cat(logits, 1).float(), torch.cat(deltas, 1).float(), torch.cat(anchors), counts)

    def propose(self, prediction: Prediction, image_size: tuple[int, int]) -> list[Tensor]:
        """The best boxes of each image, [K, 4] each, best first, clipped to `image_size` (height, width)."""
        candidates = self.candidates(prediction, image_size)
        proposals = []
        for b, s, some in zip(candidates.boxes, candidates.scores, candidates.large, strict=True):
            b = b[some]
            kept = batched_nms(b, s[some], candidates.level_of[some], self.iou_threshold)
            proposals.append(b[kept[: self.after_nms]])
        return proposals

    def candidates(self, prediction: Prediction, image_size: tuple[int, int]) -> Candidates:
        """The best boxes of each level, clipped to `image_size` (height, width), before any suppress another."""
        levels = prediction.logits.detach().split(prediction.counts, dim=1)
        best = [level.topk(min(level.shape[1], self.before_nms)) for level in levels]
        level_of = torch.cat([torch.full_like(b.indices[0], i) for i, b in enumerate(best)])
        starts = [sum(prediction.counts[:i]) for i in range(len(levels))]
        top = torch.cat([b.indices + start for b, start in zip(best, starts, strict=True)], dim=1)  # [N, K]
        deltas = prediction.deltas.detach().gather(1, top[..., None].expand(-1, -1, 4))
        boxes = box_coder.decode(deltas, prediction.anchors[top], deltas.new_tensor(WEIGHTS))
        boxes, scores = box.clip(boxes, *image_size), torch.cat([b.values for b in best], dim=1).sigmoid()
        large = ((boxes[..., 2:] - boxes[..., :2]) >= MIN_SIZE).all(-1)
        return Candidates(boxes, scores, large, level_of)


def grid_anchors(level: Tensor, size: tuple[int, int], anchor_size: float, ratios: Sequence[float]) -> Tensor:
    """Anchors [h * w * R, 4] of one level, centred on the top left corners of its cells; corners are whole pixels."""
    height, width = level.shape[-2:]
    root = torch.tensor(ratios, dtype=torch.float32, device=level.device).sqrt()
    half = torch.stack((anchor_size / root, anchor_size * root), dim=1) / 2
    shapes = torch.cat((-half, half), dim=1).round()  # [R, 4]
    y = torch.arange(height, device=level.device)[:, None] * (size[0] // height)
    x = torch.arange(width, device=level.device) * (size[1] // width)
    corners = torch.stack(torch.broadcast_tensors(x, y, x, y), dim=-1).to(shapes)  # [h, w, 4]
    return (corners[:, :, None] + shapes).reshape(-1, 4)
