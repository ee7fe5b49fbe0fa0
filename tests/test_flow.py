"""Flow by OpenCV, flow files, colours of flow, and the fields of `Motion`."""

import struct
import subprocess
import sys

import numpy as np
import pytest
import torch

from dimofs.cli import InputError
from dimofs.flow import METHODS, dis, endpoint_error, farneback, stretched
from dimofs.flow_colours import common_scale, flow_colours, legend, magnitude_colours, wheel
from dimofs.flow_files import check_suffix, read_flow, write_flow
from dimofs.motion import Motion

NAN = float("nan")


def texture(shift: int = 0, low: int = 0, high: int = 255) -> np.ndarray:
    """A smooth random pattern [96, 128, 3] of greys in low..high, moved `shift` pixels to the right."""
    random = np.random.default_rng(0).random((14, 22))
    big = torch.nn.functional.interpolate(torch.from_numpy(random)[None, None], scale_factor=8, mode="bicubic")[0, 0]
    grey = (big.clamp(0, 1) * (high - low) + low).numpy()[8:104, 24 - shift : 152 - shift]
    return np.repeat(grey[..., None], 3, axis=2).round().astype(np.uint8)


# --- methods ---


@pytest.mark.parametrize("name", METHODS)
def test_flow_of_a_moved_pattern(name):
    pytest.importorskip("cv2")
    motion = METHODS[name](texture(), texture(3))
    assert motion.flow.shape == (2, 96, 128) and (motion.height, motion.width) == (96, 128)
    inner = motion.flow[:, 16:-16, 16:-16].mean(dim=(1, 2))
    assert inner.tolist() == pytest.approx([3, 0], abs=0.15)


def test_farneback_sees_motion_of_low_contrast():
    """Ten greys: without stretching it finds almost none of the 3 pixels."""
    cv2 = pytest.importorskip("cv2")
    a, b = texture(0, 100, 110), texture(3, 100, 110)
    plain = cv2.calcOpticalFlowFarneback(a[..., 0], b[..., 0], None, 0.5, 3, 15, 3, 5, 1.2, 0)[16:-16, 16:-16, 0]
    assert farneback(a, b).flow[0, 16:-16, 16:-16].mean() > 2.7 > plain.mean() + 0.3


def test_stretched_by_hand():
    """1 % of 100 pixels may lie on each side: 40 becomes black, 140 white, 65 a quarter of that."""
    a = np.full((5, 10), 40, np.uint8)
    b = np.full((5, 10), 140, np.uint8)
    b[0, :4] = 65
    low, high = stretched(a, b)
    assert (low == 0).all() and (high[1:] == 255).all() and set(high[0, :4]) == {64}
    assert stretched(a, a)[0] is a, "one grey"


@pytest.mark.parametrize("shape", [(1, 1), (12, 40), (2, 400), (5, 7), (40, 3)])
def test_small_frames(shape):
    pytest.importorskip("cv2")
    frame = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    for method in METHODS.values():
        flow = method(frame, frame).flow
        assert flow.shape == (2, *shape) and flow.isfinite().all()


def test_frames_that_cannot_be_compared():
    pytest.importorskip("cv2")
    with pytest.raises(ValueError, match="128 x 96 and 128 x 95 pixels"):
        dis(texture(), texture()[1:])
    with pytest.raises(ValueError, match="float64"):
        farneback(texture() / 255, texture())


def test_opencv_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(InputError, match=r"needs OpenCV: pip install 'dimofs\[eval\]'"):
        farneback(texture(), texture())


def test_flow_imports_without_opencv():
    code = "import sys, dimofs.flow, dimofs.flow_files, dimofs.flow_colours; sys.exit('cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# --- errors ---


def test_endpoint_error_by_hand():
    """Distances 5 and 0; the third pixel is unknown in one field, the fourth in the other."""
    flow = torch.tensor([[[3.0, 1, 2, NAN]], [[4.0, 1, 2, 0]]])
    truth = torch.tensor([[[0.0, 1, NAN, 0]], [[0.0, 1, 0, 0]]])
    assert endpoint_error(flow, truth) == 2.5
    assert np.isnan(endpoint_error(flow[..., 2:], truth[..., 2:]))
    with pytest.raises(ValueError, match="shapes"):
        endpoint_error(flow, truth[..., 1:])


# --- Motion ---


def test_dense_motion_by_hand():
    """Cells of 2 x 2 pixels that move by 0 and 8: the centres of pixels lie a quarter and three quarters between."""
    motion = Motion(torch.tensor([[[0.0, 8.0]], [[0.0, 0.0]]]), 2.0, 4.0)
    assert motion.dense(2, 4).tolist() == [[[0, 2, 6, 8]] * 2, [[0] * 4] * 2]
    assert motion.at(torch.tensor([[2.0, 1.0], [NAN, 1.0]])).tolist() == [[4, 0], [0, 0]]
    assert motion.at(torch.zeros(0, 2)).shape == (0, 2)


# --- files ---

FLOW = torch.tensor([[[0.0, 1.5, -511.984375]], [[0.0, -2.25, 100.0]]])


@pytest.mark.parametrize("suffix", [".flo", ".png", ".npz", ".FLO"])
def test_files_keep_fields(tmp_path, suffix):
    flow = FLOW.clone()
    flow[:, 0, 1] = NAN
    write_flow(tmp_path / f"x{suffix}", flow)
    assert torch.equal(read_flow(tmp_path / f"x{suffix}").nan_to_num(7), flow.nan_to_num(7))


def test_flo_by_hand(tmp_path):
    write_flow(tmp_path / "x.flo", FLOW[..., :2])
    expected = struct.pack("<fii4f", 202021.25, 2, 1, 0, 0, 1.5, -2.25)
    assert (tmp_path / "x.flo").read_bytes() == expected and expected[:4] == b"PIEH"


