"""eval.motion: ridge, AUROC, drift and preferences by hand; the command on synthetic clips and with bad input."""

import json
from base64 import b64encode
from pathlib import Path

import numpy as np
import pytest
import torch

from dimofs.cli import InputError, arguments
from dimofs.datasets.people import People
from dimofs.eval import motion as command
from dimofs.eval.flow import errors, maps, preferences, tracks
from dimofs.eval.flow.auroc import auroc, by_clip, interval, resampled_means
from dimofs.eval.flow.estimators import channels_read, mean_dimof, untrained_matching
from dimofs.eval.flow.figure import Sheet, panels
from dimofs.eval.flow.fitting import fit, on_cells, read_all, within_frame, write_all
from dimofs.eval.flow.methods import View, read_out
from dimofs.eval.flow.probes import Clip, masks_of, probes, synthetic_clips
from dimofs.eval.flow.ridge import cross_validated, least_distance, ridge
from dimofs.motion import Motion
from dimofs.zoo import checkpoints
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.pyramid_matching import POOLS
from dimofs.zoo.presets import PRESETS
from tests.support.clips import write_video
from tests.support.tiny import tiny, tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")

NAN = float("nan")


# --- regression ---


def test_ridge_by_hand():
    """x = 1, 2, y = 3, 5: sum xy = 13, sum x^2 = 5; a penalty of 0.3 of it makes 13 / 6.5. Weights 1 and 0: 3 / 1."""
    x, y = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [5.0]])
    assert ridge(x, y, 0.0).item() == pytest.approx(13 / 5)
    assert ridge(x, y, 0.3).item() == pytest.approx(13 / 6.5)
    assert ridge(x, y, 0.0, torch.tensor([1.0, 0.0])).item() == pytest.approx(3)


def test_ridge_of_two_inputs_does_not_depend_on_their_scale():
    """Orthogonal inputs: each weight is its own sum xy / (1.5 sum x^2). An input that is always 0 gets 0."""
    x = torch.tensor([[1.0, 0, 0], [0, 10, 0], [2, 0, 0]])
    y = torch.tensor([[2.0, 0], [0, 20], [4, 0]])
    expected = torch.tensor([[2 / 1.5, 0, 0], [0, 2 / 1.5, 0]])
    torch.testing.assert_close(ridge(x, y, 0.5), expected)


def test_least_distance_heeds_an_outlier_less():
    """y = 2 x but for one of eleven: the mean of squares is 4.7, the mean distance is least near 2."""
    x = torch.ones(11, 1)
    y = torch.full((11, 1), 2.0)
    y[0] = 32
    assert ridge(x, y, 0.0).item() == pytest.approx(52 / 11)
    assert least_distance(x, y, 0.0).item() == pytest.approx(2, abs=0.25)


def test_cross_validation_shrinks_what_does_not_generalize():
    random = torch.Generator().manual_seed(0)
    x, noise = torch.randn(60, 20, generator=random), torch.randn(60, 2, generator=random)
    groups = torch.arange(60) // 3
    assert cross_validated(x, noise, groups, (1e-3, 10.0)) == 10.0
    assert cross_validated(x, 5 * x[:, :2], groups, (1e-3, 10.0)) == 1e-3


# --- AUROC and intervals ---


def test_auroc_by_hand():
    """Pairs of (right, other): 3 > 1, 3 > 2, 2 > 1 and the tie 2 = 2 of four: 3.5 / 4."""
    assert auroc(np.array([3.0, 2, 1, 2]), np.array([True, True, False, False])) == 3.5 / 4
    assert auroc(np.array([1.0, 1]), np.array([True, False])) == 0.5
    assert np.isnan(auroc(np.array([1.0, 2]), np.array([True, True])))
    random = np.random.default_rng(0)
    scores, right = random.integers(0, 9, 200).astype(float), random.random(200) < 0.3
    wins = np.sign(scores[right][:, None] - scores[~right]) / 2 + 0.5
    assert auroc(scores, right) == pytest.approx(wins.mean())


