"""Poses drawn into frames: antialiased limbs and joints, boxes and track ids, one stable colour a track. NumPy only.

A person's box, plate, trunk and joints have the colour of the track. Limbs of the left side are blue and those of the
right side orange, so that a look tells them apart, and lines between the parts of a face are thin.
"""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from dimofs.detections import Detections

# Joints of lower confidence are not drawn.
MIN_CONFIDENCE = 0.5
LEFT_COLOUR, RIGHT_COLOUR = (40, 105, 255), (255, 120, 0)
FACE = ("nose", "eye", "ear")
# Thickness of lines and joints of the face in units of that of limbs.
FACE_WIDTH = 0.4
# Width of the darkened rim around a stroke, as a part of the stroke's radius, and how dark the rim is.
RIM, RIM_SHADE = 0.5, 0.5
# Digits of 5 x 7 pixels: one number per row, its highest bit the leftmost pixel.
GLYPHS = (
    (14, 17, 19, 21, 25, 17, 14), (4, 12, 4, 4, 4, 4, 14), (14, 17, 1, 2, 4, 8, 31), (31, 2, 4, 2, 1, 17, 14),
    (2, 6, 10, 18, 31, 2, 2), (31, 16, 30, 1, 1, 17, 14), (6, 8, 16, 30, 17, 17, 14), (31, 1, 2, 4, 8, 8, 8),
    (14, 17, 17, 14, 17, 17, 14), (14, 17, 17, 15, 1, 2, 12),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Style:
    """What is drawn and how.

    boxes, ids:  whether boxes, and plates with the ids of tracks, are drawn.
    score:       people of lower score are not drawn.
    joint_score: joints of lower confidence are not drawn.
    thickness:   of lines and joints, in units of the usual one.
    trails:      frames that the path of a track stays to be seen, in films.
    """

    boxes: bool = True
    ids: bool = True
    score: float = 0.0
    joint_score: float = MIN_CONFIDENCE
    thickness: float = 1.0
    trails: int = 0


USUAL = Style()


def draw(
    image: np.ndarray,
    people: Detections,
    limbs: Sequence[tuple[int, int]],
    names: Sequence[str] = (),
    style: Style = USUAL,
) -> None:
    """Draw people into `image` [H, W, 3] uint8 RGB, contiguous, in place; `limbs` are pairs of joints to connect.

    names: of the joints, which tell left, right and face; without names all limbs are alike. A person's colour follows
    from its id, or from its rank in the frame without ids.
    ValueError: `image` is not contiguous.
    """
    if not image.flags.c_contiguous:
        raise ValueError("draw needs a contiguous image")
    people = people[people.scores >= style.score]
    if not len(people):
        return
    ids = range(len(people)) if people.ids is None else people.ids.tolist()
    colours = np.array([colour(i) for i in ids], dtype=np.float32)
    boxes = people.boxes.numpy().astype(np.float32)
    points = people.keypoints.numpy().astype(np.float32)
    shown = (people.confidences.numpy() >= style.joint_score) & np.all(np.abs(points) < 1e6, axis=-1)
    if style.boxes:
        for box, tint in zip(boxes, colours, strict=True):
            _rectangle(image, box, tint)
    _skeletons(image, points, shown, limbs, names, style.thickness * _thickness(image, boxes), colours)
    if people.ids is not None and style.ids:
        _labels(image, boxes, points[shown], people.ids.tolist())


def _thickness(image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """[P] half the width of each person's limbs, in pixels."""
    size = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
    thickest = max(0.8, max(image.shape[:2]) / 200)
    return np.clip(0.014 * size, 0.8, thickest).astype(np.float32)


def draw_trails(image: np.ndarray, trails: Sequence[tuple[int, np.ndarray]]) -> None:
    """Draw the paths of tracks into `image`, in place: of each track its id and the points [N, 2] it has passed, in
    pixels, the latest last. Older parts are thinner."""
    for track, points in trails:
        if len(points) > 1:
            thick = max(0.8, max(image.shape[:2]) / 400) * np.linspace(0.3, 1, len(points) - 1)
            tints = np.tile(np.array(colour(track), dtype=np.float32), (len(points) - 1, 1))
            points = points.astype(np.float32)
            _strokes(image, points[:-1], points[1:], thick.astype(np.float32), tints)


@lru_cache(maxsize=4096)
def colour(track: int) -> tuple[int, int, int]:
    """RGB of a track, different from those of neighbouring ids and light enough for black text."""
    hue = (0.58 + track * 0.618034) % 1.0
    rgb = np.array(colorsys.hsv_to_rgb(hue, (0.75, 0.55, 0.9)[track % 3], 1.0))
    light = rgb @ (0.299, 0.587, 0.114)
    red, green, blue = np.rint(255 * (rgb + (1 - rgb) * max(0, 0.5 - light) / (1 - light))).astype(int).tolist()
    return red, green, blue


def _skeletons(image, points, shown, limbs, names, thick, colours) -> None:
    """Limbs in the colour of their side or person, then joints in a lighter tint of the person's."""
    ends = np.array(limbs, dtype=np.int64).reshape(-1, 2)
    person, limb = np.nonzero(shown[:, ends[:, 0]] & shown[:, ends[:, 1]])
    starts, stops = points[person, ends[limb, 0]], points[person, ends[limb, 1]]
    face = _face(names, shown.shape[1])
    fine = np.where(np.asarray(face[ends].all(axis=1)), FACE_WIDTH, 1).astype(np.float32)
    tints = colours[person]
    for side, tint in (("left_", LEFT_COLOUR), ("right_", RIGHT_COLOUR)):
        of_side = np.array([name.startswith(side) for name in names] or [False] * shown.shape[1])
        tints[np.asarray(of_side[ends].all(axis=1))[limb]] = tint
    _strokes(image, starts, stops, thick[person] * fine[limb], tints)
    person, joint = np.nonzero(shown)
    centres = points[person, joint]
    small = np.where(face, 2 * FACE_WIDTH, 1).astype(np.float32)[joint]
    _strokes(image, centres, centres, 1.35 * thick[person] * small, 0.45 * colours[person] + 0.55 * 255)


def _face(names: Sequence[str], joints: int) -> np.ndarray:
    """[J] bool: whether a joint is a part of the face."""
    return np.array([name.split("_")[-1] in FACE for name in names] or [False] * joints)


def _strokes(image, starts, stops, radii, colours) -> None:
    """Draw K round-ended strokes, [K, 2] to [K, 2] in pixels, of radii [K] and RGB [K, 3], antialiased, with dark rims.

    Where strokes overlap, the one that covers a pixel more deeply is drawn, independent of their order.
    """
    pixels, depth, which = _near(image.shape, starts, stops, radii)
    if not len(pixels):
        return
    height, width, _ = image.shape
    deepest = np.empty(height * width, dtype=np.float32)
    deepest[pixels] = np.inf
    np.minimum.at(deepest, pixels, depth)
    top = depth == deepest[pixels]
    pixels, depth, which = pixels[top], depth[top, None], which[top]
    flat = image.reshape(-1, 3)
    under = flat[pixels] * (1 - RIM_SHADE * np.clip(RIM * radii[which, None] + 0.5 - depth, 0, 1))
    over = np.clip(0.5 - depth, 0, 1)
    flat[pixels] = np.rint(under + (colours[which] - under) * over)


def _near(shape, starts, stops, radii) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pixels that K strokes touch: flat indices [M], distances to the stroke's edge (inside < 0) [M], strokes [M].

    Each stroke is followed along the axis in which it is longer; each step tests a row of pixels across it.
    """
    height, width, _ = shape
    steep = np.abs(stops - starts)
    steep = steep[:, 1] > steep[:, 0]
    # Coordinates along and across the longer axis.
    a, b = (np.where(steep[:, None], p[:, ::-1], p) for p in (starts, stops))
    reach = (1 + RIM) * radii + 0.5
    limit = np.where(steep, height, width)
    first = np.clip(np.floor(np.minimum(a[:, 0], b[:, 0]) - reach), 0, limit).astype(np.int64)
    last = np.clip(np.ceil(np.maximum(a[:, 0], b[:, 0]) + reach), 0, limit).astype(np.int64)
    steps = np.maximum(last - first, 0)
    which = np.repeat(np.arange(len(a)), steps)
    if not len(which):
        return np.zeros(0, np.int64), np.zeros(0, np.float32), which
    along = np.arange(len(which)) - np.repeat(np.cumsum(steps) - steps, steps) + first[which]

    d = b - a
    slope = d[:, 1] / np.where(d[:, 0] == 0, 1, d[:, 0])
    inverse = 1 / np.maximum((d * d).sum(1), 1e-6)
    t = (along + 0.5).astype(np.float32) - a[which, 0]
    middle = a[which, 1] + slope[which] * np.clip(t, np.minimum(d[which, 0], 0), np.maximum(d[which, 0], 0))
    # Across a stroke of 45 degrees.
    span = int(np.ceil(1.42 * reach.max()))
    across = np.floor(middle).astype(np.int32)[:, None] + np.arange(-span, span + 1, dtype=np.int32)

    u, v = t[:, None], across.astype(np.float32) - (a[which, 1] - 0.5)[:, None]
    dx, dy = d[which, :1], d[which, 1:]
    part = np.clip((u * dx + v * dy) * inverse[which, None], 0, 1)
    depth = np.sqrt((u - part * dx) ** 2 + (v - part * dy) ** 2) - radii[which, None]

    inside = (across >= 0) & (across < np.where(steep, width, height)[which, None])
    inside &= depth < RIM * radii[which, None] + 0.5
    step, _ = np.nonzero(inside)
    which, along, across = which[step], along[step], across[inside]
    return np.where(steep[which], along * width + across, across * width + along), depth[inside], which


def _scale(image: np.ndarray) -> int:
    """Pixels of the frame per pixel of a label."""
    return max(1, round(min(image.shape[:2]) / 300))


def _rectangle(image: np.ndarray, box: np.ndarray, tint: np.ndarray) -> None:
    """A box's edge, inside the frame."""
    height, width, _ = image.shape
    x1, x2 = np.clip(np.rint(box[[0, 2]]), 0, width).astype(int)
    y1, y2 = np.clip(np.rint(box[[1, 3]]), 0, height).astype(int)
    edge = max(1, round(min(height, width) / 400))
    for rows, columns in (
        (slice(y1, min(y1 + edge, y2)), slice(x1, x2)),
        (slice(max(y2 - edge, y1), y2), slice(x1, x2)),
        (slice(y1, y2), slice(x1, min(x1 + edge, x2))),
        (slice(y1, y2), slice(max(x2 - edge, x1), x2)),
    ):
        image[rows, columns] = tint


def _labels(image: np.ndarray, boxes: np.ndarray, joints: np.ndarray, ids: Sequence[int]) -> None:
    """Draw the id of each person on a plate of the track's colour, where it hides no other plate and few joints."""
    taken = np.zeros((0, 4))
    for box, number in zip(boxes, ids, strict=True):
        plate = _plate(number, _scale(image))
        plate = plate[: image.shape[0], : image.shape[1]]
        places = _places(box, plate.shape, image.shape)
        hidden = [_overlap(place, taken).sum() + len(plate) * _inside(joints, place).sum() for place in places]
        x, y, right, bottom = places[int(np.argmin(hidden))]
        taken = np.concatenate((taken, [[x, y, right, bottom]]))
        image[y:bottom, x:right] = plate


def _places(box: np.ndarray, plate: tuple[int, ...], image: tuple[int, ...]) -> np.ndarray:
    """[6, 4] where a plate [h, w] may stand at a box, best first, inside the image: above its upper left corner, or
    inside it without room there; at its upper right, below its lower corners, and inside its upper corners."""
    (height, width), (rows, columns) = plate[:2], image[:2]
    x1, y1, x2, y2 = (
        int(np.clip(round(float(v)), 0, limit)) for v, limit in zip(box, 2 * [columns, rows], strict=True)
    )
    above = y1 - height if y1 >= height else y1
    corners = [(x1, above), (x2 - width, above), (x1, y2), (x2 - width, y2), (x1, y1), (x2 - width, y1)]
    low = np.clip(corners, 0, (columns - width, rows - height))
    return np.concatenate((low, low + np.array([width, height])), axis=1)


def _overlap(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """[K] the area in square pixels that a box shares with each of the others [K, 4]."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    return (high - low).clip(min=0).prod(axis=1)


def _inside(points: np.ndarray, box: np.ndarray) -> np.ndarray:
    """[K] bool: which of the points [K, 2] lie in a box."""
    return np.all((points >= box[:2]) & (points < box[2:]), axis=1)


@lru_cache(maxsize=4096)
def _plate(number: int, scale: int) -> np.ndarray:
    """[h, w, 3] uint8: digits, black on the colour of the track `number`."""
    digits = [np.array(GLYPHS[int(c)])[:, None] >> np.arange(4, -1, -1) & 1 for c in str(number)]
    ink = np.concatenate([np.pad(d, ((2, 2), (1, 0))) for d in digits], axis=1)
    ink = np.pad(ink, ((0, 0), (1, 2))).repeat(scale, 0).repeat(scale, 1)[..., None]
    return np.where(ink, 0, colour(number)).astype(np.uint8)
