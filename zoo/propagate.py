"""Carry people that somebody labelled in some frames of a video to the frames between.

    python -m dimofs.zoo.propagate --labels labels.json --video x.mp4
    python -m dimofs.zoo.propagate --labels labels.json --video x.mp4 --first 1 --out complete.json
    python -m dimofs.zoo.propagate --labels labels.json --video frames --weights runs/first/model

LABELS is a file of one video in the formats of PoseTrack17, PoseTrack18, or COCO's with a `track_id` for each person;
the number in an image's name is that of the frame, and --first the number that the video's first frame has there. The
images may be those of all frames or of the labelled ones only. VIDEO is the video, or the folder of its frames.

Between two labelled frames everybody with the same id in both is carried from both by the motion of their joints, each
side weighted by how near it is in time. The result has the format of LABELS; labelled people stay as they are, and a
new person has the id, for each joint labelled in both frames a place, and a confidence in `scores` (`score` in
PoseTrack17): 1 where the two labelled frames agree about the place, less the farther they are apart. Sort by it to look
at doubtful frames first. Frames before the first and after the last labelled one get nobody, and nor does anybody get
carried who is labelled in one of two successive labelled frames only: where they enter or leave nobody said.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from dimofs.cli import RESULT, InputError, Range, run
from dimofs.detections import Detections
from dimofs.files import check_writable, read_json
from dimofs.formats.frame_labels import FrameLabels, frame_labels
from dimofs.formats.posefiles import write_poses
from dimofs.sources import Source, sources
from dimofs.video import Frame, open_clip
from dimofs.zoo import checkpoints
from dimofs.zoo.detection.carrying import Carried, carry, interpolated
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.features import Features
from dimofs.zoo.detection.keyframes import Between, Looks
from dimofs.zoo.detection.stream import Network
from dimofs.zoo.devices import pick_device

# At this distance between what two labelled frames say about a joint, in units of the square root of the area of the
# person's box, the confidence is exp(-1/2).
AGREEMENT = 0.05


class Completed(NamedTuple):
    """A frame that had no labels.

    number: of the frame. people: who was carried to it, with ids. confidences: [P, J]. like: the number of a labelled
    frame with the same people.
    """

    number: int
    people: Detections
    confidences: Tensor
    like: int


def propagate(
    looks: Looks, frames: Iterable[Frame], labels: Mapping[int, Detections], between: Between = "motion"
) -> Iterator[Completed]:
    """The people of the frames between labelled ones.

    labels: by number of the frame, ascending, those labelled in it, with ids; joints have logits above 0 where they are
    labelled, all alike. between: see `keyframes`.
    """
    wanted, seen, before = sorted(labels), list[Features | None](), None
    for number, frame in enumerate(frames):
        if not wanted or number > wanted[-1]:
            return
        if number < wanted[0]:
            continue
        seen.append(looks.glance([frame]) if between == "motion" else None)
        if number not in labels:
            continue
        if before is not None:
            yield from _between(labels, before, number, seen, between)
        before, seen = number, seen[-1:]


def _between(
    labels: Mapping[int, Detections], a: int, b: int, seen: list[Features | None], between: Between
) -> Iterator[Completed]:
    """The people of the frames between labelled frames `a` and `b`; `seen` holds what all of these show."""
    first, last = _same(labels[a], labels[b])
    for number in range(a + 1, b):
        share = (number - a) / (b - a)
        carried = _carried(first, last, share, (seen[0], seen[number - a], seen[-1]), between)
        # A joint is where both frames have it.
        logits = torch.minimum(first.keypoint_scores, last.keypoint_scores)
        confidences = (-(carried.apart / AGREEMENT).square() / 2).exp()
        yield Completed(number, replace(carried.people, keypoint_scores=logits), confidences, a)


def _carried(
    first: Detections, last: Detections, share: float, seen: tuple[Features | None, ...], between: Between
) -> Carried:
    a, here, b = seen
    if between == "motion" and a is not None and here is not None and b is not None:
        return carry(first, last, share, a, here, b)
    nearer = first if share <= 0.5 else last
    people = nearer if between == "copying" else interpolated(first, last, share)
    return Carried(people, torch.zeros_like(first.keypoint_scores))


def _same(a: Detections, b: Detections) -> tuple[Detections, Detections]:
    """Those with the same ids in both frames, in one order."""
    assert a.ids is not None and b.ids is not None
    same = a.ids[:, None] == b.ids
    rows, columns = same.nonzero(as_tuple=True)
    return a[rows], b[columns]


def main(
    *,
    labels: Annotated[Path, "labels of the people in some frames (PoseTrack17, PoseTrack18, COCO with track ids)"],
    video: Annotated[str, "the video, or the folder of its frames"],
    out: Annotated[Path | None, "file of all labels (default: LABELS with .complete before .json)", RESULT] = None,
    first: Annotated[int, "number of the video's first frame in the names of images", Range(low=0)] = 0,
    weights: Annotated[str, "a shipped model, a folder or a .pth"] = "dimofs_mobile",
    size: Annotated[int | None, "longer side of the model's input (default: the model's own)", Range(32, 2**14)] = None,
    device: Annotated[str | None, "cpu, cuda, cuda:1, ... (default: a GPU if there is one)"] = None,
    quiet: Annotated[bool, "no progress bar and no summary"] = False,
) -> None:
    where, given = pick_device(device), frame_labels(labels, read_json(labels), first)
    target = out or labels.with_name(labels.name.replace(".json", ".complete.json"))
    if target.absolute() == labels.absolute():
        raise InputError(f"--out {target}: is the file of --labels; name another")
    check_writable(target)
    source = _one(video)
    network = Network(checkpoints.load_as(PoseDetector, weights, where, size))
    last, people, frames = max(given.people), 0, 0
    with closing(open_clip(source)) as clip, closing(_checked(clip.frames(), given, source)) as shown:
        bar = tqdm(shown, source.name, last + 1, unit="frame", leave=False, disable=True if quiet else None)
        for number, found, confidences, like in list(propagate(network, bar, given.people)):
            given.add(number, found, confidences, like)
            people, frames = people + len(found), frames + bool(len(found))
    write_poses(target, given.content, labels)
    if not quiet:
        print(f"{people} people in {frames} frames added to {len(given.people)} labelled frames -> {target}")


def _one(video: str) -> Source:
    """The source of that name."""
    found = sources(video)
    if len(found) != 1 or found[0].live or found[0].piped:
        raise InputError(f"--video {video}: give one video file, or the folder of its frames")
    return found[0]


def _checked(frames: Iterable[Frame], labels: FrameLabels, source: Source) -> Generator[Frame]:
    """The frames up to the last labelled one. InputError: there are fewer, or they have another size than the labels
    say."""
    last, shown = max(labels.people), 0
    for frame in frames:
        for height, width in labels.sizes() if not shown else ():
            if (height, width) != frame.size:
                fault = f"labels are for frames of {width} x {height} pixels, those of {source.text} have"
                raise InputError(f"{labels.path}: {fault} {frame.size[1]} x {frame.size[0]}")
        yield frame
        shown += 1
        if shown > last:
            return
    fault = f"frame {last + labels.first} is labelled, {source.text} ends after {shown} frames"
    raise InputError(f"{labels.path}: {fault}; check --video and --first")


if __name__ == "__main__":
    run(main)
