"""Runs that end too early go on as if they had not: crashes at any write, SIGKILL, a full disk; and what is refused."""

import builtins
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dimofs.cli import InputError
from dimofs.datasets.teacher import Taught
from dimofs.detections import Detections
from dimofs.zoo import checkpoints, train
from dimofs.zoo.training import state_file
from dimofs.zoo.training.poses import PoseTask
from dimofs.zoo.training.run_folder import RunFolder
from dimofs.zoo.training.trainer import Trainer
from tests.support.commands import call
from tests.support.scenes import Nobody
from tests.support.tiny import TINY, TINY_POSES, TINY_TASK, tiny_model, use_tiny

ROOT = Path(__file__).resolve().parent.parent


class Crash(BaseException):
    """The end of a process, as far as that is possible within one."""


@pytest.fixture
def tiny(monkeypatch):
    use_tiny(monkeypatch)


def run(out: Path, **options) -> None:
    settings = {"save_every": 1, "workers": 0, "quiet": True, "synthetic": 3, "steps": 3, "batch": 1} | options
    call(train.main, "pose", out=out, **settings)


def learned(out: Path) -> dict[str, torch.Tensor]:
    """All that the run has learned: weights, averages, optimizer; and the checkpoint that it wrote."""
    state = torch.load(out / "state.pt", weights_only=True)
    tensors = {f"model.{name}": t for name, t in state["model"].items()}
    tensors |= {f"average.{i}": t for i, t in enumerate(state["average"])}
    for i, moments in state["optimizer"]["state"].items():
        tensors |= {f"optimizer.{i}.{name}": t for name, t in moments.items()}
    exported = checkpoints.load(out / "model").state_dict()
    return tensors | {f"export.{name}": t for name, t in exported.items()}


def rows(path: Path) -> list[dict]:
    """The lines of a file, but for the times."""
    lines = map(json.loads, path.read_text().splitlines())
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def assert_same(one: Path, other: Path) -> None:
    a, b = learned(one), learned(other)
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []
    assert rows(one / "metrics.jsonl") == rows(other / "metrics.jsonl")
    assert not list(other.glob("**/.*.part"))


def crash_at(patch: pytest.MonkeyPatch, call: int) -> Callable[[], int]:
    """Crash before the `call`-th (from 0) renaming or opening for writing; gives how many there were."""
    count = 0
    replace, opened = os.replace, builtins.open

    def check() -> None:
        nonlocal count
        count += 1
        if count == call + 1:
            raise Crash

    def replacing(source, target, **options):
        check()
        return replace(source, target, **options)

    def opening(file, mode="r", *rest, **options):
        if mode[0] in "wa":
            check()
        return opened(file, mode, *rest, **options)

    patch.setattr(os, "replace", replacing)
    patch.setattr(builtins, "open", opening)
    return lambda: count


def test_a_crash_before_any_write_changes_nothing(tiny, tmp_path):
    options = {"steps": 2, "validate": 2, "held_out": 1}
    run(tmp_path / "whole", **options)
    call, crashed = 0, True
    while crashed:
        out = tmp_path / f"cut{call}"
        with pytest.MonkeyPatch.context() as patch:
            crash_at(patch, call)
            try:
                run(out, **options)
                crashed = False
            except Crash:
                pass
        run(out, **options)
        assert_same(tmp_path / "whole", out)
        assert rows(tmp_path / "whole/validation.jsonl") == rows(out / "validation.jsonl")
        assert checkpoints.load(out / "best")
        call += 1
    assert call > 12  # two steps of a line, a checkpoint of three files and a state, one validation


