"""Point-in-polygon tests that are exact: where rounding could flip the sign of an orientation, fractions decide it (the
filter of Shewchuk, 1997)."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

# An orientation below this times the sum of its terms' magnitudes may have the wrong sign.
_UNSURE = 4e-16


def in_any(points: np.ndarray, polygons: Sequence[np.ndarray]) -> np.ndarray:
    """[N, 2], polygons [K, 2] -> [N] bool: the point lies strictly inside one (even-odd rule; NaN does not)."""
    found = np.zeros(len(points), bool)
    polygons = [polygon for polygon in polygons if len(polygon)]
    if not polygons or not len(points):
        return found
    low = np.array([polygon.min(axis=0) for polygon in polygons])[:, None]
    high = np.array([polygon.max(axis=0) for polygon in polygons])[:, None]
    near = np.all((low < points) & (points < high), axis=2)  # [M, N]
    for i in np.flatnonzero(near.any(axis=1)):
        chosen = np.flatnonzero(near[i] & ~found)
        found[chosen] = _inside(points[chosen], polygons[i])
    return found


def _inside(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """[N] bool: a ray to the right crosses an odd number of edges, and the point is on none of them."""
    a, b = polygon, np.roll(polygon, -1, axis=0)
    side = _orientation(a, b, points)  # [N, K]
    x, y = points[:, :1], points[:, 1:]
    low, high = np.minimum(a, b), np.maximum(a, b)
    touches = (side == 0) & (low[:, 0] <= x) & (x <= high[:, 0]) & (low[:, 1] <= y) & (y <= high[:, 1])
    crosses = ((a[:, 1] > y) != (b[:, 1] > y)) & ((side > 0) == (b[:, 1] > a[:, 1]))
    return (crosses.sum(axis=1) % 2 == 1) & ~touches.any(axis=1)


def _orientation(a: np.ndarray, b: np.ndarray, points: np.ndarray) -> np.ndarray:
    """[N, K] sign of (b - a) x (p - a) for every point and edge: 1 if the point is left of the edge."""
    with np.errstate(over="ignore", invalid="ignore"):
        forward = (b[:, 0] - a[:, 0]) * (points[:, 1:] - a[:, 1])
        backward = (b[:, 1] - a[:, 1]) * (points[:, :1] - a[:, 0])
        sign = np.sign(forward - backward)
        sure = np.abs(forward - backward) > _UNSURE * (np.abs(forward) + np.abs(backward))
    for n, k in np.argwhere(~sure):
        (ax, ay), (bx, by), (px, py) = (map(Fraction, v.tolist()) for v in (a[k], b[k], points[n]))
        exact = (bx - ax) * (py - ay) - (by - ay) * (px - ax)
        sign[n, k] = (exact > 0) - (exact < 0)
    return sign
