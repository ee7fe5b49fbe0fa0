"""Calibration: scores that are probabilities, of joints and of people (Platt, 1999).

A joint's confidence is the probability that it lies where the model says.
The softmax that trains a heatmap does not change if a constant is added to its logits, so their sigmoid means nothing
at first. For each joint, a logistic regression on the peak logits of labelled people (given their labelled boxes) finds
a slope and a shift, which go into the weights of the last layer. The peaks of the heatmaps stay where they are; joints
that are found in smoothed probabilities move a little, since the slope makes these sharper or blunter.

A person's score is that of `PersonScore`: a logistic regression of whether a found person is a labelled one on the box
and the surest joints. Its bias is then moved so that at a score of 0.5 as many people are found where nobody is as
labelled ones are missed, on the images that show people: precision equals recall.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor
from tqdm import tqdm

from dimofs import boxes as box
from dimofs.cli import InputError
from dimofs.datasets.people import PairSource
from dimofs.detections import Detections
from dimofs.skeletons import Skeleton
from dimofs.zoo import checkpoints
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.person_score import PersonScore, evidence
from dimofs.zoo.presets import Preset
from dimofs.zoo.training.data import skeleton_of

# A peak within this part of the square root of the box's area from the label is right.
RIGHT = 0.1
# Weight of the pull of a joint's slope and shift towards those of all joints together.
PRIOR = 0.1
# A found box is a labelled person's at this intersection over union; it does not count if so much of it lies in a
# region to ignore.
RIGHT_IOU, IGNORED = 0.5, 0.5


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


class Found(NamedTuple):
    """The people that a model finds in one image: scores of their boxes [P], `evidence` of their joints [P], whether
    each is a labelled person [P]; and how many people are labelled."""

    boxes: Tensor
    joints: Tensor
    right: Tensor
    labelled: int


@torch.inference_mode()
def found_people(model: PoseDetector, source: PairSource, count: int) -> Iterator[Found]:
    """The people of at most `count` frames, without those that are neither right nor wrong."""
    random = np.random.default_rng(0)
    for index in random.permutation(len(source))[:count].tolist():
        pair = source.pair(index, random)
        (people,) = model(pair.frame_a[None])
        right, counted = _right(people, pair.people.boxes, pair.people.ignore)
        yield Found(people.scores[counted], evidence(people.keypoint_scores)[counted], right[counted], len(pair.people))


def _right(people: Detections, labelled: Tensor, ignore: Tensor) -> tuple[Tensor, Tensor]:
    """[P] whether each person, best first, takes a labelled one that is free, and [P] whether it counts at all."""
    right = box.first_takes(box.iou(people.boxes, labelled), RIGHT_IOU)
    return right, right | ~(box.covered(people.boxes, ignore) >= IGNORED).any(dim=1)


def fit_person_score(found: Sequence[Found]) -> PersonScore:
    """The score of people by what a model found in some images. InputError: none of them is a labelled person."""
    with_people = torch.cat([torch.full_like(image.right, image.labelled > 0) for image in found])
    boxes, joints = torch.cat([image.boxes for image in found]), torch.cat([image.joints for image in found])
    right = torch.cat([image.right for image in found])
    if not right.any() or right.all():
        raise InputError("--people: the model finds only people, or none; add images, of people and of nobody")
    columns = torch.stack((torch.ones_like(boxes), torch.logit(boxes, eps=1e-6), joints), dim=1).double().numpy()
    sign = np.where(right.numpy(), -1, 1)

    def loss(x: np.ndarray) -> float:
        return np.logaddexp(0, columns @ x * sign).sum() + PRIOR * np.square(x - (0, 1, 0)).sum()

    bias, slope, by_joints = minimize(
        loss, (0, 1, 0), method="L-BFGS-B", bounds=[(None, None), (0.01, None), (0, None)]
    ).x
    fitted = PersonScore(float(bias), float(slope), float(by_joints))
    logits = torch.from_numpy(columns @ np.array(fitted))[with_people]
    return fitted._replace(bias=fitted.bias - break_even(logits, sum(image.labelled for image in found)))


def break_even(logits: Tensor, labelled: int) -> float:
    """The logit at and above which as many people are found as are labelled, so that precision equals recall."""
    return float(logits.sort(descending=True).values[min(labelled, len(logits)) - 1])


def calibrated(
    weights: str, sources: Mapping[str, PairSource], count: int, *, joints: bool = True, people: bool = False
) -> PoseDetector:
    """The model of `weights` with scores that are probabilities on `count` frames of each of the `sources`.

    joints, people: which scores. InputError: `weights` holds no such model, it has other joints than the sources, or it
    finds nobody.
    """
    model = checkpoints.load_as(PoseDetector, weights)
    _check_skeleton(model, weights, skeleton_of(sources), joints)
    if joints:
        rows = [row for bar in _bars(peaks, model, sources, count) for row in bar]
        apply(model, *(torch.cat(column) for column in zip(*rows, strict=True)))
    if people:
        model.person_score = None
        found = [image for bar in _bars(found_people, model, sources, count) for image in bar]
        model.person_score = fit_person_score(found)
        preset: Preset = vars(model)["preset"]
        vars(model)["preset"] = preset._replace(arguments=preset.arguments | {"person_score": list(model.person_score)})
    return model


def _check_skeleton(model: PoseDetector, weights: str, skeleton: Skeleton, joints: bool) -> None:
    """InputError: the model has a joint that the data do not have or, to calibrate `joints`, not the same ones."""
    found, labelled = tuple(model.keypoint_names), skeleton.joints
    if found != labelled if joints else not set(found) <= set(labelled):
        fault = f"has other joints than the {skeleton.name} of the data ({', '.join(labelled)[:300]})"
        raise InputError(f"{weights}: {fault}; give data like those of the model's training")


def _bars(look: Callable, model: PoseDetector, sources: Mapping[str, PairSource], count: int) -> Iterator[Iterable]:
    """What `look` finds in each source, under a progress bar."""
    for name, source in sources.items():
        yield tqdm(look(model, source, count), name, min(count, len(source)), disable=None)
