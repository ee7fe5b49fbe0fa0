"""The streams of Table 3's columns: DiMoFs, and what stands in their place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import torch
from torch import Tensor

from dimofs.flow import METHODS
from dimofs.reader import read_frames
from dimofs.zoo.backbones.inflated import clip_features
from dimofs.zoo.detection.action_head import pool
from dimofs.zoo.detection.action_localizer import ActionLocalizer
from dimofs.zoo.detection.offsets import OffsetNet
from dimofs.zoo.training.action_data import LabelledClip, Regions, later
from dimofs.zoo.training.action_streams import Partner, StreamCache, kept
from dimofs.zoo.training.feature_cache import FeatureCache, tensors_digest

# The stream of a clip's regions: [K, width] float16.
StreamSource = Callable[[LabelledClip, Regions], Tensor]
# Side of a cell of the level that optical flow is pooled from, in pixels of the input.
CELL = 4
# "<kind>@random": each frame's delta is a random multiple of SPACING from 0 to LONGEST.
RANDOM, SPACING, LONGEST = None, 5, 40


@dataclass(frozen=True)
class Column:
    """A column of Table 3. paper: its frame-mAP in the paper, if it is there."""

    name: str
    streams: Sequence[str]
    paper: float | None = None


# Streams are those of `StreamSources.named`.
TABLE3 = (
    Column("inflated 3D", ("inflated",), 43.8),
    Column("appearance", ("appearance",)),
    Column("random offsets, delta 0", ("appearance", "random@0"), 44.3),
    Column("random offsets", ("appearance", "random@10"), 44.7),
    Column("DiMoFs, delta 0", ("appearance", "dimofs@0"), 49.6),
    Column("DiMoFs", ("appearance", "dimofs@10"), 54.4),
    Column("Farneback", ("appearance", "farneback@10"), 50.6),
    Column("DIS", ("appearance", "dis@10"), 50.6),
    Column("|f_A - f_B|", ("appearance", "difference@10")),
    Column("f_B", ("appearance", "later@10")),
    Column("B of another clip", ("appearance", "stranger@10")),
    Column("pose", ("appearance", "pose@10")),
    Column("DiMoFs and pose", ("appearance", "dimofs@10", "pose@10")),
    Column("best", ("appearance", "dimofs@5", "dimofs@10", "dimofs@20", "pose@10")),
)


class StreamSources:
    """Streams by name, from the features of one backbone.

    strangers: the clips that a Frame B of "another clip" is taken from, drawn by the clip's name.
    """

    def __init__(self, model: ActionLocalizer, folder: Path, strangers: Sequence[LabelledClip], seed: int = 0):
        features = FeatureCache(folder, model)
        self.trained, self.strangers = StreamCache(model, features), strangers
        self.random = StreamCache(_with_random_offsets(model, seed), features)

    def named(self, name: str) -> StreamSource:
        """The stream "appearance", "<kind>@<delta>" or "<kind>@random"."""
        kind, _, delta = name.partition("@")
        shift = RANDOM if delta == "random" else int(delta or 0)
        if kind in METHODS:
            return lambda clip, regions: self._flow(clip, regions, kind, shift or 0)
        if kind == "random":
            return lambda clip, regions: self.random.stream(clip, regions, "dimofs", _later(clip, regions, shift))
        if kind == "stranger":
            return lambda clip, regions: self.trained.stream(clip, regions, "dimofs", self._stranger(clip, regions))
        if kind == "inflated":
            return self._inflated
        return lambda clip, regions: self.trained.stream(clip, regions, kind, _later(clip, regions, shift))

    def _stranger(self, clip: LabelledClip, regions: Regions) -> Partner:
        """Frames of another clip, as many as the regions have."""
        others = [other for other in self.strangers if other.name != clip.name]
        other = others[sum(clip.name.encode()) % len(others)]
        return Partner(other.path, regions.numbers.clamp(max=other.length - 1))

    def _flow(self, clip: LabelledClip, regions: Regions, method: str, delta: int) -> Tensor:
        cells, file = self.trained.model.cells, self.trained.features.file(clip.path).name
        key = f"flow {method} {delta} {cells} {file} "
        key += tensors_digest((name, getattr(regions, name)) for name in ("numbers", "frames", "boxes"))
        folder = self.trained.features.folder
        return kept(folder, key, lambda: {"x": flow_stream(clip, regions, method, delta, cells)})["x"]

    def _inflated(self, clip: LabelledClip, regions: Regions) -> Tensor:
        cache = self.trained
        file = cache.features.file(clip.path).name
        key = f"inflated {cache.model.cells} {file} "
        key += tensors_digest((name, getattr(regions, name)) for name in ("numbers", "frames", "boxes"))

        def compute() -> dict[str, Tensor]:
            levels = clip_features(cache.model, clip.path, regions.numbers.tolist(), clip.length)
            return {"x": pool(levels, regions.by_frame(), cache.model.cells).half()}

        return kept(cache.features.folder, key, compute)["x"]


def flow_stream(clip: LabelledClip, regions: Regions, method: str, delta: int, cells: int) -> Tensor:
    """Optical flow from each Frame A to the frame `delta` later, through the same RoIAlign: [K, 2 * cells * cells].

    The flow is averaged to cells of four pixels of the input, those of the finest level, and is in pixels of the frame.
    """
    numbers = later(regions.numbers, clip.length, delta).tolist()
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


def _with_random_offsets(model: ActionLocalizer, seed: int) -> ActionLocalizer:
    """The same model with an offset net of random weights, as PyTorch draws them; all other parts are shared."""
    other = copy(model)
    other._modules = dict(model._modules)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        channels = model.mixing[0].in_channels  # type: ignore[union-attr]
        other.offset_net = OffsetNet(channels, zero=False).eval()  # type: ignore[arg-type]
    return other
