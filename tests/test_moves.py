"""Moves of points between Frames A and B, from data sets to losses."""

import math

import numpy as np
import pytest
import torch

from dimofs.cli import InputError
from dimofs.datasets.augment.geometry import Augmentation, Jitter, augment, moves_by, warp, within
from dimofs.datasets.augment.mixture import Mixture
from dimofs.datasets.augment.paste import paste
from dimofs.datasets.people import Pair, People, moves_of
from dimofs.datasets.synthetic.clips import Synthetic
from dimofs.skeletons import DIMOFS
from dimofs.zoo.detection.coarse_to_fine import Alignment
from dimofs.zoo.training.constraints import Weights, constrained, constraint_losses, follow, separate

SHOULDER, ELBOW = DIMOFS.index("left_shoulder"), DIMOFS.index("left_elbow")


def test_joints_and_limbs_move():
    """A shoulder stays at (0, 0), an elbow goes from (4, 0) to (4, 8); a quarter down the arm (1, 0) to (1, 2)."""
    a, b = torch.zeros(1, 19, 2), torch.zeros(1, 19, 2)
    a[0, ELBOW], b[0, ELBOW] = torch.tensor([4.0, 0]), torch.tensor([4.0, 8])
    known = torch.zeros(1, 19, dtype=torch.bool)
    known[0, [SHOULDER, ELBOW]] = True
    found = {tuple(map(tuple, move)) for move in moves_of(a, b, known).tolist()}
    assert found == {((0, 0), (0, 0)), ((4, 0), (4, 8)), ((1, 0), (1, 2)), ((2, 0), (2, 4)), ((3, 0), (3, 6))}
    assert moves_of(a, b, torch.zeros(1, 19, dtype=torch.bool)).shape == (0, 2, 2)


def test_moves_of_a_still_are_those_of_its_pixels():
    """A white spot at the start of each move is found at its end."""
    random = np.random.default_rng(0)
    angle = math.radians(8)
    turn = torch.tensor(((math.cos(angle), -math.sin(angle), 5), (math.sin(angle), math.cos(angle), -3.0)))
    knots = torch.from_numpy(random.normal(0, 3, (2, 5, 5))).float()
    moves = within(moves_by(turn.double(), knots, (96, 128), random), (8, 8, 120, 88))
    assert len(moves) > 30
    rows, columns = torch.meshgrid(torch.arange(96) + 0.5, torch.arange(128) + 0.5, indexing="ij")
    places = torch.stack((columns, rows), dim=-1)
    for start, end in moves[:12]:
        spot = 255 * torch.exp(-(places - start).square().sum(-1) / 8)
        seen = warp(spot.expand(1, 3, 96, 128).to(torch.uint8), turn.double(), (96, 128), 0, knots)[0, 0]
        centre = (seen[..., None] * places).sum((0, 1)) / seen.sum()
        assert (centre - end).norm() < 0.6


def test_augmentation_carries_moves_along():
    """What moves from the centre of one box to that of another still does on the canvas."""
    frame = torch.zeros(2, 3, 100, 100, dtype=torch.uint8)
    frame[0, :, 28:32, 38:42] = 255
    frame[1, :, 58:62, 48:52] = 255
    moves = torch.tensor([[[40.0, 30.0], [50.0, 60.0]]])
    pair = Pair(frame_a=frame[0], frame_b=frame[1], people=People.empty(), delta=3, name="x", moves=moves)
    for seed in range(5):
        random = np.random.default_rng(seed)
        seen = augment(pair, (128, 128), random, Augmentation(person=(0.9, 0.9), colours=_plain()))
        if len(seen.moves):
            for picture, place in ((seen.frame_a, seen.moves[0, 0]), (seen.frame_b, seen.moves[0, 1])):
                bright = (picture[0] > 250).nonzero().float().mean(0).flip(0) + 0.5
                assert (bright - place).norm() < 3


def _plain():
    from dimofs.datasets.augment.colour import Colours

    return Colours(brightness=0, contrast=0, saturation=0, tint=0, grey=0, blur=0)


def test_mosaics_stills_and_clips_have_moves():
    mixture = Mixture([(Synthetic(20, people=(2, 4)), 1.0)], (96, 96), 6, mosaic=0.5)
    pairs = [mixture[i] for i in range(6)]
    assert sum(len(pair.moves) for pair in pairs) > 50
    assert all(((pair.moves >= 0) & (pair.moves < 96)).all() for pair in pairs)


