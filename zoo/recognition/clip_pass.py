"""One pass over the frames of a clip: who its subject is, and what is measured of the subject in each pair.

    frames, one after the other -> people of each Frame A -> the subject among them -> its joints -> what is measured

Only frames that are still needed are held, so that memory does not grow with the clip's length but for the results.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from dimofs.flow import METHODS
from dimofs.zoo.backbones.fpn import SCALES
from dimofs.zoo.detection.action_head import pool
from dimofs.zoo.detection.action_localizer import ActionLocalizer
from dimofs.zoo.detection.coarse_to_fine import CoarseToFine
from dimofs.zoo.detection.features import Features
from dimofs.zoo.detection.offsets import OffsetNet
from dimofs.zoo.recognition.pairs import Pairing, SeenFrame, joined
from dimofs.zoo.recognition.subject import (
    Placed,
    Subject,
    SubjectPath,
    at_points,
    candidates,
    nobody,
    offsets_at,
    posed,
    together,
)

# What maps there are of a pair: DiMoFs; those of an offset net of random weights; those onto a frame of another clip;
# f_A - f_B; its absolute value; f_B.
MAPS = ("dimofs", "random", "stranger", "difference", "absolute", "later")
# What can be measured at joints.
MOTIONS = (*MAPS, *METHODS)
# What an action localizer's head can read in the subject's box.
STREAMS = ("appearance", *(f"pooled {kind}" for kind in MAPS))
# Pairs that are measured at a time.
WINDOW = 32


class ClipPass:
    """Measures one clip whose frames are given to `take`, in order; `end` returns what was measured.

    names: of MOTIONS and STREAMS. subject: the clip's, if it is known already. random: the offset net of "random".
    strangers: frames of another clip, which stand in for frames B as "stranger"; the last one is repeated.
    """

    def __init__(
        self,
        model: ActionLocalizer,
        pairing: Pairing,
        names: Sequence[str],
        *,
        subject: Subject | None = None,
        random: OffsetNet | None = None,
        strangers: Iterator[SeenFrame] | None = None,
    ):
        self.model, self.pairing, self.names = model, pairing, names
        self.nets = {"random": random or model.offset_net}
        self.strangers, self.stranger = strangers or iter(()), None
        self.known, self.path = subject, SubjectPath()
        self.held: dict[int, SeenFrame] = {}
        self.unseen: list[int] = []
        self.parts: list[Subject] = []
        self.measures: dict[str, list[Tensor]] = {name: [] for name in names}

    @torch.inference_mode()
    def take(self, frame: SeenFrame) -> None:
        """Frames that belong to no pair may be left out."""
        self.held[frame.number] = frame
        if self.pairing.ends(frame.number):
            self.unseen.append(frame.number - self.pairing.delta)
        if len(self.unseen) == WINDOW:
            self._advance()

    @torch.inference_mode()
    def end(self) -> tuple[Subject, dict[str, Tensor]]:
        """The subject, and each measure [P, ...] of its P frames, float32 on the CPU; no measures without frames."""
        self._advance(ended=True)
        if not self.parts:
            assert self.model.keypoint_head is not None
            return nobody(self.model.keypoint_head.joints), {}
        return together(self.parts), {name: torch.cat(parts) for name, parts in self.measures.items()}

    def _advance(self, ended: bool = False) -> None:
        """Look at the frames that came, measure the pairs whose subject is settled, and drop frames of no more use."""
        came, self.unseen = self.unseen, []
        settled = self._settled(came, ended)
        for start in range(0, len(settled), WINDOW):
            self._measure(settled[start : start + WINDOW])
        first = (*self.path.numbers, *(number + 1 for number in came[-1:]), 0)[0]
        self.held = {number: frame for number, frame in self.held.items() if number >= first}

    def _settled(self, came: Sequence[int], ended: bool) -> Placed:
        """The subject in frames that were not measured yet."""
        if self.known is None:
            if came:
                self.path.add(came, candidates(self.model, self._features(came)))
            return self.path.settled(ended)
        count = int((self.known.numbers <= came[-1]).sum()) if came else 0
        settled, self.known = self.known[:count], self.known[count:]
        return settled

    def _features(self, numbers: Sequence[int]) -> Features:
        return joined([self.held[number] for number in numbers], next(self.model.parameters()).device)

    def _measure(self, window: Placed) -> None:
        numbers = window.numbers.tolist()
        later = [number + self.pairing.delta for number in numbers]
        a, b = self._features(numbers), self._features(later)
        subject = window if isinstance(window, Subject) else posed(self.model, a, window)
        self.parts.append(subject)
        pair = _Pairs(a=a, b=b, boxes=subject.boxes.to(a.levels[0]), joints=subject.joints.to(a.levels[0]))
        if any(name.endswith("stranger") for name in self.names):
            pair = replace(pair, stranger=self._strangers(a))
        for name in self.names:
            found = self._flow(name, subject) if name in METHODS else self._of_maps(name, pair)
            self.measures[name].append(found.cpu())

    def _of_maps(self, name: str, pair: _Pairs) -> Tensor:
        """At the joints or, of STREAMS, pooled in the boxes."""
        kind = name.removeprefix("pooled ")
        if name in STREAMS:
            maps = pair.a.levels if name == "appearance" else self._maps(kind, pair)
            return pool(maps, pair.boxes[:, None].unbind(), self.model.cells)
        net = self._net(kind)
        if kind in ("dimofs", "random", "stranger") and isinstance(net, OffsetNet):
            return offsets_at(net, pair.differences(kind), pair.joints)
        return at_points(self._maps(kind, pair), pair.joints)

    def _maps(self, kind: str, pair: _Pairs) -> Sequence[Tensor]:
        """[P, C, h, w] of each level."""
        if kind == "later":
            return pair.b.levels
        if kind == "difference":
            return pair.differences(kind)
        if kind == "absolute":
            return [x.abs() for x in pair.differences(kind)]
        return self._net(kind)(pair.a.levels, pair.second(kind).levels)

    def _net(self, kind: str) -> OffsetNet | CoarseToFine:
        return self.nets.get(kind, self.model.offset_net)

    def _strangers(self, a: Features) -> Features:
        """As many frames of another clip, resized to the levels of `a`; `a` itself where that clip has none."""
        frames = []
        for _ in range(len(a)):
            self.stranger = next(self.strangers, self.stranger)
            frames.append(self.stranger)
        if self.stranger is None:
            return a
        levels = joined(frames, a.levels[0].device).levels
        pairs = zip(levels, a.levels, strict=True)
        return replace(a, levels=[F.interpolate(x, y.shape[-2:], mode="bilinear") for x, y in pairs])

    def _flow(self, method: str, subject: Subject) -> Tensor:
        """Optical flow at the joints, averaged over the cells of each level: [P, J, 8], in pixels of the frame."""
        found = []
        for number, joints in zip(subject.numbers.tolist(), subject.joints, strict=True):
            a, b = (self.held[n].pixels for n in (number, number + self.pairing.delta))
            assert a is not None and b is not None
            flow = METHODS[method](a, b).flow[None]
            scales = subject.to_frame.tolist()[::-1]
            size = [side / scale for side, scale in zip(flow.shape[2:], scales, strict=True)]
            cells = [(max(1, round(size[0] * scale)), max(1, round(size[1] * scale))) for scale in SCALES]
            found.append(at_points([F.adaptive_avg_pool2d(flow, grid) for grid in cells], joints[None]))
        return torch.cat(found)


@dataclass(frozen=True, kw_only=True)
class _Pairs:
    """Features of some pairs, and the subject in their frames A. stranger: frames that stand in for frames B."""

    a: Features
    b: Features
    boxes: Tensor
    joints: Tensor
    stranger: Features | None = None

    def second(self, kind: str) -> Features:
        """Frames B of a kind of map."""
        if kind != "stranger":
            return self.b
        assert self.stranger is not None
        return self.stranger

    def differences(self, kind: str) -> list[Tensor]:
        return [x - y for x, y in zip(self.a.levels, self.second(kind).levels, strict=True)]
