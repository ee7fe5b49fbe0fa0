"""The task `recognize`: a `Recognizer` for labelled clips (section 5.2), from measuring them to the classifier.

The head learns the classes of the training pairs' clips, or their pose clusters, by the loop that all tasks share; the
classifier is fitted when it is done.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dimofs.cli import InputError
from dimofs.datasets.labelled_clips import ClipSet, LabelledClip, check_classes, class_folders, jhmdb_clips, summary
from dimofs.zoo import checkpoints
from dimofs.zoo.detection.action_localizer import ActionLocalizer
from dimofs.zoo.devices import pick_device
from dimofs.zoo.presets import PRESETS
from dimofs.zoo.recognition.classifier import accuracies, fit_classifier
from dimofs.zoo.recognition.clusters import PoseClusters
from dimofs.zoo.recognition.features import ClipMeasures
from dimofs.zoo.recognition.pairs import DELTA, Pairing
from dimofs.zoo.recognition.pipeline import FitPairs, Surveyed, clip_activations, cluster_pairs, fit_pairs, survey
from dimofs.zoo.recognition.recognizer import Recognizer
from dimofs.zoo.training.action_options import ActionOptions
from dimofs.zoo.training.actions import ACTIONS, SHARED, ActionRecipe, ActionTask, RegionTable, start
from dimofs.zoo.training.data import Paths, need

RECOGNIZERS = ("recognize_mobile",)
# What the head reads, by the names of `ClipMeasures`, in the order of the preset's streams.
STREAMS = ("appearance", "pooled dimofs")
# The classifier is fitted after training.
RECOGNITION = ACTIONS.changed(steps=400, frozen=(*SHARED, "classifier."))


@dataclass(frozen=True, kw_only=True)
class RecognitionTask(ActionTask):
    """Learn what pairs show; see `ActionTask`. measures: what the classifier is fitted to afterwards, and tested on."""

    measures: ClipMeasures
    train: Surveyed
    test: Surveyed | None
    name = "recognize"

    def start(self, model: Any, weights: str) -> None:
        start(model, weights)
        model.head.fit(self.table.streams)

    def finish(self, run: str | Path, quiet: bool = False) -> None:
        """Fit the classifiers of a run folder's models, and print what share of the test clips each names rightly."""
        for folder in (Path(run) / "model", Path(run) / "best"):
            if folder.is_dir():
                score = self.classify(folder)
                if score is not None and not quiet:
                    print(f"{folder}: names {score:.1f} % of the test clips rightly")

    def classify(self, folder: Path) -> float | None:
        """Fit the classifier of the model in `folder`, and save it there whole.

        Returns the share of test clips that it names rightly, percent; None without any.
        """
        model = checkpoints.load_as(Recognizer, folder)
        count = len(model.class_names)
        sums = clip_activations(self.measures, self.train, STREAMS, [model.head])[0]
        model.classifier = fit_classifier(sums, self.train.labels, count)
        checkpoints.save(model, folder, {"task": self.name})
        if self.test is None:
            return None
        sums = clip_activations(self.measures, self.test, STREAMS, [model.head])[0]
        with torch.inference_mode():
            return accuracies(model.classifier(sums), self.test.labels, count)[0]


def recognition_task(
    options: ActionOptions, paths: Paths, *, preset: str, weights: str, variant: str | None, validate: bool,
    device: str | None, seed: int, every: int,
) -> RecognitionTask:  # fmt: skip
    """The task on the clips that the options name, measured and clustered.

    validate: keep the test clips out of training. InputError: clips or weights are missing or malformed, or show
    nobody.
    """
    data = _labelled(options, paths)
    clips = _clips_to_learn(data, validate)
    arguments = {"class_names": list(data.classes), "cells": options.cells, "hidden": options.hidden, "delta": DELTA}
    arguments |= {} if variant is None else {"variant": variant}
    model = PRESETS[preset](**arguments).eval()
    assert isinstance(model, ActionLocalizer)
    start(model, weights)
    pairing = Pairing(every=every, delta=DELTA)
    measures = ClipMeasures(model.to(pick_device(device)), options.cache, pairing=pairing)
    train = _surveyed(measures, clips, data)
    test = _surveyed(measures, data.part("test"), data) if validate else None
    pairs = fit_pairs(train)
    found, ids = None, pairs.actions()
    if options.pose_clusters:
        found, ids = cluster_pairs(measures, pairs, "dimofs", seed=seed)
    arguments["clusters"] = len(data.classes) if found is None else len(found)
    recipe = ActionRecipe(preset=preset, arguments=arguments, every=every)
    return RecognitionTask(
        recipe=recipe, table=_table(measures, pairs, ids), held_out_table=_held_out(measures, test, found),
        measures=measures, train=train, test=test,
    )  # fmt: skip


def _clips_to_learn(data: ClipSet, validate: bool) -> Sequence[LabelledClip]:
    """The clips to train on; those that are missing are told. InputError: a part has none, or all are of one class."""
    clips = data.part("train") if validate else data.clips
    if validate and not data.part("test"):
        raise InputError(f"--validate: {data.title} has no clip to test on; leave it out, or give more clips")
    check_classes(data.title, clips)
    for fault in data.missing:
        print(f"note: {fault.kind}: {fault.reason}", file=sys.stderr)
    if data.missing:
        print(f"note: {summary(data.missing)}", file=sys.stderr)
    return clips


def _table(measures: ClipMeasures, pairs: FitPairs, ids: Tensor) -> RegionTable:
    return pairs.table([pairs.measure(measures, name) for name in STREAMS], ids)


def _held_out(measures: ClipMeasures, test: Surveyed | None, clusters: PoseClusters | None) -> RegionTable | None:
    """The pairs of the test clips, and the cluster of each or, without clusters, its class."""
    if test is None:
        return None
    pairs = fit_pairs(test)
    if clusters is None:
        return _table(measures, pairs, pairs.actions())
    return _table(measures, pairs, clusters.ids(pairs.poses(), pairs.measure(measures, "dimofs")))


def _labelled(options: ActionOptions, paths: Paths) -> ClipSet:
    options.check_source(paths)
    if options.clips is not None:
        return class_folders(options.clips)
    clips = need(paths.jhmdb, "--jhmdb or --clips", "recognize")
    return jhmdb_clips(clips, need(paths.jhmdb_labels, "--jhmdb-labels", "--jhmdb"), options.split)


def _surveyed(measures: ClipMeasures, clips: Sequence[LabelledClip], data: ClipSet) -> Surveyed:
    """The clips, measured; what is wrong with some is told. InputError: none shows anybody."""
    part = survey(measures, clips, ["dimofs", *STREAMS])
    if len(part.empty) == len(part.clips):
        raise InputError(f"{data.title}: none of {len(clips)} clips shows anybody; give other clips")
    for fault in part.faults:
        print(f"note: {fault.kind}: {fault.reason}", file=sys.stderr)
    if part.faults or part.empty:
        print(f"note: {summary(part.faults)}; {len(part.empty)} clips show nobody", file=sys.stderr)
    return part
