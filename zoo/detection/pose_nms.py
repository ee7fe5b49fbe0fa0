"""Non-maximum suppression of poses, for people found by two boxes that overlap too little for box suppression."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dimofs.boxes import area

# A person whose joints are those of others to this degree, some of one and some of another, is a mixture of them.
MIXED = 0.8


def distinct(
    points: Tensor, boxes: Tensor, sigmas: Sequence[float], threshold: float, images: Tensor | None = None
) -> Tensor:
    """Which of P people, best first, are neither duplicates nor mixtures: points [P, J, 2], boxes [P, 4] -> [P] bool.

    A person is suppressed if its object keypoint similarity with a higher-scoring person, suppressed or not, exceeds
    the threshold; or if the mean over its joints of the highest similarity with the same joint of any higher-scoring
    person exceeds MIXED. The similarity of joints is COCO's, exp(-d^2 / (2 s^2 k^2)), with k = 2 sigma and s^2 the area
    of the higher-scoring person's box; that of people is its mean over the joints. images: [P], the image of each, if
    they are of several.
    """
    squared = (points[:, None] - points).square().sum(dim=-1)  # [P, P, J]
    unit = 8 * area(boxes).clamp(min=1)[:, None, None] * points.new_tensor(sigmas).square()
    similarity = (-squared / unit).exp()
    better = torch.ones_like(similarity[..., 0]).triu(1)
    if images is not None:
        better = better * (images[:, None] == images)
    duplicate = ((similarity.mean(dim=-1) > threshold) & (better > 0)).any(dim=0)
    # A row of nobody, so that there is a largest value without people too.
    closest = torch.nn.functional.pad(similarity * better[..., None], (0, 0, 0, 0, 0, 1)).amax(dim=0)
    return ~(duplicate | (closest.mean(dim=-1) > MIXED))
