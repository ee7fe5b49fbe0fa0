"""`eval.worst`: which people are drawn, and where."""

import math

import numpy as np
import pytest
import torch

from dimofs.datasets.people import People
from dimofs.detections import Detections
from dimofs.eval.keypoints.coco_ap import parse_truth
from dimofs.eval.worst import SIDE, Worst, worst_stills
from dimofs.formats.coco_images import CocoImages
from dimofs.images import read_image
from dimofs.skeletons import DIMOFS
from tests.support import scenes
from tests.support.clips import write_image

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


def test_nobody_to_draw(tmp_path, capsys):
    """Nobody, somebody without a labelled joint, and people whose boxes lie outside the frame."""
    worst = Worst()
    worst.add(torch.zeros(3, 9, 9), People.empty(), NOBODY, DIMOFS, torch.zeros(0, 19))
    worst.add(torch.zeros(3, 9, 9), scenes.person((2, 2, 7, 7)), NOBODY, DIMOFS, torch.full((1, 19), torch.nan))
    for box in ((9000, 9000, 9050, 9050), (-500, -500, -450, -450), (9, 0, 12, 9)):
        worst.add(torch.zeros(3, 9, 9), scenes.person(box, nose=(4.0, 4.0)), NOBODY, DIMOFS, torch.ones(1, 19))
    worst.write(tmp_path / "worst.png")
    assert "nobody in the frames has a labelled joint" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("box", "columns", "rows"),
    [
        # 1.5 times the frame's longer side: 90 pixels in a tile of 192, the frame in its middle.
        ((0, 0, 40_000, 40_000), (32, 160), (64, 128)),
        # The part in the frame is 10 pixels wide and high: the tile shows 15 from (48, 18), 12 of them in the frame.
        ((50, 20, 9000, 30), (0, 154), (0, 154)),
        # 2 pixels are the least; the last of a row, or the first, and one beyond it.
        ((59.99, 15, 60, 15.01), (0, 96), (0, 192)),
        ((0, 15, 0.01, 15.01), (96, 192), (0, 192)),
    ],
)
def test_a_box_that_leaves_the_frame(tmp_path, box, columns, rows):
    """A white frame of 60 x 30 pixels in black tiles."""
    worst = Worst()
    worst.add(torch.ones(3, 30, 60), scenes.person(box, nose=(30.0, 15.0)), NOBODY, DIMOFS, torch.ones(1, 19))
    worst.write(tmp_path / "worst.png")
    right = read_image(tmp_path / "worst.png")[:, SIDE : 2 * SIDE, 0]
    expected = np.zeros((SIDE, SIDE), np.uint8)
    expected[slice(*rows), slice(*columns)] = 255
    assert np.array_equal(right, expected)


def test_the_worst_of_stills(tmp_path):
    """Three grey stills with a person each: found exactly, 10 pixels off, and not at all."""
    people, images, results = [], [], []
    for number, shift in enumerate((0, 10, None)):
        write_image(tmp_path / f"{number}.png", np.full((60, 60, 3), 50 + 50 * number, np.uint8))
        images.append({"id": number, "file_name": f"{number}.png", "width": 60, "height": 60})
        joints = [30, 30, 2] * 17
        person = {"image_id": number, "category_id": 1, "bbox": [20, 20, 20, 20], "keypoints": joints}
        people.append({"id": number + 1, "area": 400, "iscrowd": 0, "num_keypoints": 17, **person})
        if shift is not None:
            results.append({**person, "score": 0.9, "keypoints": [30 + shift, 30, 1] * 17})
    truth = parse_truth("stills", {"images": images, "annotations": people})
    worst_stills(tmp_path / "worst.png", truth, results, CocoImages("stills", images, tmp_path), most=2)
    image = read_image(tmp_path / "worst.png")
    assert [int(image[5, 5 + 2 * i * SIDE, 0]) for i in range(3)] == [150, 100, 0], "not found, next, none"
    people[2]["bbox"] = [9000, 9000, 50, 50]
    truth = parse_truth("stills", {"images": images, "annotations": people})
    worst_stills(tmp_path / "worst.png", truth, results, CocoImages("stills", images, tmp_path), most=2)
    image = read_image(tmp_path / "worst.png")
    assert [int(image[5, 5 + 2 * i * SIDE, 0]) for i in range(3)] == [100, 50, 0], "who is outside makes room"
