"""Calibration: joint confidences that are the probability that the joint lies where the model says (Platt, 1999).

The softmax that trains a heatmap does not change if a constant is added to its logits, so their sigmoid means nothing
at first. For each joint, a logistic regression on the peak logits of labelled people (given their labelled boxes) finds
a slope and a shift, which go into the weights of the last layer. The peaks of the heatmaps stay where they are; joints
that are found in smoothed probabilities move a little, since the slope makes these sharper or blunter.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor
from tqdm import tqdm

from dimofs import boxes as box
from dimofs.datasets.people import PairSource
from dimofs.zoo import checkpoints
from dimofs.zoo.detection.detector import PoseDetector

# A peak within this part of the square root of the box's area from the label is right.
RIGHT = 0.1
# Weight of the pull of a joint's slope and shift towards those of all joints together.
PRIOR = 0.1


@torch.inference_mode()
def peaks(model: PoseDetector, source: PairSource, count: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """For each of at most `count` frames: peak logits, whether they are right, and whether the joint is labelled; each
    [P, J]."""
    random = np.random.default_rng(0)
    for index in random.permutation(len(source))[:count].tolist():
        pair = source.pair(index, random)
        people = pair.people
        features = model.features(pair.frame_a[None] / 255)
        regions = features.geometry.to_input(people.boxes)
        points, logits = model.find_joints([model.align(features)], [regions])
        distance = (features.geometry.to_frame(points) - people.keypoints).norm(dim=-1)
        yield logits, distance < RIGHT * box.area(people.boxes).sqrt()[:, None], people.labelled


def fit(logits: np.ndarray, right: np.ndarray, center: tuple[float, float] = (1.0, 0.0)) -> tuple[float, float]:
    """Slope and shift of the logistic regression of `right` [N] on `logits` [N], near `center` where N is small."""

    def loss(x: np.ndarray) -> float:
        margin = (x[0] * logits + x[1]) * np.where(right, -1, 1)
        return np.logaddexp(0, margin).sum() + PRIOR * np.square(x - center).sum()

    slope, shift = minimize(loss, center, method="L-BFGS-B", bounds=[(0.05, None), (None, None)]).x
    return float(slope), float(shift)


@torch.no_grad()
def apply(model: PoseDetector, logits: Tensor, right: Tensor, labelled: Tensor) -> None:
    """Scale and shift the last layer of `model` by each joint's fit to the peaks, [N, J] each, that `peaks` yields."""
    every = fit(logits[labelled].numpy(), right[labelled].numpy())
    last = model.keypoint_head.deconv
    assert last.bias is not None
    for j in range(logits.shape[1]):
        known = labelled[:, j]
        slope, shift = fit(logits[known, j].numpy(), right[known, j].numpy(), every)
        last.weight[:, j] *= slope
        last.bias[j] = last.bias[j] * slope + shift


def calibrated(weights: str, sources: Mapping[str, PairSource], count: int) -> PoseDetector:
    """The model of `weights` with confidences that are probabilities on `count` frames of each of the `sources`.

    InputError: `weights` holds no such model.
    """
    model = checkpoints.load_as(PoseDetector, weights)
    bars = (tqdm(peaks(model, source, count), name, count, disable=None) for name, source in sources.items())
    rows = [row for bar in bars for row in bar]
    apply(model, *(torch.cat(column) for column in zip(*rows, strict=True)))
    return model
