"""`dimofs.zoo.recognize` and `train recognize`: what a recognizer says of a clip, what said so, and its training."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from dimofs.cli import InputError, arguments
from dimofs.datasets.labelled_clips import ClipFault, ClipSet, LabelledClip
from dimofs.files import read_json
from dimofs.picture import Picture
from dimofs.video import Frame
from dimofs.zoo import checkpoints, recognize, train
from dimofs.zoo.detection.features import Features
from dimofs.zoo.presets import recognize_mobile
from dimofs.zoo.recognition.pairs import SeenFrame, halved, joined
from dimofs.zoo.recognition.recognizer import Recognition, Recognizer
from dimofs.zoo.recognition.sheet import FRAMES, WIDTH, sheet
from dimofs.zoo.recognition.subject import Subject
from dimofs.zoo.training.action_options import ActionOptions
from dimofs.zoo.training.data import Paths
from dimofs.zoo.training.recognition import RECOGNITION, _clips_to_learn, recognition_task
from dimofs.zoo.training.run import RunOptions
from dimofs.zoo.training.run import train as run_task
from dimofs.zoo.training.trainer import ALONE
from tests.support.clips import write_video
from tests.support.tiny import tiny_model, tiny_recognizer, use_tiny

DELTA = 2


def model(clusters: int = 3) -> Recognizer:
    torch.manual_seed(0)
    return tiny_recognizer(["left", "right"], clusters=clusters, delta=DELTA).eval()


def pictures(count: int, seed: int = 0, step: int = 2) -> list[np.ndarray]:
    """Smooth noise that drifts, 48 x 64 pixels."""
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)
    image = coarse.repeat(4, 0).repeat(4, 1)
    return [np.roll(image, step * number, 1) for number in range(count)]


def seen(count: int = 6) -> list[Frame]:
    return [Frame(image, number, number / 25, 0.04) for number, image in enumerate(pictures(count))]


def features(recognizer: Recognizer, numbers: Sequence[int]) -> Features:
    images = torch.from_numpy(np.stack(pictures(6))[list(numbers)]).permute(0, 3, 1, 2)
    with torch.inference_mode():
        return joined([SeenFrame(0, halved(recognizer.features(images)))], torch.device("cpu"))


def test_a_clip_is_the_mean_of_its_pairs():
    recognizer = model()
    found = recognizer.recognize(seen())
    assert found is not None and found.subject.numbers.tolist() == [0, 1, 2, 3]
    a, b = features(recognizer, [0, 1, 2, 3]), features(recognizer, [2, 3, 4, 5])
    with torch.inference_mode():
        streams = recognizer.pooled(a, {DELTA: b}, list(found.subject.boxes[:, None]))
        clusters = recognizer.clusters(streams)
        expected = recognizer.classifier(clusters.mean(0, keepdim=True)).softmax(1)[0]
        best = int(expected.argmax())
        rest = recognizer.classifier(clusters[1:].mean(0, keepdim=True)).softmax(1)[0, best]
    torch.testing.assert_close(found.probabilities, expected)
    torch.testing.assert_close(found.frames[0], expected[best] - rest)


def test_a_joint_weighs_what_its_cell_says():
    """A head that reads one cell of the appearance alone: only joints there weigh anything."""
    recognizer = model()
    cell = 4
    first, second = (recognizer.head.get_submodule(f"streams.{stream}.1") for stream in (0, 1))
    assert isinstance(first, torch.nn.Linear) and isinstance(second, torch.nn.Linear)
    with torch.no_grad():
        mask = torch.zeros(8, 9)
        mask[:, cell] = 1
        first.weight.mul_(mask.flatten())
        second.weight.zero_()
    found = recognizer.recognize(seen())
    assert found is not None
    inside = recognizer._cell(found.subject) == cell
    assert (found.joints[~inside] == 0).all()
    if inside.any():
        assert (found.joints[inside] != 0).any()


def test_nothing_is_said_of_clips_without_pairs():
    recognizer = model()
    assert recognizer.recognize(seen(DELTA)) is None
    recognizer.box_head.min_score = 2.0
    assert recognizer.recognize(seen()) is None


def test_a_recognizer_is_saved_above_the_detector(tmp_path):
    whole = recognize_mobile(["a", "b"], clusters=4, hidden=8)
    assert whole.delta == 5 and len(whole.action_names) == 4
    base = checkpoints.load("dimofs_mobile_v2").state_dict()
    renamed = {name.replace("deformable.convs.", "mixing."): tensor for name, tensor in base.items()}
    whole.load_state_dict({name: t for name, t in renamed.items() if name in whole.state_dict()}, strict=False)
    checkpoints.save(whole, tmp_path / "kept", {}, half=True, base="dimofs_mobile_v2")
    assert (tmp_path / "kept/model.safetensors").stat().st_size < 2e5
    again = checkpoints.load_as(Recognizer, tmp_path / "kept")
    assert again.class_names == ("a", "b")
    torch.testing.assert_close(again.classifier.layers[0].weight, whole.classifier.layers[0].weight, atol=1e-3, rtol=0)


def test_a_sheet_shows_joints_where_they_are():
    subject = Subject(
        numbers=torch.tensor([0, 3]),
        boxes=torch.tensor([[8.0, 8, 40, 40]]).expand(2, 4),
        scores=torch.ones(2),
        joints=torch.tensor([[[16.0, 16], [32, 32]]]).expand(2, 2, 2),
        confidences=torch.ones(2, 2),
        to_frame=torch.tensor([1.0, 1.0]),
    )
    joints = torch.tensor([[1.0, -1], [0, 0.5]])
    found = Recognition(probabilities=torch.ones(1), subject=subject, frames=torch.tensor([0.1, 0.2]), joints=joints)
    grey = np.full((48, 64, 3), 90, np.uint8)
    image = sheet(found, [0, 1], {0: grey, 3: grey}, "golf 0.50")
    assert image.shape == (240, 2 * WIDTH, 3)
    # The scale is 5: a joint for the label is red, one against it blue, one that says nothing white.
    assert image[80, 80].tolist() == [255, 50, 30] and image[160, 160].tolist() == [40, 90, 255]
    assert image[80, WIDTH + 80].tolist() == [255, 255, 255]


# --- commands ---


def labelled(line: str) -> int | None:
    return recognize.main(**arguments(recognize.main, shlex.split(line)))


@pytest.fixture
def saved(tmp_path, monkeypatch):
    use_tiny(monkeypatch)
    checkpoints.save(model(), tmp_path / "model", {})
    return tmp_path / "model"


def test_the_command_labels_a_video(saved, tmp_path, capsys):
    video = write_video(tmp_path / "x.mp4", pictures(12))
    assert labelled(f"--video {video} --weights {saved} --device cpu") == 0
    out = capsys.readouterr().out
    result = json.loads((tmp_path / "x.recognition.json").read_text())
    assert out.startswith(f"{video}: {result['label']} {result['confidence']:.2f}")
    assert abs(sum(result["probabilities"].values()) - 1) < 1e-3 and len(result["looked_at"]) == 10
    assert result["label"] == max(result["probabilities"], key=result["probabilities"].get)
    one = result["looked_at"][3]
    assert one["frame"] == 3 and one["time"] == pytest.approx(0.12) and len(one["joints"]) == 19
    assert (tmp_path / "x.recognition.png").stat().st_size > 1000
    assert labelled(f"--video {video} --weights {saved} --out {tmp_path}/o --no-overlay --every 4 --quiet") == 0
    assert [path.name for path in (tmp_path / "o").iterdir()] == ["x.recognition.json"]
    assert len(json.loads((tmp_path / "o/x.recognition.json").read_text())["looked_at"]) == 3
    # Frames count from the video's start.
    assert labelled(f"--video {video} --weights {saved} --out {tmp_path}/o --start 0.16 --every 3 --quiet") == 0
    looked_at = read_json(tmp_path / "o/x.recognition.json")["looked_at"]
    assert [(one["frame"], one["time"]) for one in looked_at] == [(4, 0.16), (7, 0.28)]


def test_a_video_that_fails_leaves_nothing(saved, tmp_path, capsys):
    write_video(tmp_path / "short.mp4", pictures(DELTA))
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    video = write_video(tmp_path / "x.mp4", pictures(4))
    line = f"--video {tmp_path}/short.mp4 {tmp_path}/bad.mp4 {tmp_path}/absent.mp4 {video} --weights {saved} --quiet"
    assert labelled(line) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3 and any("has 2 frames; a pair needs 3" in error for error in errors)
    assert sorted(path.name for path in tmp_path.glob("*.recognition.*")) == ["x.recognition.json", "x.recognition.png"]
    assert len(json.loads((tmp_path / "x.recognition.json").read_text())["looked_at"]) <= FRAMES


def test_a_folder_is_labelled_again_without_the_pictures_of_the_first_time(saved, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    write_video(tmp_path / "in/x.mp4", pictures(4))
    for _ in range(2):
        assert labelled(f"--video {tmp_path}/in --weights {saved} --quiet") == 0
    assert capsys.readouterr().err == "" and len(list((tmp_path / "in").iterdir())) == 3


def test_no_result_takes_the_place_of_another(saved, tmp_path, capsys):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_video(tmp_path / folder / "x.mp4", pictures(4))
    first, second = tmp_path / "a/x.mp4", tmp_path / "b/x.mp4"
    # The first is named twice, and labelled once.
    assert labelled(f"--video {first} {tmp_path}/a {second} --out {tmp_path}/o --weights {saved} --no-overlay") == 2
    out, err = capsys.readouterr()
    assert f"error: {second}: {first} has results of that name; run it apart with another --out" in err
    assert len(out.splitlines()) == 1 and read_json(tmp_path / "o/x.recognition.json")["source"] == str(first)


def test_a_damaged_video_is_told(saved, tmp_path, capsys):
    whole = write_video(tmp_path / "x.avi", pictures(30)).read_bytes()
    (tmp_path / "x.avi").write_bytes(whole[: len(whole) // 2])
    assert labelled(f"--video {tmp_path}/x.avi --weights {saved} --quiet") == 0
    assert f"warning: {tmp_path}/x.avi: ends early" in capsys.readouterr().err


def test_images_of_several_sizes_are_refused(saved, tmp_path, capsys):
    (tmp_path / "shots").mkdir()
    for place, image in enumerate(pictures(5)):
        Picture(image[:, : 64 - 8 * (place == 3)]).save(tmp_path / f"shots/{place}.png")
    assert labelled(f"--video {tmp_path}/shots --weights {saved} --quiet") == 2
    error = f"error: {tmp_path}/shots: the size changes from 64x48 to 56x48 at frame 3; give images of one size"
    assert capsys.readouterr().err.splitlines() == [error]


@pytest.mark.parametrize("clusters", [False, True])
def test_training_on_folders(tmp_path, monkeypatch, clusters):
    use_tiny(monkeypatch)
    checkpoints.save(tiny_model(), tmp_path / "pose", {})
    for seed in range(8):
        folder = tmp_path / "clips" / ("left", "right")[seed % 2]
        folder.mkdir(parents=True, exist_ok=True)
        write_video(folder / f"{seed}.mp4", pictures(8, seed, step=2 + 4 * (seed % 2)))
    cache = str(tmp_path / "cache")
    options = ActionOptions(clips=str(tmp_path / "clips"), cache=cache, cells=3, hidden=8, pose_clusters=clusters)

    def trained() -> Recognizer:
        task = recognition_task(
            options, Paths(), preset="tiny_recognizer", weights=str(tmp_path / "pose"), variant=None, validate=True,
            device="cpu", seed=0, every=2,
        )  # fmt: skip
        recipe = RECOGNITION.changed(steps=4, batch=2)
        chosen = RunOptions(init=str(tmp_path / "pose"), workers=0, quiet=True)
        run_task(task, recipe, str(tmp_path / "run"), ALONE, chosen)
        score = task.classify(tmp_path / "run/model")
        assert score is not None and 0 <= score <= 100
        return checkpoints.load_as(Recognizer, tmp_path / "run/model")

    found = trained()
    assert found.class_names == ("left", "right") and found.classifier.standardize.mean.abs().sum() > 0
    # The same again ends at once with the same model.
    before = {name: tensor.clone() for name, tensor in found.state_dict().items()}
    after = trained().state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("recognize", "needs --jhmdb or --clips"),
        ("recognize --clips EMPTY", "holds no videos"),
        ("recognize --clips EMPTY --streams appearance", "--streams: is no option of the task recognize"),
        ("recognize --clips EMPTY --model action_mobile", "does not learn the task recognize"),
        ("recognize --clips EMPTY/one", "trains on one class; give clips of two"),
        ("recognize --clips EMPTY/two --validate 1", "--validate: two has no clip to test on"),
        ("pose --clips EMPTY", "--clips: is no option of the task pose"),
        ("pose --pose-clusters", "--pose-clusters: is no option"),
    ],
)
def test_refusals_of_training(tmp_path, line, message):
    for name in ("one/left/a.mp4", "one/left/b.mp4", "two/left/a.mp4", "two/right/a.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    words = line.replace("EMPTY", str(tmp_path)).split()
    with pytest.raises(InputError, match=message):
        train.main(**arguments(train.main, [*words, "--out", str(tmp_path / "run")]))


def test_missing_clips_are_told_to_who_trains(capsys):
    clips = [LabelledClip(name=name, path=Path(name), label=label, part="train") for label, name in enumerate("ab")]
    lost = ClipFault("c", "missing", "clips/c.avi: no such file", used=False)
    listed = ClipSet(title="set", classes=["left", "right"], clips=clips, missing=[lost])
    assert _clips_to_learn(listed, validate=False) == clips
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["note: missing: clips/c.avi: no such file", "note: 1 missing"]


def test_the_shipped_model_loads_and_names_jhmdbs_actions():
    shipped = checkpoints.load_as(Recognizer, "recognize_mobile")
    assert len(shipped.class_names) == 21 and shipped.delta == 5
    assert (checkpoints.SHIPPED / "recognize_mobile/model.safetensors").stat().st_size < 4e6
