"""Synthetic dives: the 48 kinds of Diving48's vocabulary, and routines whose kinds no single frame can tell apart.

A dive starts upright, turns about the axis through the hips as often as its somersaults say, forward or backward, and
about the body's own axis as often as its twists say, in the flight position of its kind.

    Forward  faces the way that it travels and turns forward      Reverse  faces that way and turns backward
    Inward   faces the other way and turns forward                Back     faces the other way and turns backward

Twists come early after a turn backward and late after a turn forward. Frames show the takeoff and the position, only
their order shows the counts.

A routine lifts the left arm, the right arm and a leg, one after the other, each up fast and down slowly. The four clips
of a seed are made of the same frames, each of them once, so that a single frame tells nothing and chance is 25 %:

    as_is       the frames in order
    reversed    from the last to the first: up slowly, down fast
    mirrored    the leg first, then the right arm and the left one, each as it is
    fast        every second frame, and then the others: each limb twice, twice as fast

All end with the first frame held, so that in pairs of frames that far apart each frame is once the first of a pair.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np

from dimofs.cli import InputError
from dimofs.datasets.diving48 import Dive
from dimofs.datasets.synthetic import casting, puppets, wardrobe
from dimofs.datasets.synthetic.clips import Scene
from dimofs.datasets.synthetic.gaits import SIDES, Movement, Pose
from dimofs.datasets.synthetic.puppets import Build, Points
from dimofs.datasets.synthetic.scenery import Camera, Stage
from dimofs.datasets.synthetic.twins import write_lossless
from dimofs.datasets.synthetic.wardrobe import Dress

# Frames of a dive.
LENGTH = 48
# Frames of each limb's part of a routine. Their sum is odd, so that every second frame, twice round, meets each once.
BLOCK = 13
# How often the first frame is repeated at the end of a routine: as many frames as lie between those of a pair.
HELD = 5
ROUTINES = ("as_is", "reversed", "mirrored", "fast")
# Height of the camera and of the hips at takeoff, in metres.
EYE, HIPS = 1.2, 1.85
# When flight begins and ends, when the position is taken and left, and when twists begin and end, 0 to 1.
FLIGHT, HOLD = (0.14, 0.94), (0.28, 0.76)
EARLY, LATE = (0.24, 0.58), (0.46, 0.8)
# How fast a body turns before and after the position is held, in units of how fast it turns while it is.
OPEN_RATE = 0.35

# Of each takeoff: somersaults, twists and positions, in the order of Diving48's labels.
_KINDS = {
    "Back": """15som 05Twis FREE, 15som 15Twis FREE, 15som 25Twis FREE, 15som NoTwis PIKE, 15som NoTwis TUCK,
        25som 15Twis PIKE, 25som 25Twis PIKE, 25som NoTwis PIKE, 25som NoTwis TUCK, 2som 15Twis FREE, 2som 25Twis FREE,
        35som NoTwis PIKE, 35som NoTwis TUCK, 3som NoTwis PIKE, 3som NoTwis TUCK, Dive NoTwis PIKE, Dive NoTwis TUCK""",
    "Forward": """15som 1Twis FREE, 15som 2Twis FREE, 15som NoTwis PIKE, 1som NoTwis PIKE, 25som 1Twis PIKE,
        25som 2Twis PIKE, 25som 3Twis PIKE, 25som NoTwis PIKE, 25som NoTwis TUCK, 35som NoTwis PIKE, 35som NoTwis TUCK,
        45som NoTwis TUCK, Dive NoTwis PIKE, Dive NoTwis STR""",
    "Inward": """15som NoTwis PIKE, 15som NoTwis TUCK, 25som NoTwis PIKE, 25som NoTwis TUCK, 35som NoTwis TUCK,
        Dive NoTwis PIKE""",
    "Reverse": """15som 05Twis FREE, 15som 15Twis FREE, 15som 25Twis FREE, 15som 35Twis FREE, 15som NoTwis PIKE,
        25som 15Twis PIKE, 25som NoTwis PIKE, 25som NoTwis TUCK, 35som NoTwis TUCK, Dive NoTwis PIKE,
        Dive NoTwis TUCK""",
}
DIVES = [Dive(takeoff, *kind.split()) for takeoff, kinds in _KINDS.items() for kind in kinds.split(",")]

# Angles (flexion, abduction) of the parts of either side, see `gaits`.
_STAND = {"arm": (0.0, 0.15), "forearm": (0.1, 0.1), "thigh": (0.0, 0.04), "calf": (0.0, 0.04), "foot": (0.0, 0.0)}
_CROUCH = _STAND | {"arm": (-0.7, 0.5), "forearm": (-0.5, 0.5), "thigh": (0.9, 0.05), "calf": (-0.7, 0.05)}
_REACH = _STAND | {"arm": (3.0, 0.05), "forearm": (3.05, 0.0), "foot": (-1.0, 0.0)}
_BESIDE = _STAND | {"arm": (0.05, 0.08), "forearm": (0.05, 0.05), "foot": (-1.0, 0.0)}
_POSITIONS = {
    "PIKE": _REACH | {"arm": (1.9, 0.05), "forearm": (2.1, 0.0), "thigh": (2.2, 0.04), "calf": (2.2, 0.04)},
    "TUCK": _REACH | {"arm": (0.9, 0.1), "forearm": (1.5, 0.0), "thigh": (2.3, 0.05), "calf": (-0.2, 0.05)},
    "STR": _BESIDE,
    "FREE": _BESIDE | {"thigh": (0.5, 0.04), "calf": (0.5, 0.04), "arm": (0.6, 0.9), "forearm": (0.7, 0.9)},
}
_LEANS = {"PIKE": 0.35, "TUCK": 0.4}
# While twisting, one arm is bent above the head and the other across the chest.
_WRAPPED = {"left_arm": (2.7, 0.2), "left_forearm": (3.6, -0.9), "right_arm": (0.7, 0.1), "right_forearm": (1.3, -1.1)}


class DiveScene(Scene):
    """The diver of one seed who does a dive of this kind, to the left or to the right, before a camera that stands
    still."""

    def __init__(self, seed: int, kind: Dive, *, length: int = LENGTH, height: int = 240, width: int = 320):
        super().__init__(seed, length=length, height=height, width=width, people=(0, 0))
        random = np.random.default_rng((seed, 8))
        scale = random.uniform(0.46, 0.54) * height / 1.72
        way = float(random.choice((-1, 1)))
        time = np.clip(np.linspace(random.uniform(-0.04, 0.02), random.uniform(0.98, 1.04), length), 0, 1)
        facing = way if kind.takeoff in ("Forward", "Reverse") else -way
        yaw = facing * np.pi / 2 + random.uniform(-0.35, 0.35)
        build = Build.sample(random)
        points = _flown(_body(build, kind, time, yaw), kind, time, yaw)
        across = 0.5 + way * (time - 0.5) * random.uniform(0.15, 0.35)
        play(self, random, build, points, across * width, scale)
        self.name = f"{folder_of(kind)}/{seed:06d}"


class RoutineScene(Scene):
    """The different frames of a seed's routine in order, before a camera that stands still."""

    def __init__(self, seed: int, *, height: int = 240, width: int = 320):
        super().__init__(seed, length=3 * BLOCK, height=height, width=width, people=(0, 0))
        random = np.random.default_rng((seed, 9))
        scale = random.uniform(0.5, 0.65) * height / 1.72
        build, yaw = Build.sample(random), random.normal(0, 0.4) * np.ones(self.length)
        points = puppets.joints(build, routine(), yaw)
        play(self, random, build, points, random.uniform(0.35, 0.65) * width * np.ones(self.length), scale)
        self.name = f"routine/{seed:06d}"


