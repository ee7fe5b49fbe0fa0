"""The Python interface: whatever people call an image or a video, and results as they want them."""

import doctest
import functools
import http.server
import json
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import dimofs
from dimofs import image_inputs, skeletons
from dimofs.cli import InputError
from dimofs.detections import Detections
from dimofs.flow_files import read_flow
from dimofs.image_inputs import pixels_of
from dimofs.images import read_image
from dimofs.motion import Motion
from dimofs.results import Result
from dimofs.tracking import TRACKERS
from dimofs.video import Frame
from dimofs.zoo import predictor
from dimofs.zoo.predictor import Model
from tests.support.clips import picture, write_clip, write_cut, write_image
from tests.support.tiny import tiny_model
from tests.test_pose import StandIn, command, lines


@pytest.fixture
def model(monkeypatch, tmp_path) -> Model:
    """A stand-in whose people stand where the picture's number says; in an empty folder."""
    detector = StandIn()
    monkeypatch.setattr(predictor.checkpoints, "load", lambda *_: detector)
    monkeypatch.chdir(tmp_path)
    return predictor.load()


# --- images ---


def forms(image: np.ndarray) -> dict:
    """The same image in every form."""
    pil = pytest.importorskip("PIL.Image")
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    write_image(Path("x.png"), image)
    return {
        "name": "x.png",
        "path": Path("x.png"),
        "array": image,
        "floats": image / 255,
        "float32": (image / 255).astype(np.float32),
        "reversed twice": image[::-1][::-1],
        "tensor": tensor,
        "float tensor": (tensor / 255).requires_grad_(),
        "PIL": pil.fromarray(image),
        "PIL with alpha": pil.fromarray(image).convert("RGBA"),
    }


def test_every_form_of_an_image_is_the_same(model):
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    for name, form in forms(image).items():
        assert (pixels_of(form, bgr=False) == image).all(), name
    assert (pixels_of(np.ascontiguousarray(image[..., ::-1]), bgr=True) == image).all()
    grey = np.repeat(image[..., :1], 3, axis=2)
    for form in (image[..., 0], image[..., :1], torch.from_numpy(image[None, ..., 0])):
        assert (pixels_of(form) == grey).all()


def test_images_of_any_form_give_what_the_command_gives(model):
    write_image(Path("x.png"), picture(7))
    assert command("--video x.png --quiet --no-overlay") == 0
    (expected,) = lines("x.poses.jsonl")[1]["people"]
    for form in forms(picture(7)).values():
        (person,) = model(form, bgr=False).to_dict()["people"]
        assert person | {"id": 0} == expected and person["id"] is None


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full((4, 5, 3), 255.0), r"values from 255 to 255; .* divide it by 255"),
        (np.full((4, 5, 3), -1.0), r"values from -1 to -1"),
        (np.full((4, 5, 3), np.nan), r"values from nan to nan"),
        (np.zeros((4, 5, 3), np.uint16), r"is of uint16; expected RGB"),
        (np.zeros((4, 5, 3), bool), r"is of bool"),
        (np.zeros((4, 5, 4), np.uint8), r"shape \[4, 5, 4\]; .*image\[\.\.\., :3\]"),
        (np.zeros((3, 4, 5), np.uint8), r"shape \[3, 4, 5\]; .*transpose\(1, 2, 0\)"),
        (np.zeros((2, 4, 5, 3), np.uint8), r"several images; give list\(images\)"),
        (np.zeros((0, 5, 3), np.uint8), r"shape \[0, 5, 3\]"),
        (np.zeros(7), r"shape \[7\]"),
        (torch.zeros(2, 3, 4, 5), r"give list\(tensor\)"),
        (torch.zeros(4, 5, 3), r"it is \[3, height, width\]"),
    ],
    ids=lambda value: "" if isinstance(value, str) else f"{value.dtype}-{list(value.shape)}",
)
def test_what_could_be_misread_is_refused(model, image, message):
    with pytest.raises(ValueError, match=message):
        model(image)


def test_files_that_are_no_image_are_refused(model):
    write_clip(Path("x.mp4"), 2)
    Path("photos").mkdir()
    for number in range(2):
        write_image(Path(f"photos/{number}.png"), picture(number))
    with pytest.raises(InputError, match=r"x\.mp4: a video, not an image; give it to track"):
        model("x.mp4")
    with pytest.raises(InputError, match=r"photos: several images; give a list"):
        model("photos")
    with pytest.raises(InputError, match=r"y\.jpg: no such file"):
        model("y.jpg")
    with pytest.raises(TypeError, match="an image is a dict"):
        model({})  # type: ignore[call-overload]
    pil = pytest.importorskip("PIL.Image")
    with pytest.raises(ValueError, match=r"mode 'I;16'"):
        model(pil.fromarray(np.zeros((4, 4), np.uint16)))


