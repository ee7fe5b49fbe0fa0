"""Numeric arrays in MATLAB files of versions 5 to 7.

SciPy's reader can end the whole process on a damaged file, so this one reads the few things needed here: plain numeric
arrays, compressed or not. The format is described in MathWorks' "MAT-File Format": after a header of 128 bytes come
elements, each with a tag of its type and its number of bytes.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dimofs.cli import InputError
from dimofs.files import read_bytes

HEADER_BYTES = 128
# Compressed elements that expand beyond this are refused.
MOST_BYTES = 1 << 31
# Types of elements.
MATRIX, COMPRESSED = 14, 15
NUMBERS = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip
# Classes of numeric arrays: double, single, int8 to uint64.
CLASSES = range(6, 16)
COMPLEX_FLAG = 0x0800


def read_mat(path: str | Path, name: str, axes: int) -> np.ndarray:
    """The numeric array `name`, of `axes` axes, of a .mat file.

    It has the type in which the file stores it, often a smaller one than in MATLAB. MATLAB drops a last axis of length
    1, so an array that lacks its last axis gets it back.
    InputError: the file is absent, damaged or in MATLAB's HDF5 format, or lacks such an array.
    """
    content = read_bytes(path)
    order = {b"IM": "<", b"MI": ">"}.get(content[126:HEADER_BYTES])
    if content.startswith(b"MATLAB 7.3") or content[:8] == b"\x89HDF\r\n\x1a\n":
        raise InputError(f"{path}: is a MATLAB 7.3 file (HDF5); save it again with save(..., '-v7')")
    if order is None:
        raise InputError(f"{path}: not a MATLAB file of version 5 to 7; download it again or save it with '-v7'")
    try:
        values = _find(memoryview(content)[HEADER_BYTES:], order, name)
    except (ValueError, struct.error, zlib.error, KeyError, MemoryError, OverflowError) as error:
        raise InputError(f"{path}: damaged MATLAB file ({type(error).__name__}: {error}); download it again") from error
    if values is None:
        raise InputError(f"{path}: holds no numeric array '{name}'")
    return values[..., None] if values.ndim == axes - 1 else values


def _find(content: memoryview, order: str, name: str) -> np.ndarray | None:
    """The numeric array of this name among the elements; None if there is none, or it is of another kind."""
    for kind, data in _elements(content, order):
        if kind == COMPRESSED:
            unpacker = zlib.decompressobj()
            unpacked = unpacker.decompress(data, MOST_BYTES)
            if unpacker.unconsumed_tail:
                raise ValueError(f"an element of more than {MOST_BYTES} bytes")
            found = _find(memoryview(unpacked), order, name)
            if found is not None:
                return found
        elif kind == MATRIX and (found := _matrix(data, order, name)) is not None:
            return found
    return None


def _elements(content: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Type and data of each element. ValueError: the last one is cut."""
    place = 0
    while place + 8 <= len(content):
        kind, size = struct.unpack_from(order + "II", content, place)
        if small := kind >> 16:
            # A small element holds its size in the upper half of the type, and its data in place of the size.
            kind, size, start, place = kind & 0xFFFF, small, place + 4, place + 8
        else:
            start = place + 8
            place = start + (size if kind == COMPRESSED else -(-size // 8) * 8)
        if start + size > len(content):
            raise ValueError("it ends early")
        yield kind, content[start : start + size]


def _matrix(data: memoryview, order: str, name: str) -> np.ndarray | None:
    """The array of a matrix element, if it has this name and holds real numbers."""
    parts = _elements(data, order)
    flags, shape, title = (next(parts, (0, memoryview(b"")))[1] for _ in range(3))
    if bytes(title).rstrip(b"\0") != name.encode():
        return None
    (flag,) = struct.unpack_from(order + "I", flags)
    if flag & 0xFF not in CLASSES or flag & COMPLEX_FLAG:
        return None
    shape = np.frombuffer(shape, order + "i4").tolist()
    kind, numbers = next(parts, (0, memoryview(b"")))
    values = np.frombuffer(numbers, order + NUMBERS[kind])
    if min(shape, default=-1) < 0 or math.prod(shape) != len(values):
        raise ValueError(f"{len(values)} numbers for the shape {tuple(shape)}")
    return values.reshape(shape, order="F").astype(NUMBERS[kind])
