"""A rasterizer for tapered, textured, antialiased strokes in NumPy; it draws all strokes of a frame at once.

A stroke runs from `start` to `stop`. Its half width is a cubic along it, and its ends are elliptic caps. Its colour is
a small texture along (u) and across (v) it, shaded like a round body that is lit from one side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

# Texels along and across a stroke.
TEXTURE = (32, 16)
# Fragments with less coverage are not painted.
FAINT = 1 / 255
# Half the width of the thinnest stroke, in pixels.
LEAST = np.float32(0.5)
# Maps the values at 0, 1/3, 2/3 and 1 to the coefficients of 1, t, t^2 and t^3.
_CUBIC = np.array([(1, 0, 0, 0), (-5.5, 9, -4.5, 1), (9, -22.5, 18, -4.5), (-4.5, 13.5, -13.5, 4.5)], np.float32)


@dataclass(frozen=True, kw_only=True)
class Strokes:
    """K strokes in the order of painting, lengths in pixels; continuous coordinates, pixel centres at integer + 0.5.

    start, stop: [K, 2] float32, x y.
    widths:      [K, 4] float32, half the width at 0, 1/3, 2/3 and 1 of the way.
    blunt:       [K] float32, how flat the caps are: 1 gives half circles, 2 caps half as long.
    soft:        [K] float32, width of the ramp at the edge in pixels; 1 is plain antialiasing.
    alpha:       [K] float32, opacity.
    texture:     [K] int64, index into the atlas.
    owner:       [K] int64, the person it belongs to.
    solid:       [K] bool, part of the body; a shadow is not.
    large:       [K] bool, whether the part is large enough to tell whether the body is visible; eyes are not.
    """

    start: np.ndarray
    stop: np.ndarray
    widths: np.ndarray
    blunt: np.ndarray
    soft: np.ndarray
    alpha: np.ndarray
    texture: np.ndarray
    owner: np.ndarray
    solid: np.ndarray
    large: np.ndarray

    def __len__(self) -> int:
        return len(self.start)

    def select(self, index: np.ndarray) -> Strokes:
        """The strokes that `index` selects, in its order."""
        return Strokes(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    @staticmethod
    def join(groups: Sequence[Strokes]) -> Strokes:
        """All strokes, in order."""
        names = [f.name for f in fields(Strokes)]
        return Strokes(**{name: np.concatenate([getattr(group, name) for group in groups]) for name in names})


@dataclass(frozen=True, kw_only=True)
class Fragments:
    """The M pixels touched by strokes, stroke after stroke.

    pixels:   [M] int64, flat index y * width + x.
    coverage: [M] float32, of the stroke over the pixel, in (0, 1].
    stroke:   [M] int64.
    along:    [M] float32, place along the stroke, 0 to 1.
    across:   [M] float32, place across it, -1 to 1.
    """

    pixels: np.ndarray
    coverage: np.ndarray
    stroke: np.ndarray
    along: np.ndarray
    across: np.ndarray

    def select(self, index: np.ndarray) -> Fragments:
        """The fragments that `index` (a mask or indices) selects."""
        return Fragments(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


def rasterize(strokes: Strokes, height: int, width: int) -> Fragments:
    """The pixels of a frame touched by the strokes."""
    stroke, y, first, count = _rows(strokes, height, width)
    direction, length = _axes(strokes)
    # The first pixel centre of a row in the stroke's own axes, u along and v across; the others follow in equal steps.
    x0 = first + np.float32(0.5) - strokes.start[stroke, 0]
    y0 = y + np.float32(0.5) - strokes.start[stroke, 1]
    ex, ey = direction[stroke].T
    row = np.repeat(np.arange(len(stroke)), count)
    column = np.arange(len(row)) - (np.cumsum(count) - count)[row]
    pixels, step, stroke = (y * width + first)[row] + column, column.astype(np.float32), stroke[row]
    u = (x0 * ex + y0 * ey)[row] + step * ex[row]
    v = (y0 * ex - x0 * ey)[row] - step * ey[row]

    held = np.minimum(np.maximum(u, 0), length[stroke])
    along = held / length[stroke]
    beyond = (u - held) * strokes.blunt[stroke]
    half = _half_width(strokes.widths, stroke, along)
    depth = half - np.sqrt(beyond * beyond + v * v)
    coverage = np.clip(depth / strokes.soft[stroke] + np.float32(0.5), 0, 1) * _opacity(strokes)[stroke]
    touched = np.flatnonzero(coverage > FAINT)
    across = v[touched] / half[touched]
    return Fragments(
        pixels=pixels[touched],
        coverage=coverage[touched],
        stroke=stroke[touched],
        along=along[touched],
        across=across,
    )


def _rows(strokes: Strokes, height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The rows of pixels to look at: stroke, y, first x, number of pixels, each [R]."""
    reach = np.maximum(strokes.widths.max(1), LEAST) + strokes.soft / 2
    low, high = np.minimum(strokes.start, strokes.stop), np.maximum(strokes.start, strokes.stop)
    top = np.clip(np.floor(low[:, 1] - reach), 0, height).astype(np.int64)
    bottom = np.clip(np.ceil(high[:, 1] + reach), 0, height).astype(np.int64)
    rows = np.maximum(bottom - top, 0)
    stroke = np.repeat(np.arange(len(rows)), rows)
    y = np.arange(len(stroke)) - (np.cumsum(rows) - rows - top)[stroke]

    # The part of the stroke's axis within reach of the row, and the columns within reach of that part.
    dx, dy = (strokes.stop - strokes.start).T
    dy = np.where(np.abs(dy) < 1e-3, np.float32(1e-3), dy)
    near, inverse = reach[stroke], (1 / dy)[stroke]
    middle = (y + np.float32(0.5) - strokes.start[stroke, 1]) * inverse
    spread = np.abs(near * inverse)
    x0, dx = strokes.start[stroke, 0], dx[stroke]
    one, two = x0 + dx * np.clip(middle - spread, 0, 1), x0 + dx * np.clip(middle + spread, 0, 1)
    first = np.clip(np.floor(np.minimum(one, two) - near), 0, width).astype(np.int64)
    last = np.clip(np.ceil(np.maximum(one, two) + near), 0, width).astype(np.int64)
    return stroke, y, first, np.maximum(last - first, 0)