def play(scene: Scene, random: np.random.Generator, build: Build, points: Points, x: np.ndarray, scale: float) -> None:
    """Let one person go through `points` in a scene, at x [T] pixels and `scale` pixels a metre; the camera stands."""
    height, width = scene.height, scene.width
    still = np.ones(scene.length)
    scene.camera = Camera(np.zeros((scene.length, 2)), still)
    scene.stage = Stage(height=height, width=width, horizon=0.96 * height - EYE * scale, eye=EYE, nearest=scale)
    path = casting.Path(x=x, scale=scale * still, yaw=0 * still)
    clothes = wardrobe.textures(Dress.sample(random), random)
    actor = casting.embodied("dive", build, points, path, scene.stage, scene.camera, clothes)
    scene.actors, scene.keypoints, scene.heads = [actor], actor.keypoints[:, None], actor.heads[:, None]


def folder_of(kind: Dive) -> str:
    """The name of a kind's folder; in alphabetical order they are in no order of labels."""
    return "_".join(kind)


def somersaults(kind: Dive) -> float:
    """How often the body turns about the hips; a plain dive turns half round, into the water head first."""
    return 0.5 if kind.somersaults == "Dive" else _count(kind.somersaults.removesuffix("som"))


def twists(kind: Dive) -> float:
    """How often the body turns about its own axis."""
    return 0.0 if kind.twists == "NoTwis" else _count(kind.twists.removesuffix("Twis"))


