"""What is measured of every clip for recognition (section 5.2), each measure kept on disk under a hash of its inputs.

For pairs of frames (A, A + delta): the subject's box and joints in A, its motion at each joint, and the pooled streams
that an action localizer reads. A clip is decoded, and passes the backbone, once for all measures not known yet.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from zlib import crc32

import torch
from torch import Tensor

from dimofs.cli import InputError
from dimofs.datasets.labelled_clips import ClipFault, ClipReader, LabelledClip, fault_of
from dimofs.flow import METHODS
from dimofs.reader import count_frames
from dimofs.sources import printable
from dimofs.video import Frame
from dimofs.zoo.detection.action_localizer import ActionLocalizer
from dimofs.zoo.detection.offsets import OffsetNet
from dimofs.zoo.recognition.clip_pass import STREAMS, ClipPass
from dimofs.zoo.recognition.pairs import BATCH, Pairing, SeenFrame, alone, halved, through_backbone
from dimofs.zoo.recognition.subject import Subject
from dimofs.zoo.training.action_streams import keep, known
from dimofs.zoo.training.feature_cache import FeatureCache, digest

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
        self.random_net = random_offsets(model, seed).to(next(model.parameters()).device)
        people = (model.mixing, model.rpn, model.box_head, model.keypoint_head)
        self._model = " ".join(digest(part) for part in people if part is not None)
        trained, random = digest(model.offset_net), digest(self.random_net)
        self._nets = {"dimofs": trained, "stranger": trained, "random": random}

    def subject(self, clip: LabelledClip, names: Iterable[str] = ()) -> tuple[Subject, ClipFault | None]:
        """The subject in each Frame A, and what is wrong with the clip.

        There are no frames where the clip cannot be used, is too short for a pair or shows nobody. names: what else is
        measured in the same pass.
        """
        return as_subject(self.measured(clip, names)["subject"])

    def measure(self, clip: LabelledClip, name: str) -> Tensor:
        """One of MOTIONS at the joints, [P, J, D], or of STREAMS, [P, width], of the subject's P frames; float16."""
        return self.measured(clip, [name])[name]["x"]

    def measured(self, clip: LabelledClip, names: Iterable[str]) -> dict[str, dict[str, Tensor]]:
        """Measures by name, and always "subject", as tensors by name; "subject" alone where there is nobody.

        InputError: the clip's file cannot be read.
        """
        (found,) = self.measured_all([clip], names)
        if isinstance(found, InputError):
            raise found
        return found

    def measured_all(
        self, clips: Iterable[LabelledClip], names: Iterable[str]
    ) -> Iterator[dict[str, dict[str, Tensor]] | InputError]:
        """`measured` of each clip, in order; frames of several clips pass the backbone together."""
        wanted = list(dict.fromkeys(names))

        def frames() -> Iterator[tuple[OpenClip, Frame | SeenFrame | None]]:
            for clip in clips:
                one = OpenClip(self, clip, wanted)
                yield from ((one, frame) for frame in one.frames())
                yield one, None

        for one, frame in through_backbone(self.model, frames()):
            if frame is None:
                yield one.result()
            else:
                one.take(frame)

    def other(self, clip: LabelledClip) -> LabelledClip:
        """The clip whose frames stand in for frames B as "stranger". ValueError: there is none."""
        others = [other for other in self.strangers if other.name != clip.name]
        if not others:
            raise ValueError("a Frame B of another clip needs another clip")
        return others[crc32(clip.name.encode()) % len(others)]

    def key(self, clip: LabelledClip, name: str) -> str:
        """What "subject" or a measure of a clip is kept under. InputError: the clip's file cannot be read."""
        if name == "subject":
            return f"{self._source(clip)} subject"
        kind = name.removeprefix("pooled ")
        other = self._source(self.other(clip)) if kind == "stranger" else ""
        cells = self.model.cells if name in STREAMS else ""
        return f"{self._source(clip)} {name} {cells} {self._nets.get(kind)} {other}"

    def whole(self, clip: LabelledClip) -> list[int] | None:
        """The numbers of all frames of a clip's pairs, if the features of all are stored; else None."""
        stored = self.stored.numbers(clip.path) if clip.end is None else set()
        if not stored:
            return None
        length = max(0, count_frames(clip.path) - clip.start)
        numbers = sorted({b for a in self.pairing.numbers(length) for b in (a, a + self.pairing.delta)})
        return numbers if numbers and {clip.start + number for number in numbers} <= stored else None

    def seen(self, clip: LabelledClip, numbers: Sequence[int]) -> Iterator[SeenFrame]:
        """Frames of a clip whose features are stored."""
        for start in range(0, len(numbers), BATCH):
            some = numbers[start : start + BATCH]
            features = halved(self.stored.features(clip.path, [clip.start + number for number in some]))
            yield from (SeenFrame(number, features[at : at + 1]) for at, number in enumerate(some))

    def firsts(self, clip: LabelledClip) -> Iterator[SeenFrame]:
        """The frames A of a clip's pairs, none if it cannot be read."""
        numbers = self.whole(clip)
        reader = _numbered(ClipReader(clip, least=self.pairing.delta + 1))
        frames = (frame for frame in reader if self.pairing.reads(frame.index))
        waiting = deque[SeenFrame]()
        for frame in self.seen(clip, numbers) if numbers else alone(self.model, frames):
            waiting.append(replace(frame, pixels=None))
            if self.pairing.ends(frame.number):
                while waiting[0].number < frame.number - self.pairing.delta:
                    waiting.popleft()
                yield waiting[0]

    def _source(self, clip: LabelledClip) -> str:
        """What tells the pairs and features of a clip apart from those of others."""
        return f"{VERSION} {self.stored.file(clip.path).name} {clip.start} {clip.end} {self.pairing} {self._model}"


