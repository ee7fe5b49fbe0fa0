"""COCO's average precision of poses and boxes, computed by pycocotools from files that are checked first.

pycocotools takes annotation id 0 for "not matched", lets repeated ids replace each other, compares NaN as if it were a
number and scores whatever category it is given. So the ground truth is read here: people are found by the name of
their category, ids are numbered anew, and what cannot be scored is an InputError that names the file and the field.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dimofs import skeletons
from dimofs.cli import InputError
from dimofs.files import read_json
from dimofs.formats.annotations import read_annotations
from dimofs.formats.coco_categories import Category, choose, joint_name
from dimofs.formats.coco_results import PERSON
from dimofs.formats.records import MISSING, MOST_PIXELS, Records, as_list
from dimofs.skeletons import Skeleton

Kind = Literal["keypoints", "bbox"]

# Column names in the order of COCOeval.stats.
KEYPOINT_STATS = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
BOX_STATS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


@dataclass(frozen=True, kw_only=True)
class CocoTruth:
    """Checked ground truth.

    images: COCO's entries, each with `id` and `file_name`; people: the annotations of people, with `keypoints` that are
    zeros where the file has none; person: the ids that the file gives to their category; skeleton: its joints, with the
    sigmas of OKS; repeated: how many people have the id of another one.
    """

    file: str | Path
    images: list[dict]
    people: list[dict]
    person: frozenset[int]
    skeleton: Skeleton
    repeated: int


def read_truth(
    path: Path, images: Path | None = None, category: str | None = None, sigmas: Sequence[float] | None = None
) -> CocoTruth:
    """COCO keypoint ground truth from a file that `read_annotations` reads, with the folder of its images.

    InputError: as `parse_truth`, or the file cannot be read.
    """
    return parse_truth(path, read_annotations(path, images), category, sigmas)


def parse_truth(
    file: str | Path, content: Any, category: str | None = None, sigmas: Sequence[float] | None = None
) -> CocoTruth:
    """COCO keypoint ground truth from the JSON content of `file`.

    category: what is scored, see `coco_categories.choose`; it is called "people" here, whatever it is. sigmas: of the
    joints, in place of COCO's or the category's own.
    InputError: a field is missing or malformed, a person cannot be scored (no area, a box without area, a coordinate
    that is no number), an image id occurs twice, or no person is annotated.
    """
    if not isinstance(content, dict):
        raise InputError(f"{file}: not an object with images and annotations")
    images, annotations = (
        Records(file, as_list(file, content.get(name, MISSING), name), (name + "[{}]").format)
        for name in ("images", "annotations")
    )
    images.column("file_name", {str}, "a text")
    _check_distinct(images)
    kind = _category(file, content, category, sigmas)
    person = kind.ids
    chosen = [
        i for i, number in enumerate(annotations.column("category_id", {int}, "a whole number")) if number in person
    ]
    if not chosen:
        raise InputError(f"{file}: annotates no {kind.skeleton.name}; nothing can be scored")
    people = Records(file, [annotations.items[i] for i in chosen], lambda i: annotations.place(chosen[i]))
    _check_images(people, images)
    _check_people(people, len(kind.skeleton.joints))
    # As text, since an id may be of any type here: it only names its entry.
    ids = [str(entry["id"]) for entry in people.items if "id" in entry]
    repeated = len(ids) - len(set(ids))
    unlabelled = [0] * (3 * len(kind.skeleton.joints))
    return CocoTruth(
        file=file,
        images=images.items,
        people=[{**entry, "keypoints": entry.get("keypoints") or unlabelled} for entry in people.items],
        person=person,
        skeleton=kind.skeleton,
        repeated=repeated,
    )


def _category(file: str | Path, content: dict, wanted: str | None, sigmas: Sequence[float] | None) -> Category:
    """The category to score. InputError: its joints are COCO's in another order, or there is not a sigma for each."""
    kind = choose(file, content, wanted)
    if not kind.own and "categories" in content:
        categories = Records(file, as_list(file, content["categories"], "categories"), "categories[{}]".format)
        categories.column("id", {int}, "a whole number")
        if _misplaced(categories.lists("keypoints", [])[kind.place]):
            fault = f".keypoints are not in COCO's order: {', '.join(skeletons.COCO)}; reorder them"
            raise categories.error(kind.place, fault)
    if sigmas is None:
        return kind
    if len(sigmas) != len(kind.skeleton.joints):
        raise InputError(
            f"--sigmas: are {len(sigmas)} numbers for {len(kind.skeleton.joints)} joints; give one for each"
        )
    return replace(kind, skeleton=replace(kind.skeleton, sigmas=tuple(sigmas)))


def _misplaced(joints: list) -> bool:
    """A joint of COCO stands where COCO has another one; names that COCO does not know are no evidence."""
    names = [joint_name(joint) for joint in joints]
    return any(name in skeletons.COCO and skeletons.COCO.index(name) != i for i, name in enumerate(names))


def _check_distinct(images: Records) -> None:
    seen: set[int] = set()
    for i, number in enumerate(images.column("id", {int}, "a whole number")):
        if number in seen:
            raise images.error(i, f".id {number} is another image's too; number the images differently")
        seen.add(number)


def _check_images(records: Records, images: Records) -> None:
    known = set(images.column("id", {int}, "a whole number"))
    for i, image in enumerate(records.column("image_id", {int}, "a whole number")):
        if image not in known:
            raise records.error(i, ".image_id is the id of no image of the ground truth")