def _count(digits: str) -> float:
    """The number that the vocabulary writes as "2", or without its point as "05" and "25"."""
    return int(digits) / (10 if len(digits) == 2 else 1)


def _body(build: Build, kind: Dive, time: np.ndarray, yaw: float) -> Points:
    """The points of the body, which stands upright and twists."""
    turns = twists(kind)
    window = EARLY if kind.takeoff in ("Back", "Reverse") else LATE
    twisted = 2 * np.pi * turns * _rising(time, *window)
    pose = _posed(kind, time)
    if turns:
        around = _rising(time, window[0] - 0.08, window[0]) - _rising(time, window[1], window[1] + 0.08)
        for part, angles in _WRAPPED.items():
            pose[part] = pose[part] + around[:, None] * (np.array(angles) - pose[part])
    nothing = np.zeros(len(time))
    return puppets.joints(build, Movement(pose=pose, lift=nothing, twist=nothing, gaze=nothing), yaw + twisted)


def _posed(kind: Dive, time: np.ndarray) -> Pose:
    """The angles of all parts: a crouch, a reach, the position of the kind, and the entry."""
    # Whole somersaults end feet first.
    entry = _BESIDE if somersaults(kind) % 1 == 0 else _REACH
    held = _POSITIONS[kind.position]
    keys = [(0, _STAND), (0.08, _CROUCH), (0.16, _REACH), (HOLD[0], held), (HOLD[1], held), (0.88, entry), (1, entry)]
    moments = [moment for moment, _ in keys]
    pose: Pose = {}
    for part in _STAND:
        angles = _through(time, moments, np.array([angles[part] for _, angles in keys]))
        pose |= {f"{side}_{part}": angles for side in SIDES}
    lean = _LEANS.get(kind.position, 0.0)
    leans = np.array([(0, 0), (0.3, 0), (0, 0), (lean, 0), (lean, 0), (0, 0), (0, 0)])
    pose["trunk"] = _through(time, moments, leans)
    pose["head"] = pose["trunk"] + (0.05, 0)
    return pose


def _flown(points: Points, kind: Dive, time: np.ndarray, yaw: float) -> Points:
    """The points after the body has turned about its hips, on its way up and down."""
    sign = 1 if kind.takeoff in ("Forward", "Inward") else -1
    turned = sign * 2 * np.pi * somersaults(kind) * _turning(time)
    up, forward = np.array((0.0, 1.0, 0.0)), np.array((np.sin(yaw), 0.0, np.cos(yaw)))
    s, c = np.sin(turned)[:, None], np.cos(turned)[:, None]
    hips = points["pelvis"]
    flight = np.clip((time - FLIGHT[0]) / (FLIGHT[1] - FLIGHT[0]), 0, 1)
    # Standing, the hips are where legs hold them; in flight they rise by a metre and fall below the platform.
    place = hips + np.stack((0 * time, HIPS - hips[:1, 1] + 2.6 * flight * (0.72 - flight), 0 * time), 1)

    def turn(v: np.ndarray) -> np.ndarray:
        above, ahead = (v @ up)[:, None], (v @ forward)[:, None]
        return v + (c * above - s * ahead - above) * up + (c * ahead + s * above - ahead) * forward

    # The direction of the gaze has no place.
    return {name: turn(p) if name == "gaze" else place + turn(p - hips) for name, p in points.items()}


def _turning(time: np.ndarray) -> np.ndarray:
    """[T], the part of all turns that is done, 0 to 1: fast while the position is held."""
    moments = np.array([FLIGHT[0], *HOLD, FLIGHT[1]])
    done = np.cumsum([0, *(np.diff(moments) * (OPEN_RATE, 1, OPEN_RATE))])
    return np.interp(time, moments, done / done[-1])


def _rising(time: np.ndarray, start: float, stop: float) -> np.ndarray:
    """[T], from 0 at `start` to 1 at `stop`, smooth at both ends."""
    share = np.clip((time - start) / (stop - start), 0, 1)
    return share * share * (3 - 2 * share)


