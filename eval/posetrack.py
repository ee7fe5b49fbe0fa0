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
events. --corrected keeps that frame, counts such frames by person, and its MOTP sums matches only; it is the default
for JHMDB, which does not label the head top: what counts empty frames makes its MOTA a large negative number.
HOTA: similarity max(0, 1 - d / 0.5), thresholds .05 to .95, all labelled frames, people counted.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

from dimofs.cli import InputError, check_ranges, run
from dimofs.eval.keypoints import oks as by_oks
from dimofs.eval.keypoints.pairs import measure_all
from dimofs.eval.keypoints.scores import Definition, measure
from dimofs.eval.tables.bench import CLIPS, Bench, compare, compare_models, figure6, run_models
from dimofs.eval.tables.compare import Setting
from dimofs.eval.tables.report import line, report
from dimofs.files import write_json
from dimofs.tracking import TRACKERS
from dimofs.zoo import checkpoints
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.training.data import JhmdbClips, JhmdbLabels


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
    seeds: Annotated[Sequence[int], "of the synthetic clips; --trackers takes several"] = (0,),
    weights: Annotated[Sequence[str], "models to run: names or checkpoint folders"] = ("dimofs_mobile",),
    delta: Annotated[int, "frames from A, whose poses are sought, to B, whose features are seen"] = 0,
    deltas: Annotated[Sequence[int], "of --figure 6"] = tuple(range(-10, 11)),
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
    definition: Definition = "corrected" if corrected or (jhmdb and not official) else "official"
    if gt is not None and pred is not None and oks:
        result = _by_oks(gt, pred, per_sequence)
    elif gt is not None and pred is not None:
        work = partial(measure, definition=definition, tracking=tracking, hota=hota)
        result = report(measure_all(gt, pred, work), str(gt), definition, tracking, per_sequence, plot)
    elif gt is not None or pred is not None or oks or not tracking:
        raise InputError("--gt GT and --pred PRED are needed: files or folders in a PoseTrack format (see --help)")
    else:
        check_ranges(videos=(videos, 1, inf), batch=(batch, 1, inf), joint_score=(joint_score, 0, 1))
        with _folder(out) as folder:
            setting = Setting(delta, batch, joint_score, definition, hota)
            bench = Bench(root, jhmdb, jhmdb_labels, videos, seeds, folder, setting, plot)
            models = {name: checkpoints.load_as(PoseDetector, name, device) for name in weights}
            if trackers is not None:
                result = compare(bench, models, trackers)
            elif figure is not None:
                result = figure6(bench, models, deltas)
            elif table is not None:
                result = compare_models(bench, models, tracker, table)
            else:
                result = run_models(bench, models, tracker, per_sequence)
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


def _by_oks(gt: Path, pred: Path, per_sequence: bool) -> dict:
    videos = measure_all(gt, pred, by_oks.measure)
    result, each = by_oks.figures(videos), {video.name: by_oks.figures([video]) for video in videos}
    frames, people = sum(v.frames for v in videos), sum(v.people for v in videos)
    print(f"PoseTrack, {len(videos)} sequences, {frames} frames, {people} people, AP of people by OKS")
    width = max(8, *map(len, each)) if per_sequence else 8
    print(line("", list(result), width))
    for name, row in {"all": result, **(each if per_sequence else {})}.items():
        print(line(name, list(row.values()), width))
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
