"""Training pairs: geometry, augmentation, mixing. Coordinates: pixel i covers [i, i + 1)."""

import math

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

from dimofs.datasets.augment.colour import Colours
from dimofs.datasets.augment.geometry import Augmentation, Jitter, augment, compose, rotation, transform, warp
from dimofs.datasets.augment.mixture import Mixture, collate
from dimofs.datasets.augment.paste import paste
from dimofs.datasets.people import Pair, People
from dimofs.skeletons import DIMOFS
from tests.support.scenes import Dots, Nobody, blob, joint, person

SIZE = (40, 60)
STILL_COLOURS = Colours(brightness=0, contrast=0, saturation=0, tint=0, grey=0, blur=0)
PLAIN = Augmentation(colours=STILL_COLOURS)


pytestmark = pytest.mark.usefixtures("one_thread")


def matrix(linear, shift) -> torch.Tensor:
    linear = torch.as_tensor(linear, dtype=torch.float64)
    return torch.cat((linear, torch.tensor(shift, dtype=torch.float64)[:, None]), 1)


def centroid(frame: torch.Tensor) -> torch.Tensor:
    ys, xs = torch.arange(frame.shape[1]) + 0.5, torch.arange(frame.shape[2]) + 0.5
    red = frame[0]
    return torch.stack(((red.sum(0) * xs).sum(), (red.sum(1) * ys).sum())) / red.sum()


# --- geometry ---


def test_mirror_by_hand():
    """x' = 60 - x: pixel 2 becomes pixel 57, the left wrist the right one, and two mirrors change nothing."""
    image = torch.zeros(1, 3, *SIZE, dtype=torch.uint8)
    image[..., 3, 2] = 200
    mirrored = warp(image, matrix([[-1, 0], [0, 1]], (60, 0)), SIZE, 0.0)
    assert mirrored[0, 0].round().nonzero().tolist() == [[3, 57]]
    before = person((1, 2, 14, 16), left_wrist=(2.5, 3.5), nose=(4.0, 4.0))
    after = transform(before, matrix([[-1, 0], [0, 1]], (60, 0)), SIZE)
    assert after.boxes.tolist() == [[46, 2, 59, 16]]
    assert after.labelled[0].nonzero()[:, 0].tolist() == [joint("nose"), joint("right_wrist")]
    assert after.keypoints[0, joint("right_wrist")].tolist() == [57.5, 3.5]
    again = transform(after, matrix([[-1, 0], [0, 1]], (60, 0)), SIZE)
    assert torch.equal(again.boxes, before.boxes) and torch.equal(again.labelled, before.labelled)
    assert torch.equal(again.keypoints[again.labelled], before.keypoints[before.labelled])


@pytest.mark.parametrize(
    "move",
    [
        matrix(torch.eye(2), (0, 0)),
        matrix(torch.eye(2), (2.25, -1.5)),
        matrix(rotation(0.4), (8, -6)),
        matrix(1.7 * rotation(-0.5), (-25, 12)),
        matrix(0.7 * rotation(0.2), (5.5, 4)),
        matrix(torch.tensor([[-0.6, 0.1], [0.05, 0.6]]), (50, 4)),
        matrix(0.3 * rotation(-0.3), (20, 15)),
    ],
    ids=["still", "shifted", "turned", "enlarged", "shrunk", "mirrored", "tiny"],
)
def test_a_dot_lands_where_its_joint_lands(move):
    x, y = 30.5, 20.5
    moved = transform(person((5, 2, 58, 38), left_wrist=(x, y)), move, SIZE)
    name = "right_wrist" if move[:, :2].det() < 0 else "left_wrist"
    assert moved.labelled[0, joint(name)]
    found = centroid(warp(blob(x, y, *SIZE)[None], move, SIZE, 0.0)[0])
    assert (found - moved.keypoints[0, joint(name)]).abs().max() < 0.05


