"""Person / box branch of Faster R-CNN: two fully connected layers over a 7x7 RoIAlign, then class and box."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dimofs import boxes as box
from dimofs.kernels.nms import batched_nms
from dimofs.kernels.roi_align import roi_align
from dimofs.zoo.backbones.fpn import SCALES
from dimofs.zoo.detection import box_coder

# Scales of the regression targets (dx, dy, dw, dh).
WEIGHTS = (10.0, 10.0, 5.0, 5.0)
# Detections smaller than this many pixels are dropped.
MIN_SIZE = 1e-2


class BoxHead(nn.Module):
    """Class logits (background, person) and box deltas of each region.

    min_score: people below this probability are dropped. iou_threshold: of non-maximum suppression.
    max_people: people kept per image.
    """

    def __init__(
        self,
        channels: int,
        hidden: int,
        *,
        resolution: int = 7,
        min_score: float = 0.05,
        iou_threshold: float = 0.5,
        max_people: int = 100,
    ):
        super().__init__()
        self.resolution = resolution
        self.min_score, self.iou_threshold, self.max_people = min_score, iou_threshold, max_people
        self.fc1 = nn.Linear(channels * resolution**2, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.logits = nn.Linear(hidden, 2)
        self.deltas = nn.Linear(hidden, 2 * 4)

    def forward(self, levels: Sequence[Tensor], regions: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """P2..P5 and regions of N images, [K_n, 4] each -> logits [K, 2], deltas [K, 4] of the person class.

        K is the sum of all K_n.
        """
        pooled = roi_align(levels, regions, self.resolution, SCALES, sampling_ratio=2)
        hidden = self.fc2(self.fc1(pooled.flatten(1)).relu()).relu()
        return self.logits(hidden).float(), self.deltas(hidden)[:, 4:].float()

    def select(
        self,
        logits: Tensor,
        deltas: Tensor,
        regions: Tensor,
        image_size: tuple[int, int],
        *,
        min_score: float = 0.0,
        max_people: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The people of one image: boxes [P, 4] in pixels of the network's input and scores [P], best first.

        min_score raises the head's own threshold, max_people replaces the head's own limit.
        """
        limit = self.max_people if max_people is None else max_people
        boxes, scores, good = self.candidates(logits, deltas, regions, image_size, min_score)
        boxes, scores = boxes[good], scores[good]
        one_class = torch.zeros_like(scores, dtype=torch.int64)
        kept = batched_nms(boxes, scores, one_class, self.iou_threshold)[:limit]
        return boxes[kept], scores[kept]

    def candidates(
        self, logits: Tensor, deltas: Tensor, regions: Tensor, image_size: tuple[int, int], min_score: float = 0.0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes [K, 4] and scores [K] of regions, and whether each is good enough, before any suppress another."""
        scores = logits.softmax(1)[:, 1]
        boxes = box.clip(box_coder.decode(deltas, regions, deltas.new_tensor(WEIGHTS)), *image_size)
        large = ((boxes[:, 2:] - boxes[:, :2]) >= MIN_SIZE).all(1)
        return boxes, scores, (scores > max(self.min_score, min_score)) & large
