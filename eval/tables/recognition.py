"""Rows of Table 4 that are ours: recognition from clusters of poses and motions, with its controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from dimofs.cli import InputError
from dimofs.datasets.labelled_clips import ClipSet
from dimofs.eval.tables.actions import HeadTask
from dimofs.zoo.detection.action_head import ActionHead
from dimofs.zoo.recognition.classifier import HIDDEN, activations, fit_classifier
from dimofs.zoo.recognition.clusters import Components, PoseClusters
from dimofs.zoo.recognition.features import ClipMeasures
from dimofs.zoo.recognition.pipeline import (
    FitPairs,
    Surveyed,
    clip_activations,
    clip_histograms,
    cluster_pairs,
    fit_pairs,
    survey,
)
from dimofs.zoo.training.action_streams import kept
from dimofs.zoo.training.actions import ActionRecipe
from dimofs.zoo.training.feature_cache import tensors_digest
from dimofs.zoo.training.recipes import Recipe
from dimofs.zoo.training.trainer import trained

# Rows that others are compared with.
POSE, FLOW, INIT, FINAL = "init (pose)", "init (pose + optical flow)", "init (pose + DiMoFs)", "final (pose + DiMoFs)"


class Row(NamedTuple):
    """A row of ours. motion: clustered beside poses, one of MOTIONS. pooled: the stream beside appearance that a head
    reads, one of STREAMS; without, the row is a histogram of cluster numbers. direct: the head learns the classes of
    the clips in place of clusters. paper: accuracy in the paper."""

    name: str
    motion: str | None = None
    pooled: str | None = None
    direct: bool = False
    paper: float | None = None

    @property
    def streams(self) -> tuple[str, ...]:
        return () if self.pooled is None else ("appearance", self.pooled)

    @property
    def measures(self) -> list[str]:
        """What of each clip must be measured."""
        return [name for name in (self.motion, *self.streams) if name is not None]


ROWS = (
    Row(POSE, paper=17.2),
    Row(FLOW, "farneback", paper=18.8),
    Row(INIT, "dimofs", paper=21.4),
    Row("init, random offset net", "random"),
    Row("init, B of another clip", "stranger"),
    Row("init, f_A - f_B", "difference"),
    Row("init, |f_A - f_B|", "absolute"),
    Row(FINAL, "dimofs", "pooled dimofs", paper=24.1),
    Row("final, random offset net", "random", "pooled random"),
    Row("final, B of another clip", "stranger", "pooled stranger"),
    Row("final, f_A - f_B", "difference", "pooled difference"),
    Row("final, |f_A - f_B|", "absolute", "pooled absolute"),
    Row("actions directly", None, "pooled dimofs", direct=True),
    Row("actions, random offset net", None, "pooled random", direct=True),
    Row("actions, f_A - f_B", None, "pooled difference", direct=True),
)


class Trial(NamedTuple):
    """What one row found. scores: by the name of a classifier, for each seed class scores [N, C] of the test clips."""

    scores: Mapping[str, Sequence[Tensor]]


@dataclass(frozen=True, kw_only=True)
class RecognitionBench:
    """The data, the measures and the settings of a table; see the options of eval.diving48.

    recipe, hidden: of the heads. folder: where what is computed is kept.
    """

    clips: ClipSet
    measures: ClipMeasures
    recipe: Recipe
    hidden: int
    clusters: int
    seeds: Sequence[int]
    folder: Path
    names: Sequence[str] = ()

    @cached_property
    def train(self) -> Surveyed:
        """The training clips, measured."""
        return survey(self.measures, self.clips.part("train"), self.names)

    @cached_property
    def test(self) -> Surveyed:
        """The test clips, measured."""
        return survey(self.measures, self.clips.part("test"), self.names)

    @cached_property
    def pairs(self) -> FitPairs:
        """The training pairs that clusters and heads are fitted to. InputError: nobody is found in any clip."""
        try:
            return fit_pairs(self.train)
        except ValueError as error:
            raise InputError(f"{self.clips.title}: {error}; give other clips or weights") from error

    def clustering(self, motion: str | None, seed: int) -> tuple[PoseClusters, Tensor]:
        """The clusters of a seed and the cluster of each of the training pairs."""
        key = f"clusters {motion} {seed} {self.clusters} {self._pairs_key} {self._measure_key(motion)}"

        def compute() -> dict[str, Tensor]:
            found, ids = cluster_pairs(self.measures, self.pairs, motion, seed=seed, count=self.clusters)
            reduced = {} if found.components is None else {f"pca.{k}": v for k, v in asdict(found.components).items()}
            return {"spreads": found.spreads, "centres": found.centres, "ids": ids, **reduced}

        found = kept(self.folder, key, compute)
        components = Components(mean=found["pca.mean"], axes=found["pca.axes"]) if "pca.mean" in found else None
        clusters = PoseClusters(spreads=found["spreads"], components=components, centres=found["centres"])
        return clusters, found["ids"]

    def head(self, row: Row, seed: int) -> ActionHead:
        """The head of a row that has one, trained or as it is kept."""
        labels = self.pairs.actions() if row.direct else self.clustering(row.motion, seed)[1]
        count = len(self.clips.classes) if row.direct else int(labels.max()) + 1
        streams = [self.pairs.measure(self.measures, name) for name in row.streams]
        table = self.pairs.table(streams, labels)
        task = HeadTask(recipe=ActionRecipe(), table=table, classes=count, hidden=self.hidden)
        model = task.build()
        key = f"head {seed} {task.plan()} {self.recipe} {self.hidden}"
        model.load_state_dict(kept(self.folder, key, lambda: trained(task, self.recipe, seed).state_dict()))
        return model.eval().head

    @torch.inference_mode()
    def agreement(self, row: Row, seed: int) -> float:
        """The share of training pairs, percent, whose most probable class by the head is the one that it learned."""
        labels = self.pairs.actions() if row.direct else self.clustering(row.motion, seed)[1]
        streams = [self.pairs.measure(self.measures, name).float() for name in row.streams]
        return 100 * float((activations(self.head(row, seed), streams).argmax(1) == labels).float().mean())

    def inputs(self, row: Row) -> list[tuple[Tensor, Tensor]]:
        """For each seed what the clips of both parts sum up to, [N, K] of training and [M, K] of test clips."""
        if row.pooled is None:
            found = [self.clustering(row.motion, seed)[0] for seed in self.seeds]
            sums = [clip_histograms(self.measures, part, row.motion, found) for part in (self.train, self.test)]
        else:
            heads = [self.head(row, seed) for seed in self.seeds]
            sums = [clip_activations(self.measures, part, row.streams, heads) for part in (self.train, self.test)]
        return list(zip(*sums, strict=True))

    def trial(self, row: Row) -> Trial:
        """The scores of a row's classifiers; of "actions directly" also the sum of its activations itself."""
        scores: dict[str, list[Tensor]] = {"linear": [], "MLP": []}
        if row.direct:
            scores["sum"] = []
        for seed, (train, test) in zip(self.seeds, self.inputs(row), strict=True):
            for name, hidden in (("linear", 0), ("MLP", HIDDEN)):
                model = fit_classifier(train, self.train.labels, len(self.clips.classes), hidden=hidden, seed=seed)
                with torch.inference_mode():
                    scores[name].append(model(test).softmax(1))
            if row.direct:
                scores["sum"].append(test)
        return Trial(scores)

    @cached_property
    def _pairs_key(self) -> str:
        names = [("boxes", self.pairs._joined("boxes")), ("numbers", self.pairs._joined("numbers"))]
        return tensors_digest([*names, ("joints", self.pairs._joined("joints"))])

    def _measure_key(self, motion: str | None) -> str:
        return "" if motion is None else tensors_digest([("x", self.pairs.measure(self.measures, motion))])
