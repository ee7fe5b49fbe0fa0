"""Jobs of the pose command that go wrong or are killed: nothing is lost, nothing is left half written."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest

from dimofs.formats.writers import FORMATS
from dimofs.video import open_clip
from dimofs.zoo import pose
from dimofs.zoo.detection import jobs
from tests.support.clips import number, picture, write_clip, write_image
from tests.test_pose import SCRIPT, StandIn, command, files, lines

ROOT = Path(__file__).parents[1]


@pytest.fixture
def network(monkeypatch, tmp_path) -> StandIn:
    """The stand-in, which the command loads whatever weights it is given; runs are in an empty folder."""
    detector = StandIn()
    monkeypatch.setattr(pose.checkpoints, "load", lambda *_: detector)
    monkeypatch.chdir(tmp_path)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "TORCHELASTIC_USE_AGENT_STORE", "DIMOFS_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    return detector


# --- faults ---


@pytest.mark.parametrize("error", [ValueError("two\nlines"), MemoryError(), KeyError("x"), RuntimeError("CUDA error")])
def test_an_unforeseen_error_ends_one_input_only(network, capsys, error):
    for name in ("a.mp4", "b.mp4"):
        write_clip(Path(name), 6)
    faults = [error]

    def fail(number: int) -> None:
        if number == 3 and faults:
            raise faults.pop()

    network.at_frame = fail
    assert command("--video a.mp4 b.mp4 --quiet") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: a.mp4: unexpected {type(error).__name__}") and "DIMOFS_DEBUG=1" in line
    assert files() == {"a.mp4", "b.mp4", "b.poses.jsonl", "b.poses.mp4"} and len(lines("b.poses.jsonl")) == 7


@pytest.mark.parametrize("format", ["jsonl", "csv", "coco", "posetrack"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_a_place_that_cannot_be_written_is_noticed_before_the_first_frame(network, capsys, format, kind):
    write_clip(Path("x.mp4"), 2)
    place = Path(FORMATS[format][0].format("x"))
    if kind == "folder":
        place.mkdir()
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to("/dev/null")
    assert command(f"--video x.mp4 --format {format} --quiet") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {place}: is a ") and network.passes == 0
    assert not place.is_file() and Path("/dev/null").is_char_device()
    assert {path.name for path in Path().iterdir()} == {"x.mp4", place.name}


def test_a_film_that_cannot_be_written_is_noticed_before_the_first_frame(network, capsys):
    write_clip(Path("x.mp4"), 2)
    Path("x.poses.mp4").mkdir()
    assert command("--video x.mp4 --quiet") == 2
    assert "x.poses.mp4: is a folder" in capsys.readouterr().err
    assert network.passes == 0 and files() == {"x.mp4"}


def test_annotations_are_never_replaced(network, capsys):
    write_clip(Path("x.mp4"), 2)
    Path("x.json").write_text("my labels")
    assert command("--video x.mp4 --format posetrack --no-overlay --quiet") == 2
    assert "exists and is not by this command" in capsys.readouterr().err
    assert Path("x.json").read_text() == "my labels" and network.passes == 0 and files() == {"x.mp4", "x.json"}


def test_a_link_stays_and_its_file_is_replaced(network):
    write_clip(Path("x.mp4"), 3)
    Path("elsewhere").mkdir()
    Path("elsewhere/kept.jsonl").write_text("old")
    Path("x.poses.jsonl").symlink_to("elsewhere/kept.jsonl")
    Path("x.poses.mp4").symlink_to("elsewhere/new.mp4")
    assert command("--video x.mp4 --quiet") == 0
    assert Path("x.poses.jsonl").is_symlink() and Path("x.poses.mp4").is_symlink()
    assert len(lines("elsewhere/kept.jsonl")) == 4 and Path("elsewhere/new.mp4").stat().st_size > 0


# --- stopping and resuming ---


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("format", ["jsonl", "coco"])
def test_a_signal_keeps_what_there_is_under_a_partial_name(network, number, format):
    write_clip(Path("x.mp4"), 40)
    write_clip(Path("y.mp4"), 4)
    network.at_frame = lambda n: os.kill(os.getpid(), number) if n == 10 else None
    assert command(f"--video x.mp4 y.mp4 --quiet --format {format}") == 128 + number
    ending = "jsonl" if format == "jsonl" else "json"
    assert files() == {"x.mp4", "y.mp4", f"x.partial.poses.{ending}", "x.partial.poses.mp4"}
    network.at_frame = lambda n: None
    assert command(f"--video x.mp4 y.mp4 --quiet --format {format} --resume") == 0
    names = {f"{name}.{end}" for name in "xy" for end in ("mp4", f"poses.{ending}", "poses.mp4")}
    assert files() == names, "the partial files have been replaced by whole ones"


def test_a_signal_after_the_last_frame_loses_nothing(network):
    write_clip(Path("x.mp4"), 5)
    network.at_frame = lambda n: os.kill(os.getpid(), signal.SIGTERM) if n == 4 else None
    assert command("--video x.mp4 --quiet --no-overlay") == 128 + signal.SIGTERM
    (name,) = files() - {"x.mp4"}
    assert len(lines(name)) == 6


def test_a_signal_while_the_source_opens_interrupts_no_reader(network, monkeypatch):
    """An exception inside FFmpeg's callbacks could pass for the end of the file."""
    write_clip(Path("x.mp4"), 4)
    opened = []

    def opening(source):
        os.kill(os.getpid(), signal.SIGTERM)
        opened.append(source)
        return open_clip(source)

    monkeypatch.setattr(jobs, "open_clip", opening)
    assert command("--video x.mp4 --quiet") == 128 + signal.SIGTERM
    assert opened and network.passes == 0 and files() == {"x.mp4"}