def test_kitti_by_hand(tmp_path):
    """32768 + 64 * 1.5 = 32864, 32768 - 64 * 2.25 = 32624; 512 pixels would be 65536, which 16 bits do not hold."""
    cv2 = pytest.importorskip("cv2")
    flow = torch.tensor([[[1.5, 512.0, 0.0]], [[-2.25, 0.0, NAN]]])
    write_flow(tmp_path / "x.png", flow)
    blue_green_red = cv2.imread(str(tmp_path / "x.png"), cv2.IMREAD_UNCHANGED)
    assert blue_green_red.tolist() == [[[1, 32624, 32864], [0, 0, 0], [0, 0, 0]]]


def test_opencv_reads_and_writes_the_same_flo(tmp_path):
    cv2 = pytest.importorskip("cv2")
    flow = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0)) * 20
    write_flow(tmp_path / "x.flo", flow)
    assert np.array_equal(cv2.readOpticalFlow(str(tmp_path / "x.flo")), flow.permute(1, 2, 0).numpy())
    cv2.writeOpticalFlow(str(tmp_path / "y.flo"), flow.permute(1, 2, 0).contiguous().numpy())
    assert (tmp_path / "x.flo").read_bytes() == (tmp_path / "y.flo").read_bytes()
    assert torch.equal(read_flow(tmp_path / "y.flo"), flow)


def test_kitti_rounds_to_a_64th_of_a_pixel(tmp_path):
    flow = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0)) * 100
    write_flow(tmp_path / "x.png", flow)
    assert (read_flow(tmp_path / "x.png") - flow).abs().max() <= 1 / 128


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("x.flo", b"PIEH", "not a .flo file"),
        ("x.flo", b"HEIP" + bytes(16), "not a .flo file"),
        ("x.flo", struct.pack("<fii", 202021.25, 2, 1) + bytes(8), "has 20 bytes for 2 x 1 pixels"),
        ("x.flo", struct.pack("<fii", 202021.25, -1, -1) + bytes(8), "-1 x -1"),
        ("x.png", b"\x89PNG\r\n\x1a\n" + bytes(30), "not a PNG file of 16-bit RGB"),
        ("x.png", b"", "not a PNG file of 16-bit RGB"),
        ("x.npz", b"PK", "not an .npz file"),
        ("x.txt", b"", "kept in .flo, .png, .npz files"),
    ],
)
def test_damaged_files(tmp_path, name, content, fault):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=fault):
        read_flow(tmp_path / name)


def test_pictures_and_other_arrays_are_no_flow(tmp_path):
    cv2 = pytest.importorskip("cv2")
    cv2.imwrite(str(tmp_path / "x.png"), texture())
    with pytest.raises(InputError, match="16-bit RGB"):
        read_flow(tmp_path / "x.png")
    write_flow(tmp_path / "cut.png", torch.randn(2, 64, 64))
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:60])
    with pytest.raises(InputError, match="damaged PNG"):
        read_flow(tmp_path / "cut.png")
    np.savez(tmp_path / "x.npz", flow=np.zeros((2, 3, 4), int))
    with pytest.raises(InputError, match='no array "flow"'):
        read_flow(tmp_path / "x.npz")


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(ValueError, match="shape"):
        write_flow(tmp_path / "x.flo", torch.zeros(3, 4, 5))
    with pytest.raises(InputError, match="suffixes"):
        check_suffix(tmp_path / "x.jpg")


# --- colours ---


def test_wheel_by_hand():
    """15 + 6 + 4 + 11 + 13 + 6 hues; the corners of the cube are where the parts begin."""
    assert wheel().shape == (55, 3)
    assert wheel()[[0, 15, 21, 25, 36, 49]].tolist() == [
        [1, 0, 0],
        [1, 1, 0],
        [0, 1, 0],
        [0, 1, 1],
        [0, 0, 1],
        [1, 0, 1],
    ]


def test_colours_by_hand():
    """At rest white, right at full length red, half of it light red, beyond darkened, unknown black."""
    flow = np.array([[[0, 10, 5, 20, NAN]], [[0, 0, 0, 0, 0]]])
    assert flow_colours(flow, 10).tolist() == [[[255, 255, 255], [255, 0, 0], [255, 127, 127], [191, 0, 0], [0, 0, 0]]]
    down, left, up = flow_colours(np.array([[[0, -1, 0]], [[1, 0, -1]]], float), 1)[0].tolist()
    assert down[0] == 255 and down[1] > 220 and down[2] == 0, "yellow, 13.5 of 15 hues from red"
    assert left[0] == 0 and left[1] > 200 and left[2] == 255, "27 of 55: past cyan"
    assert up[1] == 0 and up[2] == 255 and 80 < up[0] < 100, "40.5 of 55: between blue and magenta"


def test_opposite_directions_at_the_seam_are_alike():
    above, below = flow_colours(np.array([[[1, 1]], [[-1e-6, 1e-6]]]), 2)[0].astype(int)
    assert np.abs(above - below).max() <= 45 and above[0] == below[0] == 255


def test_legend_and_maps():
    picture = legend(33)
    assert (picture[0, 0] == 255).all() and (picture[16, 16] > 240).all() and picture[16, 32].tolist()[0] > 240
    ramp = magnitude_colours(np.array([[0, 1, 2, 3, 9, NAN]]), 3)
    assert ramp.tolist() == [[[0, 0, 0], [255, 0, 0], [255, 255, 0], [255, 255, 255], [255, 255, 255], [0, 0, 0]]]
    field = np.zeros((2, 1, 101))
    field[0, 0] = np.arange(101)
    assert common_scale(field) == pytest.approx(99) and common_scale(field * NAN) == 1.0
