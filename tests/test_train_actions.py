"""Learning actions: which regions train, what is cached and when not, and a run from clips in folders to a model."""

from typing import Any

import numpy as np
import pytest
import torch

from dimofs.cli import InputError
from dimofs.datasets.jhmdb import Jhmdb
from dimofs.reader import read_clip
from dimofs.zoo import checkpoints, train
from dimofs.zoo.detection.action_localizer import ActionLocalizer
from dimofs.zoo.detection.box_detector import Boxes
from dimofs.zoo.training import feature_cache
from dimofs.zoo.training.action_data import (
    LabelledClip,
    Regions,
    check_people,
    find_regions,
    folder_clips,
    folders_without_videos,
    held_out_clips,
    jhmdb_clips,
    later,
)
from dimofs.zoo.training.action_options import ActionOptions
from dimofs.zoo.training.action_streams import Partner, StreamCache
from dimofs.zoo.training.actions import ACTIONS, Rows, Shuffled, head_losses
from dimofs.zoo.training.data import Paths
from dimofs.zoo.training.feature_cache import FeatureCache
from dimofs.zoo.training.run import RunOptions
from dimofs.zoo.training.run import train as run_task
from dimofs.zoo.training.trainer import ALONE
from tests.support.clips import picture, write_cut, write_video
from tests.support.commands import call
from tests.support.tiny import tiny_action, tiny_model, use_tiny

BOX = [8.0, 8, 40, 40]


@pytest.fixture
def model() -> ActionLocalizer:
    torch.manual_seed(0)
    return tiny_action(["left", "right"]).eval()


def write(folder, counts=(("left", 2), ("right", 2)), length=6):
    """Folders of clips of the classes, and a file of boxes."""
    boxes = {}
    for label, (name, count) in enumerate(counts):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pictures = [picture(number) for number in range(9 * label + 2 * i, 9 * label + 2 * i + length)]
            write_video(folder / name / f"{i}.mp4", pictures)
            boxes[f"{name}/{i}"] = np.tile(np.array(BOX, np.float32), (length, 1))
    np.savez(folder / "boxes.npz", **boxes)
    return folder, folder / "boxes.npz"


def the_clip(folder) -> LabelledClip:
    root, boxes = write(folder)
    return folder_clips(root, boxes)[0][0]


# --- clips ---


def test_folders_are_classes_in_alphabetical_order(tmp_path):
    root, boxes = write(tmp_path / "clips", (("wave", 1), ("sit", 2)))
    clips, classes = folder_clips(root, boxes)
    assert classes == ["sit", "wave"]
    assert [(clip.name, clip.label, clip.length) for clip in clips] == [
        ("sit/0", 0, 6),
        ("sit/1", 0, 6),
        ("wave/0", 1, 6),
    ]
    assert clips[0].boxes is not None and clips[0].boxes.tolist() == [BOX] * 6
    assert folder_clips(root)[0][0].boxes is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, "has no boxes of left/0"),
        ({"left/0": np.zeros((5, 4))}, r"'left/0' is float64 \(5, 4\); its clip needs numbers \(6, 4\)"),
        ({"left/0": np.zeros((6, 4), bool)}, "'left/0' is bool"),
        ({"left/0": np.array([[5.0, 0, 4, 1]] * 6)}, "a box that is empty or not finite"),
        ({"left/0": np.full((6, 4), np.inf)}, "a box that is empty or not finite"),
        ({"left/0": np.array([[0.0, 0, 1e300, 1]] * 6)}, "a box that is empty or not finite"),
    ],
)
def test_boxes_that_do_not_fit_are_refused(tmp_path, change, message):
    root, _ = write(tmp_path / "clips")
    np.savez(tmp_path / "other.npz", **change)
    with pytest.raises(InputError, match=message):
        folder_clips(root, tmp_path / "other.npz")


