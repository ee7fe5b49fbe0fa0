"""`eval.claim --labels-per-clip`: which frames are labelled, how long runs train, tables, finished runs."""

import json
from typing import Any

import numpy as np
import pytest

from dimofs.cli import InputError
from dimofs.datasets.jhmdb import Jhmdb
from dimofs.datasets.people import draw_frames, labelled_numbers
from dimofs.datasets.synthetic.clips import Synthetic
from dimofs.eval import claim
from dimofs.eval.tables import bench, labels
from dimofs.zoo.training.trainer import Trainer


def test_labelled_frames_by_hand():
    assert [list(labelled_numbers(40, 1, count)) for count in (1, 2, 4)] == [[20], [10, 30], [5, 15, 25, 35]]
    assert list(labelled_numbers(3, 1, 5)) == [0, 1, 2]
    assert list(labelled_numbers(12, 5)) == [0, 5, 10]


def test_frame_b_is_any_frame_of_the_clip():
    random = np.random.default_rng(0)
    pairs = [draw_frames(9, random, reach=None, every=1, labels=2) for _ in range(300)]
    assert {a for a, _ in pairs} == {2, 6}
    counts = np.bincount([b for _, b in pairs], minlength=9)
    assert counts.min() > 15, "each of 9 about 33 times"


def test_synthetic_clips_with_two_labels():
    clips = Synthetic(2, length=8, per_clip=2, reach=None)
    assert [name.rpartition("/")[2] for name, _ in clips.frames()] == ["0002", "0006"] * 2
    assert clips.pair(0, np.random.default_rng(0)).name[-4:] in ("0002", "0006")


@pytest.fixture
def clips(tmp_path) -> str:
    """JHMDB's labels of 40 clips of 5 frames, two of each of 20 films."""
    names = [f"film{number // 2}_wave_u_nm_np1_fr_med_{number}" for number in range(40)]
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "wave_test_split1.txt").write_text("".join(f"{name}.avi 1\n" for name in names))
    frames = {f"wave/{name}": np.tile(np.array([1, 2, 30, 40]), (5, 1)) for name in names}
    np.savez(tmp_path / "boxes.npz", **frames)  # type: ignore[arg-type]
    joints = {name: np.zeros((5, 15, 2)) for name in frames}
    np.savez(tmp_path / "joints.npz", **joints)  # type: ignore[arg-type]
    (tmp_path / "joints_meta.json").write_text(json.dumps({name: {"clean": False} for name in frames}))
    return str(tmp_path)


def test_films_are_validated_on_or_trained_on(clips):
    few = labels.few_labels(clips, clips, None, 2)
    training, validation = few.training["jhmdb"], few.validation["jhmdb"]
    assert isinstance(training, Jhmdb) and isinstance(validation, Jhmdb)
    films = [{name.split("/")[1].split("_")[0] for name in part.names} for part in (training, validation)]
    assert len(films[0]) + len(films[1]) == 20 and not films[0] & films[1] and films[1]
    assert len(training) + len(validation) == 40
    assert few.frames == 2 * len(training) and validation.per_clip is None and training.reach is None
    assert (
        labels.few_labels(clips, clips, 3, None).frames == 15
        and len(labels.few_labels(clips, clips, 3, 1).training["jhmdb"]) == 3
    )


def test_steps_by_hand():
    """100 frames seen 30 times in batches of 8."""
    few = labels.FewLabels(training={}, validation={}, frames=100)
    assert (few.steps(30, 8, None), few.steps(30, 8, 200)) == (375, 200)
    assert labels.few_labels(None, None, 3, 4).frames == 12 and labels.few_labels(None, None, 3, None).frames == 120


