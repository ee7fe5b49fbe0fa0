"""Geometric augmentation: warp both frames of a pair and its labels onto a canvas of fixed size.

Frames A and B share one random placement. If the source has one frame only, Frame B also gets a motion of its own.

A `matrix` is [2, 3] float64 and maps source pixels to canvas pixels: p' = matrix[:, :2] p + matrix[:, 2], in continuous
coordinates. It mirrors if its determinant is negative; left and right joints then swap their names.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dimofs.boxes import area, clip
from dimofs.datasets.augment.colour import Colours
from dimofs.datasets.people import Pair, People, inside
from dimofs.skeletons import DIMOFS, mirror

# People become ignore regions if a smaller share of their box lies on the canvas ...
LEAST_SHARE = 0.3
# ... or if the square root of the area of that part is smaller, in pixels.
LEAST_SIZE = 10.0
# Points of a still image whose motion is given with it.
MOVES = 64
# The joints of people in a mirror.
MIRROR = tuple(mirror(DIMOFS))


@dataclass(frozen=True)
class Jitter:
    """The motion given to Frame B if it is the same picture as Frame A: uniform, around the largest person.

    share:       share of such pairs that get a motion.
    translation: largest shift in x and in y, in units of the longer side of the person's box.
    rotation:    largest angle in degrees.
    scale:       largest logarithm of the magnification.
    warp:        standard deviation of a smooth random displacement, in the unit of `translation`.
    """

    share: float = 0.9
    translation: float = 0.12
    rotation: float = 10.0
    scale: float = 0.1
    warp: float = 0.02


@dataclass(frozen=True)
class Augmentation:
    """How pairs vary. Each pair is placed by one of its people, chosen at random: the person in focus.

    mirror:   share of mirrored pairs.
    rotation: largest angle in degrees; angles are normally distributed with half of it as standard deviation.
    person:   range of the longer side of the person in focus, in units of the canvas's shorter side; log-uniform.
    enlarge:  largest magnification.
    cover:    the image covers at least this share of the canvas in one direction.
    motion:   the motion given to Frame B if it is the same picture as Frame A.
    colours:  changes of colour and sharpness, the same for both frames.
    swap:     the permutation of the joints in mirrored pairs, see `skeletons.mirror`.
    """

    mirror: float = 0.5
    rotation: float = 30.0
    person: tuple[float, float] = (0.15, 1.1)
    enlarge: float = 2.5
    cover: float = 0.75
    motion: Jitter = field(default_factory=Jitter)
    colours: Colours = field(default_factory=Colours)
    swap: Sequence[int] = MIRROR


def augment(pair: Pair, size: tuple[int, int], random: np.random.Generator, how: Augmentation) -> Pair:
    """`pair` on a canvas of `size` = (height, width), with one random placement and colour for both frames.

    If both frames are the same picture, Frame B is moved by a random motion: a still image then trains motion, with
    the labels of Frame A as recorded.
    """
    matrix = placement(pair, size, random, how)
    people = transform(pair.people, matrix, size, how.swap)
    moves = _mapped(pair.moves, matrix)
    fill = float(random.uniform(0, 255))
    if pair.delta:
        canvas = warp(torch.stack((pair.frame_a, pair.frame_b)), matrix, size, fill)
    else:
        frame = pair.frame_a[None]
        canvas = warp(frame, matrix, size, fill).repeat(2, 1, 1, 1)
        if random.random() < how.motion.share:
            second, knots = motion(people.boxes, size, random, how.motion)
            canvas[1:] = warp(frame, compose(second, matrix), size, fill, knots)
            moves = moves_by(second, knots, size, random)
    frame_a, frame_b = how.colours(canvas, random).to(torch.uint8)
    moves = within(moves, (0, 0, size[1], size[0]))
    return Pair(frame_a=frame_a, frame_b=frame_b, people=people, delta=pair.delta, name=pair.name, moves=moves)


def placement(pair: Pair, size: tuple[int, int], random: np.random.Generator, how: Augmentation) -> Tensor:
    """A random matrix that brings the person in focus to a random size and place.

    The person's box leaves the canvas by at most a tenth of the canvas's sides. The image covers as much of the canvas
    as it can.
    """
    height, width = pair.frame_a.shape[1:]
    boxes = pair.people.boxes
    focus = boxes[random.integers(len(boxes))] if len(boxes) else torch.tensor((0.0, 0.0, width, height))
    side = float((focus[2:] - focus[:2]).max())
    smallest, largest = how.person
    wanted = min(size) * smallest * (largest / smallest) ** random.random()
    least = how.cover * min(size[0] / height, size[1] / width)
    scale = max(least, min(wanted / max(side, 1.0), how.enlarge))
    angle = math.radians(float(np.clip(random.normal(0, how.rotation / 2), -how.rotation, how.rotation)))
    linear = scale * rotation(angle)
    if random.random() < how.mirror:
        linear[:, 0] *= -1
    canvas = torch.tensor((size[1], size[0]), dtype=torch.float64)
    image = torch.tensor((width, height), dtype=torch.float64)
    room = (canvas - scale * (focus[2:] - focus[:2])).clamp(min=0) / 2 + 0.1 * canvas
    target = canvas / 2 + room * torch.from_numpy(random.uniform(-1, 1, 2))
    centre = (focus[:2] + focus[2:]).double() / 2
    # `middle` is the place of the image's centre on the canvas.
    middle = target + linear @ (image / 2 - centre)
    slack = (canvas - scale * image) / 2
    middle = torch.maximum(torch.minimum(middle, canvas / 2 + slack.abs()), canvas / 2 - slack.abs())
    return torch.cat((linear, (middle - linear @ (image / 2))[:, None]), 1)


def rotation(angle: float) -> Tensor:
    """[2, 2] float64 matrix that turns x towards y by `angle` radians."""
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor(((c, -s), (s, c)), dtype=torch.float64)


def compose(second: Tensor, first: Tensor) -> Tensor:
    """The matrix that applies `first`, then `second`."""
    moved = second[:, :2] @ first
    moved[:, 2] += second[:, 2]
    return moved


def warp(frames: Tensor, matrix: Tensor, size: tuple[int, int], fill: float, knots: Tensor | None = None) -> Tensor:
    """[N, 3, h, w] uint8 warped by `matrix` to [N, 3, H, W] float32; pixels outside the source get the value `fill`.

    knots: [2, k, k] x and y in canvas pixels, a displacement d interpolated smoothly over the canvas: the canvas shows
           at p what the matrix alone would put at p + d(p).
    If the matrix shrinks, the frames are first shrunk with an antialiasing filter.
    """
    frames, matrix = _shrunk(frames, matrix)
    extent = torch.tensor((frames.shape[3], frames.shape[2]))
    inverse = torch.linalg.inv(matrix[:, :2])
    # grid_sample without align_corners puts -1 and 1 on the outer edges: x = (grid + 1) / 2 * width
    # rows of `slope`: what one step along x and along y of the canvas adds to the grid
    slope = (inverse.T * 2 / extent).float()
    start = (-(inverse @ matrix[:, 2]) * 2 / extent - 1).float()
    along_x, along_y = ((torch.arange(n) + 0.5)[:, None] * step for n, step in zip(size[::-1], slope, strict=True))
    grid = along_x + (along_y + start)[:, None]  # (H, W, 2)
    if knots is not None:
        grid += _smooth(torch.einsum("dij,dg->gij", knots, slope), size).permute(1, 2, 0)
    # All frames share the grid, so they are sampled as channels of one image.
    flat = (frames.float() - fill).flatten(0, 1)[None]
    return F.grid_sample(flat, grid[None], align_corners=False).reshape(-1, 3, *size).add_(fill)


def _shrunk(frames: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Frames shrunk by the matrix's scale, if it is below 0.9, and the matrix that remains to be applied."""
    scale = float(matrix[:, :2].det().abs().sqrt())
    if scale > 0.9:
        return frames, matrix
    height, width = frames.shape[2:]
    small = (max(round(height * scale), 1), max(round(width * scale), 1))
    stretch = torch.tensor((width / small[1], height / small[0], 1.0), dtype=torch.float64)
    return F.interpolate(frames, small, mode="bilinear", antialias=True), matrix * stretch


