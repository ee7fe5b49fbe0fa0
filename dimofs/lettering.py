"""Short labels written into frames: capitals and digits of 5 x 7 pixels, enlarged. NumPy only."""

from __future__ import annotations

import numpy as np

from dimofs.drawing import GLYPHS

# A letter has 5 x 7 pixels: one number per row, its highest bit the leftmost pixel. Other characters are blank.
LETTERS = {
    "A": (14, 17, 17, 31, 17, 17, 17), "B": (30, 17, 17, 30, 17, 17, 30), "C": (14, 17, 16, 16, 16, 17, 14),
    "D": (30, 17, 17, 17, 17, 17, 30), "E": (31, 16, 16, 30, 16, 16, 31), "F": (31, 16, 16, 30, 16, 16, 16),
    "G": (14, 17, 16, 23, 17, 17, 15), "H": (17, 17, 17, 31, 17, 17, 17), "I": (14, 4, 4, 4, 4, 4, 14),
    "J": (7, 2, 2, 2, 2, 18, 12), "K": (17, 18, 20, 24, 20, 18, 17), "L": (16, 16, 16, 16, 16, 16, 31),
    "M": (17, 27, 21, 21, 17, 17, 17), "N": (17, 25, 21, 19, 17, 17, 17), "O": (14, 17, 17, 17, 17, 17, 14),
    "P": (30, 17, 17, 30, 16, 16, 16), "Q": (14, 17, 17, 17, 21, 18, 13), "R": (30, 17, 17, 30, 20, 18, 17),
    "S": (15, 16, 16, 14, 1, 1, 30), "T": (31, 4, 4, 4, 4, 4, 4), "U": (17, 17, 17, 17, 17, 17, 14),
    "V": (17, 17, 17, 17, 17, 10, 4), "W": (17, 17, 17, 21, 21, 21, 10), "X": (17, 17, 10, 4, 10, 17, 17),
    "Y": (17, 17, 17, 10, 4, 4, 4), "Z": (31, 1, 2, 4, 8, 16, 31), ".": (0, 0, 0, 0, 0, 12, 12),
    "-": (0, 0, 0, 31, 0, 0, 0), "%": (24, 25, 2, 4, 8, 19, 3),
} | {str(digit): rows for digit, rows in enumerate(GLYPHS)}  # fmt: skip
BLANK = (0,) * 7


def lettering(text: str, scale: int = 1) -> np.ndarray:
    """The text as a mask [9 scale, (6 len + 1) scale] bool with a margin of one pixel; small letters become
    capitals."""
    rows = np.array([LETTERS.get(letter, BLANK) for letter in text.upper()], np.uint8).reshape(-1, 7)
    bits = np.unpackbits(rows[..., None], axis=-1)[..., 3:].astype(bool)
    cells = np.pad(bits, ((0, 0), (1, 1), (1, 0)))
    mask = np.pad(cells.transpose(1, 0, 2).reshape(9, -1), ((0, 0), (0, 1)))
    return mask.repeat(scale, axis=0).repeat(scale, axis=1)


def write_label(image: np.ndarray, x: float, y: float, text: str, colour: tuple[int, int, int]) -> None:
    """Write `text` in black on `colour` into `image` [H, W, 3] uint8, in place, its lower left corner at (x, y).

    The label is moved into the image; what does not fit is cut off.
    """
    mask = lettering(text, max(1, round(max(image.shape[:2]) / 400)))
    height, width = mask.shape
    top = int(np.clip(round(y) - height, 0, max(0, image.shape[0] - height)))
    left = int(np.clip(round(x), 0, max(0, image.shape[1] - width)))
    part = image[top : top + height, left : left + width]
    shown = mask[: part.shape[0], : part.shape[1], None]
    part[:] = np.where(shown, np.uint8(0), np.array(colour, np.uint8))
