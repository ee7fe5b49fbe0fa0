"""PoseTrack: keypoint AP and MOTA, equal to the official evaluation tool (poseval), of predictions or of a model.

    python -m eval.posetrack --gt GT --pred PRED                 # the paper's Tables 1 and 2
    python -m eval.posetrack --gt GT --pred PRED --corrected     # without the official tool's quirks
    python -m eval.posetrack --gt GT --pred PRED --per-sequence --json figures.json --plot figures.png
    python -m eval.posetrack --gt GT --pred PRED --hota          # HOTA of keypoints as well
    python -m eval.posetrack --gt GT --pred PRED --no-tracking   # AP alone, of poses without track ids
    python -m eval.posetrack --gt GT --pred PRED --oks           # AP of people by OKS, without head boxes

GT and PRED are files, or folders of files with the same names, in the formats of PoseTrack17 or 18, also gzipped.

    python -m eval.posetrack                                     # the shipped model on 12 synthetic clips
    python -m eval.posetrack --root POSETRACK --weights runs/first/model --out submission
    python -m eval.posetrack --jhmdb CLIPS --jhmdb-labels JHMDB --videos 40
    python -m eval.posetrack --table 1 --weights runs/single/model runs/dimofs/model
    python -m eval.posetrack --table 2 --weights runs/single/model runs/dimofs/model --plot table2.png
    python -m eval.posetrack --figure 6 --weights runs/single/model runs/dimofs/model
    python -m eval.posetrack --trackers default iou oks pck dimofs iou+dimofs --seeds 0 1 2

Without GT and PRED models run over videos: POSETRACK's validation set (its folders annotations and images), JHMDB's
test clips or, with nothing given, synthetic clips; the last two are labelled as dimofs.datasets.sequences says. --out
then holds truth/ (where made here), poses/, which AP measures, and tracks/, which MOTA measures, in the format of a
submission. Poses are all that the model finds, joints ranked by confidence times the person's score; tracks are of
people scored 0.5 or more, and of joints of a confidence of --joint-score or more. --table compares models, each a row.
--figure 6 searches B = A + delta for the poses of A with the last of the models, beside what the first, trained on
single frames, finds in B, copied to A, and in A.

Definitions. A joint is right within 0.5 head sizes (0.6 times the diagonal of the head box). Head is the mean of head
top, neck and nose, other columns of left and right; Mean is over the 15 joints that have a value. AP's recall is PCKh.
--official (the default) reproduces every quirk of the official tool: MOT leaves out the last labelled frame of a
sequence, a frame empty on one side counts as one miss and one false positive of each joint, MOTP sums all recorded
events. --corrected keeps that frame, counts such frames by person, and its MOTP sums matches only.
HOTA: similarity max(0, 1 - d / 0.5), thresholds .05 to .95, all labelled frames, people counted.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

from dimofs.cli import InputError, check_ranges, run
from dimofs.datasets.jhmdb import Jhmdb
from dimofs.datasets.posetrack import JOINTS
from dimofs.datasets.sequences import LabelledVideo, jhmdb_videos, posetrack_videos, synthetic_videos
from dimofs.datasets.synthetic import Synthetic
from dimofs.eval import oks as by_oks
from dimofs.eval.pose_pairs import measure_all
from dimofs.eval.pose_plots import plot_rows, plot_scores, plot_sweep
from dimofs.eval.pose_scores import GROUPS, Definition, VideoScores, by_group, figures, measure
from dimofs.eval.pose_tables import Setting, compare_trackers, score_model, sweep_deltas, tracker_lines
from dimofs.files import write_json
from dimofs.tracking import TRACKERS, tracker_named
from dimofs.zoo import checkpoints
from dimofs.zoo.detector import PoseDetector
from dimofs.zoo.sources import JhmdbClips, JhmdbLabels

CONVENTIONS: dict[Definition, str] = {
    "official": "official (every quirk of poseval; the other definition: --corrected)",
    "corrected": "corrected (last frames kept, people of empty frames counted, MOTP over matches; "
    "the other definition: --official)",
}
ROWS = {
    "ap": "mAP",
    "ap_precision": "AP prec",
    "ap_recall": "AP rec",
    "mota": "MOTA",
    "motp": "MOTP",
    "mot_precision": "Prec",
    "mot_recall": "Rec",
    "hota": "HOTA",
    "deta": "DetA",
    "assa": "AssA",
}


CLIPS = 12  # synthetic ones, unless --videos says otherwise
HELD_OUT = 1_000_000  # the first seed of synthetic clips for testing; training counts from 0
SEEDS_APART = 10_000


def main(
    *,
    gt: Annotated[Path | None, "ground truth, a file or a folder"] = None,
    pred: Annotated[Path | None, "predictions, a file or a folder"] = None,
    official: Annotated[bool, "every quirk of the official tool (the default)"] = False,
    corrected: Annotated[bool, "without the quirks"] = False,
    tracking: Annotated[bool, "MOTA too, which needs track ids"] = True,
    hota: Annotated[bool, "HOTA too"] = False,
    oks: Annotated[bool, "AP of people by OKS instead, for files without head boxes"] = False,
    per_sequence: Annotated[bool, "print each sequence's figures"] = False,
    json: Annotated[Path | None, "write the figures here"] = None,
    plot: Annotated[Path | None, "draw precision over recall, and bars by joint, here (.png, .pdf, .svg)"] = None,
    root: Annotated[Path | None, "run models over the validation videos of this PoseTrack folder"] = None,
    jhmdb: JhmdbClips = None,
    jhmdb_labels: JhmdbLabels = None,
    videos: Annotated[int | None, f"at most so many videos (default: all, {CLIPS} synthetic ones)"] = None,
    seeds: Annotated[list[int], "of the synthetic clips; more than one for --trackers"] = (0,),  # type: ignore[assignment]
    weights: Annotated[list[str], "models to run: names or checkpoint folders"] = ("dimofs_mobile",),  # type: ignore[assignment]
    delta: Annotated[int, "frames from A, whose poses are sought, to B, whose features are seen"] = 0,
    deltas: Annotated[list[int], "of --figure 6"] = tuple(range(-10, 11)),  # type: ignore[assignment]
    tracker: Annotated[str, f"how people are joined: {', '.join(TRACKERS)}"] = "default",
    joint_score: Annotated[float, "lowest confidence of a joint in a track"] = Setting().joint_score,
    table: Annotated[Literal[1, 2] | None, "compare models: 1 by AP, 2 by MOTA"] = None,
    figure: Annotated[Literal[6] | None, "AP over delta"] = None,
    trackers: Annotated[list[str] | None, "compare these on the same poses"] = None,
    out: Annotated[Path | None, "folder of the poses and tracks that models give (default: they are not kept)"] = None,
    device: Annotated[str, "where models run"] = "cpu",
    batch: Annotated[int, "frames at a time"] = 1,
) -> None:
    if (official and corrected) or (oks and (official or corrected or hota or plot)):
        raise InputError("--official, --corrected and --oks exclude each other; --hota and --plot need head boxes")
    definition: Definition = "corrected" if corrected else "official"
    if gt is not None or pred is not None:
        if gt is None or pred is None:
            raise InputError("--gt GT needs --pred PRED beside it, files or folders in a PoseTrack format (see --help)")
        if oks:
            result = _by_oks(gt, pred, per_sequence)
        else:
            result = _by_heads(gt, pred, definition, tracking, hota, per_sequence, plot)
    else:
        if oks or not tracking:
            raise InputError("--oks and --no-tracking measure files; give --gt and --pred")
        check_ranges(videos=(videos, 1, inf), batch=(batch, 1, inf), joint_score=(joint_score, 0, 1))
        setting = Setting(delta, batch, joint_score, definition, hota)
        with _folder(out) as folder:
            bench = Bench(root, jhmdb, jhmdb_labels, videos, seeds, folder, setting, plot)
            models = {name: checkpoints.load_as(PoseDetector, name, device) for name in weights}
            if trackers is not None:
                result = _compare(bench, models, trackers)
            elif figure is not None:
                result = _figure6(bench, models, deltas)
            else:
                result = _models(bench, models, tracker, table, per_sequence)
    if json is not None:
        write_json(json, _null(result))


@contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    """`out`, or a folder for as long as the context lasts."""
    if out is not None:
        yield out
        return
    with TemporaryDirectory() as folder:
        yield Path(folder)


@dataclass(frozen=True)
class Bench:
    """What models run over and how; the fields are the command's options."""

    root: Path | None
    jhmdb: str | None
    jhmdb_labels: str | None
    most: int | None
    seeds: Sequence[int]
    out: Path
    setting: Setting
    plot: Path | None

    def videos(self, seed: int) -> list[LabelledVideo]:
        """InputError: no or malformed data."""
        if self.root is not None:
            return posetrack_videos(self.root, self.most)
        if self.jhmdb is not None:
            if self.jhmdb_labels is None:
                raise InputError("--jhmdb needs --jhmdb-labels beside it")
            return jhmdb_videos(self.out / "truth", Jhmdb(self.jhmdb, self.jhmdb_labels, part="test"), self.most)
        if not 0 <= seed < SEEDS_APART:
            raise InputError(f"--seeds {seed}: must be at least 0 and below {SEEDS_APART}")
        clips = Synthetic(self.most or CLIPS, seed=HELD_OUT + SEEDS_APART * seed)
        return synthetic_videos(self.out / "truth", clips)

    def describe(self, videos: Sequence[LabelledVideo]) -> str:
        """What is measured, for the head of a table."""
        source = "PoseTrack" if self.root else "JHMDB" if self.jhmdb else f"synthetic clips of seed {self.seeds[0]}"
        frames = sum(len(video.truth.frames) for video in videos)
        return f"{source}, {len(videos)} videos, {frames} frames, delta {self.setting.delta}"


