"""Make a model's joint confidences probabilities: the chance that a joint lies where the model says.

    python -m dimofs.zoo.calibrate --weights runs/first/model --out calibrated                   # on synthetic clips
    python -m dimofs.zoo.calibrate --weights runs/first/model --out calibrated --coco people.json --coco-images DIR

The softmax that trains a heatmap does not see a constant added to its logits, so their sigmoid means nothing yet. Per
joint, the peak logits of labelled people (their labelled boxes given) and whether each peak is right, within a tenth of
the square root of the box's area, decide a slope and a shift (Platt 1999); both go into the last layer's weights.
Where the joints are found does not change.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor
from tqdm import tqdm

from dimofs import boxes as box
from dimofs.cli import run
from dimofs.datasets.people import PairSource
from dimofs.zoo import checkpoints
from dimofs.zoo.detection.detector import SCALES, PoseDetector
from dimofs.zoo.detection.keypoint_head import decode
from dimofs.zoo.training.data import Coco, CocoImages, JhmdbClips, JhmdbLabels, LspetFolder, Paths, taught

RIGHT = 0.1  # of the square root of the box's area
PRIOR = 0.1  # how strongly slope and shift are drawn to what all joints share


@torch.inference_mode()
def peaks(model: PoseDetector, source: PairSource, count: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Of at most `count` frames: peak logits, whether they are right, whether the joint is labelled, [P, J] each."""
    random = np.random.default_rng(0)
    for index in random.permutation(len(source))[:count].tolist():
        pair = source.pair(index, random)
        people = pair.people
        features = model.features(pair.frame_a[None] / 255)
        scale = torch.tensor([features.resized[i] / features.original[i] for i in (1, 0)])
        regions = people.boxes * scale.repeat(2)
        points, logits = decode(model.keypoint_head(model.align(features), [regions], SCALES), regions)
        distance = (points / scale - people.keypoints).norm(dim=-1)
        yield logits, distance < RIGHT * box.area(people.boxes).sqrt()[:, None], people.labelled


def fit(logits: np.ndarray, right: np.ndarray, center: tuple[float, float] = (1.0, 0.0)) -> tuple[float, float]:
    """Slope and shift of the logistic regression of `right` [N] on `logits` [N], drawn to `center` where N is small."""

    def loss(x: np.ndarray) -> float:
        margin = (x[0] * logits + x[1]) * np.where(right, -1, 1)
        return np.logaddexp(0, margin).sum() + PRIOR * np.square(x - center).sum()

    slope, shift = minimize(loss, center, method="L-BFGS-B", bounds=[(0.05, None), (None, None)]).x
    return float(slope), float(shift)


@torch.no_grad()
def apply(model: PoseDetector, logits: Tensor, right: Tensor, labelled: Tensor) -> None:
    """Scale and shift the last layer of `model` by the fit of each joint; arguments [N, J] from `peaks`."""
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


def main(
    *,
    weights: Annotated[str, "checkpoint to calibrate"],
    out: Annotated[Path, "folder to write the calibrated checkpoint to"],
    jhmdb: JhmdbClips = None,
    jhmdb_labels: JhmdbLabels = None,
    coco: Coco = None,
    coco_images: CocoImages = None,
    lspet: LspetFolder = None,
    teacher: Annotated[str | None, "folder of labels written by python -m dimofs.zoo.label"] = None,
    every: Annotated[int, "JHMDB: one frame in so many, as labelled"] = 5,
    count: Annotated[int, "frames of each data set"] = 200,
    half: Annotated[bool, "write float16, at half the size"] = False,
) -> None:
    paths = Paths(jhmdb, jhmdb_labels, coco, coco_images, lspet).or_synthetic(count)
    sources = paths.sources(every=every)
    if teacher:
        sources = taught(sources, teacher)
    checkpoints.save(calibrated(weights, sources, count), out, {"calibrated": "yes"}, half)


if __name__ == "__main__":
    run(main)
