"""Labels of a teacher model: stored for a data set, and merged with the labels that the data set has."""

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dimofs.boxes import area, iou
from dimofs.cli import InputError
from dimofs.datasets.people import Pair, PairSource, People, inside, to_dimofs
from dimofs.detections import Detections
from dimofs.files import replacing
from dimofs.skeletons import COCO

SAME_PERSON = 0.5  # box IoU from which a labelled person and a teacher's are the same
TOUCHES = 0.3  # box IoU from which an unmatched teacher's person may still be a labelled one
SURE_PERSON, MAYBE_PERSON = 0.35, 0.12  # person score of an extra person; of a region to ignore
SURE_JOINT, CONTRADICTS = 0.3, 0.5  # joint score that labels a joint; that can overrule a noisy label
FAR = 0.25  # distance, in units of the square root of the box's area, at which two labels disagree


class Taught:
    """A source whose people are merged with the teacher's.

    labels:   frame name -> the teacher's people, joints in COCO's order, all scores probabilities; from `load`.
    noisy:    the source's joints may be wrong, and a sure teacher masks those it contradicts.
    complete: the source labels every person, so the teacher adds joints alone.
    """

    def __init__(
        self, source: PairSource, labels: Mapping[str, Detections], *, noisy: bool = False, complete: bool = False
    ):
        self.source, self.labels, self.noisy, self.complete = source, labels, noisy, complete

    def __len__(self) -> int:
        return len(self.source)

    def pair(self, index: int, random: np.random.Generator) -> Pair:
        """The source's pair, its people merged. InputError: the teacher has not seen Frame A."""
        pair = self.source.pair(index, random)
        if pair.name not in self.labels:
            raise InputError(f"teacher labels: frame {pair.name} is missing; label the data set again")
        height, width = pair.frame_a.shape[1:]
        pair.people = merge(
            pair.people, self.labels[pair.name], height, width, noisy=self.noisy, complete=self.complete
        )
        return pair

    def frames(self) -> Iterator[tuple[str, Tensor]]:
        """The source's."""
        return self.source.frames()


def merge(
    people: People, teacher: Detections, height: int, width: int, *, noisy: bool = False, complete: bool = False
) -> People:
    """The labelled people of a frame of `height` x `width` pixels with a teacher's knowledge added.

    A labelled joint wins over the teacher's; if the data set is noisy and the teacher is sure and far off, the joint
    does not train. A joint without label takes a sure teacher's. Unless the labels are complete, people that the
    teacher alone sees are added if it is sure of them and ignored if it is not.
    """
    keypoints, scores = to_dimofs(teacher.keypoints, teacher.keypoint_scores, COCO)
    sure = (scores > SURE_JOINT) & inside(keypoints, height, width)
    overlap = iou(people.boxes, teacher.boxes)
    mine, theirs = match(overlap, SAME_PERSON)
    merged = People(people.boxes, people.keypoints.clone(), people.labelled.clone(), people.ignore)
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
    extra = People(teacher.boxes[added].float(), keypoints[added], sure[added], teacher.boxes[unsure].float())
    return People.join((merged, extra))


def match(overlap: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Pairs (row, column) of [N, M], best first, each row and column at most once, of overlap at least `least`."""
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


_FIELDS = {"boxes": (4,), "scores": (), "keypoints": (len(COCO), 2), "keypoint_scores": (len(COCO),)}


def save(path: str | Path, labels: Mapping[str, Detections]) -> None:
    """One .npz: `names` [N], `counts` [N] people a frame, and the fields of all people in that order, float32."""
    detections = list(labels.values())
    arrays: dict[str, Any] = {
        field: np.concatenate(
            [np.zeros((0, *shape)), *(getattr(d, field).numpy() for d in detections)], dtype=np.float32
        )
        for field, shape in _FIELDS.items()
    }
    arrays["names"] = np.array(list(labels), dtype=np.str_)
    arrays["counts"] = np.array([len(d) for d in detections], dtype=np.int64)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def load(path: str | Path) -> dict[str, Detections]:
    """What `save` wrote. InputError: the file is absent or not such a file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            names, counts = file["names"].tolist(), file["counts"].tolist()
            rows = {field: torch.from_numpy(file[field]) for field in _FIELDS}
    except (OSError, ValueError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a file of teacher labels ({error}); label the data set again") from error
    for field, shape in _FIELDS.items():
        if rows[field].shape != (sum(counts), *shape) or len(names) != len(counts):
            raise InputError(f"{path}: {field} has shape {tuple(rows[field].shape)}; label the data set again")
    pieces = zip(*(rows[field].split(counts) for field in _FIELDS), strict=True)
    return {name: Detections(*piece) for name, piece in zip(names, pieces, strict=True)}
