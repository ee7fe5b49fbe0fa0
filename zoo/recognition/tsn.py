"""TSN (Wang et al., ECCV 2016): classes of single snippets, averaged over segments of equal length.

A snippet is a frame here, as the pose detector's frozen backbone sees it, or the optical flow from it. The paper's
networks are trained whole; only what comes after the backbone is trained here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dimofs.zoo.detection.action_head import Standardize

# Segments of a clip, as in the paper at test time of short clips.
SEGMENTS = 8
HIDDEN, DROPOUT = 256, 0.5


class TSN(nn.Module):
    """Snippets [N, K, D] -> class logits [N, classes]: the mean over the K segments of the logits of each.

    Which segment is which makes no difference: reversed clips have the same logits.
    """

    def __init__(self, width: int, classes: int, hidden: int = HIDDEN):
        super().__init__()
        self.standardize = Standardize(width)
        self.layers = nn.Sequential(
            nn.Dropout(0.2),
            nn.Linear(width, hidden),
            nn.ReLU(),
            nn.Dropout(DROPOUT),
            nn.Linear(hidden, classes),
        )

    def forward(self, snippets: Tensor) -> Tensor:
        return self.layers(self.standardize(snippets)).mean(1)


def segment_numbers(length: int, segments: int = SEGMENTS) -> list[int]:
    """The middle frame of each segment of a clip of `length` frames; short clips repeat frames.

    ValueError: there is no frame.
    """
    if length < 1:
        raise ValueError("a clip without frames has no segments")
    return [int((segment + 0.5) * length / segments) for segment in range(segments)]


def fused(*logits: Tensor) -> Tensor:
    """Log-probabilities [N, classes] of several streams that count equally: the sum of theirs, normalized."""
    return torch.stack([one.log_softmax(1) for one in logits]).sum(0).log_softmax(1)
