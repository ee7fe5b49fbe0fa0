"""Kinds of localization errors of poses, and what each costs in COCO's keypoint AP.

The kinds are those of Ronchi and Perona, "Benchmarking and Error Diagnosis in Multi-Instance Pose Estimation" (ICCV
2017). The results of an image, best first and at most 20, each take the labelled person of the highest object keypoint
similarity (OKS) that is still free, if it is at least 0.1. Each labelled joint of these people is then one of

    good       its similarity exp(-d^2 / (2 s^2 k^2)) to the found joint is at least 0.85,
    jitter     at least 0.5,
    inversion  below; the found joint has at least 0.5 with the joint of the person's other side,
    swap       below; it has at least 0.5 with this joint, or that of the other side, of somebody else,
    miss       below; it is near none of these.

Where both inversion and swap apply, the nearer joint decides. s^2 is the person's area
and k is 2 sigma of the joint, as in the AP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from dimofs import skeletons
from dimofs.eval.keypoints.coco_ap import CocoTruth, evaluate

KINDS = ("good", "jitter", "inversion", "swap", "miss")
GOOD, NEAR = 0.85, 0.5
# A result and a person of a lower OKS have nothing to do with each other.
LEAST_OKS = 0.1
# Results of an image that count, best first.
MOST_PER_IMAGE = 20
# COCO's people: medium ones have an area of 32^2 to 96^2 square pixels.
SIZES = {"medium": (32.0**2, 96.0**2), "large": (96.0**2, np.inf)}
_SIGMAS = skeletons.oks_sigmas(skeletons.COCO)
_MIRROR = np.array(skeletons.mirror(skeletons.COCO))


@dataclass(frozen=True, kw_only=True)
class Match:
    """A result, by its place in the list, and the labelled person it found, by the place in `CocoTruth.people`.

    oks: their similarity. kinds: [17] the index in KINDS of each joint, -1 where it has no label.
    """

    result: int
    person: int
    oks: float
    kinds: np.ndarray


def similarity(found: np.ndarray, joints: np.ndarray, area: float, sigmas: Sequence[float] = _SIGMAS) -> np.ndarray:
    """[17] similarity of found joints [17, 2] to a person's [17, 3] of `area`; 0 where there is no label."""
    squared = np.square(found - joints[:, :2]).sum(axis=1)
    variance = (2 * np.array(sigmas)) ** 2
    return np.where(joints[:, 2] > 0, np.exp(-squared / (2 * area * variance)), 0.0)


def kinds(
    found: np.ndarray,
    own: np.ndarray,
    area: float,
    others: Sequence[tuple[np.ndarray, float]] = (),
    sigmas: Sequence[float] = _SIGMAS,
) -> np.ndarray:
    """[17] index in KINDS of each joint of a person, -1 where it has no label.

    found: [17, 2] pixels. own: [17, 3] the person's labels. others: labels and area of the image's other people.
    sigmas: of the joints' similarity.
    """
    right = similarity(found, own, area, sigmas)
    # Joints without another side, such as the nose, cannot be inverted.
    sided = np.arange(len(_MIRROR)) != _MIRROR
    inverted = np.where(sided, similarity(found, own[_MIRROR], area, sigmas), 0.0)
    elsewhere = np.zeros_like(right)
    for joints, size in others:
        for theirs in (joints, joints[_MIRROR]):
            elsewhere = np.maximum(elsewhere, similarity(found, theirs, size, sigmas))
    cases = [
        own[:, 2] <= 0,
        right >= GOOD,
        right >= NEAR,
        (inverted >= NEAR) & (inverted >= elsewhere),
        elsewhere >= NEAR,
    ]
    return np.select(cases, [-1, 0, 1, 2, 3], 4)


def match_people(truth: CocoTruth, results: Sequence[dict]) -> list[Match]:
    """The results that found somebody with labelled joints, and how they err. Crowds count as nobody."""
    labels = [np.reshape(p["keypoints"], (-1, 3)).astype(float) for p in truth.people]
    posed = [n for n, p in enumerate(truth.people) if not p.get("iscrowd") and (labels[n][:, 2] > 0).any()]
    people = _by_image(truth.people, posed)
    ranked = sorted(range(len(results)), key=lambda n: -results[n]["score"])
    matches, sigmas = [], truth.skeleton.sigmas
    for image, entries in _by_image(results, ranked).items():
        free, here = list(people.get(image, [])), people.get(image, [])
        for entry in entries[:MOST_PER_IMAGE]:
            found = np.reshape(results[entry]["keypoints"], (-1, 3))[:, :2]
            oks = [_oks(found, labels[n], truth.people[n]["area"], sigmas) for n in free]
            if not oks or max(oks) < LEAST_OKS:
                continue
            person = free.pop(int(np.argmax(oks)))
            others = [(labels[n], truth.people[n]["area"]) for n in here if n != person]
            errors = kinds(found, labels[person], truth.people[person]["area"], others, sigmas)
            matches.append(Match(result=entry, person=person, oks=max(oks), kinds=errors))
    return matches


