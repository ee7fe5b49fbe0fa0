"""Flow fields as pictures: the direction is a hue of Middlebury's colour wheel, the length its saturation.

The wheel (Baker et al., 2011) has 55 hues, spaced so that neighbouring ones are about equally easy to tell apart: red
at motion to the right (wheel angle 0), then, as the direction turns clockwise on the screen, yellow, green, cyan, blue
and magenta. No motion is white; motion at or beyond `scale` is darkened.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

# Hues from one corner of the RGB cube to the next: red, yellow, green, cyan, blue, magenta and back to red.
STEPS = (15, 6, 4, 11, 13, 6)
CORNERS = ((1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 1), (1, 0, 0))
# Colours of motion beyond the scale are multiplied by this.
BEYOND = 0.75


@lru_cache(maxsize=1)
def wheel() -> np.ndarray:
    """[55, 3] float, RGB in 0..1 of each hue."""
    parts = []
    for count, start, end in zip(STEPS, CORNERS[:-1], CORNERS[1:], strict=True):
        part = np.arange(count)[:, None] / count
        parts.append((1 - part) * np.array(start) + part * np.array(end))
    return np.concatenate(parts)


def flow_colours(flow: np.ndarray, scale: float) -> np.ndarray:
    """A field [2, H, W], (dx, dy) -> RGB [H, W, 3] uint8. scale: the length shown with full saturation; unknown (NaN)
    is black."""
    colours = wheel()
    dx, dy = np.nan_to_num(flow.astype(np.float64) / max(scale, 1e-9))
    length = np.hypot(dx, dy)[..., None]
    place = (np.arctan2(-dy, -dx) / np.pi + 1) / 2 * (len(colours) - 1)
    low = np.floor(place).astype(int)
    part = (place - low)[..., None]
    hue = (1 - part) * colours[low] + part * colours[(low + 1) % len(colours)]
    rgb = np.where(length <= 1, 1 - length * (1 - hue), hue * BEYOND)
    rgb = np.where(np.isfinite(flow[0] + flow[1])[..., None], rgb, 0)
    return np.floor(255 * rgb).astype(np.uint8)


def legend(side: int) -> np.ndarray:
    """The wheel as a picture [side, side, 3] uint8: each direction from the centre in the colour of motion that way,
    full saturation at the rim, white outside."""
    places = (np.arange(side) + 0.5) * 2 / side - 1
    dx, dy = np.meshgrid(places, places)
    picture = flow_colours(np.stack((dx, dy)), 1.0)
    picture[np.hypot(dx, dy) > 1] = 255
    return picture


def tinted(image: np.ndarray, flow: np.ndarray, scale: float) -> np.ndarray:
    """A copy of a frame [H, W, 3] uint8 with motion [2, h, w], which covers it, drawn over it.

    Pixels at rest stay, faster ones take the colour of their motion, entirely from `scale` on. A wheel in the lower
    right corner is the legend. The motion may have fewer pixels than the frame; its colours are then enlarged.
    """
    length = np.nan_to_num(np.hypot(*flow))[..., None]
    hidden = np.clip(length / max(scale, 1e-9), 0, 1)
    colours = flow_colours(flow / np.maximum(length[..., 0], 1e-9), 1 + 1e-6)
    layer = torch.from_numpy(np.concatenate((hidden * colours, hidden), axis=2, dtype=np.float32)).permute(2, 0, 1)
    if layer.shape[1:] != image.shape[:2]:
        layer = F.interpolate(layer[None], image.shape[:2], mode="bilinear")[0]
    blended = torch.from_numpy(image).permute(2, 0, 1) * (1 - layer[3]) + layer[:3]
    picture = blended.round().byte().permute(1, 2, 0).contiguous().numpy()
    side = min(image.shape[:2]) // 5
    if side > 8:
        corner = legend(side)
        disc = (corner != 255).any(2, keepdims=True)
        picture[-side:, -side:] = np.where(disc, corner, picture[-side:, -side:])
    return picture


def magnitude_colours(magnitude: np.ndarray, scale: float) -> np.ndarray:
    """A map [H, W] >= 0 -> RGB [H, W, 3] uint8, black through red and yellow to white at `scale` and beyond."""
    value = np.clip(np.nan_to_num(magnitude) / max(scale, 1e-9), 0, 1)[..., None]
    return np.rint(255 * np.clip(3 * value - np.array([0, 1, 2]), 0, 1)).astype(np.uint8)


def common_scale(*fields: np.ndarray, share: float = 0.99) -> float:
    """The length that this share of the known pixels of all fields [2, H, W] stays below; at least 1."""
    lengths = np.concatenate([np.hypot(*field).ravel() for field in fields])
    lengths = lengths[np.isfinite(lengths)]
    return max(1.0, float(np.quantile(lengths, share))) if len(lengths) else 1.0
