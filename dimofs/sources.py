"""What inputs name: video files, images, folders, globs, webcams and URLs."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from urllib.parse import urlsplit

from dimofs.cli import InputError
from dimofs.files import check_regular
from dimofs.images import is_animated

IMAGES = (".avif", ".bmp", ".heic", ".heif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
# Suffixes of images that may be animated, which makes them videos.
MAYBE_ANIMATED = (".avif", ".png")
VIDEOS = (
    ".3gp", ".apng", ".avi", ".flv", ".gif", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv",
    ".ts", ".webm", ".wmv", ".y4m",
)  # fmt: skip
# Overlays of earlier runs, which folders and globs pass over: files, and folders of pictures.
OWN = (".poses.mp4", ".poses.png", ".actions.mp4", ".motion.mp4", ".recognition.png")
OWN_FOLDER = ".poses"
WEBCAMS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}")}


@dataclass(frozen=True, kw_only=True)
class Source:
    """What an input names: a video, or images in the order of their names as a clip.

    text: how messages and results call it; always printable, without the user, password and query of a URL.
    name, folder: what outputs are called and where they go unless told otherwise.
    file: the video file; address: what FFmpeg opens where there is no file, a URL or a device.
    format: FFmpeg's name of a capture device. images: the image files.
    """

    text: str
    name: str
    folder: Path
    file: Path | None = None
    address: str = ""
    format: str | None = None
    images: tuple[Path, ...] = ()

    @property
    def live(self) -> bool:
        """Whether it runs until it is stopped: a webcam."""
        return self.format is not None

    @property
    def piped(self) -> bool:
        """Whether it is standard input."""
        return self.address == "pipe:0"

    @property
    def still(self) -> bool:
        """Whether it is one image."""
        return len(self.images) == 1


def sources(text: str) -> list[Source]:
    """The sources that one input names.

    A file is a video or, by its suffix, an image; a number is a webcam; `scheme://` is a URL; `-` is standard input. In
    a folder or a glob each video is a source, and the images of one folder are together a source of its name.
    InputError: nothing is there.
    """
    if text == "-":
        return [Source(text="standard input", name="stdin", folder=Path(), address="pipe:0")]
    path = Path(text)
    try:
        there, folder = path.exists(), path.is_dir()
    except (OSError, ValueError) as error:
        raise InputError(f"{_shortened(text)}: not a usable name ({getattr(error, 'strerror', error)})") from error
    if re.fullmatch(r"[0-9]+", text) and not there:
        return [_webcam(text)]
    if folder:
        return _gathered(text, _listed(path))
    if there:
        check_regular(path)
        return [_image(path) if _is_image(path) else video_source(path)]
    if "://" in text:
        return [_url(text)]
    if glob.has_magic(text):
        return _gathered(text, map(Path, glob.glob(text, recursive=True)))
    raise InputError(
        f"{_shortened(text)}: no such file; give a video, an image, a folder, a glob, a webcam's number or a URL"
    )


def images_below(folder: Path) -> list[Path]:
    """The images in a folder and its subfolders, sorted, without the overlays of earlier runs."""
    names = glob.iglob("**", root_dir=folder, recursive=True, include_hidden=True)
    paths = (folder / name for name in names)
    return sorted((path for path in paths if _is_image(path) and not _is_own(path) and not path.is_dir()), key=_natural)


def run_sources(texts: Sequence[str], prepare: Callable[[], Callable[[Source], None]], out: Path | None = None) -> int:
    """Run over every source that the inputs name, each once; returns the exit status, 2 if one failed.

    prepare: called once there is a source, returns what is called with each. An input or a source with an InputError is
    reported in one line, and the others are still run. out: the folder of all results, None for each source's own; a
    source whose results would take the place of another's is not run.
    """
    owners: dict[Path, Source] = {}
    found, status = list[Source](), 0
    for text in texts:
        try:
            for source in sources(text):
                owner = owners.setdefault((out or source.folder).absolute() / source.name, source)
                if owner is source:
                    found.append(source)
                elif owner != source:
                    report(f"{source.text}: {owner.text} has results of that name; run it apart with another --out")
                    status = 2
        except InputError as fault:
            report(fault)
            status = 2
    if not found:
        return 2
    work = prepare()
    for source in found:
        try:
            work(source)
        except InputError as fault:
            report(fault)
            status = 2
    return status


def report(fault: InputError | str) -> None:
    """Print an error as one line."""
    print(f"error: {' '.join(str(fault).splitlines())}", file=sys.stderr)


def video_source(path: Path) -> Source:
    """A video file as a source, whatever its suffix."""
    return Source(text=printable(path), name=path.stem, folder=path.parent, file=path)


def printable(text: str | Path) -> str:
    """Text for any file and terminal: characters that cannot be written, as of names in no encoding, are escaped."""
    readable = str(text).encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in readable)


def _shortened(text: str) -> str:
    readable = printable(text)
    return readable if len(readable) <= 200 else f"{readable[:100]}...{readable[-50:]}"


def _is_image(path: Path) -> bool:
    suffix = path.suffix.lower()
    return suffix in IMAGES and not (suffix in MAYBE_ANIMATED and is_animated(path))


def _is_video(path: Path) -> bool:
    suffix = path.suffix.lower()
    return suffix in VIDEOS or (suffix in MAYBE_ANIMATED and is_animated(path))


def _image(path: Path) -> Source:
    return Source(text=printable(path), name=path.stem, folder=path.parent, images=(path,))


def _url(text: str) -> Source:
    try:
        parts = urlsplit(text)
        host = parts.netloc.rpartition("@")[2]
    except ValueError as error:
        raise InputError(f"{_shortened(text.partition('://')[0])}://: not a URL ({error})") from error
    # The user, the password and the query may be secrets, which results and messages must not repeat.
    shown = printable(f"{parts.scheme}://{host}{parts.path}")
    name = Path(parts.path).stem or parts.hostname or "stream"
    return Source(text=shown, name=name, folder=Path(), address=text)


def _webcam(number: str) -> Source:
    if sys.platform not in WEBCAMS:
        raise InputError(f"{number}: webcams are read on Linux and macOS only; record a file and give that")
    format, address = WEBCAMS[sys.platform]
    name = _shortened(number)
    return Source(
        text=f"webcam {name}", name=f"webcam{name}", folder=Path(), address=address.format(number), format=format
    )


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise InputError(f"{printable(folder)}: cannot be read ({error.strerror})") from error


def _gathered(text: str, paths: Iterable[Path]) -> list[Source]:
    """The videos among these paths, each a source, and the images, a source per folder."""
    found = sorted((p for p in paths if not _is_own(p)), key=_natural)
    folders: dict[Path, list[Path]] = {}
    for path in found:
        if _is_image(path):
            folders.setdefault(path.parent, []).append(path)
    clips = [video_source(path) for path in found if _is_video(path)]
    for folder, images in folders.items():
        name = folder.resolve().name
        clips.append(Source(text=printable(folder), name=name, folder=folder.parent, images=tuple(images)))
    if not clips:
        raise InputError(f"{_shortened(text)}: no video and no image there")
    return clips


def _is_own(path: Path) -> bool:
    return path.name.endswith(OWN) or path.parent.name.endswith(OWN_FOLDER)


def _natural(path: Path) -> list[tuple[bool, int, str]]:
    """A sort key that puts frame2 before frame10."""
    parts = re.split(r"([0-9]+)", os.fspath(path))
    # Every second part is a number. int() refuses more than 4,300 digits.
    return [(odd, int(part[:4000]) if odd else 0, part) for odd, part in zip(cycle((False, True)), parts, strict=False)]
