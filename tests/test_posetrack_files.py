"""eval.posetrack: formats, files and folders, several videos a file, bad input, and the command itself."""

import contextlib
import copy
import gzip
import io
import itertools
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dimofs.cli import InputError, parser
from dimofs.eval import posetrack
from tests.support.posetrack_sets import NAMES, both, constant, evaluate, file17, file18, person, write

FIGURES = ("ap", "ap_precision", "ap_recall", "mota", "motp", "mot_precision", "mot_recall")

TRUTH = [[person(0), person(1, y=500)], [person(0, x=5), person(1, y=500)], [], [person(0)]]
PREDICTED = [[person(3, x=4), person(4, y=504)], [person(4, x=5), person(3, y=500)], [person(4)], [person(3)]]
REGION = {1: [[(-50.0, -50.0), (300.0, -50.0), (300.0, 50.0), (-50.0, 50.0)]]}


def plain(result: dict) -> dict:
    return {name: result[name] for name in (*FIGURES, "counts")}


def test_formats_and_joint_lists_give_the_same_figures(tmp_path):
    expected = plain(both(tmp_path, TRUTH, PREDICTED, REGION))
    truths = (file18(TRUTH, True, REGION), file18(TRUTH, True, REGION, names=NAMES), file17(TRUTH, True, REGION))
    predictions = (file18(PREDICTED, False), file18(PREDICTED, False, names=NAMES[::-1]), file17(PREDICTED, False))
    for truth in truths:
        for predicted in predictions:
            assert plain(evaluate(tmp_path, truth, predicted)) == expected


def test_files_folders_and_gzip(tmp_path):
    expected = plain(both(tmp_path, TRUTH, PREDICTED))
    truth, predicted = file18(TRUTH, True), file18(PREDICTED, False)
    write(tmp_path / "gt/a.json", truth)
    write(tmp_path / "pred/a.json.gz", predicted)
    write(tmp_path / "pred/b.json", "not looked at")
    for gt, pred in (("gt", "pred"), ("gt/a.json", "pred"), ("gt/a.json", "pred/a.json.gz"), ("gt/", "pred/a.json.gz")):
        posetrack.main(gt=tmp_path / gt, pred=tmp_path / pred, json=tmp_path / "out.json")
        result = json.loads((tmp_path / "out.json").read_text())
        assert plain(result) == expected and list(result["sequences"]) == ["a"]


def test_several_videos_in_a_file_all_count(tmp_path):
    """Two videos of two frames, mixed up in one file, are as two files."""
    for i, frames in enumerate((slice(0, 2), slice(2, 4))):
        write(tmp_path / f"gt/{i}.json", file18(TRUTH[frames], True))
        write(tmp_path / f"pred/{i}.json", file18(PREDICTED[frames], False))
    posetrack.main(gt=tmp_path / "gt", pred=tmp_path / "pred", json=tmp_path / "out.json")
    expected = json.loads((tmp_path / "out.json").read_text())
    order, folders = [2, 0, 3, 1], ["one", "zero", "one", "zero"]
    mixed = [
        file18([frames[i] for i in order], t, folders=folders) for frames, t in ((TRUTH, True), (PREDICTED, False))
    ]
    result = evaluate(tmp_path, *mixed)
    assert plain(result) == plain(expected) and list(result["sequences"]) == ["gt/one", "gt/zero"]
    assert plain(result["sequences"]["gt/zero"]) == plain(expected["sequences"]["0"])


def test_the_only_videos_of_two_files_are_a_pair(tmp_path):
    """Whatever the folders of their images are called."""
    truth, predicted = file18([[person(0)]] * 2, True), file18([[person(0)]] * 2, False, folders="000007_other")
    assert constant(evaluate(tmp_path, truth, predicted), "ap") == 100


def test_names_that_cannot_be_printed_are_escaped(tmp_path, capsys):
    folders = ["a\nb", "a\nb", "\ud800", "\ud800"]
    files = [file18(frames, t, folders=folders) for frames, t in ((TRUTH, True), (PREDICTED, False))]
    result = evaluate(tmp_path, *files, per_sequence=True)
    assert list(result["sequences"]) == ["gt/a\\nb", "gt/\\ud800"]
    assert "gt/a\\nb" in capsys.readouterr().out.encode().decode()


