"""The estimates of motion at points that are compared: read-outs of the model, controls, and OpenCV's flow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dimofs.eval.flow.probes import Probe
from dimofs.flow import METHODS
from dimofs.skeletons import DIMOFS
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.features import Features
from dimofs.zoo.detection.motion_readout import FINEST, in_pixels
from dimofs.zoo.detection.offsets import OffsetNet
from dimofs.zoo.detection.pyramid_matching import CELL, POOLS, matching_fields

# Of the control's random offset net.
SEED = 0
# Which carriers each of the fitted read-outs reads: DiMoFs, matching.
READOUTS = {"dimofs": (True, False), "matching": (False, True), "both": (True, True)}
# Rows of the tables, in order.
ROWS = {
    "zero": "no motion",
    "farneback": "Farneback, contrast stretched",
    "dis": "DIS",
    "poses": "two single-frame poses, boxes given",
    "mean": "mean DiMoF of P2",
    "untrained": "matching, untrained",
    "net dimofs": "read-out of DiMoFs",
    "random dimofs": "read-out of a random offset net",
    "net matching": "read-out of matching",
    "net both": "read-out of both",
    "random both": "read-out of both, random offset net",
}


@dataclass(frozen=True)
class Seen:
    """The features of a probe's Frame A (one) and of its Frames B (N, by ascending delta)."""

    a: Features
    b: Features

    @cached_property
    def matching(self) -> Tensor:
        """The matching fields, [N, 2K, h, w] in cells of P3."""
        return matching_fields(self.levels_a, self.b.levels)

    @property
    def levels_a(self) -> list[Tensor]:
        """The levels of Frame A, repeated for each Frame B."""
        return [level.expand(len(self.b), -1, -1, -1) for level in self.a.levels]


@torch.inference_mode()
def see(detector: PoseDetector, probe: Probe) -> Seen:
    """One pass of the backbone over the frames of a probe."""
    frames = [probe.frame, *(probe.others[delta] for delta in sorted(probe.others))]
    features = detector.features(torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2))
    return Seen(features[:1], features[1:])


def random_offset_net(channels: int) -> OffsetNet:
    """The paper's offset net with PyTorch's random weights: the control."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return OffsetNet(channels, zero=False).eval()


@torch.inference_mode()
def inputs(net: nn.Module, seen: Seen, points: Tensor) -> Tensor:
    """What read-outs read at points [K, 2] of Frame A: [N, K, F], all DiMoFs, finest level first, then the matching
    fields, in pixels of the network's input."""
    maps = [*in_pixels(net(seen.levels_a, seen.b.levels)), seen.matching * CELL]
    geometry = seen.a.geometry
    centres, shares = around(geometry.to_input(points) / FINEST, maps[0].shape[-2:])
    extent = points.new_tensor([geometry.padded[1], geometry.padded[0]])
    grid = (2 * centres * FINEST / extent - 1).expand(len(seen.b), -1, -1, -1)
    sampled = [F.grid_sample(m, grid, padding_mode="border", align_corners=False) for m in maps]
    return (torch.cat(sampled, dim=1) * shares).sum(dim=2).transpose(1, 2)


def around(cells: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The centres of the four cells around each of K places in a grid, [4, K, 2], and their bilinear shares [4, K].

    What is interpolated at these centres and summed by these shares is what a map enlarged to the grid holds at the
    place, as `MotionReadout` enlarges its maps.
    """
    low = torch.floor(cells - 0.5)
    part = cells - 0.5 - low
    most = cells.new_tensor([size[1] - 1, size[0] - 1])
    corners = cells.new_tensor([[0, 0], [1, 0], [0, 1], [1, 1]])[:, None]
    centres = (low + corners).clamp(min=torch.zeros_like(most), max=most) + 0.5
    return centres, (corners * part + (1 - corners) * (1 - part)).prod(dim=2)


def channels_read(width: int, name: str) -> Tensor:
    """[width] bool: the channels of `inputs` that a read-out of READOUTS reads."""
    matching = torch.arange(width) >= width - 2 * len(POOLS)
    dimofs, both = READOUTS[name]
    return (matching & both) | (~matching & dimofs)


def mean_dimof(read: Tensor, groups: int) -> Tensor:
    """The mean over P2's displacements, [N, K, 2] (dx, dy), from `inputs`; P2 has `groups` of them."""
    return read[..., : 2 * groups].unflatten(-1, (-1, 2)).mean(dim=-2).flip(-1)


def untrained_matching(read: Tensor) -> Tensor:
    """The matching field of the smallest neighbourhood, [N, K, 2] (dx, dy), from `inputs`."""
    start = read.shape[-1] - 2 * len(POOLS)
    return read[..., start : start + 2].flip(-1)


def estimates(
    detector: PoseDetector, control: nn.Module, fitted: dict[str, Tensor], probe: Probe, seen: Seen
) -> dict[str, Tensor]:
    """Each estimate of ROWS at the probe's points, [N, K, 2] in pixels of the frame, Frames B by ascending delta.

    fitted: the weights [2, F] of the read-outs, by their names in ROWS.
    """
    read = {"net": inputs(detector.offset_net, seen, probe.points), "random": inputs(control, seen, probe.points)}
    groups = detector.offset_net(seen.a.levels, seen.a.levels)[0].shape[1] // 2
    found = {name: read[name.split()[0]] @ weights.T for name, weights in fitted.items()}
    found |= {"mean": mean_dimof(read["net"], groups), "untrained": untrained_matching(read["net"])}
    found = {name: seen.a.geometry.to_frame(moves) for name, moves in found.items()}
    found["zero"] = torch.zeros(len(seen.b), len(probe.points), 2)
    found |= {method: opencv(probe, method) for method in METHODS}
    found["poses"] = pose_differences(detector, probe, seen)
    return {name: found[name] for name in ROWS if name in found}


def opencv(probe: Probe, method: str) -> Tensor:
    """OpenCV's displacements at the probe's points, [N, K, 2]."""
    others = [probe.others[delta] for delta in sorted(probe.others)]
    return torch.stack([METHODS[method](probe.frame, other).at(probe.points) for other in others])


@torch.inference_mode()
def pose_differences(detector: PoseDetector, probe: Probe, seen: Seen) -> Tensor:
    """How far the joints that the detector finds in single frames lie apart, [N, K, 2]; the people's boxes are given.
    NaN where Frame B labels other people."""
    everyone = Features.cat([seen.a, seen.b])
    boxes = [probe.boxes, *(probe.boxes_of[delta] for delta in sorted(probe.others))]
    if len({len(one) for one in boxes}) > 1:
        return torch.full((len(seen.b), len(probe.points), 2), torch.nan)
    given = [seen.a.geometry.to_input(box) for box in boxes]
    found, _ = detector.find_joints([detector.align(everyone)], given)
    places = seen.a.geometry.to_frame(found).unflatten(0, (len(given), -1))  # [1 + N, P, J, 2]
    index = torch.tensor([detector.keypoint_names.index(DIMOFS[joint]) for joint in probe.joints.tolist()])
    at = places[:, probe.owner, index]
    return at[1:] - at[:1]
