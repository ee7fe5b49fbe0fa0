"""Recognition of clips: subjects, measures at joints, clusters, classifiers, and the stages on tiny clips."""

import shlex
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dimofs.cli import InputError, arguments
from dimofs.datasets.labelled_clips import ClipReader, LabelledClip, class_folders
from dimofs.eval import diving48
from dimofs.eval.tables.table4 import chosen_peers, chosen_rows
from dimofs.files import read_json
from dimofs.video import Frame
from dimofs.zoo.detection.box_detector import Boxes
from dimofs.zoo.detection.features import Features
from dimofs.zoo.detection.offsets import OffsetNet
from dimofs.zoo.recognition import classifier, clip_options, clip_pass
from dimofs.zoo.recognition import clusters as clustering
from dimofs.zoo.recognition import subject as subject_module
from dimofs.zoo.recognition.classifier import accuracies, fit_classifier, histograms, summed
from dimofs.zoo.recognition.clip_pass import MOTIONS, STREAMS, ClipPass
from dimofs.zoo.recognition.clusters import fit_clusters, kmeans, nearest, principal_components
from dimofs.zoo.recognition.features import ClipMeasures, OpenClip
from dimofs.zoo.recognition.pairs import Pairing, alone, halved
from dimofs.zoo.recognition.pipeline import fit_pairs, survey
from dimofs.zoo.recognition.subject import Subject, SubjectPath, at_points, best_path, nobody, offsets_at
from tests.support.clips import write_video
from tests.support.tiny import tiny_action

DELTA = 2


def noise(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed))


def test_points_read_the_cells_around_them():
    columns = torch.arange(4.0).expand(1, 1, 2, 4)
    points = torch.tensor([[[6.0, 4.0], [8.0, 4.0], [99.0, 4.0]]])
    # Cells of 4 pixels: 6 is the centre of cell 1, 8 lies between cells 1 and 2, 99 beyond the last cell.
    assert at_points([columns], points, [1 / 4])[0, :, 0].tolist() == [1.0, 1.5, 3.0]


@pytest.mark.parametrize("dilation", [1, 3])
def test_offsets_at_points_are_those_of_the_whole_maps(dilation):
    torch.manual_seed(0)
    net = OffsetNet(3, zero=False, dilation=dilation)
    differences = [torch.randn(2, 3, 16 >> level, 24 >> level) for level in range(4)]
    points = torch.rand(2, 5, 2) * torch.tensor([116.0, 84.0]) - 10
    whole = net(differences, [torch.zeros_like(x) for x in differences])
    torch.testing.assert_close(offsets_at(net, differences, points), at_points(whole, points), atol=1e-5, rtol=1e-5)


def test_the_subject_is_who_stays_rather_than_who_is_surest_once():
    here, there = [0.0, 0, 10, 20], [50.0, 0, 60, 20]
    people = [
        Boxes(torch.tensor([here, there]), torch.tensor([0.9, 0.5])),
        Boxes(torch.zeros(0, 4), torch.zeros(0)),
        Boxes(torch.tensor([there, here]), torch.tensor([0.95, 0.8])),
        Boxes(torch.tensor([here]), torch.tensor([0.7])),
    ]
    assert best_path(people) == [(0, 0), (2, 1), (3, 0)]
    assert best_path(people[1:2]) == []
    # Frame by frame, what is settled after the last one is the same.
    path = SubjectPath()
    for number, found in enumerate(people):
        path.add([number], [found])
        assert len(path.settled(False)) == 0
    assert path.settled(True).boxes.tolist() == [here, here, here] and len(path.settled(True)) == 0


def test_what_is_settled_stays(monkeypatch):
    monkeypatch.setattr(subject_module, "LAG", 1)
    here, there = [0.0, 0, 10, 20], [50.0, 0, 60, 20]
    both = torch.tensor([here, there])
    path = SubjectPath()
    path.add([0, 1], [Boxes(both, torch.tensor([0.9, 0.5]))] * 2)
    first = path.settled(False)
    assert first.numbers.tolist() == [0] and first.boxes.tolist() == [here] and path.numbers == [1]
    # Alone, the second frame and the next ones would speak for the other person.
    path.add([2], [Boxes(both, torch.tensor([0.5, 0.99]))])
    rest = path.settled(True)
    assert rest.numbers.tolist() == [1, 2] and rest.boxes.tolist() == [here, here]
    torch.testing.assert_close(rest.scores, torch.tensor([0.9, 0.5]))


