"""The pose command from end to end with a stand-in network: delta, batches, tracks, formats, faults, ranks."""

import json
import os
import shlex
import signal
import subprocess
import sys
import weakref
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dimofs import skeletons
from dimofs.cli import run
from dimofs.detections import Detections
from dimofs.images import read_image
from dimofs.motion import Motion
from dimofs.video import Frame
from dimofs.zoo import pose
from dimofs.zoo.detection import jobs
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.features import Features, Geometry
from dimofs.zoo.detection.stream import poses, sweep
from tests.support.clips import picture, write_clip, write_image, write_video


class StandIn(PoseDetector):
    """Features: a picture's number. Each frame has a sure person, whose first joint is at the numbers of (A, B), and a
    doubtful one."""

    def __init__(self):
        nn.Module.__init__(self)
        self.parameter = nn.Parameter(torch.zeros(1))
        self.keypoint_names = skeletons.DIMOFS
        self.limbs = skeletons.limbs(skeletons.DIMOFS)
        self.passes = 0
        self.min_scores: set[float] = set()
        self.at_frame = lambda number: None

    def features(self, images: Tensor, resize: bool = True, frame_size: tuple[int, int] | None = None) -> Features:
        assert images.dtype == torch.uint8 and images.shape[1] == 3 and resize
        assert torch.is_inference_mode_enabled()
        self.passes += len(images)
        size = frame_size or (images.shape[2], images.shape[3])
        geometry = Geometry(frame=size, resized=size, padded=size)
        return Features([((images[:, :1, -1:, -1:].float() - 16) / 5).round()], geometry)

    def glance(self, images: Tensor, frame_size: tuple[int, int] | None = None) -> Features:
        """Nothing that could be told apart."""
        size = frame_size or (images.shape[2], images.shape[3])
        return Features([torch.ones(len(images), 2, 8, 8)], Geometry(frame=size, resized=size, padded=size))

    def detect(self, a, b=None, beside=(), *, min_score=0.0, max_people=None) -> list[Detections]:
        self.min_scores.add(min_score)
        views = (a, b or a, *beside)
        return [self._people(view, a.geometry.frame) for view in zip(*(v.levels[0] for v in views), strict=True)]

    def motion(self, a, b) -> list[Motion]:
        """Everything moves right by the difference of the numbers, in cells of 8."""
        height, width = a.geometry.frame
        fields = torch.zeros(len(a), 2, height // 8, width // 8)
        fields[:, 0] = (b.levels[0] - a.levels[0]).view(-1, 1, 1)
        return [Motion(field, float(height), float(width)) for field in fields]

    def _people(self, pair, size) -> Detections:
        height, width = size
        numbers = torch.stack(pair).flatten()
        beside, numbers = numbers[2:], numbers[:2]
        self.at_frame(int(numbers[0]))
        boxes = torch.tensor([[0.0, 0, width / 2, height], [width / 2, 0, width, height]])
        points = boxes[:, None, 2:].repeat(1, 19, 1)
        points[:, 0] = numbers
        points[:, 1, : len(beside)] = beside
        return Detections(boxes, torch.tensor([0.9, 0.3]), points, torch.full((2, 19), 3.0))


@pytest.fixture
def network(monkeypatch, tmp_path):
    """The stand-in, which the command loads whatever weights it is given; runs are in an empty folder."""
    detector = StandIn()
    monkeypatch.setattr(pose.checkpoints, "load", lambda *_: detector)
    monkeypatch.chdir(tmp_path)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "TORCHELASTIC_USE_AGENT_STORE"):
        monkeypatch.delenv(name, raising=False)
    return detector


def command(line: str) -> int:
    """The exit status of a command line."""
    with pytest.raises(SystemExit) as exit:
        run(pose.main, shlex.split(line))
    return exit.value.code if isinstance(exit.value.code, int) else 0


def lines(path) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def pairs(path) -> list[tuple[int, int]]:
    """The numbers of Frame A and Frame B in each line."""
    joints = [line["people"][0]["keypoints"][0] for line in lines(path)[1:]]
    return [(int(a), int(b)) for a, b, _ in joints]


def files(folder=".") -> set[str]:
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()}


# What it writes