def test_many_files_go_to_several_processes(tmp_path):
    """With the same figures; and the first bad file ends the run with its line."""
    for i in range(9):
        write(tmp_path / f"gt/{i}.json", file18(TRUTH, True))
        write(tmp_path / f"pred/{i}.json", file18(PREDICTED, False))
    done = _run(tmp_path, "--gt", "gt", "--pred", "pred", "--json", "out.json")
    result = json.loads((tmp_path / "out.json").read_text())
    assert done.returncode == 0 and list(result["sequences"]) == [str(i) for i in range(9)]
    assert result["counts"]["objects"] == [9 * n for n in result["sequences"]["4"]["counts"]["objects"]]
    write(tmp_path / "pred/5.json", "{")
    done = _run(tmp_path, "--gt", "gt", "--pred", "pred")
    assert done.returncode == 2 and "error: pred/5.json: not a JSON file" in done.stderr.splitlines()[-1]


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, started in `folder`."""
    command = [sys.executable, "-m", "dimofs.eval.posetrack", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)


def test_posetrack17_people_without_a_list_of_points_go(tmp_path):
    """They go after empty frames have gone, so their frame stays; joints with other ids do not count."""
    truth, predicted = file17([[person(0)], [person(0)], [person(0)]], True), file17([[person(0)]] * 3, False)
    truth["annolist"][1]["annorect"][0]["annopoints"] = []
    predicted["annolist"][0]["annorect"].append({"track_id": [9], "annopoints": [{}]})
    predicted["annolist"][0]["annorect"][0]["annopoints"][0]["point"].append({"id": [16], "x": [1], "y": [2]})
    result = evaluate(tmp_path, truth, predicted)
    assert result["counts"]["objects"] == [2] * 15 and result["counts"]["misses"] == [1] * 15
    assert result["counts"]["false_positives"] == [1] * 15


def test_one_labelled_frame_has_no_official_mot(tmp_path, capsys):
    result = both(tmp_path, [[person(0)], []], [[person(0)], []])
    assert constant(result, "ap") == 100 and result["mota"] == result["motp"] == [None] * 16
    assert "one labelled frame" in capsys.readouterr().out
    assert constant(both(tmp_path, [[person(0)], []], [[person(0)], []], corrected=True), "mota") == 100


def test_without_tracking_ids_are_not_needed(tmp_path):
    truth, predicted = file18(TRUTH, True), file18(PREDICTED, False)
    for annotation in predicted["annotations"]:
        del annotation["track_id"]
    with pytest.raises(InputError, match=r"pred.json: annotations\[0\].track_id is missing; .*--no-tracking"):
        evaluate(tmp_path, truth, predicted)
    result = evaluate(tmp_path, truth, predicted, tracking=False)
    assert result["ap"] == both(tmp_path, TRUTH, PREDICTED)["ap"] and result["mota"] == [None] * 16
    assert set(map(tuple, result["counts"].values())) == {(0,) * 15}, "nothing was tracked, so nothing was missed"


def test_oks_needs_no_head_boxes_and_takes_the_extent_without_a_box(tmp_path):
    truth, predicted = file17(TRUTH, True), file17(PREDICTED, False)
    for frame in truth["annolist"]:
        for rect in frame["annorect"]:
            del rect["x1"]
    with pytest.raises(InputError, match=r"annolist\[0\].annorect\[0\] has no head box .*--oks"):
        evaluate(tmp_path, truth, predicted)
    assert evaluate(tmp_path, truth, predicted, oks=True)["AP50"] is not None


# --- bad input ------------------------------------------------------------------------------------------------------


def drop(side: int, *path):
    def change(*files: dict) -> None:
        at = files[side]
        for key in path[:-1]:
            at = at[key]
        del at[path[-1]]

    return change


def put(side: int, value, *path):
    def change(*files: dict) -> None:
        at = files[side]
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop(0, "annotations", 1, "bbox_head"), r"gt.json: annotations\[1\] has no head box"),
        (drop(0, "annotations", 1, "track_id"), r"gt.json: annotations\[1\].track_id is missing"),
        (drop(1, "annotations", 1, "track_id"), r"pred.json: annotations\[1\].track_id is missing"),
        (put(0, 0, "annotations", 1, "track_id"), r"gt.json: annotations\[1\].track_id 0 is another person's too"),
        (put(1, 3, "annotations", 1, "track_id"), r"pred.json: annotations\[1\].track_id 3 is another person's too"),
        (put(1, 10_000, "annotations", 1, "track_id"), r"track_id 10000 is not below 10000"),
        (put(1, 2.5, "annotations", 1, "track_id"), r"track_id 2.5 is not a whole number"),
        (put(1, "2", "annotations", 1, "track_id"), r"track_id is not a number"),
        (put(0, [[1, 2]], "images", 0, "ignore_regions_x"), r"images\[0\].ignore_regions_x has 1 polygons, .* 0"),
        (put(1, [0.5], "annotations", 0, "scores"), r"annotations\[0\].scores is not a list of 17 numbers"),
        (put(1, [1, 2, 3], "annotations", 0, "keypoints"), r"annotations\[0\].keypoints is not a list of 51 numbers"),
        (put(1, 7, "annotations", 0, "image_id"), r"annotations\[0\].image_id is the id of no image"),
        (drop(1, "images", 3), r"annotations\[5\].image_id is the id of no image"),
        (
            put(1, 100, "images", 1, "id"),
            r"images\[0\].id is another image's too",
        ),
        (drop(1, "categories"), r"pred.json: categories is missing"),
        (drop(1, "categories", 0, "keypoints", 0), r"categories\[0\].keypoints has no right_ankle"),
        (drop(1, "images"), r"pred.json: has neither annolist \(PoseTrack17\) nor images \(PoseTrack18\)"),
    ],
)
def test_bad_files_are_named(tmp_path, change, message):
    truth, predicted = file18(TRUTH, True), file18(PREDICTED, False)
    change(truth, predicted)
    with pytest.raises(InputError, match=message) as error:
        evaluate(tmp_path, truth, predicted)
    assert "\n" not in str(error.value)


def test_polygons_of_two_points_are_named(tmp_path):
    for maker in (file18, file17):
        truth = maker(TRUTH, True, {1: [[(0.0, 0.0), (5.0, 5.0)]]})
        with pytest.raises(InputError, match=r"\[1\].*ignore_regions.* polygon of 2 points; remove it"):
            evaluate(tmp_path, truth, file18(PREDICTED, False))


def test_lengths_and_paths_are_named(tmp_path):
    with pytest.raises(InputError, match=r"pred.json: 'pred' has 3 frames, .*gt.json has 4; predict every frame"):
        evaluate(tmp_path, file18(TRUTH, True), file18(PREDICTED[:3], False))
    with pytest.raises(InputError, match="no such file or folder"):
        posetrack.main(gt=tmp_path / "none", pred=tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no .json"):
        posetrack.main(gt=tmp_path / "empty", pred=tmp_path)
    write(tmp_path / "other/x.json", file18(TRUTH, True))
    with pytest.raises(InputError, match=r"has no gt.json, the prediction for"):
        posetrack.main(gt=tmp_path / "gt.json", pred=tmp_path / "other")
    (tmp_path / "odd/gt.json").mkdir(parents=True)
    with pytest.raises(InputError, match=r"odd/gt.json: is not a regular file"):
        posetrack.main(gt=tmp_path / "odd", pred=tmp_path)
    with pytest.raises(InputError, match="no frame has people"):
        both(tmp_path, [[], []], [[], []])
    with pytest.raises(InputError, match="exclude each other"):
        both(tmp_path, TRUTH, PREDICTED, official=True, corrected=True)
    write(tmp_path / "cut.json.gz", "{}").write_bytes(gzip.compress(b"{}" * 500)[:20])
    with pytest.raises(InputError, match="damaged gzip"):
        posetrack.main(gt=tmp_path / "cut.json.gz", pred=tmp_path / "cut.json.gz")


SMALL = ([[person(0, joints=range(15)), person(1, y=500)], [person(0)]], [[person(3, x=4)], [person(3), person(4)]])
ODD = [None, True, -1, 2.5, float("nan"), float("inf"), "x", "", [], [[]], [None], {}, 10**400, 1e308, [1, 2], 10**18]
NUMBERS = [float("nan"), float("inf"), -float("inf"), 1e308, -1e308, 1e200, 5e-324, 0, -1, 10**18]
FIELDS = ("x", "y", "x1", "keypoints", "bbox", "bbox_head", "scores", "score", "ignore_regions_x")
OPTIONS = (
    {}, {"official": True, "per_sequence": True}, {"corrected": True, "hota": True}, {"hota": True}, {"oks": True},
    {"oks": True, "per_sequence": True}, {"tracking": False},
)  # fmt: skip
SPOILT: dict[str, Callable[[str], bytes]] = {
    "cut": lambda text: text[: len(text) // 2].encode(),
    "empty": lambda text: b"",
    "a list": lambda text: b"[]",
    "a number": lambda text: b"NaN",
    "nothing in it": lambda text: b'{"annolist": []}',
    "too deep": lambda text: b"[" * 100_000,
    "a key twice": lambda text: text[:-1].encode() + b', "images": [], "annolist": null}',
    "a long number": lambda text: text.replace("1", "9" * 5000, 1).encode(),
    "a lone surrogate": lambda text: text.replace("jpg", "\\ud800").encode(),
    "UTF-16": lambda text: text.encode("utf-16"),
    "Latin-1": lambda text: text.replace("jpg", "\xe9").encode("latin-1"),
    "cut gzip": lambda text: gzip.compress(text.encode())[:-20],
}


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_broken_file_ends_in_figures_or_one_line(tmp_path, data):
    """Fields of a valid file dropped, retyped, swapped or driven to the ends of the floats, and texts spoilt."""
    maker = data.draw(st.sampled_from([file17, file18]))
    region = {0: [[(-50.0, -50.0), (300.0, -50.0), (300.0, 50.0)]]}
    files = [json.loads(json.dumps(f)) for f in (maker(SMALL[0], True, region), maker(SMALL[1], False))]
    for _ in range(data.draw(st.integers(1, 2))):
        change = data.draw(st.sampled_from([_damage, _damage, _overdo]))
        change(files[data.draw(st.integers(0, 1))], data)
    for name, content in zip(("gt", "pred"), files, strict=True):
        how = data.draw(st.sampled_from([*["sound"] * 30, *SPOILT]))
        text = json.dumps(content)
        (tmp_path / f"{name}.json").write_bytes(SPOILT[how](text) if how in SPOILT else text.encode())
    _ends_well(tmp_path, **data.draw(st.sampled_from(OPTIONS)))


def _ends_well(folder: Path, **options) -> None:
    """Figures that are strict JSON, or one line that names a file; and nothing on the error stream."""
    errors = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stderr(errors):
        warnings.simplefilter("error")
        try:
            posetrack.main(gt=folder / "gt.json", pred=folder / "pred.json", json=folder / "out.json", **options)
            result = json.loads((folder / "out.json").read_text(), parse_constant=pytest.fail)
            assert "oks" in options or all(len(result[name]) == 16 for name in FIGURES)
        except InputError as error:
            assert len(str(error).splitlines()) == 1 and str(error).encode()
            assert "gt.json" in str(error) or "pred.json" in str(error)
    assert not errors.getvalue()


def _damage(content: dict, data) -> None:
    place, key = content, None
    for _ in range(data.draw(st.integers(1, 8))):
        inner = place if key is None else place[key]
        if not isinstance(inner, dict | list) or not inner:
            break
        place, key = inner, data.draw(st.sampled_from(_keys(inner)))
    action = data.draw(st.sampled_from(["drop", "retype", "swap"]))
    if key is None:
        return
    if action == "drop":
        del place[key]
    elif action == "retype":
        place[key] = copy.deepcopy(data.draw(st.sampled_from(ODD)))
    else:
        other = data.draw(st.sampled_from(_keys(place)))
        place[key], place[other] = place[other], place[key]


def _keys(place) -> list:
    return list(place) if isinstance(place, dict) else list(range(len(place)))


def _overdo(content: dict, data) -> None:
    """Every number of a field becomes another, or every one but some."""
    field, number, spared = (data.draw(st.sampled_from(of)) for of in (FIELDS, NUMBERS, (0, 2, 7)))
    count = itertools.count(1)

    def changed(value, inside: bool):
        if isinstance(value, dict):
            return {key: changed(inner, inside or key == field) for key, inner in value.items()}
        if isinstance(value, list):
            return [changed(inner, inside) for inner in value]
        return number if inside and isinstance(value, int | float) and (not spared or next(count) % spared) else value

    content.update(changed(content, False))


@pytest.mark.parametrize("number", [1e308, -1e308, float("inf"), float("-inf"), float("nan")], ids=str)
@pytest.mark.parametrize("field", ["bbox", "bbox_head", "keypoints", "scores"])
@pytest.mark.parametrize("options", [{"hota": True}, {"oks": True}], ids=["heads", "oks"])
def test_numbers_beyond_reason_warn_nobody(tmp_path, field, number, options):
    files = file18(SMALL[0], True), file18(SMALL[1], False)
    for name, content in zip(("gt", "pred"), files, strict=True):
        for annotation in content["annotations"]:
            annotation.pop("bbox", None) if field == "keypoints" else None
            if field in annotation:
                annotation[field] = [number] * len(annotation[field])
        write(tmp_path / f"{name}.json", content)
    _ends_well(tmp_path, **options)


# --- the command ----------------------------------------------------------------------------------------------------


def test_every_documented_command_runs(tmp_path, monkeypatch, capsys):
    write(tmp_path / "GT/a.json", file18(TRUTH, True))
    write(tmp_path / "PRED/a.json", file18(PREDICTED, False))
    monkeypatch.chdir(tmp_path)
    lines = [line.split("#")[0].split() for line in (posetrack.__doc__ or "").splitlines() if "--gt" in line]
    lines = [line for line in lines if line[:2] == ["python", "-m"]]
    assert len(lines) == 6
    for line in lines:
        posetrack.main(**vars(parser(posetrack.main).parse_args(line[3:])))
    out = capsys.readouterr().out
    assert all(name in out for name in ("Head     Shou     Elbo", "mAP", "MOTA", "MOTP", "HOTA", "AP75", "definition"))
    assert (tmp_path / "figures.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(InputError, match="must end in"):
        posetrack.main(gt=tmp_path / "GT", pred=tmp_path / "PRED", plot=tmp_path / "figures.gif")