def test_intervals_are_over_clips():
    """Two clips of means 1 and 3: a draw takes both, or one twice, with chances 1/2, 1/4, 1/4."""
    sums, counts = by_clip(["a", "b", "a"], np.array([[1.0], [3.0], [NAN]]))
    assert sums.tolist() == [[1], [3]] and counts.tolist() == [[1], [1]]
    draws = resampled_means(sums, counts)[:, 0]
    assert set(draws) == {1, 2, 3} and np.mean(draws == 2) == pytest.approx(0.5, abs=0.05)
    assert interval(draws) == (1, 3) and np.isnan(interval(np.array([NAN]))).all()


# --- probes ---


def still(places: list[list[float]], length: int = 4) -> Clip:
    """A clip of one person whose first joint stands at places[t], in black frames of 20 x 30."""

    def people(number: int) -> People:
        keypoints, labelled = torch.zeros(1, 19, 2), torch.zeros(1, 19, dtype=torch.bool)
        keypoints[0, 0] = torch.tensor(places[number])
        labelled[0, 0] = places[number][0] >= 0
        return People(
            boxes=torch.tensor([[0.0, 0, 9, 9]]), keypoints=keypoints, labelled=labelled, ignore=torch.zeros(0, 4)
        )

    return Clip(name="c/x", frames=np.zeros((length, 20, 30, 3), np.uint8), people=people)


def test_probes_by_hand():
    clip = still([[1, 2], [4, 6], [-1, 0], [2, 2]])
    first, second = probes(clip, (1, 2), 9)
    assert first.moves[1].tolist() == [[3, 4]] and first.moves[2].isnan().all(), "not labelled in the third frame"
    assert second.number == 1 and second.moves[1].isnan().all() and second.moves[2].tolist() == [[-2, -4]]
    assert list(probes(clip, (4,), 9)) == [], "one frame too short"
    assert [probe.number for probe in probes(clip, (1,), 1)] == [0]


def test_synthetic_probes_are_exact():
    (clip,) = synthetic_clips([3], 12)
    for probe in probes(clip, (2,), 2):
        later = clip.people(probe.number + 2)
        both = probe.moves[2].isfinite().all(1)
        assert torch.equal((probe.points + probe.moves[2])[both], later.keypoints[probe.owner, probe.joints][both])


def test_inputs_by_channel():
    """P2 has two displacements (1, 2) and (3, 6), the rest of the DiMoFs one; then the matching fields."""
    read = torch.tensor([1.0, 2, 3, 6, 9, 9, *range(10, 10 + 2 * len(POOLS))])
    assert mean_dimof(read, 2).tolist() == [4, 2] and untrained_matching(read).tolist() == [11, 10]
    assert channels_read(len(read), "dimofs").tolist() == [True] * 6 + [False] * 2 * len(POOLS)
    assert channels_read(len(read), "matching").sum() == 2 * len(POOLS) and channels_read(len(read), "both").all()
    readout = read_out(torch.arange(2 * len(read)).reshape(2, -1).float())
    assert (
        readout.dimofs.shape == (2, 6)
        and readout.matching is not None
        and readout.matching.shape == (2, 2 * len(POOLS))
    )


# --- tracks ---


def test_drift_by_hand():
    """The point moves by (1, 0) a frame, the estimate by (1, 1): after 3 frames it is 3 pixels away."""
    clip = still([[1, 2], [2, 2], [3, 2], [4, 2]])
    frames = [View(frame, None) for frame in clip.frames]  # type: ignore[arg-type]
    diagonal = Motion(torch.ones(2, 1, 1), 20.0, 30.0)
    found = tracks.drift(clip, frames, {"a": lambda *_: diagonal}, (2, 3, 9))
    assert {number: errors.tolist() for number, errors in found.items()} == {2: [[2]], 3: [[3]]}
    assert tracks.drift(still([[-1, 0]] * 4), frames, {}, (2,)) == {}, "nothing is labelled"


