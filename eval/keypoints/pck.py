"""PCK by JHMDB's convention: how far joints are from where they are labelled, in units of max(height, width) of the
person's labelled box, and the share of them within alpha of it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dimofs.boxes import iou
from dimofs.datasets.people import People
from dimofs.detections import Detections
from dimofs.eval.keypoints.undefined import none_for_nan
from dimofs.skeletons import DIMOFS, indices

ALPHAS = (0.2, 0.1)
LIMBS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
ARMS_AND_LEGS = tuple(f"{side}_{limb}" for limb in LIMBS for side in ("left", "right"))


def joint_errors(labelled: People, found: Detections, names: Sequence[str]) -> Tensor:
    """[P, 19] distances from labelled to predicted joint in units of max(h, w) of the person's labelled box.

    Each person is compared with the detection that overlaps the labelled box most. NaN where a joint has no label or
    the model (joints `names`) has no such joint; inf where no detection overlaps the person.
    """
    boxes = labelled.boxes
    columns = torch.tensor(indices(names, DIMOFS))
    points = torch.full_like(labelled.keypoints, torch.inf)
    if len(found):
        overlap, best = iou(boxes, found.boxes.float()).max(dim=1)
        hit = overlap > 0
        points[hit] = found.keypoints[best[hit]][:, columns].float()
    errors = (points - labelled.keypoints).norm(dim=2) / _side(boxes)[:, None]
    return errors.where(labelled.labelled & (columns >= 0), torch.nan)


def speed(labelled: People, then: People) -> Tensor:
    """[P] mean distance that a person's joints move to the neighbouring frame `then`, in units of max(h, w) of the box.

    The same person in `then` is the one whose box overlaps most. NaN without one, or without a joint that is labelled
    in both frames.
    """
    if not len(labelled) or not len(then):
        return torch.full((len(labelled),), torch.nan)
    overlap, same = iou(labelled.boxes, then.boxes).max(dim=1)
    both = labelled.labelled & then.labelled[same] & (overlap > 0)[:, None]
    distance = (then.keypoints[same] - labelled.keypoints).norm(dim=2)
    return torch.where(both, distance, torch.nan).nanmean(dim=1) / _side(labelled.boxes)


def _side(boxes: Tensor) -> Tensor:
    """[P] the longer sides of [P, 4] boxes."""
    return (boxes[:, 2:] - boxes[:, :2]).amax(dim=1)


def pck(errors: Tensor, alpha: float) -> dict[str, float | None]:
    """Percentages of `errors` [P, 19] up to `alpha`: by joint, by pair of joints, and "mean" over arms and legs.

    None for joints that have no label or that the model lacks; they do not count in the mean.
    """
    known = (~errors.isnan()).sum(dim=0)
    # 0 / 0 is NaN.
    rates = 100 * (errors <= alpha).sum(dim=0) / known
    rows: dict[str, float] = dict(zip(DIMOFS, rates.tolist(), strict=True))
    rows |= {limb: _mean([rows[f"left_{limb}"], rows[f"right_{limb}"]]) for limb in LIMBS}
    rows["mean"] = _mean([rows[name] for name in ARMS_AND_LEGS])
    return none_for_nan(rows)


def _mean(values: list[float]) -> float:
    """The mean of those values that are not NaN."""
    return torch.tensor(values).nanmean().item()
