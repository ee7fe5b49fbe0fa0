"""Non-maximum suppression of poses: a person found by two boxes that overlap too little for that of boxes."""

from collections.abc import Sequence

from torch import Tensor

from dimofs.boxes import area


def distinct(points: Tensor, boxes: Tensor, sigmas: Sequence[float], threshold: float) -> Tensor:
    """Which of P people, best first, do not repeat a better one: points [P, J, 2], boxes [P, 4] -> [P] bool.

    A person falls whose object keypoint similarity with a better one, itself kept or not, exceeds the threshold: the
    mean over the joints of exp(-d^2 / (2 s^2 k^2)), COCO's, with k = 2 sigma and s^2 the area of the better one's box.
    """
    squared = (points[:, None] - points).square().sum(dim=-1)  # [P, P, J]
    unit = 8 * area(boxes).clamp(min=1)[:, None, None] * points.new_tensor(sigmas).square()
    similarity = (-squared / unit).exp().mean(dim=-1)
    return ~(similarity > threshold).triu(1).any(dim=0)
