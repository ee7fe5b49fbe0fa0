"""Drawing by its geometry, and the films and pictures it goes into."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.container import InputContainer

from dimofs import skeletons
from dimofs.cli import InputError
from dimofs.detections import Detections
from dimofs.drawing import colour, draw
from dimofs.formats.writers import About
from dimofs.images import read_image
from dimofs.overlay import film
from dimofs.overlay import picture as still
from dimofs.picture import png
from dimofs.video import Frame
from tests.support.clips import number, picture

OUTSIDE = torch.tensor([[900.0, 900, 1200, 1200]])  # a box that gives limbs their thickness and is not seen


def people(points, ids, boxes=None) -> Detections:
    points = torch.from_numpy(np.array(points, dtype=np.float32))
    if boxes is None:
        boxes = torch.cat((points.amin(1), points.amax(1)), dim=1)
    logits = torch.full(points.shape[:2], 4.0)
    return Detections(boxes, torch.ones(len(points)), points, logits, torch.tensor(ids))


def test_draws_a_limb_between_its_joints():
    """A level limb at y = 30.5, the middle of row 30: its colour there, dark beside it, nothing farther off."""
    image = np.full((61, 400, 3), 100, dtype=np.uint8)
    draw(image, people([[[10.5, 30.5], [70.5, 30.5]]], [7], OUTSIDE), [(0, 1)])
    assert (image[29:32, 20:61] == colour(7)).all()  # 4 rows wide: a two hundredth of 400 on either side
    # A rim, half as wide as the radius of 2 and half as bright, covers half of the third row from the middle.
    assert (image[[27, 33], 20:61] == 75).all() and (image[[26, 34], 20:61] == 100).all()
    assert (image[:, :100] == image[::-1, :100]).all()


def test_limbs_of_any_slope_are_equally_thick():
    ink = []
    for angle in np.linspace(0.1, np.pi, 13):
        image = np.zeros((300, 300, 3), dtype=np.uint8)
        reach = 100 * np.array([np.cos(angle), np.sin(angle)])
        draw(image, people([[150.2 - reach, 150.4 + reach]], [0], OUTSIDE), [(0, 1)])
        ink.append(image[..., 2].sum() / colour(0)[2])
    assert np.ptp(ink) < 0.04 * np.mean(ink)
    assert 3.0 * 200 < np.mean(ink) < 3.6 * 200  # a hundredth of the image, and a round joint at either end


def test_unsure_and_absurd_joints_are_not_drawn():
    image = np.zeros((40, 40, 3), dtype=np.uint8)
    one = people([[[10.0, 10], [30, 30], [float("nan"), 5], [1e9, -1e9]]], [0], OUTSIDE)
    one.keypoint_scores[0, 0] = -4
    draw(image, one, [(0, 1), (1, 2)])
    assert image[25:35, 25:35].any() and not image[:20].any()
    draw(image, one, [(1, 3)])  # a limb that leaves the frame is cut at its edge


@pytest.mark.parametrize(("confidence", "drawn"), [(0.49, False), (0.51, True)])
def test_joints_are_drawn_from_a_confidence_of_a_half(confidence, drawn):
    image = np.zeros((40, 40, 3), dtype=np.uint8)
    one = people([[[20.0, 20]]], [0], OUTSIDE)
    one.keypoint_scores[:] = torch.tensor(confidence).logit()
    draw(image, one, [])
    assert image[18:22, 18:22].any() == drawn


LABEL = """\
...............................................................
...............................................................
....#....###..#####....#..#####...##..#####..###...###...###...
...##...#...#....#....##..#......#........#.#...#.#...#.#...#..
....#.......#...#....#.#..####..#........#..#...#.#...#.#..##..
....#......#.....#..#..#......#.####....#....###...####.#.#.#..
....#.....#.......#.#####.....#.#...#..#....#...#.....#.##..#..
....#....#....#...#....#..#...#.#...#..#....#...#....#..#...#..
...###..#####..###.....#...###...###...#.....###...##....###...
...............................................................
...............................................................
"""


def test_an_id_is_written_in_digits_above_its_box():
    image = np.full((100, 100, 3), 255, dtype=np.uint8)
    draw(image, people([[[-50.0, -50]]], [1234567890], torch.tensor([[20.0, 50, 90, 90]])), [])
    plate = image[39:50, 20:83]
    assert "".join("".join(".#"[ink] for ink in row) + "\n" for row in (plate == 0).all(-1).astype(int)) == LABEL
    assert (plate[0] == colour(1234567890)).all() and (image[:39] == 255).all()


def test_boxes_and_ids_at_the_edges():
    boxes = torch.tensor([[-20.0, -20, 15, 15], [0, 0, 1, 1], [30, 30, 900, 900], [38, 2, 39, 39]])
    image = np.zeros((40, 40, 3), dtype=np.uint8)
    draw(image, people(np.full((4, 1, 2), -50.0), [0, 12345, 2, 3], boxes), [])
    assert image.any()
    tiny = np.zeros((3, 3, 3), dtype=np.uint8)
    draw(tiny, people(np.full((1, 1, 2), 1.0), [123], torch.tensor([[0.0, 0, 3, 3]])), [])


def test_colours_are_stable_and_differ():
    assert colour(3) == colour(3)
    assert len({colour(i) for i in range(50)}) == 50
    images = [np.zeros((60, 80, 3), dtype=np.uint8) for _ in range(2)]
    for image, order in zip(images, ([0, 1], [1, 0]), strict=True):
        both = people([[[10.0, 10], [30, 30]], [[50.0, 50], [70, 30]]], [4, 9])
        draw(image, both[torch.tensor(order)], [(0, 1)])
    assert (images[0] == images[1]).all()


def test_drawing_needs_memory_that_it_can_write_through():
    with pytest.raises(ValueError, match="contiguous"):
        draw(np.zeros((10, 20, 3), dtype=np.uint8)[:, ::2], people([[[1.0, 1]]], [0]), [])


def about(width, height, fps=25.0) -> About:
    return About(
        source="x", name="x", width=width, height=height, fps=fps, keypoint_names=skeletons.COCO, model="m", delta=0
    )


def overlay(path: Path, images, times, durations, size=None) -> InputContainer:
    height, width = size or images[0].shape[:2]
    with film(path, about(width, height)) as write:
        for i, (image, at, shown) in enumerate(zip(images, times, durations, strict=True)):
            write(Frame(image, i, at, shown), Detections.empty(17))
    return av.open(str(path))


def test_overlay_is_what_browsers_play(tmp_path):
    container = overlay(tmp_path / "x.mp4", [picture(i) for i in range(5)], [i / 25 for i in range(5)], [0.04] * 5)
    stream = container.streams.video[0]
    assert (stream.codec_context.name, stream.pix_fmt, stream.width, stream.height) == ("h264", "yuv420p", 64, 48)
    content = (tmp_path / "x.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert [number(f) for f in frames] == list(range(5))
    assert np.abs(frames[2].astype(int) - picture(2)).mean() < 6  # colours come back


def test_overlay_keeps_a_variable_rate_and_its_length(tmp_path):
    times, durations = [3.0, 4.0, 4.1, 8.0], [1.0, 0.1, 3.9, 2.5]
    container = overlay(tmp_path / "x.mp4", [picture(i) for i in range(4)], times, durations)
    stream = container.streams.video[0]
    assert [f.time for f in container.decode(stream)] == pytest.approx([0.0, 1.0, 1.1, 5.0])
    assert container.duration == pytest.approx(7.5 * av.time_base, abs=1000)
    assert stream.time_base is not None and stream.duration == Fraction(15, 2) / stream.time_base


@pytest.mark.parametrize("height, width", [(47, 63), (1, 1), (48, 63)])
def test_overlay_of_odd_sizes_is_even(tmp_path, height, width):
    image = picture(9, height, width)
    frame = next(overlay(tmp_path / "x.mp4", [image], [0.0], [0.04]).decode(video=0)).to_ndarray(format="rgb24")
    assert frame.shape == (height + height % 2, width + width % 2, 3)
    assert np.abs(frame[:height, :width].astype(int) - image).mean() < 12


def test_overlay_fits_other_sizes_into_the_first(tmp_path):
    images = [picture(9), picture(9, 96, 64)]
    frames = [f.to_ndarray(format="rgb24") for f in overlay(tmp_path / "x.mp4", images, [0, 1], [1, 1]).decode(video=0)]
    assert frames[1].shape == (48, 64, 3)
    assert frames[1][:, :12].max() < 30 and frames[1][10, 20, 0] > 200  # 32 of 64 columns, black beside them


def test_overlay_of_a_still_is_a_png(tmp_path):
    with still(tmp_path / "x.png", about(63, 47)) as write:
        write(Frame(picture(4, 47, 63), 0, 0.0, 0.04), Detections.empty(17))
    assert (read_image(tmp_path / "x.png") == picture(4, 47, 63)).all()
    (tmp_path / "y.png").write_bytes(png(picture(1)))
    assert (read_image(tmp_path / "y.png") == picture(1)).all()


def test_failed_overlay_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), film(tmp_path / "x.mp4", about(64, 48)) as write:
        write(Frame(picture(0), 0, 0.0, 0.04), Detections.empty(17))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"), film(tmp_path / "file" / "x.mp4", about(64, 48)):
        pass


def test_overlay_has_the_pixels_of_the_source(tmp_path):
    wide = replace(about(64, 48), pixel_aspect=Fraction(64, 45))
    with film(tmp_path / "x.mp4", wide) as write:
        write(Frame(picture(1), 0, 0.0, 0.04), Detections.empty(17))
    with av.open(str(tmp_path / "x.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(64, 45)
