"""Comparisons of pose detectors and trackers over labelled videos: Tables 1 and 2, Figure 6, tracking costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from dimofs.datasets.sequences import LabelledVideo
from dimofs.eval.keypoints.scores import Definition, VideoScores, figures, measure
from dimofs.eval.tables.runs import Run, copied, find, find_all, predict, ranked, track
from dimofs.tracking import Tracker
from dimofs.zoo.detection.detector import PoseDetector

PERSON_SCORE = 0.5  # people that are tracked, as in [16]


class Setting(NamedTuple):
    """How models run and how they are measured.

    delta: as in `dimofs.zoo.detection.stream.poses`; joint_score: lowest confidence of a tracked joint; hota: HOTA too.
    """

    delta: int = 0
    batch: int = 1
    joint_score: float = 0.5
    definition: Definition = "official"
    hota: bool = False


def score_model(
    detector: PoseDetector, videos: Sequence[LabelledVideo], out: Path, tracker: Tracker, setting: Setting
) -> list[VideoScores]:
    """What each video adds for a model, with its poses in OUT/poses and its tracks in OUT/tracks.

    AP is that of all poses found, joints ranked by confidence times the person's score; MOT is that of the tracks, of
    people scored 0.5 and joints `joint_score` or more.
    """
    scores = []
    for video in tqdm(videos, "videos", disable=None):
        run = find(detector, video, setting.delta, setting.batch, tracker.motion)
        names = detector.keypoint_names
        ap = pose_scores(video, run, names, out / "poses", setting.definition)
        mot = track_scores(video, run, tracker, names, out / "tracks", setting)
        scores.append(replace(mot, score=ap.score, has=ap.has, right=ap.right))
    return scores


def pose_scores(
    video: LabelledVideo, run: Run, names: Sequence[str], folder: Path, definition: Definition, delta: int = 0
) -> VideoScores:
    """What a video adds for the poses of `run`, joints `names`; those of frame t + `delta` are copied to frame t."""
    found = predict(folder, video.truth, map(ranked, copied(run.people, delta)), names, run)
    return measure(video.truth, found, definition, tracking=False)


def track_scores(
    video: LabelledVideo, run: Run, tracker: Tracker, names: Sequence[str], folder: Path, setting: Setting
) -> VideoScores:
    """What a video adds for the tracks of `run`."""
    tracker = replace(tracker, score=max(tracker.score, PERSON_SCORE))
    tracked = predict(folder, video.truth, track(run, tracker, setting.joint_score), names, run)
    return measure(video.truth, tracked, setting.definition, hota=setting.hota)


@dataclass
class Trial:
    """A tracker on one set of videos: MOTA and HOTA in percent, and how often identities switch, summed over joints."""

    mota: float
    hota: float
    switches: int


def compare_trackers(
    detector: PoseDetector,
    sets: Iterable[Sequence[LabelledVideo]],
    trackers: dict[str, Tracker],
    folder: Path,
    setting: Setting,
) -> dict[str, list[Trial]]:
    """Each tracker on each set of videos, all on the same poses."""
    trials: dict[str, list[Trial]] = {name: [] for name in trackers}
    motion = any(tracker.motion for tracker in trackers.values())
    for videos in sets:
        runs = [find(detector, v, setting.delta, setting.batch, motion) for v in tqdm(videos, "videos", disable=None)]
        for name, tracker in trackers.items():
            scores = [
                track_scores(video, run, tracker, detector.keypoint_names, folder, setting._replace(hota=True))
                for video, run in zip(videos, runs, strict=True)
            ]
            result = figures(scores, setting.definition)
            switches = sum(result["counts"]["switches"])
            trials[name].append(Trial(result["mota"][-1], result["hota"][-1], switches))
    return trials


def tracker_lines(trials: dict[str, list[Trial]]) -> list[str]:
    """A line for each tracker: means and standard deviations over the sets, the best MOTA first."""
    width = max(map(len, trials))
    lines = [f"{'':{width}}{'MOTA':>14}{'HOTA':>14}{'switches':>16}"]
    for name, row in sorted(trials.items(), key=lambda item: -np.mean([trial.mota for trial in item[1]])):
        columns = [[getattr(trial, field) for trial in row] for field in ("mota", "hota", "switches")]
        cells = [f"{np.mean(c):.{d}f} ± {np.std(c):.{d}f}" for c, d in zip(columns, (1, 1, 0), strict=True)]
        lines.append(f"{name:{width}}{cells[0]:>14}{cells[1]:>14}{cells[2]:>16}")
    return lines


@dataclass
class Sweep:
    """Figure 6: mAP in percent over delta, of poses found in Frame B, of those copied from B, and of A's own."""

    deltas: list[int]
    dimofs: list[float]
    copied: list[float]
    single: float


def sweep_deltas(
    single: PoseDetector,
    dimofs: PoseDetector,
    videos: Sequence[LabelledVideo],
    folder: Path,
    deltas: Sequence[int],
    batch: int = 1,
) -> Sweep:
    """`dimofs` looks for A's poses in B's features; what `single` finds in B alone is copied to A."""

    def ap(runs: Sequence[Run], names: Sequence[str], delta: int = 0) -> float:
        pairs = zip(videos, runs, strict=True)
        scores = [pose_scores(video, run, names, folder, "official", delta) for video, run in pairs]
        return figures(scores, "official")["ap"][-1]

    wanted = {0, *deltas} if single is dimofs else set(deltas)
    bar = tqdm(videos, "videos", disable=None)
    found = [find_all(dimofs, video, sorted(wanted), batch) for video in bar]
    alone = [runs[0] for runs in found] if single is dimofs else [find(single, video, 0, batch) for video in videos]
    return Sweep(
        list(deltas),
        [ap([runs[delta] for runs in found], dimofs.keypoint_names) for delta in deltas],
        [ap(alone, single.keypoint_names, delta) for delta in deltas],
        ap(alone, single.keypoint_names),
    )
