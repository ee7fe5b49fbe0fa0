"""The stages of section 5.2 on a set of clips: clusters of poses and motions, a head that predicts them, and what a
clip's pairs sum up to. Stages read `ClipMeasures`, so that clips are measured once for all."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from dimofs.cli import InputError
from dimofs.datasets.labelled_clips import ClipFault, LabelledClip
from dimofs.zoo.detection.action_head import ActionHead
from dimofs.zoo.recognition.classifier import activations, histograms, summed
from dimofs.zoo.recognition.clusters import CLUSTERS, PoseClusters, fit_clusters
from dimofs.zoo.recognition.features import ClipMeasures, as_subject
from dimofs.zoo.recognition.subject import Subject
from dimofs.zoo.training import action_data
from dimofs.zoo.training.action_data import Regions
from dimofs.zoo.training.actions import RegionTable

# Pairs that clusters and heads are fitted to; of more, as many are drawn.
FIT_PAIRS = 40_000


@dataclass(frozen=True, kw_only=True)
class Surveyed:
    """Clips with the subjects in their pairs, in the order of the clips, and the clips at fault."""

    clips: Sequence[LabelledClip]
    subjects: Sequence[Subject]
    faults: Sequence[ClipFault]

    @property
    def labels(self) -> Tensor:
        """The class of each clip, [N] int64."""
        return torch.tensor([clip.label for clip in self.clips], dtype=torch.int64)

    @property
    def empty(self) -> list[str]:
        """The names of the clips in which nobody was found, those that cannot be used among them."""
        pairs = zip(self.clips, self.subjects, strict=True)
        return [clip.name for clip, subject in pairs if not len(subject)]

    def shown(self) -> Iterator[tuple[int, LabelledClip, Subject]]:
        """The number, the clip and the subject of clips that show somebody."""
        for number, (clip, subject) in enumerate(zip(self.clips, self.subjects, strict=True)):
            if len(subject):
                yield number, clip, subject


def survey(measures: ClipMeasures, clips: Sequence[LabelledClip], names: Sequence[str] = ()) -> Surveyed:
    """Measure all clips, at least their subjects; what is known already is not measured again.

    A progress bar says how long it takes; in a log file, a line every minute.

    InputError: a clip's file cannot be read.
    """
    subjects, faults = [], []
    pause = 0.2 if sys.stderr.isatty() else 60.0
    bar = tqdm(
        measures.measured_all(clips, names), "clips", len(clips), unit="clip", leave=False, delay=pause,
        mininterval=pause, maxinterval=pause,
    )  # fmt: skip
    for found in bar:
        if isinstance(found, InputError):
            raise found
        subject, fault = as_subject(found["subject"])
        subjects.append(subject)
        if fault is not None:
            faults.append(fault)
    return Surveyed(clips=clips, subjects=subjects, faults=faults)


@dataclass(frozen=True, kw_only=True)
class FitPairs:
    """The pairs that clusters and heads are fitted to: of each clip that shows somebody the rows among its pairs."""

    clips: Sequence[LabelledClip]
    subjects: Sequence[Subject]
    rows: Sequence[Tensor]

    def poses(self) -> Tensor:
        """[P, 2 J]."""
        parts = zip(self.subjects, self.rows, strict=True)
        return torch.cat([subject.poses()[rows] for subject, rows in parts])

    def measure(self, measures: ClipMeasures, name: str) -> Tensor:
        """One of MOTIONS or STREAMS of all pairs, float16."""
        parts = zip(self.clips, self.rows, strict=True)
        return torch.cat([measures.measure(clip, name)[rows] for clip, rows in parts])

    def regions(self, labels: Tensor) -> Regions:
        """Each subject's box as a region of the class 1 + label; labels [P]."""
        counts = torch.tensor([len(rows) for rows in self.rows])
        boxes = self._joined("boxes")
        return Regions(
            numbers=self._joined("numbers"),
            clips=torch.arange(len(counts)).repeat_interleave(counts),
            frames=torch.arange(len(boxes)),
            boxes=boxes,
            scores=self._joined("scores"),
            labels=1 + labels,
            targets=boxes,
            scale=torch.stack([subject.to_frame for subject in self.subjects]).repeat_interleave(counts, 0),
        )

    def table(self, streams: Sequence[Tensor], labels: Tensor) -> RegionTable:
        """What the head of an action localizer learns these labels [P] from; streams [P, width]."""
        named = [
            action_data.LabelledClip(name=clip.name, path=clip.path, label=clip.label, length=0) for clip in self.clips
        ]
        return RegionTable(regions=self.regions(labels), streams=streams, clips=named)

    def actions(self) -> Tensor:
        """The class of each pair's clip, [P]."""
        parts = zip(self.clips, self.rows, strict=True)
        return torch.cat([torch.full((len(rows),), clip.label) for clip, rows in parts])

    def _joined(self, field: str) -> Tensor:
        parts = zip(self.subjects, self.rows, strict=True)
        return torch.cat([getattr(subject, field)[rows] for subject, rows in parts])


