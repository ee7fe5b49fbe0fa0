"""Videos whose frames carry their own number, in every container and codec that FFmpeg writes here."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream

BITS = 8
RATE = 25
HEIGHT, WIDTH = 64, 96
FIRST = 37
KEY_EVERY = 10


def numbered(number: int) -> np.ndarray:
    """[64, 96, 3] uint8: on grey, a bar for each bit of the number, white for 1 and black for 0."""
    image = np.full((HEIGHT, WIDTH, 3), 90, dtype=np.uint8)
    bar = WIDTH // BITS
    for bit in range(BITS):
        image[HEIGHT // 4 : 3 * HEIGHT // 4, bit * bar : (bit + 1) * bar] = 235 if number >> bit & 1 else 20
    return image


def number_of(image: np.ndarray) -> int:
    """The number that a frame carries."""
    height, width, _ = image.shape
    bars = image[3 * height // 8 : 5 * height // 8].mean(axis=(0, 2)).reshape(BITS, width // BITS)
    middle = bars[:, width // BITS // 4 : -(width // BITS // 4)].mean(axis=1)
    return int(((middle > 128) << np.arange(BITS)).sum())


@dataclass(frozen=True)
class Kind:
    """How to write a video. cut: hide the frames before this one by an edit list, as cutting without encoding does."""

    name: str
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    options: dict[str, str] = field(default_factory=dict)
    container: dict[str, str] = field(default_factory=dict)
    cut: int = 0


B_FRAMES = {"bf": "3"}
X265 = {"x265-params": "log-level=none"}
ALT_REF = {"auto-alt-ref": "1", "lag-in-frames": "16", "arnr-maxframes": "5", "arnr-strength": "5", "b": "200000"}
KINDS = (
    Kind("plain.mp4"),
    Kind("b.mp4", options=B_FRAMES),
    Kind("cut.mp4", options=B_FRAMES, cut=16),
    Kind("fragmented.mp4", options=B_FRAMES, container={"movflags": "frag_keyframe+empty_moov"}),
    Kind("hevc.mp4", "libx265", options=X265),
    Kind("cut_hevc.mp4", "libx265", options=X265, cut=16),
    Kind("open_gop.mp4", options=B_FRAMES | {"x264-params": "open-gop=1"}),
    Kind("b.mov", options=B_FRAMES),
    Kind("prores.mov", "prores_ks", "yuv422p10le"),
    Kind("b.mkv", options=B_FRAMES),
    Kind("mpeg4.mkv", "mpeg4", options={"bf": "2"}),
    Kind("vp8.webm", "libvpx", options=ALT_REF),
    Kind("vp9.webm", "libvpx-vp9", options=ALT_REF | {"cpu-used": "8"}),
    Kind("b.ts", options=B_FRAMES),
    Kind("mpeg2.ts", "mpeg2video", options={"bf": "2"}),
    Kind("mpeg4.avi", "mpeg4"),
    Kind("mpeg4_b.avi", "mpeg4", options={"bf": "2"}),
    Kind("h264.avi", options=B_FRAMES),
    Kind("mjpeg.avi", "mjpeg", "yuvj420p"),
    Kind("flv1.flv", "flv"),
    Kind("h264.flv", options=B_FRAMES),
    Kind("mpeg2.mpg", "mpeg2video", options={"bf": "2"}),
    Kind("x.gif", "gif", "rgb8"),
    Kind("x.apng", "apng", "rgb24"),
    Kind("x.h264", options=B_FRAMES),
    Kind("x.hevc", "libx265", options=X265),
    Kind("x.y4m", "wrapped_avframe"),
    Kind("wmv2.wmv", "wmv2"),
    Kind("mpeg2.wmv", "mpeg2video", options={"bf": "2"}),
    Kind("h264.wmv", options=B_FRAMES),
)


def write_numbered(path: Path, kind: Kind, frames: int) -> Path:
    """A video that shows the numbers FIRST to FIRST + `frames` - 1, 25 a second."""
    hidden = kind.cut
    with av.open(str(path), "w", options=kind.container) as container:
        stream = container.add_stream(kind.codec, rate=RATE, options=kind.options)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, kind.pix_fmt
        stream.codec_context.gop_size = KEY_EVERY
        for i in range(hidden + frames):
            frame = av.VideoFrame.from_ndarray(numbered(FIRST - hidden + i), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    if hidden:
        cut(path, hidden)
    return path


def cut(path: Path, frames: int) -> None:
    """Copy the packets of an mp4 with timestamps such that the first `frames` frames come before 0: an edit list."""
    whole = path.with_suffix(".whole.mp4")
    path.rename(whole)
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        assert stream.time_base
        shift = round(Fraction(frames, RATE) / stream.time_base)
        for packet in source.demux(stream):
            if packet.pts is not None and packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copy
                target.mux(packet)
    whole.unlink()