def _models(
    bench: Bench, models: dict[str, PoseDetector], tracker: str, table_number: int | None, per_sequence: bool
) -> dict:
    """Run each model over the videos; print its figures, or with a `table_number` its row of that table."""
    chosen, videos, results = tracker_named(tracker), bench.videos(bench.seeds[0]), {}
    for number, (name, detector) in enumerate(models.items()):
        out = bench.out if len(models) == 1 else bench.out / f"model{number}"
        scores = [s for s in score_model(detector, videos, out, chosen, bench.setting) if s.frames]
        if table_number is None:
            print(f"{name}, tracker {tracker}: {bench.describe(videos)}")
            plot = bench.plot if number == 0 else None
            results[name] = _report(scores, bench.setting.definition, True, per_sequence, plot)
        else:
            results[name] = figures(scores, bench.setting.definition)
    if table_number is None:
        return results if len(models) > 1 else results[next(iter(models))]
    field, measure_name = {1: ("ap", "mAP"), 2: ("mota", "MOTA")}[table_number]
    rows = {name: by_group(result[field]) for name, result in results.items()}
    width = max(8, *map(len, rows))
    print(f"Table {table_number}, {measure_name}, %: {bench.describe(videos)}, tracker {tracker}")
    print(*(_line(name, row, width) for name, row in {"": [*GROUPS, "Mean"], **rows}.items()), sep="\n")
    if bench.plot is not None:
        plot_rows(bench.plot, rows, measure_name)
    return {"table": table_number, "rows": results}


