"""`Motion`: a dense flow field from one frame to another, which moves points."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Motion:
    """How far each point of one frame moves to reach its place in the other.

    flow:          [2, h, w] float, (dx, dy) in pixels of the frame.
    height, width: the extent in pixels, from the frame's upper left corner, that the flow's cells cover evenly.
    """

    flow: Tensor
    height: float
    width: float

    def move(self, points: Tensor) -> Tensor:
        """[..., 2] x y in the first frame -> their places in the other.

        The flow is interpolated bilinearly; points outside the field take the flow of its edge. Where the flow is not
        finite points stay; NaN stays NaN.
        """
        size = points.new_tensor([self.width, self.height])
        grid = (2 * points / size - 1).reshape(1, 1, -1, 2)
        if not points.numel():
            return points
        moved = F.grid_sample(self.flow[None], grid, padding_mode="border", align_corners=False)
        return points + torch.nan_to_num(moved[0, :, 0].T.reshape(points.shape), 0.0, 0.0, 0.0)
