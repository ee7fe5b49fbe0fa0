"""How well people are carried to frames in which nobody looked for them, and how fast.

    python -m dimofs.eval.carry                                  # key frames on 12 synthetic clips: PCK and MOTA
    python -m dimofs.eval.carry --jhmdb CLIPS --jhmdb-labels JHMDB --videos 60 --every 3 6
    python -m dimofs.eval.carry --labelled --jhmdb CLIPS --jhmdb-labels JHMDB

The first two compare `dimofs.zoo.pose --keyframe K` with the model on every frame, for each K of --every. People are
those of a score of at least 0.5. Beside motion stand straight lines between the same key frames, which look at no frame
between, and copying from the nearer key frame, which never looks at another frame; both know nothing of the frames
between. "found in" is the share of frames in which people were found rather than carried there. "times as fast"
compares CPU seconds of the network, key frames and all that is between them, of one process in turns; decoding,
tracking and writing are left out. On JHMDB one actor is labelled, so MOTA is that of synthetic clips alone.

With --labelled the labels of every K-th frame of JHMDB's test clips are carried to the frames between, as
`dimofs.zoo.propagate` does, and compared with the labels there. "agreed" is the share of joints with a confidence of at
least 0.5, and the PCK of these. --dense adds the dense motion of `detector.motion`, direct from both labelled frames
and blended linearly in time, which is much slower.

PCK is that of `dimofs.eval.pck`, MOTA that of `dimofs.eval.posetrack`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Annotated, get_args

import torch
from torch import Tensor
from tqdm import tqdm

from dimofs.cli import RESULT, InputError, Range, run
from dimofs.datasets.jhmdb import Jhmdb
from dimofs.datasets.sequences import LabelledVideo, jhmdb_videos, synthetic_videos
from dimofs.datasets.synthetic.clips import HELD_OUT, Synthetic
from dimofs.detections import Detections
from dimofs.eval.keypoints.pck import ALPHAS, ARMS_AND_LEGS, joint_errors, pck
from dimofs.eval.keypoints.scores import VideoScores, figures
from dimofs.eval.models import check_joints
from dimofs.eval.tables.compare import PERSON_SCORE, EvalOptions, track_scores
from dimofs.eval.tables.runs import Run
from dimofs.files import write_json
from dimofs.pages.report import recorded
from dimofs.skeletons import DIMOFS
from dimofs.tracking import tracker_named
from dimofs.video import Frame
from dimofs.zoo import checkpoints
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.features import Features
from dimofs.zoo.detection.keyframes import FAINT, Between, KeyFrames, keyed
from dimofs.zoo.detection.stream import Network
from dimofs.zoo.devices import pick_device
from dimofs.zoo.propagate import propagate
from dimofs.zoo.training.data import JhmdbClips, JhmdbLabels, need

# Synthetic clips.
CLIPS = 12
# Distances of labelled frames.
LABELLED_EVERY = (5, 10, 20)
METHODS: tuple[Between, ...] = get_args(Between)


def main(
    *,
    jhmdb: JhmdbClips = None,
    jhmdb_labels: JhmdbLabels = None,
    labelled: Annotated[bool, "carry labels of JHMDB's clips rather than what the model finds"] = False,
    dense: Annotated[bool, "with --labelled: also by the dense motion from both labelled frames"] = False,
    every: Annotated[Sequence[int] | None, "distances of key frames (default: 2 3 4 6 10; labels: 5 10 20)"] = None,
    videos: Annotated[int | None, f"at most so many clips (default: all, {CLIPS} synthetic ones)", Range(1)] = None,
    weights: Annotated[str, "model to run: a name or a checkpoint folder"] = "dimofs_mobile",
    size: Annotated[int | None, "longer side of the model's input (default: the model's own)", Range(32, 4096)] = None,
    device: Annotated[str | None, "cpu, cuda, cuda:1, ... (default: a GPU if there is one)"] = None,
    json: Annotated[Path | None, "write the figures here", RESULT] = None,
    html: Annotated[Path | None, "write the printed table here as a page", RESULT] = None,
) -> None:
    if labelled and not jhmdb:
        raise InputError("--labelled: needs --jhmdb and --jhmdb-labels, where every frame is labelled")
    if dense and not labelled:
        raise InputError("--dense: belongs to --labelled")
    chosen = list(every or (LABELLED_EVERY if labelled else (2, 3, 4, 6, 10)))
    if min(chosen) < 2:
        raise InputError(f"--every {min(chosen)}: must be at least 2; there are no frames between others")
    detector = checkpoints.load_as(PoseDetector, weights, pick_device(device), size)
    with TemporaryDirectory() as folder, recorded(html, "People carried between frames"):
        clips, source = _videos(jhmdb, jhmdb_labels, videos, Path(folder))
        print(f"{source}, {len(clips)} clips, {weights}", flush=True)
        if labelled:
            rows = label_rows(detector, clips, chosen, dense)
        else:
            check_joints(detector, ARMS_AND_LEGS, source)
            rows = keyframe_rows(detector, clips, chosen, Path(folder), tracks=not jhmdb)
        print(*lines(rows), sep="\n")
    if json is not None:
        write_json(json, {"source": source, "clips": len(clips), "weights": weights, "rows": rows})


def _videos(jhmdb: str | None, labels: str | None, most: int | None, folder: Path) -> tuple[list[LabelledVideo], str]:
    if jhmdb is None and labels is None:
        return synthetic_videos(folder, Synthetic(most or CLIPS, seed=HELD_OUT)), "synthetic clips"
    clips, labels = need(jhmdb, "--jhmdb", "--jhmdb-labels"), need(labels, "--jhmdb-labels", "--jhmdb")
    return jhmdb_videos(None, Jhmdb(clips, labels, part="test"), most), "JHMDB test, split 1"


# --- key frames ---


@dataclass
class Memo:
    """A network that looks at each frame once, and the CPU seconds that each look took.

    spent: the seconds of what was asked since it was last set, as if nothing were remembered.
    """

    network: Network
    spent: float = 0.0
    found: dict[int, tuple[Detections, float]] = field(default_factory=dict)
    seen: dict[int, tuple[Features, float]] = field(default_factory=dict)
    inside: float = 0.0

    def people(self, frame: Frame) -> Detections:
        """As of `keyframes.Looks`."""
        began = process_time()
        if frame.index not in self.found:
            people = self.network.people(frame)
            self.found[frame.index] = people, process_time() - began
        people, seconds = self.found[frame.index]
        self.spent += seconds
        self.inside += process_time() - began
        return people

    def glance(self, frames: Sequence[Frame]) -> Features:
        """As of `keyframes.Looks`."""
        began = process_time()
        for frame in frames:
            if frame.index not in self.seen:
                start = process_time()
                features = self.network.glance([frame])
                self.seen[frame.index] = features, process_time() - start
            self.spent += self.seen[frame.index][1]
        features = Features.cat([self.seen[frame.index][0] for frame in frames])
        self.inside += process_time() - began
        return features


@dataclass
class Tally:
    """What is summed over the clips for one row of the table."""

    frames: int = 0
    looked: int = 0
    seconds: float = 0.0
    errors: list[Tensor] = field(default_factory=list)
    scores: list[VideoScores] = field(default_factory=list)


def keyframe_rows(
    detector: PoseDetector, videos: Sequence[LabelledVideo], every: Sequence[int], folder: Path, tracks: bool
) -> list[dict]:
    """The table of key frames: the model on every frame, then for each K and each way between."""
    plans = [KeyFrames(every=1)] + [KeyFrames(every=k, between=how) for k in every for how in METHODS]
    tallies = [Tally() for _ in plans]
    for video in tqdm(videos, "clips", disable=None):
        memo, frames = Memo(Network(detector, min_score=FAINT * PERSON_SCORE)), list(video.frames())
        for plan, tally in zip(plans, tallies, strict=True):
            _tally(tally, memo, video, frames, plan, detector.keypoint_names, folder if tracks else None)
    whole = tallies[0]
    rows = []
    for plan, tally in zip(plans, tallies, strict=True):
        row = {"every": plan.every, "between": plan.between if plan.every > 1 else "-"}
        row |= {"found in": tally.looked / tally.frames, "times as fast": whole.seconds / tally.seconds}
        row |= {f"PCK@{alpha}": pck(torch.cat(tally.errors), alpha)["mean"] for alpha in ALPHAS}
        if tracks:
            row["MOTA"] = figures(tally.scores, "official")["mota"][-1]
        rows.append(row)
    return rows


def _tally(
    tally: Tally,
    memo: Memo,
    video: LabelledVideo,
    frames: Sequence[Frame],
    plan: KeyFrames,
    names: Sequence[str],
    folder: Path | None,
) -> None:
    """Go through one clip."""
    memo.spent = memo.inside = 0.0
    began = process_time()
    placed = list(keyed(memo, frames, plan))
    tally.seconds += process_time() - began - memo.inside + memo.spent
    people = [each.people[each.people.scores >= PERSON_SCORE] for each in placed]
    tally.frames += len(placed)
    tally.looked += sum(each.found for each in placed)
    for number, (frame, found) in enumerate(zip(frames, people, strict=True)):
        tally.errors.append(joint_errors(video.people(number, *frame.size), found, names))
    if folder is not None:
        run = Run(people, [None] * len(people), frames[0].size)
        tally.scores.append(track_scores(video, run, tracker_named("default"), names, folder, EvalOptions()))


# --- labels ---


def label_rows(
    detector: PoseDetector, videos: Sequence[LabelledVideo], every: Sequence[int], dense: bool
) -> list[dict]:
    """The table of labels: for each K and each way between the PCK in the frames that were not labelled."""
    # By dense motion people are moved from where straight lines have them.
    ways: dict[str, Between] = {method: method for method in METHODS}
    ways |= {"dense motion": "interpolation"} if dense else {}
    tallies: dict[tuple[int, str], tuple[list[Tensor], list[Tensor]]]
    tallies = {(k, way): ([], []) for k in every for way in ways}
    for video in tqdm(videos, "clips", disable=None):
        memo, frames = Memo(Network(detector)), list(video.frames())
        truth = {n: _as_labels(video, n, frame) for n, frame in enumerate(frames)}
        motion = _Dense(memo.network, frames) if dense else None
        for (k, way), (errors, sure) in tallies.items():
            labels = {n: people for n, people in truth.items() if n % k == 0}
            for number, people, confidences, like in propagate(memo, frames, labels, ways[way]):
                if way == "dense motion" and motion is not None:
                    people = motion.carried(labels, like, number, like + k, people)
                apart = joint_errors(video.people(number, *frames[number].size), people, DIMOFS)
                errors.append(apart)
                sure.append((confidences >= 0.5) & (people.keypoint_scores > 0))
    return [_label_row(k, way, *tally) for (k, way), tally in tallies.items()]


def _label_row(every: int, way: str, errors: list[Tensor], sure: list[Tensor]) -> dict:
    if not errors:
        raise InputError(f"--every {every}: the clips are too short; nothing is between labelled frames")
    together = torch.cat(errors)
    row = {"every": every, "between": way, **{f"PCK@{alpha}": pck(together, alpha)["mean"] for alpha in ALPHAS}}
    if way == "motion":
        chosen, known = torch.cat(sure), ~together.isnan()
        row["agreed"] = ((chosen & known).sum() / known.sum()).item()
        row["PCK@0.1 of agreed"] = pck(together.where(chosen, torch.nan), 0.1)["mean"]
    return row


def _as_labels(video: LabelledVideo, number: int, frame: Frame) -> Detections:
    """The labelled people of a frame; JHMDB's one actor has the id 0."""
    labelled = video.people(number, *frame.size)
    logits = torch.where(labelled.labelled, 20.0, -20.0)
    ids = torch.arange(len(labelled))
    return Detections(labelled.boxes, torch.ones(len(labelled)), labelled.keypoints, logits, ids)


