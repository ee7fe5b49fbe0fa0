"""pose --motion and --save-motion with a stand-in network: files, drawn frames, stops and faults."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from dimofs.cli import InputError, run
from dimofs.flow_colours import tinted
from dimofs.flow_files import read_flow
from dimofs.flow_folder import check_folder, saving
from dimofs.images import read_image
from dimofs.motion import Motion
from dimofs.overlay import FASTEST, with_motion
from dimofs.reader import read_clip
from dimofs.video import Frame
from dimofs.zoo import motion, pose
from dimofs.zoo.detection.stream import poses
from tests.support.clips import picture, write_clip, write_cut, write_image
from tests.test_pose import StandIn, command, files


@pytest.fixture
def network(monkeypatch, tmp_path):
    detector = StandIn()
    monkeypatch.setattr(pose.checkpoints, "load", lambda *_: detector)
    monkeypatch.chdir(tmp_path)
    return detector


def saved(folder: str = "x.motion") -> dict[int, int]:
    """The motion to the right in each file, which nothing but it may hold, by the frame's number."""
    found = {}
    for path in sorted(Path(folder).iterdir()):
        flow = read_flow(path)
        assert flow.shape == (2, 48, 64) and not flow[1].any()
        found[int(path.stem)] = step = round(flow[0, 0, 0].item())
        torch.testing.assert_close(flow[0], torch.full((48, 64), float(step)))
    return found


@pytest.mark.parametrize("kind", ["flo", "png", "npz"])
def test_motion_to_the_next_frame(network, capsys, kind):
    write_clip(Path("x.mp4"), 4)
    assert command(f"--video x.mp4 --no-overlay --save-motion {kind}") == 0
    assert files("x.motion") == {f"{number:06d}.{kind}" for number in range(3)}
    assert saved() == {0: 1, 1: 1, 2: 1}
    assert "-> x.poses.jsonl, x.motion" in capsys.readouterr().out and network.passes == 4


@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--delta 3", {0: 3, 1: 3, 2: 3}),
        ("--delta -2", {2: -2, 3: -2, 4: -2, 5: -2}),
        ("--delta 6", {}),
        ("--delta 1 --aggregate 2", {0: 1, 1: 1, 2: 1, 3: 1, 4: 1}),
        ("--every 2", {0: 2, 2: 2}),
        ("--every 2 --delta -1", {2: -2, 4: -2}),
        ("--start 0.08 --tracker dimofs", {2: 1, 3: 1, 4: 1}),
    ],
)
def test_motion_to_the_frame_delta_later(network, options, expected, batch):
    write_clip(Path("x.mp4"), 6)
    assert command(f"--video x.mp4 --no-overlay --save-motion npz --batch {batch} {options}") == 0
    assert saved() == expected


def test_motion_ends_where_the_size_changes(network):
    sizes = (48, 48, 60, 60)
    frames = [Frame(picture(i, height), i, i / 25, 0.04) for i, height in enumerate(sizes)]
    found = list(poses(network, frames, batch=2, onward=1, motion=True))
    assert [one.onward is None for one in found] == [False, True, False, True]
    assert [one.motion is None for one in found] == [True, False, True, False]


def test_a_folder_of_images_is_a_clip(network, capsys):
    Path("photos").mkdir()
    for i in range(3):
        write_image(Path(f"photos/{i}.png"), picture(i))
    assert command("--video photos --save-motion flo --motion") == 0
    assert saved("photos.motion") == {0: 1, 1: 1} and Path("photos.poses.mp4").is_file()
    assert command("--video photos --no-clip --motion") == 2
    assert "--no-clip: --motion and --save-motion need the frames of one clip" in capsys.readouterr().err


def test_a_still_has_no_motion(network):
    write_image(Path("x.png"), np.full((48, 64, 3), 21, np.uint8))
    assert command("--video x.png --motion --save-motion flo --score 0.95") == 0
    assert (read_image(Path("x.poses.png")) == 21).all() and not Path("x.motion").exists()


# --- whole or not at all ---


def test_a_resumed_run_needs_the_motion_too(network):
    write_clip(Path("x.mp4"), 4)
    line = "--video x.mp4 --no-overlay --quiet --resume"
    assert command(line) == 0 and network.passes == 4
    assert command(f"{line} --save-motion flo") == 0 and network.passes == 8
    assert command(f"{line} --save-motion flo") == 0 and network.passes == 8
    assert saved() == {0: 1, 1: 1, 2: 1}


