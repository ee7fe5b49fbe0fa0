"""`Motion`: where everything in one frame has gone in the next, as a field that moves points."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Motion:
    """flow: [2, h, w] float, (dx, dy) in pixels, over `height` x `width` pixels from the frame's upper left corner."""

    flow: Tensor
    height: float
    width: float

    def move(self, points: Tensor) -> Tensor:
        """[..., 2] x y in the one frame -> in the next; bilinear, beyond the field as at its edge."""
        size = points.new_tensor([self.width, self.height])
        grid = (2 * points / size - 1).reshape(1, 1, -1, 2)
        if not points.numel():
            return points
        moved = F.grid_sample(self.flow[None], grid, padding_mode="border", align_corners=False)
        return points + torch.nan_to_num(moved[0, :, 0].T.reshape(points.shape))
