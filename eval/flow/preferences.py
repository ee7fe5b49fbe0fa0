"""Do different joints prefer different channels of the DiMoFs, as a decomposition into body parts would need?

A channel is preferred by a joint if its displacements there go with the joint's motion: their squared correlation, the
mean over x and y. Of two joints, and of one joint in two halves of the clips, the TOP most preferred channels are
compared. If two joints share fewer of them than one joint shares with itself, they differ beyond resampling.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from dimofs.cli import InputError
from dimofs.eval.flow.auroc import interval
from dimofs.eval.flow.estimators import inputs, see
from dimofs.eval.flow.probes import Clip, probes
from dimofs.skeletons import DIMOFS
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.pyramid_matching import POOLS

TOP = 10
# Random halvings of the clips.
SPLITS = 50
# Joints with fewer samples in a half are left out.
LEAST = 20


def measure(detector: PoseDetector, clips: Iterable[Clip], deltas: Sequence[int], starts: int) -> dict[str, Any]:
    """How many of the TOP channels two halves of the clips share, for one joint and for two different ones.

    InputError: too few joints are labelled.
    """
    channels, moves, joints, owners = [], [], [], []
    for number, clip in enumerate(tqdm(clips, "clips", disable=None)):
        for probe in probes(clip, deltas, starts):
            seen = see(detector, probe)
            read = inputs(detector.offset_net, seen, probe.points)
            for place, delta in enumerate(sorted(probe.others)):
                known = probe.moves[delta].isfinite().all(dim=1)
                channels.append(read[place][known][:, : -2 * len(POOLS)].unflatten(1, (-1, 2)).flip(2).half())
                moves.append(probe.moves[delta][known])
                joints.append(probe.joints[known])
                owners.append(torch.full((int(known.sum()),), number))
    if not channels:
        raise InputError("no joint is labelled in two frames; give more clips")
    return compare(torch.cat(channels), torch.cat(moves), torch.cat(joints), torch.cat(owners))


def compare(channels: Tensor, moves: Tensor, joints: Tensor, clips: Tensor, seed: int = 0) -> dict[str, Any]:
    """The comparison from displacements of channels [K, G, 2], motions [K, 2], joints and clips (int64 [K])."""
    random = np.random.default_rng(seed)
    names = [joint for joint in range(len(DIMOFS)) if int((joints == joint).sum()) >= 2 * LEAST]
    same, other = [], []
    for _ in range(SPLITS):
        first = torch.from_numpy(random.random(int(clips.max()) + 1) < 0.5)[clips]
        halves = [_preferred(channels, moves, joints, half, names) for half in (first, ~first)]
        both = [joint for joint in names if joint in halves[0] and joint in halves[1]]
        shared = np.array([[len(halves[0][i] & halves[1][j]) for j in both] for i in both], dtype=float)
        if len(both) > 1:
            same.append(shared.diagonal().mean())
            other.append((shared.sum() - shared.trace()) / (len(both) * (len(both) - 1)))
    if not same:
        raise InputError(f"fewer than two joints have {2 * LEAST} samples; give more clips")
    gap = np.array(same) - np.array(other)
    low, high = interval(gap)
    groups = channels.shape[1]
    top = min(TOP, groups)
    return {
        "channels": groups,
        "top": top,
        "same_joint": float(np.mean(same)),
        "other_joint": float(np.mean(other)),
        "chance": top * top / groups,
        "gap": float(gap.mean()),
        "interval": [low, high],
    }


def _preferred(channels: Tensor, moves: Tensor, joints: Tensor, half: Tensor, names: Sequence[int]) -> dict[int, set]:
    """The TOP channels of each joint with enough samples in a half."""
    found = {}
    for joint in names:
        chosen = half & (joints == joint)
        if int(chosen.sum()) >= LEAST:
            x, y = channels[chosen].float(), moves[chosen]
            x, y = x - x.mean(dim=0), y - y.mean(dim=0)
            together = (x * y[:, None]).sum(dim=0).square()
            score = together / (x.square().sum(dim=0) * y.square().sum(dim=0)).clamp(min=1e-9)
            found[joint] = set(score.mean(dim=1).topk(min(TOP, x.shape[1])).indices.tolist())
    return found


def lines(result: dict[str, Any]) -> list[str]:
    """The comparison in words."""
    low, high = result["interval"]
    verdict = "different joints prefer different channels" if low > 0 else "no decomposition by joint beyond resampling"
    return [
        f"of the {result['top']} channels (of {result['channels']}) that go best with a joint's motion, halves share:",
        f"  the same joint      {result['same_joint']:.2f}",
        f"  two different ones  {result['other_joint']:.2f}  (by chance {result['chance']:.2f})",
        f"  difference          {result['gap']:.2f} [{low:.2f}, {high:.2f}]: {verdict}",
    ]
