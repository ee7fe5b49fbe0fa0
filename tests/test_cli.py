"""Command lines from signatures: types, defaults, choices, exit codes."""

from collections.abc import Sequence
from typing import Annotated, Literal

import pytest

from dimofs.cli import InputError, check_choices, parser, run


def command(
    task: Literal["fit", "test"],
    *,
    video: Annotated[list[str] | None, "files"] = None,
    delta: Annotated[int, "frames"] = 0,
    overlay: bool = True,
) -> int | None:
    if delta < 0:
        raise InputError("x.mp4: delta is negative; give 0 or more")
    return delta


def test_types_and_defaults():
    parse = parser(command).parse_args
    assert vars(parse(["fit"])) == {"task": "fit", "video": None, "delta": 0, "overlay": True}
    given = parse(["test", "--video", "a", "b", "--delta", "5", "--no-overlay"])
    assert vars(given) == {"task": "test", "video": ["a", "b"], "delta": 5, "overlay": False}


def placed(
    first: int,
    second: int = 4,
    *,
    wide: Annotated[bool, "not narrow"] = False,
    step: Annotated[int, "frames"] = 3,
    names: Annotated[Sequence[str], "of files"] = (),
) -> None:
    pass


def test_positions_may_be_left_out_where_they_have_a_default():
    parse = parser(placed).parse_args
    assert vars(parse(["3"])) == {"first": 3, "second": 4, "wide": False, "step": 3, "names": ()}
    assert vars(parse(["3", "5", "--wide"])) == {"first": 3, "second": 5, "wide": True, "step": 3, "names": ()}


def test_help_tells_defaults_that_say_something():
    text = parser(placed).format_help()
    assert "frames (default: 3)" in text
    assert "of files (" not in text and "not narrow (" not in text


def test_choices_are_told():
    check_choices(a_word=("one", ("one", "two")), other=(None, ()))
    with pytest.raises(InputError, match=r"^--a-word three: not one of one, two$"):
        check_choices(a_word=("three", {"one": 1, "two": 2}))


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
])  # fmt: skip
def test_run_exits_with_the_result_or_one_line(argv, code, error, capsys):
    with pytest.raises(SystemExit) as stop:
        run(command, argv)
    assert stop.value.code == code
    assert capsys.readouterr().err == error
