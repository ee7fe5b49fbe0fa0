"""`Selection`: which of the people of a frame are kept, beside the threshold of scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from dimofs.boxes import area
from dimofs.cli import InputError, Range
from dimofs.detections import Detections


@dataclass(frozen=True, kw_only=True)
class Selection:
    """largest: keep at most so many people, those whose boxes are largest. region: keep people the middle of whose box
    lies in x1 y1 x2 y2, in pixels of the frame."""

    largest: Annotated[int | None, "keep the N largest people of each frame", Range(1)] = None
    region: Annotated[list[float] | None, "keep people whose boxes have their middle in X1 Y1 X2 Y2, pixels"] = None

    def check(self) -> None:
        """InputError: the region is not a box."""
        if self.region is not None and not (
            len(self.region) == 4 and self.region[0] < self.region[2] and self.region[1] < self.region[3]
        ):
            shown = " ".join(f"{value:g}" for value in self.region[:5])
            raise InputError(f"--region {shown}: must be four numbers, X1 Y1 X2 Y2, with X1 < X2 and Y1 < Y2")

    def __call__(self, people: Detections) -> Detections:
        """Those who are kept, in their order."""
        if self.region is not None:
            low, high = people.boxes.new_tensor(self.region).reshape(2, 2)
            middle = (people.boxes[:, :2] + people.boxes[:, 2:]) / 2
            people = people[((middle >= low) & (middle < high)).all(dim=1)]
        if self.largest is not None:
            best = area(people.boxes).argsort(descending=True, stable=True)[: self.largest]
            people = people[best.sort().values]
        return people


EVERYBODY = Selection()
