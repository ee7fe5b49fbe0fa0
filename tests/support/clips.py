"""Tiny videos and images, made on the spot."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream

from dimofs.picture import png


def picture(number: int, height: int = 48, width: int = 64) -> np.ndarray:
    """[H, W, 3] uint8: a red upper left quarter on grey whose brightness (16, and 5 more a frame) tells the number."""
    image = np.full((height, width, 3), 16 + 5 * number, dtype=np.uint8)
    image[: height // 2, : width // 2] = (255, 0, 0)
    return image


def number(image: np.ndarray) -> int:
    """The number of a picture, from its lower right pixel."""
    return round((float(image[-1, -1].mean()) - 16) / 5)


def write_cut(path: Path, height: int = 48, width: int = 64) -> Path:
    """The first half of the file of a video of 24 frames of noise."""
    noise = np.random.default_rng(0).integers(0, 255, (24, height, width, 3), dtype=np.uint8)
    whole = write_video(path, list(noise)).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


def write_video(
    path: Path,
    images: Sequence[np.ndarray],
    times: Sequence[float] | None = None,
    rate: int = 25,
    rotation: int = 0,
    key_every: int = 12,
    codec: str = "libx264",
    mirrored: bool = False,
    aspect: Fraction | None = None,
    title: str = "",
) -> Path:
    """A video of these images.

    times: in seconds, for a variable rate. rotation: counterclockwise for display, before `mirrored` left to right.
    aspect: of a pixel.
    """
    options = {"crf": "5", "bf": "0", "sc_threshold": "0"} if codec == "libx264" else {"qmin": "1", "qmax": "2"}
    faststart = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=faststart) as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, _ = images[0].shape
        stream.pix_fmt = "yuv420p" if not (stream.height % 2 or stream.width % 2) else "yuv444p"
        stream.codec_context.gop_size = key_every
        stream.codec_context.time_base = Fraction(1, 1000) if times else Fraction(1, rate)
        if rotation or mirrored:
            stream.set_display_rotation(rotation, hflip=mirrored)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if title:
            container.metadata["title"] = title
        for i, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = i if times is None else round(1000 * times[i])
            frame.time_base = stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_clip(path: Path, frames: int = 10, **settings) -> Path:
    """A video of the pictures 0 to `frames` - 1."""
    return write_video(path, [picture(i) for i in range(frames)], **settings)


def write_image(path: Path, image: np.ndarray) -> Path:
    """A PNG."""
    path.write_bytes(png(image))
    return path