def _smooth(knots: Tensor, size: tuple[int, int]) -> Tensor:
    """[2, k, k] -> [2, H, W]: bicubic to a coarse grid, where it is cheap, and bilinear from there."""
    coarse = F.interpolate(knots[None], (24, 24), mode="bicubic", align_corners=True)
    return F.interpolate(coarse, size, mode="bilinear", align_corners=True)[0]


def motion(boxes: Tensor, size: tuple[int, int], random: np.random.Generator, how: Jitter) -> tuple[Tensor, Tensor]:
    """A random motion around the largest of `boxes`, or around the whole canvas: a matrix, and knots for `warp`."""
    box = boxes[area(boxes).argmax()] if len(boxes) else torch.tensor((0.0, 0.0, size[1], size[0]))
    side, centre = float((box[2:] - box[:2]).max()), (box[:2] + box[2:]).double() / 2
    angle = math.radians(random.uniform(-how.rotation, how.rotation))
    linear = math.exp(random.uniform(-how.scale, how.scale)) * rotation(angle)
    shift = torch.from_numpy(random.uniform(-how.translation, how.translation, 2)) * side
    matrix = torch.cat((linear, (centre + shift - linear @ centre)[:, None]), 1)
    return matrix, torch.from_numpy(random.normal(0, how.warp * side, (2, 5, 5))).float()


