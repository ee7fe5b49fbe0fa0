"""A sheet of the frames that a recognizer looked at: the person's box, and joints by what they say for the label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from dimofs.lettering import write_label
from dimofs.zoo.recognition.recognizer import Recognition

# The most frames of a sheet, how many stand beside one another, and the width of each in pixels.
FRAMES, COLUMNS, WIDTH = 6, 3, 320
# Colours of joints that speak against the label, say nothing, and speak for it; and of the box and the letters' plate.
AGAINST, NEUTRAL, FOR, PLATE = (40, 90, 255), (255, 255, 255), (255, 50, 30), (250, 220, 90)
RADIUS = 3


def sheet(found: Recognition, rows: Sequence[int], frames: Mapping[int, np.ndarray], title: str) -> np.ndarray:
    """[H, W, 3] uint8: the frames of some rows of the subject, in order, with the title on the first.

    frames: [h, w, 3] uint8, by the subject's numbers.
    """
    largest = max(float(found.joints.abs().max()), 1e-9)
    tiles = []
    for place, row in enumerate(rows):
        number = int(found.subject.numbers[row])
        tile, scale = _reduced(frames[number])
        _outline(tile, found.subject.boxes[row] * found.subject.to_frame.repeat(2) * scale)
        points = found.subject.joints[row] * found.subject.to_frame * scale
        for (x, y), weight in zip(points.tolist(), (found.joints[row] / largest).tolist(), strict=True):
            _dot(tile, x, y, _tint(weight))
        write_label(tile, 0, tile.shape[0], f"frame {number}: {100 * float(found.frames[row]):+.1f}", PLATE)
        if not place:
            write_label(tile, 0, 0, title, PLATE)
        tiles.append(tile)
    return _grid(tiles)


def _reduced(image: np.ndarray) -> tuple[np.ndarray, float]:
    """The image at the width of a tile, and the scale."""
    scale = WIDTH / image.shape[1]
    size = max(1, round(image.shape[0] * scale)), WIDTH
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
    small = F.interpolate(pixels, size, mode="bilinear", antialias=True, align_corners=False)
    return small[0].permute(1, 2, 0).round().clamp(0, 255).byte().contiguous().numpy(), scale


def _outline(image: np.ndarray, box: torch.Tensor) -> None:
    """Draw a box, inside the image."""
    height, width = image.shape[:2]
    x1, y1, x2, y2 = (round(x) for x in box.tolist())
    x1, x2 = (min(max(x, 0), width - 1) for x in (x1, x2))
    y1, y2 = (min(max(y, 0), height - 1) for y in (y1, y2))
    image[[y1, y2], x1 : x2 + 1] = PLATE
    image[y1 : y2 + 1, [x1, x2]] = PLATE


def _tint(weight: float) -> np.ndarray:
    """The colour of a weight from -1 (against) over 0 to 1 (for)."""
    end = np.array(FOR if weight > 0 else AGAINST, float)
    return (np.array(NEUTRAL) + abs(weight) * (end - np.array(NEUTRAL))).round().astype(np.uint8)


def _dot(image: np.ndarray, x: float, y: float, colour: np.ndarray) -> None:
    """A dot with a dark rim."""
    rows, columns = np.ogrid[: image.shape[0], : image.shape[1]]
    distance = np.hypot(columns + 0.5 - x, rows + 0.5 - y)
    image[distance <= RADIUS + 1] = 0
    image[distance <= RADIUS] = colour


def _grid(tiles: Sequence[np.ndarray]) -> np.ndarray:
    """Tiles of one size in rows of COLUMNS, black where there are none."""
    columns = min(COLUMNS, len(tiles))
    height, width = tiles[0].shape[:2]
    grid = np.zeros((-(-len(tiles) // columns) * height, columns * width, 3), np.uint8)
    for place, tile in enumerate(tiles):
        row, column = divmod(place, columns)
        grid[row * height : (row + 1) * height, column * width : (column + 1) * width] = tile
    return grid
