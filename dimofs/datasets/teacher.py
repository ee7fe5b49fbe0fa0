"""Labels made by a teacher model: stored for a data set, and merged with the labels that the data set has."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dimofs.boxes import area, iou
from dimofs.cli import InputError
from dimofs.datasets.npz import read_npz
from dimofs.datasets.people import Pair, PairSource, People, inside, to_dimofs
from dimofs.detections import Detections
from dimofs.files import replacing
from dimofs.skeletons import COCO

# Box IoU from which a labelled person and one of the teacher's are the same person.
SAME_PERSON = 0.5
# Box IoU from which an unmatched person of the teacher's may still be a labelled one, and is not added.
TOUCHES = 0.3
# Minimum person score to add a person whom only the teacher sees, and to ignore the region of one.
SURE_PERSON, MAYBE_PERSON = 0.35, 0.12
# Minimum joint score to label a joint, and to overrule a noisy label.
SURE_JOINT, CONTRADICTS = 0.3, 0.5
# Distance at which two labels of a joint disagree, in units of the square root of the box's area.
FAR = 0.25


class Taught:
    """A source whose people are merged with the teacher's.

    labels:   frame name -> the teacher's people, as `load` returns them: joints in COCO's order, scores in 0..1.
    noisy:    the source's joints may be wrong: those that a sure teacher contradicts are not used.
    complete: the source labels every person: the teacher adds joints, but no people.
    file:     where the labels were read, for messages.
    """

    def __init__(
        self,
        source: PairSource,
        labels: Mapping[str, Detections],
        *,
        noisy: bool = False,
        complete: bool = False,
        file: str = "teacher labels",
    ):
        self.source, self.labels, self.noisy, self.complete, self.file = source, labels, noisy, complete, file

    def __len__(self) -> int:
        return len(self.source)

    def pair(self, index: int, random: np.random.Generator) -> Pair:
        """The source's pair, its people merged with the teacher's. InputError: the teacher did not label Frame A."""
        pair = self.source.pair(index, random)
        if pair.name not in self.labels:
            raise InputError(f"{self.file}: frame {pair.name} is missing; label the data set again")
        height, width = pair.frame_a.shape[1:]
        pair.people = merge(
            pair.people, self.labels[pair.name], height, width, noisy=self.noisy, complete=self.complete
        )
        return pair

    def frames(self) -> Iterator[tuple[str, Tensor]]:
        """The source's."""
        return self.source.frames()

    def tensors(self) -> dict[str, list[Tensor]]:
        """The teacher's labels of each frame, as the fields of its file."""
        return {name: [getattr(people, field) for field in _FIELDS] for name, people in self.labels.items()}


def merge(
    people: People, teacher: Detections, height: int, width: int, *, noisy: bool = False, complete: bool = False
) -> People:
    """The labelled people of a frame of `height` x `width` pixels, merged with those of a teacher.

    A labelled joint is kept, unless the data set is noisy and the teacher is sure that the joint is far away: then it
    loses its label. A joint without a label takes the teacher's, if the teacher is sure. Unless the labels are
    complete, people whom only the teacher sees are added if it is sure of them, and ignored if it is less sure.
    """
    keypoints, scores = to_dimofs(teacher.keypoints, teacher.keypoint_scores, COCO)
    sure = (scores > SURE_JOINT) & inside(keypoints, height, width)
    overlap = iou(people.boxes, teacher.boxes)
    mine, theirs = match(overlap, SAME_PERSON)
    merged = People(
        boxes=people.boxes, keypoints=people.keypoints.clone(), labelled=people.labelled.clone(), ignore=people.ignore
    )
    known = people.labelled[mine]
    add = ~known & sure[theirs]
    merged.keypoints[mine] = torch.where(add[..., None], keypoints[theirs], people.keypoints[mine])
    if noisy:
        distance = (keypoints[theirs] - people.keypoints[mine]).norm(dim=-1)
        known = known & ~((distance > FAR * area(people.boxes[mine]).sqrt()[:, None]) & (scores[theirs] > CONTRADICTS))
    merged.labelled[mine] = known | add
    if complete:
        return merged
    alone = torch.ones(len(teacher), dtype=torch.bool)
    alone[theirs] = False
    clear = torch.cat((overlap, overlap.new_zeros(1, len(teacher)))).amax(0) < TOUCHES
    added = alone & clear & (teacher.scores >= SURE_PERSON)
    unsure = alone & ~added & (teacher.scores >= MAYBE_PERSON)
    extra = People(
        boxes=teacher.boxes[added].float(),
        keypoints=keypoints[added],
        labelled=sure[added],
        ignore=teacher.boxes[unsure].float(),
    )
    return People.join((merged, extra))