def test_resume_skips_what_is_whole(network, capsys):
    for name in "abc":
        write_clip(Path(f"{name}.mp4"), 2)
    assert command("--video a.mp4 b.mp4 --quiet") == 0
    Path("b.poses.mp4").unlink()
    network.passes = 0
    assert command("--video a.mp4 b.mp4 c.mp4 --resume") == 0
    assert network.passes == 4, "b lacks its film, c its results"
    assert capsys.readouterr().out.splitlines()[0] == "1 of 3 inputs are complete and skipped"
    network.passes = 0
    assert command("--video a.mp4 b.mp4 c.mp4 --resume --quiet") == 0 and network.passes == 0
    assert command("--video a.mp4 --resume --quiet --delta 1") == 0 and network.passes == 2, "another delta"
    assert command("--video a.mp4 --quiet --delta 1") == 0 and network.passes == 4, "without --resume"


@pytest.mark.parametrize("content", ["", "{", "[]", "\xff", '{"model": 3}'])
def test_resume_does_not_trust_damaged_results(network, content):
    write_clip(Path("x.mp4"), 2)
    Path("x.poses.jsonl").write_text(content, encoding="latin-1")
    assert command("--video x.mp4 --resume --quiet --no-overlay") == 0
    assert len(lines("x.poses.jsonl")) == 3


def test_each_rank_resumes_its_own_share(network, monkeypatch):
    Path("clips").mkdir()
    for i in range(5):
        write_clip(Path(f"clips/{i}.mp4"), 2)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert command("--video 'clips/*.mp4' --no-overlay --quiet --out out") == 0
    passes = []
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        network.passes = 0
        assert command("--video 'clips/*.mp4' --no-overlay --quiet --out out --resume") == 0
        passes.append(network.passes)
    assert passes == [0, 4] and files("out") == {f"{i}.poses.jsonl" for i in range(5)}


def test_leftovers_of_a_dead_run_are_removed(network):
    write_image(Path("x.png"), picture(3))
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    own = [f".x.partial.poses.{end}.{dead.pid}.part" for end in ("jsonl", "png")]
    others = [f".y.partial.poses.jsonl.{dead.pid}.part", f".x.partial.poses.jsonl.{os.getppid()}.part", ".x.part"]
    for name in own + others:
        Path(name).touch()
    assert command("--video x.png --quiet") == 0
    assert files() == {"x.png", "x.poses.jsonl", "x.poses.png", *others}


KILLS = [
    pytest.param(seed, number, marks=[] if seed == 0 else pytest.mark.slow, id=f"{number.name} {seed}")
    for number in (signal.SIGKILL, signal.SIGTERM)
    for seed in range(40)
]


