"""Evaluation commands on awkward files and paths: figures or one clear line, never a hang, nothing half-written."""

import copy
import gzip
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dimofs.cli import InputError, arguments
from dimofs.eval import coco, posetrack, track
from dimofs.formats.partial import is_partial, partial_path
from dimofs.formats.posefiles import read_poses, renamed
from tests.support.posetrack_sets import file17, file18, person
from tests.test_eval_coco_scores import crowd_of_three, found

TRUTH = [[person(0), person(1, y=500)], [person(0)], [person(0)]]
PREDICTED = [[person(3, x=4)], [person(3), person(4)], [person(3)]]


def lines(frames: int = 3) -> list[dict]:
    """JSON lines as dimofs.zoo.pose writes them."""
    one = {"id": 0, "score": 0.9, "box": [1, 2, 30, 40], "keypoints": [[1, 2, 0.5], [3, 4, 0.6]]}
    header = {"source": "x", "width": 100, "height": 80, "fps": 25.0, "keypoint_names": ["nose", "neck"]}
    return [header, *({"frame": f, "time": f / 25, "people": [copy.deepcopy(one)]} for f in range(frames))]


def save_lines(path: Path, content: list) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in content))
    return path


def test_figures_as_a_page(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    run_posetrack(tmp_path, html=tmp_path / "figures.html")
    page = (tmp_path / "figures.html").read_text()
    for line in capsys.readouterr().out.splitlines():
        assert line.split()[0] in page
    assert "<td>mAP</td>" in page and "<th>Mean</th>" in page and page.count("data:image/svg+xml") == 1
    assert not list(tmp_path.glob("*.svg"))


# --- odd paths -------------------------------------------------------------------------------------------------------


def run_posetrack(folder: Path, gt: Path | None = None, **options) -> None:
    (folder / "gt.json").write_text(json.dumps(file18(TRUTH, True)))
    (folder / "pred.json").write_text(json.dumps(file18(PREDICTED, False)))
    line = [f"--gt={gt or folder / 'gt.json'}", f"--pred={folder / 'pred.json'}"]
    line += [f"--{name}={value}" for name, value in options.items()]
    posetrack.main(**arguments(posetrack.main, line))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: os.mkfifo(path), "is not a regular file"),
        (lambda path: path.symlink_to("/dev/null"), "is not a regular file"),
        (lambda path: path.symlink_to(path.parent), "is a folder"),
    ],
    ids=["folder", "pipe", "device", "link to a folder"],
)
def test_results_replace_nothing_but_files(tmp_path, capsys, make: Callable[[Path], None], message):
    """It is noticed before anything is computed or printed."""
    make(tmp_path / "out.json")
    before = os.lstat(tmp_path / "out.json").st_ino
    with pytest.raises(InputError, match=rf"out.json: {message}"):
        run_posetrack(tmp_path, json=tmp_path / "out.json")
    assert os.lstat(tmp_path / "out.json").st_ino == before and capsys.readouterr().out == ""


def test_a_result_path_beneath_a_file_is_noticed_before_the_work(tmp_path, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file is not a folder"):
        run_posetrack(tmp_path, json=tmp_path / "file/deep/out.json")
    assert capsys.readouterr().out == ""


def test_a_link_keeps_leading_to_the_result(tmp_path):
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to("real.json")
    run_posetrack(tmp_path, json=tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink() and json.loads((tmp_path / "real.json").read_text())["ap"]
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".part"]


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/null", "pipe.json", "folder.json", "absent.json", "a\0b"])
def test_inputs_that_are_no_files_are_named(tmp_path, name):
    """A device may have no end, and a pipe nobody who writes into it."""
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "folder.json").mkdir()
    path = Path(name) if name[0] == "/" else tmp_path / name
    for call in (
        lambda: coco.main(gt=path, pred=path),
        lambda: track.main(pred=path, out=tmp_path / "out"),
        lambda: run_posetrack(tmp_path, gt=path),
    ):
        with pytest.raises(InputError) as error:
            call()
        assert len(str(error.value).splitlines()) == 1
    assert not (tmp_path / "out").exists()


# --- one unit a file -------------------------------------------------------------------------------------------------


def test_a_damaged_file_does_not_end_the_tracking_of_others(tmp_path, capsys, monkeypatch):
    for name in ("a", "b", "c", "d"):
        save_lines(tmp_path / "in" / f"{name}.poses.jsonl", lines())
    (tmp_path / "in/b.poses.jsonl").write_text("{")
    whole = track.read_poses
    odd = [ZeroDivisionError("never"), None]
    monkeypatch.setattr(
        track, "read_poses", lambda path, least: _raise(odd[0]) if path.name[0] == "c" else whole(path, least)
    )
    assert track.main(pred=tmp_path / "in", out=tmp_path / "out") == 2
    captured = capsys.readouterr()
    assert [path.name[0] for path in sorted((tmp_path / "out").iterdir())] == ["a", "d"]
    assert captured.out.startswith("2 files, 6 frames") and captured.err.count("\n") == 2
    assert "c.poses.jsonl: ZeroDivisionError: never" in captured.err


def _raise(error: BaseException | None):
    assert error is not None
    raise error