def _figure6(bench: Bench, models: dict[str, PoseDetector], deltas: Sequence[int]) -> dict:
    names, (single, *_, dimofs) = list(models), [*models.values()] * 2
    videos = bench.videos(bench.seeds[0])
    sweep = sweep_deltas(single, dimofs, videos, bench.out / "poses", deltas, bench.setting.batch)
    print(f"Figure 6, mAP, %: {bench.describe(videos)[: -len(', delta 0')]}")
    print(f"single frame A, {names[0]}: {sweep.single:.1f}")
    width = max(12, len(names[0]) + 8, len(names[-1]) + 1)
    print(f"{'delta':>6}{names[-1]:>{width}}{'copied, ' + names[0]:>{width + 1}}")
    for delta, found, copy in zip(sweep.deltas, sweep.dimofs, sweep.copied, strict=True):
        print(f"{delta:>6}{found:>{width}.1f}{copy:>{width + 1}.1f}")
    path = bench.plot or Path("figure6.png")
    plot_sweep(path, sweep)
    print(f"-> {path}")
    return {"figure": 6, **asdict(sweep)}


def _compare(bench: Bench, models: dict[str, PoseDetector], names: Sequence[str]) -> dict:
    chosen = {name: tracker_named(name) for name in names}
    detector = next(iter(models.values()))
    sets = (bench.videos(seed) for seed in bench.seeds)
    trials = compare_trackers(detector, sets, chosen, bench.out / "tracks", bench.setting)
    print(f"Trackers, mean ± standard deviation over seeds {', '.join(map(str, bench.seeds))}, {next(iter(models))}")
    print(*tracker_lines(trials), sep="\n")
    return {"trackers": {name: [asdict(trial) for trial in row] for name, row in trials.items()}}


