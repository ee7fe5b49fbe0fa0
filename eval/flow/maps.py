"""How well maps of motion tell a moving person from the rest of the frame: AUROC of JHMDB's puppet masks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from dimofs.camera import median_motion
from dimofs.cli import InputError
from dimofs.eval.flow.auroc import auroc, by_clip, interval, interval_table, resampled_means
from dimofs.eval.flow.estimators import Seen, random_offset_net, see
from dimofs.eval.flow.fitting import FARTHER, MASK_NETS, mask_modules, moved_by, on_cells, within_frame
from dimofs.eval.flow.methods import read_out
from dimofs.eval.flow.probes import Clip, Probe, masks_of, probes
from dimofs.eval.keypoints.undefined import none_for_nan
from dimofs.flow import METHODS, load_opencv
from dimofs.motion import Motion
from dimofs.zoo.detection.box_detector import in_frame
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.motion_readout import MotionReadout, in_pixels, on_grid

# A camera moves if DIS says so: the median motion outside the mask, in pixels.
MOVING_CAMERA = 1.0
# Pixels within which a point agrees with an affine camera, for RANSAC.
AGREES = 1.0
# Standard deviation of the blur of frame differences, pixels of the frame.
BLUR = 8.0
ROWS = {
    "dimofs": "DiMoFs, length by channel",
    "random": "random offset net, likewise",
    "read-out": "read-out of DiMoFs",
    "random read-out": "the same of a random offset net",
    "difference read-out": "the same of f_A - f_B",
    "single read-out": "the same of f_A alone",
    "motion": "detector.motion",
    "motion median": "  less median",
    "motion affine": "  less RANSAC affine",
    "farneback": "Farneback, contrast stretched",
    "farneback median": "  less median",
    "farneback affine": "  less RANSAC affine",
    "dis": "DIS",
    "dis median": "  less median",
    "dis affine": "  less RANSAC affine",
    "frames": "frame difference",
    "frames blurred": "  blurred",
    "features": "|f_A - f_B| at P3",
    "centre": "nearness to the frame's centre",
}


def measure(
    detector: PoseDetector,
    motion: dict[str, Tensor],
    masks: dict[str, Tensor],
    clips: Iterable[Clip],
    folder: Path,
    deltas: Sequence[int],
    starts: int,
) -> dict[str, Any]:
    """Mean AUROC over pairs in which the person moves by more than FARTHER pixels, of every map of ROWS: over all
    pairs, those of a static and of a moving camera, with 95 % intervals over clips.

    motion, masks: what `fitting.read_all` gives. InputError: masks are absent, or no person moves.
    """
    if not masks.keys() >= set(MASK_NETS):
        raise InputError("the read-outs of masks were not fitted, or by an older version; fit them with --fit --masks")
    values: list[list[float]] = []
    owners, moving = [], []
    nets = None
    for clip in tqdm(clips, "clips", disable=None):
        silhouettes = masks_of(folder, clip.name)
        for probe in probes(clip, deltas, starts):
            far = [i for i, delta in enumerate(sorted(probe.others)) if moved_by(probe, delta) > FARTHER]
            if not far or probe.number >= len(silhouettes):
                continue
            seen = see(detector, probe)
            if nets is None:
                control = random_offset_net(seen.a.levels[0].shape[1])
                nets = mask_modules(detector, control)
            readouts = [read_out(motion["net both"], masks[net]) for net in MASK_NETS]
            for i in far:
                row, camera = _pair(detector, nets, readouts, probe, seen, i, silhouettes[probe.number])
                values.append(row)
                owners.append(clip.name)
                moving.append(camera)
    if not values:
        raise InputError(f"--deltas: nobody moves by more than {FARTHER} pixels in the pairs; give larger ones")
    return _summary(owners, np.array(values), np.array(moving))


@torch.inference_mode()
def _pair(
    detector: PoseDetector,
    nets: tuple,
    readouts: Sequence[MotionReadout],
    probe: Probe,
    seen: Seen,
    number: int,
    mask: np.ndarray,
) -> tuple[list[float], bool]:
    """The AUROC of each map of ROWS for one Frame B, and whether the camera moves."""
    frame_b = probe.others[sorted(probe.others)[number]]
    levels_b = [level[number : number + 1] for level in seen.b.levels]
    size = seen.a.levels[0].shape[-2:]
    fields = [net(seen.a.levels, levels_b) for net in nets]
    flows = {name: method(probe.frame, frame_b) for name, method in METHODS.items()}
    readout = detector.readout or readouts[0]
    flows["motion"] = in_frame(readout(seen.a.levels, levels_b, fields[0]), seen.a.geometry)[0]
    maps = {
        "dimofs": channel_lengths(fields[0]),
        "random": channel_lengths(fields[1]),
        "features": on_grid([(seen.a.levels[1] - levels_b[1]).norm(dim=1, keepdim=True)], size)[0][0, 0],
    }
    names = ("read-out", "random read-out", "difference read-out", "single read-out")
    for name, read, field in zip(names, readouts, fields, strict=True):
        maps[name] = read.moving(field)[0]
    for name, flow in flows.items():
        maps |= _without_camera(name, _cells(flow, seen, size))
    maps |= _pictures(probe.frame, frame_b, seen, size)
    valid = within_frame(seen, size)
    truth = on_cells(torch.from_numpy(mask), seen, size)[valid].numpy()
    outside = maps["dis"][valid].numpy()[~truth]
    camera = bool(len(outside) and np.median(outside) > MOVING_CAMERA)
    return [auroc(maps[name][valid].numpy(), truth) for name in ROWS], camera


def channel_lengths(dimofs: Sequence[Tensor]) -> Tensor:
    """[h, w] on the finest grid: the sum over all channels of |d|, each divided by its root mean square."""
    lengths = [level.unflatten(1, (-1, 2)).norm(dim=2) for level in in_pixels(dimofs)]
    scaled = [m / m.square().mean(dim=(2, 3), keepdim=True).sqrt().clamp(min=1e-6) for m in lengths]
    return torch.cat([m.sum(dim=1, keepdim=True) for m in on_grid(scaled, dimofs[0].shape[-2:])])[:, 0].sum(dim=0)


def _cells(motion: Motion, seen: Seen, size: Sequence[int]) -> Tensor:
    """[2, h, w]: a flow at the centres of the cells of a grid over the padded input, in pixels of the frame."""
    geometry = seen.a.geometry
    y, x = ((torch.arange(size[i]) + 0.5) * geometry.padded[i] / size[i] for i in (0, 1))
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return motion.at(geometry.to_frame(torch.stack((columns, rows), dim=2))).permute(2, 0, 1)


def _without_camera(name: str, flow: Tensor) -> dict[str, Tensor]:
    """The lengths of a field [2, h, w], of it less its median, and of it less the affine motion that RANSAC finds."""
    less_median = flow - median_motion(flow)
    return {
        name: flow.norm(dim=0),
        f"{name} median": less_median.norm(dim=0),
        f"{name} affine": (flow - ransac_affine(flow)).norm(dim=0),
    }


def ransac_affine(flow: Tensor) -> Tensor:
    """The affine field [2, h, w] that the most cells of a field agree with within AGREES; its median if none does."""
    cv2 = load_opencv()
    height, width = flow.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack((x, y)).flatten(1).T.double().numpy()
    moved = places + flow.flatten(1).T.double().numpy()
    cv2.setRNGSeed(0)
    found, _ = cv2.estimateAffine2D(places, moved, method=cv2.RANSAC, ransacReprojThreshold=AGREES)
    if found is None:
        return median_motion(flow).expand_as(flow)
    camera = places @ found[:, :2].T + found[:, 2] - places
    return torch.from_numpy(camera.T).float().reshape(2, height, width)


def _pictures(a: np.ndarray, b: np.ndarray, seen: Seen, size: Sequence[int]) -> dict[str, Tensor]:
    """The maps that need no network: frame differences, plain and blurred, and nearness to the frame's centre."""
    cv2 = load_opencv()
    difference = np.abs(a.astype(np.float32) - b.astype(np.float32)).mean(axis=2)
    blurred = cv2.GaussianBlur(difference, (0, 0), BLUR)
    height, width = difference.shape
    y, x = np.mgrid[:height, :width]
    far = np.hypot((x + 0.5) / width - 0.5, (y + 0.5) / height - 0.5).astype(np.float32)
    named = {"frames": difference, "frames blurred": blurred, "centre": -far}
    pictures = {n: Motion(torch.from_numpy(np.stack((m, m))), float(height), float(width)) for n, m in named.items()}
    return {name: _cells(picture, seen, size)[0] for name, picture in pictures.items()}


def _summary(owners: Sequence[str], values: np.ndarray, moving: np.ndarray) -> dict[str, Any]:
    groups = {"all": np.ones(len(moving), bool), "static camera": ~moving, "moving camera": moving}
    result = {}
    for group, chosen in groups.items():
        names = [owner for owner, one in zip(owners, chosen, strict=True) if one]
        if not names:
            continue
        sums, counts = by_clip(names, values[chosen])
        draws = resampled_means(sums, counts)
        means = sums.sum(axis=0) / np.maximum(counts.sum(axis=0), 1)
        rows = {
            name: {"auroc": float(means[i]), "interval": none_for_nan(list(interval(draws[:, i])))}
            for i, name in enumerate(ROWS)
        }
        result[group] = {"pairs": len(names), "clips": len(sums), "rows": rows}
    return result


def lines(result: dict[str, Any]) -> list[str]:
    """The table of `measure`."""
    return interval_table("AUROC of the mask", result, ROWS, ("pairs", "auroc"), digits=(3, 2), column=20)
