"""The people of a synthetic scene: looks, action and path of each, and the strokes and joints that follow from them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dimofs.datasets.synthetic import puppets, wardrobe
from dimofs.datasets.synthetic.gaits import ACTIONS, Style, pace, perform
from dimofs.datasets.synthetic.puppets import Build, Figure
from dimofs.datasets.synthetic.scenery import MARGIN, Camera, Stage
from dimofs.datasets.synthetic.strokes import Strokes
from dimofs.datasets.synthetic.wardrobe import MATERIALS, Dress

# How much lower in the frame a point appears if it is one metre nearer to the camera, in metres.
TILT = 0.12
# The smallest height of a person, in units of the frame's height.
SMALLEST = 0.165
# Range of the factor by which walking towards the camera or away from it changes a person's size.
GROWTH = (0.6, 1.6)
# Seconds that it takes to turn round.
TURN = 0.3


@dataclass(frozen=True)
class Path:
    """Where a person is at T moments: x [T] in world pixels, scale [T] in pixels a metre, yaw [T] in radians."""

    x: np.ndarray
    scale: np.ndarray
    yaw: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Actor:
    """One person of a scene at T moments, in frame pixels.

    body, shadow: T groups of strokes, the body's in the order of painting; their owner and texture are those of
                  person 0.
    scale:        [T], pixels a metre in the world; people and things are ordered in depth by it.
    ground:       [T], world y of the feet.
    keypoints:    [T, 19, 2] float32; heads: [T, 4] float32; atlas: [len(MATERIALS), *TEXTURE, 3] float32.
    """

    action: str
    body: list[Strokes]
    shadow: list[Strokes]
    scale: np.ndarray
    ground: np.ndarray
    keypoints: np.ndarray
    heads: np.ndarray
    atlas: np.ndarray


def cast(seed: int, number: int, stage: Stage, camera: Camera, time: np.ndarray) -> list[Actor]:
    """The `number` people of a scene. In some scenes they are dressed alike; in many their paths cross."""
    random = np.random.default_rng((seed, 2))
    team = Dress.sample(random) if random.random() < 0.25 else None
    meeting = random.uniform(time[0], time[-1]) if len(time) > 1 else 0.0
    where = random.uniform(0.25, 0.75) * stage.width
    crossing = random.random() < 0.65
    actors = []
    for person in range(number):
        own = np.random.default_rng((seed, 3, person))
        met = (meeting, where) if crossing and person < 3 else None
        actors.append(_actor(own, person, stage, camera, time, team, met))
    return actors


def _actor(
    random: np.random.Generator,
    person: int,
    stage: Stage,
    camera: Camera,
    time: np.ndarray,
    team: Dress | None,
    met: tuple[float, float] | None,
) -> Actor:
    """One random person. met: the time and the world x at which the path crosses those of others, or None."""
    build, dress = Build.sample(random), Dress.sample(random)
    if team is not None:
        dress = replace(team, skin=dress.skin, hair=dress.hair)
    active = str(random.choice(("left", "right")))
    style = Style(
        rate=random.uniform(0.8, 1.2),
        size=random.uniform(0.8, 1.15),
        phase=random.uniform(0, 2 * np.pi),
        active=active,
    )
    on_foot = random.random() < (0.8 if met and person < 2 else 0.35)
    action = str(random.choice(("walk", "run"), p=(0.7, 0.3)) if on_foot else random.choice(ACTIONS[2:]))
    path = (_way if on_foot else _spot)(random, stage, time, pace(action, style) * 0.5 * build.stature, met)
    points = puppets.joints(build, perform(action, time, style), path.yaw)
    return embodied(action, build, points, path, stage, camera, wardrobe.textures(dress, random))


def embodied(
    action: str, build: Build, points: puppets.Points, path: Path, stage: Stage, camera: Camera, atlas: np.ndarray
) -> Actor:
    """The person of this build and `atlas` of clothes whose joints go through `points` on a path."""
    figure = puppets.figure(build, points)
    project = _Projection(stage, path, camera)
    return Actor(
        action=action,
        body=_body(figure, project),
        shadow=_shadows(figure, build, project),
        scale=path.scale,
        ground=project.ground,
        keypoints=project(puppets.keypoints(points)).astype(np.float32),
        heads=_head_boxes(figure, project),
        atlas=atlas,
    )


# --- paths ---


def _scale(random: np.random.Generator, stage: Stage) -> float:
    """A random scale in pixels a metre, between those of the nearest and of the smallest person."""
    least = SMALLEST * stage.height / 1.6
    return max(least, stage.nearest * (0.35 + 0.65 * random.random() ** 0.8))


def _spot(
    random: np.random.Generator, stage: Stage, time: np.ndarray, speed: float, met: tuple[float, float] | None
) -> Path:
    """Standing in one place and turning slowly: facing about the camera, or any direction."""
    x = met[1] if met else random.uniform(0.06, 0.94) * stage.width
    yaw = random.normal(0, 0.7) if random.random() < 0.55 else random.uniform(-np.pi, np.pi)
    yaw = yaw + random.normal(0, 0.25) * np.sin(random.uniform(0.5, 1.5) * time)
    return Path(np.full(len(time), x), np.full(len(time), _scale(random, stage)), yaw)


def _way(
    random: np.random.Generator, stage: Stage, time: np.ndarray, speed: float, met: tuple[float, float] | None
) -> Path:
    """Walking to and fro at `speed` metres a second on a straight line: across the view and beyond it, or obliquely."""
    scale = _scale(random, stage)
    across = random.random() < 0.75
    heading = random.uniform(-0.3, 0.3) if across else random.choice((-1, 1)) * random.uniform(0.6, 1.5)
    heading = np.pi / 2 - heading + (np.pi if random.random() < 0.5 else 0)
    # One step of a metre moves by x to the right and by z towards the camera.
    x, z = np.sin(heading), np.cos(heading)
    when, where = met or (random.uniform(time[0], time[-1]), random.uniform(0.1, 0.9) * stage.width)
    far = 2 * (0.5 + MARGIN[1]) * stage.width / scale + 2.5 if across else random.uniform(2.5, 5)
    gone, turn = _to_and_fro((time - when) * speed, far, TURN * speed)
    growth = 1 / np.clip(1 - z * gone * scale / stage.focal, 1 / GROWTH[1], 1 / GROWTH[0])
    # A straight line in space keeps its vanishing point.
    middle = stage.width / 2
    vanishing = middle + (where - middle) * growth
    return Path(vanishing + gone * x * scale * growth, scale * growth, heading + np.pi * turn)


def _to_and_fro(way: np.ndarray, far: float, turn: float) -> tuple[np.ndarray, np.ndarray]:
    """The place of someone after `way` metres who turns round at -far / 2 and far / 2, and the number of turns so far.

    The person turns during the last `turn` metres before each end.
    """
    rounds = way / far + 0.5
    count = np.floor(rounds)
    part = rounds - count
    back = count % 2
    place = far * np.where(back == 1, 0.5 - part, part - 0.5)
    share = np.clip((part - 1) * far / max(turn, 1e-6) + 1, 0, 1)
    return place, count + share * share * (3 - 2 * share)


# --- from space to the frame ---


class _Projection:
    """Projects points of a puppet's space, metres [T, ..., 3], to frame pixels [T, ..., 2]."""

    def __init__(self, stage: Stage, path: Path, camera: Camera):
        self.camera, self.path, self.size = camera, path, (stage.height, stage.width)
        self.ground = stage.horizon + stage.eye * path.scale
        # frame pixels a metre
        self.zoom = path.scale * camera.zoom

    def __call__(self, points: np.ndarray) -> np.ndarray:
        axes = (...,) + (None,) * (points.ndim - 2)
        x, y, z = np.moveaxis(points, -1, 0)
        scale = self.path.scale[axes]
        world = np.stack((self.path.x[axes] + scale * x, self.ground[axes] - scale * (y - TILT * z)), -1)
        return self.camera.project(world, slice(None), *self.size)


