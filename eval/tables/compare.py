"""Comparisons of pose detectors and trackers over labelled videos: Tables 1 and 2, Figure 6, trackers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dimofs.datasets.sequences import LabelledVideo
from dimofs.eval.keypoints.scores import Definition, VideoScores, figures, score_video
from dimofs.eval.tables.runs import Run, copied, find, find_all, predict, ranked, track
from dimofs.tracking import Tracker
from dimofs.zoo.detection.detector import PoseDetector

# People of a lower score are not tracked, as in Detect-and-Track (Girdhar et al., 2018).
PERSON_SCORE = 0.5


@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """How models run and how they are scored.

    delta: as in `dimofs.zoo.detection.stream.poses`. batch: frames at a time. joint_score: lowest confidence of a
    tracked joint. hota: compute HOTA as well.
    """

    delta: int = 0
    batch: int = 1
    joint_score: float = 0.5
    definition: Definition = "official"
    hota: bool = False


def score_model(
    detector: PoseDetector, videos: Sequence[LabelledVideo], out: Path, tracker: Tracker, options: EvalOptions
) -> list[VideoScores]:
    """The counts of each video for a model, with its poses in OUT/poses and its tracks in OUT/tracks.

    AP is computed from all poses found, joints ranked by confidence times the person's score; MOT from the tracks of
    people with a score of at least 0.5 and joints with a confidence of at least `joint_score`.
    """
    scores = []
    for video in tqdm(videos, "videos", disable=None):
        run = find(detector, video, options.delta, options.batch, tracker.motion)
        names = detector.keypoint_names
        ap = pose_scores(video, run, names, out / "poses", options.definition)
        mot = track_scores(video, run, tracker, names, out / "tracks", options)
        scores.append(replace(mot, score=ap.score, has=ap.has, right=ap.right))
    return scores


def pose_scores(
    video: LabelledVideo, run: Run, names: Sequence[str], folder: Path, definition: Definition, delta: int = 0
) -> VideoScores:
    """The counts of a video for the poses of `run`, with joints `names`.

    delta: the poses found in frame t + `delta` are copied to frame t.
    """
    found = predict(folder, video.truth, map(ranked, copied(run.people, delta)), names, run)
    return score_video(video.truth, found, definition, tracking=False)


def track_scores(
    video: LabelledVideo, run: Run, tracker: Tracker, names: Sequence[str], folder: Path, options: EvalOptions
) -> VideoScores:
    """The counts of a video for the tracks of `run`."""
    tracker = replace(tracker, score=max(tracker.score, PERSON_SCORE))
    tracked = predict(folder, video.truth, track(run, tracker, options.joint_score), names, run)
    return score_video(video.truth, tracked, options.definition, hota=options.hota)


@dataclass
class Trial:
    """A tracker on one set of videos: MOTA and HOTA in percent, and the number of identity switches over all joints."""

    mota: float
    hota: float
    switches: int


def compare_trackers(
    detector: PoseDetector,
    sets: Iterable[Sequence[LabelledVideo]],
    trackers: dict[str, Tracker],
    folder: Path,
    options: EvalOptions,
) -> dict[str, list[Trial]]:
    """The trials of each tracker, one for each set of videos, all on the same poses."""
    trials: dict[str, list[Trial]] = {name: [] for name in trackers}
    motion = any(tracker.motion for tracker in trackers.values())
    for videos in sets:
        runs = [find(detector, v, options.delta, options.batch, motion) for v in tqdm(videos, "videos", disable=None)]
        for name, tracker in trackers.items():
            scores = [
                track_scores(video, run, tracker, detector.keypoint_names, folder, replace(options, hota=True))
                for video, run in zip(videos, runs, strict=True)
            ]
            result = figures(scores, options.definition)
            switches = sum(result["counts"]["switches"])
            trials[name].append(Trial(result["mota"][-1], result["hota"][-1], switches))
    return trials


def tracker_lines(trials: dict[str, list[Trial]]) -> list[str]:
    """A line for each tracker: means and standard deviations over the sets, in order of descending MOTA."""
    width = max(map(len, trials))
    lines = [f"{'':{width}}{'MOTA':>14}{'HOTA':>14}{'switches':>16}"]
    for name, row in sorted(trials.items(), key=lambda item: -np.mean([trial.mota for trial in item[1]])):
        columns = [[getattr(trial, field) for trial in row] for field in ("mota", "hota", "switches")]
        cells = [f"{np.mean(c):.{d}f} ± {np.std(c):.{d}f}" for c, d in zip(columns, (1, 1, 0), strict=True)]
        lines.append(f"{name:{width}}{cells[0]:>14}{cells[1]:>14}{cells[2]:>16}")
    return lines


@dataclass(kw_only=True)
class Sweep:
    """Figure 6: mAP in percent over `deltas`.

    dimofs: of A's poses found in the features of B; copied: of poses found in B and copied to A; single: of poses found
    in A alone.
    """

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
    """`dimofs` looks for A's poses in B's features; poses that `single` finds in B alone are copied to A."""

    def ap(runs: Sequence[Run], names: Sequence[str], delta: int = 0) -> float:
        pairs = zip(videos, runs, strict=True)
        scores = [pose_scores(video, run, names, folder, "official", delta) for video, run in pairs]
        return figures(scores, "official")["ap"][-1]

    wanted = {0, *deltas} if single is dimofs else set(deltas)
    bar = tqdm(videos, "videos", disable=None)
    found = [find_all(dimofs, video, sorted(wanted), batch) for video in bar]
    alone = [runs[0] for runs in found] if single is dimofs else [find(single, video, 0, batch) for video in videos]
    return Sweep(
        deltas=list(deltas),
        dimofs=[ap([runs[delta] for runs in found], dimofs.keypoint_names) for delta in deltas],
        copied=[ap(alone, single.keypoint_names, delta) for delta in deltas],
        single=ap(alone, single.keypoint_names),
    )