def test_two_classes_are_needed(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        folder_clips(tmp_path / "absent")
    root, _ = write(tmp_path / "clips", (("wave", 1),))
    with pytest.raises(InputError, match="holds 1 folders of videos"):
        folder_clips(root)


def test_what_is_no_clip_is_no_class(tmp_path):
    """Every kind of video counts, but those that `dimofs action` drew; two of a name are refused."""
    root, _ = write(tmp_path, (("wave", 1), ("sit", 1)))
    (root / "empty").mkdir()
    (root / "wave/0.mp4").rename(root / "wave/0.M4V")
    (root / "sit/0.mp4").rename(root / "sit/0.mpg")
    (root / "sit/0.actions.mp4").touch()
    assert [clip.name for clip in folder_clips(root)[0]] == ["sit/0", "wave/0"]
    assert folders_without_videos(root) == ["empty"]
    (root / "sit/0.avi").write_bytes((root / "sit/0.mpg").read_bytes())
    with pytest.raises(InputError, match="two videos are called sit/0; rename one"):
        folder_clips(root)


def test_a_clip_that_ends_early_is_used_and_told_of(tmp_path, capsys):
    root, _ = write(tmp_path / "clips", (("wave", 1), ("sit", 1)))
    cut = write_cut(root / "wave/0.mp4")
    clips, _ = ActionOptions(clips=str(root)).labelled(Paths())
    assert clips[0].length == 6 and 4 < clips[1].length < 20
    assert len(list(read_clip(cut))) == clips[1].length
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and told.startswith(f"note: {cut}: ends early")


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (np.zeros((0, 4)), "the boxes of wave/a have no frame"),
        (np.array([[5.0, 5, 2, 9]]), "the boxes of wave/a have a box that ends before it begins"),
        (np.array([[5.0, 5, np.inf, 9]]), "or is not finite"),
    ],
)
def test_boxes_of_jhmdb_that_cannot_be(tmp_path, boxes, message):
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits/wave_test_split1.txt").write_text("a.avi 1\n")
    np.savez(tmp_path / "boxes.npz", **{"wave/a": boxes})
    np.savez(tmp_path / "joints.npz")
    (tmp_path / "joints_meta.json").write_text("{}")
    with pytest.raises(InputError, match=message):
        jhmdb_clips(Jhmdb(tmp_path, tmp_path))


def test_labels_that_learning_cannot_use(tmp_path, capsys):
    """Every class needs somebody; a clip without anybody is told."""
    regions, clips = (
        small_regions([1, 0]),
        [LabelledClip(name=f"{i}", path=tmp_path, label=i, length=1) for i in (0, 1)],
    )
    with pytest.raises(InputError, match="the clips of sit show nobody whose action could be learned; label people"):
        check_people(regions, clips, ["wave", "sit"])
    check_people(regions, [clips[0]] * 2, ["wave"])
    assert capsys.readouterr().err == "note: 1 clips show nobody, such as 0\n"


def small_regions(labels: list[int]) -> Regions:
    """One region of these labels in one frame of each of as many clips."""
    count = len(labels)
    order, boxes = torch.arange(count), torch.tensor([BOX] * count)
    return Regions(
        numbers=torch.zeros(count, dtype=torch.int64),
        clips=order,
        frames=order,
        boxes=boxes,
        scores=torch.ones(count),
        labels=torch.tensor(labels),
        targets=boxes,
        scale=torch.ones(count, 2),
    )


def test_the_last_quarter_of_each_class_is_held_out(tmp_path):
    clips = [LabelledClip(name=f"{i}", path=tmp_path, label=i % 2, length=1) for i in range(18)]
    kept, held = held_out_clips(clips)
    assert [clip.name for clip in held] == ["14", "15", "16", "17"] and len(kept) == 14
    assert held_out_clips(clips[:6])[1] == []


def test_frames_later_stay_in_the_clip():
    assert later(torch.tensor([0, 5, 9]), 10, 3).tolist() == [3, 8, 9]
    assert later(torch.tensor([0, 5]), 10, -3).tolist() == [0, 2]


# --- regions ---


