"""Table 3 and Figure 7: heads trained on streams of the same frozen detector, and compared on the test clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from dimofs.cli import InputError
from dimofs.datasets.jhmdb import Jhmdb
from dimofs.eval.actions.files import Truth
from dimofs.eval.actions.frame_map import Definition, LabelledBoxes, frame_ap, matched
from dimofs.eval.tables.action_streams import StreamSource
from dimofs.eval.tables.action_tracks import along_tracks
from dimofs.zoo import checkpoints
from dimofs.zoo.detection import box_coder, box_head
from dimofs.zoo.detection.action_head import ActionHead
from dimofs.zoo.detection.action_localizer import ActionLocalizer
from dimofs.zoo.training.action_data import LabelledClip, Regions, jhmdb_clips, labelled_box, later
from dimofs.zoo.training.action_streams import kept
from dimofs.zoo.training.actions import ActionRecipe, ActionTask, RegionTable
from dimofs.zoo.training.feature_cache import FeatureCache
from dimofs.zoo.training.recipes import Recipe
from dimofs.zoo.training.trainer import trained

RESAMPLES = 500


class HeadAlone(nn.Module):
    """An action head without the detector that its streams come from."""

    def __init__(self, head: ActionHead):
        super().__init__()
        self.head = head


@dataclass(frozen=True, kw_only=True)
class HeadTask(ActionTask):
    """Train such a head. classes: the number of actions; hidden: of the head's layers."""

    classes: int
    hidden: int

    def build(self) -> HeadAlone:
        return HeadAlone(ActionHead([x.shape[1] for x in self.table.streams], self.classes, self.hidden))


@dataclass(frozen=True, kw_only=True)
class Part:
    """Clips with their regions: the training or the test part of a comparison."""

    clips: Sequence[LabelledClip]
    parts: Sequence[Regions]

    def table(self, streams: Sequence[StreamSource]) -> RegionTable:
        """The regions with these streams."""
        pooled = [
            [source(clip, regions) for source in streams] for clip, regions in zip(self.clips, self.parts, strict=True)
        ]
        return RegionTable(
            regions=Regions.join(self.parts),
            streams=[torch.cat(same) for same in zip(*pooled, strict=True)],
            clips=self.clips,
        )


@torch.inference_mode()
def predict(model: nn.Module, table: RegionTable, tracks: bool = False) -> LabelledBoxes:
    """The detections of a head: each region with each class, ranked by the product of person and action.

    tracks: average the actions over the regions of one person, see `along_tracks`.
    Boxes are in pixels of the frame and inclusive of their last pixel, as JHMDB's.
    """
    regions = table.regions
    logits, deltas = model.head([x.float() for x in table.streams])  # type: ignore[operator, union-attr]
    actions = logits.softmax(1)[:, 1:]
    scores = regions.scores[:, None] * (along_tracks(regions, actions) if tracks else actions)
    boxes = box_coder.decode(deltas, regions.boxes, deltas.new_tensor(box_head.WEIGHTS))
    return _flattened(regions.frames, boxes * regions.scale[regions.frames].repeat(1, 2), scores)


def truth_of(part: Part, classes: Sequence[str]) -> Truth:
    """The labels of the frames that the part's regions are of."""
    frames: list[tuple[str, int]] = []
    labels: list[tuple[int, int, Tensor]] = []
    for clip, regions in zip(part.clips, part.parts, strict=True):
        assert clip.boxes is not None
        for number in regions.numbers.tolist():
            labels.append((len(frames), clip.label, clip.boxes[number]))
            frames.append((clip.name, number))
    return _truth(classes, frames, labels)


