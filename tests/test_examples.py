"""The examples run and print what they say."""

import json
import runpy
import sys
from pathlib import Path

import pytest

from dimofs.datasets.synthetic.clips import synthetic_clip
from dimofs.flow_files import read_flow
from tests.support.clips import write_video

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def run(name: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_kernels_alone(monkeypatch, capsys):
    run("kernels_alone.py", monkeypatch)
    printed = capsys.readouterr().out.splitlines()
    documented = (EXAMPLES / "kernels_alone.py").read_text().split('"""')[1]
    assert len(printed) == 5 and all(f"    {line}\n" in documented for line in printed)


def test_poses_to_pandas(monkeypatch, capsys, tmp_path):
    pandas = pytest.importorskip("pandas", reason="needs pip install pandas")
    video = write_video(tmp_path / "x.mp4", list(synthetic_clip(3, length=4, height=128, width=160).frames))
    run("poses_to_pandas.py", monkeypatch, str(video), "--out", str(tmp_path / "x.csv"))
    table = pandas.read_csv(tmp_path / "x.csv")
    assert list(table.columns) == ["frame", "time", "person", "score", "joint", "x", "y", "confidence"]
    assert table["joint"].nunique() == 19 and len(table) == 19 * len(table[["frame", "person"]].drop_duplicates())
    assert table["x"].between(0, 160).mean() > 0.9 and table["time"].max() <= 0.12
    assert f"{table['frame'].nunique()} frames with people" in capsys.readouterr().out


def test_the_notebook_runs_from_its_first_cell_to_its_last(capsys):
    """Without Jupyter: its cells are plain Python, run one after the other in one namespace."""
    book = json.loads((EXAMPLES / "tour.ipynb").read_text())
    names: dict = {}
    for cell in book["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"] and cell["execution_count"] is None
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    assert len(capsys.readouterr().out.splitlines()) == 6
    assert names["motion"].flow.shape == (2, 180, 320) and len(names["later"]) == 6


def test_train_on_own_clips(monkeypatch, capsys, tmp_path):
    run("train_on_own_clips.py", monkeypatch, "--out", str(tmp_path), "--clips", "2", "--steps", "1")
    assert (tmp_path / "run/model/model.safetensors").is_file()
    assert "people found" in capsys.readouterr().out


def test_motion(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    run("motion.py", monkeypatch)
    assert read_flow(tmp_path / "motion.flo").shape == (2, 240, 320)
    assert "points 2 moved" in capsys.readouterr().out
