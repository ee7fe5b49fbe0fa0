"""The control: Frame B of another clip, or with nobody."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dimofs.cli import InputError
from dimofs.datasets.sequences import synthetic_videos
from dimofs.datasets.synthetic.clips import HELD_OUT, Synthetic
from dimofs.eval import posetrack
from dimofs.eval.tables import control as tables
from dimofs.eval.tables.control import KINDS, ControlOptions, control, lines, photographic_noise
from dimofs.zoo import checkpoints
from tests.support.tiny import tiny_model, use_tiny


def clips(folder: Path, count: int = 2):
    return synthetic_videos(folder / "truth", Synthetic(count, seed=HELD_OUT, length=6, height=64, width=64))


def test_noise_has_the_spectrum_of_photographs():
    """Amplitudes fall as 1 / frequency: an octave higher they are half as large."""
    noise = photographic_noise((128, 128), 0)
    assert noise.shape == (1, 3, 128, 128) and noise.dtype == torch.uint8
    assert not torch.equal(noise, photographic_noise((128, 128), 1)) and torch.equal(
        noise, photographic_noise((128, 128), 0)
    )
    amplitude = torch.fft.fft2(noise[0, 0] / 255).abs()
    bands = [amplitude[0, low : 2 * low].mean() for low in (4, 8, 16)]
    assert all(0.35 < high / low < 0.7 for low, high in pairwise(bands))


def test_pictures_are_cut_to_the_frame():
    """A picture twice as wide as it is high loses its left and right quarter."""
    picture = torch.zeros(1, 3, 10, 20, dtype=torch.uint8)
    picture[..., 5:15] = 200
    assert tables._fitted(picture, (10, 10)).eq(200).all()
    assert tables._fitted(picture, (40, 30)).shape == (1, 3, 40, 30)


def test_labels_of_chosen_frames(tmp_path):
    """Frame 4 alone keeps its people and their joints, renumbered."""
    truth = clips(tmp_path)[0].truth
    kept = tables._only(truth, [1, 4])
    assert kept.frames == [truth.frames[1], truth.frames[4]]
    for new, old in enumerate((1, 4)):
        np.testing.assert_array_equal(kept.track[kept.frame == new], truth.track[truth.frame == old])
        joints = np.isin(truth.person, np.flatnonzero(truth.frame == old))
        there = np.isin(kept.person, np.flatnonzero(kept.frame == new))
        np.testing.assert_array_equal(kept.xy[there], truth.xy[joints])


def test_an_offset_net_that_looks_at_nothing_is_found_out(tmp_path):
    """Without motion parts the true B at delta 0 is A, and B with nobody gives no person that is A's."""
    model = tiny_model().eval()
    found = control(model, clips(tmp_path), [0, 2], tmp_path, ControlOptions(every=3))
    # Frames 0 and 3 of 6 in each of two clips; with delta 3 only frame 0.
    assert (
        found.frames == 4
        and control(model, clips(tmp_path), [3], tmp_path, ControlOptions(every=3)).frames == 2
        and set(found.pck) == set(found.ap) == set(KINDS)
    )
    assert found.pck["same"] == [found.pck["same"][0]] * 2
    assert found.pck["true"][0] == found.pck["same"][0] == found.pck["copied"][0]
    assert found.pck["true"] == found.pck["copied"]
    assert len(list(lines(found, "tiny"))) == 3 + 2 * len(KINDS)
    again = control(model, clips(tmp_path), [0, 2], tmp_path, ControlOptions(every=3))
    assert again == found


def test_the_command_writes_table_and_plot(tmp_path, capsys, monkeypatch):
    from dimofs.eval.tables import bench

    use_tiny(monkeypatch)
    monkeypatch.setattr(bench, "CLIPS", 2)
    checkpoints.save(tiny_model(), tmp_path / "tiny", {})
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.new("RGB", (50, 40), (90, 120, 60)).save(pictures / "meadow.png")
    posetrack.main(
        figure=6, control=True, nobody=str(pictures), every=20, deltas=[1], weights=[str(tmp_path / "tiny")],
        plot=tmp_path / "control.png", json=tmp_path / "control.json",
    )  # fmt: skip
    assert "nobody: 1 pictures" in capsys.readouterr().out and (tmp_path / "control.png").stat().st_size > 1000
    content = json.loads((tmp_path / "control.json").read_text())
    (found,) = content["control"].values()
    assert found["deltas"] == [1] and list(found["pck"]) == list(KINDS)


def test_what_cannot_be_controlled_is_said(tmp_path):
    with pytest.raises(InputError, match="--control: needs two videos or more"):
        control(tiny_model(), clips(tmp_path, 1), [1], tmp_path, ControlOptions())
    with pytest.raises(InputError, match="--deltas -9: no video is that long"):
        control(tiny_model(), clips(tmp_path), [1, -9], tmp_path, ControlOptions())
    with pytest.raises(InputError, match="no video and no image there"):
        control(tiny_model(), clips(tmp_path), [1], tmp_path, ControlOptions(pictures=str(tmp_path / "truth")))
    with pytest.raises(InputError, match="--control needs --figure"):
        posetrack.main(control=True)