def _by_heads(
    gt: Path, pred: Path, definition: Definition, tracking: bool, hota: bool, per_sequence: bool, plot: Path | None
) -> dict:
    work = partial(measure, definition=definition, tracking=tracking, hota=hota)
    videos = [video for video in measure_all(gt, pred, work) if video.frames]
    if not videos:
        raise InputError(f"{gt}: no frame has people in the ground truth; nothing can be measured")
    return _report(videos, definition, tracking, per_sequence, plot)


def _report(
    videos: Sequence[VideoScores], definition: Definition, tracking: bool, per_sequence: bool, plot: Path | None
) -> dict:
    """Print, and where asked for draw, the figures of some videos; what --json writes."""
    result = figures(videos, definition)
    each = {video.name: figures([video], definition) for video in videos}
    print(f"PoseTrack, {len(videos)} sequences, {result['frames']['ap']} frames, definition: {CONVENTIONS[definition]}")
    for line in (*table(result), *_notes(videos, result, tracking)):
        print(line)
    if per_sequence:
        print(*sequence_table(each), sep="\n")
    if plot is not None:
        plot_scores(plot, videos, result)
    return {"definition": definition, "joints": list(JOINTS), **result, "sequences": each}


def table(result: dict) -> list[str]:
    """The lines of the paper's Tables 1 and 2, with what they are made of; percent."""
    lines = [_line("", [*GROUPS, "Mean"])]
    lines += [_line(label, by_group(result[field])) for field, label in ROWS.items() if field in result]
    counts = {name: sum(values) for name, values in result["counts"].items()}
    return [*lines, "joints in MOT: " + ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in counts.items())]


def sequence_table(each: dict[str, dict]) -> list[str]:
    """A line for each sequence: the totals of all rows, and its identity switches."""
    fields = [field for field in ROWS if all(field in result for result in each.values())]
    width = max(map(len, each))
    lines = [_line("", [*(ROWS[field] for field in fields), "switches"], width)]
    for name, result in each.items():
        switches = str(sum(result["counts"]["switches"]))
        lines.append(_line(name, [*(result[field][-1] for field in fields), switches], width))
    return lines


def _line(label: str, cells: Sequence[str | float], width: int = 8) -> str:
    texts = [cell if isinstance(cell, str) else "-" if math.isnan(cell) else f"{cell:.1f}" for cell in cells]
    return f"{label:<{width}}" + "".join(f"{text:>9}" for text in texts)


def _notes(videos: Sequence[VideoScores], result: dict, tracking: bool) -> list[str]:
    """What a reader must know to trust the numbers."""
    notes = []
    if result["ties"] > 0:
        notes.append(
            f"note: predictions with equal scores leave a joint's AP open by up to {result['ties']:.2f}; they count in "
            "the order of the files, the official tool's order is not defined"
        )
    if short := [video.name for video in videos if tracking and not video.tracked_frames]:
        notes.append(
            f"note: {', '.join(short[:3])}{' ...' * (len(short) > 3)} has one labelled frame, which the official MOT "
            "leaves out, so it counts in AP alone; see --corrected"
        )
    return notes


def _by_oks(gt: Path, pred: Path, per_sequence: bool) -> dict:
    videos = measure_all(gt, pred, by_oks.measure)
    result, each = by_oks.figures(videos), {video.name: by_oks.figures([video]) for video in videos}
    frames, people = sum(v.frames for v in videos), sum(v.people for v in videos)
    print(f"PoseTrack, {len(videos)} sequences, {frames} frames, {people} people, AP of people by OKS")
    width = max(8, *map(len, each)) if per_sequence else 8
    print(_line("", list(result), width))
    for name, row in {"all": result, **(each if per_sequence else {})}.items():
        print(_line(name, list(row.values()), width))
    return {"definition": "oks", **result, "sequences": each}


def _null(value: Any) -> Any:
    """The same with None for NaN, as JSON has it."""
    if isinstance(value, dict):
        return {key: _null(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_null(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


if __name__ == "__main__":
    run(main)
