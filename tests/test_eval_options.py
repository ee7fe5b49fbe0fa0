"""Evaluation commands refuse options that would be ignored; files are paired frame by frame by name."""

import json
import shlex

import pytest

from dimofs.cli import InputError, arguments
from dimofs.eval import claim, coco, pck, posetrack
from tests.support.posetrack_sets import file17, file18, person

MAINS = {"posetrack": posetrack.main, "coco": coco.main, "pck": pck.main, "claim": claim.main}


def call(command: str, line: str) -> None:
    main = MAINS[command]
    main(**arguments(main, shlex.split(line)))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--gt GT", "--gt needs --pred: the predictions"),
        ("--pred PRED", "--pred needs --gt: the ground truth"),
        *(
            (f"--gt GT --pred PRED {option}", f"--gt and {option.split()[0]} exclude each other: no model runs")
            for option in (
                "--root X", "--jhmdb X", "--jhmdb-labels X", "--videos 3", "--seeds 1", "--weights x", "--delta 2",
                "--deltas 1 2", "--tracker iou", "--joint-score 0.2", "--table 1", "--figure 6", "--trackers iou",
                "--out x", "--device cpu", "--batch 2",
            )
        ),
        ("--gt GT --pred PRED --official --corrected", "--official and --corrected exclude each other"),
        ("--gt GT --pred PRED --oks --official", "--oks and --official"),
        ("--gt GT --pred PRED --oks --corrected", "--oks and --corrected"),
        ("--gt GT --pred PRED --oks --hota", "--oks and --hota"),
        ("--gt GT --pred PRED --oks --plot x.png", "--oks and --plot"),
        ("--gt GT --pred PRED --oks --no-tracking", "--oks and --no-tracking"),
        ("--gt GT --pred PRED --hota --no-tracking", "--hota and --no-tracking"),
        ("--gt GT --pred PRED --plot x.doc", "--plot x.doc: the name must end in"),
        ("--oks", "--oks needs --gt"),
        ("--no-tracking", "--no-tracking needs --gt"),
        ("--root X --jhmdb X", "--root and --jhmdb exclude each other"),
        ("--root X --seeds 1", "--root and --seeds"),
        ("--jhmdb X --jhmdb-labels X --seeds 1", "--jhmdb and --seeds"),
        ("--jhmdb X", "--jhmdb needs --jhmdb-labels"),
        ("--table 1 --figure 6", "--table and --figure"),
        ("--table 1 --trackers iou", "--table and --trackers"),
        ("--figure 6 --trackers iou", "--figure and --trackers"),
        ("--table 1 --per-sequence", "--per-sequence and --table"),
        ("--figure 6 --per-sequence", "--per-sequence and --figure"),
        ("--trackers iou --per-sequence", "--per-sequence and --trackers"),
        *(
            (f"--figure 6 {option}", f"--figure and {option.split()[0]}")
            for option in ("--official", "--corrected", "--hota", "--delta 2", "--tracker iou", "--joint-score 0.2")
        ),
        ("--deltas 1 2", "--deltas needs --figure"),
        ("--trackers iou --tracker iou", "--trackers and --tracker"),
        ("--trackers iou --hota", "--trackers and --hota"),
        ("--trackers iou --plot x.png", "--trackers and --plot"),
        ("--trackers iou iou", "--trackers: iou is given twice"),
        ("--trackers iou nonsense", "--trackers nonsense: not one of default, "),
        ("--trackers iou --weights a b", "--weights: --trackers compares"),
        ("--seeds 1 2", "--seeds: only --trackers takes several"),
        ("--trackers iou --seeds 1 1", "--seeds: 1 is given twice"),
        ("--figure 6 --weights a b c", "--weights: --figure 6 compares"),
        ("--table 1 --weights a a", "--weights: a is given twice"),
        ("--weights a b --plot x.png", "--plot: draws the figures of one model"),
    ],
)  # fmt: skip
def test_posetrack_refuses_what_it_would_ignore(line, message):
    with pytest.raises(InputError, match=message) as error:
        call("posetrack", line)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("command", "line", "message"),
    [
        ("coco", "--images X", "--images needs --gt"),
        ("coco", "--pred X", "--pred needs --gt"),
        *(
            ("coco", f"--gt X --pred X {option}", f"--pred and {option.split()[0]} exclude each other")
            for option in ("--images X", "--weights x", "--size 320", "--device cpu", "--save x")
        ),
        ("pck", "--jhmdb X", "--jhmdb-labels"),
        ("claim", "--jhmdb X", "--jhmdb needs --jhmdb-labels"),
        ("claim", "--jhmdb-labels X", "--jhmdb-labels needs --jhmdb"),
        ("claim", "--teacher X", "--teacher needs --jhmdb"),
        ("claim", "--every 3", "--every needs --jhmdb"),
        ("claim", "--seeds 1 1", "--seeds: 1 is given twice"),
        ("claim", "--runs single single", "--runs: single is given twice"),
        *((command, "--device tpu", "device 'tpu': not a device") for command in ("posetrack", "pck")),
    ],
)
def test_other_commands_refuse_what_they_would_ignore(command, line, message):
    with pytest.raises(InputError, match=message):
        call(command, line)


