"""Joints made absent in a person's entry of a file, in each of the three formats."""

from __future__ import annotations

from collections.abc import Collection

from dimofs.formats.posetrack import NO_SCORE


def drop_below(format: str, person: dict, least: float) -> None:
    """Make joints with a score below `least` absent; joints without a score stay."""
    _BELOW[format](person, least)


def drop_named(format: str, person: dict, names: Collection[str], columns: list[str]) -> None:
    """Make the joints `names` absent. columns: the names of the file's joints, in its order."""
    numbers = [number for number, column in enumerate(columns) if column in names]
    _NAMED[format](person, numbers)


def _below17(person: dict, least: float) -> None:
    def low(point: dict) -> bool:
        return any(value is not None and NO_SCORE != value < least for value in point.get("score") or ())

    for holder in _holders(person):
        holder["point"] = [point for point in holder["point"] if not low(point)]


def _below18(person: dict, least: float) -> None:
    scores = person.get("scores") or ()
    _named18(person, [j for j, value in enumerate(scores) if value is not None and NO_SCORE != value < least])


def _below_lines(person: dict, least: float) -> None:
    _named_lines(person, [j for j, point in enumerate(person["keypoints"]) if point[2] < least])


def _named17(person: dict, numbers: list[int]) -> None:
    def named(point: dict) -> bool:
        joint = point["id"]
        return (joint[0] if isinstance(joint, list) else joint) in numbers

    for holder in _holders(person):
        holder["point"] = [point for point in holder["point"] if not named(point)]


def _holders(person: dict) -> list[dict]:
    return [holder for holder in person.get("annopoints") or () if holder and "point" in holder]


def _named18(person: dict, numbers: list[int]) -> None:
    for j in numbers:
        person["keypoints"][3 * j : 3 * j + 3] = [0, 0, 0]
        if person.get("scores"):
            person["scores"][j] = 0


def _named_lines(person: dict, numbers: list[int]) -> None:
    for j in numbers:
        person["keypoints"][j] = [0.0, 0.0, 0.0]


_BELOW = {"posetrack17": _below17, "posetrack18": _below18, "jsonl": _below_lines}
_NAMED = {"posetrack17": _named17, "posetrack18": _named18, "jsonl": _named_lines}
