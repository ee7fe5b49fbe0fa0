"""Strokes of synthetic people: coverage, widths and colours by hand, and painting against a slower twin."""

from dataclasses import replace

import numpy as np
import pytest

from dimofs.datasets.synthetic.strokes import FAINT, TEXTURE, Strokes, _colours, paint, rasterize


def strokes(*rows: tuple, alpha: float = 1.0, soft: float = 1.0) -> Strokes:
    """Strokes (x1, y1, x2, y2, half width, texture)."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    count, one = len(table), np.ones(len(table), np.float32)
    widths = np.repeat(table[:, 4:5], 4, 1)
    yes, owner = np.ones(count, bool), np.arange(count)
    texture = table[:, 5].astype(np.int64)
    return Strokes(
        start=table[:, :2],
        stop=table[:, 2:4],
        widths=widths,
        blunt=one,
        soft=soft * one,
        alpha=alpha * one,
        texture=texture,
        owner=owner,
        solid=yes,
        large=yes,
    )


def coverage(group: Strokes, height: int, width: int) -> np.ndarray:
    """[H, W]: what the strokes cover, the largest where several do."""
    fragments, image = rasterize(group, height, width), np.zeros(height * width)
    np.maximum.at(image, fragments.pixels, fragments.coverage)
    return image.reshape(height, width)


def test_a_stroke_by_hand():
    """From (2, 3) to (6, 3), 2 thick: rows 2 and 3 are full between the ends, and a cap's pixel is cut.

    The pixel centre (6.5, 2.5) lies sqrt(0.5) = 0.7071 from the end, 0.2929 inside: covered by 0.5 + 0.2929.
    """
    image = coverage(strokes((2, 3, 6, 3, 1, 0)), 6, 9)
    assert image[2:4, 2:6] == pytest.approx(1)
    assert image[[1, 4]] == pytest.approx(0)
    assert image[2:4, [1, 6]] == pytest.approx(1.5 - np.sqrt(0.5))
    assert image[:, [0, 7, 8]] == pytest.approx(0)


def test_widths_are_a_cubic_through_four_values():
    """Widths 2, 5, 3, 4 at 0, 1/3, 2/3, 1 of a stroke 30 long: pixels where the place is just that have that width."""
    group = replace(strokes((0, 10.5, 30, 10.5, 1, 0)), widths=np.array([[2, 5, 3, 4]], np.float32))
    image = coverage(group, 21, 30)
    assert image[:, 9:11].sum(0).mean() == pytest.approx(10, abs=0.1)
    assert image[:, 19:21].sum(0).mean() == pytest.approx(6, abs=0.1)


def test_the_colour_by_hand():
    """On the axis a stroke shows its texture; at its edges, with light from above of strength 0.3, a horizontal stroke
    is 0.3 lighter at its upper edge and 0.3 darker at its lower, and both lose 0.2 for being round."""
    atlas = np.full((1, *TEXTURE, 3), 100, np.float32)
    group, image = strokes((-9, 5.5, 30, 5.5, 5, 0)), np.zeros((11, 20, 3), np.float32)
    paint(image, group, rasterize(group, 11, 20), atlas, np.array((0, -0.3), np.float32))
    assert image[5, 10] == pytest.approx(100)
    assert image[1, 10] == pytest.approx(100 * (1 + 0.3 * 0.8 - 0.2 * 0.64), rel=1e-5)
    assert image[9, 10] == pytest.approx(100 * (1 - 0.3 * 0.8 - 0.2 * 0.64), rel=1e-5)


def test_thin_strokes_fade():
    """A line a tenth of a pixel thick darkens a row of pixels by a tenth in sum, wherever it lies."""
    for y in (5.5, 5.8, 6.0):
        assert coverage(strokes((2, y, 18, y, 0.05, 0)), 12, 20)[:, 10].sum() == pytest.approx(0.1, abs=0.02)


def test_painting_equals_painting_one_by_one():
    """The deferred painter gives what painting stroke after stroke gives, translucent and soft strokes included."""
    random = np.random.default_rng(0)
    ends, rest = random.uniform(-5, 45, (40, 4)), np.stack((random.uniform(0.2, 6, 40), random.integers(0, 3, 40)), 1)
    group = strokes(*np.concatenate((ends, rest), 1))
    group = replace(
        group, alpha=random.choice((0.3, 1.0), 40).astype(np.float32), soft=random.choice((1, 4), 40).astype(np.float32)
    )
    atlas = random.uniform(0, 255, (3, *TEXTURE, 3)).astype(np.float32)
    light = np.array((0.2, -0.1), np.float32)
    fragments = rasterize(group, 30, 40)
    fast = np.full((30, 40, 3), 50, np.float32)
    slow = fast.copy()
    paint(fast, group, fragments, atlas, light)
    colours = _colours(group, fragments, atlas, light)
    for pixel, colour, part in zip(fragments.pixels, colours, fragments.coverage, strict=True):
        slow.reshape(-1, 3)[pixel] += (colour - slow.reshape(-1, 3)[pixel]) * part
    assert np.abs(fast - slow).max() < 1e-3
    assert np.abs(fast - 50).max() > 100


def test_rasterizing_looks_at_every_pixel():
    """No pixel within a stroke is missed, whatever its slope: against the distance at each pixel of the frame."""
    random = np.random.default_rng(1)
    y, x = np.mgrid[:30, :40] + 0.5
    for x1, y1, x2, y2 in random.uniform(-5, 45, (60, 4)).astype(np.float32):
        dx, dy = x2 - x1, y2 - y1
        t = np.clip(((x - x1) * dx + (y - y1) * dy) / (dx * dx + dy * dy), 0, 1)
        depth = 2.5 - np.hypot(x - x1 - t * dx, y - y1 - t * dy)
        expected = np.clip(depth + 0.5, 0, 1)
        found = coverage(strokes((x1, y1, x2, y2, 2.5, 0)), 30, 40)
        assert np.abs(found - np.where(expected > FAINT, expected, 0)).max() < 5e-3


def test_painting_refuses_a_copy():
    image = np.zeros((4, 5, 3), np.float32).transpose(1, 0, 2)
    group = strokes((0, 0, 3, 3, 1, 0))
    with pytest.raises(ValueError, match="contiguous"):
        paint(image, group, rasterize(group, 5, 4), np.zeros((1, *TEXTURE, 3), np.float32), np.zeros(2, np.float32))
