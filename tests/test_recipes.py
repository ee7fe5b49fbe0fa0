"""Recipes by hand: learning rates, the paper's numbers, shares of data sets."""

import json
from dataclasses import asdict, fields

import pytest

from dimofs.cli import InputError
from dimofs.zoo.presets import PRESETS
from dimofs.zoo.training.data import Paths, mixed
from dimofs.zoo.training.poses import POSE_RECIPES
from dimofs.zoo.training.recipes import RECIPES, Recipe


def test_cosine_by_hand():
    recipe = Recipe(steps=100, warmup=10, warmup_from=0.1, learning_rate=1.0)
    assert [recipe.rate(step) for step in (0, 5)] == pytest.approx([0.1, 0.55])
    assert [recipe.rate(step) for step in (10, 40, 55, 100)] == pytest.approx([1.0, 0.75, 0.5, 0.0])  # 40: 1/3 of it


def test_the_papers_steps_by_hand():
    rate = RECIPES["paper"].rate
    assert [1000 * rate(step) for step in (0, 250, 499)] == pytest.approx([1 / 3, 2 / 3, 1 / 3 + 2 / 3 * 499 / 500])
    steps = (500, 9_999, 10_000, 11_999, 12_000, 12_999)
    assert [1000 * rate(step) for step in steps] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_the_papers_numbers():
    paper, poses = RECIPES["paper"], POSE_RECIPES["paper"]
    assert (paper.steps, paper.optimizer, paper.momentum, paper.weight_decay) == (13_000, "sgd", 0.9, 1e-4)
    assert (poses.preset, poses.canvas, poses.sampling.regions) == ("dimofs_resnet101", 800, 512)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_can_be_run_and_written(name):
    recipe, poses = RECIPES[name], POSE_RECIPES[name]
    assert poses.preset in PRESETS
    json.dumps([asdict(recipe), asdict(poses)], allow_nan=False)
    used = {f.name for f in fields(Paths)} - {"jhmdb_labels", "coco_images", "coco_empty", "category", "every"}
    assert set(poses.mix) == used


def test_a_change_of_none_is_none():
    recipe = RECIPES["paper"].changed(steps=7, batch=None, recompute=False)
    assert (recipe.steps, recipe.batch, recipe.recompute) == (7, 8, False)
    poses = POSE_RECIPES["paper"].changed(canvas=None, variant="pixel", single=0.25)
    assert (poses.canvas, poses.arguments, poses.single) == (800, {"variant": "pixel"}, 0.25)


def test_shares_by_hand():
    defaults = {"jhmdb": 0.4, "lspet": 0.35, "coco": 0.25}
    assert mixed(defaults, [], ["coco", "jhmdb"]) == {"coco": 0.25, "jhmdb": 0.4}
    assert mixed(defaults, ["coco=2", "jhmdb=0"], ["jhmdb", "coco"]) == {"jhmdb": 0, "coco": 2}


@pytest.mark.parametrize(
    "entries",
    [
        ["lspet=1"],
        ["jhmdb"],
        ["jhmdb="],
        ["jhmdb=-1"],
        ["jhmdb=nan"],
        ["jhmdb=inf"],
        ["=1"],
        ["jhmdb=0", "coco=0"],
        ["coco=1", "coco=2"],
    ],
    ids="-".join,
)
def test_bad_shares_are_refused(entries):
    with pytest.raises(InputError, match="--mix"):
        mixed({"jhmdb": 0.4, "coco": 0.25}, entries, ["jhmdb", "coco"])
