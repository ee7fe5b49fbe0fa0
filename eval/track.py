"""Track people through poses found frame by frame: Hungarian matching of the people of each frame with earlier ones.

    python -m eval.track --pred poses --out tracked                       # a folder, or a file
    python -m eval.track --pred x.poses.jsonl --out tracked --format posetrack18
    python -m eval.track --pred poses --out tracked --tracker detect-and-track --score 0.95
    python -m eval.track --pred poses --out tracked --gate 0.8 --patience 5 --joint-score 0.2

Poses are read from PoseTrack17 or PoseTrack18 files (.json, .json.gz) or from the JSON lines of dimofs.zoo.pose
(.jsonl), which a folder may mix; track ids that they have are replaced. Results keep the name of the file, and its
format unless --format says otherwise. In the same format everything else in the file is kept: only track ids change,
joints below --joint-score become absent, and people are dropped who are below --score, too small for the tracker, or
without both box and joints. Another format gets the images, boxes, joints (from PoseTrack's files the 15 of the
benchmark), scores and ids. Several videos in one PoseTrack18 file are tracked separately, with ids from 0 in each.

A person's box is that of the file, else the extent of the joints enlarged by 1.2; the score is that of the file, else
the mean over the joints, else 1. Joints are weighted by their scores if all scores of a video lie in [0, 1].

People whose score in the file is below --sure are linked after the others; where they continue no track they start
one, unless they overlap a person who is linked (IoU above 0.3): then they are dropped as a second finding of that
person. --sure 0 keeps everybody. Where a file has no scores of people, all are sure. With --exclusive a joint that two
people have in one place stays with one of them, as dimofs.zoo.pose does it, and becomes absent in the other.

A file that cannot be tracked is reported in one line, the others are tracked, and the exit status is then 2. Partial
results of an interrupted dimofs.zoo.pose (x.partial.poses.jsonl) are tracked too, and a warning says so.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from time import perf_counter
from typing import Annotated, Literal

import numpy as np
import torch
from tqdm import tqdm

from dimofs.cli import InputError, Range, run
from dimofs.detections import Detections
from dimofs.files import uncollected
from dimofs.formats.contents import CONTENTS
from dimofs.formats.posefiles import (
    PoseFile,
    Poses,
    check_tracks,
    drop_joints,
    pose_files,
    read_poses,
    relabelled,
    renamed,
    some,
    write_poses,
)
from dimofs.tracking import NONE, TRACKERS, Tracker, follow, tracker_named

# Trackers that need no motion, which files do not hold.
NAMES = [name for name, tracker in TRACKERS.items() if not tracker.motion]


@dataclass
class Counts:
    """Totals over the files tracked so far; people: those with an id."""

    files: int = 0
    frames: int = 0
    people: int = 0
    tracks: int = 0


def main(
    *,
    pred: Annotated[Path, "poses, a file or a folder of files"],
    out: Annotated[Path, "folder of the results"],
    format: Annotated[Literal["posetrack17", "posetrack18", "jsonl"] | None, "what to write (default: as read)"] = None,
    tracker: Annotated[str, f"how people are tracked: {', '.join(NAMES)}"] = "default",
    gate: Annotated[float | None, "highest cost of a person in a track (default: the tracker's)", Range(0, 1)] = None,
    patience: Annotated[int | None, "frames that a track may miss (default: the tracker's)", Range(0)] = None,
    birth: Annotated[float | None, "minimum score to start a track, not to extend one (default: the tracker's)"] = None,
    sure: Annotated[float | None, "people below this score are linked last (default: the tracker's)"] = None,
    exclusive: Annotated[bool, "make a joint absent where another person claims the same one in its place"] = False,
    score: Annotated[float | None, "minimum score of a person (default: the tracker's)"] = None,
    joint_score: Annotated[float | None, "minimum score of a joint, on the scale of the file (default: none)"] = None,
) -> int:
    """Track every file. Returns the exit status: 2 if one failed."""
    chosen = tracker_named(tracker, gate=gate, patience=patience, birth=birth, sure=sure)
    if chosen.motion:
        fault = "needs the motion between frames, which files do not have"
        raise InputError(f"--tracker {tracker}: {fault}; choose one of {', '.join(NAMES)}")
    chosen = replace(chosen, exclusive=exclusive, score=chosen.score if score is None else score)
    began, counts, least = perf_counter(), Counts(), -inf if joint_score is None else joint_score
    targets = _targets(pred, out, format)
    for number, (path, target) in enumerate(targets.items(), 1):
        try:
            _track(path, target, format, chosen, least, counts, f"{number}/{len(targets)} {path.name}")
        except Exception as error:
            if len(targets) == 1:
                raise
            named = str(error) if isinstance(error, InputError) else f"{path}: {type(error).__name__}: {error}"
            print(f"error: {named}", file=sys.stderr)
    rate = counts.frames / (perf_counter() - began)
    print(
        f"{counts.files} files, {counts.frames} frames, {counts.people} people, {counts.tracks} tracks, "
        f"{rate:.0f} frames/s -> {out}"
    )
    return 0 if counts.files == len(targets) else 2


def _targets(pred: Path, out: Path, format: str | None) -> dict[Path, Path]:
    """The result file of each input. InputError: it would replace an input, or another result."""
    paths = pose_files(pred)
    if os.path.realpath(out) == os.path.realpath(paths[0].parent):
        raise InputError(f"--out {out}: is the folder of --pred and would be written over; name another folder")
    targets = {path: out / renamed(path, format) for path in paths}
    owners: dict[Path, Path] = {}
    for path, target in targets.items():
        if target in owners:
            raise InputError(
                f"{path}: its result {target.name} is that of {owners[target].name} too; rename one of them"
            )
        owners[target] = path
    return targets


@uncollected()
def _track(
    path: Path, target: Path, format: str | None, tracker: Tracker, joint_score: float, counts: Counts, label: str
) -> None:
    """Track one file and write the result, whole or not at all."""
    file = read_poses(path, joint_score)
    if format not in (None, file.format) and len(file.videos) > 1:
        raise InputError(
            f"{path}: has {len(file.videos)} videos, which only a PoseTrack18 file can hold; leave out --format"
        )
    found = [linked(video, tracker, label) for video in file.videos]
    drop_joints(file, [each.gone for each in found])
    ids = [np.where(np.isnan(v.boxes()[:, 0]), -1, each.ids) for v, each in zip(file.videos, found, strict=True)]
    write_poses(target, _content(file, ids, format or file.format), path)
    if file.partial:
        print(f"warning: {path}: is partial, as the run that wrote it was interrupted", file=sys.stderr)
    counts.files += 1
    counts.frames += sum(len(video.images) for video in file.videos)
    counts.people += sum(int((tracks >= 0).sum()) for tracks in ids)
    counts.tracks += sum(int(tracks.max(initial=-1)) + 1 for tracks in ids)


def _content(file: PoseFile, ids: Sequence[np.ndarray], format: str):
    """The content of the result: the file with other ids, or its only video in another format."""
    if format == file.format:
        return relabelled(file, ids)
    check_tracks(file, ids, format)
    (video,), (tracks,) = file.videos, ids
    return CONTENTS[format](some(video, tracks >= 0), tracks[tracks >= 0].tolist())


@dataclass(frozen=True)
class Linked:
    """What a tracker says of a video's P people.

    ids:  [P] int64 track ids, from 0; -1 for people that the tracker drops.
    gone: [P, J] bool, the joints that another person claims better.
    """

    ids: np.ndarray
    gone: np.ndarray


def linked(video: Poses, tracker: Tracker, label: str = "") -> Linked:
    """Track the people of a video, by the times of its frames.

    Where the size of the frames changes, another photograph begins, so every track ends.
    """
    ids, gone, tracks, last = np.full(len(video), -1, np.int64), np.zeros_like(video.has), NONE, None
    if np.isnan(video.score).all():
        # The means of joints, on any scale, do not tell who is sure.
        tracker = replace(tracker, sure=0.0)
    everyone = _Numbered(**vars(video.detections()), number=torch.arange(len(video)))
    frames = zip(video.frames(), video.sizes.tolist(), np.diff(video.times, prepend=0.0).tolist(), strict=True)
    for of, size, elapsed in tqdm(frames, label, len(video.images), leave=False, unit="frame", disable=None):
        if last not in (None, size) and inf not in (*last, *size):
            tracks = replace(NONE, next_id=tracks.next_id)
        last, (width, height) = size, size
        tracks, people = follow(tracks, everyone[of], tracker, height, width, elapsed=elapsed)
        assert isinstance(people, _Numbered) and people.ids is not None
        ids[people.number] = people.ids
        gone[people.number] = people.keypoint_scores == -inf
    return Linked(ids, gone & video.has)


@dataclass
class _Numbered(Detections):
    """People with their numbers [P] int64 in the video, by which those that the tracker keeps are recognized."""

    number: torch.Tensor = field(kw_only=True)

    def _map(self, function) -> Detections:
        return _Numbered(**vars(super()._map(function)), number=function(self.number))


if __name__ == "__main__":
    run(main)
