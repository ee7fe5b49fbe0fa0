"""The package holds together: links, packaging, and every command that the README and the docstrings tell of."""

import ast
import graphlib
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import dimofs
from dimofs import __main__ as console
from dimofs.cli import parser

ROOT = Path(__file__).resolve().parent.parent
FLOORS = ("kernels", "dimofs", "zoo", "eval")  # each imports itself and those before it


def _modules() -> dict[str, Path]:
    """Every module by its import name, and its file; kernels/, zoo/ and eval/ are dimofs.kernels and so on."""
    files = [path.relative_to(ROOT) for floor in FLOORS for path in (ROOT / floor).rglob("*.py")]
    names = {path: (path.parts if path.parts[0] == "dimofs" else ("dimofs", *path.parts)) for path in files}
    # Python before 3.13 does not follow the links of dimofs/, later versions do: they are told apart by their target.
    real = {path: name for path, name in names.items() if (ROOT / path).resolve() == ROOT / path}
    return {".".join(name).removesuffix(".py").removesuffix(".__init__"): path for path, name in real.items()}


MODULES = _modules()
NAMES = console.commands()
RUNS_MAIN = '\nif __name__ == "__main__":\n    run(main)'
COMMANDS = sorted(name for name, path in MODULES.items() if RUNS_MAIN in (ROOT / path).read_text())


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def test_links_and_the_package_table_name_the_same_folders():
    if not (ROOT / "dimofs/zoo").is_symlink():
        pytest.skip("not a checkout with links")
    links = {f"dimofs.{path.name}": path.resolve() for path in (ROOT / "dimofs").iterdir() if path.is_symlink()}
    table = {name: ROOT / folder for name, folder in project()["package-dir"].items()}
    assert links == table


def test_every_package_is_named():
    packages = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    assert packages == set(project()["packages"])
    homes = {name.rpartition(".")[0] for name in MODULES} - {""}
    assert homes <= packages, "a folder of modules has no __init__.py"


def _imports(path: Path) -> set[str]:
    """The modules of this package that a file imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dimofs"):
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else str(node.module) for name in whole}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in MODULES}
    return found


def test_arrows_between_floors_point_down():
    def floor(module: str) -> int:
        return FLOORS.index(MODULES[module].parts[0])

    # `dimofs` itself is the package's face, which hands the models on when they are first used.
    below = [(name, path) for name, path in MODULES.items() if name != "dimofs"]
    up = [(name, other) for name, path in below for other in _imports(path) if floor(other) > floor(name)]
    assert not up


def test_importing_the_package_loads_nothing_else():
    """No torch and no NumPy, so that `import dimofs` takes no time; each name of its face is there when asked for."""
    code = "import sys; before = set(sys.modules); import dimofs; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "dimofs" in loaded and not {name for name in loaded if name.startswith("dimofs.")}
    assert not loaded & {"torch", "numpy", "av"}
    assert set(dimofs.__all__) == set(dimofs._HOMES) <= set(dir(dimofs)) and all(
        getattr(dimofs, name) for name in dimofs.__all__
    )
    with pytest.raises(AttributeError, match=r"no attribute 'laod'; it offers .*load"):
        dimofs.laod  # noqa: B018


def test_no_module_imports_itself_in_a_circle():
    graphlib.TopologicalSorter({name: _imports(path) for name, path in MODULES.items()}).prepare()  # raises CycleError


def test_metrics_of_files_import_no_model():
    rooms = ("dimofs.eval.keypoints", "dimofs.eval.actions")
    modules = [path for name, path in MODULES.items() if name.startswith(rooms)]
    assert modules
    assert not [(path, other) for path in modules for other in _imports(path) if other.startswith("dimofs.zoo")]


def test_a_wheel_runs_from_an_empty_folder(tmp_path):
    """Every module is in the wheel, and a command runs with nothing but the wheel in sight."""
    source = tmp_path / "source"  # a build writes beside its sources
    kept = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__", "runs", "tests")
    shutil.copytree(ROOT, source, symlinks=True, ignore=kept)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", tmp_path, source]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.endswith(".py")}
        archive.extractall(tmp_path / "site")
    paths = {Path(*name.split(".")) / "__init__.py" for name, path in MODULES.items() if path.name == "__init__.py"}
    paths |= {Path(*name.split(".")).with_suffix(".py") for name, path in MODULES.items() if path.name != "__init__.py"}
    assert packed == {path.as_posix() for path in paths}
    empty = tmp_path / "empty"
    empty.mkdir()
    (entry_points,) = (tmp_path / "site").glob("*.dist-info/entry_points.txt")
    assert "[console_scripts]\ndimofs = dimofs.__main__:main" in entry_points.read_text()
    script = "import sys; from dimofs.__main__ import main; sys.exit(main())"
    for words, message in (
        (["-m", "dimofs.zoo.pose", "--video", "absent.mp4"], "absent.mp4: no such file"),
        (["-c", script, "pose", "--video", "absent.mp4"], "absent.mp4: no such file"),
        (["-m", "dimofs.eval.posetrack", "--gt", "absent.json", "--pred", "absent.json"], "absent.json: no such file"),
    ):
        done = subprocess.run(
            [sys.executable, *words],
            cwd=empty,
            env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2 and message in done.stderr
    assert not list(empty.iterdir())


def test_weights_that_ship_are_in_the_wheel_and_described():
    patterns = project()["package-data"]["dimofs.zoo"]
    packed = {path for pattern in patterns for path in (ROOT / "zoo").glob(pattern)}
    for folder in (ROOT / "zoo/weights").iterdir():
        assert {folder / name for name in ("config.json", "model.safetensors", "README.md")} <= packed
        assert (folder / "model.safetensors").stat().st_size <= 32 * 2**20


def test_templates_of_pages_are_in_the_wheel():
    folder = ROOT / "dimofs/pages"
    packed = {path for pattern in project()["package-data"]["dimofs.pages"] for path in folder.glob(pattern)}
    assert packed == {path for path in folder.iterdir() if path.is_file() and path.suffix != ".py"}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_the_docstring(name):
    module = importlib.import_module(name)
    help_ = parser(module.main).format_help()
    assert (module.__doc__ or "?").splitlines()[0] in help_


def _commands(text: str) -> list[str]:
    """The commands `python -m ...` and `torchrun ... -m ...` in a text, continued lines joined."""
    text = text.replace("\\\n", " ")
    pattern = r"(?m)^ *(?:python|torchrun .*?) -m ((?:dimofs\.)?(?:zoo|eval)\.[^\n#]*)"
    found = [command.strip() for command in re.findall(pattern, text)]
    for line in re.findall(r"(?m)^ *dimofs ([a-z][^\n#]*)", text):
        words = line.split()
        name = next((words[:n] for n in (2, 1) if tuple(words[:n]) in NAMES), None)
        if name is not None:
            found.append(" ".join([NAMES[tuple(name)], *words[len(name) :]]))
    return found


def _documented() -> list[str]:
    texts = [(ROOT / "README.md").read_text()]
    texts += [importlib.import_module(name).__doc__ or "" for name in COMMANDS]
    texts += [card.read_text() for card in ROOT.glob("zoo/weights/*/README.md")]
    texts += [page.read_text() for page in ROOT.glob("docs/**/*.md")]
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


def test_links_in_the_documents_lead_somewhere():
    """To files of this repository; addresses elsewhere are not tried."""
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("zoo/weights/*/README.md")]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#\s]+)\)", page.read_text())]
    assert len(links) > 8
    lost = [(str(page), link) for page, link in links if ":" not in link and not (page.parent / link).exists()]
    assert not lost
