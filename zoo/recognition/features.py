"""What is measured of every clip for recognition (section 5.2), each measure kept on disk under a hash of its inputs.

For pairs of frames (A, A + delta): the subject's box and joints in A, its motion at each joint, and the pooled streams
that an action localizer reads. A clip is decoded, and passes the backbone, once for all measures not known yet.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from zlib import crc32

import torch
import torch.nn.functional as F
from torch import Tensor

from dimofs.datasets.labelled_clips import ClipFault, LabelledClip
from dimofs.flow import METHODS
from dimofs.zoo.backbones.fpn import SCALES
from dimofs.zoo.detection.action_head import pool
from dimofs.zoo.detection.action_localizer import ActionLocalizer
from dimofs.zoo.detection.coarse_to_fine import CoarseToFine
from dimofs.zoo.detection.features import Features
from dimofs.zoo.detection.offsets import OffsetNet
from dimofs.zoo.recognition.pairs import ClipFeatures, Pairing, read_features, read_pixels
from dimofs.zoo.recognition.subject import Subject, at_points, find_subject, nobody, offsets_at
from dimofs.zoo.training.action_streams import kept
from dimofs.zoo.training.feature_cache import FeatureCache, digest

# What maps there are of a pair: DiMoFs; those of an offset net of random weights; those onto a frame of another clip;
# f_A - f_B; f_B.
MAPS = ("dimofs", "random", "stranger", "difference", "later")
# What can be measured at joints.
MOTIONS = (*MAPS, *METHODS)
# What an action localizer's head can read in the subject's box.
STREAMS = ("appearance", *(f"pooled {kind}" for kind in MAPS))
# The version of the files.
VERSION = 1
# Measures are kept as float16, which holds 65504.
LARGEST = 6e4


class ClipMeasures:
    """Measures of clips, from `folder` where they are known.

    model: what measures; it is frozen. strangers: the clips of which one, drawn by the clip's name, gives the frames B
    of "stranger". seed: of the random offset net.
    """

    def __init__(
        self,
        model: ActionLocalizer,
        folder: str | Path,
        *,
        pairing: Pairing | None = None,
        strangers: Sequence[LabelledClip] = (),
        seed: int = 0,
    ):
        self.model, self.folder, self.strangers = model, Path(folder), strangers
        self.pairing = pairing or Pairing()
        self.stored = FeatureCache(folder, model)
        self.random_net = random_offsets(model, seed)
        people = (model.mixing, model.rpn, model.box_head, model.keypoint_head)
        self._model = " ".join(digest(part) for part in people if part is not None)
        trained, random = digest(model.offset_net), digest(self.random_net)
        self._nets = {"dimofs": trained, "stranger": trained, "random": random}

    def subject(self, clip: LabelledClip, names: Iterable[str] = ()) -> tuple[Subject, ClipFault | None]:
        """The subject in each Frame A, and what is wrong with the clip.

        There are no frames where the clip cannot be used, is too short for a pair or shows nobody. names: what else is
        measured in the same pass.
        """
        return _as_subject(self.measured(clip, names)["subject"])

    def measure(self, clip: LabelledClip, name: str) -> Tensor:
        """One of MOTIONS at the joints, [P, J, D], or of STREAMS, [P, width], of the subject's P frames; float16."""
        return self.measured(clip, [name])[name]["x"]

    def measured(self, clip: LabelledClip, names: Iterable[str]) -> dict[str, dict[str, Tensor]]:
        """Measures by name, and always "subject", as tensors by name; "subject" alone where there is nobody.

        InputError: the clip's file cannot be read.
        """
        source, opened = self._source(clip), OpenClip(self, clip)
        found = {"subject": kept(self.folder, f"{source} subject", opened.find)}
        opened.subject, _ = _as_subject(found["subject"])
        for name in names if len(opened.subject) else ():
            key = f"{source} {self._inputs(clip, name)}"
            found[name] = kept(self.folder, key, lambda name=name: {"x": opened.compute(name)})
        return found

    def other(self, clip: LabelledClip) -> LabelledClip:
        """The clip whose frames stand in for frames B as "stranger". ValueError: there is none."""
        others = [other for other in self.strangers if other.name != clip.name]
        if not others:
            raise ValueError("a Frame B of another clip needs another clip")
        return others[crc32(clip.name.encode()) % len(others)]

    def _source(self, clip: LabelledClip) -> str:
        """What tells the pairs and features of a clip apart from those of others."""
        return f"{VERSION} {self.stored.file(clip.path).name} {clip.start} {clip.end} {self.pairing} {self._model}"

    def _inputs(self, clip: LabelledClip, name: str) -> str:
        """What a measure depends on beside that."""
        kind = name.removeprefix("pooled ")
        other = self._source(self.other(clip)) if kind == "stranger" else ""
        cells = self.model.cells if name in STREAMS else ""
        return f"{name} {cells} {self._nets.get(kind)} {other}"


