"""Features of a frozen backbone on disk, so that what is trained above it reads each frame's features in milliseconds.

A clip has one file, named by a hash of everything that its features depend on: the backbone's weights, the input's size
and the bytes of the clip. Other weights, another size or another clip therefore read another file, and the folder can
be deleted at any time. Features are stored as float16; bfloat16 would lose 4 to 6 % of the differences between frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dimofs.cli import InputError
from dimofs.files import read_bytes, replacing
from dimofs.pixels import to_tensor
from dimofs.reader import read_clip
from dimofs.zoo.detection.box_detector import BoxDetector
from dimofs.zoo.detection.features import Features, Geometry

# Frames that pass the backbone at a time.
BATCH = 8
# The version of the files; one of another version is never read.
VERSION = 1


class FeatureCache:
    """The pyramid features of frames of clips by a detector's backbone, from `folder` where they are known."""

    def __init__(self, folder: str | Path, detector: BoxDetector):
        self.folder, self.detector = Path(folder), detector
        sizes = detector.preprocess.min_size, detector.preprocess.max_size
        self._key = f"{VERSION} {digest(detector.backbone)} {sizes} {digest(detector.preprocess)}"

    def features(self, clip: str | Path, numbers: Sequence[int]) -> Features:
        """Features of the frames of these numbers, counted from 0, in their order; float32 on the CPU.

        Frames that the file lacks are computed and added to it. InputError: the clip is absent, damaged or shorter.
        """
        file, known = self._filled(clip, numbers)
        return _read(file, [known[number] for number in numbers])

    def add(self, clip: str | Path, numbers: Iterable[int]) -> None:
        """Compute the features of frames that are not known yet. InputError: as before."""
        self._filled(clip, numbers)

    def numbers(self, clip: str | Path) -> set[int]:
        """The frames of a clip whose features are known. InputError: the clip cannot be read."""
        return set(_numbers(self.file(clip)))

    def file(self, clip: str | Path) -> Path:
        """The file of a clip, which may not exist yet. InputError: the clip cannot be read."""
        return hashed_file(self.folder, self._key.encode() + read_bytes(clip))

    def _filled(self, clip: str | Path, numbers: Iterable[int]) -> tuple[Path, dict[int, int]]:
        """The file of a clip, with these frames in it, and the place of each frame that it holds."""
        file = self.file(clip)
        known = _numbers(file)
        if missing := sorted(set(numbers) - known.keys()):
            self._add(Path(clip), file, missing)
            known = _numbers(file)
        return file, known

    @torch.inference_mode()
    def _add(self, clip: Path, file: Path, numbers: Sequence[int]) -> None:
        wanted = set(numbers)
        frames = {number: to_tensor(frame) for number, frame in enumerate(read_clip(clip)) if number in wanted}
        if absent := wanted - frames.keys():
            raise InputError(f"{clip}: has no frame {min(absent)}; its labels belong to a longer clip")
        device = next(self.detector.parameters()).device
        found: list[Features] = []
        for part in torch.tensor(list(numbers)).split(BATCH):
            pixels = torch.stack([frames[number] for number in part.tolist()]).to(device)
            features = self.detector.features(pixels)
            found.append(Features([level.half().cpu() for level in features.levels], features.geometry))
        whole = Features.cat(found)
        tensors = {f"P{i}": level.contiguous() for i, level in enumerate(whole.levels, 2)}
        tensors["numbers"] = torch.tensor(list(numbers))
        if _numbers(file):
            known = load_file(file)
            tensors = {name: torch.cat((known[name], tensor)) for name, tensor in tensors.items()}
        sizes = torch.tensor([whole.geometry.frame, whole.geometry.resized, whole.geometry.padded])
        with replacing(file) as temporary:
            save_file(tensors | {"sizes": sizes}, temporary)


def hashed_file(folder: Path, key: bytes) -> Path:
    """The file in `folder` of what depends on `key`, one of 256 subfolders: there may be 100,000 files."""
    name = sha256(key).hexdigest()[:32]
    return folder / name[:2] / f"{name}.safetensors"


def digest(module: nn.Module) -> str:
    """The beginning of the SHA-256 of a module's parameters and buffers."""
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    return tensors_digest(sorted(tensors.items()))


def tensors_digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """The beginning of the SHA-256 of named tensors, in the order given."""
    found = sha256()
    for name, tensor in tensors:
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:32]


def _numbers(file: Path) -> dict[int, int]:
    """The place in the file of each frame number that it holds; nothing if it is absent or damaged."""
    try:
        with safe_open(file, "pt") as opened:
            return {number: place for place, number in enumerate(opened.get_tensor("numbers").tolist())}
    except (OSError, SafetensorError):
        return {}


def _read(file: Path, places: Sequence[int]) -> Features:
    with safe_open(file, "pt") as opened:
        frame, resized, padded = (tuple(size) for size in opened.get_tensor("sizes").tolist())
        levels = [opened.get_slice(name) for name in sorted({"P2", "P3", "P4", "P5"}.intersection(opened.keys()))]
        chosen = [torch.stack([level[place] for place in places]).float() for level in levels]
    return Features(chosen, Geometry(frame=frame, resized=resized, padded=padded))
