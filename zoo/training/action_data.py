"""Regions to learn actions from: people of every n-th frame of labelled clips, with what they do, and background.

Training regions of a frame are the labelled box, the same box moved and scaled a little, and the detector's two best.
Of these, boxes that overlap no label are background: without them a head calls every bystander an actor. Test regions
are the detector's three best.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields, replace
from itertools import accumulate
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from dimofs import boxes as box
from dimofs.cli import InputError
from dimofs.datasets.jhmdb import Jhmdb
from dimofs.datasets.npz import read_npz
from dimofs.formats.records import MOST_PIXELS
from dimofs.sources import OWN, VIDEOS, printable, video_source
from dimofs.video import open_clip
from dimofs.zoo.detection.action_localizer import ActionLocalizer
from dimofs.zoo.detection.features import Geometry
from dimofs.zoo.training.feature_cache import FeatureCache, tensors_digest

# Regions that overlap a label by less than the first are background, by at least the second are its person.
BACKGROUND, PERSON = 0.3, 0.5
# Detections of a frame that training and test use, and the least score of those.
TRAIN_PEOPLE, TEST_PEOPLE, LEAST_SCORE = 2, 3, 0.05
# Of each class one clip in so many is held out.
HELD_OUT = 4
# A labelled box is moved and scaled by up to this share of its size.
JITTER = 0.12


@dataclass(frozen=True, kw_only=True)
class LabelledClip:
    """A clip of one action. boxes: [T, 4] of the actor in pixels of the frame, NaN where unknown; None: found by the
    detector, whose best person in each frame is the actor. boxes_file: where they are from, for messages. complaint:
    what is wrong with its video, in one line."""

    name: str
    path: Path
    label: int
    length: int
    boxes: Tensor | None = None
    boxes_file: Path | None = None
    complaint: str = ""


@dataclass(frozen=True, kw_only=True)
class Regions:
    """K regions of F frames A.

    numbers: [F] int64, the number of each frame in its clip. clips: [F] int64, which clip it is of.
    frames:  [K] int64, the frame of each region, ascending.
    boxes:   [K, 4] float, in pixels of the network's input. scores: [K] float, of a person; labelled boxes have 1.
    labels:  [K] int64, 0 for background and 1 + action else, -1 where a region is neither.
    targets: [K, 4] float, the labelled box, in pixels of the input; NaN where there is none.
    scale:   [F, 2] float, pixels of the frame per pixel of the input, x and y.
    """

    numbers: Tensor
    clips: Tensor
    frames: Tensor
    boxes: Tensor
    scores: Tensor
    labels: Tensor
    targets: Tensor
    scale: Tensor

    def __len__(self) -> int:
        return len(self.frames)

    def key(self) -> str:
        """A hash of all that streams of the regions depend on."""
        return tensors_digest((name, getattr(self, name)) for name in ("numbers", "frames", "boxes"))

    def by_frame(self) -> list[Tensor]:
        """The boxes of each frame, [K_f, 4]."""
        return list(self.boxes.split(torch.bincount(self.frames, minlength=len(self.numbers)).tolist()))

    @staticmethod
    def join(parts: Sequence[Regions]) -> Regions:
        """The regions of several clips; the n-th part is clip n."""
        first = [0, *accumulate(len(part.numbers) for part in parts)]
        moved = [
            replace(part, frames=part.frames + start, clips=torch.full_like(part.clips, number))
            for number, (part, start) in enumerate(zip(parts, first, strict=False))
        ]
        names = [field.name for field in fields(Regions)]
        return Regions(**{name: torch.cat([getattr(part, name) for part in moved]) for name in names})


def jhmdb_clips(source: Jhmdb) -> tuple[list[LabelledClip], list[str]]:
    """The clips of a split's part with their actors' boxes, and the names of the classes, in alphabetical order."""
    classes = sorted({name.partition("/")[0] for name in source.names})
    clips = []
    for name in source.names:
        boxes = source.labels.boxes(name)
        if boxes is None:
            raise InputError(f"{source.labels.root}: has no boxes of {name}; download the labels again")
        if not len(boxes) or np.isinf(boxes).any() or (boxes[:, 2:] <= boxes[:, :2]).any():
            fault = "a box that ends before it begins or is not finite" if len(boxes) else "no frame"
            raise InputError(f"{source.labels.root}: the boxes of {name} have {fault}; download them again")
        clips.append(
            LabelledClip(
                name=name,
                path=source.clips / f"{name}.avi",
                label=classes.index(name.partition("/")[0]),
                length=len(boxes),
                boxes=torch.from_numpy(np.asarray(boxes, np.float32)),
                boxes_file=source.labels.root,
            )
        )
    return clips, classes


def folder_clips(root: Path, boxes: Path | None = None) -> tuple[list[LabelledClip], list[str]]:
    """The videos of `root`/<class>/, and the names of the classes in alphabetical order.

    boxes: an .npz file with an array [T, 4] for each "<class>/<name without ending>": x1 y1 x2 y2 in pixels, rows of
    NaN where nobody acts. InputError: there are no two classes, or a video or its boxes are missing or malformed.
    """
    if not root.is_dir():
        raise InputError(f"--clips {root}: no such folder; give one that holds a folder of videos for each class")
    folders = {printable(folder.name): folder for folder in root.iterdir() if folder.is_dir() and _videos(folder)}
    classes = sorted(folders)
    if len(classes) < 2:
        raise InputError(f"--clips {root}: holds {len(classes)} folders of videos; give one for each of two classes")
    known = read_npz(boxes) if boxes is not None else {}
    clips, names = [], set()
    for label, action in enumerate(classes):
        for path in _videos(folders[action]):
            name = f"{action}/{printable(path.stem)}"
            if name in names:
                raise InputError(f"--clips {root}: two videos are called {name}; rename one")
            names.add(name)
            length, complaint = _read_through(path)
            track = None if boxes is None else _track(known, name, length, boxes)
            clips.append(
                LabelledClip(
                    name=name, path=path, label=label, length=length, boxes=track, boxes_file=boxes, complaint=complaint
                )
            )
    return clips, classes


def folders_without_videos(root: Path) -> list[str]:
    """The names of the folders in `root` of which `folder_clips` makes no class."""
    folders = root.iterdir() if root.is_dir() else ()
    return sorted(printable(folder.name) for folder in folders if folder.is_dir() and not _videos(folder))


def _videos(folder: Path) -> list[Path]:
    """The videos of a folder by name; those that `dimofs action` drew are none."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in VIDEOS and not path.name.endswith(OWN))