def test_displacement_is_where_the_canvas_looks():
    """With a displacement of (3, -2) everywhere the canvas shows at p what was at p + (3, -2)."""
    knots = torch.tensor((3.0, -2.0))[:, None, None].expand(2, 5, 5)
    found = centroid(warp(blob(30.5, 20.5, *SIZE)[None], matrix(torch.eye(2), (0, 0)), SIZE, 0.0, knots)[0])
    assert (found - torch.tensor((27.5, 22.5))).abs().max() < 0.05


def test_shrinking_averages():
    """A checkerboard of single pixels shrunk four times is grey, not a pattern of black and white."""
    board = ((torch.arange(80)[:, None] + torch.arange(80)) % 2 * 255).to(torch.uint8).expand(1, 3, 80, 80)
    small = warp(board, matrix(0.25 * torch.eye(2), (0, 0)), (20, 20), 0.0)
    assert (small[..., 2:-2, 2:-2] - 127.5).abs().max() < 6


def test_fill_surrounds_the_image():
    canvas = warp(torch.zeros(1, 3, 10, 10, dtype=torch.uint8), matrix(torch.eye(2), (20, 5)), SIZE, 90.0).round()
    assert (canvas[0, 0, 5:15, 20:30] == 0).all() and canvas[0, 0].sum() == 90 * (40 * 60 - 100)


def test_turned_boxes_by_hand():
    """A quarter turn swaps the sides; a square turned by 45 degrees keeps them (its circle does), but holds joints."""
    quarter = matrix(rotation(math.pi / 2), (40, 0))  # (x, y) -> (40 - y, x)
    assert transform(person((2, 4, 20, 34)), quarter, SIZE).boxes[0].tolist() == pytest.approx([6, 2, 36, 20], abs=1e-4)
    eighth = matrix(rotation(math.pi / 4), (30, 0))
    box = (10, 0, 30, 20)  # its centre (20, 10) goes to (30 + 10 / sqrt 2, 30 / sqrt 2)
    cx, cy = 30 + 10 / math.sqrt(2), 30 / math.sqrt(2)
    expected = [cx - 10, cy - 10, cx + 10, cy + 10]
    assert transform(person(box), eighth, SIZE).boxes[0].tolist() == pytest.approx(expected, abs=1e-4)
    corner = transform(person(box, nose=(30, 20)), eighth, SIZE).boxes[0]  # the corner goes to 20 sqrt 2 / 2 below
    assert corner.tolist() == pytest.approx([*expected[:3], cy + 10 * math.sqrt(2)], abs=1e-4)


def test_people_off_the_canvas():
    """Joints off the canvas lose their label; people cut to less than 30% or tiny become ignore regions."""
    half, sliver = person((50, 0, 70, 20), nose=(55, 5), neck=(65, 5)), person((52, 0, 92, 20), nose=(55, 5))
    tiny, gone = person((0, 0, 9, 9), nose=(5, 5)), person((100, 0, 120, 20))
    crowd = People.empty()
    crowd.ignore = torch.tensor([[40.0, 30.0, 80.0, 50.0], [70.0, 0.0, 80.0, 10.0]])
    moved = transform(People.join((half, sliver, tiny, gone, crowd)), matrix(torch.eye(2), (0, 0)), SIZE)
    assert moved.boxes.tolist() == [[50, 0, 60, 20]]
    assert moved.labelled[0].nonzero()[:, 0].tolist() == [joint("nose")]
    assert moved.ignore.tolist() == [[40, 30, 60, 40], [52, 0, 60, 20], [0, 0, 9, 9]]


def test_compose_does_the_first_first():
    first, second = matrix(rotation(0.3), (1, 2)), matrix(2 * torch.eye(2), (5, -1))
    point = torch.tensor((3.0, 4.0), dtype=torch.float64)
    once = first[:, :2] @ point + first[:, 2]
    both = compose(second, first)
    assert torch.allclose(both[:, :2] @ point + both[:, 2], second[:, :2] @ once + second[:, 2])


# --- augmentation and mixing ---


