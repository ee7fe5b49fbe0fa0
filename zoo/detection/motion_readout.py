"""A linear read-out of motion (section 4.1 of the paper): a 1x1 convolution from the DiMoFs of all levels to (dx, dy).

    motion(p) = W_1 [DiMoFs of P2..P5 at p] + W_2 [matching at p]

It has no intercept, so the part that reads DiMoFs is as antisymmetric in the two frames as they are, and equal frames
have not moved. The paper reads the DiMoFs alone; `pyramid_matching.matching_fields` is a second carrier, which the
weights may leave out. A second linear map reads the lengths of the DiMoFs (`length_maps`) and says where something
moves against its surroundings.

A read-out is fitted to one detector by `python -m eval.motion --fit` and lies beside its weights as motion.safetensors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dimofs.camera import affine_motion
from dimofs.cli import InputError
from dimofs.files import check_regular, replacing
from dimofs.zoo.detection.pyramid_matching import CELL, matching_fields

# Beside the weights that the read-out belongs to.
READOUT = "motion.safetensors"
# Pixels of the network's input per cell of P2; each further level has twice as many.
FINEST = 4
# Added to |d|, in pixels of the input, before the logarithm.
LEAST_LENGTH = 0.1


class MotionReadout(nn.Module):
    """The read-out of one detector; its tensors are buffers outside the state dict.

    dimofs:   [2, 2G * 4], (dx, dy) from the DiMoFs of P2..P5 in their order, all in pixels of the network's input.
    matching: [2, 2K], from the matching fields likewise, or None.
    mask:     [1 + channels], the intercept and the weights of `length_maps` in the score of what moves, or None.
    """

    dimofs: Tensor
    matching: Tensor | None
    mask: Tensor | None

    def __init__(self, dimofs: Tensor, matching: Tensor | None = None, mask: Tensor | None = None):
        super().__init__()
        for name, tensor in (("dimofs", dimofs), ("matching", matching), ("mask", mask)):
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, levels_a: Sequence[Tensor], levels_b: Sequence[Tensor], dimofs: Sequence[Tensor]) -> Tensor:
        """Levels of Frames A and B and the DiMoFs between them -> [N, 2, h, w] on P2's grid, (dx, dy) in pixels of the
        input."""
        maps = in_pixels(dimofs)
        weights = list(self.dimofs.split([m.shape[1] for m in maps], dim=1))
        if self.matching is not None:
            maps.append(matching_fields(levels_a, levels_b) * CELL)
            weights.append(self.matching)
        read = [F.conv2d(m, w.to(m)[:, :, None, None]) for m, w in zip(maps, weights, strict=True)]
        return sum(on_grid(read, maps[0].shape[-2:])[1:], read[0])

    def moving(self, dimofs: Sequence[Tensor]) -> Tensor:
        """The score of each pixel of P2's grid for showing something that moves against its surroundings, [N, h, w].

        ValueError: the read-out was fitted without masks.
        """
        if self.mask is None:
            raise ValueError("the read-out was fitted without masks; fit it again with --masks")
        maps = length_maps(dimofs)
        weights = self.mask[1:].split([m.shape[1] for m in maps])
        scores = [torch.einsum("nchw,c->nhw", m, w.to(m))[:, None] for m, w in zip(maps, weights, strict=True)]
        scores = on_grid(scores, dimofs[0].shape[-2:])
        return sum(scores[1:], scores[0])[:, 0] + self.mask[0]


def in_pixels(dimofs: Sequence[Tensor]) -> list[Tensor]:
    """DiMoFs in cells of their levels, finest first -> in pixels of the network's input."""
    return [level.float() * (FINEST << number) for number, level in enumerate(dimofs)]


def on_grid(maps: Sequence[Tensor], size: Sequence[int]) -> list[Tensor]:
    """Maps [N, C, h, w] of one extent, enlarged bilinearly to `size`."""
    size = list(size)
    return [m if list(m.shape[-2:]) == size else F.interpolate(m, size, mode="bilinear") for m in maps]


def length_maps(dimofs: Sequence[Tensor]) -> list[Tensor]:
    """What the score of what moves is read from: for each level [N, 2G, h, w] a map [N, 2G, h, w], then the means of
    these maps on the grid of the last level.

    They are log |d| of every displacement, and log |d - camera|, where camera is the affine motion that fits that
    channel best; each less its mean over the image.
    """
    maps = []
    for level in in_pixels(dimofs):
        fields = level.unflatten(1, (-1, 2))
        both = torch.cat((fields, fields - affine_motion(fields)), dim=1)
        logs = (both.norm(dim=2) + LEAST_LENGTH).log()
        maps.append(logs - logs.mean(dim=(2, 3), keepdim=True))
    height, width = dimofs[-1].shape[-2:]
    return [*maps, *(F.adaptive_avg_pool2d(m, (height, width)) for m in maps[:-1])]


# --- files ---


def offsets_digest(detector: nn.Module) -> str:
    """SHA-256 of what DiMoFs are computed with: the backbone and the offset net, float16, in the order of names."""
    digest = hashlib.sha256()
    tensors = detector.state_dict()
    for name in sorted(n for n in tensors if n.startswith(("backbone.", "offset_net."))):
        digest.update(tensors[name].detach().cpu().half().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def write_readout(path: Path, readout: MotionReadout, detector: nn.Module, metadata: Mapping[str, str]) -> None:
    """Write a read-out and which detector it belongs to. InputError: it cannot be written."""
    tensors = {name: t.detach().cpu().float().contiguous() for name, t in readout.named_buffers()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, {**metadata, "format": "pt", "detector": offsets_digest(detector)})


def read_readout(path: Path, detector: nn.Module) -> MotionReadout | None:
    """The read-out in a file; None if it was fitted to another detector, as after a training in the same folder.

    InputError: the file is absent, damaged, or of another kind.
    """
    check_regular(path)
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: damaged or not a safetensors file ({error}); fit it again") from error
    if metadata.get("detector") != offsets_digest(detector):
        return None
    wrong = tensors.keys() - {"dimofs", "matching", "mask"}
    if wrong or "dimofs" not in tensors or not all(t.isfinite().all() for t in tensors.values()):
        raise InputError(f"{path}: its tensors are not those of a motion read-out; fit it again")
    return MotionReadout(**tensors)
