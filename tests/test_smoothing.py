"""The One-Euro filter by hand and by what it is for; who is selected."""

import math

import pytest
import torch

from dimofs.detections import Detections
from dimofs.smoothing import BETA, OneEuro


def people(x: float, track: int = 0, size: float = 100.0) -> Detections:
    boxes = torch.tensor([[x, 0, x + size, size]])
    points = torch.tensor([[[x, 50.0], [float("nan"), 1.0]]])
    return Detections(boxes, torch.ones(1), points, torch.zeros(1, 2), torch.tensor([track]))


def share(cutoff: float, step: float) -> float:
    return 1 / (1 + 1 / (2 * math.pi * cutoff * step))


def test_one_step_by_hand():
    """A person of 100 pixels who moves 4 pixels in 1/25 s: the speed is 100 pixels, one size, a second."""
    smooth = OneEuro(cutoff=2.0)
    smooth(people(10), 0.0)
    found = smooth(people(14), 0.04)
    speed = share(1.0, 0.04) * 1.0
    expected = 10 + share(2 + BETA * speed, 0.04) * 4
    assert found.keypoints[0, 0].tolist() == pytest.approx([expected, 50])
    assert found.boxes[0].tolist() == pytest.approx([expected, 0, expected + 100, 100])
    assert found.keypoints[0, 1, 0].isnan() and found.keypoints[0, 1, 1] == 1


def test_stillness_is_steadied_and_motion_followed():
    """Trembling by 1 pixel of 100 is reduced; a walk of two sizes a second lags by less than 2 % of the size."""
    noise = torch.randn(100, generator=torch.Generator().manual_seed(0))
    still, walk = OneEuro(cutoff=1.0), OneEuro(cutoff=1.0)
    places = torch.tensor([still(people(noise[n].item()), n / 25).keypoints[0, 0, 0] for n in range(100)])
    assert places[20:].std() < 0.6 * noise[20:].std()
    lag = [8 * n - walk(people(8.0 * n), n / 25).keypoints[0, 0, 0].item() for n in range(50)]
    assert 0 <= lag[-1] < 2


def test_tracks_are_apart_and_gaps_start_anew():
    smooth = OneEuro(cutoff=0.1)
    smooth(people(0, track=1), 0.0)
    assert smooth(people(50, track=2), 0.04).keypoints[0, 0, 0] == 50
    assert smooth(people(30, track=1), 2.0).keypoints[0, 0, 0] == 30
    assert smooth(people(70, track=1), 2.0).keypoints[0, 0, 0] == 70, "time stands still"
    assert len(smooth(Detections.empty(2), 3.0)) == 0
    alone = people(5)
    alone.ids = None
    assert smooth(alone, 4.0) is alone