class _Dense:
    """Motion fields between frames of one clip."""

    def __init__(self, network: Network, frames: Sequence[Frame]):
        self.network, self.frames = network, frames
        self.features: dict[int, Features] = {}

    def carried(self, labels: dict[int, Detections], a: int, number: int, b: int, straight: Detections) -> Detections:
        """Joints of labelled frames `a` and `b` moved by the field to another frame, blended linearly in time."""
        share, shown = (number - a) / (b - a), self._seen(number)
        moved = []
        for end in (a, b):
            (field,) = self.network.motion(self._seen(end), shown)
            moved.append(field.move(labels[end].keypoints))
        return replace(straight, keypoints=moved[0].lerp(moved[1], share))

    def _seen(self, number: int) -> Features:
        if number not in self.features:
            self.features[number] = self.network.features([self.frames[number]])
        return self.features[number]


# --- the table ---


def lines(rows: Sequence[dict]) -> Iterator[str]:
    """The rows as aligned text."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    widths = [max(len(name) + 2, 15) for name in columns]
    yield "".join(f"{name:>{width}}" for name, width in zip(columns, widths, strict=True))
    for row in rows:
        cells = [_cell(name, row.get(name)) for name in columns]
        yield "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def _cell(name: str, value: object) -> str:
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    return f"{100 * value:.0f} %" if name in ("found in", "agreed") else f"{value:.2f}"


if __name__ == "__main__":
    run(main)
