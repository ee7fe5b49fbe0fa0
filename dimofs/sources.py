"""What inputs name: video files, images, folders, globs, webcams and URLs."""

from __future__ import annotations

import glob
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from dimofs.cli import InputError

IMAGES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
VIDEOS = (
    ".3gp", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts",
    ".webm", ".wmv", ".y4m",
)  # fmt: skip
OWN = (".poses.mp4", ".poses.png")  # overlays of earlier runs, which folders and globs pass over
WEBCAMS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}")}


@dataclass(frozen=True)
class Source:
    """What an input names: a video, or images in the order of their names as a clip.

    text: how messages call it. name, folder: what outputs are called and where they go unless told otherwise.
    address: what FFmpeg opens. format: FFmpeg's name of a capture device.
    """

    text: str
    name: str
    folder: Path
    address: str = ""
    format: str | None = None
    images: tuple[Path, ...] = ()

    @property
    def live(self) -> bool:
        """Whether it runs until it is stopped: a webcam."""
        return self.format is not None

    @property
    def still(self) -> bool:
        """Whether it is one image."""
        return len(self.images) == 1


def sources(text: str) -> list[Source]:
    """The sources that one input names.

    A file is a video or, by its suffix, an image; a number is a webcam; `scheme://` is a URL. In a folder or a glob
    each video is a source, and the images of one folder are together a source with the folder's name.
    InputError: nothing is there.
    """
    path = Path(text)
    if text.isdigit() and not path.exists():
        return [_webcam(int(text))]
    if "://" in text:
        return [_url(text)]
    if path.is_dir():
        return _gathered(text, path.iterdir())
    if path.exists():
        return [_image(path) if path.suffix.lower() in IMAGES else _video(path)]
    if glob.has_magic(text):
        return _gathered(text, map(Path, glob.glob(text, recursive=True)))
    raise InputError(f"{text}: no such file; give a video, an image, a folder, a glob, a webcam's number or a URL")


def _video(path: Path) -> Source:
    return Source(str(path), path.stem, path.parent, f"file:{path}")  # so that a colon in its name is no protocol


def _image(path: Path) -> Source:
    return Source(str(path), path.stem, path.parent, images=(path,))


def _url(text: str) -> Source:
    parts = urlsplit(text)
    return Source(text, Path(parts.path).stem or parts.hostname or "stream", Path(), text)


def _webcam(number: int) -> Source:
    if sys.platform not in WEBCAMS:
        raise InputError(f"{number}: webcams are read on Linux and macOS only; record a file and give that")
    format, address = WEBCAMS[sys.platform]
    return Source(f"webcam {number}", f"webcam{number}", Path(), address.format(number), format)


def _gathered(text: str, paths: Iterable[Path]) -> list[Source]:
    """The videos among these paths, each a source, and the images, a source per folder."""
    found = sorted((p for p in paths if not p.name.endswith(OWN)), key=_natural)
    folders: dict[Path, list[Path]] = {}
    for path in found:
        if path.suffix.lower() in IMAGES:
            folders.setdefault(path.parent, []).append(path)
    clips = [_video(path) for path in found if path.suffix.lower() in VIDEOS]
    clips += [Source(str(f), f.resolve().name, f.parent, images=tuple(images)) for f, images in folders.items()]
    if not clips:
        raise InputError(f"{text}: no video and no image there")
    return clips


def _natural(path: Path) -> list[tuple[bool, int, str]]:
    """A sort key that puts frame2 before frame10."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", str(path))]