def match(overlap: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Greedy one-to-one matching of rows and columns of an [N, M] overlap, the best first, down to `least`.

    Returns two lists of equal length: the matched rows and their columns.
    """
    left = overlap.clone()
    pairs = []
    for _ in range(min(overlap.shape)):
        row, column = divmod(int(left.argmax()), left.shape[1])
        if not left[row, column] >= least:
            break
        pairs.append((row, column))
        left[row], left[:, column] = -1, -1
    rows, columns = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).unbind(1)
    return rows, columns


# The fields of people in the file, and the shape of one person's.
_FIELDS = {"boxes": (4,), "scores": (), "keypoints": (len(COCO), 2), "keypoint_scores": (len(COCO),)}


def save(path: str | Path, labels: Mapping[str, Detections]) -> None:
    """Write one .npz: `names` [N] of the frames, `counts` [N] of their people, and the fields of all people in that
    order, float32."""
    detections = list(labels.values())
    arrays: dict[str, Any] = {}
    for field, shape in _FIELDS.items():
        values = [getattr(people, field).numpy() for people in detections]
        arrays[field] = np.concatenate([np.zeros((0, *shape)), *values], dtype=np.float32)
    arrays["names"] = np.array(list(labels), dtype=np.str_)
    arrays["counts"] = np.array([len(people) for people in detections], dtype=np.int64)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def load(path: str | Path) -> dict[str, Detections]:
    """What `save` wrote. InputError: the file is absent, or not such a file."""
    arrays = read_npz(path)
    if missing := [field for field in ("names", "counts", *_FIELDS) if field not in arrays]:
        raise InputError(f"{path}: not a file of teacher labels (it has no {missing[0]}); label the data set again")
    names, counts = arrays["names"], arrays["counts"]
    _check(path, "names", names, "U", (len(names) if names.ndim else 0,))
    _check(path, "counts", counts, "iu", names.shape)
    if (counts < 0).any() or len(set(names.tolist())) < len(names):
        raise InputError(f"{path}: a count is negative or a name is there twice; label the data set again")
    rows = []
    for field, shape in _FIELDS.items():
        _check(path, field, arrays[field], "f", (sum(counts.tolist()), *shape))
        if not np.isfinite(arrays[field]).all():
            raise InputError(f"{path}: {field} holds a value that is not a finite number; label the data set again")
        if "scores" in field and ((arrays[field] < 0) | (arrays[field] > 1)).any():
            raise InputError(f"{path}: {field} holds a value that is not from 0 to 1; label the data set again")
        rows.append(torch.from_numpy(arrays[field].astype(np.float32)).split(counts.tolist()))
    return {name: Detections(*people) for name, *people in zip(names.tolist(), *rows, strict=True)}


def _check(path: str | Path, field: str, array: np.ndarray, kinds: str, shape: tuple[int, ...]) -> None:
    """InputError unless the array has this shape and one of these kinds of dtype."""
    if array.dtype.kind not in kinds or array.shape != shape:
        found = f"shape {array.shape} and type {array.dtype}"
        raise InputError(f"{path}: {field} has {found} in place of shape {shape}; label the data set again")
