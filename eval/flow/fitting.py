"""Fitting read-outs of motion: those of the model and, beside them, the same of a random offset net."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from dimofs.cli import InputError
from dimofs.eval.flow.estimators import READOUTS, Seen, channels_read, inputs, random_offset_net, see
from dimofs.eval.flow.probes import Clip, Probe, masks_of, probes
from dimofs.eval.flow.ridge import cross_validated, least_distance, ridge
from dimofs.files import replacing
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.motion_readout import (
    READOUT,
    MotionReadout,
    length_maps,
    offsets_digest,
    on_grid,
    write_readout,
)
from dimofs.zoo.detection.pyramid_matching import POOLS

# All read-outs that were fitted, for eval.motion alone.
CONTROLS = "motion_controls.safetensors"
# Pixels of P2's grid that each pair gives to the mask's read-out, and the penalty of that.
MASK_PIXELS, MASK_STRENGTH = 400, 1e-2
# What read-outs of motion and of masks read: the detector's DiMoFs, those of a random net; masks also f_A - f_B, and
# f_A alone, which knows nothing of motion.
NETS = ("net", "random")
MASK_NETS = (*NETS, "difference", "single")
# Masks are read from pairs in which the person moves by more pixels than this.
FARTHER = 2.0


@dataclass
class Samples:
    """What read-outs are fitted to: inputs [K, F], displacements in pixels of the network's input [K, 2], and the
    number of the clip [K]."""

    inputs: list[Tensor]
    targets: list[Tensor]
    clips: list[Tensor]

    def add(self, inputs: Tensor, targets: Tensor, clip: int) -> None:
        """Add rows whose targets are known."""
        known = targets.isfinite().all(dim=1)
        self.inputs.append(inputs[known])
        self.targets.append(targets[known])
        self.clips.append(torch.full((int(known.sum()),), clip))

    def joined(self) -> tuple[Tensor, Tensor, Tensor]:
        """All rows. InputError: there are none."""
        if not sum(map(len, self.clips)):
            raise InputError("no labelled point is seen in two frames; give more clips to fit to")
        return torch.cat(self.inputs), torch.cat(self.targets), torch.cat(self.clips)


def empty() -> Samples:
    """Samples without rows."""
    return Samples([], [], [])


def fit(
    detector: PoseDetector, clips: Iterable[Clip], deltas: Sequence[int], starts: int, masks: Path | None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights of every read-out: of motion by "net dimofs" and so on, [2, F], and of masks by net, [1 + channels].

    Without `masks` the latter are absent. InputError: nothing is labelled, or a clip has no mask.
    """
    moves, shapes = {net: empty() for net in NETS}, {net: empty() for net in MASK_NETS}
    control = None
    random = np.random.default_rng(0)
    for number, clip in enumerate(tqdm(clips, "clips", disable=None)):
        silhouettes = None if masks is None or clip.name.startswith("synthetic") else masks_of(masks, clip.name)
        for probe in probes(clip, deltas, starts):
            seen = see(detector, probe)
            control = control or random_offset_net(seen.a.levels[0].shape[1])
            wanted = torch.stack([probe.moves[delta] for delta in sorted(probe.others)])
            wanted = seen.a.geometry.to_input(wanted)
            for net, module in zip(NETS, (detector.offset_net, control), strict=True):
                moves[net].add(inputs(module, seen, probe.points).flatten(0, 1), wanted.flatten(0, 1), number)
            if silhouettes is not None:
                modules = mask_modules(detector, control)
                _add_masks(shapes, modules, seen, probe, silhouettes[probe.number], random, number)
    motion = {}
    for net in NETS:
        x, y, groups = moves[net].joined()
        for name in READOUTS:
            motion[f"{net} {name}"] = _fitted(x, y, groups, channels_read(x.shape[1], name))
    if masks is None:
        return motion, {}
    return motion, {net: _fitted_mask(*shapes[net].joined()[:2]) for net in MASK_NETS}


def _fitted(x: Tensor, y: Tensor, groups: Tensor, read: Tensor) -> Tensor:
    """[2, F] with zeros for channels that are not `read`."""
    weights = torch.zeros(2, x.shape[1])
    strength = cross_validated(x[:, read], y, groups)
    weights[:, read] = least_distance(x[:, read], y, strength)
    return weights


def _fitted_mask(x: Tensor, y: Tensor) -> Tensor:
    """[1 + F]: the intercept and weights of the linear score of the mask, by ridge."""
    middle = x.mean(dim=0)
    weights = ridge(x - middle, y[:, :1] - y[:, :1].mean(), MASK_STRENGTH)[0]
    return torch.cat(((y[:, 0].mean() - weights @ middle)[None], weights))


