"""The page of --format html: its data, recomputed by hand, and its behaviour in a browser."""

import base64
import json
import re
import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from dimofs.detections import Detections
from dimofs.formats.writers import About
from dimofs.motion import Motion
from dimofs.pages.player import UNIT, page, plain_film
from dimofs.sources import Source, video_source
from dimofs.video import Frame, open_clip
from tests.support.browser import PHONE, Page
from tests.support.clips import number, picture, write_image, write_video

# Keys as WebDriver names them.
LEFT, RIGHT, HOME, END, SHIFT = "\ue012", "\ue014", "\ue011", "\ue010", "\ue008"
HEIGHT, WIDTH, FRAMES, RATE = 120, 160, 40, 8
NAMES = ("nose", "left_eye")
DOUBTFUL_FROM = 20


def people(frame: int) -> Detections:
    """Person 7, whose nose is at x = 20 + 3 * frame, y = 100; from frame 20 on also person 3, who is doubtful."""
    count = 1 + (frame >= DOUBTFUL_FROM)
    boxes = torch.tensor([[10.0, 80, 150, 115], [20, 5, 60, 70]])[:count]
    points = torch.tensor([[[20.0 + 3 * frame, 100], [0, 0]], [[40, 30], [50, 40]]])[:count]
    logits = torch.tensor([[4.0, -4], [4, 4]])[:count]
    return Detections(boxes, torch.tensor([0.9, 0.3])[:count], points, logits, torch.tensor([7, 3])[:count])


def about(name: str = "x", names=NAMES) -> About:
    return About(
        source=f"{name}.mp4", name=name, width=WIDTH, height=HEIGHT, fps=RATE, keypoint_names=names, model="m", delta=0
    )


def write_page(folder: Path, name: str = "x", embed: bool = False, frames: int = FRAMES) -> Path:
    """A page of a clip whose pictures tell their numbers, and its film beside it or inside."""
    path, kept = folder / f"{name}.poses.html", None if embed else folder / f"{name}.poses.mp4"
    source = video_source(folder / f"{name}.mp4")
    with (
        page(path, about(name), source, kept, embed) as write,
        plain_film(folder / f"{name}.poses.mp4", about()) as film,
    ):
        for i in range(frames):
            frame = Frame(picture(i, HEIGHT, WIDTH), i, i / RATE, 1 / RATE)
            write(frame, people(i))
            film(frame, people(i))
    return path


def script(path: Path, name: str) -> str:
    """The content of the script element with this id."""
    (found,) = re.findall(rf'<script[^>]* id="{name}">(.*?)</script>', path.read_text(), re.DOTALL)
    return found


def test_the_columns_hold_what_was_written(tmp_path):
    path = write_page(tmp_path, frames=22)
    told = json.loads(script(path, "about"))
    assert (told["frames"], told["people"], told["ids"], told["film"]) == (22, 24, [7, 3], "x.poses.mp4")
    assert told["seconds"] == pytest.approx(22 / RATE) and told["limbs"] == [[0, 1]]
    content = base64.b64decode(script(path, "poses"))
    sizes = (22 * 8, 23 * 4, 24 * 4, 24 * 8 * 2, 24 * 2, 24, 24 * 2)
    parts = [content[end - size : end] for size, end in zip(sizes, np.cumsum(sizes), strict=True)]
    assert len(content) == sum(sizes)
    times, starts, tracks, places, actions, scores, confidences = map(
        np.frombuffer, parts, ("<f8", "<u4", "<i4", "<i2", "<i2", "u1", "u1")
    )
    np.testing.assert_allclose(times, np.arange(22) / 8)
    assert starts.tolist() == [*range(21), 22, 24] and tracks.tolist() == [0] * 21 + [1, 0, 1]
    # Frame 4: box (10, 80, 150, 115) of 160 x 120 pixels, nose at (32, 100).
    expected = [10 / 160, 80 / 120, 150 / 160, 115 / 120, 32 / 160, 100 / 120, 0, 0]
    assert places.reshape(24, 8)[4].tolist() == [round(UNIT * value) for value in expected]
    assert set(actions.tolist()) == {-1} and told["actions"] == []
    assert scores[-2:].tolist() == [round(0.9 * 255), round(0.3 * 255)]
    assert confidences[:2].tolist() == [250, 5]  # sigmoid(±4) = .982, .018


