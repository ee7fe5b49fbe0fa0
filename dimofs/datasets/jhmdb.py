"""JHMDB: 928 clips of 21 actions with one actor's joints and silhouette in each frame (Jhuang et al., ICCV 2013).

The labels folder holds the official files,

    splits/<class>_test_split1.txt ...             a line "<clip>.avi 1" (train) or "... 2" (test)
    joint_positions/<class>/<clip>/joint_positions.mat     pos_img [2, 15, frames]
    puppet_mask/<class>/<clip>/puppet_mask.mat             part_mask [H, W, frames]

or, instead of the last two, compact arrays by "<class>/<clip>":

    joints.npz         [frames, 15, 2], with joints_meta.json: {"<class>/<clip>": {"clean": bool}}
    boxes.npz          [frames, 4], inclusive x1 y1 x2 y2, from 0: the extent of the silhouette
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from dimofs.boxes import clip
from dimofs.cli import InputError
from dimofs.datasets.matlab import read_mat
from dimofs.datasets.npz import read_npz
from dimofs.datasets.people import (
    Pair,
    People,
    box_of_joints,
    draw_frames,
    inside,
    labelled_numbers,
    moves_of,
    to_dimofs,
)
from dimofs.files import read_bytes, read_json
from dimofs.pixels import to_tensor
from dimofs.reader import read_clip, read_frames
from dimofs.skeletons import JHMDB as JOINTS


class Jhmdb:
    """Pairs (A, A + delta) of a split's clips; delta is uniform in -reach..reach, then clipped to the clip. With the
    reach None, B is any frame of the clip.

    The box is the extent of the silhouette or, without one, of the labelled joints times 1.2. The files count pixels
    from 1, so 0.5 is subtracted from joints to reach the pixel's centre. Joints outside the frame are extrapolated by
    JHMDB and not used. Clips without joints, or with joints not marked clean, train the box alone.

    clips:  folder of <class>/<clip>.avi. labels: see the module.
    every:  Frame A is one of every `every`-th frame, or with `per_clip` one of so many frames of each clip.
    InputError: a file is absent or malformed, or the split lists no clip.
    """

    def __init__(
        self,
        clips: str | Path,
        labels: str | Path,
        *,
        split: int = 1,
        part: Literal["train", "test"] = "train",
        reach: int | None = 10,
        every: int = 1,
        per_clip: int | None = None,
    ):
        self.clips, self.reach, self.every, self.per_clip = Path(clips), reach, every, per_clip
        self.names = read_split(Path(labels) / "splits", split, part)
        if not self.names:
            raise InputError(f"{Path(labels) / 'splits'}: split {split} lists no clip to {part}")
        self.labels = CompactLabels(labels) if (Path(labels) / "boxes.npz").exists() else OfficialLabels(labels)
        self._cache: dict[str, tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.names)

    def pair(self, index: int, random: np.random.Generator) -> Pair:
        """Two frames of clip `index`; the name is "<class>/<clip>/<number of A>", from 0, with four digits."""
        name = self.names[index]
        a, b = draw_frames(self.length(name), random, reach=self.reach, every=self.every, labels=self.per_clip)
        frame_a, frame_b = map(to_tensor, read_frames(self.clips / f"{name}.avi", (a, b)))
        return Pair(
            frame_a=frame_a,
            frame_b=frame_b,
            people=self.people(name, a, *frame_a.shape[1:]),
            delta=b - a,
            name=f"{name}/{a:04d}",
            moves=self._moves(name, a, b, *frame_a.shape[1:]),
        )

    def length(self, name: str) -> int:
        """The number of labelled frames of the clip "<class>/<clip>"."""
        return len(self._tracks(name)[0])

    def people(self, name: str, number: int, height: int, width: int) -> People:
        """The actor in frame `number` of the clip "<class>/<clip>"; nobody if neither box nor joints are known."""
        boxes, joints = (track[number][None] for track in self._tracks(name))
        keypoints, labelled = to_dimofs(joints, inside(joints, height, width), JOINTS)
        unknown = ~boxes.isfinite().all(dim=1, keepdim=True)
        boxes = torch.where(unknown, box_of_joints(keypoints, labelled, height, width), clip(boxes, height, width))
        people = People(boxes=boxes, keypoints=keypoints, labelled=labelled, ignore=torch.zeros(0, 4))
        return people.select((boxes[:, 2:] > boxes[:, :2]).all(1))

    def _moves(self, name: str, a: int, b: int, height: int, width: int) -> Tensor:
        """The moves [K, 2, 2] of the actor from frame `a` to frame `b`."""
        _, joints = self._tracks(name)
        (from_, known_a), (to, known_b) = (
            to_dimofs(joints[number][None], inside(joints[number][None], height, width), JOINTS) for number in (a, b)
        )
        return moves_of(from_, to, known_a & known_b)

    def frames(self) -> Iterator[tuple[str, Tensor]]:
        """Every possible Frame A of every clip, with the name that `pair` gives it."""
        for name in self.names:
            few = None if self.per_clip is None else labelled_numbers(self.length(name), 1, self.per_clip)
            for number, frame in enumerate(read_clip(self.clips / f"{name}.avi")):
                if number % self.every == 0 if few is None else number in few:
                    yield f"{name}/{number:04d}", to_tensor(frame)

    def _tracks(self, name: str) -> tuple[Tensor, Tensor]:
        """Boxes [T, 4] and joints [T, 15, 2] of a clip, continuous coordinates, NaN where unknown."""
        if name not in self._cache:
            boxes, joints = self.labels.boxes(name), self.labels.joints(name)
            if boxes is None and joints is None:
                raise InputError(f"{self.labels.root}: has neither joints nor boxes of {name}")
            length = min(len(track) for track in (boxes, joints) if track is not None)
            if not length:
                raise InputError(f"{self.labels.root}: labels no frame of {name}")
            self._cache[name] = _track(boxes, (length, 4)), _track(joints, (length, len(JOINTS), 2))
        return self._cache[name]


def _track(values: np.ndarray | None, shape: tuple[int, ...]) -> Tensor:
    return torch.full(shape, torch.nan) if values is None else torch.from_numpy(values[: shape[0]].astype(np.float32))


class OfficialLabels:
    """The .mat files of the official release. A clip may lack its joints or its silhouettes."""

    def __init__(self, root: str | Path):
        self.root = Path(root)
        if not (self.root / "joint_positions").is_dir() and not (self.root / "puppet_mask").is_dir():
            raise InputError(f"{root}: holds neither boxes.npz nor the folders joint_positions and puppet_mask")

    def joints(self, name: str) -> np.ndarray | None:
        """[T, 15, 2] continuous pixels, or None."""
        path = self.root / "joint_positions" / name / "joint_positions.mat"
        return read_joint_positions(path) if path.exists() else None

    def boxes(self, name: str) -> np.ndarray | None:
        """[T, 4] continuous pixels, NaN in frames whose silhouette is empty, or None."""
        path = self.root / "puppet_mask" / name / "puppet_mask.mat"
        return read_puppet_boxes(path) if path.exists() else None


class CompactLabels:
    """The arrays joints.npz and boxes.npz. A clip may lack joints; joints not marked clean are not used."""

    def __init__(self, root: str | Path):
        self.root = Path(root)
        self._boxes = _read_npz(self.root / "boxes.npz", (4,))
        self._joints = _read_npz(self.root / "joints.npz", (len(JOINTS), 2))
        meta = read_json(self.root / "joints_meta.json")
        try:
            self._clean = {name for name, about in meta.items() if about["clean"]}
        except (AttributeError, KeyError, TypeError) as error:
            raise InputError(f"{self.root / 'joints_meta.json'}: each clip needs an object with 'clean'") from error

    def joints(self, name: str) -> np.ndarray | None:
        """[T, 15, 2] continuous pixels, or None."""
        return self._joints[name] - 0.5 if name in self._joints and name in self._clean else None

    def boxes(self, name: str) -> np.ndarray | None:
        """[T, 4] continuous pixels, or None."""
        return self._boxes[name] + np.array([0, 0, 1, 1]) if name in self._boxes else None


def read_split(folder: Path, split: int, part: str) -> list[str]:
    """The clips "<class>/<clip>" of one of the three official splits, class by class, in the order of the lists.

    InputError: there are no lists, or one is empty or malformed or names a clip twice or outside its class.
    """
    files = sorted(folder.glob(f"*_test_split{split}.txt"))
    if not files:
        raise InputError(f"{folder}: holds no lists *_test_split{split}.txt")
    wanted, names = {"train": "1", "test": "2"}[part], []
    for file in files:
        lines = _lines(file)
        if not lines:
            raise InputError(f"{file}: lists no clip; download it again, or delete it to leave its class out")
        action, listed = file.name.removesuffix(f"_test_split{split}.txt"), set()
        for line in lines:
            clip_file, _, group = line.rpartition(" ")
            name = clip_file.strip()
            if group not in ("0", "1", "2") or not name or "/" in name or "\\" in name or "\0" in name:
                raise InputError(f"{file}: {line!r} is not '<clip>.avi 1' (train) or '<clip>.avi 2' (test)")
            # Otherwise a clip could be trained and tested on.
            if (clip := name.removesuffix(".avi")) in listed:
                raise InputError(f"{file}: lists {clip} twice; leave one line out")
            listed.add(clip)
            if group == wanted:
                names.append(f"{action}/{clip}")
    return names


def _lines(file: Path) -> list[str]:
    """The lines of a text file that are not blank."""
    try:
        text = read_bytes(file).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not a text file ({error}); download it again") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def read_joint_positions(path: str | Path) -> np.ndarray:
    """The joints [T, 15, 2] of a joint_positions.mat, continuous pixels."""
    values = read_mat(path, "pos_img", 3)
    if values.ndim != 3 or values.shape[:2] != (2, len(JOINTS)):
        raise InputError(f"{path}: pos_img has shape {values.shape}, not (2, 15, frames)")
    return values.transpose(2, 1, 0) - 0.5


def read_puppet_boxes(path: str | Path) -> np.ndarray:
    """The extent [T, 4] of the silhouette in each frame of a puppet_mask.mat; NaN where the silhouette is empty."""
    mask = read_mat(path, "part_mask", 3)
    if mask.ndim != 3:
        raise InputError(f"{path}: part_mask has shape {mask.shape}, not (height, width, frames)")
    boxes = np.full((mask.shape[2], 4), np.nan)
    for box, frame in zip(boxes, mask.transpose(2, 0, 1), strict=True):
        rows, columns = np.flatnonzero(frame.any(1)), np.flatnonzero(frame.any(0))
        if len(rows):
            box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes


def _read_npz(path: Path, shape: tuple[int, ...]) -> Mapping[str, np.ndarray]:
    """Every array of the file, each [T, *shape]."""
    arrays = read_npz(path)
    for name, array in arrays.items():
        if array.shape[1:] != shape:
            raise InputError(f"{path}: {name!r} has shape {array.shape}, not (frames, {', '.join(map(str, shape))})")
        if array.dtype.kind not in "iuf":
            raise InputError(f"{path}: {name!r} holds {array.dtype} in place of numbers")
    return arrays
