"""`Result`: the people of one image or frame, as arrays, a dictionary, a table or a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from dimofs.detections import Detections
from dimofs.drawing import Style
from dimofs.formats.writers import frame_content
from dimofs.overlay import drawn
from dimofs.picture import Picture
from dimofs.video import Frame

if TYPE_CHECKING:
    import pandas as pd  # pyright: ignore[reportMissingImports]
    import supervision as sv  # pyright: ignore[reportMissingImports]

NO_ID = -1


class Joints(dict[str, np.ndarray]):
    """By the name of a joint, [P, 3]: x, y and confidence of each person. KeyError, which lists them: another name."""

    def __missing__(self, name: str) -> np.ndarray:
        raise KeyError(f"{name}: the joints are {', '.join(self)}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """P people of one frame, best first, in pixels of the upright frame (pixel centres at integer + 0.5).

    frame:          the frame, with its pixels, its number, its time in seconds and its file, if it is one.
    people:         boxes, scores, joints and, from `Model.track`, ids, as tensors.
    keypoint_names: the J joints of the model.
    limbs:          pairs of joints that `plot` connects.
    """

    frame: Frame
    people: Detections
    keypoint_names: Sequence[str]
    limbs: Sequence[tuple[int, int]]

    def __len__(self) -> int:
        return len(self.people)

    def __getitem__(self, person: int | slice) -> Result:
        """The same with one person, or some."""
        return replace(self, people=self.people[person])

    def __iter__(self) -> Iterator[Result]:
        return (self[person] for person in range(len(self)))

    def __repr__(self) -> str:
        name = f" of {self.frame.file.name}" if self.frame.file else ""
        height, width = self.frame.size
        return f"<Result{name}: frame {self.frame.index}, {width} x {height} pixels, {len(self)} people>"

    @property
    def image(self) -> np.ndarray:
        """[H, W, 3] uint8 RGB."""
        return self.frame.pixels

    @property
    def time(self) -> float:
        """Seconds since the first frame."""
        return self.frame.time

    @property
    def boxes(self) -> np.ndarray:
        """[P, 4] x1 y1 x2 y2."""
        return self.people.boxes.numpy()

    @property
    def scores(self) -> np.ndarray:
        """[P] the chance that each is a person."""
        return self.people.scores.numpy()

    @property
    def ids(self) -> np.ndarray:
        """[P] int64, the number of each person's track; -1 where people were not tracked."""
        ids = self.people.ids
        return np.full(len(self), NO_ID) if ids is None else ids.numpy()

    @property
    def keypoints(self) -> np.ndarray:
        """[P, J, 3] x, y and confidence."""
        return np.concatenate((self.people.keypoints.numpy(), self.people.confidences.numpy()[..., None]), axis=2)

    @property
    def joints(self) -> Joints:
        """The same by the names of joints: `result.joints["left_wrist"]` is [P, 3]."""
        return Joints(zip(self.keypoint_names, self.keypoints.swapaxes(0, 1), strict=True))

    def to_dict(self) -> dict:
        """What a line of `x.poses.jsonl` says about a frame, and its size: numbers, texts and lists only."""
        height, width = self.frame.size
        content = frame_content(self.frame, self.people)
        people = content.pop("people")
        return {**content, "width": width, "height": height, "people": people}

    def to_dataframe(self) -> pd.DataFrame:
        """A pandas table with a row for each person and joint: frame, time, id, score, joint, x, y, confidence.

        ImportError: pandas is not installed.
        """
        import pandas as pd  # pyright: ignore[reportMissingImports]

        each = len(self.keypoint_names)
        points = self.keypoints.reshape(-1, 3)
        columns = {
            "frame": np.full(len(points), self.frame.index),
            "time": np.full(len(points), self.time),
            "id": self.ids.repeat(each),
            "score": self.scores.repeat(each),
            "joint": list(self.keypoint_names) * len(self),
            **dict(zip(("x", "y", "confidence"), points.T, strict=True)),
        }
        return pd.DataFrame(columns)

    def to_supervision(self) -> sv.Detections:
        """The boxes as Roboflow's `supervision.Detections`, with scores, ids and the class name "person".

        ImportError: supervision is not installed.
        """
        import supervision as sv  # pyright: ignore[reportMissingImports]

        return sv.Detections(
            xyxy=self.boxes,
            confidence=self.scores,
            class_id=np.zeros(len(self), dtype=int),
            tracker_id=None if self.people.ids is None else self.ids,
            data={"class_name": np.array(["person"] * len(self), dtype=str)},
        )

    def to_supervision_keypoints(self) -> sv.KeyPoints:
        """The joints as `supervision.KeyPoints` (version 0.29 or later). ImportError: supervision is not installed."""
        import supervision as sv  # pyright: ignore[reportMissingImports]

        return sv.KeyPoints(
            xy=self.people.keypoints.numpy(),
            class_id=np.zeros(len(self), dtype=int),
            keypoint_confidence=self.people.confidences.numpy(),
        )

    def plot(self, style: Style | None = None) -> Picture:
        """The frame with its people drawn in."""
        return Picture(drawn(self.frame, self.people, self.limbs, self.keypoint_names, style or Style()))