# --- interrupted runs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("whole", "partial"),
    [
        ("x.poses.jsonl", "x.partial.poses.jsonl"),
        ("x.poses.csv", "x.partial.poses.csv"),
        ("x.poses.mp4", "x.partial.poses.mp4"),
        ("000342_mpii_test.json", "000342_mpii_test.partial.json"),
        ("x.json.gz", "x.partial.json.gz"),
        ("x.y.poses.json", "x.y.partial.poses.json"),
    ],
)
def test_partial_results_are_marked_in_their_names(whole, partial):
    assert partial_path(Path("a.b") / whole) == Path("a.b") / partial
    assert is_partial(Path(partial)) and not is_partial(Path(whole))


def test_partial_results_are_read_and_stay_marked(tmp_path, capsys):
    path = save_lines(tmp_path / "in/x.partial.poses.jsonl", lines())
    file = read_poses(path)
    assert file.partial and file.videos[0].name == "x" and len(file.videos[0]) == 3
    assert renamed(path, "posetrack18") == "x.partial.json"
    assert track.main(pred=path, out=tmp_path / "out", format="posetrack18") == 0
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["x.partial.json"]
    assert "warning" in (error := capsys.readouterr().err) and "is partial" in error
    assert read_poses(tmp_path / "out/x.partial.json").partial


# --- damaged content -------------------------------------------------------------------------------------------------

ODD = [
    None,
    True,
    -1,
    0,
    2.5,
    float("nan"),
    float("inf"),
    "x",
    "",
    [],
    [[]],
    [None],
    {},
    10**400,
    1e308,
    2**63,
    "\ud800",
]
SPOILT: list[Callable[[str], bytes]] = [
    lambda text: text[: len(text) // 2].encode(errors="replace"),
    lambda text: b"",
    lambda text: b"[]",
    lambda text: b"null",
    lambda text: b"[" * 100_000,
    lambda text: text.encode("utf-16", errors="replace"),
    lambda text: text.replace("e", "\xe9").encode("latin-1", errors="replace"),
    lambda text: gzip.compress(text.encode(errors="replace"))[:-9],
    lambda text: gzip.compress(text.encode(errors="replace")),
    lambda text: b"\xef\xbb\xbf" + text.encode(errors="replace"),
    lambda text: text.replace("1", "9" * 5000, 1).encode(errors="replace"),
]


def damage(content, draw: random.Random) -> None:
    """A value anywhere in the content is dropped, replaced, swapped with its neighbour, or doubled."""
    place, key = content, None
    for _ in range(draw.randint(1, 9)):
        inner = place if key is None else place[key]
        if not isinstance(inner, dict | list) or not inner:
            break
        place, key = inner, draw.choice(_keys(inner))
    action = draw.choice(["drop", "retype", "retype", "swap", "double"])
    if key is None:
        return
    if action == "drop":
        del place[key]
    elif action == "swap":
        other = draw.choice(_keys(place))
        place[key], place[other] = place[other], place[key]
    elif action == "double" and isinstance(place, list):
        place.append(copy.deepcopy(place[key]))
    else:
        place[key] = copy.deepcopy(draw.choice(ODD))


def _keys(place) -> list:
    return list(place) if isinstance(place, dict) else list(range(len(place)))


def put(path: Path, text: str, draw: random.Random) -> Path:
    content = draw.choice(SPOILT)(text) if draw.random() < 0.12 else text.encode(errors="replace")
    path.write_bytes(content)
    return path


def ends_well(call: Callable[[], object], result: Path) -> None:
    """The result is strict JSON, or one line says what is wrong and nothing is left behind."""
    try:
        call()
    except InputError as error:
        assert len(str(error).splitlines()) == 1 and str(error).encode()
        assert not result.exists()
    assert not [path for path in result.parent.rglob("*") if path.name.endswith(".part")]
    if result.is_file() and result.suffix == ".json":
        json.loads(result.read_text(), parse_constant=pytest.fail)


@pytest.mark.parametrize("seed", range(60))
def test_damaged_coco_files(tmp_path, seed):
    draw = random.Random(seed)
    truth = crowd_of_three()
    entries = found(truth)
    for _ in range(draw.randint(1, 2)):
        damage(draw.choice([truth, entries]), draw)
    gt, pred = put(tmp_path / "gt.json", json.dumps(truth), draw), put(tmp_path / "p.json", json.dumps(entries), draw)
    ends_well(lambda: coco.main(gt=gt, pred=pred, json=tmp_path / "out.json"), tmp_path / "out.json")


@pytest.mark.parametrize("seed", range(60))
def test_damaged_pose_files(tmp_path, seed):
    draw = random.Random(seed)
    content: list | dict = draw.choice([lines(), file17(PREDICTED, False), file18(PREDICTED, False)])
    name = "x.jsonl" if isinstance(content, list) else "x.json"
    for _ in range(draw.randint(1, 2)):
        damage(content, draw)
    text = "\n".join(map(json.dumps, content)) if isinstance(content, list) else json.dumps(content)
    path, format = put(tmp_path / name, text, draw), draw.choice([None, "posetrack17", "posetrack18", "jsonl"])
    result = tmp_path / "out" / renamed(path, format)
    options: dict[str, Any] = {"pred": path, "out": tmp_path / "out", "format": format}
    ends_well(lambda: track.main(**options), result)