def killed(command: list[str], when: Callable[[], bool]) -> None:
    """Start a process, and end it by SIGKILL as soon as `when`."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE)
    for _ in range(60_000):
        if when() or started.poll() is not None:
            break
        time.sleep(0.001)
    started.kill()
    assert started.wait() == -9, started.stderr.read()  # type: ignore[union-attr]


def test_a_finished_run_writes_its_model_again(tmp_path, monkeypatch):
    """Its model file was cut: the same command mends it."""
    use_tiny(monkeypatch)
    options = {"out": str(tmp_path / "run"), "steps": 1, "batch": 1, "synthetic": 2, "workers": 0, "quiet": True}
    call(train.main, "pose", **options)
    weights = tmp_path / "run/model/model.safetensors"
    whole = checkpoints.load(weights).state_dict()
    weights.write_bytes(weights.read_bytes()[:100])
    call(train.main, "pose", **options)
    mended = checkpoints.load(weights).state_dict()
    assert all(torch.equal(mended[name], value) for name, value in whole.items())


def test_sigkill_in_mid_run_and_in_mid_write(tmp_path):
    """The real command, killed between checkpoints, then while it writes one, then finished."""
    out, options = tmp_path / "killed", {"steps": 7, "save_every": 3, "canvas": 64, "init": "dimofs_mobile", "seed": 5}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "dimofs.zoo.train", "pose", "--quiet", "--workers=0", "--synthetic=3", "--batch=1"]
    command += [f"--out={out}", *words]
    metrics = out / "metrics.jsonl"
    killed(command, lambda: metrics.exists() and len(metrics.read_text().splitlines()) >= 4)
    first = torch.load(out / "state.pt", weights_only=True)["step"]
    killed(command, lambda: any(out.glob(".state.pt.*.part")))
    assert first <= torch.load(out / "state.pt", weights_only=True)["step"] < 10
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for folder in (out, tmp_path / "whole"):
            run(folder, **options)
    finally:
        torch.set_num_threads(threads)
    assert_same(tmp_path / "whole", out)


@contextmanager
def room(size: int) -> Iterator[None]:
    """No file can grow beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def interrupted(out: Path, step: int, **options) -> None:
    """A run that ends after `step` steps."""
    update = Trainer.update

    def ending(trainer: Trainer, batches):
        if trainer.step == step:
            raise Crash
        return update(trainer, batches)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Crash):
        patch.setattr(Trainer, "update", ending)
        run(out, **options)