class OpenClip:
    """A clip that is measured, as far as that is not known: give `take` the features of its `frames`, all of them."""

    def __init__(self, measures: ClipMeasures, clip: LabelledClip, names: Sequence[str]):
        self.measures, self.clip, self.names = measures, clip, names
        self.error: InputError | None = None
        self.fault: ClipFault | None = None
        self.found: dict[str, dict[str, Tensor]] = {}
        self.running: ClipPass | None = None
        try:
            self._open()
        except InputError as error:
            self.error = error

    def _open(self) -> None:
        """Read what is known, and prepare to measure the rest."""
        subject = self._known("subject")
        if subject is not None and not len(subject["numbers"]):
            return
        missing = [name for name in self.names if self._known(name) is None]
        if subject is not None and not missing:
            return
        measures, clip = self.measures, self.clip
        strange = any(name.endswith("stranger") for name in missing)
        self.running = ClipPass(
            measures.model,
            measures.pairing,
            missing,
            subject=None if subject is None else as_subject(subject)[0],
            random=measures.random_net,
            strangers=measures.firsts(measures.other(clip)) if strange else None,
        )

    def _known(self, name: str) -> dict[str, Tensor] | None:
        found = known(self.measures.folder, self.measures.key(self.clip, name))
        if found is not None:
            self.found[name] = self._named(found) if name == "subject" else found
        return found

    def _named(self, subject: dict[str, Tensor]) -> dict[str, Tensor]:
        """What is known of a subject, with a fault of this clip: it may have been measured under another name, or be
        of a clip of the same bytes."""
        fault = as_subject(subject)[1]
        if fault is None or (fault.name == self.clip.name and fault.reason.startswith(f"{printable(self.clip.path)}:")):
            return subject
        return {**subject, "fault": _letters(fault_of(self.clip, self._least))}

    @property
    def _least(self) -> int:
        """The frames of the shortest clip that has a pair."""
        return self.measures.pairing.delta + 1

    def frames(self) -> Iterator[Frame | SeenFrame]:
        """The frames that `take` wants once they passed the backbone, numbered from the clip's start, or the features
        of those that are stored."""
        if self.running is None:
            return
        pixels = any(name in METHODS for name in self.running.names)
        stored = self.measures.whole(self.clip)
        if stored and not pixels:
            yield from self.measures.seen(self.clip, stored)
            if "subject" not in self.found:
                self.fault = fault_of(self.clip, self._least)
            return
        reader = ClipReader(self.clip, self._least)
        for frame in _numbered(reader):
            if not self.measures.pairing.reads(frame.index):
                continue
            if stored:
                (seen,) = self.measures.seen(self.clip, [frame.index])
                yield replace(seen, pixels=frame.pixels)
            else:
                yield frame
        self.fault = reader.fault

    def take(self, frame: SeenFrame) -> None:
        assert self.running is not None
        keeps = any(name in METHODS for name in self.running.names)
        self.running.take(frame if keeps else replace(frame, pixels=None))

    def result(self) -> dict[str, dict[str, Tensor]] | InputError:
        """What was asked for, once all frames were taken; what was measured is kept on disk."""
        if self.error is not None:
            return self.error
        if self.running is not None:
            subject, measured = self.running.end()
            if "subject" not in self.found:
                self._keep("subject", {**subject.tensors(), "fault": _letters(self.fault)})
            for name, x in measured.items():
                self._keep(name, {"x": x.clamp(-LARGEST, LARGEST).half()})
            self.running = None
        return self.found

    def _keep(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        self.found[name] = keep(self.measures.folder, self.measures.key(self.clip, name), tensors)


def _numbered(reader: ClipReader) -> Iterator[Frame]:
    """The frames of a clip, numbered from its start."""
    return (replace(frame, index=frame.index - reader.clip.start) for frame in reader)


def _letters(fault: ClipFault | None) -> Tensor:
    """A fault as a tensor, for a file."""
    text = "" if fault is None else json.dumps(asdict(fault))
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


def as_subject(tensors: Mapping[str, Tensor]) -> tuple[Subject, ClipFault | None]:
    """The subject and the fault that "subject" holds."""
    fault = json.loads(bytes(tensors["fault"].tolist()) or b"null")
    fields = {name: tensor for name, tensor in tensors.items() if name != "fault"}
    return Subject(**fields), None if fault is None else ClipFault(**fault)


def random_offsets(model: ActionLocalizer, seed: int) -> OffsetNet:
    """The paper's offset net with PyTorch's random weights, for the features of `model`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        channels = model.mixing[0].in_channels  # type: ignore[union-attr]
        return OffsetNet(channels, zero=False).eval()  # type: ignore[arg-type]
