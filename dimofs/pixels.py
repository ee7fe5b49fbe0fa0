"""Decoded frames as upright RGB arrays: colours, and the orientation that a file asks for.

A camera stores pixels as its sensor is held and notes beside them how to show them: photographs in EXIF's orientation
tag, videos in a display matrix. Both can mirror as well as turn, so an angle alone cannot describe them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import av
import numpy as np
import torch
from av.sidedata.sidedata import Type
from torch import Tensor

# FFmpeg's numbers of the two HDR transfer curves (PQ and HLG) and of BT.709 as a curve and as primaries.
HDR_CURVES = (16, 18)
BT709 = 1
EXIF_ORIENTATION_TAG = 0x0112


@dataclass(frozen=True)
class Orientation:
    """How stored pixels are shown: first transposed, then mirrored left to right, then upside down, each if true."""

    transpose: bool = False
    mirror: bool = False
    flip: bool = False

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """[H, W, 3] stored -> [H', W', 3] upright, contiguous; H' and W' are swapped if it transposes."""
        if self.transpose:
            pixels = pixels.swapaxes(0, 1)
        if self.mirror:
            pixels = pixels[:, ::-1]
        if self.flip:
            pixels = pixels[::-1]
        return np.ascontiguousarray(pixels)


AS_STORED = Orientation()
# EXIF's orientations 1 to 8, as (transpose, mirror, flip).
EXIF_ORIENTATIONS = {
    1: AS_STORED,
    2: Orientation(mirror=True),
    3: Orientation(mirror=True, flip=True),
    4: Orientation(flip=True),
    5: Orientation(transpose=True),
    6: Orientation(transpose=True, mirror=True),
    7: Orientation(transpose=True, mirror=True, flip=True),
    8: Orientation(transpose=True, flip=True),
}


def orientation_of_matrix(matrix: tuple[int, ...]) -> Orientation:
    """The orientation of a display matrix [a b u, c d v, x y w]: stored (p, q) is shown at (ap + cq + x, bp + dq + y).

    Angles between multiples of 90 degrees are rounded.
    """
    a, b, _, c, d = matrix[:5]
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(mirror=a < 0, flip=d < 0)
    return Orientation(transpose=True, mirror=c < 0, flip=b < 0)


def orientation_of_frame(frame: av.VideoFrame) -> Orientation:
    """The orientation that a video notes beside its frames."""
    try:
        matrix = frame.side_data.get(Type.DISPLAYMATRIX)  # pyright: ignore[reportCallIssue, reportArgumentType]
    except ValueError:
        # PyAV cannot list the side data of a frame that also has a kind unknown to it (EXIF): the angle has to do.
        turns = round(frame.rotation / 90) % 4
        return EXIF_ORIENTATIONS[(1, 8, 3, 6)[turns]]
    return orientation_of_matrix(struct.unpack("<9i", bytes(matrix))) if matrix else AS_STORED


class Orientations:
    """The orientations of the frames of one stream, which is looked up anew where their angle changes.

    PyAV (18.1) makes a frame whose side data was read refer to itself. It then keeps its pixels, 3 MB at full HD, until
    Python looks for such cycles, which it does after thousands of frames.
    """

    def __init__(self):
        self._known: dict[int, Orientation] = {}

    def __call__(self, frame: av.VideoFrame) -> Orientation:
        if frame.rotation not in self._known:
            self._known[frame.rotation] = orientation_of_frame(frame)
        return self._known[frame.rotation]


def orientation_of_exif(exif: bytes) -> Orientation:
    """The orientation noted in EXIF data (a TIFF header and its first directory); as stored if it notes none."""
    return EXIF_ORIENTATIONS.get(tiff_tags(exif).get(EXIF_ORIENTATION_TAG, 1), AS_STORED)


def tiff_tags(content: bytes) -> dict[int, int]:
    """The short and long tags with one value in a TIFF file's first directory; empty where it is damaged."""
    order = {b"II": "<", b"MM": ">"}.get(content[:2])
    if order is None:
        return {}
    tags = {}
    try:
        (start,) = struct.unpack_from(order + "4xI", content)
        (count,) = struct.unpack_from(order + "H", content, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, length = struct.unpack_from(order + "HHI", content, entry)
            if length == 1 and kind in (3, 4):
                (tags[tag],) = struct.unpack_from(order + ("H" if kind == 3 else "I"), content, entry + 8)
    except struct.error:
        pass
    return tags


def rgb(frame: av.VideoFrame) -> np.ndarray:
    """[H, W, 3] uint8 RGB as stored.

    HDR (PQ or HLG) is mapped to the standard range, as people look washed out otherwise.
    """
    if frame.color_trc in HDR_CURVES:
        frame = frame.reformat(format="rgb24", dst_color_trc=BT709, dst_color_primaries=BT709)
    return frame.to_ndarray(format="rgb24")


def to_tensor(pixels: np.ndarray) -> Tensor:
    """[H, W, 3] -> [3, H, W], contiguous, as data sets give images."""
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
