"""Small synthetic scenes and people of plain build for tests."""

from dataclasses import replace
from typing import Any

import numpy as np

from dimofs.datasets.synthetic import casting
from dimofs.datasets.synthetic.casting import cast
from dimofs.datasets.synthetic.clips import Scene
from dimofs.datasets.synthetic.gaits import Style
from dimofs.datasets.synthetic.puppets import Build
from dimofs.datasets.synthetic.scenery import Camera

SMALL: dict[str, Any] = {"length": 12, "height": 96, "width": 128}
PLAIN = Build(stature=2.0, bulk=1.0, leg=1.0, arm=1.0, chest=0.112, hips=0.1, loose=1.0, long_hair=False, skirt=False)
STYLE = Style(rate=1.0, size=1.0, phase=0.0, active="right")


def scene(seed: int, people: tuple[int, int] = (1, 6), **sizes: int) -> Scene:
    return Scene(seed, **(SMALL | sizes), people=people)


def still_life(seed: int, number: int) -> Scene:
    """A scene of `number` people where nothing moves, nothing stands in front and nobody casts a shadow."""
    made = scene(seed, (number, number))
    made.camera = Camera(np.zeros((12, 2)), np.ones(12))
    time = np.full(12, 0.3)
    made.actors = [bare(actor) for actor in cast(seed, number, made.stage, made.camera, time)]
    for person, actor in enumerate(made.actors):
        made.keypoints[:, person], made.heads[:, person] = actor.keypoints, actor.heads
    made.scenery = replace(made.scenery, things=())
    return made


def bare(actor: casting.Actor) -> casting.Actor:
    """The actor without a shadow."""
    nothing = np.zeros(0, np.int64)
    return replace(actor, shadow=[shadow.select(nothing) for shadow in actor.shadow])