def diagnose(truth: CocoTruth, results: list[dict]) -> dict[str, dict[str, float | None]]:
    """For each kind: its share of the labelled joints of the people found ("all", "medium", "large", None if there are
    none) and "AP", the keypoint AP if all of this kind were mended: if those joints lay at their labels.

    Three more rows have an AP only: "scores", if results were ranked by their OKS; "false", without the results that
    find nobody; "unfound", with the people added whom no result finds.
    """
    matches = match_people(truth, results)
    errors = np.stack([match.kinds for match in matches]) if matches else np.zeros((0, 17), int)
    area = np.array([truth.people[match.person]["area"] for match in matches])
    groups = {"all": area > 0} | {name: (area >= low) & (area < high) for name, (low, high) in SIZES.items()}
    table: dict[str, dict[str, float | None]] = {}
    for number, kind in enumerate(KINDS):
        shares = {name: _share(errors[group], number) for name, group in groups.items()}
        mended = results if kind == "good" else _mended(truth, results, matches, number)
        table[kind] = {**shares, "AP": evaluate(truth, mended)["pose"]["AP"]}
    for kind, mend in {"scores": _ranked, "false": _without_false, "unfound": _with_unfound}.items():
        table[kind] = {"AP": evaluate(truth, mend(truth, results, matches))["pose"]["AP"]}
    return table


def error_lines(table: dict[str, dict[str, float | None]]) -> Iterator[str]:
    """The lines of what `diagnose` returns: shares in percent, and the AP with one kind mended."""
    yield f"{'error':>10}" + "".join(f"{name:>9}" for name in ("all", *SIZES)) + f"{'AP mended':>11}"
    for kind, row in table.items():
        shares = [row.get(name) for name in ("all", *SIZES)]
        texts = ["-" if share is None else f"{100 * share:.1f} %" for share in shares]
        ap = row["AP"]
        yield f"{kind:>10}" + "".join(f"{text:>9}" for text in texts) + f"{'-' if ap is None else f'{ap:.3f}':>11}"


Mend = Callable[[CocoTruth, list[dict], list[Match]], list[dict]]


def _mended(truth: CocoTruth, results: list[dict], matches: list[Match], kind: int) -> list[dict]:
    """The results with the joints of this kind at their labels."""
    mended = list(results)
    for match in matches:
        joints = np.reshape(results[match.result]["keypoints"], (-1, 3)).astype(float)
        labels = np.reshape(truth.people[match.person]["keypoints"], (-1, 3))
        wrong = match.kinds == kind
        joints[wrong, :2] = labels[wrong, :2]
        mended[match.result] = results[match.result] | {"keypoints": joints.ravel().tolist()}
    return mended


def _ranked(truth: CocoTruth, results: list[dict], matches: list[Match]) -> list[dict]:
    oks = {match.result: match.oks for match in matches}
    return [entry | {"score": oks.get(n, 0.0)} for n, entry in enumerate(results)]


def _without_false(truth: CocoTruth, results: list[dict], matches: list[Match]) -> list[dict]:
    right = {match.result for match in matches}
    return [entry for n, entry in enumerate(results) if n in right]


def _with_unfound(truth: CocoTruth, results: list[dict], matches: list[Match]) -> list[dict]:
    found = {match.person for match in matches}
    first = max((entry["score"] for entry in results), default=0.0) + 1
    added = [
        {"image_id": p["image_id"], "category_id": p["category_id"], "score": first}
        | {field: p[field] for field in ("bbox", "keypoints")}
        for n, p in enumerate(truth.people)
        if n not in found and not p.get("iscrowd") and any(flag > 0 for flag in p["keypoints"][2::3])
    ]
    return [*results, *added]


def _by_image(entries: Sequence[dict], numbers: Sequence[int]) -> dict[int, list[int]]:
    """The given numbers of entries by the image they belong to, in order."""
    groups: dict[int, list[int]] = {}
    for number in numbers:
        groups.setdefault(entries[number]["image_id"], []).append(number)
    return groups


def _oks(found: np.ndarray, joints: np.ndarray, area: float, sigmas: Sequence[float]) -> float:
    return float(similarity(found, joints, area, sigmas).sum() / (joints[:, 2] > 0).sum())


def _share(errors: np.ndarray, kind: int) -> float | None:
    labelled = errors[errors >= 0]
    return float((labelled == kind).mean()) if len(labelled) else None