def fit_pairs(part: Surveyed, most: int = FIT_PAIRS, seed: int = 0) -> FitPairs:
    """All pairs of the clips or, of more than `most`, so many drawn at random. ValueError: there are none."""
    shown = [(clip, subject) for _, clip, subject in part.shown()]
    total = sum(len(subject) for _, subject in shown)
    if not total:
        raise ValueError("no clip shows anybody")
    kept = torch.arange(total)
    if total > most:
        random = torch.Generator().manual_seed(seed)
        kept = torch.randperm(total, generator=random)[:most].sort().values
    chosen = torch.zeros(total, dtype=torch.bool).index_fill(0, kept, True)
    masks = chosen.split([len(subject) for _, subject in shown])
    used = [(*pair, mask.nonzero()[:, 0]) for pair, mask in zip(shown, masks, strict=True) if mask.any()]
    return FitPairs(
        clips=[clip for clip, _, _ in used],
        subjects=[subject for _, subject, _ in used],
        rows=[rows for _, _, rows in used],
    )


def cluster_pairs(
    measures: ClipMeasures, pairs: FitPairs, motion: str | None, *, seed: int, count: int = CLUSTERS
) -> tuple[PoseClusters, Tensor]:
    """Clusters of the pairs, and the cluster of each; `motion` is one of MOTIONS, None for poses alone."""
    poses = pairs.poses()
    motions = None if motion is None else pairs.measure(measures, motion)
    found = fit_clusters(poses, motions, count=count, seed=seed)
    return found, found.ids(poses, motions)


def clip_histograms(
    measures: ClipMeasures, part: Surveyed, motion: str | None, clusterings: Sequence[PoseClusters]
) -> list[Tensor]:
    """The share of each clip's pairs in each cluster, [N, K] for each clustering."""
    found = [torch.zeros(len(part.clips), len(clusters)) for clusters in clusterings]
    for number, clip, subject in part.shown():
        motions = None if motion is None else measures.measure(clip, motion)
        one = torch.zeros(len(subject), dtype=torch.int64)
        for rows, clusters in zip(found, clusterings, strict=True):
            ids = clusters.ids(subject.poses(), motions)
            rows[number] = histograms(ids, one, 1, len(clusters))[0]
    return found


@torch.inference_mode()
def clip_activations(
    measures: ClipMeasures, part: Surveyed, streams: Sequence[str], heads: Sequence[ActionHead]
) -> list[Tensor]:
    """The mean over each clip's pairs of each head's `activations`, [N, K]."""
    found: list[list[Tensor]] = [[] for _ in heads]
    numbers = []
    for number, clip, subject in part.shown():
        pooled = [measures.measure(clip, name).float() for name in streams]
        numbers.append(torch.full((len(subject),), number))
        for rows, head in zip(found, heads, strict=True):
            rows.append(activations(head, pooled))
    clips = torch.cat(numbers)
    return [summed(torch.cat(rows), clips, len(part.clips)) for rows in found]
