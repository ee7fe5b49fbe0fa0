"""`eval.speed` and `eval.traffic`: rows, table and refusals, peak memory, and sectors counted by hand."""

import json
import sys

import pytest
import torch

from dimofs.cli import InputError
from dimofs.eval import speed, traffic
from dimofs.eval.timing import case as timing
from dimofs.eval.timing import kernels as peers
from dimofs.eval.timing import sectors
from dimofs.kernels import deform_conv2d

pytest.importorskip("torchvision")


def case(**changes) -> timing.Case:
    fields = {"name": "work", "shape": "2x3", "dtype": "fp32", "ours": lambda: None, "peer": "other"}
    return timing.Case(**fields | {"theirs": lambda: None, "size": 4_000_000} | changes)


def test_median_and_spread_by_hand():
    """Of 1, 2, 3, 4 and 10 seconds the quartiles are 2 and 4."""
    median, spread = timing.median_and_spread([10, 1, 2, 3, 4])
    assert median == 3000 and spread == pytest.approx(1 / 3)


def test_a_row_holds_both_times_their_ratio_and_the_floor(monkeypatch):
    """Ours takes 2 seconds, the peer 6, whoever asks; the first turn, which warms up, 50."""
    times = iter([50.0, 50.0] + [2.0, 6.0] * 1000)
    monkeypatch.setattr(timing, "seconds", lambda call, device: next(times))
    row = timing.time_case(case(), bandwidth=1e9, budget=0)
    assert (row["ours_ms"], row["peer_ms"], row["ratio"], row["floor_ms"]) == (2000, 6000, 3, 4)
    line = speed.table([row]).splitlines()[1].split()
    assert line == ["work", "2x3", "fp32", "2000", "0", "other", "6000", "0", "3.00", "4"]


