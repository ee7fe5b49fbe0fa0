"""Non-maximum suppression of poses, for people found by two boxes that overlap too little for box suppression."""

from collections.abc import Sequence

from torch import Tensor

from dimofs.boxes import area


def distinct(points: Tensor, boxes: Tensor, sigmas: Sequence[float], threshold: float) -> Tensor:
    """Which of P people, best first, are no duplicates: points [P, J, 2], boxes [P, 4] -> [P] bool.

    A person is suppressed if its object keypoint similarity with a higher-scoring person, suppressed or not, exceeds
    the threshold. The similarity is COCO's, the mean over the joints of exp(-d^2 / (2 s^2 k^2)), with k = 2 sigma and
    s^2 the area of the higher-scoring person's box.
    """
    squared = (points[:, None] - points).square().sum(dim=-1)  # [P, P, J]
    unit = 8 * area(boxes).clamp(min=1)[:, None, None] * points.new_tensor(sigmas).square()
    similarity = (-squared / unit).exp().mean(dim=-1)
    return ~(similarity > threshold).triu(1).any(dim=0)