# --- which prediction belongs to which frame -------------------------------------------------------------------------

WALK = [[person(0, x=40 * f), person(1, x=40 * f, y=500)] for f in range(4)]


def named(content: dict, names: list[str], key: str = "file_name") -> dict:
    for image, name in zip(content["images"], names, strict=True):
        image[key] = name
    return content


def scored(folder, truth: dict, predicted: dict, **options) -> dict:
    for name, content in (("gt", truth), ("pred", predicted)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    posetrack.main(gt=folder / "gt.json", pred=folder / "pred.json", json=folder / "out.json", **options)
    return json.loads((folder / "out.json").read_text())


def shuffled() -> dict:
    content = file18(WALK, False)
    content["images"] = [content["images"][i] for i in (2, 0, 3, 1)]
    return content


@pytest.mark.parametrize("options", [{"corrected": True}, {"oks": True}], ids=["corrected", "oks"])
def test_images_in_another_order_are_paired_by_name(tmp_path, capsys, options):
    result = scored(tmp_path, file18(WALK, True), shuffled(), **options)
    assert result["AP"] if "oks" in options else (result["ap"][15], result["mota"][15]) == (100, 100)
    assert result.get("AP", 100) == 100
    assert "pred: frames were paired with the ground truth's by the names" in capsys.readouterr().out.replace(
        "gt:", "pred:"
    )


def test_the_official_tool_pairs_by_place_and_that_is_told(tmp_path, capsys):
    result = scored(tmp_path, file18(WALK, True), shuffled())
    assert result["ap"][15] < 50 and result["pairing"] == {"gt": "place"}
    assert (
        "another order than the ground truth's; they were paired by their place, as the official"
        in capsys.readouterr().out
    )
    same = scored(tmp_path, file18(WALK, True), file18(WALK, False))
    assert "pairing" not in same and "note" not in capsys.readouterr().out


def test_names_may_differ_in_folder_ending_and_zeros(tmp_path, capsys):
    truth = named(file18(WALK, True), [f"images/val/a/{f:08d}.jpg" for f in range(4)])
    predicted = named(shuffled(), [f"a/frame_{f}.png" for f in (2, 0, 3, 1)])
    assert scored(tmp_path, truth, predicted, corrected=True)["ap"][15] == 100
    assert "by the names" in capsys.readouterr().out


def test_ids_pair_frames_whose_names_say_nothing(tmp_path):
    truth, predicted = named(file18(WALK, True), ["x.jpg"] * 4), named(shuffled(), ["y.jpg"] * 4)
    assert scored(tmp_path, truth, predicted, corrected=True)["ap"][15] == 100


def test_frames_that_nothing_tells_apart_are_paired_by_place(tmp_path, capsys):
    truth = file17(WALK, True)
    for frame in truth["annolist"]:
        frame["image"][0]["name"] = "still.jpg"
    assert scored(tmp_path, truth, file18(WALK, False), corrected=True)["ap"][15] == 100
    assert "paired by their place, as no name tells more" in capsys.readouterr().out


def test_predictions_of_more_frames_than_are_labelled_are_paired_by_name(tmp_path):
    truth = file18(WALK[:3], True)
    assert scored(tmp_path, truth, file18(WALK, False), corrected=True)["ap"][15] == 100
    with pytest.raises(InputError, match=r"has 4 frames, .*has 3"):
        scored(tmp_path, truth, file18(WALK, False))
    with pytest.raises(InputError, match=r"has 3 frames, .*has 4"):
        scored(tmp_path, file18(WALK, True), file18(WALK[:3], False), corrected=True)
