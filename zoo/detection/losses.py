"""Training losses of `PoseDetector`: the RPN and box losses of Faster R-CNN (Ren et al., 2015), and the spatial softmax
of the keypoint branch (Detect-and-Track, Girdhar et al., 2018).

Joints without a label and regions to ignore do not contribute. Each loss is a mean over all candidates of the batch. It
is returned as a `Term`, a sum and a count, so that the parts of a batch add up to the whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dimofs.datasets.people import People
from dimofs.zoo.detection import box_coder, box_head, keypoint_head, rpn
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.features import Features, Geometry
from dimofs.zoo.detection.matcher import match, sample
from dimofs.zoo.detection.rpn import Prediction
from dimofs.zoo.training.terms import Term


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How many candidates of an image enter the losses. Defaults are those of Detect-and-Track (Girdhar et al., 2018).

    anchors:           anchors of the RPN loss, half of them positive if there are enough.
    regions:           regions of the box loss.
    keypoint_regions:  the most regions of the keypoint loss; Detect-and-Track uses all positive ones.
    positive_fraction: largest share of positive regions.
    keypoint_weight:   factor of the keypoint loss.
    """

    anchors: int = 256
    regions: int = 512
    keypoint_regions: int = 128
    positive_fraction: float = 0.25
    keypoint_weight: float = 1.0


def pose_losses(
    model: PoseDetector,
    frame_a: Tensor,
    frame_b: Tensor | None,
    people: Sequence[People],
    sampling: Sampling,
    generators: Sequence[torch.Generator] | None = None,
) -> dict[str, Term]:
    """The losses of finding `people` of Frame A in the features of Frame B, by name.

    Frames are [N, 3, H, W] in [0, 1] and of the network's size; people in their pixels. Batches without a person, a
    box or a joint give zeros that still carry a gradient. The N `generators` choose each image's candidates.
    """
    if frame_b is None:
        a = model.features(frame_a, resize=False)
        levels = model.align(a)
    else:
        a, b = pair_features(model, frame_a, frame_b)
        levels = model.align(a, b)
    return losses_of_levels(model, levels, a.geometry, people, sampling, generators)


def pair_features(model: PoseDetector, frame_a: Tensor, frame_b: Tensor) -> tuple[Features, Features]:
    """The features of Frames A and B [N, 3, H, W] of the network's size, by one pass of the backbone."""
    both = model.features(torch.cat((frame_a, frame_b)), resize=False)
    return both[: len(frame_a)], both[len(frame_a) :]


def losses_of_levels(
    model: PoseDetector,
    levels: Sequence[Tensor],
    geometry: Geometry,
    people: Sequence[People],
    sampling: Sampling,
    generators: Sequence[torch.Generator] | None = None,
) -> dict[str, Term]:
    """The same of aligned features [N, C, h, w]."""
    random = generators or [None] * len(people)
    prediction, proposals = model.propose(levels, geometry)
    losses = rpn_losses(prediction, people, sampling, random)
    regions, matched = training_regions(proposals, people, sampling, random)
    logits, deltas = model.box_head(levels, regions)
    losses |= box_losses(logits, deltas, regions, matched, people)
    regions, targets = keypoint_targets(regions, matched, people, sampling, model.keypoint_head.heatmap_size)
    heatmaps = model.keypoint_head(levels, regions)
    keypoint = keypoint_loss(heatmaps, targets)
    return losses | {"keypoint": keypoint._replace(total=sampling.keypoint_weight * keypoint.total)}


def rpn_losses(
    prediction: Prediction, people: Sequence[People], sampling: Sampling, random: Sequence[torch.Generator | None]
) -> dict[str, Term]:
    """Binary cross-entropy of the sampled anchors, smooth L1 (beta 1/9) of the positive ones."""
    anchors = prediction.anchors
    weights = anchors.new_tensor(rpn.WEIGHTS)
    objectness, proposal, count = [], [], 0
    for logits, deltas, target, generator in zip(prediction.logits, prediction.deltas, people, random, strict=True):
        matched = match(anchors, target.boxes, target.ignore, positive=0.7, negative=0.3, keep_best=True)
        chosen = sample(matched, sampling.anchors, 0.5, generator)
        labels = (matched[chosen] >= 0).float()
        objectness.append(F.binary_cross_entropy_with_logits(logits[chosen], labels, reduction="sum"))
        positive = chosen[matched[chosen] >= 0]
        goal = box_coder.encode(target.boxes[matched[positive]], anchors[positive], weights)
        proposal.append(F.smooth_l1_loss(deltas[positive], goal, beta=1 / 9, reduction="sum"))
        count += len(chosen)
    return {
        "objectness": Term(torch.stack(objectness).sum(), count),
        "proposal": Term(torch.stack(proposal).sum(), count),
    }


def training_regions(
    proposals: Sequence[Tensor], people: Sequence[People], sampling: Sampling, random: Sequence[torch.Generator | None]
) -> tuple[list[Tensor], list[Tensor]]:
    """Sampled regions [K_n, 4] of each image, labelled boxes among them, and each one's person or a negative number."""
    regions, matches = [], []
    for proposed, target, generator in zip(proposals, people, random, strict=True):
        candidates = torch.cat((proposed, target.boxes))
        matched = match(candidates, target.boxes, target.ignore, positive=0.5, negative=0.5)
        chosen = sample(matched, sampling.regions, sampling.positive_fraction, generator)
        regions.append(candidates[chosen])
        matches.append(matched[chosen])
    return regions, matches


def box_losses(
    logits: Tensor, deltas: Tensor, regions: Sequence[Tensor], matched: Sequence[Tensor], people: Sequence[People]
) -> dict[str, Term]:
    """Cross-entropy of person against background, smooth L1 (beta 1/9) of the persons' boxes."""
    labels = (torch.cat(list(matched)) >= 0).long()
    references = torch.cat([r[m >= 0] for r, m in zip(regions, matched, strict=True)])
    truth = torch.cat([p.boxes[m[m >= 0]] for p, m in zip(people, matched, strict=True)])
    goal = box_coder.encode(truth, references, deltas.new_tensor(box_head.WEIGHTS))
    return {
        "person": Term(F.cross_entropy(logits, labels, reduction="sum"), len(labels)),
        "box": Term(F.smooth_l1_loss(deltas[labels > 0], goal, beta=1 / 9, reduction="sum"), len(labels)),
    }


def keypoint_targets(
    regions: Sequence[Tensor], matched: Sequence[Tensor], people: Sequence[People], sampling: Sampling, size: int
) -> tuple[list[Tensor], Tensor]:
    """The regions of persons with a labelled joint inside (at most `keypoint_regions` an image) and the heatmap cell
    [K, J] of each joint, -1 where there is none to learn."""
    chosen, targets = [], []
    for region, match_, target in zip(regions, matched, people, strict=True):
        region, person = region[match_ >= 0], match_[match_ >= 0]
        cell, inside = keypoint_head.encode(target.keypoints[person], region, size)
        cell = torch.where(inside & target.labelled[person], cell, -1)
        useful = (cell >= 0).any(1).nonzero()[: sampling.keypoint_regions, 0]
        chosen.append(region[useful])
        targets.append(cell[useful])
    return chosen, torch.cat(targets)


def keypoint_loss(heatmaps: Tensor, targets: Tensor) -> Term:
    """Softmax over the S * S cells, cross-entropy with the joint's cell, over the labelled joints:
    [K, J, S, S], [K, J]."""
    total = F.cross_entropy(heatmaps.flatten(2).flatten(0, 1), targets.flatten(), ignore_index=-1, reduction="sum")
    return Term(total, int((targets >= 0).sum()))