@pytest.mark.parametrize(("seed", "number"), KILLS)
def test_a_killed_run_is_finished_by_the_next(network, seed, number):
    """At a random moment after its first output appears; then the results are as if nothing had happened."""
    for name in ("a.mp4", "b.mp4"):
        write_clip(Path(name), 12)
    assert command("--video a.mp4 b.mp4 --quiet --out whole") == 0
    Path("script.py").write_text(SCRIPT.format(tests=str(ROOT)).replace("sleep(0.2)", "sleep(0.03)"))
    line = [sys.executable, "script.py", "--video", "a.mp4", "b.mp4", "--quiet", "--out", "out", "--device", "cpu"]
    with subprocess.Popen(line, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}) as run:
        until = time.monotonic() + 120
        while run.poll() is None and not (Path("out").exists() and any(Path("out").iterdir())):
            assert time.monotonic() < until
            time.sleep(0.01)
        time.sleep(random.Random(seed).uniform(0, 0.9))
        run.send_signal(number)
    assert run.returncode in (0, -number, 128 + number)
    for path in Path("out").glob("*.poses.jsonl"):
        whole = Path("whole") / path.name
        assert ".partial." in path.name or path.read_bytes() == whole.read_bytes()
    if number == signal.SIGTERM:
        assert not list(Path("out").glob(".*")), "a run that can clean up leaves no temporary file"
    assert command("--video a.mp4 b.mp4 --quiet --out out --resume") == 0
    assert files("out") == files("whole")
    for name in ("a", "b"):
        assert Path(f"out/{name}.poses.jsonl").read_bytes() == Path(f"whole/{name}.poses.jsonl").read_bytes()
        assert shown(Path(f"out/{name}.poses.mp4")) == shown(Path(f"whole/{name}.poses.mp4"))


def shown(film: Path) -> list[tuple[int | None, bytes]]:
    """Times and pixels. The bytes of a film may differ: x264 leaves the last bits of a frame to chance."""
    with av.open(str(film)) as container:
        return [(frame.pts, frame.to_ndarray(format="rgb24").tobytes()) for frame in container.decode(video=0)]


# Pages


def test_a_page_has_its_film_beside_it_or_inside(network, capsys):
    write_clip(Path("x.mp4"), 5)
    assert command("--video x.mp4 --format html") == 0
    assert files() == {"x.mp4", "x.poses.html", "x.poses.mp4"}
    with av.open("x.poses.mp4") as film:
        shown = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    # Nobody is drawn in.
    assert [number(image) for image in shown] == [0, 1, 2, 3, 4] and np.ptp(shown[3][30:, 40:]) < 12
    assert command("--video x.mp4 --format html --embed --out inside") == 0
    assert files("inside") == {"x.poses.html"}
    outside, inside = (Path(folder, "x.poses.html").stat().st_size for folder in (".", "inside"))
    assert inside - outside > Path("x.poses.mp4").stat().st_size
    assert command("--video x.mp4 --format html --no-overlay --out there") == 0
    assert files("there") == {"x.poses.html"} and '"address": "../x.mp4"' in Path("there/x.poses.html").read_text()
    capsys.readouterr()
    assert command("--video x.mp4 --embed") == 2
    assert "--format html" in capsys.readouterr().err


def test_a_page_of_images_shows_the_files(network):
    Path("photos").mkdir()
    for i in range(3):
        write_image(Path(f"photos/{i}.png"), picture(i))
    assert command("--video photos --format html") == 0
    assert {name for name in files() if "photos/" not in name} == {"photos.poses.html"}
    assert '"images": ["photos/0.png", "photos/1.png", "photos/2.png"]' in Path("photos.poses.html").read_text()


def test_an_interrupted_page_is_partial(network):
    write_clip(Path("x.mp4"), 40)
    network.at_frame = lambda number: os.kill(os.getpid(), signal.SIGINT) if number == 10 else None
    assert command("--video x.mp4 --format html --quiet") == 130
    assert files() == {"x.mp4", "x.partial.poses.html", "x.partial.poses.mp4"}
