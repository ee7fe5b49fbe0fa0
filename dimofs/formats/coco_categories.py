"""Which category of a COCO file is meant, and the skeleton that it names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dimofs.cli import InputError
from dimofs.formats.coco_results import PERSON
from dimofs.formats.records import Records, as_list
from dimofs.skeletons import COCO_PERSON, OKS_SIGMAS, Skeleton

MOST_JOINTS = 1000


@dataclass(frozen=True, kw_only=True)
class Category:
    """A category of a COCO file.

    ids: the numbers of all entries that have its name. place: of the first of them in the file. own: whether it is
    something else than people, so that its joints are its own.
    """

    ids: frozenset
    place: int
    skeleton: Skeleton
    own: bool


def choose(file: str | Path, content: dict[str, Any], wanted: str | None = None) -> Category:
    """The category called `wanted`; by default "person" or, in a file without people, the only one with keypoints.

    Its `keypoints` name the joints, `skeleton` pairs them, counted from 1, and `sigmas`, which few files have, are the
    joints' OKS sigmas, by default those of shoulders. Without a list of categories it is COCO's person.
    InputError: there is no such category, its joints have no or equal names, or a field is malformed.
    """
    if "categories" not in content and wanted in (None, COCO_PERSON.name):
        return Category(ids=frozenset({PERSON}), place=0, skeleton=COCO_PERSON, own=False)
    categories = Records(file, as_list(file, content.get("categories"), "categories"), "categories[{}]".format)
    names = [name.strip().lower() for name in categories.column("name", {str}, "a text")]
    joints = categories.lists("keypoints", [])
    if wanted is None:
        wanted = COCO_PERSON.name if COCO_PERSON.name in names else _only(file, names, joints)
    chosen = [number for number, name in enumerate(names) if name == wanted.strip().lower()]
    if not chosen:
        raise InputError(f"{file}: has no category {wanted[:60]!r}; it has {', '.join(sorted(set(names)))[:200]}")
    ids = categories.column("id", {int, float, str}, "a number")
    own = names[chosen[0]] != COCO_PERSON.name
    skeleton = _skeleton(categories, chosen[0], names[chosen[0]]) if own else COCO_PERSON
    return Category(ids=frozenset(ids[number] for number in chosen), place=chosen[0], skeleton=skeleton, own=own)


def _only(file: str | Path, names: list[str], joints: list[list]) -> str:
    with_joints = sorted({name for name, own in zip(names, joints, strict=True) if own})
    if len(with_joints) != 1:
        found = f"several with keypoints, {', '.join(with_joints)[:200]}" if with_joints else "none with keypoints"
        raise InputError(f"{file}: categories has no 'person' and {found}; name one by --category")
    return with_joints[0]


def _skeleton(categories: Records, place: int, name: str) -> Skeleton:
    joints = [joint_name(joint) for joint in categories.lists("keypoints", [])[place]]
    if not 0 < len(joints) <= MOST_JOINTS or len(set(joints)) < len(joints) or "" in joints:
        raise categories.error(place, ".keypoints is not a list of different names of joints")
    sigmas = categories.items[place].get("sigmas") or [OKS_SIGMAS["shoulder"]] * len(joints)
    if type(sigmas) is not list or len(sigmas) != len(joints) or not all(_is_sigma(sigma) for sigma in sigmas):
        raise categories.error(place, f".sigmas is not a list of {len(joints)} numbers above 0")
    limbs = []
    for pair in categories.lists("skeleton", [])[place]:
        if type(pair) is not list or len(pair) != 2 or not all(_is_place(end, len(joints)) for end in pair):
            raise categories.error(place, f".skeleton holds {str(pair)[:40]}, not a pair of numbers 1 to {len(joints)}")
        limbs.append((joints[pair[0] - 1], joints[pair[1] - 1]))
    return Skeleton(name=name, joints=tuple(joints), limbs=tuple(limbs), sigmas=tuple(map(float, sigmas)))


def _is_sigma(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < 1e6


def _is_place(value: Any, joints: int) -> bool:
    return type(value) is int and 1 <= value <= joints


def joint_name(value: Any) -> str:
    """A joint's name as skeletons here spell it: left_eye for "Left Eye" and "left-eye"."""
    return str(value).strip().lower().replace(" ", "_").replace("-", "_")