@pytest.mark.parametrize("mosaic", [0.0, 1.0], ids=["single", "mosaic"])
@pytest.mark.parametrize("apart", [0, 4], ids=["still", "clip"])
def test_labels_follow_frame_a(mosaic, apart):
    """Every labelled wrist lies on a red dot of Frame A, and almost every pair has one."""
    mixture = Mixture([(Dots(apart), 1)], (160, 200), 20, mosaic=mosaic, augmentation=PLAIN)
    seen = 0
    for pair in mixture:
        red = pair.frame_a[0].float() - pair.frame_a[1].float()
        for x, y in pair.people.keypoints[pair.people.labelled]:
            assert red[int(y), int(x)] > 120
            seen += 1
    assert seen >= 16


def test_paste_by_hand():
    """A window of 12 x 18 pixels, from (2, 1) to (14, 19), laid at (10, 20) of both frames of a scene of three."""
    one = torch.arange(200, dtype=torch.uint8).view(1, 20, 10).repeat(3, 1, 2)
    other = Pair(
        frame_a=one, frame_b=one + 50, people=person((2, 1, 14, 19), nose=(3, 2), neck=(15, 2)), delta=0, name="front"
    )
    dark = torch.zeros(3, 60, 60, dtype=torch.uint8)
    behind = (
        person((9, 10, 25, 40), nose=(12, 22), neck=(14, 19), left_wrist=(9.5, 27)),  # 216 of 480 pixels are covered
        person((10, 21, 22, 50), nose=(12, 45)),  # 204 of 348
        person((10, 25, 22, 40), nose=(12, 39)),  # 156 of 180
    )
    scene = Pair(frame_a=dark, frame_b=dark, people=People.join(behind), delta=3, name="scene")
    pair = paste(scene, other, (2, 1, 14, 19), 10, 20)
    assert pair.name == "scene+front" and pair.delta == 3 and not dark.any()
    for frame, first in ((pair.frame_a, 12), (pair.frame_b, 62)):
        assert frame[0, 20, 10:14].tolist() == [first, first + 1, first + 2, first + 3]
        assert frame[0, 37, 21] == first + 171 and frame.count_nonzero() == 3 * 12 * 18
    assert pair.people.boxes.tolist() == [[9, 10, 25, 40], [10, 21, 22, 50], [10, 20, 22, 38]]
    assert pair.people.ignore.tolist() == [[10, 25, 22, 40]]
    named = [{DIMOFS[j] for j in row.nonzero()[:, 0]} for row in pair.people.labelled]
    assert named == [{"left_wrist", "neck"}, {"nose"}, {"nose"}]
    assert pair.people.keypoints[2, joint("nose")].tolist() == [11, 21]


def test_pasted_people_keep_their_joints():
    """Every labelled wrist of Frame A lies on a red dot, most canvases show two people, nobody has no neighbour."""
    crowds = Mixture([(Dots(), 1)], (160, 200), 20, mosaic=0, paste=1, augmentation=PLAIN)
    for pair in crowds:
        red = pair.frame_a[0].float() - pair.frame_a[1].float()
        assert all(red[int(y), int(x)] > 120 for x, y in pair.people.keypoints[pair.people.labelled])
    assert sum(len(pair.people) == 2 for pair in crowds) >= 12
    few = Mixture([(Dots(), 1)], (160, 200), 60, mosaic=0, paste=0.25, augmentation=PLAIN)
    assert 6 <= sum("+" in pair.name for pair in few) <= 24
    assert all(len(pair.people) == 0 for pair in Mixture([(Nobody(), 1)], (64, 80), 4, paste=1))


def test_both_wrists_are_seen():
    """Half of the pairs are mirrored: the dot is then a right wrist."""
    pairs = Mixture([(Dots(), 1)], (120, 150), 30, mosaic=0, augmentation=PLAIN)
    sides = torch.cat([pair.people.labelled for pair in pairs]).sum(0)
    assert sides[joint("left_wrist")] > 6 and sides[joint("right_wrist")] > 6