def _axes(strokes: Strokes) -> tuple[np.ndarray, np.ndarray]:
    """Unit direction [K, 2] and length [K] of each stroke; a point has the direction down and the length 0.001."""
    d = strokes.stop - strokes.start
    length = np.sqrt((d * d).sum(1))
    down = np.array((0, 1), np.float32)
    direction = np.where(length[:, None] > 1e-3, d / np.maximum(length, 1e-3)[:, None], down)
    return direction, np.maximum(length, np.float32(1e-3))


def _half_width(widths: np.ndarray, stroke: np.ndarray, t: np.ndarray) -> np.ndarray:
    """[M]: half the width of each fragment's stroke at the place t, at least half a pixel."""
    c = [np.ascontiguousarray(column) for column in (widths[:, None] * _CUBIC).sum(2).T]
    half = ((c[3][stroke] * t + c[2][stroke]) * t + c[1][stroke]) * t + c[0][stroke]
    return np.maximum(half, LEAST)


def _opacity(strokes: Strokes) -> np.ndarray:
    """[K]: opacities; strokes thinner than a pixel are drawn one pixel wide, but more transparent."""
    return strokes.alpha * np.minimum(strokes.widths.mean(1) / LEAST, 1)


def paint(image: np.ndarray, strokes: Strokes, fragments: Fragments, atlas: np.ndarray, light: np.ndarray) -> None:
    """Paint into the contiguous `image` [H, W, 3] float32 in place, later strokes over earlier ones.

    atlas: [A, *TEXTURE, 3] float32.
    light: [2] float32, the direction of the light in the image; its length is the strength.

    Fragments below an opaque one are skipped. The others are blended from the lowest up, one layer of pixels at a time.
    ValueError: `image` is not contiguous.
    """
    if not image.flags.c_contiguous:
        raise ValueError("paint needs a contiguous image")
    flat = image.reshape(-1, 3)
    number = np.arange(len(fragments.pixels))
    solid = np.flatnonzero(fragments.coverage == 1)
    top = np.full(len(flat), -1)
    # If an index repeats, the last value stays: that of the stroke painted last.
    top[fragments.pixels[solid]] = solid
    shown = number >= top[fragments.pixels]
    fragments = fragments.select(np.flatnonzero(shown))
    colours = _colours(strokes, fragments, atlas, light)
    pixels, left = fragments.pixels, np.arange(len(fragments.pixels))
    while len(left):
        top[pixels[left[::-1]]] = left[::-1]
        lowest = top[pixels[left]] == left
        now = left[lowest]
        where = pixels[now]
        under = flat[where]
        flat[where] = under + (colours[now] - under) * fragments.coverage[now, None]
        left = left[~lowest]


def _colours(strokes: Strokes, fragments: Fragments, atlas: np.ndarray, light: np.ndarray) -> np.ndarray:
    """[M, 3] float32: the texture under each fragment, shaded."""
    rows, columns = TEXTURE
    across = np.clip(fragments.across, -1, 1)
    u = (fragments.along * np.float32(rows - 0.01)).astype(np.int64)
    v = ((across + 1) * np.float32(columns / 2 - 0.01)).astype(np.int64)
    texel = (strokes.texture[fragments.stroke] * rows + u) * columns + v
    direction, _ = _axes(strokes)
    lit = direction[:, 0] * light[1] - direction[:, 1] * light[0]
    shade = 1 + across * lit[fragments.stroke] - np.float32(0.2) * across * across
    return atlas.reshape(-1, 3)[texel] * shade[:, None]