def _through(time: np.ndarray, moments: Sequence[float], values: np.ndarray) -> np.ndarray:
    """[T, D]: from one of the `values` [K, D] to the next, at rest at each moment."""
    steps = np.diff(values, axis=0)
    shares = [_rising(time, start, stop) for start, stop in pairwise(moments)]
    return values[0] + np.stack(shares, 1) @ steps


def routine() -> Movement:
    """The movement of the three limbs; each begins and ends at rest."""
    part = np.arange(BLOCK) / BLOCK
    # Up in a quarter of the time.
    lifted = _rising(part, 0, 0.25) - _rising(part, 0.25, 1)
    nothing = np.zeros(3 * BLOCK)
    pose: Pose = {}
    for name, angles in _STAND.items():
        pose |= {f"{side}_{name}": np.tile(angles, (3 * BLOCK, 1)).astype(float) for side in SIDES}
    pose |= {"trunk": np.zeros((3 * BLOCK, 2)), "head": np.zeros((3 * BLOCK, 2))}
    limbs = (("left_arm", "left_forearm"), ("right_arm", "right_forearm"), ("left_thigh", "left_calf"))
    for number, limb in enumerate(limbs):
        now = slice(number * BLOCK, (number + 1) * BLOCK)
        for name in limb:
            pose[name][now] += lifted[:, None] * ((0.2, 2.3) if number < 2 else (1.3, 0.15))
    return Movement(pose=pose, lift=nothing, twist=nothing, gaze=nothing)


def routine_order(kind: str) -> np.ndarray:
    """The numbers of the routine's frames in the order of a kind, one of ROUTINES. KeyError: it is none."""
    frames = np.arange(3 * BLOCK)
    orders = {
        "as_is": frames,
        "reversed": frames[::-1],
        "mirrored": frames.reshape(3, BLOCK)[::-1].reshape(-1),
        "fast": 2 * frames % len(frames),
    }
    return np.concatenate((orders[kind], np.zeros(HELD, frames.dtype)))


def write_dives(
    folder: Path, kinds: Sequence[Dive], *, train: int, test: int, seed: int = 0, length: int = LENGTH
) -> Iterator[Path]:
    """Write so many dives of each kind to FOLDER/train/KIND and FOLDER/test/KIND, unless they are there; their paths.

    Every clip has a diver, clothes and a place of its own. InputError: the folder holds other clips.
    """
    dives = {}
    for number, kind in enumerate(kinds):
        for place in range(train + test):
            own = (seed * 1000 + number) * 1000 + place
            path = _path(folder, "train" if place < train else "test", folder_of(kind), own)
            dives[path] = own, kind
    _check_alone(folder, dives)
    for path, (own, kind) in dives.items():
        if not path.exists():
            write_lossless(path, shots(DiveScene(own, kind, length=length)))
        yield path


def write_routines(folder: Path, *, train: int, test: int, seed: int = 0) -> Iterator[Path]:
    """Write so many routines of each kind to FOLDER/train/KIND and FOLDER/test/KIND, unless they are there; their
    paths. The four kinds of one seed are in the same part. InputError: the folder holds other clips."""
    places = {}
    for place in range(train + test):
        own, part = seed * 1000 + place, "train" if place < train else "test"
        places[own] = {kind: _path(folder, part, kind, own) for kind in ROUTINES}
    _check_alone(folder, {path for paths in places.values() for path in paths.values()})
    for own, paths in places.items():
        if not all(path.exists() for path in paths.values()):
            frames = shots(RoutineScene(own))
            for kind, path in paths.items():
                write_lossless(path, [frames[number] for number in routine_order(kind)])
        yield from paths.values()


def shots(scene: Scene) -> list[np.ndarray]:
    """All frames of a scene, [H, W, 3] uint8."""
    return [scene.shoot(number).frame for number in range(scene.length)]


def _check_alone(folder: Path, paths: Collection[Path]) -> None:
    """InputError: the folder holds clips besides these. With other numbers of clips the same scene may be in the other
    part."""
    for path in sorted(folder.glob("t*/*/*.mkv")):
        if path not in paths:
            raise InputError(f"{folder}: holds {path.relative_to(folder)}, of other options; give another folder")


def _path(folder: Path, part: Literal["train", "test"], kind: str, seed: int) -> Path:
    return folder / part / kind / f"{seed:08d}.mkv"
