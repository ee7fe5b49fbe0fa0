"""Training: resumes bit for bit, stops on a loss that is not finite, writes checkpoints that load; labelling."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scenes import write_image

from dimofs.cli import InputError
from dimofs.datasets import teacher
from dimofs.datasets.people import Pair, People
from dimofs.skeletons import COCO, DIMOFS
from dimofs.zoo import checkpoints, initialize, label, movenet, train
from dimofs.zoo.keypoint_head import decode
from dimofs.zoo.losses import Sampling
from dimofs.zoo.presets import KeypointPyramidBackbone, dimofs_mobile, movenet_multipose
from dimofs.zoo.train import Recipe, Trainer, fit, loader

RECIPE = Recipe(
    steps=3, batch=2, size=64, warmup=1, single=0.5, weights=(("noise", 1.0),), sampling=Sampling(32, 8, 2, 0.5)
)


class Noise:
    """Two frames of noise with one person in the middle."""

    def __len__(self):
        return 4

    def pair(self, index, random):
        frames = torch.from_numpy(random.integers(0, 256, (2, 3, 64, 64), dtype="uint8"))
        joints = 16 + 32 * torch.from_numpy(random.random((1, len(DIMOFS), 2), dtype="float32"))
        labelled = torch.ones(1, len(DIMOFS), dtype=torch.bool)
        people = People(torch.tensor([[12.0, 12, 52, 52]]), joints, labelled, torch.zeros(0, 4))
        return Pair(frames[0], frames[1], people, 1, f"noise/{index}")

    def frames(self):
        yield from ()


def trainer(recipe: Recipe = RECIPE) -> Trainer:
    torch.manual_seed(recipe.seed)
    return Trainer(dimofs_mobile(), recipe)


def run(one: Trainer, folder: Path, every: int = 100) -> Trainer:
    folder.mkdir(exist_ok=True)
    batches = loader({"noise": Noise()}, RECIPE, start=one.step, workers=0)
    fit(one, batches, folder, every=every, quiet=True)
    return one


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path):
    whole = run(trainer(), tmp_path / "whole")
    batches = loader({"noise": Noise()}, RECIPE, start=0, workers=0)
    cut = trainer()
    cut.update(next(batches))
    torch.save(cut.state(), tmp_path / "state.pt")
    torch.manual_seed(99)
    again = Trainer(dimofs_mobile(), RECIPE)
    again.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    run(again, tmp_path / "again")
    assert again.step == whole.step == 3
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name]), name
    assert all(torch.equal(a, b) for a, b in zip(whole.average, again.average, strict=True))


def test_the_frozen_stay_and_the_rest_moves():
    one = trainer()
    before = {name: p.detach().clone() for name, p in one.model.named_parameters()}
    one.update(next(loader({"noise": Noise()}, RECIPE, start=0, workers=0)))
    moved = {name for name, p in one.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved
    assert not any(name.startswith(RECIPE.frozen) for name in moved)
    assert {"keypoint_head.deconv.weight", "rpn.objectness.weight", "box_head.fc1.weight"} <= moved


def test_a_loss_that_is_not_finite_names_the_samples():
    one = trainer()
    with torch.no_grad():
        one.model.rpn.objectness.weight.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="noise/"):
        one.update(next(loader({"noise": Noise()}, RECIPE, start=0, workers=0)))


def test_rate_warms_up_and_falls_to_zero():
    recipe = Recipe(steps=100, warmup=10, learning_rate=1.0)
    assert recipe.rate(0) == pytest.approx(0.1)
    assert recipe.rate(9) == pytest.approx(1.0)
    assert recipe.rate(55) == pytest.approx(0.5)
    assert recipe.rate(100) == pytest.approx(0.0)


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
    label.main(weights=str(tmp_path / "movenet"), out=str(tmp_path / "labels"), coco=coco, coco_images=images, size=96)
    labels = teacher.load(tmp_path / "labels" / "coco.npz")
    assert sorted(labels) == ["000000000001.png", "000000000002.png"]
    out = tmp_path / "run"
    for steps in (1, 2):
        train.main(
            "pose",
            out=str(out),
            init=str(tmp_path / "movenet"),
            coco=coco,
            coco_images=images,
            teacher=str(tmp_path / "labels"),
            steps=steps,
            batch=1,
            size=64,
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


def test_training_without_data_says_what_to_give(tmp_path):
    with pytest.raises(InputError, match="--jhmdb"):
        train.main("pose", out=str(tmp_path))
    with pytest.raises(InputError, match="--coco-images"):
        train.main("pose", out=str(tmp_path), coco="people.json")


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
    points, peaks = decode(head(levels, [region], (1 / 4, 1 / 8, 1 / 16, 1 / 32)), region)
    assert peaks[0].argmax() == 3
    assert (points[0, 3] - torch.tensor([80.0, 40])).abs().max() <= 4
    assert isinstance(model.backbone, KeypointPyramidBackbone)
    hint = next(iter(model.backbone.hints))
    weight = model.backbone.fpn.lateral[0].weight  # type: ignore[union-attr]
    assert hint == "kpt_heatmap"
    assert weight[5, -20:, 0, 0].tolist() == [float(i == 5) for i in range(20)]  # type: ignore[index]


def test_training_starts_from_the_models_own_weights_and_from_no_others(tmp_path):
    torch.manual_seed(0)
    first, second = dimofs_mobile(), dimofs_mobile()
    checkpoints.save(first, tmp_path / "first", {})
    initialize.start(second, str(tmp_path / "first"))
    assert all(torch.equal(t, first.state_dict()[name]) for name, t in second.state_dict().items())
    with pytest.raises(InputError, match="first: not the model that is trained"):
        initialize.start(dimofs_mobile(("nose", "neck")), str(tmp_path / "first"))
