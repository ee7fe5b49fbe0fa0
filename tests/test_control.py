"""The control: Frame B of another clip, or with nobody."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dimofs.cli import InputError
from dimofs.datasets.people import People
from dimofs.datasets.sequences import synthetic_videos
from dimofs.datasets.synthetic.clips import HELD_OUT, Synthetic
from dimofs.eval import posetrack
from dimofs.eval.tables import control as tables
from dimofs.eval.tables.aligning import Distances, untrained
from dimofs.eval.tables.control import KINDS, Control, ControlOptions, control, lines, photographic_noise
from dimofs.eval.tables.nets import net_lines
from dimofs.zoo import checkpoints
from dimofs.zoo.detection.features import Features, Geometry
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
    assert len(list(lines(found, "tiny"))) == 3 + 2 * len(KINDS) + 3
    assert found.motion == pytest.approx(found.still) and found.still[0] == 0 < found.still[1], (
        "a net of zeros stands still"
    )
    assert found.parameters == sum(p.numel() for n, p in model.named_parameters() if n.startswith(("offset", "deform")))
    assert found.milliseconds > 0
    again = control(model, clips(tmp_path), [0, 2], tmp_path, ControlOptions(every=3))
    assert replace(again, milliseconds=0.0) == replace(found, milliseconds=0.0)


def test_distances_by_hand():
    """Everything is said to move by (8, 0) pixels, a joint moves by (8, 6) and one by (0, 0): off by 6 and 8."""
    geometry = Geometry(frame=(32, 32), resized=(32, 32), padded=(32, 32))
    a = Features([torch.zeros(1, 1, 8, 8)], geometry)
    dimofs = [torch.tensor([0.0, 2]).view(1, 2, 1, 1).expand(2, 2, 8, 8)]

    def people(*places: tuple[float, float]) -> People:
        keypoints = torch.tensor([places]).float()
        labelled = torch.ones(1, len(places), dtype=torch.bool)
        return People(boxes=torch.zeros(1, 4), keypoints=keypoints, labelled=labelled, ignore=torch.zeros(0, 4))

    here, there = people((8, 8), (20, 20), (1, 1)), people((16, 14), (20, 20), (9, 9))
    there.labelled[0, 2] = False
    distances = Distances()
    distances.add(dimofs, a, [here, People.join([here, here])], [there, there])
    assert distances.mean() == (7, 5)
    assert np.isnan(Distances().mean()).all() and np.isnan(Distances().milliseconds())


def test_untrained_motion_parts():
    """They replace the offset net alone, and a random one is the same each time."""
    old, image = tiny_model().eval(), torch.rand(2, 3, 64, 64)
    kept = {name: t.clone() for name, t in old.state_dict().items()}
    new, again = (untrained(tiny_model().eval(), "random") for _ in range(2))
    for name, tensor in new.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
        assert name.startswith("offset_net") or torch.equal(tensor, kept[name]), name
    with torch.inference_mode():
        features = new.features(image)
        assert new.dimofs(features[:1], features[1:])[0].abs().max() > 0
    assert untrained(old, "softmax").deformable.border


def test_the_table_of_nets_by_hand():
    rows = {"same": 80.0, "true": 70.0, "copied": 50.0, "other": 15.5, "nobody": 12.0}
    one = Control(
        deltas=[1, -10], frames=9, nobody="noise", pck={kind: [1.0, value] for kind, value in rows.items()}, ap={},
        motion=[1.0, 6.0], still=[2.0, 12.0], parameters=442_781, milliseconds=9.96,
    )  # fmt: skip
    head, _, columns, line, other = net_lines({"mine": one, "still": replace(one, still=[0.0, 0.0])})
    assert "at delta -10" in head and columns.split("  ")[-1].strip() == "ms"
    cells = ["80.0", "70.0", "15.5", "12.0", "50.0", "54.5", "58.0", "6.00", "0.50", "442.8", "10.0"]
    assert line.split() == ["mine", *cells] and other.split()[9] == "-"


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
        variants=["random"], plot=tmp_path / "control.png", json=tmp_path / "control.json",
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert "nobody: 1 pictures" in printed and (tmp_path / "control0.png").stat().st_size > 1000
    assert "Offset nets at delta 1" in printed and printed.splitlines()[-1].startswith("random, untrained ")
    content = json.loads((tmp_path / "control.json").read_text())
    found, control = content["control"].values()
    assert control["pck"]["same"] == found["pck"]["same"]
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
    with pytest.raises(InputError, match="--variants needs --control"):
        posetrack.main(figure=6, variants=["random"])
    with pytest.raises(InputError, match="--variants"):
        posetrack.main(figure=6, control=True, variants=["none"])