def test_joints_count_from_the_corners_of_the_box():
    subject = Subject(
        numbers=torch.tensor([0]),
        boxes=torch.tensor([[10.0, 20, 30, 60]]),
        scores=torch.ones(1),
        joints=torch.tensor([[[10.0, 20], [30, 60], [15, 70]]]),
        confidences=torch.ones(1, 3),
        to_frame=torch.ones(2),
    )
    assert subject.poses().tolist() == [[0, 0, 1, 1, 0.25, 1.25]]
    assert nobody(3).poses().shape == (0, 6)


def test_components_of_points_on_a_line():
    # Joint 0 lies on the diagonal, joint 1 on the second axis.
    x = torch.tensor([[[1.0, 1], [5, 0]], [[3, 3], [5, 2]]])
    found = principal_components(x, 1)
    half = 0.5**0.5
    torch.testing.assert_close(found.axes[:, :, 0], torch.tensor([[half, half], [0, 1]]))
    torch.testing.assert_close(found(x)[:, :, 0], torch.tensor([[-2 * half, -1], [2 * half, 1]]))
    # There are no more components than numbers.
    assert principal_components(x, 15)(x).shape == (2, 2, 2)


def test_components_are_uncorrelated_and_ordered():
    x = noise(600).view(50, 2, 6) * torch.arange(1.0, 7)
    reduced = principal_components(x, 4)(x)
    for joint in reduced.unbind(1):
        covariance = torch.cov(joint.T, correction=0)
        assert (covariance.diag().diff() < 0).all()
        torch.testing.assert_close(covariance, covariance.diag().diag(), atol=1e-4, rtol=0)


def test_clusters_of_two_groups():
    x = torch.tensor([[0.0], [1], [2], [10], [11], [12]])
    for seed in range(3):
        assert sorted(kmeans(x, 2, seed=seed)[:, 0].tolist()) == [1, 11]
    # A tie goes to the first centre.
    assert nearest(torch.tensor([[6.0], [9.0]]), torch.tensor([[1.0], [11.0]])).tolist() == [0, 1]


def test_a_cluster_without_rows_starts_again_at_the_farthest_row():
    rows = np.array([[0.0], [0], [1], [20]], np.float32)
    # The third centre is nearest to no row; the row that is farthest from the others is 20.
    found = clustering._refined(rows, np.array([[0.0], [1], [-500]], np.float32), 5)
    assert sorted(found[:, 0].tolist()) == [0, 1, 20]


def test_there_are_no_more_clusters_than_distinct_rows():
    x = torch.tensor([[0.0, 0], [0, 0], [1, 0], [5, 5]])
    assert len(kmeans(x, 10, seed=0)) == 3
    assert len(kmeans(x[:2], 10, seed=0)) == 1
    for bad in (x[:0], x * torch.nan):
        with pytest.raises(ValueError, match="cannot cluster"):
            kmeans(bad, 2, seed=0)


def test_every_centre_is_the_mean_of_its_rows_and_seeds_decide():
    x = noise(400).view(200, 2)
    found = kmeans(x, 7, seed=3)
    ids = nearest(x, found)
    means = torch.stack([x[ids == cluster].mean(0) for cluster in range(7)])
    torch.testing.assert_close(found, means, atol=1e-3, rtol=0)
    assert torch.equal(found, kmeans(x, 7, seed=3)) and not torch.equal(found, kmeans(x, 7, seed=4))

    def spread(centres: torch.Tensor) -> float:
        return float(torch.cdist(x, centres).amin(1).square().sum())

    single = [spread(kmeans(x, 7, seed=seed, restarts=1)) for seed in range(8)]
    several = [spread(kmeans(x, 7, seed=seed, restarts=6)) for seed in range(8)]
    assert sum(several) < sum(single)