def test_one_video(network, capsys):
    write_clip(Path("x.mp4"), 10)
    assert command("--video x.mp4") == 0
    header, *frames = lines("x.poses.jsonl")
    assert (header["source"], header["width"], header["height"], header["fps"]) == ("x.mp4", 64, 48, 25)
    assert (header["model"], header["delta"], len(header["keypoint_names"])) == ("dimofs_mobile", 0, 19)
    assert [line["frame"] for line in frames] == list(range(10)) and frames[5]["time"] == 0.2
    (person,) = frames[5]["people"]  # the doubtful one is below --score
    assert (person["id"], person["score"], person["box"]) == (0, 0.9, [0, 0, 32, 48])
    assert pairs("x.poses.jsonl") == [(i, i) for i in range(10)] and network.passes == 10
    with av.open("x.poses.mp4") as film:
        assert len(list(film.decode(video=0))) == 10
    out, err = capsys.readouterr()
    assert out.count("\n") == 1 and "x.mp4: 10 frames, 1 tracks" in out and "x.poses.mp4" in out
    assert "frame/s" in err


def test_quiet_says_nothing(network, capsys):
    write_clip(Path("x.mp4"), 3)
    assert command("--video x.mp4 --quiet --no-overlay") == 0
    assert capsys.readouterr() == ("", "") and files() == {"x.mp4", "x.poses.jsonl"}


def test_documented_commands_run(network, monkeypatch):
    documented = [line.strip() for line in (pose.__doc__ or "").splitlines() if "-m dimofs.zoo.pose" in line]
    assert len(documented) >= 6
    for line in documented:
        folder = Path(f"run{documented.index(line)}")
        (folder / "clips").mkdir(parents=True)
        (folder / "photos").mkdir()
        monkeypatch.chdir(folder)
        for name in ("x.mp4", "a.mp4", "b.mp4", "clips/c.mp4", "clips/d.mp4"):
            write_clip(Path(name), 8, rate=4)
        for i in range(2):
            write_image(Path(f"photos/{i}.png"), picture(i))
        before = files()
        launcher, arguments = line.split("-m dimofs.zoo.pose ")
        for rank in range(2) if launcher.startswith("torchrun --nproc-per-node 2") else [None]:
            if rank is not None:
                monkeypatch.setenv("RANK", str(rank))
                monkeypatch.setenv("WORLD_SIZE", "2")
            assert command(arguments) == 0
        assert len(files() - before) >= (1 if "--embed" in line else 2)
        assert not any(name.endswith(".part") for name in files())
        monkeypatch.chdir("..")


def test_every_input_of_a_list_and_nothing_twice(network):
    for name in ("a.mp4", "b.mp4", "clips/c.mp4", "clips/d.poses.mp4"):
        Path(name).parent.mkdir(exist_ok=True)
        write_clip(Path(name), 2)
    assert command("--video a.mp4 b.mp4 a.mp4 'clips/*.mp4' --out results --no-overlay") == 0
    assert files("results") == {"a.poses.jsonl", "b.poses.jsonl", "c.poses.jsonl"}
    assert network.passes == 6


def test_names_that_would_collide(network, capsys):
    write_clip(Path("x.mp4"), 2)
    write_clip(Path("x.avi"), 3)
    assert command("--video x.mp4 x.avi --no-overlay --quiet") == 2
    assert len(lines("x.poses.jsonl")) == 3  # the first one's
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: x.avi")


@pytest.mark.parametrize("delta", [0, 1, 3, -1, -4, 50, -50])
@pytest.mark.parametrize("batch", [1, 4, 100])
def test_delta_looks_at_the_frame_that_far_off(network, delta, batch):
    write_clip(Path("x.mp4"), 10)
    assert command(f"--video x.mp4 --no-overlay --delta {delta} --batch {batch}") == 0
    assert pairs("x.poses.jsonl") == [(i, min(max(i + delta, 0), 9)) for i in range(10)]
    assert network.passes == 10  # the backbone sees each frame once
    assert lines("x.poses.jsonl")[0]["delta"] == delta


def test_span(network):
    write_clip(Path("x.mp4"), 20)
    assert command("--video x.mp4 --start 0.2 --end 0.5 --every 3 --delta 1") == 0
    assert pairs("x.poses.jsonl") == [(5, 8), (8, 11), (11, 11)]
    assert [line["frame"] for line in lines("x.poses.jsonl")[1:]] == [5, 8, 11]
    with av.open("x.poses.mp4") as film:
        assert [frame.time for frame in film.decode(video=0)] == pytest.approx([0, 0.12, 0.24])


