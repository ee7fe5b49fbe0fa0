"""RoIAlign: bilinear samples of a feature map, averaged over each bin of a box.

    out[r, c, i, j] = mean over the samples (y, x) of bin (i, j) of bilinear(features[image(r), c], y, x)

Boxes in image pixels are scaled to the map, where cell i covers [i, i + 1) and its value belongs to the centre i + 0.5.
With `aligned`, a sample at the continuous coordinate y = 2.5 therefore reads index y - 0.5 = 2, the cell that it is the
centre of. Without (the default of torchvision, after the first version of Detectron) it reads index 2.5, half a cell
too far, and a box is at least one cell wide and high. Samples up to one cell outside the map read its border. Samples
farther outside, and all samples of a box that is not finite, are 0.
"""

import math
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
    receive gradients. A bin takes at most 2^20 samples along each axis.

    Raises ValueError for shapes, dtypes or devices that do not match and for image indices that are out of range.
    """
    maps = [features] if isinstance(features, Tensor) else list(features)
    scales = list(spatial_scale) if isinstance(spatial_scale, Sequence) else [spatial_scale]
    size = (output_size, output_size) if isinstance(output_size, int) else (output_size[0], output_size[1])
    _check(maps, scales, size)
    rois = _rows(boxes, maps[0]).detach().to(torch.promote_types(maps[0].dtype, torch.float32))
    levels = None if len(maps) == 1 else assign_levels(rois[:, 1:], scales, canonical_scale, canonical_level)
    regions = Regions(rois, levels, scales, size, sampling_ratio, aligned)
    if maps[0].is_cuda:
        from dimofs.kernels.roi_align_triton import pool_triton

        return pool_triton(maps, regions)
    return pool_torch(maps, regions)


def _check(maps: Sequence[Tensor], scales: Sequence[float], size: tuple[int, int]) -> None:
    """ValueError unless the maps belong to one pyramid, and scales and size can be used with them."""
    if len(maps) != len(scales) or not maps:
        raise ValueError(f"{len(maps)} feature maps need as many spatial scales, and at least one, got {len(scales)}")
    first = maps[0]
    for level in maps:
        if level.ndim != 4 or level.shape[2] == 0 or level.shape[3] == 0:
            raise ValueError(f"features {[*level.shape]} do not fit: expected [N, C, H, W] with at least one pixel")
        if level.shape[:2] != first.shape[:2]:
            raise ValueError(f"features {[*level.shape]} and {[*first.shape]} differ in images or channels")
        if not level.is_floating_point() or level.dtype != first.dtype or level.device != first.device:
            kinds = [f"{m.dtype} on {m.device}" for m in maps]
            raise ValueError(f"features of {', '.join(kinds)}: expected one floating point dtype, on one device")
    if not all(0 < scale < math.inf for scale in scales):
        raise ValueError(f"spatial_scale {scales}: expected positive numbers")
    if size[0] < 1 or size[1] < 1:
        raise ValueError(f"output_size {size}: expected at least 1 x 1")


def _rows(boxes: Tensor | Sequence[Tensor], features: Tensor) -> Tensor:
    """The boxes as checked rows [K, 5] of (image index, x1, y1, x2, y2)."""
    images, device = features.shape[0], features.device
    for part in [boxes] if isinstance(boxes, Tensor) else boxes:
        expected = 5 if isinstance(boxes, Tensor) else 4
        if part.ndim != 2 or part.shape[1] != expected:
            raise ValueError(f"boxes {[*part.shape]} do not fit: expected a tensor [K, 5], or a list of [L, 4]")
        if part.device != device:
            raise ValueError(f"boxes on {part.device}: expected {device}, where the features are")
    if isinstance(boxes, Tensor):
        _check_images(boxes[:, 0], images)
        return boxes
    if len(boxes) != images:
        raise ValueError(f"boxes of {len(boxes)} images: there are {images} images")
    return image_boxes(boxes) if len(boxes) else features.new_zeros(0, 5)


def _check_images(index: Tensor, images: int) -> None:
    """ValueError unless the image indices [K] lie in [0, images). In compiled code the check is an assertion."""
    if torch.compiler.is_compiling():
        valid = ((index > -1) & (index < images)).all()
        torch.ops.aten._assert_async.msg(valid, "roi_align: an image index of boxes is out of range")
        return
    for image in index.tolist():
        if not -1 < image < images:
            raise ValueError(f"boxes: image index {image:g} is out of range, there are {images} images")