def test_stills_move_and_clips_share_geometry():
    random = np.random.default_rng(0)
    still = augment(Dots().pair(0, random), (160, 200), random, PLAIN)
    moved = centroid(still.frame_b.float() - still.frame_b[1].float()) - still.people.keypoints[still.people.labelled]
    assert 1 < moved.norm() < 60
    calm = Augmentation(motion=Jitter(share=0), colours=STILL_COLOURS)
    for apart, how in ((0, calm), (4, PLAIN)):  # the two frames of Dots(4) hold equal pixels
        pair = augment(Dots(apart).pair(0, random), (160, 200), random, how)
        assert torch.equal(pair.frame_a, pair.frame_b) and pair.delta == apart


def test_colours_are_shared_and_bounded():
    frames = torch.randint(0, 256, (3, 30, 30)).float().expand(2, 3, 30, 30)
    for seed in range(20):
        coloured = Colours(grey=0.5, blur=0.5)(frames, np.random.default_rng(seed))
        assert torch.equal(coloured[0], coloured[1]) and coloured.min() >= 0 and coloured.max() <= 255
        assert torch.equal(coloured, coloured.round())
    assert torch.equal(STILL_COLOURS(frames, np.random.default_rng(0)), frames)
    grey = Colours(tint=0, grey=1, blur=0)(frames, np.random.default_rng(0))
    assert (grey.amax(1) - grey.amin(1)).max() <= 1


def test_grey_is_the_luma_of_television():
    """Red, green and blue pixels of 255: 0.299, 0.587 and 0.114 of it, by BT.601."""
    frames = 255 * torch.eye(3)[None, :, None, :].expand(1, 3, 8, 3)
    grey = Colours(brightness=0, contrast=0, saturation=0, tint=0, grey=1, blur=0)(frames, np.random.default_rng(0))
    assert grey[0, :, 0].tolist() == [[76, 150, 29]] * 3


def same(a: Pair, b: Pair) -> bool:
    tensors = [(p.frame_a, p.frame_b, p.people.boxes, p.people.keypoints, p.people.ignore) for p in (a, b)]
    return a.name == b.name and all(torch.equal(x, y) for x, y in zip(*tensors, strict=True))


def test_pairs_depend_on_seed_and_number_alone():
    first, second, other = (Mixture([(Dots(), 1), (Dots(4), 1)], (80, 96), 12, seed=s, mosaic=0.5) for s in (0, 0, 1))
    assert same(first[7], second[7]) and same(first[7], first[7])
    assert not same(first[7], first[8]) and not same(first[7], other[7])
    loader = DataLoader(Subset(first, range(4, 12)), batch_size=4, num_workers=2, collate_fn=collate)
    loaded = [
        Pair(frame_a=a, frame_b=b, people=people, delta=0, name=name, moves=moves)
        for batch in loader
        for a, b, people, name, moves in zip(*batch, strict=True)
    ]
    assert len(loaded) == 8 and all(
        same(pair, first[number]) for pair, number in zip(loaded, range(4, 12), strict=True)
    )
    with pytest.raises(IndexError):
        first[12]


def test_weights_choose_the_source():
    mixture = Mixture([(Dots(), 3), (Dots(4), 1), (Nobody(2), 0)], (64, 64), 120, mosaic=0, augmentation=PLAIN)
    deltas = [pair.delta for pair in mixture]
    assert 70 < deltas.count(0) < 110 and deltas.count(4) == 120 - deltas.count(0)


def test_nobody_is_fine():
    mixture = Mixture([(Nobody(), 1)], (64, 80), 4, mosaic=0.5)
    frames_a, frames_b, people, names, moves = collate([mixture[i] for i in range(4)])
    assert frames_a.shape == frames_b.shape == (4, 3, 64, 80) and frames_a.dtype == torch.uint8
    assert all(len(p) == len(p.ignore) == 0 and p.keypoints.shape == (0, 19, 2) for p in people) and len(names) == 4
    assert [one.shape[1:] for one in moves] == [(2, 2)] * 4