def test_score_and_tracker(network):
    write_clip(Path("x.mp4"), 3)
    counts = {}
    for options in ("", "--score 0.2", "--score 0.95", "--tracker detect-and-track", "--format coco", "--patience 0"):
        assert command(f"--video x.mp4 --no-overlay {options}") == 0
        if "coco" not in options:
            counts[options] = [len(line["people"]) for line in lines("x.poses.jsonl")[1:]]
    assert counts == {
        "": [1] * 3, "--score 0.2": [2] * 3, "--score 0.95": [0] * 3, "--tracker detect-and-track": [0] * 3,
        "--patience 0": [1] * 3,
    }  # fmt: skip
    assert len(json.loads(Path("x.poses.json").read_text())) == 6  # average precision wants the doubtful ones


@pytest.mark.parametrize(
    ("options", "least"), [("", 0.5), ("--score 0.3", 0.3), ("--score 0.01", 0.01), ("--format coco", 0.0)]
)
def test_joints_are_found_only_for_people_who_may_be_reported(network, options, least):
    write_clip(Path("x.mp4"), 1)
    assert command(f"--video x.mp4 --no-overlay {options}") == 0
    (score,) = network.min_scores
    assert least - 1e-5 < score <= least


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "bf16"])
def test_types_of_arithmetic(network, dtype):
    write_clip(Path("x.mp4"), 2)
    network.at_frame = lambda number: counts.append(torch.is_autocast_enabled("cpu"))
    counts = []
    assert command(f"--video x.mp4 --no-overlay --device cpu --dtype {dtype}") == 0
    assert counts == [True, True]


def test_photographs_of_many_sizes(network, capsys):
    """As a clip. Sizes change within the folder: features of a size stay together, and no track continues into another
    one."""
    Path("photos").mkdir()
    for i, height in enumerate((48, 48, 60, 48)):
        write_image(Path(f"photos/im_{i + 5}.png"), picture(i, height))
    assert command("--video photos --format coco --delta 1") == 0
    results = json.loads(Path("photos.poses.json").read_text())
    assert [r["image_id"] for r in results] == [5, 5, 6, 6, 7, 7, 8, 8]
    assert [tuple(r["keypoints"][:2]) for r in results[::2]] == [(-0.5, 0.5), (0.5, 0.5), (1.5, 1.5), (2.5, 2.5)]
    assert command("--video photos --clip") == 0
    assert [line["people"][0]["id"] for line in lines("photos.poses.jsonl")[1:]] == [0, 0, 1, 2]
    with av.open("photos.poses.mp4") as film:
        assert {(f.width, f.height) for f in film.decode(video=0)} == {(64, 48)}


def test_a_folder_of_photographs(network, capsys):
    """A picture each and one file of results; people of one photograph are not those of the next."""
    Path("photos").mkdir()
    for name, height in (("a.png", 48), ("b.png", 48), ("b.PNG", 60)):
        write_image(Path("photos") / name, picture(3, height))
    assert command("--video photos --score 0.2") == 0
    assert files("photos.poses") == {"a.jpg", "b.jpg", "b.png.jpg"}
    assert [[p["id"] for p in line["people"]] for line in lines("photos.poses.jsonl")[1:]] == [[0, 1]] * 3
    assert [line["file"] for line in lines("photos.poses.jsonl")[1:]] == ["a.png", "b.PNG", "b.png"]
    assert not Path("photos.poses.mp4").exists() and "-> photos.poses.jsonl, photos.poses" in capsys.readouterr().out
    passes = network.passes
    assert command("--video '**/*' --no-overlay --out again") == 0
    assert files("again") == {"photos.poses.jsonl"} and network.passes == passes + 3, "drawn pictures are no inputs"
    assert command("--video photos --no-clip --delta 1") == 2
    assert "--no-clip: --delta and --aggregate need the frames of one clip" in capsys.readouterr().err


def test_frames_are_saved_one_by_one(network):
    write_clip(Path("x.mp4"), 3)
    assert command("--video x.mp4 --no-overlay --save-frames --out o --start 0.04") == 0
    assert files("o") == {"x.poses.jsonl", "x.poses/000001.jpg", "x.poses/000002.jpg"}
    (drawn,) = {read_image(path).shape for path in Path("o/x.poses").iterdir()}
    assert drawn == (48, 64, 3)


@pytest.mark.parametrize(
    ("options", "scores"),
    [
        ("", [0.9, 0.3]),
        ("--largest 1", [0.9]),
        ("--region 32 0 64 48", [0.3]),
        ("--region 0 0 64 24", []),
        ("--region 0 0 64 24.5 --largest 1", [0.9]),
    ],
)
def test_people_are_selected(network, options, scores):
    write_clip(Path("x.mp4"), 1)
    assert command(f"--video x.mp4 --no-overlay --score 0.2 {options}") == 0
    assert [person["score"] for person in lines("x.poses.jsonl")[1]["people"]] == scores