def _read_through(path: Path) -> tuple[int, str]:
    """How many frames of a video decode, and what is wrong with it: a damaged one is used as far as it decodes."""
    with closing(open_clip(video_source(path))) as clip:
        return sum(1 for _ in clip.frames()), clip.complaint


def _track(known: Mapping[str, np.ndarray], name: str, length: int, file: Path) -> Tensor:
    if name not in known:
        raise InputError(f"{file}: has no boxes of {name}; add an array of that name")
    track = np.asarray(known[name])
    if track.shape != (length, 4) or track.dtype.kind not in "iuf":
        raise InputError(f"{file}: {name!r} is {track.dtype} {track.shape}; its clip needs numbers ({length}, 4)")
    if (np.abs(track.astype(float)) > MOST_PIXELS).any() or (track[:, 2:] <= track[:, :2]).any():
        fault = f"has a box that is empty or not finite, or beyond {MOST_PIXELS:.0f} pixels"
        raise InputError(f"{file}: {name!r} {fault}; write x1 y1 x2 y2, or NaN")
    return torch.from_numpy(track.astype(np.float32))


def held_out_clips(clips: Sequence[LabelledClip]) -> tuple[list[LabelledClip], list[LabelledClip]]:
    """The clips in two parts, of which the second has the last quarter of each class: the one to choose a recipe on.

    Clips cut from one recording have neighbouring names and so stay together, but for those at the border.
    """
    count = Counter(clip.label for clip in clips)
    seen, kept, held = Counter[int](), list[LabelledClip](), list[LabelledClip]()
    for clip in clips:
        seen[clip.label] += 1
        last = seen[clip.label] > count[clip.label] - count[clip.label] // HELD_OUT
        (held if last else kept).append(clip)
    return kept, held


