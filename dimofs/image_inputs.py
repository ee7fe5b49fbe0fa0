"""What people hand over as an image (a name, a URL, a PIL image, an array, a tensor), as RGB frames.

Whatever is ambiguous is refused in a line that says what was expected, so that no picture is silently misread: floats
that are not in [0, 1], channels in the wrong place, a batch where one image belongs.
"""

from __future__ import annotations

import sys
import urllib.request
import warnings
from collections.abc import Iterable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from dimofs.cli import InputError
from dimofs.images import decode_image, read_image
from dimofs.sources import Source, printable, sources
from dimofs.video import IMAGE_RATE, Frame

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage
else:
    PilImage = Any

ImageInput: TypeAlias = "str | Path | np.ndarray | torch.Tensor | PilImage"

EXPECTED = "expected RGB [height, width, 3] of uint8, or of floats in [0, 1]"
# Floating-point images may leave [0, 1] this far, as resized ones do; beyond it they are in other units.
OVERSHOOT = 0.5
# PIL's modes whose conversion to RGB is defined and keeps the range of values.
PIL_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")
# A picture of more bytes is not downloaded.
MOST_DOWNLOADED = 1 << 28


def frames_of(images: Iterable[ImageInput], bgr: bool | None = None) -> Iterator[Frame]:
    """Each image as a frame, at 25 frames a second. See `pixels_of` for the errors."""
    for index, image in enumerate(images):
        file = Path(image) if isinstance(image, (str, Path)) and "://" not in str(image) else None
        yield Frame(pixels_of(image, bgr), index, index / IMAGE_RATE, 1 / IMAGE_RATE, file)


def pixels_of(image: ImageInput, bgr: bool | None = None) -> np.ndarray:
    """One image as [H, W, 3] uint8 RGB, upright.

    image: the name of an image file or its http(s) URL, a PIL image, a NumPy array [H, W, 3] or, grey, [H, W], or a
           tensor [3, H, W] or [1, H, W]; arrays and tensors are uint8 or float in [0, 1].
    bgr:   whether the channels of arrays and tensors are blue, green, red, as OpenCV's are. By default they are red,
           green, blue, with a warning where OpenCV is in use and nothing was said.
    InputError: the file cannot be read. TypeError, ValueError: the image is something else.
    """
    if isinstance(image, (str, Path)):
        return _read(str(image))
    if isinstance(image, torch.Tensor):
        return _in_order(_of_tensor(image), bgr)
    if not isinstance(image, np.ndarray):
        return _of_pil(image)
    if bgr is None and image.ndim == 3 and "cv2" in sys.modules:
        warnings.warn(
            "arrays are read as RGB, and OpenCV's are BGR: say bgr=True if they are, bgr=False if not", stacklevel=4
        )
    return _in_order(_of_array(image), bgr)


def _in_order(pixels: np.ndarray, bgr: bool | None) -> np.ndarray:
    return np.ascontiguousarray(pixels[..., ::-1] if bgr else pixels)


def _read(text: str) -> np.ndarray:
    if text.startswith(("http://", "https://")):
        return _downloaded(text)
    (source, *others) = sources(text)
    if others or len(source.images) != 1:
        raise InputError(f"{source.text}: {_kind(source, bool(others))}")
    return read_image(source.images[0])


def _kind(source: Source, several: bool) -> str:
    if source.images or several:
        return "several images; give a list of their names, or the folder to track() as one clip"
    return "a video, not an image; give it to track()"


def _downloaded(url: str) -> np.ndarray:
    shown = sources(url)[0].text
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            content = response.read(MOST_DOWNLOADED + 1)
    except (OSError, HTTPException, ValueError) as error:
        raise InputError(f"{shown}: cannot be downloaded ({printable(str(error))})") from error
    if len(content) > MOST_DOWNLOADED:
        raise InputError(f"{shown}: has more than {MOST_DOWNLOADED >> 20} MiB; save it and give the file")
    return decode_image(content, shown)


def _of_pil(image: PilImage) -> np.ndarray:
    module = sys.modules.get("PIL.Image")
    if module is None or not isinstance(image, module.Image):
        raise TypeError(f"an image is a {type(image).__name__}; give a name, a URL, a PIL image, an array or a tensor")
    from PIL import ImageOps

    if image.mode not in PIL_MODES:
        raise ValueError(f"a PIL image has mode {image.mode!r}, whose range is not known; {EXPECTED}")
    return np.array(ImageOps.exif_transpose(image).convert("RGB"))


def _of_tensor(image: torch.Tensor) -> np.ndarray:
    shape = list(image.shape)
    if image.ndim != 3 or shape[0] not in (1, 3):
        remedy = "give list(tensor)" if image.ndim == 4 else "it is [3, height, width]"
        raise ValueError(f"an image is a tensor of shape {shape}; {remedy}")
    return _of_array(image.detach().cpu().permute(1, 2, 0).numpy())


def _of_array(image: np.ndarray) -> np.ndarray:
    if image.ndim == 4:
        raise ValueError(f"an image has shape {list(image.shape)}, which is several images; give list(images)")
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] not in (1, 3) or 0 in image.shape:
        raise ValueError(f"an image has shape {list(image.shape)}; {EXPECTED}{_remedy(image)}")
    if image.shape[2] == 1:
        image = image.repeat(3, axis=2)
    return image if image.dtype == np.uint8 else _bytes(image)


def _remedy(image: np.ndarray) -> str:
    if image.ndim == 3 and image.shape[2] == 4:
        return ": image[..., :3] leaves the transparency out"
    if image.ndim == 3 and image.shape[0] in (1, 3):
        return ": image.transpose(1, 2, 0) puts the channels last"
    return ""


def _bytes(image: np.ndarray) -> np.ndarray:
    """Floats in [0, 1], of which a little overshoot is cut off, as uint8."""
    if not np.issubdtype(image.dtype, np.floating):
        raise ValueError(f"an image is of {image.dtype}; {EXPECTED}")
    low, high = float(image.min()), float(image.max())
    if not (low >= -OVERSHOOT and high <= 1 + OVERSHOOT):
        remedy = "; divide it by 255" if low >= 0 and high <= 255 else ""
        raise ValueError(f"an image has values from {low:g} to {high:g}; {EXPECTED}{remedy}")
    return np.rint(255 * image.clip(0, 1)).astype(np.uint8)
