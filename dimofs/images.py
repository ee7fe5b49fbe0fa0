"""Still images, read by image decoders only, upright as their EXIF orientation says.

A file is recognized by its first bytes, not by its name, and decoded from memory: neither its name nor its content can
make FFmpeg open anything else.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext

from dimofs.cli import InputError
from dimofs.containers import count_tiles, picture_stream
from dimofs.pixels import Orientation, orientation_of_exif, orientation_of_frame, rgb, tiff_tags

# FFmpeg's decoders by the first bytes of a file. WebP and the formats of `_CONTAINERS` need a closer look.
DECODERS = {
    b"\xff\xd8\xff": "mjpeg",
    b"\x89PNG\r\n\x1a\n": "png",
    b"BM": "bmp",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"P1": "pbm",
    b"P2": "pgm",
    b"P3": "ppm",
    b"P4": "pbm",
    b"P5": "pgm",
    b"P6": "ppm",
    b"P7": "pam",
    b"PF": "pfm",
    b"Pf": "pfm",
}
# Brands of the file type box of AVIF and HEIC.
HEIF_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"heif", b"hevc", b"mif1", b"msf1")
TIFF_COMPRESSION_TAG = 0x0103
TIFF_JPEG = (6, 7)
PNG_HEADER_BYTES = 8
JPEG_SCAN, JPEG_END, GIF_END = b"\xff\xda", b"\xff\xd9", b";"


def read_image(path: str | Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """[H, W, 3] uint8 RGB, upright.

    size: the (height, width) that an annotation file states for the image, which decides what its labels mean. If only
    the stored pixels have this size and the upright ones do not, the labels refer to the stored pixels, and these are
    returned.
    InputError: the file is absent, damaged, animated, made of tiles, of an unknown kind, or of another size.
    """
    pixels, orientation = _decoded(_content(Path(path)), str(path))
    upright = orientation.apply(pixels)
    if size is None or upright.shape[:2] == tuple(size):
        return upright
    if pixels.shape[:2] == tuple(size):
        return np.ascontiguousarray(pixels)
    height, width = upright.shape[:2]
    raise InputError(
        f"{path}: has {width} x {height} pixels, its annotations say {size[1]} x {size[0]}; "
        "give the images that were annotated"
    )


def decode_image(content: bytes, name: str) -> np.ndarray:
    """The same for the bytes of an image file; messages call it `name`."""
    pixels, orientation = _decoded(content, name)
    return orientation.apply(pixels)


def is_animated(path: Path) -> bool:
    """Whether the file is an animated PNG or AVIF or a GIF: a video, whatever its suffix says."""
    try:
        with path.open("rb") as file:
            head = file.read(1 << 16)
    except (OSError, ValueError):
        return False
    if head[:4] == b"GIF8":
        return True
    if head.startswith(b"\x89PNG"):
        return any(kind == b"acTL" for kind, _ in _png_chunks(head))
    return head[4:12] == b"ftypavis"


def _content(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise InputError(f"{path}: no such image file")
        return path.read_bytes()
    except (OSError, MemoryError, ValueError) as error:
        raise _unreadable(str(path), error) from error


def _unreadable(name: str, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return InputError(f"{name}: cannot be read as an image ({reason})")


def _decoded(content: bytes, name: str) -> tuple[np.ndarray, Orientation]:
    """The pixels as stored and how to show them."""
    try:
        if _ends_early(content):
            raise InputError(f"{name}: cannot be read as an image (it ends early); download or copy it again")
        if content[:4] == b"GIF8":
            return _from_container(name, content, "gif")
        if content[4:8] == b"ftyp" and content[8:12] in HEIF_BRANDS:
            return _from_container(name, content, "mov")
        return _from_decoder(name, content)
    except (OSError, FFmpegError, MemoryError, ValueError) as error:
        raise _unreadable(name, error) from error


def _ends_early(content: bytes) -> bool:
    """Whether a JPEG or GIF file lacks its end, which FFmpeg's decoders fill in without a word.

    The data of a JPEG scan holds neither of the two markers, so the end must come after the last scan's start.
    """
    if content.startswith(b"\xff\xd8"):
        return content.rfind(JPEG_END) < content.rfind(JPEG_SCAN)
    return content[:4] == b"GIF8" and not content.rstrip(b"\0\r\n").endswith(GIF_END)


def _from_decoder(name: str, content: bytes) -> tuple[np.ndarray, Orientation]:
    decoder = _decoder(content)
    if decoder is None:
        raise InputError(f"{name}: not an image of a known kind; give a JPEG, PNG, WebP, TIFF, BMP or PPM")
    if _animation(content, decoder):
        raise InputError(f"{name}: is an animation, not one image; give its frames as single images, or a video")
    codec = av.CodecContext.create(decoder, "r")
    assert isinstance(codec, VideoCodecContext)
    frames = [*codec.decode(av.Packet(content)), *codec.decode(None)]
    if not frames:
        raise InputError(f"{name}: cannot be read as an image (nothing decodes)")
    pixels = rgb(frames[0])
    if decoder == "tiff" and tiff_tags(content).get(TIFF_COMPRESSION_TAG) in TIFF_JPEG and not pixels.any():
        raise InputError(f"{name}: is a JPEG within a TIFF, which cannot be decoded; convert it to JPEG or PNG")
    return pixels, orientation_of_exif(_exif(content, decoder))


def _from_container(name: str, content: bytes, format: str) -> tuple[np.ndarray, Orientation]:
    """The only frame of an AVIF, HEIC or GIF file."""
    with av.open(io.BytesIO(content), "r", format=format, metadata_errors="replace") as container:
        if tiles := count_tiles(container):
            raise InputError(f"{name}: is made of {tiles} tiles, which are not joined here; convert it to JPEG")
        frames = container.decode(picture_stream(container))
        frame = next(frames, None)
        if frame is None:
            raise InputError(f"{name}: cannot be read as an image (nothing decodes)")
        if next(frames, None) is not None:
            raise InputError(f"{name}: is an animation, not one image; give its frames as single images, or a video")
        return rgb(frame), orientation_of_frame(frame)


def _decoder(content: bytes) -> str | None:
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "webp"
    return next((name for start, name in DECODERS.items() if content.startswith(start)), None)


def _animation(content: bytes, name: str) -> bool:
    if name == "png":
        return any(kind == b"acTL" for kind, _ in _png_chunks(content))
    return name == "webp" and any(kind == b"ANIM" for kind, _ in _webp_chunks(content))


def _exif(content: bytes, name: str) -> bytes:
    """The EXIF data of an image, from its TIFF header on; a TIFF file is its own."""
    if name == "tiff":
        return content
    if name == "png":
        return next((data for kind, data in _png_chunks(content) if kind == b"eXIf"), b"")
    if name == "webp":
        data = next((data for kind, data in _webp_chunks(content) if kind == b"EXIF"), b"")
        return data.removeprefix(b"Exif\0\0")
    if name == "mjpeg":
        found = (data for kind, data in _jpeg_segments(content) if kind == 0xE1 and data.startswith(b"Exif\0"))
        return next(found, b"")[6:]
    return b""


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and data of each chunk; the data of the picture itself is left out."""
    at = PNG_HEADER_BYTES
    while at + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        yield kind, b"" if kind == b"IDAT" else content[at + 8 : at + 8 + length]
        at += length + 12


def _webp_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    while at + 8 <= len(content):
        kind, length = struct.unpack_from("<4sI", content, at)
        yield kind, content[at + 8 : at + 8 + length] if kind == b"EXIF" else b""
        at += 8 + length + length % 2


def _jpeg_segments(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and data of each segment before the compressed picture."""
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker, length = struct.unpack_from(">xBH", content, at)
        if marker == 0xFF:
            # A fill byte before the marker.
            at += 1
            continue
        if marker == 0xDA:
            return
        yield marker, content[at + 4 : at + 2 + length]
        at += 2 + max(length, 2)