def check_people(regions: Regions, clips: Sequence[LabelledClip], classes: Sequence[str]) -> None:
    """Tell on stderr how many of the clips that `regions` are of show nobody. InputError: all clips of a class do."""
    found = set(regions.clips[regions.frames[regions.labels > 0]].tolist())
    labels = {clips[number].label for number in found}
    for label, name in enumerate(classes):
        if label not in labels:
            raise InputError(f"the clips of {name} show nobody whose action could be learned; label people in them")
    if silent := [clip.name for number, clip in enumerate(clips) if number not in found]:
        print(f"note: {len(silent)} clips show nobody, such as {silent[0]}", file=sys.stderr)


@torch.inference_mode()
def find_regions(
    model: ActionLocalizer, cache: FeatureCache, clip: LabelledClip, *, every: int, train: bool
) -> Regions:
    """The regions of every `every`-th frame of a clip. Labelled boxes are moved the same way each time."""
    random = torch.Generator().manual_seed(crc32(clip.name.encode()))
    numbers = list(range(0, clip.length, every))
    features = cache.features(clip.path, numbers)
    geometry = features.geometry
    most = TRAIN_PEOPLE if train else TEST_PEOPLE
    found = model.find_boxes(model.mixed(features), geometry, min_score=LEAST_SCORE, max_people=most)
    parts: list[tuple[Tensor, ...]] = []
    for frame, (people, number) in enumerate(zip(found, numbers, strict=True)):
        actor = _actor(clip, number, people.boxes, geometry)
        boxes, scores = _training(actor, people.boxes, people.scores, random) if train else people
        labels, targets = _labels(boxes, actor, clip.label)
        parts.append((torch.full((len(labels),), frame), boxes, scores, labels, targets))
    frames, boxes, scores, labels, targets = (torch.cat(column) for column in zip(*parts, strict=True))
    scale = [geometry.frame[i] / geometry.resized[i] for i in (1, 0)]
    return Regions(
        numbers=torch.tensor(numbers),
        clips=torch.zeros(len(numbers), dtype=torch.int64),
        frames=frames,
        boxes=boxes,
        scores=scores,
        labels=labels,
        targets=targets,
        scale=torch.tensor([scale] * len(numbers)),
    )


def _actor(clip: LabelledClip, number: int, found: Tensor, geometry: Geometry) -> Tensor:
    """The actor's box in a frame, [1, 4] or [0, 4], in pixels of the input."""
    return found[:1] if clip.boxes is None else labelled_box(clip, number, geometry)


def labelled_box(clip: LabelledClip, number: int, geometry: Geometry) -> Tensor:
    """The labelled box of a frame in pixels of the input, [1, 4], or [0, 4] where it is not known.

    InputError: it lies outside the frame.
    """
    assert clip.boxes is not None
    actor = box.clip(geometry.to_input(clip.boxes[number : number + 1]), *geometry.resized)
    actor = actor[actor.isfinite().all(1)]
    if (actor[:, 2:] <= actor[:, :2]).any():
        where = f"{clip.boxes_file or clip.name}: box {clip.boxes[number].tolist()} of frame {number} of {clip.name}"
        raise InputError(f"{where} lies outside the frame; write x1 y1 x2 y2 in its pixels, or NaN")
    return actor


def _training(actor: Tensor, found: Tensor, scores: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """The labelled box, the same with jitter and the detections, with scores."""
    size = (actor[:, 2:] - actor[:, :2]).repeat(1, 2)
    jittered = actor + JITTER * size * (2 * torch.rand(actor.shape, generator=random) - 1)
    ones = scores.new_ones(2 * len(actor))
    return torch.cat((actor, jittered, found)), torch.cat((ones, scores))


def _labels(regions: Tensor, actor: Tensor, label: int) -> tuple[Tensor, Tensor]:
    """The class of each region, 0 for background and -1 for neither, and the labelled box, NaN without one."""
    if not len(actor):
        return torch.full((len(regions),), -1), torch.full((len(regions), 4), torch.nan)
    overlap = box.iou(regions, actor)[:, 0]
    labels = torch.where(overlap >= PERSON, 1 + label, torch.where(overlap < BACKGROUND, 0, -1))
    return labels, torch.where((labels > 0)[:, None], actor, torch.nan)


def later(numbers: Tensor, length: int, delta: int | Tensor) -> Tensor:
    """The numbers [F] of the frames `delta` after those of `numbers`, limited to a clip of `length` frames."""
    return (numbers + delta).clamp(0, length - 1)
