"""Opening the containers of videos: nothing outside the file's own folder is read, and one stream is the picture."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import IO, Any

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

# FFmpeg's disposition of a stream that is a part of a picture.
DEPENDENT = 1 << 19
# What a file on disk may make FFmpeg open: other files, which `_open_beside` confines to its folder, and no network.
FILE_PROTOCOLS = "file,crypto,data"
READ_BYTES = 1 << 18


def open_file(path: Path) -> InputContainer:
    """The container of a file on disk.

    It is opened as a file object, so that nothing in its name means anything to FFmpeg and names need not be UTF-8.
    Titles and comments may be in any encoding. OSError, ValueError or FFmpegError: it cannot be opened.
    """
    file = path.open("rb")
    try:
        return av.open(
            file,
            "r",
            options={"protocol_whitelist": FILE_PROTOCOLS},
            metadata_errors="replace",
            buffer_size=READ_BYTES,
            io_open=partial(_open_beside, path.parent.resolve()),
        )
    except BaseException:
        file.close()
        raise


def _open_beside(folder: Path, url: str, flags: int, options: dict[str, str]) -> IO[bytes]:
    """A file that a playlist names, if it lies in the playlist's folder. PermissionError: it does not."""
    path = Path(url.removeprefix("file:")).resolve()
    if re.match(r"(?!file:)[A-Za-z][A-Za-z0-9+.-]*:", url) or not path.is_relative_to(folder):
        raise PermissionError(f"{url}: outside the folder of the file that names it")
    return path.open("rb")


def count_tiles(container: InputContainer) -> int:
    """How many tiles the picture of an AVIF or HEIC file is made of; 0 if it is whole. FFmpeg lists each as stream."""
    return sum(bool(stream.disposition.value & DEPENDENT) for stream in container.streams.video)


def picture_stream(container: InputContainer) -> VideoStream:
    """The stream to show of a container: the one marked as default, of an animated AVIF the one with all frames.

    Covers of songs are passed over. LookupError: there is no other.
    """
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    # FFmpeg would show any text as a terminal.
    if not streams or container.format.name == "tty":
        raise LookupError("holds no video")
    default = [s for s in streams if s.disposition & Disposition.default] or streams
    # An animated AVIF marks both its first frame, as a picture, and its film as default.
    animated = [s for s in default if s.frames > 1] if default[0].frames == 1 else []
    return (animated or default)[0]


def fraction(value: Any) -> Fraction | None:
    """One of PyAV's rational numbers, which are Fractions or, from version 19 on, a type of its own; None if unset."""
    return Fraction(value.numerator, value.denominator) if value else None
