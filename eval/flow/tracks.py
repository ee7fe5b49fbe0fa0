"""Point tracks: the joints of a clip's first frame, followed by chained motion, and how far they drift from their
labels."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from dimofs.cli import InputError
from dimofs.eval.flow.auroc import by_clip, interval, interval_table, resampled_means
from dimofs.eval.flow.methods import NAMES, Method, View, methods, views
from dimofs.eval.flow.probes import Clip
from dimofs.eval.keypoints.undefined import none_for_nan
from dimofs.zoo.detection.detector import PoseDetector

# Frames after which drift is reported.
AFTER = (10, 30)


def follow(points: Tensor, frames: Sequence[View], method: Method) -> Iterator[Tensor]:
    """The places [K, 2] of points of the first frame in each later one."""
    for a, b in itertools.pairwise(frames):
        points = method(a, b).move(points)
        yield points


def drift(clip: Clip, frames: Sequence[View], chosen: Mapping[str, Method], after: Sequence[int]) -> dict[int, Tensor]:
    """How far the joints labelled in both frames are from their labels after so many frames: [K, M], a column for each
    method. Points follow from the clip's first frame; numbers of frames that the clip does not have are absent."""
    start = clip.people(0)
    owner, joints = start.labelled.nonzero(as_tuple=True)
    wanted = [number for number in after if number < len(frames)]
    if not len(owner) or not wanted:
        return {}
    tracks = {
        name: list(follow(start.keypoints[owner, joints], frames[: max(wanted) + 1], m)) for name, m in chosen.items()
    }
    found = {}
    for number in wanted:
        later = clip.people(number)
        if len(later) != len(start):
            continue
        known = later.labelled[owner, joints]
        truth = later.keypoints[owner, joints][known]
        columns = [(track[number - 1][known] - truth).norm(dim=1) for track in tracks.values()]
        found[number] = torch.stack(columns, dim=1)
    return found


@torch.inference_mode()
def measure(
    detector: PoseDetector, fitted: dict[str, Tensor], clips: Iterable[Clip], after: Sequence[int] = AFTER
) -> dict[str, Any]:
    """Mean drift in pixels of each method after each number of frames, with 95 % intervals over clips.

    InputError: no clip is long enough.
    """
    found: dict[int, list[np.ndarray]] = {number: [] for number in after}
    owners: dict[int, list[str]] = {number: [] for number in after}
    chosen = None
    for clip in tqdm(clips, "clips", disable=None):
        frames = views(detector, clip.frames[: max(after) + 1])
        chosen = chosen or methods(detector, fitted, frames[0].features.levels[0].shape[1])
        for number, errors in drift(clip, frames, chosen, after).items():
            found[number].append(errors.numpy())
            owners[number] += [clip.name] * len(errors)
    if not any(owners.values()):
        raise InputError(f"no clip has labels in its first frame and {min(after)} frames later; give others")
    return {str(number): _summary(owners[number], np.concatenate(found[number])) for number in after if owners[number]}


def _summary(owners: Sequence[str], errors: np.ndarray) -> dict[str, Any]:
    sums, counts = by_clip(owners, errors)
    draws = resampled_means(sums, counts)
    means = sums.sum(axis=0) / counts.sum(axis=0)
    rows = {
        name: {"drift": float(means[i]), "interval": none_for_nan(list(interval(draws[:, i])))}
        for i, name in enumerate(NAMES)
    }
    return {"points": len(owners), "clips": len(sums), "rows": rows}


def lines(result: dict[str, Any]) -> list[str]:
    """The table of `measure`."""
    titles = {f"after {number} frames": group for number, group in result.items()}
    return interval_table("drift, px", titles, NAMES, ("points", "drift"), digits=(1, 1), column=24)