def test_training_regions_by_hand(tmp_path, model, monkeypatch):
    """The actor, the same with jitter, a detection that overlaps by 3/4, one between, and one far away."""
    found = torch.tensor([[8.0, 8, 40, 32], [8, 8, 40, 20], [44, 44, 60, 60]])
    monkeypatch.setattr(model, "find_boxes", lambda *_, **__: [Boxes(found, torch.tensor([0.9, 0.8, 0.7]))] * 2)
    clip = the_clip(tmp_path / "clips")
    cache = FeatureCache(tmp_path / "cache", model)
    regions = find_regions(model, cache, clip, every=4, train=True)
    # The frame has 64 pixels, as has the input.
    assert regions.numbers.tolist() == [0, 4] and regions.frames.tolist() == [0] * 5 + [1] * 5
    assert regions.labels[:5].tolist() == [1, 1, 1, -1, 0]
    assert regions.boxes[0].tolist() == BOX and regions.targets[2].tolist() == BOX
    assert (regions.boxes[1] - regions.boxes[0]).abs().max() <= 0.12 * 32
    assert regions.targets[3:5].isnan().all() and regions.scores[:5].tolist() == pytest.approx([1, 1, 0.9, 0.8, 0.7])
    assert torch.equal(find_regions(model, cache, clip, every=4, train=True).boxes, regions.boxes)
    tested = find_regions(model, cache, clip, every=4, train=False)
    assert torch.equal(tested.boxes[:3], found) and tested.by_frame()[1].shape == (3, 4)


def test_a_box_outside_the_frame_is_no_missing_label(tmp_path, model):
    clip = the_clip(tmp_path / "clips")
    assert clip.boxes is not None
    clip.boxes[4] = torch.tensor([70.0, 8, 90, 40])
    with pytest.raises(InputError, match=r"boxes.npz: box \[70.0, .*\] of frame 4 of left/0 lies outside the frame"):
        find_regions(model, FeatureCache(tmp_path / "cache", model), clip, every=4, train=True)
    clip.boxes[4] = torch.nan
    assert find_regions(model, FeatureCache(tmp_path / "cache", model), clip, every=4, train=True).numbers[1] == 4


def test_losses_by_hand():
    """Of background, an action and a region that is neither: the last has no loss. A box at its target costs
    nothing."""
    box = torch.tensor([BOX] * 3)
    batch = Rows([], torch.tensor([0, 2, -1]), box, box, ["x"])
    terms = head_losses(torch.zeros(3, 3), torch.zeros(3, 4), batch, 0.0)
    assert terms["action"].mean().item() == pytest.approx(np.log(3)) and terms["action"].count == 2
    assert terms["box"] == (0, 1)


def test_every_epoch_shows_each_frame_once():
    class Table(list):
        frame = list.__getitem__

    samples = Shuffled(Table(range(5)), 10, seed=3)  # type: ignore[arg-type]
    drawn: list[Any] = [samples[i] for i in range(10)]
    assert sorted(drawn[:5]) == sorted(drawn[5:]) == list(range(5)) and drawn[:5] != drawn[5:]


# --- caches ---


def test_features_are_computed_once_and_never_stale(tmp_path, model, monkeypatch):
    clip = the_clip(tmp_path / "clips")
    cache = FeatureCache(tmp_path / "cache", model)
    first = cache.features(clip.path, [4, 0])
    expected = model.features(torch.stack(list(read(clip.path, (4, 0)))))
    for level, other in zip(first.levels, expected.levels, strict=True):
        torch.testing.assert_close(level, other, atol=2e-3, rtol=2e-3)
    # Other frames are added to the file, alone; known ones are read without the clip.
    computed = []
    hook = model.backbone.register_forward_pre_hook(lambda _, inputs: computed.append(len(inputs[0])))
    assert torch.equal(cache.features(clip.path, [0, 3]).levels[0][0], first.levels[0][1])
    assert computed == [1]
    hook.remove()
    monkeypatch.setattr(feature_cache, "read_clip", lambda _: pytest.fail("the clip was read again"))
    assert torch.equal(
        FeatureCache(tmp_path / "cache", model).features(clip.path, [3, 4]).levels[1][1], first.levels[1][0]
    )
    file = cache.file(clip.path)
    with torch.no_grad():
        model.backbone.stem.bias.add_(1)  # type: ignore[union-attr]
    assert FeatureCache(tmp_path / "cache", model).file(clip.path) != file
    model.preprocess.max_size = 32
    assert FeatureCache(tmp_path / "cache", model).file(clip.path) not in (file, None)


