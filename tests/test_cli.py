"""Command lines from signatures: types, defaults, choices, shared options, checks of values, exit codes."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pytest
import torch

from dimofs.cli import RESULT, InputError, Range, arguments, check_choices, check_ranges, parser, run
from dimofs.interrupts import Stopped, stop_requests

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, kw_only=True)
class Lists:
    """Options that two commands share."""

    lists: Annotated[list[str] | None, "files of names"] = None
    every: Annotated[int, "one in this many", Range(1)] = 5


def command(
    task: Literal["fit", "test"],
    *,
    video: Annotated[list[str] | None, "files"] = None,
    delta: Annotated[int, "frames"] = 0,
    rate: Annotated[float, "of learning", Range(0, 1)] = 0.5,
    deltas: Annotated[list[int] | None, "several", Range(-9, 9)] = None,
    json: Annotated[Path | None, "figures", RESULT] = None,
    page: Annotated[Path | None, "page", RESULT] = None,
    overlay: bool = True,
    data: Lists,
) -> int | None:
    if delta < 0:
        raise InputError("x.mp4: delta is negative; give 0 or more")
    if delta == 99:
        raise RuntimeError("what\nnobody\nforesaw")
    return delta


def test_types_and_defaults():
    defaults = {"video": None, "delta": 0, "rate": 0.5, "deltas": None, "json": None, "page": None}
    defaults |= {"overlay": True, "data": Lists()}
    assert arguments(command, ["fit"]) == {"task": "fit", **defaults}
    words = ["test", "--video", "a", "b", "--delta", "5", "--no-overlay", "--deltas", "-2", "3"]
    words += ["--lists", "x", "y", "--every", "2"]
    given = {"video": ["a", "b"], "delta": 5, "overlay": False, "deltas": [-2, 3]}
    assert arguments(command, words) == {"task": "test", **defaults, **given, "data": Lists(lists=["x", "y"], every=2)}


def test_options_of_a_dataclass_are_in_the_help():
    text = parser(command).format_help()
    assert "--every EVERY" not in text and "--every INT" in text and "one in this many (default: 5)" in text


def test_choices_are_listed():
    check_choices(a_word=("one", ("one", "two")), other=(None, ()))
    with pytest.raises(InputError, match=r"^--a-word three: not one of one, two$"):
        check_choices(a_word=("three", {"one": 1, "two": 2}))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--rate nan", "--rate nan: must be a finite number"),
        ("--rate=-inf", "--rate -inf: must be a finite number"),
        ("--rate 1.25", "--rate 1.25: must be at least 0 and at most 1"),
        ("--delta 1000000001", "--delta 1000000001: must be at most 1000000000"),
        ("--delta -2000000000", "--delta -2000000000: must be at least -1000000000"),
        (f"--delta {10**400}", "must be at most 1000000000"),
        ("--every 0", "--every 0: must be at least 1"),
        ("--deltas 1 2 30", "--deltas 30: must be at least -9 and at most 9"),
        ("--json .", "--json .: is a folder; give the name of a file"),
        ("--json /dev/null", "--json /dev/null: is not a regular file; give another name"),
        ("--json /dev/null/x/figures.json", "/dev/null is not a folder"),
        ("--video a " + 300 * "b", "is longer than a name can be"),
        ("--video " + 2000 * "a/b", "is longer than a name can be"),
        ("--video a\0b", r"a\0b: has a NUL character"),
        ("--video a\ud800b", r"a\ud800b: has characters that no name can have"),
    ],
)
def test_values_are_checked_before_the_command_runs(words, message, capsys):
    with pytest.raises(SystemExit) as stop:
        run(command, ["fit", *words.split()])
    printed = capsys.readouterr().err
    assert stop.value.code == 2 and message in printed and len(printed.splitlines()) == 1 and len(printed) < 200


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(InputError, match=r"cannot write to \S+; give another name"):
        arguments(command, ["fit", "--json", str(tmp_path / "new" / "figures.json")])
    assert not list(tmp_path.iterdir())


def test_results_overwrite_no_other_file_of_the_command(tmp_path):
    labels = tmp_path / "labels.json"
    labels.touch()
    given = arguments(command, ["fit", "--json", f"{tmp_path}/a", "--page", f"{tmp_path}/b", "--video", str(labels)])
    assert given["page"] == tmp_path / "b"
    with pytest.raises(InputError, match=r"--page .*: is the file of --json too; give another name"):
        arguments(command, ["fit", "--json", f"{tmp_path}/a", "--page", f"{tmp_path}/./a"])
    for option in ("--video", "--lists"):
        with pytest.raises(InputError, match=f"--json .*: is the file of {option} too"):
            arguments(command, ["fit", option, "x", str(labels), "--json", str(labels)])


def test_empty_names_are_refused(capsys):
    with pytest.raises(InputError, match=r"^--video: is empty; give a name$"):
        arguments(command, ["fit", "--video", ""])
    with pytest.raises(SystemExit):
        arguments(command, ["fit", "--json", ""])
    assert "argument --json: an empty name; give another" in capsys.readouterr().err


def test_names_that_are_not_utf8_and_long_addresses_are_fine():
    names = [os.fsdecode(b"caf\xe9.mp4"), "https://example.org/" + 400 * "x"]
    assert arguments(command, ["fit", "--video", *names])["video"] == names


def test_limits_that_depend_on_other_options():
    check_ranges(start=(1.0, 0, 2), end=(None, 0, 1))
    with pytest.raises(InputError, match=r"^--a-start 3: must be at least 0 and at most 2$"):
        check_ranges(a_start=(3, 0, 2))
    with pytest.raises(InputError, match=r"^--start nan: must be a finite number$"):
        check_ranges(start=(float("nan"), 0, float("inf")))


@pytest.mark.parametrize("argv", [[], ["walk"], ["fit", "--delta", "x"], ["fit", "--unknown"]])
def test_wrong_words_exit_2(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        parser(command).parse_args(argv)
    assert stop.value.code == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize(("argv", "code", "error"), [
    (["fit", "--delta", "3"], 3, ""),
    (["fit"], 0, ""),
    (["fit", "--delta", "-1"], 2, "error: x.mp4: delta is negative; give 0 or more\n"),
    (["fit", "--delta", "99"], 2, "error: unexpected RuntimeError: what ... foresaw (DIMOFS_DEBUG=1 shows where;"
        " please report it)\n"),
])  # fmt: skip
def test_run_exits_with_the_result_or_one_line(argv, code, error, capsys):
    with pytest.raises(SystemExit) as stop:
        run(command, argv)
    assert stop.value.code == code
    assert capsys.readouterr().err == error


def allocates():
    torch.empty(2**60, dtype=torch.uint8)


def numpy_allocates():
    np.empty(2**60, np.uint8)


@pytest.mark.parametrize("main", [allocates, numpy_allocates])
def test_full_memory_is_told_with_its_remedy(main, capsys):
    with pytest.raises(SystemExit) as stop:
        run(main, [])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("error: the memory is full; make")


def test_tracebacks_are_shown_when_debugging(monkeypatch):
    monkeypatch.setenv("DIMOFS_DEBUG", "1")
    with pytest.raises(RuntimeError, match="foresaw"):
        run(command, ["fit", "--delta", "99"])


def talking(word: str) -> None:
    """Waits for a signal, or prints more than a pipe holds."""
    print("ready", flush=True)
    if word == "wait":
        signal.pause()
    for _ in range(50_000):
        print("a line of some length")


def started(word: str, **streams) -> subprocess.Popen:
    # Processes that a shell starts in the background ignore Ctrl-C; this one must not, wherever the tests run.
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{heed}; from dimofs.cli import run; from tests.test_cli import talking; run(talking, [{word!r}])"
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, text=True, **streams)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_a_command_without_a_word(number):
    process = started("wait", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(number)
    try:
        assert process.communicate(timeout=60)[1] == "" and process.returncode == 128 + number
    finally:
        process.kill()


def test_a_block_is_told_of_the_first_signal_and_cut_by_the_second():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped) as stop, stop_requests() as request:
        assert not request
        signal.raise_signal(signal.SIGTERM)
        assert request and request.signal == signal.SIGTERM
        signal.raise_signal(signal.SIGHUP)
    assert stop.value.signal == signal.SIGHUP and signal.getsignal(signal.SIGTERM) is before


def test_ignored_signals_stay_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_requests() as request:
            signal.raise_signal(signal.SIGHUP)
            assert not request
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_reader_that_leaves_ends_a_command_without_a_word():
    process = started("talk", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait(timeout=60) == 141


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_one_line():
    with open("/dev/full", "w") as full:
        process = started("talk", stdout=full, stderr=subprocess.PIPE)
        told = process.communicate(timeout=60)[1]
    assert process.returncode == 2 and len(told.splitlines()) == 1 and "No space left" in told


def test_closed_streams_swallow_what_is_printed():
    code = "from dimofs.cli import run; from tests.test_cli import talking; run(talking, ['talk'])"
    done = subprocess.run(["sh", "-c", f'{sys.executable} -c "{code}" >&- 2>&-'], cwd=ROOT, check=False, timeout=60)
    assert done.returncode == 0
