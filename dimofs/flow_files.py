"""Flow fields in files: Middlebury's .flo, KITTI's 16-bit PNG, NumPy's .npz.

In memory a field is [2, H, W] float32, (dx, dy) in pixels, NaN where unknown.

.flo   (Baker et al., 2011): the number 202021.25, width, height, then dx, dy of each pixel, row by row, little-endian.
       A component above 1e9 means that the pixel is unknown; 1e10 is written.
.png   (KITTI 2012): 16-bit RGB, red and green are 64 d + 32768 of dx and dy, blue is 1 where known. So steps are 1/64
       pixel, and pixels that move by 512 or more in a direction cannot be stored: they are written as unknown.
.npz   the array "flow" [H, W, 2] float32, NaN where unknown.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.error import FFmpegError
from torch import Tensor

from dimofs.cli import InputError
from dimofs.datasets.npz import read_npz
from dimofs.files import read_bytes, replacing

MAGIC = struct.pack("<f", 202021.25)
UNKNOWN, LARGEST = 1e10, 1e9
# KITTI's steps per pixel and the number that stands for 0.
STEPS, ZERO = 64.0, 32768
# Fields of more pixels are refused.
MOST_PIXELS = 1 << 28


def write_flow(path: str | Path, flow: Tensor) -> None:
    """Write a field [2, H, W] to a .flo, .png or .npz file, whole or not at all.

    InputError: another suffix, or the file cannot be written. ValueError: the field has another shape.
    """
    path = Path(path)
    if flow.ndim != 3 or flow.shape[0] != 2 or not flow.numel():
        raise ValueError(f"the field has shape {[*flow.shape]}; expected [2, height, width]")
    encode = _codec(path)[0]
    content = encode(flow.detach().cpu().float().permute(1, 2, 0).contiguous().numpy())
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def read_flow(path: str | Path) -> Tensor:
    """The field [2, H, W] of a file that `write_flow` or another program wrote.

    InputError: another suffix, or the file is absent, damaged or of another kind.
    """
    path = Path(path)
    flow = _codec(path)[1](path)
    return torch.from_numpy(np.ascontiguousarray(flow.transpose(2, 0, 1).astype(np.float32)))


def check_suffix(path: Path) -> None:
    """InputError: the name does not end in .flo, .png or .npz."""
    _codec(path)


def _codec(path: Path) -> tuple[Callable[[np.ndarray], bytes], Callable[[Path], np.ndarray]]:
    codec = CODECS.get(path.suffix.lower())
    if codec is None:
        raise InputError(f"{path}: flow is kept in {', '.join(CODECS)} files; choose one of these suffixes")
    return codec


def _write_flo(flow: np.ndarray) -> bytes:
    height, width, _ = flow.shape
    known = np.isfinite(flow).all(2, keepdims=True)
    values = np.where(known, flow, np.float32(UNKNOWN)).astype("<f4")
    return MAGIC + struct.pack("<ii", width, height) + values.tobytes()


def _read_flo(path: Path) -> np.ndarray:
    content = read_bytes(path)
    if len(content) < 12 or content[:4] != MAGIC:
        raise InputError(f"{path}: not a .flo file, which begins with the number 202021.25")
    width, height = struct.unpack("<ii", content[4:12])
    if width < 1 or height < 1 or len(content) != 12 + 8 * width * height:
        raise InputError(f"{path}: has {len(content)} bytes for {width} x {height} pixels; write or fetch it again")
    flow = np.frombuffer(content, "<f4", offset=12).reshape(height, width, 2)
    known = (np.abs(flow) <= LARGEST).all(2, keepdims=True)
    return np.where(known, flow, np.float32(np.nan))


def _write_png(flow: np.ndarray) -> bytes:
    codes = np.rint(np.nan_to_num(flow.astype(np.float64), nan=np.inf) * STEPS + ZERO)
    known = ((codes >= 0) & (codes < 2**16)).all(2, keepdims=True)
    pixels = np.concatenate((np.where(known, codes, 0), known), axis=2).astype(np.uint16)
    codec = av.CodecContext.create("png", "w")
    codec.height, codec.width, _ = pixels.shape
    codec.pix_fmt, codec.time_base = "rgb48be", Fraction(1)
    packets = codec.encode(av.VideoFrame.from_ndarray(pixels, format="rgb48be")) + codec.encode(None)
    return b"".join(map(bytes, packets))


def _read_png(path: Path) -> np.ndarray:
    content = read_bytes(path)
    if len(content) < 26 or content[:8] != b"\x89PNG\r\n\x1a\n" or content[24:26] != bytes((16, 2)):
        raise InputError(f"{path}: not a PNG file of 16-bit RGB, as KITTI's flow is")
    width, height = struct.unpack(">II", content[16:24])
    if width * height > MOST_PIXELS:
        raise InputError(f"{path}: {width} x {height} pixels are more than a field can have here")
    try:
        with av.open(io.BytesIO(content), "r", format="png_pipe") as container:
            pixels = next(container.decode(video=0)).to_ndarray(format="rgb48be")
    except (FFmpegError, StopIteration) as error:
        raise InputError(f"{path}: damaged PNG file; write or fetch it again") from error
    flow = (pixels[..., :2].astype(np.float32) - ZERO) / STEPS
    return np.where(pixels[..., 2:] > 0, flow, np.float32(np.nan))


def _write_npz(flow: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, flow=flow)
    return file.getvalue()


def _read_npz(path: Path) -> np.ndarray:
    flow = read_npz(path).get("flow")
    if flow is None or flow.ndim != 3 or flow.shape[2] != 2 or flow.dtype.kind != "f":
        raise InputError(f'{path}: has no array "flow" [height, width, 2] of floats')
    return flow


CODECS = {".flo": (_write_flo, _read_flo), ".png": (_write_png, _read_png), ".npz": (_write_npz, _read_npz)}