def read(path, numbers):
    from dimofs.pixels import to_tensor
    from dimofs.reader import read_frames

    return map(to_tensor, read_frames(path, numbers))


def test_damaged_files_are_computed_again_and_missing_frames_told(tmp_path, model):
    clip = the_clip(tmp_path / "clips")
    cache = FeatureCache(tmp_path / "cache", model)
    expected = cache.features(clip.path, [1]).levels[0]
    cache.file(clip.path).write_bytes(b"broken")
    assert torch.equal(cache.features(clip.path, [1]).levels[0], expected)
    with pytest.raises(InputError, match="has no frame 6"):
        cache.features(clip.path, [6])


def test_streams_differ_by_partner_and_by_offset_net(tmp_path, model):
    clip = the_clip(tmp_path / "clips")
    features = FeatureCache(tmp_path / "cache", model)
    cache = StreamCache(model, features)
    regions = cache.regions(clip, every=3, train=True)
    two, last = (
        cache.stream(clip, regions, "dimofs", Partner(clip.path, later(regions.numbers, 6, d))) for d in (2, 5)
    )
    assert two.any() and not torch.equal(two, last) and not cache.stream(clip, regions, "dimofs").any()
    with torch.no_grad():
        model.offset_net.convs[0].weight.mul_(2)  # type: ignore[union-attr, operator]
    again = StreamCache(model, features).stream(
        clip, regions, "dimofs", Partner(clip.path, later(regions.numbers, 6, 2))
    )
    assert not torch.equal(again, two)


# --- the command ---


def test_actions_are_learned_from_folders(tmp_path, monkeypatch):
    """A head learns its training clips by heart, resumes, and becomes a model that names the actions."""
    use_tiny(monkeypatch)
    root, boxes = write(tmp_path / "clips", (("left", 4), ("right", 4)))
    checkpoints.save(tiny_model(), tmp_path / "pose", {})
    options = ActionOptions(clips=str(root), boxes=str(boxes), cache=str(tmp_path / "cache"))
    task = options.task(
        Paths(every=2), preset="tiny_action", weights=str(tmp_path / "pose"), variant=None, validate=True, device="cpu"
    )
    assert len(task.table) == 18 and task.held_out_table is not None and len(task.held_out_table) == 6
    recipe = ACTIONS.changed(steps=30, batch=6, warmup=0, learning_rate=1e-2)
    settings = RunOptions(init=str(tmp_path / "pose"), validate=30, held_out=6, workers=0, quiet=True, save_every=10)
    for steps in (10, 30):
        run_task(task, recipe.changed(steps=steps), str(tmp_path / "run"), ALONE, settings)
    learned = checkpoints.load_as(ActionLocalizer, tmp_path / "run/model")
    assert learned.action_names == ("left", "right")
    rows = Rows.join([task.table.frame(i) for i in range(len(task.table))])
    with torch.inference_mode():
        logits, _ = learned.head(rows.streams)
    people = rows.labels > 0
    assert (logits[people].argmax(1) == rows.labels[people]).float().mean() > 0.9


