"""`eval.worst`: which people are drawn, and where."""

import math

import pytest
import torch

from dimofs.cli import InputError
from dimofs.datasets.people import People
from dimofs.detections import Detections
from dimofs.eval.worst import SIDE, Worst
from dimofs.images import read_image
from dimofs.skeletons import DIMOFS
from tests.support import scenes

NOBODY = Detections.empty(19)


def test_the_worst_come_first(tmp_path):
    """Mean errors of 0.4, 1 (nothing found), none (no label) and 0.2, each before a grey of its own; two are kept."""
    worst = Worst(2)
    for grey, error in ((0.2, 0.4), (0.4, math.inf), (0.6, math.nan), (0.8, 0.2)):
        person = scenes.person((20, 20, 40, 40), nose=(30.0, 30.0))
        errors = torch.full((1, 19), torch.nan)
        errors[0, 0] = error
        worst.add(torch.full((3, 60, 60), grey), person, NOBODY, DIMOFS, errors)
    assert [round(bad, 6) for bad, *_ in worst.tiles] == [0.4, 1.0]
    worst.write(tmp_path / "worst.png")
    image = read_image(tmp_path / "worst.png")
    assert image.shape == (SIDE, 3 * 2 * SIDE, 3)
    assert [int(image[5, 5 + 2 * i * SIDE, 0]) for i in range(3)] == [102, 51, 0], "grey of the worst, next, none"


def test_labels_left_and_findings_right(tmp_path):
    """A box of 20 pixels in a tile of 30; the left half shows the label's box, the right that of who is sure enough."""
    person = scenes.person((20, 20, 40, 40), nose=(30.0, 30.0))
    boxes, points = torch.tensor([[25.0, 20, 35, 40], [21, 21, 39, 39]]), torch.full((2, 19, 2), 30.0)
    found = Detections(boxes, torch.tensor([0.9, 0.3]), points, torch.full((2, 19), -torch.inf))
    worst = Worst()
    worst.add(torch.zeros(3, 60, 60), person, found, DIMOFS, torch.full((1, 19), 0.5))
    worst.write(tmp_path / "worst.png")
    lit = (read_image(tmp_path / "worst.png") > 0).max(axis=2)
    for start, x1, x2 in ((0, 5, 25), (SIDE, 10, 20)):
        columns = lit[:, start : start + SIDE].any(axis=0).nonzero()[0]
        assert columns.min() == pytest.approx(x1 * SIDE / 30, abs=2)
        assert columns.max() == pytest.approx(x2 * SIDE / 30, abs=2)


def test_nobody_to_draw(tmp_path):
    worst = Worst()
    worst.add(torch.zeros(3, 9, 9), People.empty(), NOBODY, DIMOFS, torch.zeros(0, 19))
    with pytest.raises(InputError, match=r"worst\.png: nobody with a labelled joint"):
        worst.write(tmp_path / "worst.png")
    assert not list(tmp_path.iterdir())