def _check_people(people: Records, joints: int) -> None:
    crowd = np.array(people.column("iscrowd", {int, bool}, "0 or 1", 0), bool)
    area = people.numbers("area")
    _check_all(people, (area >= 0) & (area <= MOST_PIXELS**2), ".area is not a finite number of square pixels")
    fault = ".area is 0, by which joint distances are divided; write the area of the person's mask, or width x height"
    _check_all(people, crowd | (area > 0), fault)
    box = people.pixels("bbox", 4)
    _check_all(people, crowd | np.all(box[:, 2:] > 0, axis=1), ".bbox has no width or height")
    people.pixels("keypoints", 3 * joints, 0.0)


def _check_all(records: Records, right: np.ndarray, fault: str) -> None:
    if not right.all():
        raise records.error(int(right.argmin()), fault)


def read_results(path: Path, truth: CocoTruth) -> list[dict]:
    """COCO results from a file. InputError: as `parse_results`, or the file cannot be read."""
    return parse_results(path, read_json(path), truth)


def parse_results(file: str | Path, content: Any, truth: CocoTruth) -> list[dict]:
    """Those entries of a COCO results list that are people.

    People are recognized by `category_id`. If all entries have keypoints and COCO's own category id of people, all are
    people, even if the ground truth numbers its categories differently.

    InputError names the first entry that lacks a field, cannot be scored or names no image; or no entry is a person.
    """
    entries = as_list(file, content, "the file")
    results = Records(file, entries, "[{}]".format)
    kinds = [field for field in ("bbox", "keypoints") if entries and field in entries[0]]
    if entries and not kinds:
        raise results.error(0, " has neither keypoints nor bbox")
    for field in kinds:
        values = results.pixels(field, 4 if field == "bbox" else 3 * len(truth.skeleton.joints))
        if field == "bbox":
            _check_all(results, np.all(values[:, 2:] >= 0, axis=1), ".bbox has a negative width or height")
    for field, default in (("score", None), ("box_score", 0.0)):
        _check_all(results, np.isfinite(results.numbers(field, default)), f".{field} is not a finite number")
    _check_images(results, Records(truth.file, truth.images, "images[{}]".format))
    categories = results.column("category_id", {int}, "a whole number")
    if set(categories) == {PERSON} and "keypoints" in kinds:
        return entries
    people = [entry for entry in entries if entry["category_id"] in truth.person]
    if entries and not people:
        wanted = " or ".join(map(str, sorted(truth.person)))
        name = truth.skeleton.name
        raise InputError(f"{file}: no entry has category_id {wanted}, which is the {name} in {truth.file}")
    return people


def check_installed() -> None:
    """InputError: pycocotools is missing. Commands ask before long work."""
    if find_spec("pycocotools") is None:
        raise InputError("pycocotools is not installed: pip install 'dimofs[eval]'")


def evaluate(truth: CocoTruth, results: list[dict]) -> dict[str, dict[str, float | None]]:
    """COCO's figures {"pose": .., "box": ..}, as fractions; None where nothing is labelled.

    Results without "keypoints" or without "bbox" leave out that row. InputError: pycocotools is missing.
    """
    kinds: dict[str, tuple[Kind, tuple[str, ...]]]
    kinds = {"pose": ("keypoints", KEYPOINT_STATS), "box": ("bbox", BOX_STATS)}
    return {
        name: _evaluate(truth, results, kind, stats)
        for name, (kind, stats) in kinds.items()
        if not results or kind in results[0]
    }


def _evaluate(truth: CocoTruth, results: list[dict], kind: Kind, names: tuple[str, ...]) -> dict[str, float | None]:
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise InputError("pycocotools is not installed: pip install 'dimofs[eval]'") from error
    # pycocotools goes through images by ascending id, so the new numbers keep that order.
    numbers = {image: n for n, image in enumerate(sorted(entry["id"] for entry in truth.images), 1)}

    def index(people: list[dict], fields: Callable[[dict], dict]) -> Any:
        annotations = [
            {"id": n, "image_id": numbers[person["image_id"]], "category_id": PERSON, **fields(person)}
            for n, person in enumerate(people, 1)
        ]
        data: Any = COCO()
        data.dataset = {
            "images": [{"id": n} for n in numbers.values()],
            "categories": [{"id": PERSON, "name": "person"}],
            "annotations": annotations,
        }
        data.createIndex()
        return data

    with contextlib.redirect_stdout(io.StringIO()):
        truths = index(truth.people, _label)
        judge = COCOeval(truths, index(results, lambda entry: _result(entry, kind)), kind)
        judge.params.kpt_oks_sigmas = np.array(truth.skeleton.sigmas)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return {name: None if value < 0 else float(value) for name, value in zip(names, judge.stats, strict=True)}


def _label(person: dict) -> dict:
    joints = person["keypoints"]
    return {
        "bbox": person["bbox"],
        "area": person["area"],
        "keypoints": joints,
        "num_keypoints": sum(flag > 0 for flag in joints[2::3]),
        "iscrowd": int(person.get("iscrowd", 0)),
    }


def _result(entry: dict, kind: Kind) -> dict:
    """The fields of an entry that pycocotools reads. Its area decides whether it counts as medium or large."""
    own = entry.get("box_score") if kind == "bbox" else None
    score = entry["score"] if own is None else own
    area = entry["bbox"][2] * entry["bbox"][3] if "bbox" in entry else _extent(entry["keypoints"])
    return {kind: entry[kind], "score": score, "area": area, "iscrowd": 0}


def _extent(joints: Sequence[float]) -> float:
    """Area of the joints' bounding box; a joint at (0, 0) is one that the model lacks."""
    points = np.reshape(joints, (-1, 3))[:, :2]
    points = points[(points != 0).any(axis=1)]
    return float(np.ptp(points, axis=0).prod()) if len(points) else 0.0