def test_an_array_may_be_bgr_where_opencv_is_in_use(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", SimpleNamespace())  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="say bgr=True if they are"):
        model(picture(1))
    for said in (True, False):
        model(picture(1), bgr=said)
    write_image(Path("x.png"), picture(1))
    model("x.png")


def test_a_pil_image_is_upright_as_its_file_is(model):
    pil = pytest.importorskip("PIL.Image")
    exif = pil.Exif()
    exif[0x0112] = 6
    pil.fromarray(picture(3)).save("x.png", exif=exif)
    assert read_image("x.png").shape == (64, 48, 3)
    assert (pixels_of(pil.open("x.png")) == read_image("x.png")).all()


def test_lists_of_images(model):
    write_image(Path("x.png"), picture(4))
    results = model(["x.png", picture(5), picture(6, 96, 64)])
    assert [result.keypoints[0, 0, 0] for result in results] == [4, 5, 6]
    assert [result.frame.index for result in results] == [0, 1, 2] and results[2].image.shape == (96, 64, 3)
    assert [result.to_dict().get("file") for result in results] == ["x.png", None, None]
    assert model([]) == []
    assert len(model(list(torch.zeros(2, 3, 32, 32)))) == 2


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        """Say nothing."""


def test_an_image_by_its_url(model, monkeypatch):
    write_image(Path("x.png"), picture(9))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory="."))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        assert model(f"{url}/x.png?key=secret").keypoints[0, 0, 0] == 9
        with pytest.raises(InputError, match=r"/y\.png: cannot be downloaded \(HTTP Error 404") as absent:
            model(f"{url}/y.png?key=secret")
        assert "secret" not in str(absent.value)
        monkeypatch.setattr(image_inputs, "MOST_DOWNLOADED", 10)
        with pytest.raises(InputError, match="save it and give the file"):
            model(f"{url}/x.png")
    finally:
        server.shutdown()
        server.server_close()


def test_thresholds_are_the_commands(model):
    assert model(picture(1)).scores.tolist() == pytest.approx([0.9])
    assert model(picture(1), score=0.2).scores.tolist() == pytest.approx([0.9, 0.3])
    assert not model(picture(1), score=0.95).scores.tolist()


def test_nothing_records_gradients():
    result = Model(tiny_model())(torch.rand(3, 40, 50, requires_grad=True), score=0.0)
    assert len(result) and not any(t.requires_grad for t in vars(result.people).values() if t is not None)


def test_models_that_find_no_poses_are_refused(monkeypatch):
    monkeypatch.setattr(predictor.checkpoints, "load", lambda *_: torch.nn.Linear(1, 1))
    with pytest.raises(InputError, match="holds weights of Linear, not of PoseDetector"):
        dimofs.load("x")
    with pytest.raises(InputError, match="dtype 'float8': not one of"):
        dimofs.load(dtype="float8")


# --- videos ---


def test_tracking_gives_what_the_command_gives(model):
    write_clip(Path("x.mp4"), 8)
    for options in ({}, {"delta": -2}, {"start": 0.1, "end": 0.25, "every": 2, "tracker": "iou+dimofs"}):
        flags = " ".join(f"--{name} {value}" for name, value in options.items())
        if "tracker" in options:
            model.detector.motion = lambda a, b: [None] * len(a)  # type: ignore[method-assign, assignment]
            options |= {"tracker": replace(TRACKERS["iou+dimofs"], motion=False)}
            flags = flags.replace("iou+dimofs", "default")
        assert command(f"--video x.mp4 --quiet --no-overlay {flags}") == 0
        results = list(model.track("x.mp4", **options))
        expected = [line | {"width": 64, "height": 48} for line in lines("x.poses.jsonl")[1:]]
        assert [json.loads(json.dumps(result.to_dict())) for result in results] == expected


def test_tracking_is_lazy_and_can_be_left(model):
    taken = []

    def camera():
        for number in range(100):
            taken.append(number)
            yield picture(number % 40)

    found = model.track(camera())
    first, second = next(found), next(found)
    assert (first.time, second.time, first.ids.tolist(), second.ids.tolist()) == (0.0, 0.04, [0], [0])
    found.close()
    assert len(taken) < 10


def test_a_tracker_for_a_loop_of_your_own(model):
    write_clip(Path("x.mp4"), 5)
    tracker = model.tracker()
    images = [picture(number) for number in range(5)]
    for ours, theirs in zip(map(tracker, images), model.track(iter(images)), strict=True):
        assert ours.to_dict() == theirs.to_dict()
    assert tracker(picture(6, 96, 64), time=7.5).ids.tolist() == [1] and tracker(picture(6, 96, 64)).time == 0.24


def test_a_video_that_ends_early_is_a_warning(model):
    write_cut(Path("x.mp4"))
    with pytest.warns(UserWarning, match=r"x\.mp4: ends early"):
        assert 4 < len(list(model.track("x.mp4"))) < 20


def test_videos_that_cannot_be_tracked(model):
    with pytest.raises(InputError, match=r"x\.mp4: no such file"):
        next(model.track("x.mp4"))
    with pytest.raises(TypeError, match=r"give a name, or list\(frames\)"):
        next(model.track(picture(0)))  # type: ignore[arg-type]
    for name in ("a.mp4", "b.mp4"):
        write_clip(Path(name), 2)
    with pytest.raises(InputError, match="holds 2 videos"):
        next(model.track("*.mp4"))


