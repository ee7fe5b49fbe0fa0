"""The images that a COCO file names: they lie inside one folder, and have the sizes that the file states."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from dimofs.cli import InputError
from dimofs.files import inside
from dimofs.formats.records import MOST_PIXELS, Records, as_list
from dimofs.images import read_image


class CocoImages:
    """The entries `images` of a COCO file, checked.

    ids:   of each image.
    names: the file name of each, relative to `folder`; all are different.
    sizes: (height, width) of each, None where the file does not say (absent, null or 0).

    InputError: an entry is malformed, an id or a name occurs twice, or a name leads out of the folder.
    """

    def __init__(self, file: str | Path, images: Any, folder: str | Path):
        self.file, self.folder = file, Path(folder)
        records = Records(file, as_list(file, images, "images"), "images[{}]".format)
        self.ids = records.column("id", {int, float, str}, "a number")
        self.names = records.column("file_name", {str}, "a text")
        self._check_different(records, "id", self.ids)
        self._check_different(records, "file_name", self.names)
        for number, name in enumerate(self.names):
            self._check_inside(records, number, name)
        height, width = (_side(records, field) for field in ("height", "width"))
        self.sizes = [(h, w) if h and w else None for h, w in zip(height, width, strict=True)]

    def __len__(self) -> int:
        return len(self.names)

    def read(self, number: int) -> np.ndarray:
        """The pixels [H, W, 3] uint8 of image `number`, as its labels mean them (see `dimofs.images.read_image`).

        InputError: it is absent, damaged, or of another size than the file states.
        """
        try:
            return read_image(self.folder / self.names[number], self.sizes[number])
        except InputError as error:
            raise InputError(f"{error} ({self.file} names it)") from error

    def check_present(self, numbers: Iterable[int]) -> None:
        """InputError: the file of one of the images `numbers` is absent."""
        for number in numbers:
            path = self.folder / self.names[number]
            if not path.exists():
                raise InputError(f"{path}: no such image file ({self.file} names it); give the folder that holds it")

    def _check_inside(self, records: Records, number: int, name: str) -> None:
        try:
            inside(self.folder, name)
        except InputError as error:
            fault = f".file_name {name!r} is not a file inside the folder of images; correct it"
            raise records.error(number, fault) from error

    @staticmethod
    def _check_different(records: Records, field: str, values: list) -> None:
        seen = set()
        for number, value in enumerate(values):
            if value in seen:
                raise records.error(number, f".{field} {value!r} is another image's too; each must differ")
            seen.add(value)


def _side(images: Records, field: str) -> list[int]:
    """The height or width of every image, 0 where the file does not say."""
    values = images.numbers(field, 0.0)
    wrong = ~((values >= 0) & (values <= MOST_PIXELS) & (values == np.floor(values)))
    if wrong.any():
        number = int(wrong.argmax())
        raise images.error(number, f".{field} {values[number]:g} is not a number of pixels")
    return values.astype(int).tolist()
