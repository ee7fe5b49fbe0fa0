"""RoIAlign: bilinear samples of a feature map, averaged over each bin of a box.

    out[r, c, i, j] = mean over the samples (y, x) of bin (i, j) of bilinear(features[image(r), c], y, x)

Boxes in image pixels are scaled to the map, where cell i covers [i, i + 1) and its value belongs to the centre i + 0.5.
With `aligned`, a sample at the continuous coordinate y = 2.5 therefore reads index y - 0.5 = 2, the cell that it is the
centre of. Without (the default of torchvision, after the first version of Detectron) it reads index 2.5, half a cell
too far, and a box is at least one cell wide and high. Samples up to one cell outside the map read its border. Samples
farther outside, and all samples of a box that is not finite, are 0.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from dimofs.kernels.roi_align_torch import pool_torch
from dimofs.kernels.roi_place import Regions, assign_levels, image_boxes


def roi_align(
    features: Tensor | Sequence[Tensor],
    boxes: Tensor | Sequence[Tensor],
    output_size: int | tuple[int, int],
    spatial_scale: float | Sequence[float] = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
    *,
    canonical_scale: int = 224,
    canonical_level: int = 4,
) -> Tensor:
    """Pool `boxes` from one feature map, or each from its level of a pyramid -> [K, C, *output_size], in their order.

    `features`: [N, C, H, W], or a list of maps, one per level and finest first, with one `spatial_scale` (a power of
    two) each. `boxes`: [K, 5] rows of (image index, x1, y1, x2, y2), or a list of [L, 4], one per image. They are in
    image pixels, and `spatial_scale` converts them to cells. A bin takes sampling_ratio x sampling_ratio samples or, if
    `sampling_ratio` is not positive, ceil(bin height) x ceil(bin width). A box is pooled from level
    floor(canonical_level + log2(sqrt(area) / canonical_scale)), clamped to those given (Feature Pyramid Networks,
    Lin et al., 2017, eq. 1). Results equal those of torchvision's roi_align and MultiScaleRoIAlign. Coordinates and
    sums are float32 (float64 for float64 features), the result has the dtype of the features, and only the features
    receive gradients. Raises ValueError for shapes that do not match.
    """
    maps = [features] if isinstance(features, Tensor) else list(features)
    scales = list(spatial_scale) if isinstance(spatial_scale, Sequence) else [spatial_scale]
    if len(maps) != len(scales):
        raise ValueError(f"{len(maps)} feature maps need as many spatial scales, got {len(scales)}")
    size = (output_size, output_size) if isinstance(output_size, int) else (output_size[0], output_size[1])
    rois = image_boxes(boxes).detach().to(torch.promote_types(maps[0].dtype, torch.float32))
    if rois.shape[1:] != (5,):
        raise ValueError(f"boxes {[*rois.shape]} do not fit: expected [K, 5], or a list of [L, 4]")
    levels = None if len(maps) == 1 else assign_levels(rois[:, 1:], scales, canonical_scale, canonical_level)
    regions = Regions(rois, levels, scales, size, sampling_ratio, aligned)
    if maps[0].is_cuda:
        from dimofs.kernels.roi_align_triton import pool_triton

        return pool_triton(maps, regions)
    return pool_torch(maps, regions)