def test_a_new_run_leaves_no_file_of_the_last(network):
    write_clip(Path("x.mp4"), 6)
    assert command("--video x.mp4 --no-overlay --save-motion flo") == 0
    assert command("--video x.mp4 --no-overlay --save-motion npz --start 0.12") == 0
    assert files("x.motion") == {"000003.npz", "000004.npz"}


def test_a_stop_keeps_what_there_is_under_a_partial_name(network):
    write_clip(Path("x.mp4"), 40)
    network.at_frame = lambda n: os.kill(os.getpid(), signal.SIGTERM) if n == 10 else None
    assert command("--video x.mp4 --no-overlay --save-motion flo --quiet") == 128 + signal.SIGTERM
    assert len(saved("x.partial.motion")) >= 10 and not Path("x.motion").exists()
    network.at_frame = lambda n: None
    assert command("--video x.mp4 --no-overlay --save-motion flo --quiet --resume") == 0
    assert len(saved()) == 39 and not Path("x.partial.motion").exists()


def test_a_failed_run_leaves_nothing_and_keeps_the_last(network):
    write_clip(Path("x.mp4"), 6)
    assert command("--video x.mp4 --no-overlay --save-motion flo") == 0

    def fail(number: int) -> None:
        if number == 3:
            raise RuntimeError("broken")

    network.at_frame = fail
    before = files()
    assert command("--video x.mp4 --no-overlay --save-motion flo --every 2 --start 0.04") == 2
    assert files() == before


# --- faults ---


def test_foreign_files_stay(network, capsys):
    write_clip(Path("x.mp4"), 3)
    Path("x.motion").mkdir()
    Path("x.motion/notes.txt").write_text("mine")
    assert command("--video x.mp4 --save-motion flo --quiet") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "x.motion: holds notes.txt beside motion" in line and network.passes == 0
    assert files() == {"x.mp4", "x.motion/notes.txt"}
    with pytest.raises(InputError, match="is no folder"):
        check_folder(Path("x.mp4"))


def test_a_link_is_not_followed(network, capsys):
    write_clip(Path("x.mp4"), 3)
    Path("elsewhere").mkdir()
    Path("x.motion").symlink_to("elsewhere")
    assert command("--video x.mp4 --save-motion flo --quiet") == 2
    assert "x.motion: is no folder" in capsys.readouterr().err and Path("x.motion").is_symlink()


def test_an_exception_removes_the_folder(tmp_path):
    with pytest.raises(RuntimeError), saving(tmp_path / "deep/x.motion", "flo") as save:
        save(Frame(picture(0), 7, 0.0, 0.1), Motion(torch.zeros(2, 6, 8), 48.0, 64.0))
        assert files(tmp_path) == {"deep/x.motion/000007.flo"}
        raise RuntimeError
    assert not files(tmp_path) and not (tmp_path / "deep/x.motion").exists()


def test_a_page_draws_motion_itself(network):
    """Its film is plain, and it has the motion at the joints: 1 pixel of 64 a frame."""
    write_clip(Path("x.mp4"), 3)
    assert command("--video x.mp4 --format html --out plain") == 0
    assert command("--video x.mp4 --format html --motion --out moving") == 0
    assert Path("plain/x.poses.mp4").read_bytes() == Path("moving/x.poses.mp4").read_bytes()
    pages = [Path(f"{name}/x.poses.html").read_text() for name in ("plain", "moving")]
    assert ['"onward": 0' in page for page in pages] == [True, False] and '"onward": 1' in pages[1]


def test_nothing_to_draw_into(network, capsys):
    assert command("--video x.mp4 --motion --no-overlay") == 2
    assert "--motion draws into frames" in capsys.readouterr().err


def test_motion_does_not_go_to_standard_output(network, capsys):
    assert command("--video - --save-motion flo") == 2
    assert "name their folder with --out" in capsys.readouterr().err


# --- drawing ---


def test_motion_is_drawn_into_the_film(network):
    """1 pixel of 64 a frame is half of 3 %: the grey of the frame turns half red, but for the last frame."""
    write_clip(Path("x.mp4"), 3)
    for name, options in (("plain", ""), ("moving", "--motion")):
        assert command(f"--video x.mp4 --score 0.95 --out {name} {options} --save-frames") == 0
    share = 1 / (FASTEST * 64)
    for i in range(3):
        colours = []
        for name in ("plain", "moving"):
            colours.append(read_image(Path(f"{name}/x.poses/{i:06d}.jpg"))[5, 5].astype(int))
        grey, drawn = colours
        expected = grey + share * (np.array([255, 0, 0]) - grey) if i < 2 else grey
        np.testing.assert_allclose(drawn, expected, atol=12)
    films = [[*read_clip(f"{name}/x.poses.mp4")] for name in ("plain", "moving")]
    apart = [np.abs(a.astype(int) - b).mean() for a, b in zip(*films, strict=True)]
    assert apart[2] < 6 < 20 < min(apart[:2])


