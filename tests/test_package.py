"""The package holds together: links, packaging, and every command that the README and the docstrings tell of."""

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from dimofs.cli import parser

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = [
    "dimofs.zoo.pose", "dimofs.zoo.train", "dimofs.zoo.label", "dimofs.zoo.calibrate", "dimofs.zoo.convert",
    "dimofs.eval.posetrack", "dimofs.eval.coco", "dimofs.eval.pck", "dimofs.eval.track", "dimofs.eval.speed",
    "dimofs.eval.traffic",
]  # fmt: skip


def project() -> dict:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read TOML")
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def test_links_and_the_package_table_name_the_same_folders():
    if not (ROOT / "dimofs/zoo").is_symlink():
        pytest.skip("not a checkout with links")
    links = {f"dimofs.{path.name}": path.resolve() for path in (ROOT / "dimofs").iterdir() if path.is_symlink()}
    table = {name: ROOT / folder for name, folder in project()["package-dir"].items()}
    assert links == table


def test_every_package_is_named():
    folders = {path.parent.relative_to(ROOT) for path in ROOT.glob("dimofs/**/__init__.py")}
    folders |= {Path("dimofs") / path.parent.name for path in ROOT.glob("*/__init__.py")} - {Path("dimofs/dimofs")}
    assert {".".join(folder.parts) for folder in folders} == set(project()["packages"])


def test_weights_that_ship_are_in_the_wheel_and_described():
    patterns = project()["package-data"]["dimofs.zoo"]
    packed = {path for pattern in patterns for path in (ROOT / "zoo").glob(pattern)}
    for folder in (ROOT / "zoo/weights").iterdir():
        assert {folder / name for name in ("config.json", "model.safetensors", "README.md")} <= packed
        assert (folder / "model.safetensors").stat().st_size <= 32 * 2**20


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_the_docstring(name):
    module = importlib.import_module(name)
    help_ = parser(module.main).format_help()
    assert (module.__doc__ or "?").splitlines()[0] in help_


def _commands(text: str) -> list[str]:
    """The commands `python -m ...` and `torchrun ... -m ...` in a text, continued lines joined."""
    text = text.replace("\\\n", " ")
    pattern = r"(?m)^ *(?:python|torchrun .*?) -m ((?:dimofs\.)?(?:zoo|eval)\.[^\n#]*)"
    return [command.strip() for command in re.findall(pattern, text)]


def _documented() -> list[str]:
    texts = [(ROOT / "README.md").read_text()]
    texts += [importlib.import_module(name).__doc__ or "" for name in COMMANDS]
    texts += [card.read_text() for card in ROOT.glob("zoo/weights/*/README.md")]
    return sorted({command for text in texts for command in _commands(text)})


@pytest.mark.parametrize("command", _documented())
def test_documented_commands_parse(command):
    name, *words = shlex.split(command)
    module = importlib.import_module(name if name.startswith("dimofs.") else f"dimofs.{name}")
    if words and "--help" not in words:
        parser(module.main).parse_args(words)
    assert callable(module.main)


@pytest.mark.parametrize("module", ["eval.posetrack", "dimofs.zoo.pose"])
def test_commands_start_from_the_root(module):
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: python -m")
