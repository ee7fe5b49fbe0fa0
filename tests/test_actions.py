"""frame-mAP and video-mAP of actions: by hand, against a plain loop, and the published evaluators' cases."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from dimofs.cli import InputError
from dimofs.eval import jhmdb
from dimofs.eval.actions.confusion import confusion, lines
from dimofs.eval.actions.files import read_found, read_truth
from dimofs.eval.actions.frame_map import (
    DEFINITIONS,
    Definition,
    LabelledBoxes,
    average_precision,
    frame_ap,
    iou,
    suppressed,
)
from dimofs.eval.actions.tubes import Tube, link, true_tubes, tube_overlap, video_ap
from tests.support.commands import call

CASES = Path(__file__).resolve().parents[2] / "shared/data/jhmdb_cases"
A, B, FAR = [0, 0, 10, 10], [0, 0, 10, 6], [50, 50, 60, 60]


def table(*rows: tuple) -> LabelledBoxes:
    """Boxes from rows of (frame, label, box, score)."""
    return LabelledBoxes(
        frames=np.array([row[0] for row in rows], int),
        labels=np.array([row[1] for row in rows], int),
        boxes=np.array([row[2] for row in rows], float).reshape(-1, 4),
        scores=np.array([row[3] for row in rows], float),
    )


def test_average_precision_by_hand():
    """Right, wrong, right of two: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1."""
    right = np.array([True, False, True])
    assert average_precision(right, 2) == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)
    assert average_precision(right, 2, "act") == pytest.approx(1 / 2 * 1 + 1 / 2 * (1 / 2 + 2 / 3) / 2)
    assert average_precision(np.zeros(0, bool), 2) == 0
    assert np.isnan(average_precision(right, 0))


def test_definitions_differ_where_two_detections_meet_two_labels():
    """The first takes A; the second overlaps A most, and B well enough: only yowo calls it wrong."""
    truth = table((0, 0, A, 1), (0, 0, B, 1))
    found = table((0, 0, A, 0.9), (0, 0, [0, 0, 10, 9], 0.8))
    assert frame_ap(truth, found, 1, "voc")[0] == frame_ap(truth, found, 1, "act")[0] == 1
    assert frame_ap(truth, found, 1, "yowo")[0] == 0.5


def test_inclusive_boxes_are_a_pixel_larger():
    """Boxes of 1 and 3 pixels with one in common: 1/3 inclusive, 0 otherwise."""
    a, b = np.array([0.0, 0, 0, 0]), np.array([0.0, 0, 2, 0])
    assert iou(a, b, inclusive=True) == pytest.approx(1 / 3) and iou(a, b) == 0


def test_classes_and_frames_are_kept_apart():
    truth = table((0, 0, A, 1), (1, 1, A, 1))
    found = table((0, 1, A, 0.9), (1, 0, A, 0.8), (1, 1, A, 0.1))
    assert frame_ap(truth, found, 3).tolist()[:2] == [0, 0.5]
    assert np.isnan(frame_ap(truth, found, 3)[2])
    assert frame_ap(truth, table(), 2).tolist() == [0, 0]


def random_boxes(rng: np.random.Generator, count: int, frames: int, classes: int) -> LabelledBoxes:
    """Boxes near a few places, with equal scores among them."""
    corner = rng.integers(0, 3, (count, 2)) * 8 + rng.integers(0, 4, (count, 2))
    return LabelledBoxes(
        frames=rng.integers(0, frames, count),
        labels=rng.integers(0, classes, count),
        boxes=np.concatenate((corner, corner + rng.integers(6, 14, (count, 2))), 1).astype(float),
        scores=rng.integers(0, 20, count) / 20,
    )


def plain(truth: LabelledBoxes, found: LabelledBoxes, classes: int, definition: Definition) -> list[float]:
    """The definitions as a loop over classes and detections."""
    result = []
    for label in range(classes):
        wanted = [i for i in range(len(truth)) if truth.labels[i] == label]
        order = [i for i in range(len(found)) if found.labels[i] == label]
        taken, right = set(), []
        for i in sorted(order, key=lambda i: -found.scores[i]):
            free = [j for j in wanted if definition == "yowo" or j not in taken]
            near = [j for j in free if truth.frames[j] == found.frames[i]]
            overlaps = [float(iou(found.boxes[i], truth.boxes[j], definition != "voc")) for j in near]
            best = near[int(np.argmax(overlaps))] if near else None
            right.append(best is not None and max(overlaps) >= 0.5 and best not in taken)
            taken |= {best} if right[-1] else set()
        result.append(average_precision(np.array(right, bool), len(wanted), definition))
    return result


@pytest.mark.parametrize("definition", DEFINITIONS)
@pytest.mark.parametrize("seed", range(4))
def test_equals_a_plain_loop(definition, seed):
    rng = np.random.default_rng(seed)
    truth, found = random_boxes(rng, 40, 6, 4), random_boxes(rng, 150, 7, 4)
    np.testing.assert_allclose(frame_ap(truth, found, 5, definition), plain(truth, found, 5, definition), atol=1e-12)


def test_suppression_keeps_the_best_of_each_frame_and_class():
    found = table((0, 0, A, 0.5), (0, 0, [0, 0, 10, 9], 0.9), (0, 1, A, 0.1), (1, 0, A, 0.2), (0, 0, FAR, 0.3))
    assert suppressed(found, 0.3).scores.tolist() == [0.9, 0.1, 0.2, 0.3]


@pytest.mark.parametrize("case", ["j01_real_masks_2vid_per_class", "j03_perfect"])
def test_published_evaluators(case):
    folder = CASES / case
    if not folder.is_dir():
        pytest.skip("needs ../shared/data")
    truth = read_truth(folder / "gt.json")
    found, notes = read_found(folder / "pred.json", truth)
    expected = json.loads((folder / "expected.json").read_text())
    assert not notes and (len(truth.boxes), len(found)) == (expected["n_gt"], expected["n_det"])
    for definition in DEFINITIONS:
        ap = frame_ap(truth.boxes, found, len(truth.classes), definition)
        np.testing.assert_allclose(ap, expected["evaluators"][definition]["ap"], atol=1e-6)
        assert ap.mean() == pytest.approx(expected["evaluators"][definition]["mean_over_21"], abs=1e-6)


# --- tubes ---


def line(video: str, frames: range, box: list, score: float = 1.0) -> Tube:
    return Tube(video=video, label=0, frames=np.array(frames), boxes=np.array([box] * len(frames), float), score=score)


def test_overlap_of_tubes_by_hand():
    """Four frames in common of eight, boxes of IoU .6: .6 / 2."""
    assert tube_overlap(line("a", range(6), A), line("a", range(2, 8), B)) == pytest.approx(0.6 * 4 / 8)
    assert tube_overlap(line("a", range(3), A), line("a", range(3, 6), A)) == 0


def test_video_ap_takes_each_labelled_tube_once():
    truth = [line("a", range(4), A), line("b", range(4), A)]
    found = [line("a", range(4), A, 0.9), line("a", range(4), A, 0.8), line("b", range(4), B, 0.7)]
    assert video_ap(truth, found, 1, 0.5)[0] == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)
    assert video_ap(truth, found, 1, 0.7)[0] == pytest.approx(1 / 2)
    assert np.isnan(video_ap(truth, found, 2, 0.5)[1])


@pytest.mark.parametrize("count", range(1, 13))
@pytest.mark.parametrize("tenths", [5.5, 6, 7, 8, 8.5, 9, 9.5])
def test_a_tube_that_overlaps_by_just_the_threshold_is_right(count, tenths):
    """However the mean of equal overlaps is rounded."""
    truth, found = line("a", range(count), [0, 0, 100, 100]), line("a", range(count), [0, 0, 10 * tenths, 100])
    assert video_ap([truth], [found], 1, tenths / 10)[0] == 1
    assert video_ap([truth], [found], 1, tenths / 10 + 1e-6)[0] == 0


def write(folder: Path, gt: object, pred: object) -> dict:
    for name, content in (("gt", gt), ("pred", pred)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    return {"gt": folder / "gt.json", "pred": folder / "pred.json"}


def frames(count: int = 3) -> dict:
    boxes = [{"label": 0, "box": A}, {"label": "sit", "box": FAR}]
    gt = [{"video": v, "frame": f, "boxes": boxes} for v in ("x", "y") for f in range(count)]
    return {"classes": ["run", "sit"], "gt": gt, "width": 100, "height": 100}


def tracked(*tracks: int) -> dict:
    boxes = [{"label": 0, "box": A, "track": track} for track in tracks]
    return frames() | {"gt": [{"video": "x", "frame": 0, "boxes": boxes}]}


def detection(**fields) -> dict:
    return {"video": "x", "frame": 0, "label": 0, "score": 0.9, "box": A, **fields}


def test_a_tube_follows_its_actor_past_a_louder_one(tmp_path):
    """In the middle frame a box far away scores more, but the overlaps along the true path are worth more."""
    scores = {0: (A, 0.8, FAR, 0.1), 1: (A, 0.5, FAR, 0.9), 2: (A, 0.8, FAR, 0.1)}
    pred = [detection(frame=f, box=box, score=s) for f, row in scores.items() for box, s in (row[:2], row[2:])]
    files = write(tmp_path, frames(), pred)
    truth = read_truth(files["gt"])
    tubes = link(truth, read_found(files["pred"], truth)[0])
    assert [tube.boxes.tolist() for tube in tubes] == [[A] * 3, [FAR] * 3]
    assert tubes[0].score == pytest.approx(0.7) and len(true_tubes(truth)) == 4


def test_perfect_detections_give_100_by_every_figure(tmp_path, capsys):
    gt = frames()
    pred = [detection(video=e["video"], frame=e["frame"], **box) for e in gt["gt"] for box in e["boxes"]]
    call(jhmdb.main, **write(tmp_path, gt, pred), json=tmp_path / "out.json")
    result = json.loads((tmp_path / "out.json").read_text())
    assert set(result["frame_map"].values()) == set(result["video_map"].values()) == {100}
    assert "frame-mAP@0.5: voc 100.00, yowo 100.00, act 100.00" in capsys.readouterr().out


def test_missing_clips_and_frames_without_labels_are_told(tmp_path, capsys):
    call(jhmdb.main, **write(tmp_path, frames(), [detection(), detection(frame=9)]))
    notes = capsys.readouterr().err
    assert "1 detections are in frames without labels" in notes and "no detection in 1 of 2 clips, such as y" in notes


@pytest.mark.parametrize(
    ("gt", "pred", "message"),
    [
        ([], [], "gt.json: is not an object with a list 'gt'"),
        ({"gt": []}, [], "field 'classes' is not a list"),
        ({"classes": ["a", "a"], "gt": []}, [], "field 'classes'"),
        ({"classes": ["a"], "gt": []}, [], "labels no box"),
        ({"classes": ["a"], "gt": [{"video": "x", "frame": 0}]}, [], r"gt\[0\]: field 'boxes' is not a list"),
        ({"classes": ["a"], "gt": [{"video": "x", "frame": 0, "boxes": []}] * 2}, [], r"gt\[1\]: .* has an entry"),
        (tracked(3, 3), [], r"gt\[0\]: boxes\[1\]: 'track' 3 has a box of this class and frame already"),
        (frames() | {"gt": [{"video": "x", "frame": 2**63, "boxes": []}]}, [], "field 'frame' .* too large"),
        (frames() | {"width": 0}, [], "field 'width' is not positive"),
        (frames() | {"width": 40}, [], r"a box of frame 0 of 'x': .* lies outside the frame"),
        (frames(), {}, "pred.json: is not a list"),
        (frames(), [3], "detection 0: is not an object"),
        (frames(), [detection(), detection(video="z")], "detection 1: its 'video' 'z' is not labelled"),
        (frames(), [detection(frame="1")], "field 'frame'"),
        (frames(), [detection(label=2)], "field 'label' is '2', none of the 2 classes"),
        (frames(), [detection(label="fly")], "field 'label' is 'fly'"),
        (frames(), [detection(label=True)], "field 'label'"),
        (frames(), [detection(score=None)], "field 'score' is None"),
        (frames(), [detection(score=float("nan"))], "field 'score' is nan, not a number below 1e9"),
        (frames(), [detection(score="1")], "field 'score' is '1', not a number"),
        (frames(), [detection(score=2**31)], "field 'score' is 2147483648, not a number below 1e9"),
        (frames() | {"width": 40.0, "height": None}, [], "field 'height' is None, not a number"),
        (frames() | {"classes": ["a\nb", "c"]}, [], "field 'classes' is not a list of up to .* printable names"),
        (frames() | {"classes": ["\ud800", "c"]}, [], "field 'classes' is not"),
        (frames() | {"gt": [{"video": "x\x1b[31m", "frame": 0, "boxes": []}]}, [], r"gt\[0\]: field 'video' is not"),
        (frames(), [detection(box=[1, 2, 3])], "field 'box' is not"),
        (frames(), [detection(box=[5, 0, 1, 9])], "detection 0: box .* ends before it begins"),
        (frames(), [detection(box=[-9, -9, -1, -1])], "detection 0: box .* lies outside the frame"),
        (frames(), [detection(box=[101, 0, 120, 5])], "lies outside the frame"),
    ],
)
def test_malformed_files_are_one_line(tmp_path, gt, pred, message):
    with pytest.raises(InputError, match=message) as error:
        call(jhmdb.main, **write(tmp_path, gt, pred))
    assert "\n" not in str(error.value)


def test_names_of_actions_are_no_formulas(tmp_path):
    odd = ["$\\frac{$", "sit"]
    call(jhmdb.main, **write(tmp_path, frames() | {"classes": odd}, [detection()]), matrix=tmp_path / "confusion.svg")
    assert (tmp_path / "confusion.svg").stat().st_size > 5000


def test_names_that_no_font_draws_are_told_in_a_line(tmp_path, capsys):
    content = frames() | {"classes": ["\u65e5\u672c", "sit"]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        call(jhmdb.main, **write(tmp_path, content, [detection(), detection(video="y")]), matrix=tmp_path / "x.png")
    told = capsys.readouterr().err
    assert "x.png: the plot's font lacks characters" in told and told.count("\n") == 1


def test_confusion_by_hand(tmp_path, capsys):
    """Of class 0 one is right, one taken for class 1; the person of class 1 has only a box elsewhere."""
    truth = table((0, 0, A, 1), (1, 0, A, 1), (2, 1, A, 1))
    found = table((0, 0, B, 0.9), (0, 1, A, 0.8), (1, 1, A, 0.7), (1, 0, FAR, 0.9), (2, 1, FAR, 0.9))
    assert confusion(truth, found, 2).tolist() == [[1, 1, 0], [0, 0, 1]]
    assert lines(confusion(truth, found, 2), ["run", "sit"]) == ["run  50.0   sit 50", "sit   0.0   missed 100"]
    # Where nothing is labelled nothing is named, rightly or wrongly.
    assert lines(confusion(truth, found, 3), ["run", "sit", "fly"])[2] == "fly     -"
    files = write(tmp_path, frames(), [detection()])
    call(jhmdb.main, **files, matrix=tmp_path / "confusion.png", video=False)
    assert (tmp_path / "confusion.png").stat().st_size > 5000 and "named rightly" in capsys.readouterr().out