def test_poses_and_motions_count_alike():
    poses = torch.tensor([[0.0, 0], [0, 0], [0.01, 0], [0.01, 0]])
    motions = torch.tensor([0.0, 1000, 0, 1000])[:, None, None]
    found = fit_clusters(poses, motions, count=4, components=1)
    assert sorted(found.ids(poses, motions).tolist()) == [0, 1, 2, 3]
    assert len(fit_clusters(poses, None, count=4)) == 2


def test_what_a_clip_sums_up_to():
    clips = torch.tensor([0, 0, 2, 0, 0])
    found = histograms(torch.tensor([1, 1, 0, 2, 1]), clips, 3, 4)
    assert found.tolist() == [[0, 0.75, 0.25, 0], [0, 0, 0, 0], [1, 0, 0, 0]]
    assert summed(torch.tensor([[1.0], [2], [5], [3], [4]]), clips, 3).tolist() == [[2.5], [0], [5]]


def test_accuracy_over_clips_and_over_classes():
    scores = torch.tensor([[0.9, 0.1, 0], [0.2, 0.8, 0], [0.6, 0.4, 0], [0.1, 0.9, 0]])
    top1, classes = accuracies(scores, torch.tensor([0, 0, 0, 1]), 3)
    # Two of three and one of one; the third class has no clip.
    assert top1 == 75 and classes == pytest.approx(100 * (2 / 3 + 1) / 2)


