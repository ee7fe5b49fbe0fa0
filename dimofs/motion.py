"""`Motion`: a dense flow field from one frame to another, which moves points."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from dimofs.flow_colours import common_scale, flow_colours
from dimofs.flow_files import write_flow
from dimofs.picture import Picture


@dataclass(frozen=True)
class Motion:
    """How far each point of one frame moves to reach its place in the other.

    flow:          [2, h, w] float, (dx, dy) in pixels of the frame.
    height, width: the extent in pixels, from the frame's upper left corner, that the flow's cells cover evenly.
    """

    flow: Tensor
    height: float
    width: float

    def at(self, points: Tensor) -> Tensor:
        """[..., 2] x y in the first frame -> the displacement of each, [..., 2].

        The flow is interpolated bilinearly; points outside the field take the flow of its edge. Where the flow or the
        point is not finite the displacement is 0.
        """
        if not points.numel():
            return torch.zeros_like(points)
        size = points.new_tensor([self.width, self.height])
        grid = (2 * points / size - 1).reshape(1, 1, -1, 2)
        found = F.grid_sample(self.flow[None], grid, padding_mode="border", align_corners=False)
        return torch.nan_to_num(found[0, :, 0].T.reshape(points.shape), 0.0, 0.0, 0.0)

    def move(self, points: Tensor) -> Tensor:
        """[..., 2] x y in the first frame -> their places in the other, as `at` says; NaN stays NaN."""
        return points + self.at(points)

    def dense(self, height: int, width: int) -> Tensor:
        """The displacement of every pixel of a frame of this size, at its centre: [2, height, width]."""
        y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        return self.at(torch.stack((x, y), dim=2).to(self.flow)).permute(2, 0, 1)

    def plot(self, scale: float | None = None) -> Picture:
        """The flow in the colours of Middlebury's wheel: directions as hues, `scale` pixels and more fully saturated
        (default: what 99 % of the field stay below)."""
        flow = self.flow.cpu().numpy()
        return Picture(flow_colours(flow, common_scale(flow) if scale is None else scale))

    def save(self, path: str | Path) -> None:
        """Write the flow to a .flo, .png (KITTI's) or .npz file; see `dimofs.flow_files`. InputError: it cannot be
        written."""
        write_flow(path, self.flow)
