"""`ActionDetections`: the people found in one frame and what each of them does."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class ActionDetections:
    """P people in one frame.

    boxes:   [P, 4] float, x1 y1 x2 y2 in pixels of the original frame.
    scores:  [P] float, probability that the box holds a person.
    actions: [P, C] float, probability of each action given a person; a row may add up to less than 1, where the model
             takes the box for none of them.
    """

    boxes: Tensor
    scores: Tensor
    actions: Tensor

    def __len__(self) -> int:
        return len(self.boxes)

    def to(self, *args, **kwargs) -> ActionDetections:
        """`Tensor.to` on every field."""
        return ActionDetections(*(t.to(*args, **kwargs) for t in (self.boxes, self.scores, self.actions)))

    @property
    def joint_scores(self) -> Tensor:
        """[P, C] probability of a person who does each action: what detections are ranked by."""
        return self.scores[:, None] * self.actions