@pytest.mark.parametrize("hidden", [0, 16])
def test_a_classifier_learns_what_can_be_told(hidden):
    labels = torch.arange(30) % 3
    x = torch.eye(5)[labels] + 0.1 * noise(150).view(30, 5)
    model = fit_classifier(x[:15], labels[:15], 3, hidden=hidden, seed=1)
    with torch.inference_mode():
        assert accuracies(model(x[15:]), labels[15:], 3)[0] == 100
    before = torch.get_rng_state()
    again = fit_classifier(x[:15], labels[:15], 3, hidden=hidden, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_pairs_of_a_clip():
    assert Pairing(every=5).numbers(16) == [0, 5, 10] and Pairing().numbers(7) == [0, 1] and Pairing().numbers(5) == []
    pairing = Pairing(every=3, delta=4)
    wanted = {b for a in pairing.numbers(20) for b in (a, a + 4)}
    assert wanted <= set(filter(pairing.reads, range(20))) and not pairing.reads(1) and not pairing.reads(2)


# --- on clips ---


def film(path: Path, length: int, seed: int) -> Path:
    """Smooth noise that drifts, 48 x 64 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)
    image = coarse.repeat(4, 0).repeat(4, 1)
    return write_video(path, [np.roll(image, 2 * step * (1 + seed % 2), 1) for step in range(length)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Six clips of two classes; of three to train on one each is too short and damaged."""
    root = tmp_path_factory.mktemp("clips")
    for seed in range(12):
        part, action = ("train", "test")[seed % 3 == 2], ("left", "right")[seed % 2]
        film(root / part / action / f"{seed}.mp4", 2 if seed == 0 else 6 + seed % 3, seed)
    (root / "train" / "left" / "broken.mp4").write_bytes(b"no video")
    return root


def model():
    torch.manual_seed(0)
    return tiny_action(["any"]).eval()


def measures(root: Path, cache: Path, every: int = 1) -> ClipMeasures:
    clips = class_folders(root).part("train")
    return ClipMeasures(model(), cache, pairing=Pairing(every=every, delta=DELTA), strangers=clips)


def named(root: Path, name: str) -> LabelledClip:
    return next(clip for clip in class_folders(root).clips if clip.name == name)


def test_measures_of_a_clip(folder, tmp_path):
    tool, clip = measures(folder, tmp_path), named(folder, "train/right/1")
    subject, fault = tool.subject(clip)
    assert fault is None and subject.numbers.tolist() == list(range(5))
    found = tool.measured(clip, [*MOTIONS, *STREAMS])
    shapes = {name: tuple(found[name]["x"].shape) for name in found if name != "subject"}
    joints = subject.joints.shape[1]
    wide = dict.fromkeys(("dimofs", "random", "stranger"), (5, joints, 4 * 16))
    assert {name: shapes[name] for name in wide} == wide
    assert shapes["difference"] == shapes["later"] == (5, joints, 32) and shapes["farneback"] == (5, joints, 8)
    assert shapes["appearance"] == (5, 8 * 9) and shapes["pooled dimofs"] == (5, 16 * 9)

    # The same by the definitions.
    a, b = features_of(tool, clip, range(5)), features_of(tool, clip, range(2, 7))
    differences = [x - y for x, y in zip(a.levels, b.levels, strict=True)]
    maps = {
        "dimofs": tool.model.dimofs(a, b),
        "random": tool.random_net(a.levels, b.levels),
        "difference": differences,
        "absolute": [x.abs() for x in differences],
    }
    for name, levels in maps.items():
        expected = at_points(levels, subject.joints)
        torch.testing.assert_close(found[name]["x"].float(), expected, atol=2e-3, rtol=2e-3)
    boxes = [box[None] for box in subject.boxes]
    pooled = tool.model.stream("dimofs", a, b, boxes)
    torch.testing.assert_close(found["pooled dimofs"]["x"].float(), pooled, atol=2e-3, rtol=2e-3)
    assert not torch.equal(found["dimofs"]["x"], found["stranger"]["x"])
    assert tool.other(clip).name != clip.name


def features_of(tool: ClipMeasures, clip: LabelledClip, numbers: Iterable[int]) -> Features:
    """Features of frames of a clip by one pass over all of them, rounded as those that measures are made of."""
    frames = np.stack([frame.pixels for frame in ClipReader(clip)])
    with torch.inference_mode():
        whole = halved(tool.model.features(torch.from_numpy(frames[list(numbers)]).permute(0, 3, 1, 2)))
    return replace(whole, levels=[level.float() for level in whole.levels])


def test_stored_features_serve(folder, tmp_path):
    clip, names = named(folder, "train/right/1"), ["dimofs", "pooled stranger", "farneback"]
    fresh = measures(folder, tmp_path / "fresh", every=2).measured(clip, names)
    tool = measures(folder, tmp_path / "stored", every=2)
    for one in (clip, tool.other(clip)):
        tool.stored.features(one.path, range(0, len(list(ClipReader(one))), 2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tool.model, "features", None)
        stored = tool.measured(clip, names)
    assert stored["subject"]["numbers"].tolist() == [0, 2, 4]
    for name in names:
        torch.testing.assert_close(stored[name]["x"], fresh[name]["x"], atol=1e-2, rtol=1e-2)


def broken(path: Path) -> LabelledClip:
    """A clip that ends in the middle."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = film(path.with_suffix(".avi"), 30, 3)
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    return LabelledClip(name=path.stem, path=path, label=0, part="train")


def test_a_fault_names_the_clip_that_has_it(folder, tmp_path):
    tool = measures(folder, tmp_path / "cache")
    first = broken(tmp_path / "first.avi")
    fault = tool.subject(first)[1]
    assert fault is not None and fault.kind == "damaged" and fault.used
    # The same bytes under other names are not measured again.
    other = broken(tmp_path / "moved/other.avi")
    expected = replace(fault, name="other", reason=fault.reason.replace(str(first.path), str(other.path)))
    assert tool.subject(other)[1] == expected != fault


def test_stored_features_hide_no_fault(folder, tmp_path):
    tool, clip = measures(folder, tmp_path / "cache"), broken(tmp_path / "x.avi")
    tool.stored.features(clip.path, range(len(list(ClipReader(clip)))))
    assert tool.whole(clip)
    fault = tool.subject(clip)[1]
    assert fault is not None and fault.kind == "damaged" and fault.used


def test_clips_pass_the_backbone_together(folder, tmp_path, monkeypatch):
    tool, clips = measures(folder, tmp_path / "together"), class_folders(folder).part("test")
    sizes, features = [], tool.model.features

    def counted(images, **options):
        sizes.append(len(images))
        return features(images, **options)

    monkeypatch.setattr(tool.model, "features", counted)
    together = list(tool.measured_all(clips, ["dimofs"]))
    total = sum(len(list(ClipReader(clip))) for clip in clips)
    assert sum(sizes) == total and set(sizes[:-1]) == {8}
    alone = measures(folder, tmp_path / "alone")
    for clip, found in zip(clips, together, strict=True):
        assert not isinstance(found, InputError)
        expected = alone.measured(clip, ["dimofs"])
        for name in ("subject", "dimofs"):
            for field, x in expected[name].items():
                torch.testing.assert_close(found[name][field], x, atol=2e-3, rtol=2e-3)


def test_known_clips_are_given_as_soon_as_they_are_read(folder, tmp_path, monkeypatch):
    tool, clips = measures(folder, tmp_path), class_folders(folder).part("test")
    for clip in clips[1:]:
        tool.measured(clip, ["dimofs"])
    opened = []
    monkeypatch.setattr(OpenClip, "_open", lambda one, before=OpenClip._open: (opened.append(one), before(one)))
    given = [len(opened) for _ in tool.measured_all(clips[1:], ["dimofs"])]
    assert given == [1, 2, 3]


def test_memory_holds_a_window_of_frames(monkeypatch):
    monkeypatch.setattr(clip_pass, "WINDOW", 4)
    monkeypatch.setattr(subject_module, "LAG", 6)
    tool, held = model(), []
    measuring = ClipPass(tool, Pairing(delta=DELTA), ["dimofs"])
    images = np.random.default_rng(0).integers(0, 256, (40, 48, 64, 3), np.uint8)
    frames = [Frame(image, number, number / 25, 0.04) for number, image in enumerate(images)]
    for frame in alone(tool, frames):
        measuring.take(frame)
        held.append(len(measuring.held))
    subject, found = measuring.end()
    # Frames that are not settled, a window but for the frame that ends it, and those on the way to its frames B.
    assert max(held) == 6 + 3 + DELTA and subject.numbers.tolist() == list(range(38))
    assert found["dimofs"].shape[0] == 38


def test_a_stopped_survey_goes_on_where_it_was(folder, tmp_path, monkeypatch):
    tool = measures(folder, tmp_path)
    clips, passes, features = class_folders(folder).part("train"), [], tool.model.features

    def stopped(images, **options):
        if len(passes) == 2:
            passes.append(0)
            raise KeyboardInterrupt
        passes.append(len(images))
        return features(images, **options)

    monkeypatch.setattr(tool.model, "features", stopped)
    with pytest.raises(KeyboardInterrupt):
        survey(tool, clips, ["dimofs"])
    part = survey(tool, clips, ["dimofs"])
    # Frames of clips that were finished before the third pass was stopped do not pass again.
    total = sum(len(list(ClipReader(clip))) for clip in clips)
    assert sum(passes[:2]) == 16 and total - 16 <= sum(passes[3:]) < total
    assert [(fault.name, fault.kind) for fault in part.faults] == [
        ("train/left/0", "short"), ("train/left/broken", "damaged"),
    ]  # fmt: skip
    assert part.empty == ["train/left/0", "train/left/broken"]
    known = len(passes)
    again = survey(tool, clips, ["dimofs"])
    assert len(passes) == known and again.faults == part.faults
    assert all(torch.equal(x.joints, y.joints) for x, y in zip(part.subjects, again.subjects, strict=True))

    pairs = fit_pairs(part)
    assert len(pairs.clips) == 7 and len(pairs.poses()) == sum(map(len, part.subjects))
    few = fit_pairs(part, most=5)
    assert sum(map(len, few.rows)) == 5 == len(few.measure(tool, "dimofs")) == len(few.actions())
    assert few.regions(torch.arange(5)).labels.tolist() == [1, 2, 3, 4, 5]


def evaluate(line: str) -> None:
    diving48.main(**arguments(diving48.main, shlex.split(line)))


@pytest.fixture
def tiny(monkeypatch):
    """The command with a tiny model in place of the one that measures."""
    monkeypatch.setattr(clip_options, "measuring_model", lambda *_: model())
    monkeypatch.setattr(classifier, "STEPS", 3)


def test_the_table_and_its_stages(folder, tmp_path, capsys, tiny):
    options = f"--clips {folder} --cache {tmp_path} --delta {DELTA} --steps 3 --hidden 8 --count 5 --seeds 0 1"
    evaluate(f"{options} --stage localizer")
    out = capsys.readouterr().out
    assert "folder" not in out and "1 damaged, 1 short" in out
    assert "train: 32 pairs of 9 clips; 2 give none: train/left/0, train/left/broken" in out
    assert "pose + dimofs: 5 clusters of" in out and "final (pose + DiMoFs): names" in out
    known = set(tmp_path.iterdir())
    evaluate(f"{options} --table 4 --json {tmp_path / 'table.json'}")
    assert set(tmp_path.iterdir()) == known | {tmp_path / "table.json"}
    result = read_json(tmp_path / "table.json")
    assert set(result["rows"]) == {row.name for row in diving48.chosen_rows(None)}
    final = result["rows"]["final (pose + DiMoFs)"]
    assert final["paper"] == 24.1 and len(final["mean"]) == 2 and 0 <= final["MLP"][0]["top1"] <= 100
    assert result["features"]["train"]["without people or pairs"] == ["train/left/0", "train/left/broken"]
    assert {fault["kind"] for fault in result["features"]["faults"]} == {"short", "damaged"}
    assert result["differences"][0]["row"] == "init (pose + DiMoFs)"


def test_rows_are_ours_and_others():
    names = ["init (pose)", "TSN (RGB)"]
    assert [row.name for row in chosen_rows(names)] == names[:1] and chosen_peers(names, False) == names[1:]
    assert chosen_rows(names[1:]) == [] and chosen_peers(names[:1], False) == [] == chosen_peers(None, False)
    assert len(chosen_rows(None)) == 15 and chosen_peers(None, True)[0] == "TSN (RGB)"
    with pytest.raises(InputError, match="--rows 'TSN': is none of init"):
        chosen_rows(["TSN"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--clips FOLDER", "nothing to do"),
        ("--table 4", "no data"),
        ("--table 4 --clips FOLDER --root FOLDER", "exclude each other"),
        ("--table 4 --stage features --clips FOLDER", "exclude each other"),
        ("--table 4 --clips FOLDER --rows final", "--rows 'final': is none of init"),
        ("--table 4 --clips FOLDER --seeds 1 1", "given twice"),
        ("--table 4 --clips FOLDER --rows TRN TRN", "--rows: TRN is given twice"),
        ("--table 4 --clips FOLDER --rows 'R(2+1)D, Kinetics'", "needs weights; give --kinetics"),
        ("--table 4 --clips FOLDER --rows 'ours + R(2+1)D'", "is a sum with 'final"),
        ("--table 4 --clips FOLDER --rows TRN --kinetics absent.pth", "--kinetics: weights of a peer"),
        ("--table 4 --clips FOLDER --peers --kinetics absent.pth", "absent.pth"),
        ("--table 4 --clips FOLDER --segments 9", "--segments: of TSN and TRN"),
        ("--table 4 --clips FOLDER --segments 9 --rows C3D", "--segments: of TSN and TRN"),
        ("--table 4 --jhmdb FOLDER", "needs --jhmdb-labels"),
        ("--table 4 --clips EMPTY/two", "holds no videos"),
        ("--table 4 --clips EMPTY/one", "trains on one class"),
    ],
)
def test_refusals(folder, tmp_path, line, message):
    for number in range(2):
        film(tmp_path / "one" / "class" / f"{number}.mp4", 2, number)
    with pytest.raises(InputError, match=message):
        evaluate(line.replace("FOLDER", str(folder)).replace("EMPTY", str(tmp_path)))