@torch.inference_mode()
def _add_masks(
    shapes: dict[str, Samples],
    modules: Sequence[Callable],
    seen: Seen,
    probe: Probe,
    mask: np.ndarray,
    random: np.random.Generator,
    clip: int,
) -> None:
    """Add random pixels of P2's grid, half of them of the mask: what the read-out of masks reads, and the mask there.

    Frame B is one of those in which the person has moved by more than FARTHER pixels.
    """
    far = [i for i, delta in enumerate(sorted(probe.others)) if moved_by(probe, delta) > FARTHER]
    if not far:
        return
    chosen_b = int(random.choice(far))
    levels = [level[chosen_b : chosen_b + 1] for level in seen.b.levels]
    found = [length_maps(module(seen.a.levels, levels)) for module in modules]
    size = seen.a.levels[0].shape[-2:]
    inside = on_cells(torch.from_numpy(mask), seen, size).flatten()
    for kind in (inside, ~inside & within_frame(seen, size).flatten()):
        places = kind.nonzero()[:, 0].numpy()
        if not len(places):
            continue
        chosen = torch.from_numpy(random.choice(places, MASK_PIXELS // 2))
        for net, maps in zip(MASK_NETS, found, strict=True):
            rows = torch.cat([m[0].flatten(1)[:, chosen] for m in on_grid(maps, size)]).T
            shapes[net].add(rows, inside[chosen].float()[:, None].expand(-1, 2), clip)


def mask_modules(detector: PoseDetector, control: Callable) -> tuple[Callable, ...]:
    """What gives the fields that read-outs of masks read, in the order of MASK_NETS. control: a random offset net."""
    return detector.offset_net, control, feature_difference, single_frame


def feature_difference(levels_a: Sequence[Tensor], levels_b: Sequence[Tensor]) -> list[Tensor]:
    """f_A - f_B of each level [N, C, h, w] as fields [N, 2C, h, w] whose second components are 0, in the place of
    DiMoFs."""
    fields = [torch.stack((a - b, torch.zeros_like(a)), dim=2) for a, b in zip(levels_a, levels_b, strict=True)]
    return [field.flatten(1, 2) for field in fields]


def single_frame(levels_a: Sequence[Tensor], levels_b: Sequence[Tensor]) -> list[Tensor]:
    """f_A of each level [N, C, h, w], likewise; of Frame B nothing is read."""
    return feature_difference(levels_a, [torch.zeros_like(level) for level in levels_b])


def moved_by(probe: Probe, delta: int) -> float:
    """The mean distance that the labelled points move, in pixels of the frame; 0 if none is labelled in both."""
    far = probe.moves[delta].norm(dim=1)
    far = far[far.isfinite()]
    return far.mean().item() if len(far) else 0.0


def within_frame(seen: Seen, size: Sequence[int]) -> Tensor:
    """[h, w] bool: the cells of a grid over the padded input whose centres lie in the frame."""
    (height, width), padded = seen.a.geometry.resized, seen.a.geometry.padded
    rows = (torch.arange(size[0]) + 0.5) * padded[0] / size[0] < height
    columns = (torch.arange(size[1]) + 0.5) * padded[1] / size[1] < width
    return rows[:, None] & columns


def on_cells(mask: Tensor, seen: Seen, size: Sequence[int]) -> Tensor:
    """A mask [H, W] bool of the frame at the centres of the cells of a grid over the padded input, False outside."""
    geometry = seen.a.geometry
    rows, columns = (
        ((torch.arange(size[i]) + 0.5) * geometry.padded[i] / size[i] * geometry.frame[i] / geometry.resized[i]).long()
        for i in (0, 1)
    )
    height, width = mask.shape
    found = mask[rows.clamp(max=height - 1)[:, None], columns.clamp(max=width - 1)]
    return found & within_frame(seen, size)


# --- files ---


def write_all(
    folder: Path,
    detector: PoseDetector,
    motion: dict[str, Tensor],
    masks: dict[str, Tensor],
    about: str,
    carrier: str = "both",
) -> None:
    """Write the detector's read-out as FOLDER/motion.safetensors, and every read-out as FOLDER/CONTROLS.

    carrier: of READOUTS, what the detector's read-out of motion reads.
    """
    chosen = motion[f"net {carrier}"]
    split = chosen.shape[1] - 2 * len(POOLS)
    readout = MotionReadout(chosen[:, :split].contiguous(), chosen[:, split:].contiguous(), masks.get("net"))
    write_readout(folder / READOUT, readout, detector, {"fitted": about})
    tensors = {f"motion.{name}": t for name, t in motion.items()} | {f"mask.{name}": t for name, t in masks.items()}
    with replacing(folder / CONTROLS) as temporary:
        save_file({n: t.contiguous() for n, t in tensors.items()}, temporary, {"detector": offsets_digest(detector)})


def read_all(folder: Path, detector: PoseDetector) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What `fit` found, from FOLDER/CONTROLS. InputError: there is no such file, or it belongs to another model."""
    path = folder / CONTROLS
    if not path.is_file():
        raise InputError(f"{path}: no such file; make it with python -m eval.motion --fit")
    with safe_open(path, "pt") as file:
        if (file.metadata() or {}).get("detector") != offsets_digest(detector):
            raise InputError(f"{path}: fitted to other weights; make it again with python -m eval.motion --fit")
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    kinds = {
        kind: {n.removeprefix(kind): t for n, t in tensors.items() if n.startswith(kind)}
        for kind in ("motion.", "mask.")
    }
    return kinds["motion."], kinds["mask."]
