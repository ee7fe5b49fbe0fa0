"""Tracks for poses found frame by frame: Hungarian matching of the people of each frame with those before.

    python -m eval.track --pred poses --out tracked                       # a folder, or a file
    python -m eval.track --pred x.poses.jsonl --out tracked --format posetrack18
    python -m eval.track --pred poses --out tracked --tracker detect-and-track --score 0.95
    python -m eval.track --pred poses --out tracked --gate 0.8 --patience 5 --joint-score 0.2

Poses come as PoseTrack17 or PoseTrack18 files (.json, .json.gz) or as the JSON lines of dimofs.zoo.pose (.jsonl), in a
folder also mixed; ids that they have are replaced. Results keep the file's name, and its format unless --format says
otherwise. A kept format keeps all else that is in the file: only track ids change, joints below --joint-score become
absent, and people go who are below --score, too small for the tracker, or without both box and joints. Another format
gets the images, boxes, joints (of PoseTrack's files the 15 of the benchmark), scores and ids. Several videos in one
PoseTrack18 file are tracked apart, with ids from 0 in each.

A person's box is that of the file, else the extent of the joints, 1.2 times as wide and high; the score is that of the
file, else the mean over the joints, else 1. Joints weigh by their scores if all of a video's lie in [0, 1].
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from time import perf_counter
from typing import Annotated, Literal

import numpy as np
import torch
from tqdm import tqdm

from dimofs.cli import InputError, check_ranges, run
from dimofs.detections import Detections
from dimofs.files import uncollected
from dimofs.formats.contents import CONTENTS
from dimofs.formats.posefiles import (
    PoseFile,
    Poses,
    check_tracks,
    pose_files,
    read_poses,
    relabelled,
    renamed,
    some,
    write_poses,
)
from dimofs.tracking import NONE, TRACKERS, Tracker, follow, tracker_named

NAMES = [name for name, tracker in TRACKERS.items() if not tracker.motion]  # files hold no motion


@dataclass
class Counts:
    """What has been done: frames, people with an id, tracks."""

    frames: int = 0
    people: int = 0
    tracks: int = 0


def main(
    *,
    pred: Annotated[Path, "poses, a file or a folder"],
    out: Annotated[Path, "folder of the results"],
    format: Annotated[Literal["posetrack17", "posetrack18", "jsonl"] | None, "what to write (default: as read)"] = None,
    tracker: Annotated[str, f"how people are joined: {', '.join(NAMES)}"] = "default",
    gate: Annotated[float | None, "highest cost at which people are joined (default: the tracker's)"] = None,
    patience: Annotated[int | None, "frames that a track may miss (default: the tracker's)"] = None,
    birth: Annotated[float | None, "people below this score go on a track but begin none (default: 0)"] = None,
    score: Annotated[float | None, "lowest score of a person (default: the tracker's)"] = None,
    joint_score: Annotated[float | None, "lowest score of a joint, as the file has them (default: none)"] = None,
) -> None:
    check_ranges(score=(score, -inf, inf), joint_score=(joint_score, -inf, inf))
    chosen = tracker_named(tracker, gate=gate, patience=patience, birth=birth)
    if chosen.motion:
        fault = "needs the motion between frames, which files do not have"
        raise InputError(f"--tracker {tracker}: {fault}; choose one of {', '.join(NAMES)}")
    if score is not None:
        chosen = replace(chosen, score=score)
    began, counts = perf_counter(), Counts()
    targets = _targets(pred, out, format)
    for number, (path, target) in enumerate(targets.items(), 1):
        label = f"{number}/{len(targets)} {path.name}"
        _process(path, target, format, chosen, -inf if joint_score is None else joint_score, counts, label)
    rate = counts.frames / (perf_counter() - began)
    print(
        f"{len(targets)} files, {counts.frames} frames, {counts.people} people, {counts.tracks} tracks, "
        f"{rate:.0f} frames/s -> {out}"
    )


def _targets(pred: Path, out: Path, format: str | None) -> dict[Path, Path]:
    """The results of each file. InputError: a result would be written over an input, or over another result."""
    paths = pose_files(pred)
    if out.resolve() == paths[0].parent.resolve():
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
def _process(
    path: Path, target: Path, format: str | None, tracker: Tracker, joint_score: float, counts: Counts, label: str
) -> None:
    """Track one file, and write the result, whole or not at all."""
    file = read_poses(path, joint_score)
    if format not in (None, file.format) and len(file.videos) > 1:
        raise InputError(f"{path}: has {len(file.videos)} videos, which only PoseTrack18 files can; leave out --format")
    ids = [link(video, tracker, label) for video in file.videos]
    write_poses(target, _content(file, ids, format or file.format), path)
    counts.frames += sum(len(video.images) for video in file.videos)
    counts.people += sum(int((tracks >= 0).sum()) for tracks in ids)
    counts.tracks += sum(int(tracks.max(initial=-1)) + 1 for tracks in ids)


def _content(file: PoseFile, ids: Sequence[np.ndarray], format: str):
    """What the result says: the file with other ids, or its one video in another format."""
    if format == file.format:
        return relabelled(file, ids)
    check_tracks(file, ids, format)
    (video,), (tracks,) = file.videos, ids
    return CONTENTS[format](some(video, tracks >= 0), tracks[tracks >= 0].tolist())


def link(video: Poses, tracker: Tracker, label: str = "") -> np.ndarray:
    """[P] int64 the people's track ids, from 0; -1 for those whom the tracker drops.

    Where the size of the frames changes, another photograph begins: no track goes on.
    """
    ids, tracks, last = np.full(len(video), -1, np.int64), NONE, None
    everyone = _Numbered(**vars(video.detections()), number=torch.arange(len(video)))
    frames = zip(video.frames(), video.sizes.tolist(), strict=True)
    for of, size in tqdm(frames, label, len(video.images), leave=False, unit="frame", disable=None):
        if last not in (None, size) and inf not in (*last, *size):
            tracks = replace(NONE, next_id=tracks.next_id)
        last, (width, height) = size, size
        tracks, people = follow(tracks, everyone[of], tracker, height, width)
        assert isinstance(people, _Numbered) and people.ids is not None
        ids[people.number] = people.ids
    return ids


@dataclass
class _Numbered(Detections):
    """People who know their numbers [P] int64 in the video, whoever of them the tracker takes."""

    number: torch.Tensor = field(kw_only=True)

    def _map(self, function) -> Detections:
        return _Numbered(**vars(super()._map(function)), number=function(self.number))


if __name__ == "__main__":
    run(main)