def _body(figure: Figure, project: _Projection) -> list[Strokes]:
    """The strokes of the body at each moment, in the order of painting."""
    starts, stops = (project(ends).astype(np.float32) for ends in (figure.start, figure.stop))
    widths = (figure.widths * project.zoom[:, None, None]).astype(np.float32)
    blunt, alpha = figure.blunt.astype(np.float32), figure.alpha.astype(np.float32)
    groups = []
    for t, order in enumerate(np.argsort(figure.depth, axis=1, kind="stable")):
        group = Strokes(
            start=starts[t],
            stop=stops[t],
            widths=widths[t],
            blunt=blunt,
            soft=np.ones(len(blunt), np.float32),
            alpha=alpha[t],
            texture=figure.material,
            owner=np.zeros(len(blunt), np.int64),
            solid=np.ones(len(blunt), bool),
            large=~figure.detail,
        )
        groups.append(group.select(order))
    return groups


def _shadows(figure: Figure, build: Build, project: _Projection) -> list[Strokes]:
    """A soft dark spot under the feet."""
    feet = figure.start[:, figure.feet].mean(1) * (1, 0, 1)
    reach = np.array((0.14 * build.stature, 0, 0))
    start, stop = (project((feet + sign * reach)[:, None]).astype(np.float32) for sign in (-1, 1))
    zoom = (project.zoom[:, None] * build.stature).astype(np.float32)
    one, no = np.ones(1, np.float32), np.zeros(1, bool)
    return [
        Strokes(
            start=a,
            stop=b,
            widths=0.03 * scale.repeat(4)[None],
            blunt=one,
            soft=0.08 * scale,
            alpha=0.45 * one,
            texture=np.array([MATERIALS.index("shadow")]),
            owner=np.zeros(1, np.int64),
            solid=no,
            large=no,
        )
        for a, b, scale in zip(start, stop, zoom, strict=True)
    ]


def _head_boxes(figure: Figure, project: _Projection) -> np.ndarray:
    """[T, 4] float32: the extent of the strokes of the head."""
    reach = (figure.widths[:, figure.head].max(-1) * project.zoom[:, None])[..., None]
    ends = np.stack((project(figure.start[:, figure.head]), project(figure.stop[:, figure.head])))
    low, high = (ends - reach).min((0, 2)), (ends + reach).max((0, 2))
    return np.concatenate((low, high), -1).astype(np.float32)
