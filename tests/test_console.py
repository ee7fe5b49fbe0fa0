"""`dimofs COMMAND`: every command by its name, the overview, completion, what ships."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from dimofs import __main__ as console
from dimofs import __version__
from dimofs.zoo import models
from tests.test_package import COMMANDS, MODULES

ROOT = Path(__file__).resolve().parent.parent


def called(words: list[str]) -> int:
    with pytest.raises(SystemExit) as stop:
        console.main(words)
    return stop.value.code if isinstance(stop.value.code, int) else 0


def test_every_command_has_a_name():
    found = console.commands()
    assert {name for name in COMMANDS if MODULES[name].parts[0] in ("zoo", "eval")} == set(found.values())
    assert found[("pose",)] == "dimofs.zoo.pose" and found[("eval", "posetrack")] == "dimofs.eval.posetrack"
    assert found[("track",)] == "dimofs.eval.track"


def test_the_overview_names_all_and_imports_no_model():
    code = "import sys; from dimofs.__main__ import overview; print(overview()); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    for words, module in console.commands().items():
        assert re.search(rf"(?m)^  {' '.join(words)} +{re.escape(console.summary(module))}$", done.stdout)
    assert console.summary("dimofs.zoo.pose") == "Tracked poses of the people in a video"


def test_help_and_errors_call_the_command_by_its_name(capsys):
    assert called(["pose", "--help"]) == 0
    assert capsys.readouterr().out.startswith("usage: dimofs pose [-h] --video")
    assert called(["eval", "coco", "--size"]) == 2
    assert "dimofs eval coco: error: argument --size" in capsys.readouterr().err
    assert called(["pose", "--video", "absent.mp4", "--quiet"]) == 2
    assert capsys.readouterr().err.startswith("error: absent.mp4: no such file")


@pytest.mark.parametrize("words", [["poze"], ["eval", "posetrak"], ["--verzion"]])
def test_unknown_commands_are_one_line(words, capsys):
    assert called(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: dimofs {' '.join(words)}: no such command; the commands are ")
    assert ("eval coco" in line) and ("train" in line) == (words[0] != "eval")


def test_versions(capsys):
    assert called(["--version"]) == 0
    assert re.fullmatch(rf"dimofs {__version__}, Python 3\S+, torch \S+, .*av \S+\n", capsys.readouterr().out)
    assert called([]) == 0 and "commands:" in capsys.readouterr().out


def test_completion(capsys):
    assert called(["--completion", "fish"]) == 2
    assert "error: --completion fish: not one of bash, zsh, tcsh" in capsys.readouterr().err
    pytest.importorskip("shtab", reason="needs pip install shtab")
    script = console.completion("bash")
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    for option in ("--largest", "--unfreeze", "posetrack"):
        assert option in script


def test_what_ships_is_told_from_its_files(capsys):
    assert called(["models"]) == 0
    printed = capsys.readouterr().out
    assert re.search(
        r"(?m)^dimofs_mobile\n  .*; 19 joints\n  \d\.\d million weights, \d+ MB, licence Apache-2\.0\n", printed
    )
    assert "keypoint AP 0." in printed and "keypointrcnn_resnet50_fpn_coco" in printed
    assert called(["models", "--card", "dimofs_mobile"]) == 0
    assert "# dimofs_mobile" in capsys.readouterr().out
    assert called(["models", "--card", "other"]) == 2


def test_the_first_row_of_a_card():
    card = "# x\n\ntext\n\n| | AP | time |\n|---|---|---|\n| v2 | 0.5 | |\n| v1 | 0.4 | 3 |\n\nmore | text\n"
    assert models.figures(card) == ["v2: AP 0.5"]
    assert models.figures("# x\n\nno table\n") == []
