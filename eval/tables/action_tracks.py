"""People followed through the frames of a clip, and what they do averaged over all of them."""

from __future__ import annotations

from itertools import pairwise

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from dimofs import boxes as box
from dimofs.zoo.training.action_data import Regions

# Regions of consecutive frames A of one clip that overlap by at least this IoU may be one person.
SAME = 0.3


def along_tracks(regions: Regions, probabilities: Tensor) -> Tensor:
    """The mean of `probabilities` [K, C] over the regions of each region's track, [K, C]."""
    tracks = followed(regions)
    count = int(tracks.max()) + 1 if len(tracks) else 0
    sums = probabilities.new_zeros(count, probabilities.shape[1]).index_add(0, tracks, probabilities)
    return (sums / torch.bincount(tracks, minlength=count)[:, None])[tracks]


def followed(regions: Regions) -> Tensor:
    """The track [K] of each region, from 0.

    From one frame A of a clip to the next, regions are assigned one to one with the greatest sum of IoU (Hungarian).
    """
    counts = torch.bincount(regions.frames, minlength=len(regions.numbers)).tolist()
    rows = torch.arange(len(regions)).split(counts)
    tracks = torch.arange(len(regions))
    clips = regions.clips.tolist()
    for (before, clip), (now, same) in pairwise(zip(rows, clips, strict=True)):
        if clip == same:
            overlap = box.iou(regions.boxes[now], regions.boxes[before])
            for i, k in zip(*linear_sum_assignment(overlap.numpy(), maximize=True), strict=True):
                if overlap[i, k] >= SAME:
                    tracks[now[i]] = tracks[before[k]]
    return tracks.unique(return_inverse=True)[1]