# --- maps ---


def test_cells_of_a_padded_input():
    """A frame of 4 x 8 pixels, resized to 8 x 16 in an input of 16 x 16: cells of 4 x 4 in the input."""

    class Seen:
        class a:
            class geometry:
                frame, resized, padded = (4, 8), (8, 16), (16, 16)

    mask = torch.zeros(4, 8, dtype=torch.bool)
    mask[1, 7] = True
    assert within_frame(Seen, (4, 4)).tolist() == [[True] * 4, [True] * 4, [False] * 4, [False] * 4]  # type: ignore[arg-type]
    assert on_cells(mask, Seen, (4, 4)).nonzero().tolist() == [[0, 3]]  # type: ignore[arg-type]


def test_channel_lengths_by_hand():
    """Lengths 0, 0, 0, 2 have the root mean square 1, whatever the unit of the level."""
    dimofs = [torch.zeros(1, 2, 2, 2) for _ in range(4)]
    for level in dimofs[:2]:
        level[0, 0, 1, 1] = 2
    assert maps.channel_lengths(dimofs).tolist() == [[0, 0], [0, 4]]


def test_ransac_finds_a_camera():
    pytest.importorskip("cv2")
    y, x = torch.meshgrid(torch.arange(12.0), torch.arange(16.0), indexing="ij")
    flow = torch.stack((2 + 0.1 * x, 1 - 0.1 * y))
    moving = flow.clone()
    moving[:, 3:7, 3:8] += 20
    assert (maps.ransac_affine(moving) - flow).abs().max() < 0.05


def test_masks_that_are_missing(tmp_path):
    with pytest.raises(InputError, match=r"has no wave/x\.mat; give the folder mask/"):
        masks_of(tmp_path, "wave/x")


# --- preferences ---


@pytest.mark.parametrize("different", [True, False])
def test_joints_that_prefer_channels(different):
    """Joint j moves as channel j, + noise, of 40; or all joints move as the same channels."""
    random = torch.Generator().manual_seed(0)
    moves = torch.randn(2000, 2, generator=random)
    joints, clips = torch.arange(2000) % 4, torch.arange(2000) // 50
    channels = torch.randn(2000, 40, 2, generator=random)
    for k in range(10):
        rows = joints == k % 4 if different else torch.ones(2000, dtype=torch.bool)
        channels[rows, k] += 3 * moves[rows]
    result = preferences.compare(channels, moves, joints, clips)
    assert result["chance"] == 2.5 and (result["interval"][0] > 0.5) == different
    if not different:
        assert result["same_joint"] == result["other_joint"] == 10
    assert ("no decomposition" in preferences.lines(result)[-1]) != different