def test_the_motion_of_joints(tmp_path):
    """Everything moves right by 8 and down by 6 pixels of 160 x 120, but for the last frame."""
    motion = Motion(torch.tensor([8.0, 6]).view(2, 1, 1).expand(2, 3, 4), HEIGHT, WIDTH)
    with page(tmp_path / "x.html", about(), video_source(Path("x.mp4")), None, False, 1) as write:
        write(Frame(picture(0), 0, 0.0, 0.1, full_size=(HEIGHT, WIDTH)), people(0), motion=motion)
        write(Frame(picture(1), 1, 0.1, 0.1, full_size=(HEIGHT, WIDTH)), people(1))
    assert json.loads(script(tmp_path / "x.html", "about"))["onward"] == 1
    content = base64.b64decode(script(tmp_path / "x.html", "poses"))
    # Before them: times, starts, tracks, and the places of two people.
    begin = 2 * 8 + 3 * 4 + 2 * 4 + 2 * 8 * 2
    moves = np.frombuffer(content[begin : begin + 2 * 4 * 2], "<i2").reshape(2, 2, 2)
    assert moves.tolist() == [[[round(UNIT / 20)] * 2] * 2, [[0, 0]] * 2]
    assert len(content) == begin + 2 * 4 * 2 + 2 * 2 + 2 + 4


def test_an_odd_frame_has_a_padded_film(tmp_path):
    with page(tmp_path / "x.html", about(), video_source(Path("x.mp4")), tmp_path / "x.mp4", False) as write:
        write(Frame(np.zeros((99, 161, 3), np.uint8), 0, 5.0, 0.1), people(0))
    content = base64.b64decode(script(tmp_path / "x.html", "poses"))
    # The film is 162 x 100 and begins at time 0.
    assert np.frombuffer(content[:8], "<f8")[0] == 0
    assert np.frombuffer(content[20:28], "<i2").tolist() == [round(UNIT * v) for v in (10 / 162, 0.8, 150 / 162, 1.15)]


def test_without_people_and_joints_beyond_all_bounds(tmp_path):
    wild = people(0)
    wild.keypoints[0, 0] = torch.tensor([torch.inf, -torch.inf])
    wild.keypoints[0, 1] = torch.nan
    with page(tmp_path / "x.html", about(), video_source(Path("x.mp4")), None, False) as write:
        write(Frame(picture(0), 0, 0.0, 0.1), Detections.empty(2))
        write(Frame(picture(0), 1, 0.1, 0.1), wild)
    assert json.loads(script(tmp_path / "x.html", "about"))["people"] == 1


HOSTILE = "</script><script>document.title='taken'</script><!--<script>\"'&{{about}}"


def test_names_cannot_leave_their_place(tmp_path):
    path = tmp_path / "x.html"
    with page(path, about(HOSTILE, (HOSTILE, "nose")), video_source(tmp_path / "a#b?c%.mp4"), None, False) as write:
        write(Frame(picture(0), 0, 0.0, 0.1), people(0))
    text = path.read_text()
    assert "<script>document" not in text and "<!--" not in text
    told = json.loads(script(path, "about"))
    assert told["joints"][0] == HOSTILE and told["address"] == "a%23b%3Fc%25.mp4"


def test_a_run_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), page(tmp_path / "x.html", about(), video_source(Path("x.mp4")), None, True):
        raise RuntimeError
    assert not list(tmp_path.iterdir())


# In a browser


@pytest.fixture(scope="module")
def beside(driver, tmp_path_factory) -> Path:
    """A page with its film beside it."""
    return write_page(tmp_path_factory.mktemp("pages"))


@pytest.fixture
def view(driver, beside):
    """That page, opened and ready; nothing may appear on the console."""
    shown = opened(driver, beside)
    yield shown
    assert shown.complaints() == []


