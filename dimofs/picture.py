"""`Picture`: an image that has been drawn, to be saved, shown in a notebook or a window, or used as an array."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext

from dimofs.cli import InputError
from dimofs.files import replacing

# FFmpeg's encoder and pixel format for each ending of a file's name.
ENCODERS = {".png": ("png", "rgb24"), ".jpg": ("mjpeg", "yuvj444p"), ".jpeg": ("mjpeg", "yuvj444p")}
# FFmpeg's scale of a JPEG's quality goes from 2, the best, to 31.
JPEG_QUALITY = "2"


@dataclass(frozen=True, eq=False)
class Picture:
    """pixels: [H, W, 3] uint8 RGB."""

    pixels: np.ndarray

    def save(self, path: str | Path) -> None:
        """Write a PNG or a JPEG, as the name's ending says. InputError: another ending, or it cannot be written."""
        path = Path(path)
        if path.suffix.lower() not in ENCODERS:
            raise InputError(f"{path}: pictures are written as {', '.join(ENCODERS)}; end the name in one of these")
        with replacing(path) as temporary:
            temporary.write_bytes(encoded(self.pixels, path.suffix.lower()))

    def show(self) -> None:
        """Open a window with the picture and wait until it is closed. InputError: there is no display."""
        from dimofs.window import Window

        with Window("dimofs") as window:
            window.show(self.pixels)
            window.wait()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.pixels, dtype=dtype, copy=copy)

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        return png(self.pixels)


def png(image: np.ndarray) -> bytes:
    """[H, W, 3] uint8 RGB as a PNG file."""
    return encoded(image, ".png")


def encoded(image: np.ndarray, ending: str) -> bytes:
    """[H, W, 3] uint8 RGB as the content of a file with one of the endings of `ENCODERS`."""
    name, pixel_format = ENCODERS[ending]
    codec = av.CodecContext.create(name, "w")
    assert isinstance(codec, VideoCodecContext)
    codec.height, codec.width, _ = image.shape
    codec.pix_fmt, codec.time_base = pixel_format, Fraction(1)
    if name == "mjpeg":
        codec.options = {"qmin": JPEG_QUALITY, "qmax": JPEG_QUALITY}
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
    if pixel_format != "rgb24":
        frame = frame.reformat(format=pixel_format, dst_colorspace="ITU601", dst_color_range="JPEG")
    return b"".join(map(bytes, [*codec.encode(frame), *codec.encode(None)]))