@pytest.mark.parametrize("region", ["0 0 5", "5 0 5 9", "0 0 nan 9"])
def test_a_region_is_a_box(network, capsys, region):
    write_clip(Path("x.mp4"), 1)
    assert command(f"--video x.mp4 --region {region}") == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("error: --region")


def test_doubtful_people_of_coco_results_are_not_drawn(network):
    write_image(Path("1.png"), picture(3))
    drawn = {}
    for options in ("", "--format coco", "--score 0.2", "--score 0.2 --no-ids --no-boxes --joint-score 0.99"):
        assert command(f"--video 1.png {options}") == 0
        drawn[options] = read_image("1.poses.png")
    assert (drawn["--format coco"] == drawn[""]).all()
    assert (drawn["--score 0.2"][:, 40:] != drawn[""][:, 40:]).any()
    assert (drawn["--score 0.2 --no-ids --no-boxes --joint-score 0.99"] == picture(3)).all()


def test_the_time_of_each_stage_is_told(network, capsys):
    write_clip(Path("x.mp4"), 3)
    assert command("--video x.mp4 --profile --threads 1") == 0
    stages = capsys.readouterr().out.splitlines()[1]
    assert stages.startswith("ms per frame: ")
    assert {part.split()[0] for part in stages.split(": ")[1].split(", ")} == {"read", "backbone", "people", "write"}


def test_a_window_that_is_closed_ends_the_input(network, monkeypatch):
    write_clip(Path("x.mp4"), 9)
    seen = []

    class Closing:
        def __init__(self, title):
            seen.append(title)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            seen.append("closed")

        def show(self, pixels):
            seen.append(pixels.shape)
            return len(seen) < 4

    monkeypatch.setattr(jobs, "Window", Closing)
    assert command("--video x.mp4 --show --no-overlay") == 0
    assert seen == ["x.mp4", *[(48, 64, 3)] * 3, "closed"]
    assert len(lines("x.partial.poses.jsonl")) == 4


def test_a_window_needs_a_display(network, monkeypatch, capsys):
    pytest.importorskip("tkinter")
    monkeypatch.delenv("DISPLAY", raising=False)
    write_clip(Path("x.mp4"), 2)
    if sys.platform == "linux":
        assert command("--video x.mp4 --show --quiet") == 2
        (error,) = capsys.readouterr().err.splitlines()
        assert error.startswith("error: no window: ") and files() == {"x.mp4"}


def test_a_video_on_standard_input(network, tmp_path):
    """The results of a video that cannot be read twice go to standard output, its summary does not."""
    write_clip(Path("x.mkv"), 6)
    assert command("--video x.mkv --no-overlay") == 0
    Path("script.py").write_text(SCRIPT.format(tests=str(Path(__file__).parents[1])).replace("0.2", "0"))
    with open("x.mkv", "rb") as stream:
        done = subprocess.run(
            [sys.executable, "script.py", "--video", "-"], stdin=stream, capture_output=True, text=True, timeout=300
        )
    assert done.returncode == 0 and "standard input: 6 frames, 1 tracks" in done.stderr
    header, *frames = map(json.loads, done.stdout.splitlines())
    assert header["source"] == "standard input" and frames == lines("x.poses.jsonl")[1:]
    assert files() == {"x.mkv", "x.poses.jsonl", "script.py"}


def test_a_still_has_a_picture(network):
    write_image(Path("me.png"), picture(3))
    assert command("--video me.png") == 0
    assert files() == {"me.png", "me.poses.jsonl", "me.poses.png"}


def test_phone_video_is_upright(network):
    write_video(Path("x.mp4"), [picture(3)] * 2, rotation=90)
    assert command("--video x.mp4") == 0
    assert (lines("x.poses.jsonl")[0]["width"], lines("x.poses.jsonl")[0]["height"]) == (48, 64)
    with av.open("x.poses.mp4") as film:
        frame = next(film.decode(video=0))
        assert (frame.width, frame.height, frame.rotation) == (48, 64, 0)


# Faults