def test_tables_by_hand():
    def rows(*values: float | None) -> list[dict]:
        return [{"ap": [0.0, value], "mota": [value, 1.0]} for value in values]

    found = {"1": {"single": rows(50, 54), "dimofs": rows(None, 60)}, "all": {"single": rows(70), "dimofs": rows(71)}}
    assert [line.split() for line in labels.label_lines(found)] == [
        ["mAP", "1", "labelled", "all", "labelled"],
        ["single", "52.0", "±", "2.0", "70.0"],
        ["dimofs", "-", "71.0"],
        ["MOTA", "1", "labelled", "all", "labelled"],
        ["single", "1.0", "±", "0.0", "1.0"],
        ["dimofs", "1.0", "±", "0.0", "1.0"],
    ]


@pytest.mark.parametrize("text", ["0", "-1", "some", "1.5", "٣"])
def test_numbers_of_labels_that_are_none_are_refused(tmp_path, text):
    with pytest.raises(InputError, match=r"--labels-per-clip .*: must be a number of frames, at least 1, or all"):
        claim.main(out=tmp_path / "out", labels_per_clip=[text])
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="1 is given twice"):
        claim.main(out=tmp_path / "out", labels_per_clip=["1", "1"])
    with pytest.raises(InputError, match="--epochs needs --labels-per-clip"):
        claim.main(out=tmp_path / "out", epochs=3)
    for option, value in (("control", True), ("teacher", "labels")):
        other: Any = {option: value, "jhmdb": "x", "jhmdb_labels": "y"}
        with pytest.raises(InputError, match=f"--labels-per-clip and --{option} exclude each other"):
            claim.main(out=tmp_path / "out", labels_per_clip=["1"], **other)


def test_a_control_that_cannot_be_is_refused_before_training(tmp_path):
    with pytest.raises(InputError, match="--control: needs a run that learns from pairs"):
        claim.main(out=tmp_path / "out", control=True, runs=["single"])
    with pytest.raises(InputError, match="absent: no such file"):
        claim.main(out=tmp_path / "out", control=True, nobody=str(tmp_path / "absent"))
    assert not (tmp_path / "out").exists()


def test_runs_over_labels_are_trained_measured_and_not_repeated(tmp_path, monkeypatch, capsys):
    for module, name, value in ((bench, "CLIPS", 1), (claim, "CALIBRATION", 2), (labels, "VALIDATION_FRAMES", 2)):
        monkeypatch.setattr(module, name, value)
    options = {"labels_per_clip": ["1", "all"], "epochs": 1, "clips": 2, "steps": 3, "batch": 1, "canvas": 64}
    options |= {"size": 64, "seeds": [0], "runs": ["single"]}
    claim.main(out=tmp_path, json=tmp_path / "labels.json", **options)
    first = capsys.readouterr().out
    runs = json.loads((tmp_path / "labels.json").read_text())["runs"]
    assert [runs[count]["single"][0]["steps"] for count in ("1", "all")] == [2, 3]
    assert {p.name for p in tmp_path.iterdir()} >= {"start", "1-single-0", "all-single-0", "labels.png"}
    recipe = json.loads((tmp_path / "all-single-0" / "recipe.json").read_text())
    assert recipe["unfreeze"] == 0 and recipe["single"] == 1 and recipe["steps"] == 3

    monkeypatch.setattr(Trainer, "update", lambda *_: pytest.fail("trained again"))
    for file, content, fault in (
        ("scores.json", "[]", "is damaged; delete it"),
        ("validation.jsonl", "", "holds no val"),
    ):
        whole = (tmp_path / "1-single-0" / file).read_text()
        (tmp_path / "1-single-0" / file).write_text(content)
        with pytest.raises(InputError, match=rf"1-single-0/{file}: {fault}"):
            claim.main(out=tmp_path, **options)
        (tmp_path / "1-single-0" / file).write_text(whole)
    capsys.readouterr()
    monkeypatch.setattr(claim.Test, "_figures", lambda *_: pytest.fail("measured again"))
    claim.main(out=tmp_path, **options)
    assert capsys.readouterr().out.splitlines()[:7] == first.splitlines()[:7]