# --- the command ---


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A folder with a tiny model and its read-outs, fitted to two synthetic clips."""
    pytest.importorskip("cv2")
    patch = pytest.MonkeyPatch()
    patch.setitem(PRESETS, "tiny", tiny)
    folder = tmp_path_factory.mktemp("model")
    checkpoints.save(tiny_model().eval(), folder, {})
    main("--fit", "--carrier", "both", "--weights", str(folder), "--clips", "2", "--starts", "1", "--deltas", "2", "4")
    yield folder
    patch.undo()


def main(*argv: str) -> None:
    command.main(**arguments(command.main, argv))


def test_fit_writes_what_motion_uses(fitted):
    detector = checkpoints.load_as(PoseDetector, fitted)
    motion, masks = read_all(fitted, detector)
    assert set(motion) == {f"{net} {name}" for net in ("net", "random") for name in ("dimofs", "matching", "both")}
    assert (
        not masks and detector.readout is not None and torch.equal(detector.readout.dimofs, motion["net both"][:, :64])
    )
    assert not motion["net dimofs"][:, 64:].any() and not motion["random matching"][:, :64].any()


def test_errors_table(fitted, tmp_path, capsys):
    main(
        "--weights",
        str(fitted),
        "--clips",
        "2",
        "--starts",
        "1",
        "--deltas",
        "2",
        "4",
        "--json",
        str(tmp_path / "x.json"),
    )
    printed = capsys.readouterr().out
    content = json.loads((tmp_path / "x.json").read_text())
    groups = content["errors"]
    assert set(groups) == {"delta 2", "delta 4", *errors.SPEEDS, "all"} and content["source"] == "synthetic clips"
    rows = groups["all"]["rows"]
    assert list(rows) == list(errors.ROWS) and rows["farneback"]["ratio"] == 1
    assert (
        rows["zero"]["error"] > 0
        and rows["zero"]["interval"][0] <= rows["zero"]["error"] <= rows["zero"]["interval"][1]
    )
    assert "read-out of both" in printed and "ratio to Farneback" in printed


def test_rows_are_what_the_detector_gives(fitted):
    """The row of both carriers is `detector.motion` at the joints."""
    from dimofs.eval.flow.estimators import estimates, random_offset_net, see

    detector = checkpoints.load_as(PoseDetector, fitted)
    motion, _ = read_all(fitted, detector)
    (clip,) = synthetic_clips([5], 8)
    (probe,) = probes(clip, (4,), 1)
    seen = see(detector, probe)
    found = estimates(detector, random_offset_net(8), motion, probe, seen)["net both"][0]
    there = detector.motion(seen.a, seen.b)[0].at(probe.points)
    torch.testing.assert_close(found, there, rtol=1e-3, atol=1e-3)
    assert there.abs().max() > 0.5


def test_drift_and_preferences_tables(fitted, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(preferences, "LEAST", 2)
    page = tmp_path / "page.html"
    main("--track", "--weights", str(fitted), "--clips", "1", "--html", str(page))
    shown = page.read_text()
    assert "data:image/svg+xml" in shown and "<td>DIS</td>" in shown and "after 30 frames" in shown
    main("--channels-by-joint", "--weights", str(fitted), "--clips", "4", "--starts", "1", "--deltas", "2")
    printed = capsys.readouterr().out
    assert "after 30 frames" in printed and "both, random offset net" in printed
    assert "of the 10 channels (of 32)" in printed


def test_figure(fitted, tmp_path, capsys):
    (clip,) = synthetic_clips([3], 6)
    video = write_video(tmp_path / "x.mp4", list(clip.frames))
    out, film = tmp_path / "sheet.png", tmp_path / "sheet.mp4"
    main(
        "--figure", "3", "--video", str(video), "--weights", str(fitted), "--level", "3", "--deltas", "2",
        "--rows", "2", "--out", str(out), "--out-video", str(film), "--html", str(tmp_path / "page.html"),
    )  # fmt: skip
    assert b64encode(out.read_bytes()).decode() in (tmp_path / "page.html").read_text().replace("\n", "")
    from dimofs.images import read_image
    from dimofs.reader import read_clip

    picture = read_image(out)
    assert picture.shape == (2 * (180 + 18) + 4, 8 * 240 + 7 * 4, 3)
    assert len(list(read_clip(film))) == 4 and "4 pairs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "fault"),
    [
        (["--localize"], "--localize needs --masks"),
        (["--fit", "--track"], "--fit and --track exclude each other"),
        (["--figure", "3"], "--figure needs --video"),
        (["--video", "x.mp4"], "--video needs --figure"),
        (["--fit", "--json", "x.json"], "--json and --fit exclude each other"),
        (["--html", "/dev/null/x.html"], "/dev/null is not a folder"),
        (["--figure", "3", "--video", "absent.mp4"], "absent.mp4"),
        (["--figure", "3", "--video", "absent.mp4", "--out", "x.jpg"], "--out x.jpg: the picture is a PNG"),
        (["--jhmdb", "x"], "--jhmdb needs --jhmdb-labels beside it"),
        (["--jhmdb", "x", "--jhmdb-labels", "absent"], "holds no lists"),
        (["--level", "6"], "--level 6: must be at least 2 and at most 5"),
    ],
)
def test_bad_options(fitted, argv, fault):
    with pytest.raises(InputError, match=fault):
        main("--weights", str(fitted), *argv)


def test_short_and_wrong_videos(fitted, tmp_path):
    video = write_video(tmp_path / "x.mp4", [np.zeros((48, 64, 3), np.uint8)])
    with pytest.raises(InputError, match="has 1 frames; pairs 5 apart need at least 6"):
        main(
            "--figure",
            "3",
            "--video",
            str(video),
            "--deltas",
            "5",
            "--weights",
            str(fitted),
            "--out",
            str(tmp_path / "s.png"),
        )
    video = write_video(tmp_path / "x.mp4", [np.zeros((48, 64, 3), np.uint8)] * 3)
    with pytest.raises(InputError, match="--channels 9: P2 has channels 0 to 7"):
        main(
            "--figure", "3", "--video", str(video), "--deltas", "1", "--channels", "9",
            "--weights", str(fitted), "--out", str(tmp_path / "s.png"),
        )  # fmt: skip
    assert not (tmp_path / "s.png").exists()


def test_the_only_channel_is_shown():
    """A net that moves all channels together has one field a level."""
    from dimofs.eval.tables.aligning import untrained

    detector, frame = untrained(tiny_model().eval(), "pixel"), np.zeros((64, 64, 3), np.uint8)
    assert "DiMoFs of P3" in panels(detector, frame, frame, Sheet(level=3))
    with pytest.raises(InputError, match="--channels 1: P2 has one field for all channels"):
        panels(detector, frame, frame, Sheet(channels=[1]))


def test_readouts_that_are_missing_or_stale(fitted, tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS, "tiny", tiny)
    checkpoints.save(tiny_model(1), tmp_path / "m", {})
    with pytest.raises(InputError, match=r"make it with python -m eval\.motion --fit"):
        main("--weights", str(tmp_path / "m"), "--clips", "1")
    name = "motion_controls.safetensors"
    (tmp_path / "m" / name).write_bytes((fitted / name).read_bytes())
    with pytest.raises(InputError, match="fitted to other weights"):
        main("--weights", str(tmp_path / "m"), "--clips", "1")


def test_masks_by_a_fit(fitted, tmp_path, monkeypatch):
    """Masks are read from clips that have them; the squares that move here are found again."""
    random = np.random.default_rng(0)
    ground = random.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    frames = np.stack([ground] * 6)
    masks = np.zeros((6, 64, 64), bool)
    for t in range(6):
        frames[t, 20:44, 8 + 5 * t : 32 + 5 * t] = 255 - ground[20:44, 8:32]
        masks[t, 20:44, 8 + 5 * t : 32 + 5 * t] = True
    clip = still([[10.0 + 5 * t, 30] for t in range(6)], 6)
    clip = Clip(name="c/x", frames=frames, people=clip.people)
    monkeypatch.setattr("dimofs.eval.flow.fitting.masks_of", lambda *_: masks)
    monkeypatch.setattr("dimofs.eval.flow.maps.masks_of", lambda *_: masks)
    detector = checkpoints.load_as(PoseDetector, fitted)
    motion, shapes = fit(detector, [clip] * 4, (1, 2), 2, Path("masks"))
    write_all(tmp_path, detector, motion, shapes, "squares")
    assert set(read_all(tmp_path, detector)[1]) == {"net", "random", "difference", "single"}
    result = maps.measure(detector, motion, shapes, [clip], Path("masks"), (1, 2), 2)
    rows = result["all"]["rows"]
    assert rows["frames"]["auroc"] > 0.8 and rows["difference read-out"]["auroc"] > 0.8
    assert "moving camera" not in result and "AUROC" in maps.lines(result)[0]
    with pytest.raises(InputError, match="nobody moves by more than 2"):
        maps.measure(detector, motion, shapes, [still([[9, 9]] * 4)], Path("masks"), (1,), 1)