def test_ours_and_the_peer_take_turns():
    turns = []
    timing.time_case(case(ours=lambda: turns.append("ours"), theirs=lambda: turns.append("peer")), 1e9, budget=0)
    assert len(turns) >= 8 and turns == ["ours", "peer"] * (len(turns) // 2)


def test_rows_are_written(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(speed.PARTS, "kernels", lambda device, quick: iter([case(), case(name="rest")]))
    speed.main("kernels", quick=True, only="wo", json=tmp_path / "rows.json")
    (row,) = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert {"name", "shape", "dtype", "ours_ms", "peer", "peer_ms", "ratio", "floor_ms"} <= row.keys()
    assert capsys.readouterr().out.splitlines()[1].startswith("work")


def test_without_a_name_all_is_measured(monkeypatch, tmp_path):
    for name in speed.PARTS:
        monkeypatch.setitem(speed.PARTS, name, lambda device, quick, name=name: iter([case(name=name)]))
    speed.main(quick=True, json=tmp_path / "rows.json")
    assert [row["name"] for row in json.loads((tmp_path / "rows.json").read_text())["rows"]] == list(speed.PARTS)


def test_times_are_of_one_of_many_and_notes_are_shown(monkeypatch):
    """Ours takes 2 seconds for 4 frames, the peer 6."""
    times = iter([2.0, 6.0] * 1000)
    monkeypatch.setattr(timing, "seconds", lambda call, device: next(times))
    row = timing.time_case(case(count=4, note="well"), bandwidth=1e9, budget=0)
    assert (row["ours_ms"], row["peer_ms"], row["ratio"]) == (500, 1500, 3)
    head, line = speed.table([row]).splitlines()
    assert line.split()[-1] == "well" and head.split()[-1] == "note" and "predicted_ms" not in head


def test_what_is_missing_is_said_in_one_line(monkeypatch):
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="device cuda: not available"):
            speed.main(device="cuda")
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(InputError, match="torchvision is not installed"):
        speed.main()


def test_both_sides_of_every_case_agree():
    """Those of small size: the same results and the same gradients."""
    makers = [
        peers.deform_sample_cases((8, 6, 7), "cpu"),
        peers.deform_conv2d_cases((16, 6, 7), True, "cpu"),
        peers.one_roi_cases("cpu"),
        [peers.nms_case(200, 3, "cpu"), peers.nms_case(200, 1, "cpu", crowd=5)],
    ]
    for one in (c for cases in makers for c in cases):
        torch.testing.assert_close(one.ours(), one.theirs(), rtol=1e-3, atol=1e-3, msg=one.name)


def test_the_peak_of_memory_by_hand():
    """Two tensors of 1 MB at once, one of which is gone before the third is made."""

    def call():
        a = torch.zeros(250_000)
        b = a + 1
        del a
        return b * 2

    assert 2_000_000 <= timing.peak_memory(call) < 2_100_000


@pytest.mark.parametrize("modulated", [False, True])
def test_a_convolution_never_holds_all_its_taps(modulated):
    """They would be 9 maps; forward and backward hold less than 5, results included."""
    torch.manual_seed(0)
    x, offset, weight = torch.randn(1, 64, 96, 96), torch.randn(1, 18, 96, 96), torch.randn(32, 64, 3, 3)
    leaves = [t.requires_grad_() for t in (x, offset, weight) + (torch.rand(1, 9, 96, 96),) * modulated]

    def call():
        out = deform_conv2d(*leaves[:3], padding=1, mask=leaves[3] if modulated else None)
        return torch.autograd.grad(out, leaves, torch.ones_like(out))

    assert timing.peak_memory(call) < 5 * 4 * x.numel()


# traffic


@pytest.mark.parametrize(
    ("layout", "expected"), list(zip(sectors.LAYOUTS, (4, 7, 105 * 4), strict=True)), ids=sectors.LAYOUTS
)
def test_sectors_of_unmoved_samples_by_hand(layout, expected):
    """A map of 4 x 8 float32, a sector a row. One warp reads all four; a warp a row reads its own and the next one's.

    Channels last, every pixel of 32 channels is 4 sectors, and a warp reads up to four pixels: 7 x 15 in all.
    """
    planes = 32 if layout == "channels last" else 1
    assert sectors.deform_sectors(torch.zeros(planes, 2, 4, 8), layout) == expected


def test_sectors_of_moved_samples_by_hand():
    """A warp of 4 x 8 whose samples all lie in one pixel reads one sector, or two with rows below; outside none."""
    rows, columns = torch.meshgrid(torch.arange(4), torch.arange(8), indexing="ij")
    to = lambda y, x: torch.stack((y - rows, x - columns))[None].float()  # noqa: E731
    assert sectors.deform_sectors(to(3, 2), sectors.LAYOUTS[0]) == 1
    assert sectors.deform_sectors(to(1, 2), sectors.LAYOUTS[0]) == 2
    assert sectors.deform_sectors(to(9, 2), sectors.LAYOUTS[0]) == 0
    assert sectors.deform_sectors(to(torch.nan, 2), sectors.LAYOUTS[0]) == 0


def test_sectors_of_pooled_boxes_by_hand():
    """Two cells that read pixels 0, 1, 1, 9 and 0, 0, 0, 0 of 16 channels: 2 sectors a pixel, 3 + 1 pixels.

    Planar they share a warp, which reads of each channel the sectors of pixels 0 to 7 and 8 to 15.
    """
    rows = torch.tensor([[0, 1, 1, 9], [0, 0, 0, 0]])
    assert sectors.pool_sectors(rows, 16) == 8
    assert sectors.pool_sectors(rows, 16, channels_last=False) == 2 * 16


def test_what_reads_a_sector_once_by_hand():
    """A box of two cells that read pixels 0, 9, 0 and 0, 1, 9 of 8 channels: a sector a pixel, or 8 pixels a sector.

    Channels last every load reads one, a cell 2 and 3 different ones, the box 3. Planar the warp is filled by the last
    cell; its loads read sectors {0}, {0, 1} and {0, 1} of each channel, all of them together 2.
    """
    rows = torch.tensor([[0, 9, 0], [0, 1, 9]])
    for last, expected in ((True, (6, 5, 3)), (False, (5 * 8, 2 * 8, 2 * 8))):
        counts = [sectors.pool_sectors(rows, 8, 4, last, reuse, 2) for reuse in sectors.REUSES]
        assert counts == list(expected)


def test_a_convolutions_backward_takes_what_its_products_take():
    """Two products of 16 x 144 x 1600 at 3/4 of 67 TFLOP/s, taps written and read, and 12 launches for each part."""
    still = torch.zeros(1, 18, 40, 40)
    seconds = sectors.convolve_backward_seconds(still, 16)
    arithmetic, streamed = 2 * (2 * 16 * 144 * 1600) / (0.75 * 67e12), 2 * 4 * 144 * 1600 / 3.35e12
    assert arithmetic + streamed + 12 * sectors.LAUNCH < seconds
    assert sectors.convolve_backward_seconds(still + 100, 16) < seconds  # outside the map nothing is read


def test_every_case_has_a_prediction():
    makers = [
        peers.deform_sample_cases((8, 6, 7), "cpu"),
        peers.deform_conv2d_cases((16, 6, 7), False, "cpu"),
        peers.one_roi_cases("cpu"),
        [peers.nms_case(200, 3, "cpu")],
    ]
    assert all(c.predict is not None and c.predict() > 0 for cases in makers for c in cases)


def test_a_prediction_is_never_below_the_memory_floor():
    """16 bytes a value forward and 28 backward, at 3.35 TB/s."""
    offset = torch.zeros(1, 8, 40, 40)
    values = 4 * 40 * 40
    for backward, each in ((False, 16), (True, 28)):
        assert sectors.deform_seconds(offset, backward=backward) > each * values / 3.35e12
    scattered = torch.randn(offset.shape, generator=torch.Generator().manual_seed(0)) * 8
    assert sectors.deform_seconds(scattered) > sectors.deform_seconds(offset)


def test_predictions_are_printed_with_their_bounds(monkeypatch, capsys):
    """2 ms are refuted below 1.4 and above 4 ms."""
    monkeypatch.setattr(traffic, "ratios", lambda: {"a kernel": 1.5})
    monkeypatch.setattr(traffic, "predictions", lambda: {"a kernel": 0.002})
    traffic.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["a", "kernel", "1.50"]
    assert lines[-1].split() == ["a", "kernel", "2.000", "1.400", "4.000"]
