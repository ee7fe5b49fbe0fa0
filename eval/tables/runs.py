"""A model run over labelled videos; its poses and tracks written as PoseTrack18 files and read back, so that they are
scored like those of any other tool."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from dimofs.datasets.sequences import LabelledVideo, pose_content
from dimofs.detections import Detections
from dimofs.files import write_json
from dimofs.formats import posetrack
from dimofs.formats.posetrack import Video
from dimofs.motion import Motion
from dimofs.tracking import NONE, Tracker, follow
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.stream import sweep


@dataclass
class Run:
    """What a model finds in a video.

    people: those of each frame. motions: the motion from the previous frame to each, if it was asked for. size: height
    and width of the frames.
    """

    people: list[Detections]
    motions: list[Motion | None]
    size: tuple[int, int]


def find(detector: PoseDetector, video: LabelledVideo, delta: int = 0, batch: int = 1, motion: bool = False) -> Run:
    """Run `detector` over all frames, labelled or not."""
    return find_all(detector, video, [delta], batch, motion)[delta]


def find_all(
    detector: PoseDetector, video: LabelledVideo, deltas: Iterable[int], batch: int = 1, motion: bool = False
) -> dict[int, Run]:
    """A run for each delta; each frame passes the backbone only once."""
    runs = {delta: Run([], [], (1, 1)) for delta in deltas}
    for frame, found, move, _ in sweep(detector, video.frames(), list(runs), batch, motion=motion):
        for run, people in zip(runs.values(), found, strict=True):
            run.people.append(people)
            run.motions.append(move)
            run.size = frame.pixels.shape[0], frame.pixels.shape[1]
    return runs


def track(run: Run, tracker: Tracker, joint_score: float) -> list[Detections]:
    """The people that `tracker` follows, with ids; joints of a confidence below `joint_score` become absent."""
    tracks, found = NONE, []
    for people, motion in zip(run.people, run.motions, strict=True):
        tracks, people = follow(tracks, people, tracker, *run.size, motion)
        found.append(without_joints(people, joint_score))
    return found


def without_joints(people: Detections, below: float) -> Detections:
    """The people with joints of a confidence below `below` made absent."""
    return replace(people, keypoint_scores=people.keypoint_scores.masked_fill(people.confidences < below, -torch.inf))


def ranked(people: Detections) -> Detections:
    """The people with joint scores as AP ranks them: the product of the joint's confidence and the person's score."""
    product = people.confidences * people.scores[:, None]
    return replace(people, keypoint_scores=product.logit(eps=1e-6))


def copied(people: Sequence[Detections], delta: int) -> list[Detections]:
    """For each frame t the people found in frame t + `delta` (limited to the video): poses copied from B to A."""
    last = len(people) - 1
    return [people[min(max(t + delta, 0), last)] for t in range(last + 1)]


def predict(folder: Path, video: Video, people: Iterable[Detections], joints: Sequence[str], run: Run) -> Video:
    """Write the people of each frame to folder/<name of the video>.json, as for a submission, and read it back."""
    path = folder / f"{video.name}.json"
    write_json(path, pose_content(video.name, joints, list(people), video.frames, run.size))
    (read,) = posetrack.read_annotations(path)
    return read