def test_what_is_pasted_over_does_not_move():
    frame = torch.zeros(3, 40, 40, dtype=torch.uint8)
    moves = torch.tensor([[[5.0, 5], [6, 6]], [[5, 5], [25, 25]], [[29, 29], [5, 5]]])
    scene = Pair(frame_a=frame, frame_b=frame, people=People.empty(), delta=1, name="scene", moves=moves)
    front = torch.tensor([[[2.0, 3], [4, 5]], [[2, 3], [30, 5]]])
    other = Pair(frame_a=frame, frame_b=frame, people=People.empty(), delta=1, name="other", moves=front)
    found = paste(scene, other, (0, 0, 10, 10), 20, 20).moves
    assert found.tolist() == [[[5, 5], [6, 6]], [[22, 23], [24, 25]]]


def moved(dy: float, dx: float, confidence: float | None = None) -> Alignment:
    """Two pairs of 4 x 4 cells that all move by (dy, dx)."""
    field = torch.tensor([dy, dx], dtype=torch.float32)[None, :, None, None].repeat(2, 1, 4, 4).requires_grad_()
    logits = None if confidence is None else torch.full((2, 1, 4, 4), confidence)
    return Alignment([field], [], logits)


def test_following_counts_pixels():
    """The field moves by (1, 0) cells of 4 pixels; the point goes 4 pixels down and 3 to the right: 3 pixels off."""
    moves = [torch.tensor([[[8.0, 8], [11, 12]]]), torch.zeros(0, 2, 2)]
    nobody = torch.tensor([False, False])
    term = follow(moved(1, 0), moves, nobody)
    assert term.count == 1
    torch.testing.assert_close(term.mean(), torch.tensor(9.25).sqrt() / 10)
    assert follow(moved(1, 0), moves, torch.tensor([True, False])).count == 0


def test_scenes_apart():
    """Confidence 0 costs ln 2 everywhere; without one, the size (3, 4) of the second pair's displacements counts."""
    apart = torch.tensor([False, True])
    torch.testing.assert_close(separate(moved(0, 0, 0.0), apart).mean(), torch.tensor(2.0).log())
    torch.testing.assert_close(separate(moved(3, 4), apart).mean(), torch.tensor(25.0001).sqrt())
    assert separate(moved(3, 4), ~apart | apart).mean() > 4.9 and separate(moved(3, 4), apart & ~apart).mean() == 0


def test_each_weight_adds_its_loss():
    found, apart = moved(3, 4), torch.tensor([False, False])
    features = [torch.ones(2, 8, 4, 4)]
    aligned = [torch.zeros(2, 8, 4, 4, requires_grad=True)]
    weights = Weights(still=2, smooth=1, rebuild=0.5)
    losses = constraint_losses(found, features, aligned, [torch.zeros(0, 2, 2)] * 2, apart, weights)
    assert {name: round(term.mean().item(), 3) for name, term in losses.items()} == {
        "still": 10.0, "smooth": 0.0, "rebuild": 0.5
    }  # fmt: skip
    assert list(losses) == weights.names() and not Weights().names()


def test_constraints_on_the_command_line():
    assert constrained(["follow=1", "still=.5"]) == Weights(follow=1, still=0.5)
    assert constrained(None) is None
    for text in ("follow", "flow=1", "follow=-1", "follow=nan"):
        with pytest.raises(InputError, match=f"--constrain {text}: expected NAME=WEIGHT of follow, still"):
            constrained([text])


def test_jitter_moves_stills():
    """A still under a random motion gets moves; their number is that of points that stay on the canvas."""
    frame = torch.randint(0, 255, (3, 80, 80), dtype=torch.uint8)
    pair = Pair(frame_a=frame, frame_b=frame, people=People.empty(), delta=0, name="still")
    how = Augmentation(motion=Jitter(share=1.0))
    seen = augment(pair, (64, 64), np.random.default_rng(1), how)
    assert 20 < len(seen.moves) <= 64 and (seen.moves[:, 1] - seen.moves[:, 0]).norm(dim=1).max() > 1
