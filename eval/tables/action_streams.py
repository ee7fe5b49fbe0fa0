"""The streams of Table 3's columns: DiMoFs, and what stands in their place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy, deepcopy
from pathlib import Path
from zlib import crc32

import torch
from torch import Tensor, nn

from dimofs.cli import InputError
from dimofs.flow import METHODS
from dimofs.reader import read_frames
from dimofs.zoo.backbones.inflated import clip_features
from dimofs.zoo.detection.action_head import pool
from dimofs.zoo.detection.action_localizer import ActionLocalizer
from dimofs.zoo.detection.coarse_to_fine import CoarseToFine
from dimofs.zoo.detection.matching import Matching
from dimofs.zoo.detection.offsets import OffsetNet
from dimofs.zoo.training.action_data import LabelledClip, Regions, later
from dimofs.zoo.training.action_streams import Partner, StreamCache, kept
from dimofs.zoo.training.feature_cache import FeatureCache

# The stream of a clip's regions: [K, width] float16.
StreamSource = Callable[[LabelledClip, Regions], Tensor]
# Side of a cell of the level that optical flow is pooled from, in pixels of the input.
CELL = 4
# "<kind>@random": each frame's delta is a random multiple of SPACING from 0 to LONGEST.
RANDOM, SPACING, LONGEST = None, 5, 40


class StreamSources:
    """Streams by name, from the features of one backbone.

    strangers: the clips that a Frame B of "another clip" is taken from, drawn by the clip's name.
    """

    def __init__(self, model: ActionLocalizer, folder: Path, strangers: Sequence[LabelledClip], seed: int = 0):
        features = FeatureCache(folder, model)
        self.trained, self.strangers = StreamCache(model, features), strangers
        nets = controls(model.offset_net, model.mixing[0].in_channels, seed)  # type: ignore[arg-type, union-attr]
        self.controls = {name: StreamCache(with_parts(model, offset_net=net), features) for name, net in nets.items()}

    def named(self, name: str) -> StreamSource:
        """The stream "appearance", "<kind>@<delta>" or "<kind>@random"; kinds are those of the localizer and others:

        random, untrained, channels: DiMoFs of another offset net, see `controls`. stranger: DiMoFs to a Frame B of
        another clip. farneback, dis: optical flow. inflated: features of the 3-d backbone.
        """
        kind, _, delta = name.partition("@")
        shift = RANDOM if delta == "random" else int(delta or 0)
        if kind in METHODS:
            return lambda clip, regions: self._flow(clip, regions, kind, shift)
        if kind in self.controls:
            other = self.controls[kind]
            return lambda clip, regions: other.stream(clip, regions, "dimofs", _later(clip, regions, shift))
        if kind == "stranger":
            return lambda clip, regions: self.trained.stream(clip, regions, "dimofs", self._stranger(clip, regions))
        if kind == "inflated":
            return self._inflated
        return lambda clip, regions: self.trained.stream(clip, regions, kind, _later(clip, regions, shift))

    def _stranger(self, clip: LabelledClip, regions: Regions) -> Partner:
        """Frames of another clip, as many as the regions have. InputError: there is no other clip."""
        others = [other for other in self.strangers if other.name != clip.name]
        if not others:
            raise InputError(f"--columns: there is no other clip than {clip.name}; give more, or leave strangers out")
        other = others[sum(clip.name.encode()) % len(others)]
        return Partner(other.path, regions.numbers.clamp(max=other.length - 1))

    def _flow(self, clip: LabelledClip, regions: Regions, method: str, delta: int | None) -> Tensor:
        cells, file = self.trained.model.cells, self.trained.features.file(clip.path).name
        partner = _later(clip, regions, delta)
        numbers = regions.numbers if partner is None else partner.numbers
        key = f"flow {method} {numbers.tolist() if delta is RANDOM else delta} {cells} {file} "
        key += regions.key()
        folder = self.trained.features.folder
        return kept(folder, key, lambda: {"x": flow_stream(clip, regions, method, numbers, cells)})["x"]

    def _inflated(self, clip: LabelledClip, regions: Regions) -> Tensor:
        cache = self.trained
        file = cache.features.file(clip.path).name
        key = f"inflated {cache.model.cells} {file} "
        key += regions.key()

        def compute() -> dict[str, Tensor]:
            levels = clip_features(cache.model, clip.path, regions.numbers.tolist(), clip.length)
            return {"x": pool(levels, regions.by_frame(), cache.model.cells).half()}

        return kept(cache.features.folder, key, compute)["x"]


def flow_stream(clip: LabelledClip, regions: Regions, method: str, others: Tensor, cells: int) -> Tensor:
    """Optical flow from each Frame A to its Frame B, through the same RoIAlign: [K, 2 * cells * cells].

    others: [F], the numbers of the frames B. The flow is averaged to cells of four pixels of the input, those of the
    finest level, and is in pixels of the frame.
    """
    numbers = others.tolist()
    wanted = sorted({*numbers, *regions.numbers.tolist()})
    frames = dict(zip(wanted, read_frames(clip.path, wanted), strict=True))
    fields = []
    for a, b, scale in zip(regions.numbers.tolist(), numbers, regions.scale.tolist(), strict=True):
        flow = METHODS[method](frames[a], frames[b]).flow
        height, width = (round(side / scale[i] / CELL) for side, i in zip(flow.shape[1:], (1, 0), strict=True))
        fields.append(torch.nn.functional.adaptive_avg_pool2d(flow[None], (height, width)))
    return pool([torch.cat(fields)], regions.by_frame(), cells).half()


def _later(clip: LabelledClip, regions: Regions, delta: int | None) -> Partner | None:
    """The frames `delta` later; None for RANDOM draws a delta for each frame, always the same for one clip."""
    if delta is RANDOM:
        random = torch.Generator().manual_seed(crc32(clip.name.encode()))
        steps = torch.randint(LONGEST // SPACING + 1, (len(regions.numbers),), generator=random)
        return Partner(clip.path, later(regions.numbers, clip.length, SPACING * steps))
    return Partner(clip.path, later(regions.numbers, clip.length, delta)) if delta else None


def controls(net: nn.Module, channels: int, seed: int) -> dict[str, OffsetNet | CoarseToFine]:
    """Offset nets in the place of `net`, for features of so many channels.

    random: of the same kind, with convolutions as PyTorch draws them. untrained: the same as before training, by
    matching of features as they are; channels: the paper's, with random weights. The last two are there only if `net`
    aligns, since the paper's starts with all displacements 0.
    """
    assert isinstance(net, OffsetNet | CoarseToFine)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        found: dict[str, OffsetNet | CoarseToFine] = {"random": _random(net)}
        if isinstance(net, CoarseToFine):
            found["untrained"] = deepcopy(net)
            found["untrained"].reset()
            found["channels"] = OffsetNet(channels, zero=False)
    return {name: other.eval() for name, other in found.items()}


def _random(net: OffsetNet | CoarseToFine) -> OffsetNet | CoarseToFine:
    """The same kind of offset net with random weights."""
    other = deepcopy(net)
    for module in other.modules():
        if isinstance(module, nn.Conv2d | Matching):
            module.reset_parameters()
    return other


def with_parts(model: ActionLocalizer, **parts: nn.Module) -> ActionLocalizer:
    """The same model with other modules of these names; all others are shared."""
    other = copy(model)
    other._modules = {**model._modules, **parts}
    return other