def test_bad_inputs_are_named_and_the_others_done(network, capsys):
    write_clip(Path("good.mp4"), 2)
    write_clip(Path("last.mp4"), 2)
    Path("bad.mp4").write_bytes(b"nonsense" * 100)
    Path("empty.mp4").touch()
    assert command("--video missing.mp4 good.mp4 bad.mp4 empty.mp4 'no/*.mp4' last.mp4 --quiet") == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 4 and all(line.startswith("error: ") for line in errors)
    assert {line.split()[1].rstrip(":") for line in errors} == {"missing.mp4", "bad.mp4", "empty.mp4", "no/*.mp4"}
    assert {"good.poses.jsonl", "good.poses.mp4", "last.poses.jsonl", "last.poses.mp4"} <= files()


def test_truncated_video_gives_what_decodes(network, capsys):
    generator = np.random.default_rng(0)
    write_video(Path("x.mp4"), [generator.integers(0, 255, (48, 64, 3), dtype=np.uint8) for _ in range(40)])
    content = Path("x.mp4").read_bytes()
    Path("x.mp4").write_bytes(content[: len(content) // 2])
    assert command("--video x.mp4 --quiet") == 0
    (warning,) = capsys.readouterr().err.splitlines()
    assert warning.startswith("warning: x.mp4: ends early")
    assert 5 < len(lines("x.poses.jsonl")) < 35


def test_changing_size_leaves_nothing(network, capsys):
    for name, height in (("a.h264", 48), ("b.h264", 64)):
        write_video(Path(name), [picture(1, height=height)] * 3)
    Path("x.h264").write_bytes(Path("a.h264").read_bytes() + Path("b.h264").read_bytes())
    before = files()
    assert command("--video x.h264 --quiet") == 2
    assert "size changes" in capsys.readouterr().err and files() == before


def test_output_that_cannot_be_written(network, capsys):
    write_clip(Path("x.mp4"), 2)
    Path("file").touch()
    assert command("--video x.mp4 --out file --quiet") == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert "cannot write" in error and "file" in error


@pytest.mark.parametrize(
    "options",
    ["--every 0", "--batch 0", "--patience -1", "--gate 1.5", "--start -1", "--end -1", "--dtype int8"],
)
def test_absurd_options(network, capsys, options):
    write_clip(Path("x.mp4"), 2)
    assert command(f"--video x.mp4 {options}") == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: {options.split()[0]}") and files() == {"x.mp4"}


def test_other_weights_are_refused(network, monkeypatch, capsys):
    write_clip(Path("x.mp4"), 2)
    monkeypatch.setattr(pose.checkpoints, "load", lambda *_: nn.Linear(1, 1))
    assert command("--video x.mp4 --weights thing") == 2
    assert "thing" in capsys.readouterr().err


def test_ctrl_c_finishes_with_what_there_is(network):
    write_clip(Path("x.mp4"), 40)
    write_clip(Path("y.mp4"), 4)
    network.at_frame = lambda number: os.kill(os.getpid(), signal.SIGINT) if number == 10 else None
    assert command("--video x.mp4 y.mp4 --quiet") == 130
    assert files() == {"x.mp4", "y.mp4", "x.partial.poses.jsonl", "x.partial.poses.mp4"}
    assert 5 < len(lines("x.partial.poses.jsonl")) < 25
    with av.open("x.partial.poses.mp4") as film:
        assert len(list(film.decode(video=0))) == len(lines("x.partial.poses.jsonl")) - 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# Memory and ranks


@pytest.mark.parametrize("delta", [0, -5, 5])
def test_frames_and_features_in_memory_do_not_grow(network, delta):
    alive: list[weakref.ref] = []
    most = 0

    def frames(count):
        for i in range(count):
            frame = Frame(picture(i % 40), i, i / 25, 0.04)
            alive.append(weakref.ref(frame))
            yield frame

    for _ in poses(network, frames(120), delta, batch=4):
        most = max(most, sum(frame() is not None for frame in alive[-50:]))
    assert len(alive) == 120 and most <= 5 + 4 + 4


@pytest.mark.parametrize("delta", [0, -2, 3])
@pytest.mark.parametrize("batch", [1, 4])
def test_motion_is_from_the_frame_before(network, delta, batch):
    """The stand-in's motion is (number of A, number of B); the size changes at frame 6."""
    network.motion = lambda a, b: [
        Motion(torch.stack(pair)[:, 0], 1.0, 1.0) for pair in zip(a.levels[0], b.levels[0], strict=True)
    ]
    sizes = [(48, 64)] * 6 + [(24, 32)] * 3
    frames = (Frame(picture(i, *size), i, i / 25, 0.04) for i, size in enumerate(sizes))
    found = list(poses(network, frames, delta, batch, motion=True))
    pairs = [None if f.motion is None else f.motion.flow.flatten().tolist() for f in found]
    assert pairs == [None if i in (0, 6) else [i - 1, i] for i in range(9)]
    assert [f.frame.index for f in found] == list(range(9))
    plain = poses(network, (Frame(picture(i), i, i / 25, 0.04) for i in range(6)), delta, batch)
    first = [f.people.keypoints[0, 0].tolist() for f in found[:6]]
    assert first == [f.people.keypoints[0, 0].tolist() for f in plain], "the same frames meet, with motion or without"


@pytest.mark.parametrize("delta", [0, -3, 1])
@pytest.mark.parametrize("batch", [1, 4])
def test_aggregation_looks_before_and_after(network, delta, batch):
    frames = [Frame(picture(i), i, i / 25, 0.04) for i in range(7)]
    found = [f.people.keypoints[0, :2].tolist() for f in poses(network, frames, delta, batch, aggregate=2)]
    places = [max(i - 2, 0) for i in range(7)], [min(i + 2, 6) for i in range(7)]
    assert found == [
        [[i, min(max(i + delta, 0), 6)], [before, after]] for i, before, after in zip(range(7), *places, strict=True)
    ]
    assert network.passes == 7


@pytest.mark.parametrize("batch", [1, 4])
def test_a_sweep_finds_what_each_delta_finds(network, batch):
    frames = [Frame(picture(i), i, i / 25, 0.04) for i in range(7)]
    deltas = (-3, 0, 2)
    found = [[p.keypoints[0, 0].tolist() for p in people] for _, people, *_ in sweep(network, frames, deltas, batch)]
    assert network.passes == 7
    each = [[f.people.keypoints[0, 0].tolist() for f in poses(network, frames, delta, batch)] for delta in deltas]
    assert found == [list(row) for row in zip(*each, strict=True)]


def test_a_tracker_that_moves_tracks_gets_the_motion(network):
    """Half the frame's width a frame: by boxes, the left person of one frame is none of the next."""
    write_clip(Path("x.mp4"), 2)
    network.motion = lambda a, b: [Motion(torch.tensor([100.0, 0]).view(2, 1, 1), 48.0, 64.0)]
    ids = {}
    for tracker in ("dimofs", "iou"):
        assert command(f"--video x.mp4 --no-overlay --quiet --tracker {tracker}") == 0
        ids[tracker] = [line["people"][0]["id"] for line in lines("x.poses.jsonl")[1:]]
    assert ids == {"dimofs": [0, 1], "iou": [0, 0]}


def test_threads_end_with_their_video(network):
    import threading

    write_clip(Path("x.mp4"), 5)
    before = threading.active_count()
    assert command("--video x.mp4 --quiet") == 0
    assert command("--video x.mp4 --quiet --out x.mp4") == 2
    assert threading.active_count() == before


def test_ranks_share_the_inputs(network, monkeypatch):
    Path("clips").mkdir()
    for i in range(5):
        write_clip(Path(f"clips/{i}.mp4"), 2)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, share in ((0, {0, 2, 4}), (1, {1, 3})):
        monkeypatch.setenv("RANK", str(rank))
        assert command(f"--video 'clips/*.mp4' --no-overlay --quiet --out out{rank}") == 0
        assert files(f"out{rank}") == {f"{i}.poses.jsonl" for i in share}


SCRIPT = """
import sys, time
sys.path.insert(0, {tests!r})
from tests.test_pose import StandIn, pose, run
detector = StandIn()
detector.at_frame = lambda number: time.sleep(0.2)
pose.checkpoints.load = lambda *_: detector
run(pose.main, sys.argv[1:])
"""


def test_torchrun_lets_other_ranks_finish_when_one_fails(network):
    """Rank 0 has only an unreadable input and fails at once; rank 1 is busy for two seconds more."""
    Path("bad.mp4").touch()
    write_clip(Path("good.mp4"), 10)
    Path("script.py").write_text(SCRIPT.format(tests=str(Path(__file__).parents[1])))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "script.py"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [*launcher, "--video", "bad.mp4", "good.mp4"], env=environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode != 0 and result.stderr.count("error: bad.mp4") == 1
    assert {"good.poses.jsonl", "good.poses.mp4"} <= files() and len(lines("good.poses.jsonl")) == 11


def test_module_runs_by_its_name(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "dimofs.zoo.pose", "--video", str(tmp_path / "no.mp4")],
        cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert result.returncode == 2 and result.stdout == ""
    assert len(result.stderr.splitlines()) == 1 and "no.mp4: no such file" in result.stderr
