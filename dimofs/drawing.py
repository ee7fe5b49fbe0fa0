"""Poses drawn into frames: antialiased limbs and joints, boxes and track ids, one stable colour a track. NumPy only."""

import colorsys
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from dimofs.detections import Detections

# Joints of lower confidence are not drawn.
MIN_CONFIDENCE = 0.5
# Width of the darkened rim around a stroke, as a part of the stroke's radius, and how dark the rim is.
RIM, RIM_SHADE = 0.5, 0.5
# Digits of 5 x 7 pixels: one number per row, its highest bit the leftmost pixel.
GLYPHS = (
    (14, 17, 19, 21, 25, 17, 14), (4, 12, 4, 4, 4, 4, 14), (14, 17, 1, 2, 4, 8, 31), (31, 2, 4, 2, 1, 17, 14),
    (2, 6, 10, 18, 31, 2, 2), (31, 16, 30, 1, 1, 17, 14), (6, 8, 16, 30, 17, 17, 14), (31, 1, 2, 4, 8, 8, 8),
    (14, 17, 17, 14, 17, 17, 14), (14, 17, 17, 15, 1, 2, 12),
)  # fmt: skip


def draw(image: np.ndarray, people: Detections, limbs: Sequence[tuple[int, int]]) -> None:
    """Draw people into `image` [H, W, 3] uint8 RGB, contiguous, in place; `limbs` are pairs of joints to connect.

    A person's colour follows from its id, or from its rank in the frame without ids.
    ValueError: `image` is not contiguous.
    """
    if not image.flags.c_contiguous:
        raise ValueError("draw needs a contiguous image")
    if not len(people):
        return
    ids = range(len(people)) if people.ids is None else people.ids.tolist()
    colours = np.array([colour(i) for i in ids], dtype=np.float32)
    boxes = people.boxes.numpy().astype(np.float32)
    points = people.keypoints.numpy().astype(np.float32)
    shown = (people.confidences.numpy() >= MIN_CONFIDENCE) & (np.abs(points) < 1e6).all(-1)
    size = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
    thickest = max(0.8, max(image.shape[:2]) / 200)
    # Half the width of a limb.
    thick = np.clip(0.014 * size, 0.8, thickest).astype(np.float32)

    for box, tint in zip(boxes, colours, strict=True):
        _rectangle(image, box, tint)
    if people.ids is not None:
        for box, number in zip(boxes, ids, strict=True):
            _label(image, box, number)
    _skeletons(image, points, shown, limbs, thick, colours)


@lru_cache(maxsize=4096)
def colour(track: int) -> tuple[int, int, int]:
    """RGB of a track, different from those of neighbouring ids and light enough for black text."""
    hue = (0.58 + track * 0.618034) % 1.0
    rgb = np.array(colorsys.hsv_to_rgb(hue, (0.75, 0.55, 0.9)[track % 3], 1.0))
    light = rgb @ (0.299, 0.587, 0.114)
    red, green, blue = np.rint(255 * (rgb + (1 - rgb) * max(0, 0.5 - light) / (1 - light))).astype(int).tolist()
    return red, green, blue


def _skeletons(image, points, shown, limbs, thick, colours) -> None:
    """Limbs in the colour of their person, then joints in a lighter tint."""
    ends = np.array(limbs, dtype=np.int64).reshape(-1, 2)
    person, limb = np.nonzero(shown[:, ends[:, 0]] & shown[:, ends[:, 1]])
    starts, stops = points[person, ends[limb, 0]], points[person, ends[limb, 1]]
    _strokes(image, starts, stops, thick[person], colours[person])
    person, joint = np.nonzero(shown)
    centres = points[person, joint]
    _strokes(image, centres, centres, 1.35 * thick[person], 0.45 * colours[person] + 0.55 * 255)


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


def _label(image: np.ndarray, box: np.ndarray, number: int) -> None:
    """Draw the id on a plate of the track's colour, above the box's upper left corner, or inside without room there."""
    plate = _plate(number, _scale(image))
    height, width = min(plate.shape[0], image.shape[0]), min(plate.shape[1], image.shape[1])
    y = int(np.clip(round(float(box[1])), 0, image.shape[0]))
    x = int(np.clip(round(float(box[0])), 0, image.shape[1] - width))
    y = y - height if y >= height else min(y, image.shape[0] - height)
    image[y : y + height, x : x + width] = plate[:height, :width]


@lru_cache(maxsize=4096)
def _plate(number: int, scale: int) -> np.ndarray:
    """[h, w, 3] uint8: digits, black on the colour of the track `number`."""
    digits = [np.array(GLYPHS[int(c)])[:, None] >> np.arange(4, -1, -1) & 1 for c in str(number)]
    ink = np.concatenate([np.pad(d, ((2, 2), (1, 0))) for d in digits], axis=1)
    ink = np.pad(ink, ((0, 0), (1, 2))).repeat(scale, 0).repeat(scale, 1)[..., None]
    return np.where(ink, 0, colour(number)).astype(np.uint8)
