"""The training and labelling commands, in one process and in two; validation; how a model starts."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from dimofs.cli import InputError
from dimofs.cli import run as command
from dimofs.datasets import teacher
from dimofs.datasets.people import People
from dimofs.datasets.synthetic.clips import Synthetic
from dimofs.detections import Detections
from dimofs.skeletons import COCO, DIMOFS
from dimofs.zoo import checkpoints, devices, label, train
from dimofs.zoo.backbones import movenet
from dimofs.zoo.backbones.pyramids import KeypointPyramidBackbone
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.keypoint_head import decode
from dimofs.zoo.presets import dimofs_mobile, movenet_multipose
from dimofs.zoo.training import initialize, throughput
from dimofs.zoo.training.data import Paths
from dimofs.zoo.training.distributed import Process
from dimofs.zoo.training.poses import PoseTask, count_found_joints
from dimofs.zoo.training.run import chosen_dtype
from dimofs.zoo.training.validation import Validation
from tests.support.commands import call
from tests.support.scenes import person, write_clip, write_image
from tests.support.tiny import TINY, TINY_POSES, tiny_model, use_tiny

ROOT = Path(__file__).resolve().parent.parent


def photographs(folder: Path) -> tuple[str, str]:
    """A COCO file of two images with a person each, and their folder."""
    images, annotations = [], []
    for i in range(2):
        name = f"{i + 1:012d}.png"
        pixels = np.random.default_rng(i).integers(0, 256, (72, 96, 3), dtype=np.uint8)
        write_image(folder / name, pixels)
        images.append({"id": i + 1, "file_name": name, "width": 96, "height": 72})
        joints = [v for j in range(len(COCO)) for v in (20 + 2 * j, 15 + 2 * j, 2)]
        person = {"id": i + 1, "image_id": i + 1, "category_id": 1, "bbox": [15, 10, 50, 50], "iscrowd": 0}
        annotations.append(person | {"keypoints": joints, "num_keypoints": len(COCO), "area": 2500})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    (folder / "people.json").write_text(json.dumps(content))
    return str(folder / "people.json"), str(folder)


def test_the_commands_from_labels_to_a_checkpoint(tmp_path):
    torch.manual_seed(0)
    coco, images = photographs(tmp_path)
    checkpoints.save(movenet_multipose(), tmp_path / "movenet", {})
    data = {"coco": coco, "coco_images": images}
    call(label.main, weights=tmp_path / "movenet", out=tmp_path / "labels", size=96, **data)
    labels = teacher.load(tmp_path / "labels" / "coco.npz")
    assert sorted(labels) == ["000000000001.png", "000000000002.png"]
    out = tmp_path / "run"
    for steps in (1, 2):
        call(
            train.main,
            "pose",
            out=str(out),
            init=str(tmp_path / "movenet"),
            **data,
            teacher=str(tmp_path / "labels"),
            steps=steps,
            batch=1,
            canvas=64,
            save_every=1,
            workers=0,
            quiet=True,
        )
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]
    model = checkpoints.load(out / "model")
    body = model.backbone.body.state_dict()  # type: ignore[union-attr]
    taught = checkpoints.load_as(movenet.MoveNet, tmp_path / "movenet").backbone.state_dict()
    assert all(torch.equal(body[name], taught[name]) for name in taught)


def test_videos_are_labelled_and_trained_on(tiny, tmp_path):
    torch.manual_seed(0)
    checkpoints.save(movenet_multipose(), tmp_path / "movenet", {})
    for number, frames in enumerate((5, 9)):
        write_clip(tmp_path / f"clips/{number}.avi", frames)
    videos, labels = str(tmp_path / "clips"), str(tmp_path / "labels")
    call(label.main, weights=str(tmp_path / "movenet"), out=labels, videos=videos, size=64, every=4)
    names = ["0.avi/000000", "0.avi/000004", "1.avi/000000", "1.avi/000004", "1.avi/000008"]
    assert sorted(teacher.load(tmp_path / "labels/videos.npz")) == names
    given: dict[str, Any] = {"videos": videos, "every": 4, "steps": 2, "batch": 2, "workers": 0, "quiet": True}
    call(train.main, "pose", out=str(tmp_path / "run"), teacher=labels, **given)
    assert checkpoints.load(tmp_path / "run/model")
    for nothing in (None, str(tmp_path)):
        with pytest.raises(InputError, match=r"python -m dimofs\.zoo\.label --videos"):
            call(train.main, "pose", out=str(tmp_path / "other"), teacher=nothing, **given)
    assert not (tmp_path / "other").exists()


@pytest.fixture
def tiny(monkeypatch):
    use_tiny(monkeypatch)


def test_without_data_it_trains_on_synthetic_clips(tiny, tmp_path, capsys):
    call(train.main, "pose", out=str(tmp_path), steps=4, batch=2, validate=3, held_out=3, workers=0)
    printed = capsys.readouterr()
    assert "learning_rate: 0.001" in printed.out and "data synthetic: 10000 items" in printed.out
    assert "4/4" in printed.err
    recipe = json.loads((tmp_path / "recipe.json").read_text())
    assert recipe["data"] == {"synthetic": 10_000} and recipe["frozen"] == []  # nothing to keep
    rows, validations = (
        [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        for name in ("metrics", "validation")
    )
    losses = ["objectness", "proposal", "person", "box", "keypoint"]
    assert [list(row) for row in rows] == [["step", "seconds", "rate", *losses]] * 4
    assert [row["rate"] for row in rows] == pytest.approx([1e-3, 8.5355e-4, 5e-4, 1.4645e-4], rel=1e-4)
    assert [row["step"] for row in validations] == [3, 4]
    assert list(validations[0]) == ["step", "seconds", "score", "pck", "pck_pairs", *losses]
    assert checkpoints.load(tmp_path / "best").keypoint_names == DIMOFS


def test_options_are_written_to_the_recipe_and_a_run_resumes_only_with_them(tiny, tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(train, "keep_freed_memory", kept.append)
    checkpoints.save(tiny_model(), tmp_path / "start", {})
    given: dict[str, Any] = {"out": str(tmp_path / "run"), "init": str(tmp_path / "start"), "synthetic": 3}
    given |= {"batch": 1, "workers": 0, "quiet": True, "unfreeze": 0, "largest": 0.5, "warmup": 3}
    call(train.main, "pose", **given, steps=1, fixed=["backbone.down.0", "rpn"])
    recipe = json.loads((tmp_path / "run/recipe.json").read_text())
    assert (recipe["fixed"], recipe["largest"], recipe["warmup"]) == (["backbone.down.0", "rpn"], 0.5, 3)
    assert kept == [2**31 - 1]
    with pytest.raises(InputError, match=r"recipe\.json: fixed is .* in this run, \[\] now"):
        call(train.main, "pose", **given, steps=2)
    call(train.main, "pose", **given, steps=2, fixed=["backbone.down.0", "rpn"])
    start, end = (checkpoints.load(tmp_path / name).state_dict() for name in ("start", "run/model"))
    same = {name for name, value in start.items() if torch.equal(value, end[name])}
    assert {"backbone.down.0.weight", "rpn.objectness.weight"} <= same
    assert "backbone.stem.weight" not in same and "backbone.down.1.weight" not in same


def test_auto_is_bfloat16_where_that_is_faster_and_stays_what_it_was(tmp_path, monkeypatch):
    fast, alone = [True], Process(0, 1, torch.device("cpu"))
    monkeypatch.setattr(devices, "_bfloat16_is_fast", lambda: fast[0])
    assert chosen_dtype("float16", alone, str(tmp_path)) == "float16"
    assert chosen_dtype("auto", alone, str(tmp_path)) == "bfloat16"
    fast[0] = False
    assert chosen_dtype("auto", alone, str(tmp_path)) == "float32"
    (tmp_path / "recipe.json").write_text('{"dtype": "bfloat16"}')
    assert chosen_dtype("auto", alone, str(tmp_path)) == "bfloat16"
    (tmp_path / "recipe.json").write_text('{"dtype": "float32"}')
    fast[0] = True
    assert chosen_dtype("auto", alone, str(tmp_path)) == "float32"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coco": "people.json"}, "--coco needs --coco-images beside it"),
        (
            {"coco": ["a.json", "b.json"], "coco_images": "."},
            "2 annotation files but --coco-images 1 folders",
        ),
        ({"teacher": "nowhere"}, "--teacher nowhere: no such folder"),
        ({"teacher": "."}, "--teacher .: holds no labels of the data sets given (synthetic.npz); label them first"),
        ({"coco_images": "."}, "--coco-images needs --coco beside it"),
        ({"coco_empty": True}, "--coco-empty needs --coco beside it"),
        ({"jhmdb_labels": "labels"}, "--jhmdb-labels needs --jhmdb beside it"),
        ({"jhmdb": "clips"}, "--jhmdb needs --jhmdb-labels beside it"),
        ({"videos": "."}, "no video"),
        ({"posetrack": "."}, "annotations/train: holds no .json files; --posetrack"),
        ({"steps": 0}, "--steps 0: must be at least 1"),
        ({"canvas": 20}, "--canvas 20: must be at least 64 and at most 4096"),
        ({"single": 1.5}, "--single 1.5: must be at least 0 and at most 1"),
        ({"synthetic": 2_000_000}, "--synthetic 2000000: must be"),
        ({"save_every": 0}, "--save-every 0: must be at least 1"),
        ({"rate": -1.0}, "--rate -1.0: must be at least 0 and at most 1000"),
        ({"mix": ["coco=1"]}, "--mix coco=1: 'coco' is no data set in use (synthetic)"),
        ({"unfreeze": 5}, "--unfreeze needs --init beside it"),
        ({"fixed": ["backbone"]}, "--fixed needs --init beside it"),
        ({"largest": 0.1}, "--largest 0.1: must be at least 0.15 and at most 4"),
        ({"warmup": -1}, "--warmup -1: must be at least 0"),
        ({"init": "nowhere"}, "nowhere: neither a file"),
        ({"device": "mars"}, "device 'mars': not a device"),
        ({"rate": "nan"}, "--rate nan: must be a finite number"),
        ({"seed": -1}, "--seed -1: must be at least 0"),
        ({"batch": 10**12}, "--batch 1000000000000: must be at least 1 and at most 65536"),
        ({"mix": ["synthetic=nan"]}, "--mix synthetic=nan: the weight must be a number"),
        ({"mix": ["synthetic=1", "synthetic=2"]}, "--mix synthetic=2: synthetic has another weight too; give one"),
        ({"constrain": ["follow=1", "follow=2"]}, "--constrain follow=2: follow has another weight too; give one"),
        ({"single": 1.0, "apart": 0.5}, "--apart: is about pairs of frames, and --single 1 has none; leave one"),
        ({"single": 1.0, "constrain": ["follow=1"]}, "--constrain: is about pairs of frames, and --single 1 has none"),
        ({"validate_coco": "people.json"}, "--validate-coco needs --validate-images beside it"),
        ({"validate_images": "."}, "--validate-images needs --validate-coco beside it"),
        (
            {"validate_coco": ["a.json", "b.json"], "validate_images": "."},
            "--validate-coco has 2 annotation files but --validate-images 1 folders",
        ),
        (
            {"validate_coco": "a.json", "validate_images": ".", "hold_out": 0.5},
            "--hold-out: --validate-coco says what to validate on; leave one of the two out",
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_bad_options_are_one_line_and_write_nothing(tiny, tmp_path, options, message):
    with pytest.raises(InputError) as fault:
        call(train.main, "pose", out=str(tmp_path / "run"), quiet=True, **options)
    assert message in str(fault.value) and "\n" not in str(fault.value)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_ends_with_one_line(tiny, tmp_path, capsys):
    model = tiny_model()
    with torch.no_grad():
        model.rpn.objectness.weight.fill_(3e38)
    checkpoints.save(model, tmp_path / "huge", {})
    words = f"pose --out {tmp_path}/run --init {tmp_path}/huge --synthetic 3 --steps 2 --workers 0 --quiet --batch 1"
    with pytest.raises(SystemExit) as end:
        command(train.main, words.split())
    lines = capsys.readouterr().err.splitlines()
    assert end.value.code == 2 and len(lines) == 1
    assert re.match(r"error: loss (nan|inf) at step 0 on synthetic_\d{6}/\d{4}.*; try a lower --rate", lines[0])
    assert not (tmp_path / "run/state.pt").exists()


def test_the_benchmark_reports_and_writes_nothing(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call(train.main, "pose", benchmark=2, batch=2, workers=0, quiet=True)
    lines = capsys.readouterr().out.splitlines()
    matches = [re.match(rf"{name} +([\d.]+) samples/s", line) for name, line in zip(SPEEDS, lines, strict=False)]
    speeds = [float(match[1]) for match in matches if match]
    assert len(speeds) == 3 and min(speeds) > 0
    assert re.match(r"[\d.]+ GFLOP per sample, forward and backward; memory [\d.]+ GiB$", lines[3])
    assert list(tmp_path.iterdir()) == []


SPEEDS = ("loader alone", "model alone", "both")


def test_speeds_by_hand(monkeypatch):
    """Batches that take 2 s, steps that take 3 s: of 4 pairs, 2 a second, 4 / 3 a second and 4 / 5 a second."""
    clock = [0.0]

    def passing(seconds: float, result: Any) -> Any:
        clock[0] += seconds
        return result

    monkeypatch.setattr(throughput.time, "perf_counter", lambda: clock[0])
    alone = SimpleNamespace(world=1, device=torch.device("cpu"))
    one: Any = SimpleNamespace(recipe=replace(TINY, accumulate=2), process=alone, update=lambda _: passing(3, None))
    batches = (passing(2, None) for _ in range(throughput.steps_read(5)))
    speed = throughput.measure_throughput(one, batches, 5)
    assert (speed.loader, speed.model, speed.both, speed.step) == (2, 4 / 3, 4 / 5, 3) and not list(batches)


@pytest.mark.usefixtures("one_thread")
def test_two_processes_train_as_one(tmp_path):
    """The real command under torchrun: the same losses and weights as one process with the same global batch, written
    and told by one of them. As many threads: sums of another order may choose another proposal."""
    options: dict[str, Any] = {
        "steps": 3,
        "batch": 4,
        "accumulate": 2,
        "canvas": 64,
        "init": "dimofs_mobile",
        "optimizer": "sgd",
    }
    options |= {"rate": 0.1, "synthetic": 3, "workers": 0, "unfreeze": 1}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "-m"]
    done = subprocess.run(
        [*launch, "dimofs.zoo.train", "pose", f"--out={tmp_path / 'two'}", *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("preset: dimofs_mobile") == 1
    call(train.main, "pose", out=str(tmp_path / "one"), quiet=True, device="cpu", **options)
    one, two = (torch.load(tmp_path / name / "state.pt", weights_only=True)["model"] for name in ("one", "two"))
    start = checkpoints.load("dimofs_mobile").state_dict()
    moved = max(float((one[name] - value).abs().max()) for name, value in start.items())
    apart = max(float((one[name] - two[name]).abs().max()) for name in start)
    assert apart < 1e-3 * moved and moved > 1e-4
    losses, same = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    assert len(losses) == len(same) == 3
    for a, b in zip(losses, same, strict=True):
        assert {**b, "seconds": 0} == pytest.approx({**a, "seconds": 0}, rel=1e-4)


# --- validation ---


class Placed(SimpleNamespace):
    """A model whose only heatmap peak, for every joint, is the middle of the region; of Frame B the left border."""

    def features(self, frames, resize):
        return frames

    def align(self, a, b=None):
        return a if b is None else b

    def keypoint_head(self, levels, regions):
        heatmaps = torch.zeros(sum(map(len, regions)), 19, 56, 56)
        heatmaps[:, :, 28, 0 if levels.any() else 28] = 9
        return heatmaps

    keypoint_head.smoothing = None  # type: ignore[attr-defined]

    def find_joints(self, views, boxes):
        return PoseDetector.find_joints(self, views, boxes)  # type: ignore[arg-type]


def test_found_joints_by_hand():
    """A box of 100 x 60 pixels from (10, 20): joints within 20 pixels of its middle (60, 50) are found."""
    people = person((10, 20, 110, 80), nose=(61, 50), neck=(60, 68), left_wrist=(60, 74), right_wrist=(82, 50))
    people.keypoints[0, DIMOFS.index("left_hip")] = torch.tensor([60.0, 50])  # where it would be found, but no label
    model: Any = Placed()
    a, b = torch.zeros(2, 3, 8, 8), torch.ones(2, 3, 8, 8)
    found = count_found_joints(model, a, None, [people, People.empty()])
    assert (found.total.item(), found.count) == (2, 4)
    found = count_found_joints(model, a, b, [people, person((10, 20, 110, 80), left_hip=(12, 55))])
    assert (found.total.item(), found.count) == (1, 5)


def test_validation_is_the_same_each_time_and_of_clips_that_no_training_sees():
    held_out = Paths().held_out()
    source = held_out["synthetic"]
    assert isinstance(source, Synthetic) and source.seed == 1_000_000
    task, model = PoseTask(recipe=TINY_POSES, sources={}, held_out_sources=held_out), tiny_model().eval()
    validation = Validation(task, count=3, batch=2)
    assert [len(batch) for batch in validation.batches] == [2, 1]
    assert all(name >= "synthetic_1000000" for batch in validation.batches for name in batch.names)
    first = validation(model, torch.device("cpu"))
    assert first == validation(model, torch.device("cpu")) and 0 <= first["pck"] <= 1 and first["keypoint"] > 0


# --- how a model starts ---


@torch.no_grad()
def test_the_keypoint_branch_starts_as_movenets_heatmaps(tmp_path):
    torch.manual_seed(0)
    checkpoints.save(movenet_multipose(), tmp_path / "movenet", {})
    model = dimofs_mobile()
    initialize.start(model, str(tmp_path / "movenet"))
    head = model.keypoint_head
    for conv in head.convs:  # what stands beside the heatmaps is silenced, to see them alone
        conv.weight[movenet.JOINTS :] = 0  # type: ignore[index]
    head.deconv.weight[movenet.JOINTS :] = 0
    level = torch.zeros(1, 64, 28, 28)
    level[0, 3, 10, 20] = 8
    levels = [level, *(torch.zeros(1, 64, 28 >> i, 28 >> i) for i in (1, 2, 3))]
    region = torch.tensor([[0.0, 0, 112, 112]])
    points, peaks = decode(head(levels, [region]), region)
    assert peaks[0].argmax() == 3
    assert (points[0, 3] - torch.tensor([80.0, 40])).abs().max() <= 4
    assert isinstance(model.backbone, KeypointPyramidBackbone)
    hint = next(iter(model.backbone.hints))
    weight = model.backbone.fpn.lateral[0].weight  # type: ignore[union-attr]
    assert hint == "kpt_heatmap"
    assert weight[5, -20:, 0, 0].tolist() == [float(i == 5) for i in range(20)]  # type: ignore[index]


def test_training_starts_from_the_models_own_weights_and_from_no_others(tiny, tmp_path):
    torch.manual_seed(0)
    first, second = dimofs_mobile(), dimofs_mobile()
    checkpoints.save(first, tmp_path / "first", {})
    initialize.start(second, str(tmp_path / "first"))
    assert all(torch.equal(t, first.state_dict()[name]) for name, t in second.state_dict().items())
    with pytest.raises(InputError, match="first: not the model that is trained"):
        initialize.start(tiny_model(), str(tmp_path / "first"))


def test_joints_start_by_name(tmp_path):
    """From a model of nose and neck: the neck is the second there, the first here; a wrist stays as it began."""
    torch.manual_seed(0)
    first, second = dimofs_mobile(("nose", "neck")), dimofs_mobile(("neck", "left_wrist", "nose"))
    checkpoints.save(first, tmp_path / "first", {})
    before = second.keypoint_head.deconv.weight.detach().clone()
    initialize.start(second, str(tmp_path / "first"))
    theirs, ours = first.keypoint_head.deconv.weight, second.keypoint_head.deconv.weight
    assert torch.equal(ours[:, [2, 0]], theirs) and torch.equal(ours[:, 1], before[:, 1])
    assert torch.equal(second.box_head.fc1.weight, first.box_head.fc1.weight)


def few_joints(folder: Path, count: int = 3) -> dict[str, Any]:
    """The options of `photographs` that label the first joints alone, one image of two held out."""
    file, images = photographs(folder)
    content = json.loads(Path(file).read_text())
    for annotation in content["annotations"]:
        annotation["keypoints"][3 * count :] = [0] * (3 * (len(COCO) - count))
    Path(file).write_text(json.dumps(content))
    return {"coco": [file], "coco_images": [images], "hold_out": 0.5, "workers": 0, "quiet": True, "batch": 1}


def teach(folder: Path, score: float) -> str:
    """A teacher's labels of `photographs`: every joint."""
    everyone = Detections(
        torch.tensor([[15.0, 10, 65, 60]]), torch.tensor([score]), torch.full((1, 17, 2), 30.0), torch.ones(1, 17)
    )
    teacher.save(folder / "coco.npz", {f"{number:012d}.png": everyone for number in (1, 2)})
    return str(folder)