def test_frames_can_be_watched(model, monkeypatch):
    shown = []

    class Closed:
        def __init__(self, title):
            self.title = title

        def __enter__(self):
            return self

        def __exit__(self, *_):
            shown.append("closed")

        def show(self, pixels):
            shown.append(pixels.shape)
            return len(shown) < 3

    monkeypatch.setattr(predictor, "Window", Closed)
    assert len(list(model.track((picture(n) for n in range(9)), show=True))) == 3
    assert shown == [(48, 64, 3)] * 3 + ["closed"]


def test_motion_needs_two_frames_of_one_size(model):
    with pytest.raises(ValueError, match="64 x 48 and 32 x 40 pixels"):
        model.motion(picture(1), picture(1, 40, 32))
    still = Model(tiny_model()).motion(picture(1), picture(1))
    assert still.flow.shape == (2, 48, 64) and not still.flow.any()


def test_motion_as_a_picture_and_a_file(tmp_path):
    """To the right is red on Middlebury's wheel, and a quarter of the scale is pale."""
    field = torch.zeros(2, 4, 6)
    field[0, :, :3], field[0, :, 3:] = 8, 2
    motion = Motion(field, 4.0, 6.0)
    assert motion.plot(scale=8).pixels[0, [0, 5]].tolist() == [[255, 0, 0], [255, 191, 191]]
    motion.save(tmp_path / "x.flo")
    assert torch.equal(read_flow(tmp_path / "x.flo"), field)
    with pytest.raises(InputError, match=r"x\.mat"):
        motion.save(tmp_path / "x.mat")


# --- results ---


def result(count: int = 2) -> Result:
    boxes = torch.tensor([[10.0, 20, 30, 60], [40, 10, 60, 50]])[:count]
    points = (boxes[:, None, :2] + torch.arange(17)[:, None]).float()
    people = Detections(
        boxes, torch.tensor([0.9, 0.75])[:count], points, torch.zeros(count, 17), torch.tensor([4, 2])[:count]
    )
    names = skeletons.COCO
    frame = Frame(picture(3, 80, 100), 7, 0.28, 0.04)
    return Result(frame=frame, people=people, keypoint_names=names, limbs=skeletons.limbs(names))


def test_a_result_by_numbers():
    two = result()
    assert len(two) == 2 and two.ids.tolist() == [4, 2] and two.time == 0.28
    assert two.joints["left_eye"].tolist() == [[11, 21, 0.5], [41, 11, 0.5]]
    with pytest.raises(KeyError, match="left_wirst: the joints are nose, left_eye"):
        two.joints["left_wirst"]
    assert [one.ids.tolist() for one in two] == [[4], [2]] and two[-1].boxes.tolist() == [[40, 10, 60, 50]]
    with pytest.raises(IndexError):
        two[2]
    content = json.loads(json.dumps(two.to_dict()))
    assert (content["frame"], content["width"], content["height"]) == (7, 100, 80)
    assert content["people"][1]["id"] == 2 and content["people"][1]["keypoints"][1] == [41, 11, 0.5]


@pytest.mark.parametrize("count", [0, 2])
def test_a_result_as_a_table(count):
    pytest.importorskip("pandas", reason="needs pip install pandas")
    table = result(count).to_dataframe()
    assert list(table.columns) == ["frame", "time", "id", "score", "joint", "x", "y", "confidence"]
    assert len(table) == 17 * count
    if count:
        eye = table[(table["id"] == 2) & (table["joint"] == "left_eye")].iloc[0]
        assert (eye["frame"], eye["x"], eye["y"], eye["confidence"]) == (7, 41, 11, 0.5)


@pytest.mark.parametrize("count", [0, 2])
def test_a_result_in_supervision(count):
    pytest.importorskip("supervision", reason="needs pip install supervision")
    detections, joints = result(count).to_supervision(), result(count).to_supervision_keypoints()
    assert len(detections) == len(joints.xy) == count
    if count:
        assert detections.tracker_id.tolist() == [4, 2] and detections["class_name"].tolist() == ["person"] * 2
        assert joints.xy[1, 1].tolist() == [41, 11]


def test_a_result_as_a_picture(tmp_path):
    plotted = result().plot()
    assert (np.asarray(plotted) != result().image).any() and (result().image == picture(3, 80, 100)).all()
    plotted.save(tmp_path / "x.png")
    assert (read_image(tmp_path / "x.png") == plotted.pixels).all() and plotted._repr_png_().startswith(b"\x89PNG")
    plotted.save(tmp_path / "x.jpg")
    near = read_image(tmp_path / "x.jpg").astype(int) - plotted.pixels
    assert np.abs(near).mean() < 3
    with pytest.raises(InputError, match=r"x\.bmp: pictures are written as \.png"):
        plotted.save(tmp_path / "x.bmp")


def test_the_documented_session_is_true():
    failed, attempted = doctest.testmod(predictor)
    assert attempted >= 7 and not failed