def bootstrap(truth: Truth, found: Sequence[LabelledBoxes], samples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """frame-mAP (voc) in percent of several sets of detections, each with the same resampled clips: [S, sets].

    Whether a detection is right does not depend on other clips, so that only the curves are computed again.
    """
    videos = sorted({video for video, _ in truth.frames})
    clip_of = np.array([videos.index(video) for video, _ in truth.frames])
    random = np.random.default_rng(seed)
    weights = np.stack(
        [np.bincount(random.integers(0, len(videos), len(videos)), minlength=len(videos)) for _ in range(samples)]
    )
    # Clips without a label have no mean.
    weights = weights[weights[:, clip_of[truth.boxes.frames]].any(axis=1)]
    return np.stack([_weighted_map(truth, boxes, clip_of, weights) for boxes in found], axis=1)


def _weighted_map(truth: Truth, found: LabelledBoxes, clip_of: np.ndarray, weights: np.ndarray) -> np.ndarray:
    right = matched(truth.boxes, found, "voc", 0.5)
    result = np.full((len(weights), len(truth.classes)), np.nan)
    for label in range(len(truth.classes)):
        rows = np.flatnonzero(found.labels == label)
        rows = rows[np.argsort(-found.scores[rows], kind="stable")]
        # Between right detections precision only falls, so that the curve's envelope needs no others.
        clips, hit = clip_of[found.frames[rows]], np.flatnonzero(right[rows])
        labelled = clip_of[truth.boxes.frames[truth.boxes.labels == label]]
        for sample, weight in enumerate(weights):
            wanted, here = weight[labelled].sum(), weight[clips]
            if not wanted:
                continue
            precision = np.cumsum(here[hit]) / np.maximum(np.cumsum(here)[hit], 1)
            envelope = np.maximum.accumulate(precision[::-1])[::-1]
            result[sample, label] = (here[hit] / wanted * envelope).sum()
    return 100 * np.nanmean(result, axis=1)


def mean_ap(truth: Truth, found: LabelledBoxes, definition: Definition = "voc") -> float:
    """frame-mAP@0.5 in percent."""
    return float(100 * np.nanmean(frame_ap(truth.boxes, found, len(truth.classes), definition)))


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What one column's heads found, one for each seed, and the accuracy of their sums over clips, percent."""

    found: Sequence[LabelledBoxes]
    accuracy: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Heads for columns on the same parts. recipe, hidden: of the heads. folder: where what they learned is kept.

    tracks: see `predict`.
    """

    train: Part
    test: Part
    classes: Sequence[str]
    recipe: Recipe
    hidden: int
    seeds: Sequence[int]
    folder: Path
    tracks: bool = False

    def trial(self, streams: Sequence[StreamSource], tracks: bool = False) -> Trial:
        """Heads trained and tested on `streams`, one for each seed."""
        return self.trials(streams, [streams], tracks)[0]

    def trials(
        self, streams: Sequence[StreamSource], tests: Sequence[Sequence[StreamSource]], tracks: bool = False
    ) -> list[Trial]:
        """Heads trained on `streams`, and run on each of `tests`, streams of the same widths."""
        heads, trials = self.heads(streams), []
        for test in tests:
            judged = self.test.table(test)
            found = [predict(head, judged, tracks or self.tracks) for head in heads]
            accuracy = [clip_accuracy(boxes, judged, len(self.classes)) for boxes in found]
            trials.append(Trial(found=found, accuracy=accuracy))
        return trials

    def heads(self, streams: Sequence[StreamSource]) -> list[HeadAlone]:
        """Heads trained on `streams`, one for each seed."""
        task = HeadTask(
            recipe=ActionRecipe(), table=self.train.table(streams), classes=len(self.classes), hidden=self.hidden
        )
        plan = f"{task.plan()} {self.recipe} {self.hidden}"
        return [self._head(task, plan, seed) for seed in tqdm(self.seeds, "seeds", leave=False, disable=None)]

    def _head(self, task: HeadTask, plan: str, seed: int) -> HeadAlone:
        """The head of a seed, trained or read from the folder."""
        model = task.build()
        key = f"head {seed} {plan}"
        model.load_state_dict(kept(self.folder, key, lambda: trained(task, self.recipe, seed).state_dict()))
        return model.eval()


def clip_accuracy(found: LabelledBoxes, table: RegionTable, classes: int) -> float:
    """The share, in percent, of clips whose action has the highest sum of scores over all regions, if there are any."""
    scores = torch.from_numpy(found.scores).view(-1, classes)
    clips = table.regions.clips[table.regions.frames]
    sums = torch.zeros(len(table.clips), classes, dtype=scores.dtype).index_add(0, clips, scores)
    labels = torch.tensor([clip.label for clip in table.clips])
    return float(100 * ((sums.argmax(1) == labels) & sums.any(1)).float().mean())


@torch.inference_mode()
def run_localizer(
    weights: str, source: Jhmdb, *, every: int, most: int | None, cache: Path
) -> tuple[Truth, LabelledBoxes]:
    """The labels of every `every`-th frame of a part's clips, at most `most` a class, and what a model finds there.

    InputError: the weights are no action localizer's, or it knows other classes; a label lies outside its frame.
    """
    model = checkpoints.load_as(ActionLocalizer, weights)
    clips, classes = jhmdb_clips(source)
    if tuple(classes) != model.action_names:
        raise InputError(f"{weights}: knows {', '.join(model.action_names)[:200]}; the clips have other classes")
    clips = limited(clips, most)
    features = FeatureCache(cache, model)
    frames: list[tuple[str, int]] = []
    labels: list[tuple[int, int, Tensor]] = []
    found: list[LabelledBoxes] = []
    for clip in tqdm(clips, "clips", unit="clip", disable=None):
        numbers = torch.arange(0, clip.length, every)
        a = features.features(clip.path, numbers.tolist())
        others = {
            delta: features.features(clip.path, later(numbers, clip.length, delta).tolist()) for delta in model.deltas
        }
        for number, people in zip(numbers.tolist(), model.detect(a, others), strict=True):
            labelled_box(clip, number, a.geometry)
            found.append(_flattened(torch.full((len(people),), len(frames)), people.boxes, people.joint_scores))
            assert clip.boxes is not None
            labels.append((len(frames), clip.label, clip.boxes[number]))
            frames.append((clip.name, number))
    return _truth(classes, frames, labels), LabelledBoxes.join(found)


def limited(clips: Sequence[LabelledClip], most: int | None) -> list[LabelledClip]:
    """The first `most` clips of each class, None for all of them."""
    if most is None:
        return list(clips)
    seen: dict[int, int] = {}
    kept_clips = []
    for clip in clips:
        seen[clip.label] = seen.get(clip.label, 0) + 1
        if seen[clip.label] <= most:
            kept_clips.append(clip)
    return kept_clips


def _flattened(frames: Tensor, boxes: Tensor, scores: Tensor) -> LabelledBoxes:
    """People [P] with classes [P, C] as P * C rows; boxes become inclusive of their last pixel."""
    people, classes = scores.shape
    inclusive = torch.cat((boxes[:, :2], torch.maximum(boxes[:, 2:] - 1, boxes[:, :2])), dim=1)
    return LabelledBoxes(
        frames=frames.repeat_interleave(classes).numpy(),
        labels=np.tile(np.arange(classes), people),
        boxes=inclusive.repeat_interleave(classes, 0).double().numpy(),
        scores=scores.flatten().double().numpy(),
    )


def _truth(
    classes: Sequence[str], frames: Sequence[tuple[str, int]], labels: Sequence[tuple[int, int, Tensor]]
) -> Truth:
    """Labels from rows of (frame, class, box); boxes that are not known are left out. InputError: none is known."""
    rows = [row for row in labels if row[2].isfinite().all()]
    if not rows:
        raise InputError("the frames that are judged have no labelled box; there is nothing to find")
    boxes = LabelledBoxes(
        frames=np.array([frame for frame, _, _ in rows], np.int64),
        labels=np.array([label for _, label, _ in rows], np.int64),
        boxes=torch.stack([box for _, _, box in rows]).double().numpy() - np.array([0, 0, 1, 1]),
        scores=np.ones(len(rows)),
    )
    return Truth(classes=classes, frames=frames, boxes=boxes, tracks=np.zeros(len(rows), int))
