"""Labelled videos to evaluate poses and tracks on: PoseTrack's own, JHMDB's and synthetic ones.

AP, MOTA and HOTA read labels as PoseTrack stores them. JHMDB and synthetic labels are converted to PoseTrack18 by these
rules.

Synthetic  People who are present, and their visible joints.
JHMDB      The clips whose joints are clean. JHMDB's "face" is used as the nose. The head box is a square around it; its
           side is twice the distance from neck to face, and at least a seventh of the longer side of the actor's box.
           Only one actor is labelled, so everything farther from the actor's box than a fifth of its longer side is a
           region to ignore.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from dimofs.cli import InputError
from dimofs.datasets.jhmdb import JOINTS as JHMDB_JOINTS
from dimofs.datasets.jhmdb import Jhmdb
from dimofs.datasets.people import People, inside
from dimofs.datasets.posetrack import check_names, read_labelled_image
from dimofs.datasets.posetrack import people as posetrack_people
from dimofs.datasets.synthetic.clips import Synthetic, SyntheticClip
from dimofs.detections import Detections
from dimofs.files import write_json
from dimofs.formats import posetrack
from dimofs.formats.contents import content18
from dimofs.formats.posefiles import Poses
from dimofs.formats.posetrack import Video
from dimofs.reader import read_clip
from dimofs.skeletons import DIMOFS
from dimofs.video import IMAGE_RATE, Frame

# Pixels; farther than any frame reaches.
FAR = 1e5


@dataclass(frozen=True, kw_only=True)
class LabelledVideo:
    """A video and its labels.

    truth:  the labels as a PoseTrack file has them, which AP, MOTA and HOTA read.
    frames: reads the video from the start: one Frame for each of `truth.frames`.
    people: (number, height, width) -> the labelled people of that frame in an image of this size, all 19 joints, which
            PCK reads.
    """

    truth: Video
    frames: Callable[[], Iterator[Frame]]
    people: Callable[[int, int, int], People]


@dataclass(frozen=True)
class Labels:
    """The labels of one frame, with pixel centres at integer + 0.5.

    people: with track ids and the joints DIMOFS, whose scores are +inf for labelled joints and -inf for others.
    heads:  [P, 4], their head boxes.
    ignore: polygons [K, 2], regions to ignore.
    """

    people: Detections
    heads: Tensor
    ignore: Sequence[Tensor] = ()


T = TypeVar("T")


def spread(items: Sequence[T], most: int | None) -> list[T]:
    """At most `most` of the items, evenly spread over the sequence; all of them if `most` is None."""
    count = len(items) if most is None else min(most, len(items))
    return [items[int(number * (len(items) / count))] for number in range(count)]


def posetrack_videos(root: Path, most: int | None = None, part: str = "val") -> list[LabelledVideo]:
    """At most `most` videos of ROOT/annotations/`part`, whose images are named relative to ROOT.

    InputError: there are no annotations, they are malformed, or they name images outside ROOT; later, an image is
    absent, damaged or of another size than the annotations say.
    """
    folder = root / "annotations" / part
    files = posetrack.files(folder)
    if not files:
        raise InputError(f"{folder}: holds no .json files; --root is the folder of annotations and images")
    videos = [video for file in spread(files, most) for video in posetrack.read_annotations(file)]
    for video in videos:
        check_names(root, video)
    return [
        LabelledVideo(truth=video, frames=partial(_images, root, video), people=partial(posetrack_people, video))
        for video in videos
    ]


def _images(root: Path, video: Video) -> Iterator[Frame]:
    for number, name in enumerate(video.frames):
        pixels = read_labelled_image(root, video, number)
        yield Frame(pixels, number, number / IMAGE_RATE, 1 / IMAGE_RATE, root / name)


def synthetic_videos(folder: Path | None, clips: Synthetic) -> list[LabelledVideo]:
    """The clips; their labels are also written to `folder`, if one is given."""
    return [_synthetic(folder, clips.scene(index).clip()) for index in range(len(clips))]


def _synthetic(folder: Path | None, clip: SyntheticClip) -> LabelledVideo:
    labels = [_synthetic_labels(clip, number) for number in range(len(clip.frames))]
    return LabelledVideo(
        truth=annotate(folder, clip.name, labels, clip.frames.shape[1:3]),
        frames=partial(_frames, clip.frames),
        people=lambda number, _height, _width: clip.people(number),
    )


def _synthetic_labels(clip: SyntheticClip, number: int) -> Labels:
    present = clip.present[number]
    boxes, keypoints, heads, visible = (
        torch.from_numpy(values[number][present]) for values in (clip.boxes, clip.keypoints, clip.heads, clip.visible)
    )
    return Labels(_labelled(boxes, keypoints, visible, torch.from_numpy(np.flatnonzero(present))), heads)


def jhmdb_videos(folder: Path | None, source: Jhmdb, most: int | None = None) -> list[LabelledVideo]:
    """The clips with clean joints, at most `most`; their labels are also written to `folder`, if one is given.

    InputError: no clip has clean joints, or a clip does not decode.
    """
    names = spread([name for name in source.names if source.labels.joints(name) is not None], most)
    if not names:
        raise InputError(f"{source.clips}: no clip of the split has clean joints; nothing can be measured")
    return [_jhmdb(folder, source, name) for name in names]


def _jhmdb(folder: Path | None, source: Jhmdb, name: str) -> LabelledVideo:
    path = source.clips / f"{name}.avi"
    height, width = next(read_clip(path)).shape[:2]
    joints = source.labels.joints(name)
    assert joints is not None
    length = source.length(name)
    frames = [
        _jhmdb_labels(source, name, number, torch.from_numpy(joints[number]).float(), height, width)
        for number in range(length)
    ]
    truth = annotate(folder, name.replace("/", "_"), frames, (height, width))
    return LabelledVideo(truth=truth, frames=partial(_decoded, path, length), people=partial(source.people, name))


def _jhmdb_labels(source: Jhmdb, name: str, number: int, joints: Tensor, height: int, width: int) -> Labels:
    actor = source.people(name, number, height, width)
    face, neck = (joints[JHMDB_JOINTS.index(joint)] for joint in ("face", "neck"))
    actor.keypoints[:, DIMOFS.index("nose")] = face
    actor.labelled[:, DIMOFS.index("nose")] = inside(face, height, width)
    longer = (actor.boxes[:, 2:] - actor.boxes[:, :2]).amax(dim=1, keepdim=True)
    half = torch.maximum((face - neck).norm(), longer / 14)
    people = _labelled(actor.boxes, actor.keypoints, actor.labelled, torch.zeros(len(actor), dtype=torch.int64))
    near = actor.boxes + longer / 5 * torch.tensor([-1, -1, 1, 1])
    return Labels(people, torch.cat((face - half, face + half), dim=1), [r for box in near for r in _around(box)])


def _around(box: Tensor) -> list[Tensor]:
    """Four rectangles [4, 2] that cover everything but the box."""
    x1, y1, x2, y2 = box.tolist()
    rectangles = [(-FAR, -FAR, FAR, y1), (-FAR, y2, FAR, FAR), (-FAR, y1, x1, y2), (x2, y1, FAR, y2)]
    return [torch.tensor([[a, b], [c, b], [c, d], [a, d]]) for a, b, c, d in rectangles]


def _decoded(path: Path, length: int) -> Iterator[Frame]:
    """The first `length` frames of a clip. InputError: it has fewer."""
    shown = 0
    for frame in _frames(islice(read_clip(path), length)):
        yield frame
        shown += 1
    if shown < length:
        raise InputError(f"{path}: has {shown} frames, its labels name {length}; download it again")


def _frames(images: Iterable[np.ndarray]) -> Iterator[Frame]:
    """Frames of images [H, W, 3] uint8."""
    for number, image in enumerate(images):
        yield Frame(image, number, number / IMAGE_RATE, 1 / IMAGE_RATE)


def _labelled(boxes: Tensor, keypoints: Tensor, labelled: Tensor, ids: Tensor) -> Detections:
    logits = torch.where(labelled, torch.inf, -torch.inf)
    return Detections(boxes, torch.ones(len(boxes)), keypoints, logits, ids)


def annotate(folder: Path | None, name: str, frames: Sequence[Labels], size: tuple[int, int]) -> Video:
    """The labels of a video of `size` = (height, width), as a PoseTrack18 file has them.

    They are also written to folder/name.json, if a folder is given.
    """
    people = [labels.people for labels in frames]
    images = [f"images/{name}/{number:06d}.jpg" for number in range(len(frames))]
    content = pose_content(name, DIMOFS, people, images, size)
    heads = torch.cat([labels.heads for labels in frames])
    heads = torch.cat((heads[:, :2] - 0.5, heads[:, 2:] - heads[:, :2]), dim=1).double().numpy().round(2).tolist()
    for person, head in zip(content["annotations"], heads, strict=True):
        person |= {"bbox_head": head}
        person.pop("scores", None)
        person.pop("score", None)
    for image, labels in zip(content["images"], frames, strict=True):
        for axis, field in enumerate(("ignore_regions_x", "ignore_regions_y")):
            image[field] = [(polygon[:, axis] - 0.5).tolist() for polygon in labels.ignore]
    path = (folder or Path()) / f"{name}.json"
    if folder is not None:
        write_json(path, content)
    (video,) = posetrack.parse_annotations(path, content)
    return video


def pose_content(
    name: str, joints: Sequence[str], people: Sequence[Detections], images: Sequence[str], size: tuple[int, int]
) -> dict:
    """The content of a PoseTrack18 file of a video whose frames have `size` = (height, width).

    people: those of each frame; joints with the score -inf are absent, and people without ids are numbered within
    their frame. images: the name of each frame.
    """
    numbered = [p if p.ids is not None else replace(p, ids=torch.arange(len(p))) for p in people]
    everyone = Detections.join(numbered)
    assert everyone.ids is not None
    confidence = everyone.confidences.double().numpy()
    poses = Poses(
        name=name,
        joints=joints,
        centre=0.5,
        images=list(images),
        numbers=list(range(len(images))),
        times=np.arange(len(images), dtype=float),
        sizes=np.tile(np.array(size[::-1], float), (len(images), 1)),
        frame=np.repeat(np.arange(len(people)), [len(found) for found in people]),
        box=everyone.boxes.double().numpy().round(2),
        score=everyone.scores.double().numpy(),
        xy=everyone.keypoints.double().numpy().round(2),
        has=confidence > 0,
        confidence=confidence,
        entries=[],
    )
    return content18(poses, everyone.ids.tolist())