def test_clips_that_show_nobody_are_told(tmp_path, monkeypatch, capsys):
    """One of a class is left out; without any, nothing could be learned of it."""
    use_tiny(monkeypatch)
    root, boxes = write(tmp_path / "clips")
    (root / "none").mkdir()
    checkpoints.save(tiny_model(), tmp_path / "pose", {})
    known = dict(np.load(boxes))
    for name in ("left/0", "left/1"):
        known[name][:] = np.nan
        np.savez(boxes, **known)
        options = ActionOptions(clips=str(root), boxes=str(boxes), cache=str(tmp_path / "cache"))
        arguments = {"preset": "tiny_action", "weights": str(tmp_path / "pose"), "variant": None, "validate": False}
        if name == "left/0":
            options.task(Paths(every=2), **arguments, device="cpu")
            told = capsys.readouterr().err
            assert "1 clips show nobody, such as left/0" in told and "the folder none holds no video" in told
        else:
            with pytest.raises(InputError, match="the clips of left show nobody"):
                options.task(Paths(every=2), **arguments, device="cpu")


def test_classes_of_few_clips_are_told(tmp_path, monkeypatch, capsys):
    use_tiny(monkeypatch)
    root, boxes = write(tmp_path / "clips", (("left", 4), ("right", 3)))
    checkpoints.save(tiny_model(), tmp_path / "pose", {})
    options = ActionOptions(clips=str(root), boxes=str(boxes), cache=str(tmp_path / "cache"))
    options.task(
        Paths(every=5), preset="tiny_action", weights=str(tmp_path / "pose"), variant=None, validate=True, device="cpu"
    )
    assert "1 classes are not validated on for want of clips, such as right" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"coco": ["x"], "clips": "CLIPS"}, "--coco: is no option of the task action"),
        ({"videos": "x", "clips": "CLIPS"}, "--videos: is no option of the task action"),
        ({"hold_out": 0.2, "clips": "CLIPS"}, "--hold-out: is no option of the task action"),
        ({"clips": "CLIPS", "jhmdb_labels": "x"}, "--jhmdb-labels: belongs to --jhmdb and not to --clips"),
        ({"clips": "CLIPS", "split": 2}, "--split: belongs to --jhmdb and not to --clips"),
        ({"jhmdb": "x", "jhmdb_labels": "y", "boxes": "z"}, "--boxes: are those of --clips"),
        ({"clips": "CLIPS", "variant": "wide"}, "--variant wide: dimofs_mobile_v2 has motion parts of paper"),
        ({"canvas": 64}, "--canvas: is no option of the task action"),
        ({"unfreeze": 3}, "--unfreeze: is no option of the task action"),
        ({"recipe": "paper"}, "--recipe: is no option of the task action"),
        ({"model": "dimofs_mobile"}, "--model dimofs_mobile: does not learn the task action"),
        ({}, "action needs --jhmdb or --clips beside it"),
        ({"clips": "x", "jhmdb": "y"}, "--clips and --jhmdb exclude each other"),
        ({"clips": "absent"}, "--clips absent: no such folder"),
        ({"jhmdb": "x"}, "--jhmdb needs --jhmdb-labels"),
        ({"clips": "CLIPS", "streams": ["flow@3"]}, "--streams: stream 'flow@3': expected appearance, or"),
        (
            {"clips": "CLIPS", "streams": ["dimofs@3", "dimofs@03"]},
            "--streams dimofs@3 dimofs@03: names a stream twice",
        ),
        ({"clips": "CLIPS", "init": "absent"}, "absent: neither a file"),
    ],
)
def test_the_command_refuses_what_it_would_ignore(tmp_path, line, message):
    if "CLIPS" in line.values():
        line = line | {"clips": str(write(tmp_path / "clips")[0])}
    with pytest.raises(InputError, match=message):
        call(train.main, "action", out=tmp_path / "run", cache=tmp_path / "cache", **line)


def test_poses_have_no_clips(tmp_path):
    with pytest.raises(InputError, match="--clips: is no option of the task pose"):
        call(train.main, "pose", out=tmp_path / "run", clips="x")
    with pytest.raises(InputError, match="--cells: is no option of the task pose"):
        call(train.main, "pose", out=tmp_path / "run", cells=3)