def test_tinted_by_hand():
    """At rest the frame stays; half of the scale blends half of the colour; red is to the right."""
    image = np.full((1, 3, 3), 100, np.uint8)
    flow = np.array([[[0.0, 2, 8]], [[0.0, 0, 0]]])
    assert tinted(image, flow, 4).tolist() == [[[100, 100, 100], [178, 50, 50], [255, 0, 0]]]
    assert (image == 100).all()


def test_unknown_motion_leaves_the_frame():
    image = np.full((4, 4, 3), 100, np.uint8)
    assert (tinted(image, np.full((2, 4, 4), np.nan), 4) == 100).all()
    assert (tinted(image, np.zeros((2, 1, 2)), 4) == 100).all(), "enlarged"


def test_a_reduced_copy_of_a_large_frame():
    """Motion is in pixels of the full frame, 10 times as large: 6 of its 200 pixels saturate, at half the width."""
    frame = Frame(np.zeros((10, 20, 3), np.uint8), 0, 0.0, 1.0, full_size=(100, 200))
    flow = torch.zeros(2, 10, 20)
    flow[0, :, 10:] = FASTEST * 200
    motion = Motion(flow, 100.0, 200.0)
    pixels = with_motion(frame, motion).pixels
    assert not pixels[5, :9].any() and pixels[2, 12].tolist() == [255, 0, 0]
    assert with_motion(frame, motion, -2).pixels[2, 12].tolist() == [128, 0, 0]


# --- the command of motion alone ---


def moved(line: str) -> int:
    with pytest.raises(SystemExit) as exit:
        run(motion.main, line.split())
    return exit.value.code if isinstance(exit.value.code, int) else 0


def test_motion_of_a_video_that_ends_early(network, capsys):
    write_cut(Path("x.mp4"))
    assert moved("--video x.mp4 --quiet --no-overlay") == 0
    assert capsys.readouterr().err.startswith("warning: x.mp4: ends early (")


def test_motion_of_a_video(network, capsys):
    write_clip(Path("x.mp4"), 4)
    assert moved("--video x.mp4 --delta 2") == 0
    assert saved() == {0: 2, 1: 2} and network.passes == 4
    assert files() == {"x.mp4", "x.motion.mp4", "x.motion/000000.flo", "x.motion/000001.flo"}
    assert len(list(read_clip("x.motion.mp4"))) == 2
    assert "x.mp4: motion of 2 frames -> x.motion, x.motion.mp4" in capsys.readouterr().out
    assert moved("--video x.mp4 --delta 9 --out other") == 2
    assert "x.mp4: has no two frames of one size that are 9 apart" in capsys.readouterr().err
    assert not list(Path("other").iterdir())


@pytest.mark.parametrize("kind", ["flo", "png", "npz"])
def test_motion_of_a_pair(network, capsys, kind):
    for number in (3, 5):
        write_image(Path(f"{number}.png"), picture(number))
    assert moved(f"--pair 3.png 5.png --format {kind} --out out/x.{kind}") == 0
    torch.testing.assert_close(read_flow(Path(f"out/x.{kind}"))[0], torch.full((48, 64), 2.0))
    assert "move by 2.0 pixels (median), 2.0 at most" in capsys.readouterr().out
    assert files("out") == {f"x.{kind}", "x.drawn.png" if kind == "png" else "x.png"}


def test_what_is_no_pair_is_told(network, capsys):
    write_image(Path("a.png"), picture(1))
    write_image(Path("b.png"), picture(1, 50, 50))
    for line, message in {
        "": "give either --video, or --pair",
        "--video x.mp4 --pair a.png a.png": "give either --video, or --pair",
        "--pair a.png": "has 1 names",
        "--pair a.png b.png": "b.png: the pictures have 64 x 48 and 50 x 50 pixels",
        "--pair a.png a.png --out x.mp4": "name a file .flo for --format flo",
        "--pair a.png a.png --delta 2": "--delta: belongs to --video",
        "--pair a.png absent.png": "absent.png: no such file",
    }.items():
        assert moved(line) == 2 and message in capsys.readouterr().err
    assert files() == {"a.png", "b.png"} and network.passes == 0