def moves_by(matrix: Tensor, knots: Tensor, size: tuple[int, int], random: np.random.Generator) -> Tensor:
    """The moves [MOVES, 2, 2] of random points of a canvas whose content `matrix` and `knots` move as `warp` does."""
    start = torch.from_numpy(random.uniform(0, 1, (MOVES, 2)) * size[::-1]).float()
    target = start @ matrix[:, :2].float().T + matrix[:, 2].float()
    field, end = _smooth(knots, size), target
    # The canvas shows at p what would be at p + d(p): solve p + d(p) = target, where d is smooth and small.
    for _ in range(8):
        end = target - _read(field, end)
    return torch.stack((start, end), dim=1)


def _read(field: Tensor, points: Tensor) -> Tensor:
    """The values [K, C] of a map [C, H, W] at points [K, 2], bilinearly; beyond its borders those at the border."""
    grid = 2 * points / torch.tensor((field.shape[2], field.shape[1])) - 1
    return F.grid_sample(field[None], grid[None, None], padding_mode="border", align_corners=False)[0, :, 0].T


def _mapped(moves: Tensor, matrix: Tensor) -> Tensor:
    """Moves [K, 2, 2] on the canvas of `matrix`."""
    return moves @ matrix[:, :2].float().T + matrix[:, 2].float()


def within(moves: Tensor, window: tuple[int, int, int, int]) -> Tensor:
    """Those of the moves [K, 2, 2] that begin and end inside the window (x1 y1 x2 y2)."""
    left, top, right, bottom = window
    shown = inside(moves - torch.tensor((left, top), dtype=torch.float32), bottom - top, right - left)
    return moves[shown.all(dim=1)]


def transform(people: People, matrix: Tensor, size: tuple[int, int], swap: Sequence[int] = MIRROR) -> People:
    """The people mapped by `matrix` onto a canvas of `size` = (height, width). swap: see `Augmentation`.

    A rotated box becomes the extent of the ellipse inscribed in it, widened to hold the labelled joints. Boxes are
    clipped to the canvas, joints outside it lose their label, and people mostly outside or too small become ignore
    regions.
    """
    matrix = matrix.float()
    linear, shift = matrix[:, :2], matrix[:, 2]
    keypoints, labelled = people.keypoints @ linear.T + shift, people.labelled
    centre = (people.boxes[:, :2] + people.boxes[:, 2:]) / 2 @ linear.T + shift
    half = ((people.boxes[:, 2:] - people.boxes[:, :2]) / 2).square() @ linear.T.square()
    boxes = _hold(torch.cat((centre - half.sqrt(), centre + half.sqrt()), 1), keypoints, labelled)
    if linear.det() < 0:
        order = torch.tensor(swap)
        keypoints, labelled = keypoints[:, order], labelled[:, order]
    seen = clip(boxes, *size)
    visible = area(seen)
    kept = (visible >= LEAST_SHARE * area(boxes)) & (visible >= LEAST_SIZE**2)
    ignore = torch.cat((_turned(people.ignore, linear, shift, size), seen[~kept]))
    ignore = ignore[area(ignore) > 0]
    return People(
        boxes=seen[kept], keypoints=keypoints[kept], labelled=(labelled & inside(keypoints, *size))[kept], ignore=ignore
    )


def _hold(boxes: Tensor, keypoints: Tensor, labelled: Tensor) -> Tensor:
    """The boxes widened to hold the labelled joints."""
    low = torch.where(labelled[..., None], keypoints, boxes[:, None, :2])
    high = torch.where(labelled[..., None], keypoints, boxes[:, None, 2:])
    return torch.cat((torch.minimum(low.amin(1), boxes[:, :2]), torch.maximum(high.amax(1), boxes[:, 2:])), 1)


def _turned(boxes: Tensor, linear: Tensor, shift: Tensor, size: tuple[int, int]) -> Tensor:
    """The extent of the mapped corners of each box, clipped to the canvas."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 @ linear.T + shift
    half = (boxes[:, 2:] - boxes[:, :2]) / 2 @ linear.T.abs()
    return clip(torch.cat((centre - half, centre + half), 1), *size)


def shifted(people: People, x: int, y: int) -> People:
    """The people moved by `x` and `y` pixels."""
    by = torch.tensor((x, y), dtype=torch.float32)
    return People(
        boxes=people.boxes + by.repeat(2),
        keypoints=people.keypoints + by,
        labelled=people.labelled,
        ignore=people.ignore + by.repeat(2),
    )
