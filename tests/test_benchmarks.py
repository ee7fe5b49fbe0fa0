"""Benchmark files of `eval.speed`: written, read back, compared, and refused where damaged or foreign."""

import json
from pathlib import Path

import pytest

from benchmarks.targets import Target, line
from benchmarks.targets import main as targets
from dimofs.cli import InputError
from dimofs.eval import speed
from dimofs.eval.timing import history
from dimofs.eval.timing.case import Case

pytest.importorskip("torchvision")
ROOT = Path(__file__).parents[1]


def row(name: str = "work", ours: float = 2.0, peer: float = 3.0) -> dict:
    return {"name": name, "shape": "2x3", "dtype": "fp32", "ours_ms": ours, "peer_ms": peer}


def test_a_run_is_written_and_read_back(monkeypatch, tmp_path):
    case = Case(name="work", shape="2x3", dtype="fp32", ours=lambda: None, peer="other", theirs=lambda: None, size=1000)
    monkeypatch.setitem(speed.PARTS, "kernels", lambda device, quick: iter([case]))
    speed.main("kernels", quick=True, device="cpu", json=tmp_path / "run.json")
    stored = history.read_run(tmp_path / "run.json")
    assert [r["name"] for r in stored["rows"]] == ["work"]
    assert stored["conditions"]["quick"] is True and stored["conditions"]["device"] == "cpu"
    assert {"date", "cpu", "features", "threads", "torch", "torchvision", "triton", "python", "dimofs"} <= set(
        stored["conditions"]
    )


def test_ratios_and_their_mean_by_hand():
    """Ours took 2 ms and takes 1, then 3 and 12: twice and a quarter as fast, 0.71 in the geometric mean."""
    then = [row("a", 2, 4), row("b", 3, 5), row("gone")]
    now = [row("a", 1, 2), row("b", 12, 10)]
    lines = history.compare(then, now).splitlines()
    assert lines[0].split() == ["name", "shape", "dtype", "then_ms", "now_ms", "ratio", "peer_ratio"]
    assert lines[1].split() == ["a", "2x3", "fp32", "2", "1", "2.00", "2.00"]
    assert lines[2].split() == ["b", "2x3", "fp32", "3", "12", "0.25", "0.50"]
    assert lines[3:] == ["geometric mean of 2 cases: ours 0.71, peers 1.00", "1 more cases were measured then only"]
    assert history.compare(then, [row("new")]).splitlines()[0] == "no case is in both"


def test_other_conditions_are_told(monkeypatch, tmp_path, capsys):
    case = Case(name="work", shape="2x3", dtype="fp32", ours=lambda: None, peer="other", theirs=lambda: None, size=1000)
    monkeypatch.setitem(speed.PARTS, "kernels", lambda device, quick: iter([case]))
    stored = {"conditions": history.conditions("cpu", True) | {"cpu": "Z80", "torch": "0.1"}, "rows": [row()]}
    (tmp_path / "then.json").write_text(json.dumps(stored))
    speed.main("kernels", quick=True, device="cpu", against=tmp_path / "then.json")
    out = capsys.readouterr().out.splitlines()
    differing = [line.split(":")[1].strip() for line in out if line.startswith("differs")]
    assert differing == ["CPU", "torch"]
    assert any(line.startswith("differs: CPU: Z80 then, ") for line in out)
    assert out[-1].startswith("geometric mean of 1 cases")


DAMAGED = {
    "text": ("hello", "not a JSON file"),
    "cut": ('{"rows": [{"name": "wo', "not a JSON file"),
    "list": ("[]", "not an object"),
    "foreign": ('{"images": [], "annotations": []}', "`rows` is not a list"),
    "no conditions": ('{"rows": []}', "`conditions` is not an object"),
    "row of text": ('{"conditions": {}, "rows": ["work"]}', r"rows\[0\]: not an object"),
    "no name": (json.dumps({"conditions": {}, "rows": [row(), row("b") | {"name": 5}]}), r"rows\[1\]: `name`"),
    "NaN": (
        json.dumps({"conditions": {}, "rows": [row(ours=float("nan"))]}),
        r"rows\[0\]: `ours_ms` is not a positive",
    ),
    "zero": (json.dumps({"conditions": {}, "rows": [row(peer=0)]}), r"rows\[0\]: `peer_ms` is not a positive"),
    "true": (json.dumps({"conditions": {}, "rows": [row(ours=True)]}), r"rows\[0\]: `ours_ms` is not a positive"),
    "twice": (json.dumps({"conditions": {}, "rows": [row(), row()]}), r"rows\[1\]: the case work, 2x3, fp32 occurs"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_and_foreign_files_are_refused_before_anything_is_measured(monkeypatch, tmp_path, name):
    text, message = DAMAGED[name]
    path = tmp_path / "then.json"
    path.write_text(text)
    monkeypatch.setattr(speed, "copy_bandwidth", lambda *_: pytest.fail("measured"))
    with pytest.raises(InputError, match=message) as refused:
        speed.main("kernels", quick=True, device="cpu", against=path)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)


def test_an_absent_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"absent\.json: cannot read"):
        speed.main("kernels", device="cpu", against=tmp_path / "absent.json")


def test_files_of_the_history_can_be_read():
    # Runs of benchmarks.targets have rows of another kind.
    for path in {*(ROOT / "benchmarks").glob("*.json")} - {*(ROOT / "benchmarks").glob("*-targets.json")}:
        assert history.read_run(path)["rows"]


def test_targets_by_hand():
    """70 of 100 ms reach at most 0.7; torchvision at 9 times our time misses at least ten."""
    faster = Target(name="step", beside="before", ours=70.0, other=100.0, target=0.7)
    slower = Target(name="pool", beside="torchvision", ours=1.0, other=9.0, target=10.0, least=True)
    assert (faster.measured, faster.reached) == (0.7, True)
    assert (slower.measured, slower.reached) == (9.0, False)
    assert line(slower).split()[-5:] == ["9.0", "9.00", ">=", "10.00", "missed"]


def test_targets_need_a_checkout(tmp_path):
    with pytest.raises(InputError, match="no checkout of dimofs"):
        targets(before=tmp_path)
