"""Pooled streams of regions: computed once from cached features, kept on disk under a hash of all they depend on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from dimofs.cli import InputError
from dimofs.files import replacing
from dimofs.zoo.detection.action_localizer import ActionLocalizer
from dimofs.zoo.training.action_data import LabelledClip, Regions, find_regions
from dimofs.zoo.training.feature_cache import FeatureCache, digest, hashed_file, tensors_digest


class Partner(NamedTuple):
    """The frames B of a clip's F frames A: numbers [F] of frames of the video `path`."""

    path: Path
    numbers: Tensor


class StreamCache:
    """Regions and pooled streams of clips, in the folder of their features.

    Files are named by hashes, as those of `FeatureCache`: other weights, boxes or frames read other files.
    """

    def __init__(self, model: ActionLocalizer, features: FeatureCache):
        self.model, self.features = model, features
        self._people = " ".join(digest(part) for part in (model.mixing, model.rpn, model.box_head))
        offsets = digest(model.offset_net)
        self._kinds = {"dimofs": offsets, "steady": offsets, "pose": self._people}
        if model.keypoint_head is not None:
            self._kinds["pose"] += digest(model.keypoint_head)

    def regions(self, clip: LabelledClip, *, every: int, train: bool) -> Regions:
        """`find_regions`."""
        boxes = "" if clip.boxes is None else tensors_digest([("boxes", clip.boxes)])
        key = f"regions {self._source(clip.path)} {self._people} {clip.name} {clip.label} {boxes} {every} {train}"
        found = kept(
            self.features.folder,
            key,
            lambda: asdict(find_regions(self.model, self.features, clip, every=every, train=train)),
        )
        return Regions(**found)

    def stream(self, clip: LabelledClip, regions: Regions, kind: str, partner: Partner | None = None) -> Tensor:
        """One kind of stream for the regions of a clip, [K, width] float16; without `partner` A is its own Frame B."""
        key = f"stream {kind} {self.model.cells} {self._source(clip.path)} {self._kinds.get(kind)}"
        key += regions.key()
        if partner is not None:
            key += f" {self._source(partner.path)} {partner.numbers.tolist()}"
        found = kept(self.features.folder, key, lambda: {"x": self._pool(clip, regions, kind, partner)})
        return found["x"]

    def _source(self, path: Path) -> str:
        """What tells the features of a video apart."""
        return self.features.file(path).name

    @torch.inference_mode()
    def _pool(self, clip: LabelledClip, regions: Regions, kind: str, partner: Partner | None) -> Tensor:
        a = self.features.features(clip.path, regions.numbers.tolist())
        b = a if partner is None else self.features.features(partner.path, partner.numbers.tolist())
        if b.geometry.padded != a.geometry.padded:
            assert partner is not None
            raise InputError(f"{partner.path}: has frames of another size than {clip.path}; give clips of one size")
        pooled = self.model.stream(kind, a, replace(b, geometry=a.geometry), regions.by_frame())
        # Displacements of coarse levels reach hundreds of cells; float16 holds 65504.
        return pooled.clamp(-6e4, 6e4).half()


def kept(folder: Path, key: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """What `compute` returns, from a file in `folder` if it was computed before with this `key`."""
    found = known(folder, key)
    return keep(folder, key, compute()) if found is None else found


def known(folder: Path, key: str) -> dict[str, Tensor] | None:
    """What is kept in `folder` under this `key`; None if nothing is, or its file is damaged."""
    try:
        return load_file(_file(folder, key))
    except (OSError, SafetensorError):
        return None


def keep(folder: Path, key: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keep tensors in `folder` under this `key`; returns them."""
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with replacing(_file(folder, key)) as temporary:
        save_file(whole, temporary)
    return whole


def _file(folder: Path, key: str) -> Path:
    return hashed_file(folder, key.encode())
