"""The digits that results are written with: enough for any use, and the same in every format."""

import numpy as np
from torch import Tensor

from dimofs.detections import Detections

PIXEL_DIGITS, SCORE_DIGITS = 2, 6


def rounded_pixels(values: Tensor) -> list:
    """Coordinates as nested lists."""
    return values.double().numpy().round(PIXEL_DIGITS).tolist()


def rounded_scores(values: Tensor) -> list:
    """Scores or confidences as nested lists."""
    return values.double().numpy().round(SCORE_DIGITS).tolist()


def rounded_joints(people: Detections) -> np.ndarray:
    """[P, J, 3] x, y and confidence."""
    points = people.keypoints.double().numpy().round(PIXEL_DIGITS)
    confidences = people.confidences.double().numpy().round(SCORE_DIGITS)
    return np.concatenate((points, confidences[..., None]), axis=-1)