def test_what_is_held_out_keeps_the_labels_of_the_data_set(tiny, tmp_path, monkeypatch):
    """Three labelled joints; the teacher adds the other 14 to the image that is trained on."""
    tasks: list[PoseTask] = []
    monkeypatch.setattr(train, "train", lambda task, *_: tasks.append(task))
    data = few_joints(tmp_path)
    call(train.main, "pose", out=str(tmp_path / "run"), teacher=teach(tmp_path, 0.9), **data)
    pairs = [
        sources["coco"].pair(0, np.random.default_rng(0)) for sources in (tasks[0].sources, tasks[0].held_out_sources)
    ]
    assert [int(pair.people.labelled.sum()) for pair in pairs] == [17, 3]
    assert {pair.name for pair in pairs} == {f"{number:012d}.png" for number in (1, 2)}


def test_a_run_resumes_only_with_its_labels(tiny, tmp_path):
    """Those of the teacher and of the data set; with a recipe that says nothing about the latter it resumes."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    data = {"out": str(tmp_path / "run"), **few_joints(tmp_path)}
    one, two = teach(tmp_path / "one", 0.9), teach(tmp_path / "two", 0.8)
    call(train.main, "pose", teacher=one, steps=1, **data)
    for other in (two, None):
        with pytest.raises(
            InputError, match=r"recipe.json: teacher.coco is \"\w{16}\" in this run, (null|\"\w+\") now"
        ):
            call(train.main, "pose", teacher=other, steps=2, **data)
    few_joints(tmp_path, 4)
    with pytest.raises(InputError, match=r"recipe.json: labels.coco is \"\w{16}\" in this run, \"\w{16}\" now"):
        call(train.main, "pose", teacher=one, steps=2, **data)
    recipe = json.loads((tmp_path / "run/recipe.json").read_text())
    del recipe["labels"]
    (tmp_path / "run/recipe.json").write_text(json.dumps(recipe))
    call(train.main, "pose", teacher=one, steps=2, **data)
    assert set(json.loads((tmp_path / "run/recipe.json").read_text())["labels"]) == {"coco"}


def test_several_coco_files_are_one_data_set(tmp_path):
    """Two files of two images with equal names: names of frames tell them apart, items are counted through."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        photographs(tmp_path / name)
    folders = [str(tmp_path / name) for name in ("one", "two")]
    source = Paths(coco=[f"{folder}/people.json" for folder in folders], coco_images=folders).sources()["coco"]
    names = [f"{number}/{image:012d}.png" for number in (1, 2) for image in (1, 2)]
    assert [name for name, _ in source.frames()] == names
    random = np.random.default_rng(0)
    assert [source.pair(index, random).name for index in range(len(source))] == names


def test_pictures_of_nobody_are_used_if_asked(tmp_path):
    file, folder = photographs(tmp_path)
    content = json.loads(Path(file).read_text())
    del content["annotations"][0]
    Path(file).write_text(json.dumps(content))
    for empty, people in ((False, [1]), (True, [0, 1])):
        source = Paths(coco=[file], coco_images=[folder], coco_empty=empty).sources()["coco"]
        random = np.random.default_rng(0)
        assert [len(source.pair(index, random).people) for index in range(len(source))] == people