class OpenClip:
    """A clip of which something is measured: it is read once, when that is needed.

    subject: set once it is known.
    """

    def __init__(self, measures: ClipMeasures, clip: LabelledClip):
        self.measures, self.clip = measures, clip
        self.subject = nobody(0)

    @torch.inference_mode()
    def find(self) -> dict[str, Tensor]:
        """The subject's tensors, and as "fault" the letters of what is wrong with the clip."""
        model, read = self.measures.model, self.read
        numbers = self.measures.pairing.numbers(read.length)
        fault = "" if read.fault is None else json.dumps(asdict(read.fault))
        if numbers:
            found = find_subject(model, read.at(numbers), numbers)
        else:
            assert model.keypoint_head is not None
            found = nobody(model.keypoint_head.joints)
        return {**found.tensors(), "fault": torch.tensor(list(fault.encode()), dtype=torch.uint8)}

    @torch.inference_mode()
    def compute(self, name: str) -> Tensor:
        """One of MOTIONS or STREAMS, float16."""
        if name in STREAMS:
            maps = self.read.at(self._numbers()).levels if name == "appearance" else self._maps(name.split()[1])
            found = pool(maps, self.subject.boxes[:, None].unbind(), self.measures.model.cells)
        elif name in METHODS:
            found = self._flow(name)
        else:
            found = self._at_joints(name)
        return found.clamp(-LARGEST, LARGEST).half()

    @cached_property
    def read(self) -> ClipFeatures:
        """The features of the clip's pairs."""
        return read_features(self.measures.model, self.measures.stored, self.clip, self.measures.pairing)

    def _numbers(self, shift: int = 0) -> list[int]:
        return (self.subject.numbers + shift).tolist()

    def _pair(self, kind: str) -> tuple[Features, Features]:
        """The subject's frames A and their frames B."""
        a = self.read.at(self._numbers())
        later = self._numbers(self.measures.pairing.delta)
        return a, self._stranger(a) if kind == "stranger" else self.read.at(later)

    def _net(self, kind: str) -> OffsetNet | CoarseToFine:
        return self.measures.random_net if kind == "random" else self.measures.model.offset_net

    def _at_joints(self, kind: str) -> Tensor:
        """One of MAPS at the joints."""
        a, b = self._pair(kind)
        net, joints = self._net(kind), self.subject.joints
        if kind == "later":
            return at_points(b.levels, joints)
        differences = [x - y for x, y in zip(a.levels, b.levels, strict=True)]
        if kind == "difference":
            return at_points(differences, joints)
        if isinstance(net, OffsetNet):
            return offsets_at(net, differences, joints)
        return at_points(net(a.levels, b.levels), joints)

    def _maps(self, kind: str) -> Sequence[Tensor]:
        """One of MAPS of the subject's frames, [P, C, h, w] of each level."""
        a, b = self._pair(kind)
        if kind == "later":
            return b.levels
        if kind == "difference":
            return [x - y for x, y in zip(a.levels, b.levels, strict=True)]
        return self._net(kind)(a.levels, b.levels)

    def _stranger(self, a: Features) -> Features:
        """Frames of another clip, resized to the levels of `a`; its last one is repeated where it is shorter."""
        measures = self.measures
        other = read_features(measures.model, measures.stored, measures.other(self.clip), measures.pairing)
        known = measures.pairing.numbers(other.length)
        if not known:
            return a
        b = other.at([known[min(place, len(known) - 1)] for place in range(len(a))])
        pairs = zip(b.levels, a.levels, strict=True)
        return replace(a, levels=[F.interpolate(x, y.shape[-2:], mode="bilinear") for x, y in pairs])

    def _flow(self, method: str) -> Tensor:
        """Optical flow at the joints, averaged over the cells of each level: [P, J, 8], in pixels of the frame."""
        numbers, later = self._numbers(), self._numbers(self.measures.pairing.delta)
        frames = read_pixels(self.clip, {*numbers, *later})
        found = []
        for a, b, joints in zip(numbers, later, self.subject.joints, strict=True):
            flow = METHODS[method](frames[a], frames[b]).flow[None]
            size = [
                side / scale for side, scale in zip(flow.shape[2:], self.subject.to_frame.tolist()[::-1], strict=True)
            ]
            cells = [(max(1, round(size[0] * scale)), max(1, round(size[1] * scale))) for scale in SCALES]
            found.append(at_points([F.adaptive_avg_pool2d(flow, grid) for grid in cells], joints[None]))
        return torch.cat(found)


def _as_subject(tensors: Mapping[str, Tensor]) -> tuple[Subject, ClipFault | None]:
    fault = json.loads(bytes(tensors["fault"].tolist()) or b"null")
    fields = {name: tensor for name, tensor in tensors.items() if name != "fault"}
    return Subject(**fields), None if fault is None else ClipFault(**fault)


def random_offsets(model: ActionLocalizer, seed: int) -> OffsetNet:
    """The paper's offset net with PyTorch's random weights, for the features of `model`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        channels = model.mixing[0].in_channels  # type: ignore[union-attr]
        return OffsetNet(channels, zero=False).eval()  # type: ignore[arg-type]
