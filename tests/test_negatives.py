"""Hard negatives: pictures of nobody in which a model sees people, and training on them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dimofs.cli import InputError
from dimofs.datasets.coco import CocoKeypoints
from dimofs.detections import Detections
from dimofs.eval import coco
from dimofs.overlay import png
from dimofs.skeletons import DIMOFS
from dimofs.zoo import negatives
from dimofs.zoo.training.data import Paths, skeleton_of
from tests.support.mice import write_mice
from tests.support.tiny import tiny


class Brightness:
    """Sees a person whose score is the brightness of the picture; nobody in black ones."""

    keypoint_names = DIMOFS

    def __call__(self, frames: torch.Tensor, *, max_people: int) -> list[Detections]:
        score = frames.float().mean() / 255
        people = Detections(torch.ones(1, 4), score[None], torch.zeros(1, 19, 2), torch.zeros(1, 19))
        return [people[: int(score > 0)]]


def paint(folder: Path, **greys: int) -> Path:
    folder.mkdir()
    for name, grey in greys.items():
        (folder / f"{name}.png").write_bytes(png(np.full((6, 8, 3), grey, np.uint8)))
    return folder


def test_the_hardest_pictures_are_listed_and_can_be_trained_on(tmp_path, monkeypatch, capsys):
    pictures = paint(tmp_path / "pictures", black=0, dark=51, light=204, white=255)
    monkeypatch.setattr(negatives.checkpoints, "load_as", lambda *_: Brightness())
    negatives.main(images=pictures, out=tmp_path / "hard.json")
    images = json.loads((tmp_path / "hard.json").read_text())["images"]
    assert [(image["file_name"], image["score"]) for image in images] == [("white.png", 1.0), ("light.png", 0.8)]
    assert "2 of 4 pictures are hard" in capsys.readouterr().out
    source = CocoKeypoints(tmp_path / "hard.json", pictures, empty=True)
    pair = source.pair(0, np.random.default_rng(0))
    assert len(source) == 2 and len(pair.people) == 0 and pair.frame_a.shape == (3, 6, 8)
    negatives.main(images=pictures, out=tmp_path / "hard.json", score=0, most=3)
    names = [image["file_name"] for image in json.loads((tmp_path / "hard.json").read_text())["images"]]
    assert names == ["white.png", "light.png", "dark.png"]


def test_pictures_of_subfolders_count(tmp_path, monkeypatch):
    pictures = paint(tmp_path / "pictures", light=204)
    paint(pictures / "sub.png", white=255)
    paint(pictures / "x.poses", overlay=255)
    monkeypatch.setattr(negatives.checkpoints, "load_as", lambda *_: Brightness())
    negatives.main(images=pictures, out=tmp_path / "hard.json")
    source = CocoKeypoints(tmp_path / "hard.json", pictures, empty=True)
    assert [name for name, _ in source.frames()] == ["light.png", "sub.png/white.png"]


def test_without_a_hard_picture_nothing_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(negatives.checkpoints, "load_as", lambda *_: Brightness())
    negatives.main(images=paint(tmp_path / "pictures", black=0), out=tmp_path / "hard.json")
    assert "0 of 1 pictures are hard" in (out := capsys.readouterr().out) and "hard.json is not written" in out
    assert not (tmp_path / "hard.json").exists()


def test_no_picture_is_replaced(tmp_path):
    pictures = paint(tmp_path / "pictures", white=255)
    (tmp_path / "link.json").symlink_to(pictures / "white.png")
    before = (pictures / "white.png").read_bytes()
    for out in (pictures / "white.png", tmp_path / "link.json"):
        with pytest.raises(InputError, match=f"--out {out}: is a picture of --images; give another name"):
            negatives.main(images=pictures, out=out)
        with pytest.raises(InputError, match=f"--save {out}: is a picture of --nobody"):
            coco.main(nobody=pictures, save=out)
    assert (pictures / "white.png").read_bytes() == before


def test_a_model_of_something_else_names_its_category(tmp_path, monkeypatch):
    """What it writes can be trained on together with the file of its training, whose limbs and sigmas are kept."""
    path = write_mice(tmp_path, 1)
    content = json.loads(path.read_text())
    content["categories"][0]["sigmas"] = [0.1, 0.2, 0.3, 1 / 7]
    path.write_text(json.dumps(content))
    mice = CocoKeypoints(path, tmp_path / "photos")
    skeleton = mice.skeleton
    torch.manual_seed(0)
    model = tiny(skeleton.joints, limbs=skeleton.limbs, sigmas=skeleton.sigmas).eval()
    monkeypatch.setattr(negatives.checkpoints, "load_as", lambda *_: model)
    pictures = paint(tmp_path / "pictures", white=255)
    with pytest.raises(InputError, match="runs/mice: does not find people; give the category"):
        negatives.main(images=pictures, out=tmp_path / "hard.json", weights="runs/mice")
    negatives.main(images=pictures, out=tmp_path / "hard.json", weights="runs/mice", category="Mouse", score=0)
    both = Paths(
        coco=[str(path), str(tmp_path / "hard.json")],
        coco_images=[str(tmp_path / "photos"), str(pictures)],
        coco_empty=True,
    ).sources()["coco"]
    assert len(both) == 2 and skeleton_of({"coco": both}) == skeleton


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        negatives.main(images=tmp_path / "x", out=tmp_path / "hard.json")
    with pytest.raises(InputError, match="no image"):
        negatives.main(images=tmp_path, out=tmp_path / "hard.json")
    assert not (tmp_path / "hard.json").exists()
