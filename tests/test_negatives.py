"""Hard negatives: pictures of nobody in which a model sees people, and training on them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dimofs.cli import InputError
from dimofs.datasets.coco import CocoKeypoints
from dimofs.detections import Detections
from dimofs.overlay import png
from dimofs.zoo import negatives


class Brightness:
    """Sees a person whose score is the brightness of the picture; nobody in black ones."""

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


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        negatives.main(images=tmp_path / "x", out=tmp_path / "hard.json")
    with pytest.raises(InputError, match="no image"):
        negatives.main(images=tmp_path, out=tmp_path / "hard.json")
    assert not (tmp_path / "hard.json").exists()
