"""Which prediction belongs to which frame of the ground truth: frames are told by the names or ids of their images.

PoseTrack's official tool pairs frames by their place in the files and never looks at names. Its definition keeps that
rule here too, but a difference is reported.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from pathlib import PurePath
from typing import Literal, Protocol

from dimofs.formats.posetrack import Video, select_frames

# same: names agree frame by frame. named: predictions were put in order by name. place: names differ, or their order
# does, and frames were paired by their place.
Pairing = Literal["same", "named", "place"]


def pair_frames(truth: Video, predicted: Video, *, by_name: bool) -> tuple[Video, Pairing]:
    """The predictions with one frame for each of the ground truth, if names or ids tell which; else unchanged.

    by_name: put frames in the order of the ground truth and drop those that it lacks; else they stay as they are.
    """
    for wanted, given in _keys(truth, predicted):
        if wanted == given:
            return predicted, "same"
        places = {key: place for place, key in enumerate(given)}
        if len(places) == len(given) and len(set(wanted)) == len(wanted) and places.keys() >= set(wanted):
            if not by_name:
                break
            return select_frames(predicted, [places[key] for key in wanted], predicted.name), "named"
    return predicted, "place"


def _keys(truth: Video, predicted: Video) -> list[tuple[list[Hashable], list[Hashable]]]:
    """What may tell frames apart, best first: file names without folder and extension, their numbers, image ids."""
    stems = [[PurePath(name.replace("\\", "/")).stem for name in video.frames] for video in (truth, predicted)]
    numbers = [[_number(stem) for stem in side] for side in stems]
    keys: list[tuple[list, list]] = [(stems[0], stems[1]), (numbers[0], numbers[1])]
    if truth.ids is not None and predicted.ids is not None:
        keys.append((truth.ids, predicted.ids))
    return keys


def _number(stem: str) -> Hashable:
    """The last number in a name, or the name itself."""
    found = re.findall("[0-9]+", stem)
    return int(found[-1][-18:]) if found else stem


class Paired(Protocol):
    """The result of a video."""

    name: str
    pairing: Pairing


def pairing_notes(videos: Sequence[Paired], *, official: bool) -> list[str]:
    """Lines that tell a reader in which videos names and order of frames differ, and how they were paired."""
    by_place, by_name = ([video.name for video in videos if video.pairing == kind] for kind in ("place", "named"))
    notes = []
    if by_place:
        rule = "as the official tool does (--corrected goes by name)" if official else "as no name tells more"
        fault = "frames have other names or another order than the ground truth's"
        notes.append(f"note: {listed(by_place)}: {fault}; they were paired by their place, {rule}")
    if by_name:
        notes.append(
            f"note: {listed(by_name)}: frames were paired with the ground truth's by the names of their images"
        )
    return notes


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
