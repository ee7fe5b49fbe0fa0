"""`Detections`: the people found in one frame. Models return it; tracking, drawing, writers and metrics read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Detections:
    """P people in one frame, best first.

    boxes:           [P, 4] float, x1 y1 x2 y2 in pixels of the original frame.
    scores:          [P] float, probability that the box holds a person.
    keypoints:       [P, J, 2] float, x y in pixels of the original frame; pixel centres lie at integer + 0.5.
    keypoint_scores: [P, J] float, the heatmap's peak logit.
    ids:             [P] int64 track ids, or None before tracking.
    """

    boxes: Tensor
    scores: Tensor
    keypoints: Tensor
    keypoint_scores: Tensor
    ids: Tensor | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Tensor | slice | int) -> Detections:
        """The people that `index` (a slice, a bool mask or int64 indices) selects; with a number the one person.

        IndexError: there is no such person.
        """
        if isinstance(index, int):
            # A slice keeps the first dimension, which a number would drop.
            index = range(len(self))[index]
            index = slice(index, index + 1)
        return self._map(lambda t: t[index])

    def to(self, *args, **kwargs) -> Detections:
        """`Tensor.to` on every floating-point field; ids keep their type and move to the device of the boxes."""
        moved = self._map(lambda t: t.to(*args, **kwargs) if t.is_floating_point() else t)
        if moved.ids is not None:
            moved.ids = moved.ids.to(moved.boxes.device)
        return moved

    @property
    def confidences(self) -> Tensor:
        """[P, J] keypoint scores as numbers from 0 to 1: the sigmoid of the logits."""
        return self.keypoint_scores.sigmoid()

    def _map(self, function) -> Detections:
        ids = None if self.ids is None else function(self.ids)
        boxes, scores = function(self.boxes), function(self.scores)
        return Detections(boxes, scores, function(self.keypoints), function(self.keypoint_scores), ids)

    @staticmethod
    def join(parts: Sequence[Detections]) -> Detections:
        """The people of all parts, in order. Parts without people are skipped.

        ValueError: some of the parts have ids and some have none.
        """
        parts = [part for part in parts if len(part)] or parts[:1]
        with_ids = [part.ids for part in parts if part.ids is not None]
        if len(with_ids) not in (0, len(parts)):
            raise ValueError("either all parts have ids or none")
        boxes, scores, keypoints, logits = (
            torch.cat([getattr(part, field) for part in parts])
            for field in ("boxes", "scores", "keypoints", "keypoint_scores")
        )
        return Detections(boxes, scores, keypoints, logits, torch.cat(with_ids) if with_ids else None)

    @staticmethod
    def empty(joints: int, device: torch.device | str = "cpu") -> Detections:
        """No people, each with `joints` joints."""
        shapes = ((0, 4), (0,), (0, joints, 2), (0, joints))
        return Detections(*(torch.zeros(shape, device=device) for shape in shapes))


# `torch.export` accepts models that return a dataclass only if the dataclass is registered.
torch.export.register_dataclass(Detections, serialized_type_name="dimofs.Detections")