def opened(driver, path: Path) -> Page:
    shown = Page(driver, path)
    shown.wait("video.readyState >= 2 || document.querySelector('#video').hidden")
    return shown


def alone(view: Page) -> None:
    """Show person 7 as a nose and nothing else."""
    for name in ("boxes", "ids"):
        view.find(f"#{name}").click()
    view.slide("#person", 0.5)


def seen(view: Page) -> tuple[int, float]:
    """The number of the picture that is seen, and that of the frame whose nose is drawn over it."""
    image = view.picture("#stage").astype(int)
    white = np.argwhere((image.min(axis=2) > 235) & (np.arange(len(image)) > len(image) * 0.75)[:, None])
    x = white[:, 1].mean() / image.shape[1] * WIDTH
    return number(image[: -len(image) // 3]), (x - 20) / 3


def drawn(view: Page) -> int:
    """How many pixels the drawing covers."""
    return view.run(
        "const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', {willReadFrequently: true});"
        "copy.drawImage(canvas, 0, 0);"
        "const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);"
        "return data.reduce((sum, value, i) => sum + (i % 4 === 3 && value > 0), 0)"
    )


def test_the_drawing_is_that_of_the_frame(view):
    alone(view)
    for frame in (0, FRAMES // 2, FRAMES - 1):
        view.slide("#frame", frame)
        view.wait(f"current === {frame}")
        picture_seen, drawing_seen = seen(view)
        assert picture_seen == frame and drawing_seen == pytest.approx(frame, abs=0.3)
        assert f"{frame} / 39" in view.find("#clock").text


def test_while_it_plays_the_drawing_is_within_a_frame(view):
    alone(view)
    # Busy machines take long for a screenshot.
    view.run("document.querySelector('#speed').value = 0.5")
    view.slide("#frame", 0)
    view.press(" ")
    for _ in range(3):
        before = view.run("return current")
        view.wait(f"current > {before}")
        picture_seen, drawing_seen = seen(view)
        assert abs(picture_seen - drawing_seen) < 1.3
    view.press(" ")
    assert view.run("return player.playing") is False and 0 < view.run("return current") < FRAMES - 1
    view.slide("#frame", FRAMES - 2)
    view.press(" ")
    view.wait(f"current === {FRAMES - 1} && !player.playing")


def test_keys_step_frame_by_frame(view):
    steps = (
        (RIGHT, 1),
        (RIGHT, 2),
        (LEFT, 1),
        (SHIFT + RIGHT, 11),
        (END, 39),
        (RIGHT, 39),
        (LEFT, 38),
        (HOME, 0),
        (LEFT, 0),
    )
    for keys, frame in steps:
        view.press(keys)
        view.wait(f"current === {frame}")
    # Faster than the film can follow.
    view.press(*[RIGHT] * 9)
    view.wait("current === 9")


def test_toggles(view):
    view.slide("#frame", DOUBTFUL_FROM)
    view.wait(f"current === {DOUBTFUL_FROM}")
    whole = drawn(view)
    assert not view.find("#deeds").is_displayed()
    for name in ("boxes", "joints", "ids"):
        view.find(f"#{name}").click()
        less = drawn(view)
        assert less < whole
        whole = less
    assert whole == 0
    view.find("#motion").click()
    assert drawn(view) > 0  # the nose moves
    assert view.picture("#stage").max() > 200
    view.find("#motion").click()
    view.find("#picture").click()
    assert view.picture("#stage").max() == 0


def test_predicted_motion(driver, tmp_path):
    """Arrows from the joints, five times as long as the motion in a frame of 1/25 s, and none in the last frame."""
    motion = Motion(torch.tensor([8.0, 0]).view(2, 1, 1).expand(2, 3, 4), HEIGHT, WIDTH)
    source = video_source(tmp_path / "x.mp4")
    with (
        page(tmp_path / "x.html", about(), source, None, False, 1) as write,
        plain_film(tmp_path / "x.mp4", about()) as shoot,
    ):
        for number in (0, 1):
            frame = Frame(picture(number, HEIGHT, WIDTH), number, number / 25, 1 / 25)
            shoot(frame, people(number))
            write(frame, people(number), motion=None if number else motion)
    view = opened(driver, tmp_path / "x.html")
    ends = "soon(starts[current], points(starts[current]).slice(2)).map((to) => to && to[0] / canvas.width)"
    (nose, unsure) = view.run(f"return {ends}")
    assert nose == pytest.approx(20 / 160 + 5 * 8 / 160, abs=1e-3) and unsure is None
    for name in ("boxes", "joints", "ids", "picture", "motion"):
        view.find(f"#{name}").click()
    # Yellow on black: from the nose at x = 20 to 60, where it has a head.
    seen = view.picture("#stage").astype(int)
    rows, columns = np.nonzero((seen[..., 0] > 150) & (seen[..., 2] < 120))
    scale = seen.shape[1] / WIDTH
    assert columns.min() / scale == pytest.approx(20, abs=1) and columns.max() / scale == pytest.approx(60, abs=1)
    assert rows.mean() / scale == pytest.approx(100, abs=1)
    left, right = columns < 40 * scale, columns > 50 * scale
    assert np.ptp(rows[right]) > 2 * np.ptp(rows[left])
    view.press(RIGHT)
    view.wait("current === 1")
    assert view.run(f"return {ends}") == []


def test_scores(view):
    view.slide("#frame", DOUBTFUL_FROM)
    view.wait(f"current === {DOUBTFUL_FROM}")
    both = drawn(view)
    view.slide("#person", 0.31)
    sure = drawn(view)
    assert sure < both and view.find("#person + output").text == "0.31"
    view.slide("#person", 0.3)
    assert drawn(view) == both
    view.slide("#joint", 0.99)
    assert drawn(view) < both


def test_a_click_on_a_track_goes_there_and_shows_that_person(view):
    from selenium.webdriver import ActionChains  # pyright: ignore[reportMissingImports]

    rows = view.find("#rows")
    width, height = rows.size["width"], rows.size["height"]
    assert height == 36
    x = view.run("return xOf(30.5)")
    # The second line is that of person 3.
    ActionChains(view.driver).move_to_element_with_offset(rows, int(x - width / 2), 27 - height // 2).click().perform()
    view.wait("current === 30")
    assert view.run("return about.ids[chosen]") == 3
    ActionChains(view.driver).move_to_element_with_offset(rows, 5 - width // 2, 27 - height // 2).click().perform()
    assert view.run("return [current, chosen]") == [30, None]
    assert view.run("return stretches()") == [[[0, FRAMES - 1]], [[DOUBTFUL_FROM, FRAMES - 1]]]


def test_a_phone(driver, beside):
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    try:
        view = opened(driver, beside)
        wide, stage, button = view.run(
            "const of = (s) => document.querySelector(s).getBoundingClientRect();"
            "return [document.documentElement.scrollWidth, of('#stage').width, of('#play').height]"
        )
        assert wide <= 390 and 300 < stage <= 390 and button >= 40
        assert view.run("return canvas.width") == pytest.approx(2 * stage, abs=1)
        alone(view)
        view.slide("#frame", 11)
        view.wait("current === 11")
        assert seen(view) == (11, pytest.approx(11, abs=0.3))
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_browsers_that_do_not_tell_of_frames(driver, beside):
    gone = {"source": "delete HTMLVideoElement.prototype.requestVideoFrameCallback"}
    key = driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", gone)
    try:
        view = opened(driver, beside)
        assert view.run("return 'requestVideoFrameCallback' in video") is False
        alone(view)
        view.slide("#frame", 20)
        view.wait("current === 20 && !video.seeking")
        assert seen(view) == (20, pytest.approx(20, abs=0.3))
        view.press(" ")
        view.wait("current > 22")
    finally:
        driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", key)


def test_actions_stand_beside_the_ids(driver, tmp_path):
    with page(tmp_path / "x.html", about(), video_source(Path("x.mp4")), None, False) as write:
        for i in range(3):
            write(Frame(picture(i, HEIGHT, WIDTH), i, i / RATE, 1 / RATE), people(i), [("wave", "clap", "wave")[i]])
    view = Page(driver, tmp_path / "x.html")
    assert view.run("return [about.actions, ...actions]") == [["wave", "clap"], 0, 1, 0]
    assert view.find("#deeds").is_displayed()
    both = drawn(view)
    view.find("#ids").click()
    alone_ = drawn(view)
    view.find("#actions").click()
    assert drawn(view) < alone_ < both


def test_an_embedded_film_needs_no_file(driver, tmp_path):
    kept = write_page(tmp_path, embed=True, frames=12)
    (tmp_path / "alone").mkdir()
    view = opened(driver, Path(shutil.move(kept, tmp_path / "alone" / "renamed.html")))
    alone(view)
    view.slide("#frame", 7)
    view.wait("current === 7")
    assert seen(view) == (7, pytest.approx(7, abs=0.3)) and view.complaints() == []


def test_a_source_that_begins_late_and_is_used_in_part(driver, tmp_path):
    """The file's first frame has the time 0.4 s; the results are of its frames 5 to 12."""
    pictures = [picture(i, HEIGHT, WIDTH) for i in range(20)]
    source = video_source(write_video(tmp_path / "x.mp4", pictures, [0.4 + i / RATE for i in range(20)]))
    with closing(open_clip(source)) as clip, page(tmp_path / "x.html", about(), source, None, False) as write:
        for frame in clip.frames(5 / RATE, 12.5 / RATE):
            write(frame, people(frame.index))
    view = opened(driver, tmp_path / "x.html")
    alone(view)
    for place, frame in ((0, 5), (3, 8), (7, 12)):
        view.slide("#frame", place)
        view.wait(f"current === {place} && !video.seeking")
        assert seen(view) == (frame, pytest.approx(frame, abs=0.3))
    view.slide("#frame", 6)
    view.press(" ")
    view.wait("!player.playing")
    assert view.run("return video.currentTime") < 0.4 + 15 / RATE and view.complaints() == []


def test_a_film_that_is_gone_is_told_and_the_people_still_play(driver, tmp_path):
    path = write_page(tmp_path, frames=12)
    (tmp_path / "x.poses.mp4").unlink()
    view = Page(driver, path)
    view.wait("!document.querySelector('#notice').hidden")
    assert "x.poses.mp4 is not here" in view.find("#notice").text
    view.press(RIGHT, RIGHT)
    assert view.run("return current") == 2 and drawn(view) > 0
    view.press(" ")
    view.wait("current === 11 && !player.playing")


def test_the_film_of_an_interrupted_run(driver, tmp_path):
    path = write_page(tmp_path, frames=4)
    path.rename(tmp_path / "x.partial.poses.html")
    (tmp_path / "x.poses.mp4").rename(tmp_path / "x.partial.poses.mp4")
    assert opened(driver, tmp_path / "x.partial.poses.html").complaints() == []


@pytest.mark.parametrize("embed", [False, True])
def test_a_folder_of_images(driver, tmp_path, embed):
    files = [write_image(tmp_path / f"a #{i}.png", picture(i, HEIGHT, WIDTH)) for i in range(3)]
    source = Source(text="photos", name="photos", folder=tmp_path, images=tuple(files))
    path = tmp_path / "photos.poses.html"
    with page(path, about("photos"), source, None, embed) as write:
        for i, file in enumerate(files):
            write(Frame(picture(i, HEIGHT, WIDTH), i, i / 25, 1 / 25, file), people(i))
    view = opened(driver, path)
    alone(view)
    view.press(RIGHT, RIGHT)
    view.wait("current === 2")
    assert seen(view) == (2, pytest.approx(2, abs=0.3)) and view.complaints() == []


def test_hostile_names_are_only_shown(driver, tmp_path):
    path = tmp_path / "x.html"
    with page(path, about(HOSTILE, (HOSTILE, "nose")), video_source(Path("x.mp4")), None, False) as write:
        write(Frame(picture(0), 0, 0.0, 0.1), people(0))
    view = Page(driver, path)
    assert view.driver.title == HOSTILE and view.find("h1").text == HOSTILE