def test_a_full_disk_is_one_line_and_costs_no_checkpoint(tiny, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "full"
    run(whole)
    interrupted(out, 2)
    sizes = [(whole / name).stat().st_size for name in ("model/model.safetensors", "state.pt")]
    for size, file in ((sum(sizes) // 2, "state.pt"), (sizes[0] - 1, "model")):
        with room(size), pytest.raises(InputError, match=rf"{file}: cannot write \([^\n]*$"):
            run(out)
        assert torch.load(out / "state.pt", weights_only=True)["step"] == 2
    run(out)
    assert_same(whole, out)


def test_a_line_on_a_full_disk(tmp_path):
    """The torn line that it leaves is cut off, and its step logged again."""
    folder = RunFolder(tmp_path)
    folder.begin({}, 0)
    folder.log(1, {"loss": 1.5})
    with (
        room((tmp_path / "metrics.jsonl").stat().st_size + 9),
        pytest.raises(InputError, match=r"metrics\.jsonl: cannot"),
    ):
        folder.log(2, {"loss": 2.5})
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2
    folder.begin({}, 1)
    folder.log(2, {"loss": 3.5})
    assert rows(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": 1.5}, {"step": 2, "loss": 3.5}]


# --- what is refused, and what may change ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"canvas": 96}, "recipe.json: canvas is 64 in this run, 96 now; give the same options"),
        ({"rate": 0.5}, "recipe.json: learning_rate is 0.001 in this run, 0.5 now"),
        ({"synthetic": 4}, "recipe.json: data.synthetic is 3 in this run, 4 now"),
        ({"mix": ["synthetic=1"]}, "recipe.json: mix.synthetic is 0.3 in this run, 1.0 now"),
        ({"init": "dimofs_mobile"}, 'recipe.json: init is null in this run, "dimofs_mobile" now'),
        ({"steps": 1}, "state.pt: is at step 2, beyond --steps 1; give that many or more"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_another_recipe_is_refused(tiny, tmp_path, change, message):
    run(tmp_path, steps=2)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(InputError) as fault:
        run(tmp_path, **{"steps": 2} | change)
    assert message in str(fault.value) and "\n" not in str(fault.value)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_steps_may_grow(tiny, tmp_path):
    run(tmp_path, steps=1)
    run(tmp_path, steps=3)
    assert [row["step"] for row in rows(tmp_path / "metrics.jsonl")] == [1, 2, 3]
    assert json.loads((tmp_path / "recipe.json").read_text())["steps"] == 3


def flip(path: Path, seed: int, count: int = 50) -> None:
    """Flip `count` random bits of a file."""
    content, random = bytearray(path.read_bytes()), np.random.default_rng(seed)
    for place in random.choice(8 * len(content), count, replace=False).tolist():
        content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)


@pytest.mark.parametrize("damage", ["empty", "torn", "one bit", "50 bits", "no checksum", "folder"])
def test_a_damaged_state_is_one_line(tiny, tmp_path, damage):
    run(tmp_path, steps=1)
    path = tmp_path / "state.pt"
    content = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    else:
        path.write_bytes({"empty": b"", "torn": content[:-100], "no checksum": content[:-79]}.get(damage, content))
    if damage.endswith(("bit", "bits")):
        flip(path, seed=0, count=int(damage.split()[0].replace("one", "1")))
    with pytest.raises(InputError, match=r"state.pt: (damaged|cannot read) \([^\n]*$"):
        run(tmp_path, steps=1)


def odd_states(state: dict) -> dict[str, object]:
    """Whole states that another program, or another run, could have written."""
    other = Trainer(TINY_TASK, tiny_model(), replace(TINY, optimizer="sgd")).state()
    model, first = dict(state["model"]), next(iter(state["model"]))
    return {
        "a list": [state],
        "no step": {name: value for name, value in state.items() if name != "step"},
        "step 1.5": state | {"step": 1.5},
        "no average": {name: value for name, value in state.items() if name != "average"},
        "other optimizer": state | {"optimizer": other["optimizer"]},
        "optimizer is a number": state | {"optimizer": 3},
        "a wider layer": state | {"model": model | {first: torch.zeros(3, 3)}},
        "a layer less": state | {"model": {name: t for name, t in model.items() if name != first}},
        "float64": state | {"average": [t.double() for t in state["average"]]},
        "a path": state | {"step": Path("x")},
    }


NAMES = ["a list", "no step", "step 1.5", "no average", "other optimizer", "optimizer is a number", "a wider layer"]


@pytest.mark.parametrize("name", [*NAMES, "a layer less", "float64", "a path"])
def test_an_odd_state_is_one_line(tiny, tmp_path, name):
    run(tmp_path, steps=1)
    path = tmp_path / "state.pt"
    state_file.write(path, odd_states(state_file.read(path))[name])  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"^[^\n]*state[^\n]*--out, or delete it to start again$"):
        run(tmp_path, steps=2)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("metrics.jsonl", '{"step": 1}\nnoise\n{"step": 3}\n', "line 2 is damaged"),
        ("metrics.jsonl", '{"step": 1}\n{"step": 3}\n', "line 2 is damaged"),
        ("metrics.jsonl", '{"step": 1, "seconds": "long"}\n{"step": 2}\n', "line 1 is damaged"),
        ("metrics.jsonl", '{"step": 1}\n{"step": 2', "ends before step 2"),
        ("metrics.jsonl", "[1]\n", "line 1 is damaged"),
        ("validation.jsonl", '{"step": 1, "score": "good"}\n', "line 1 is damaged"),
        ("validation.jsonl", '{"step": 1, "score": NaN}\n', "line 1 is damaged"),
        ("validation.jsonl", '\0\0\0\n{"step": 2, "score": 0.5}\n', "line 1 is damaged"),
        ("recipe.json", "[", "not a JSON file"),
        ("recipe.json", "[]", "not the recipe of a run"),
    ],
)
def test_damaged_logs_and_recipes_are_one_line(tiny, tmp_path, file, content, message):
    run(tmp_path, steps=2)
    (tmp_path / file).write_text(content)
    before = (tmp_path / "state.pt").read_bytes()
    with pytest.raises(InputError, match=rf"{file}: [^\n]*{message}[^\n]*$"):
        run(tmp_path, steps=3)
    assert (tmp_path / file).read_text() == content and (tmp_path / "state.pt").read_bytes() == before


def test_a_state_without_its_recipe_is_told_with_a_remedy(tiny, tmp_path):
    run(tmp_path, steps=1)
    (tmp_path / "recipe.json").unlink()
    with pytest.raises(InputError, match=r"recipe.json: absent beside state.pt; restore it, or give another --out$"):
        run(tmp_path, steps=2)


def test_a_log_may_be_deleted(tiny, tmp_path):
    run(tmp_path, steps=2)
    (tmp_path / "metrics.jsonl").unlink()
    for steps in (3, 4):
        run(tmp_path, steps=steps)
    assert [row["step"] for row in rows(tmp_path / "metrics.jsonl")] == [3, 4]


def test_only_leftovers_of_runs_are_cleared(tiny, tmp_path):
    """Files of a dead run go; files of other programs stay, however alike their names are."""
    ours = [".state.pt.123.part", ".metrics.jsonl.7.part", ".recipe.json.99.part"]
    others = [".video.mp4.123.part", ".state.pt.part", "state.pt.1.part", ".download.part", ".models.1.part"]
    for name in (*ours, *others):
        (tmp_path / name).write_text("half")
    (tmp_path / ".model.55.part").mkdir()
    (tmp_path / ".model.55.part/config.json").write_text("{}")
    run(tmp_path, steps=1)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {*others, "recipe.json", "metrics.jsonl", "state.pt", "model", ".lock"}


@pytest.mark.parametrize("name", ["metrics.jsonl", "model", "best"])
def test_a_folder_of_something_else_is_refused(tiny, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match=rf"{name}: is not part of a run, as recipe.json is absent; give another"):
        run(tmp_path)
    assert (tmp_path / name).read_text() == "mine"


def test_two_trainings_in_one_folder_are_refused(tiny, tmp_path):
    """The second says so; once the first has been killed, the folder is free."""
    out = tmp_path / "run"
    out.mkdir()
    code = (
        "import signal, sys\n"
        "from dimofs.zoo.training import run_folder\n"
        "folder = run_folder.RunFolder(sys.argv[1])\n"
        "folder.lock()\n"
        "print('locked', flush=True)\n"
        "signal.pause()\n"
    )
    first = subprocess.Popen([sys.executable, "-c", code, str(out)], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert first.stdout is not None and first.stdout.readline() == b"locked\n"
        with pytest.raises(InputError, match=r"run: another training is running in this folder; wait until it ends"):
            run(out)
        assert [path.name for path in out.iterdir()] == [".lock"]
    finally:
        first.kill()
        first.wait()
    run(out, steps=1)
    assert (out / "state.pt").exists()


def test_other_teachers_labels_are_another_run():
    """The recipe knows the labels by their content."""

    def labels(score: float) -> dict[str, Detections]:
        return {"a": Detections(torch.ones(1, 4), torch.tensor([score]), torch.ones(1, 17, 2), torch.ones(1, 17))}

    digests = [
        PoseTask(recipe=TINY_POSES.changed(mix={"x": 1.0}), sources={"x": Taught(Nobody(), labels(s))}).plan()
        for s in (0.5, 0.5, 0.25)
    ]
    one, same, other = (plan["teacher"]["x"] for plan in digests)
    assert one == same != other and len(one) == 16


def test_lines_after_the_checkpoint_are_cut(tmp_path):
    """A checkpoint at step 2, a whole line of step 3, a torn one of step 4."""
    lines = "".join(f'{{"step": {step}, "seconds": {10.0 * step}, "loss": 1.5}}\n' for step in (1, 2, 3))
    (tmp_path / "recipe.json").write_text("{}")
    (tmp_path / "metrics.jsonl").write_text(lines + '{"step": 4, "seco')
    (tmp_path / "validation.jsonl").write_text('{"step": 2, "score": 0.25}\n{"step": 3, "score": 0.75}\n')
    folder = RunFolder(tmp_path)
    folder.begin({"steps": 9}, 2)
    folder.log(3, {"loss": 1.0})
    assert [row["step"] for row in rows(tmp_path / "metrics.jsonl")] == [1, 2, 3]
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[2])["seconds"] >= 20
    assert rows(tmp_path / "validation.jsonl") == [{"step": 2, "score": 0.25}] and folder.best == 0.25


def test_the_best_weights_are_kept(monkeypatch, tmp_path):
    use_tiny(monkeypatch)
    folder, trainer = RunFolder(tmp_path), Trainer(TINY_TASK, tiny_model(), TINY)
    folder.begin({}, 0)
    best = []
    for step, found in enumerate((0.25, 0.5, 0.5, 0.375)):
        trainer.step = step
        trainer.average[0].fill_(step)
        folder.validated(trainer, {"pck": found, "pck_pairs": found + 0.125})
        best.append(checkpoints.load(tmp_path / "best").state_dict()["backbone.down.0.weight"].max().item())
    assert [row["score"] for row in rows(tmp_path / "validation.jsonl")] == [0.3125, 0.5625, 0.5625, 0.4375]
    assert best == [0, 1, 1, 1] and folder.best == 0.5625


def test_tensorboard_is_told_if_it_is_there(monkeypatch, tmp_path):
    told = []
    board = SimpleNamespace(add_scalar=lambda *figure: told.append(figure))
    module = SimpleNamespace(SummaryWriter=lambda path, purge_step: told.append((path, purge_step)) or board)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    folder = RunFolder(tmp_path)
    folder.begin({}, 4)
    folder.log(5, {"box": 0.5})
    assert told == [(str(tmp_path / "tensorboard"), 5), ("metrics/box", 0.5, 5)]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # not installed
    folder.begin({}, 5)
    folder.log(6, {"box": 0.5})
    assert len(told) == 2
