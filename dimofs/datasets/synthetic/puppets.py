"""Bodies of synthetic people: their build, their joints in space, and the strokes that draw them.

A puppet stands at the origin of its own space, in metres: x to the right in the image, y up from the floor, z towards
the camera. At yaw 0 it faces the camera, so its left side is on the right of the image; after a quarter turn it faces
right.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import numpy as np

from dimofs.datasets.synthetic.gaits import SIDES, Movement
from dimofs.datasets.synthetic.wardrobe import MATERIALS
from dimofs.skeletons import DIMOFS

Points = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Build:
    """The build of one person.

    stature:   in metres.
    bulk:      factor of all widths.
    leg, arm:  factors of their lengths.
    chest, hips: half widths in units of the stature.
    loose:     factor of the widths of trousers and sleeves.
    long_hair: the hair reaches the shoulders.
    skirt:     a skirt covers the thighs.
    """

    stature: float
    bulk: float
    leg: float
    arm: float
    chest: float
    hips: float
    loose: float
    long_hair: bool
    skirt: bool

    @staticmethod
    def sample(random: np.random.Generator) -> Build:
        """The random build of an adult."""
        woman = random.random() < 0.5
        stature = random.normal(1.66 if woman else 1.78, 0.07)
        return Build(
            stature=float(np.clip(stature, 1.45, 2.0)),
            bulk=random.uniform(0.9, 1.2),
            leg=random.uniform(0.96, 1.04),
            arm=random.uniform(0.96, 1.05),
            chest=random.uniform(0.098, 0.108) if woman else random.uniform(0.108, 0.124),
            hips=random.uniform(0.088, 0.098) if woman else random.uniform(0.082, 0.091),
            loose=random.uniform(1.0, 1.18),
            long_hair=random.random() < (0.65 if woman else 0.07),
            skirt=woman and random.random() < 0.2,
        )


# --- joints in space ---


def joints(build: Build, movement: Movement, yaw: np.ndarray) -> Points:
    """The points of the body in metres, each [T, 3]: the joints of `DIMOFS` and others that strokes need.

    The lowest point is on the floor unless the body jumps.
    """
    h = build.stature
    hips = _turned(yaw)
    chest = _leaned(_turned(yaw + movement.twist), movement.pose["trunk"])
    p: Points = {"pelvis": np.zeros((len(yaw), 3))}
    _legs(p, build, movement, hips)
    p["chest"] = p["pelvis"] + 0.288 * h * chest[1]
    _arms(p, build, movement, chest)
    _head(p, build, movement, chest)
    floor = np.min([p[f"{side}_{end}"][:, 1] for side in SIDES for end in ("toe", "heel")], axis=0)
    up = np.zeros_like(p["pelvis"])
    up[:, 1] = movement.lift - floor + 0.016 * h
    return {name: point + up for name, point in p.items()}


def _turned(yaw: np.ndarray) -> np.ndarray:
    """[3, T, 3]: the directions left, up and forward of a body rotated by `yaw` [T] radians."""
    s, c, o = np.sin(yaw), np.cos(yaw), np.zeros_like(yaw)
    return np.stack([np.stack(axis, -1) for axis in ((c, o, -s), (o, 1 + o, o), (s, o, c))])


def _leaned(axes: np.ndarray, lean: np.ndarray) -> np.ndarray:
    """Axes leaned forward by lean[:, 0] and to the left by lean[:, 1]."""
    left, up, forward = axes
    (a, b), (c, d) = np.sin(lean).T[..., None], np.cos(lean).T[..., None]
    up, forward = c * up + a * forward, c * forward - a * up
    return np.stack((d * left - b * up, d * up + b * left, forward))


def _hanging(axes: np.ndarray, angles: np.ndarray, side: str) -> np.ndarray:
    """[T, 3]: the direction of a limb of `side` that is rotated by `angles` from hanging."""
    left, up, forward = axes
    out = left if side == "left" else -left
    (a, b), (c, d) = np.sin(angles).T[..., None], np.cos(angles).T[..., None]
    return d * (a * forward - c * up) + b * out


def _legs(p: Points, build: Build, movement: Movement, axes: np.ndarray) -> None:
    h, pose = build.stature, movement.pose
    left, up, forward = axes
    for side in SIDES:
        out = left if side == "left" else -left
        p[f"{side}_hip"] = p["pelvis"] + h * (0.056 * out)
        p[f"{side}_knee"] = p[f"{side}_hip"] + 0.245 * h * build.leg * _hanging(axes, pose[f"{side}_thigh"], side)
        p[f"{side}_ankle"] = p[f"{side}_knee"] + 0.238 * h * build.leg * _hanging(axes, pose[f"{side}_calf"], side)
        pitch = pose[f"{side}_foot"][:, :1]
        ahead = np.cos(pitch) * (forward + 0.2 * out) + np.sin(pitch) * up
        down = np.cos(pitch) * up - np.sin(pitch) * forward
        p[f"{side}_heel"] = p[f"{side}_ankle"] - h * (0.026 * down + 0.016 * ahead)
        p[f"{side}_toe"] = p[f"{side}_ankle"] - h * (0.032 * down - 0.086 * ahead)


def _arms(p: Points, build: Build, movement: Movement, axes: np.ndarray) -> None:
    h, pose = build.stature, movement.pose
    left, up, _ = axes
    for side in SIDES:
        out = left if side == "left" else -left
        # The shoulder rises with the arm.
        raised = 0.03 * np.clip(pose[f"{side}_arm"].max(1, keepdims=True) - 1.2, 0, 1)
        p[f"{side}_shoulder"] = p["chest"] + h * ((build.chest - 0.012) * out + (raised - 0.012) * up)
        upper, fore = (_hanging(axes, pose[f"{side}_{part}"], side) for part in ("arm", "forearm"))
        p[f"{side}_elbow"] = p[f"{side}_shoulder"] + 0.165 * h * build.arm * upper
        p[f"{side}_wrist"] = p[f"{side}_elbow"] + 0.142 * h * build.arm * fore
        p[f"{side}_hand"] = p[f"{side}_wrist"] + 0.066 * h * fore


def _head(p: Points, build: Build, movement: Movement, chest: np.ndarray) -> None:
    h = build.stature
    p["neck"] = p["chest"] + h * (0.028 * chest[1] + 0.006 * chest[2])
    left, up, forward = _leaned(_gazing(chest, movement.gaze), movement.pose["head"])
    base = p["chest"] + h * (0.042 * chest[1] + 0.01 * chest[2])
    p["chin"] = base + h * (0.016 * up + 0.036 * forward)
    # The middle of the head.
    p["skull"] = base + h * (0.075 * up + 0.008 * forward)
    p["head_top"] = p["skull"] + h * 0.062 * up
    p["brow"] = p["skull"] + h * (0.002 * up + 0.013 * forward)
    p["jaw"] = p["skull"] + h * (-0.032 * up + 0.019 * forward)
    p["crown"] = p["skull"] + h * (0.014 * up - 0.012 * forward)
    p["nape"] = p["skull"] - h * (0.012 * up + 0.02 * forward)
    p["locks"] = p["skull"] - h * (0.085 * up + 0.03 * forward)
    p["nose"] = p["skull"] + h * (-0.012 * up + 0.056 * forward)
    p["bridge"] = p["skull"] + h * (0.008 * up + 0.048 * forward)
    p["mouth_left"] = p["skull"] + h * (-0.035 * up + 0.046 * forward + 0.014 * left)
    p["mouth_right"] = p["skull"] + h * (-0.035 * up + 0.046 * forward - 0.014 * left)
    for side, out in zip(SIDES, (left, -left), strict=True):
        p[f"{side}_eye"] = p["skull"] + h * (0.008 * up + 0.043 * forward + 0.019 * out)
        p[f"{side}_brow"] = p[f"{side}_eye"] + h * (0.011 * up)
        p[f"{side}_temple"] = p[f"{side}_brow"] + h * (0.009 * out - 0.004 * up - 0.008 * forward)
        p[f"{side}_ear"] = p["skull"] + h * (-0.002 * up - 0.006 * forward + 0.047 * out)
    p["gaze"] = forward


def _gazing(axes: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Axes rotated to the left, around their up direction, by `turn` [T] radians."""
    left, up, forward = axes
    s, c = np.sin(turn)[:, None], np.cos(turn)[:, None]
    return np.stack((c * left - s * forward, up, c * forward + s * left))


def keypoints(points: Points) -> np.ndarray:
    """[T, 19, 3]: the joints of `DIMOFS`."""
    return np.stack([points[name] for name in DIMOFS], 1)


# --- strokes ---


@dataclass(frozen=True)
class Part:
    """A stroke of the body.

    widths:   half widths in units of the stature.
    bias:     metres by which it counts as nearer to the camera than it is.
    blunt:    how flat its caps are, see `Strokes`.
    nearness: the place along it, 0 to 1, whose depth it takes.
    face:     whether it is opaque only as far as the face is turned to the camera.
    """

    name: str
    start: str
    stop: str
    widths: tuple[float, float, float, float]
    material: str
    _: KW_ONLY
    bias: float = 0.0
    blunt: float = 1.0
    nearness: float = 0.5
    face: bool = False


def _limbs(build: Build) -> list[Part]:
    w, c = build.bulk, build.bulk * build.loose
    parts = []
    for side in SIDES:
        thigh = (0.048 * c, 0.046 * c, 0.038 * c, 0.033 * c)
        calf = (0.034 * c, 0.034 * w**0.5 * c, 0.027 * c, 0.023 * c)
        parts += [
            Part("shoe", f"{side}_heel", f"{side}_toe", (0.022, 0.025, 0.021, 0.015), "shoe", bias=0.03),
            Part("calf", f"{side}_knee", f"{side}_ankle", calf, "calf"),
            Part("thigh", f"{side}_hip", f"{side}_knee", thigh, "thigh", nearness=0.15),
            Part("hand", f"{side}_wrist", f"{side}_hand", (0.014, 0.019, 0.018, 0.012), "skin", bias=0.035),
            Part(
                "fore", f"{side}_elbow", f"{side}_wrist", (0.024 * c, 0.025 * c, 0.02 * w, 0.016 * w), "fore", bias=0.04
            ),
            Part("upper", f"{side}_shoulder", f"{side}_elbow", (0.034 * c, 0.031 * c, 0.027 * c, 0.025 * c), "upper"),
        ]
    return parts


def _heads(build: Build) -> list[Part]:
    parts = [
        Part("neck", "chest", "jaw", (0.04, 0.031, 0.03, 0.03), "skin", bias=0.02),
        Part("hair", "crown", "nape", (0.054, 0.055, 0.053, 0.047), "hair", bias=0.0),
        Part("head", "brow", "jaw", (0.046, 0.047, 0.042, 0.032), "skin", bias=0.0),
        Part("nose", "bridge", "nose", (0.004, 0.006, 0.008, 0.008), "skin", bias=0.03),
        Part("lips", "mouth_left", "mouth_right", (0.003, 0.005, 0.005, 0.003), "lip", bias=0.03, face=True),
    ]
    if build.long_hair:
        parts.append(Part("locks", "nape", "locks", (0.052, 0.052, 0.05, 0.04), "hair", bias=-0.01))
    for side in SIDES:
        parts += [
            Part("ear", f"{side}_ear", f"{side}_ear", (0.012, 0.012, 0.012, 0.012), "skin", bias=-0.01),
            Part("eye", f"{side}_eye", f"{side}_eye", (0.007, 0.007, 0.007, 0.007), "dark", bias=0.03, face=True),
            Part("brow", f"{side}_brow", f"{side}_temple", (0.004, 0.004, 0.003, 0.002), "hair", bias=0.03, face=True),
        ]
    return parts


def _trunk(build: Build) -> list[Part]:
    """Trunk, hips and skirt as seen from the front; `_seen_from` makes them narrower from the side."""
    c, h, w = build.chest, build.hips, build.bulk**0.5
    parts = [
        Part("hips", "waist", "seat", (0.9 * h * w, 0.97 * h * w, h * w, 0.9 * h * w), "hips", bias=0.005, blunt=2.5),
        Part(
            "yoke", "left_shoulder", "right_shoulder", (0.026 * w, 0.043 * w, 0.043 * w, 0.026 * w), "yoke", bias=0.016
        ),
        Part(
            "trunk", "collar", "hem", (0.84 * c * w, 0.98 * c * w, 0.86 * c * w, h * w), "torso", bias=0.015, blunt=4.0
        ),
    ]
    if build.skirt:
        flare = (0.9 * h, 1.05 * h, 1.2 * h, 1.35 * h)
        parts.append(Part("skirt", "waist", "knees", flare, "hips", bias=0.012, blunt=4.0))
    return parts


# Half widths of the parts of the trunk seen from the side, in units of the stature.
DEPTH = {
    "trunk": (0.058, 0.070, 0.062, 0.066),
    "yoke": (0.022, 0.026, 0.026, 0.022),
    "hips": (0.06, 0.066, 0.07, 0.062),
    "skirt": (0.06, 0.08, 0.1, 0.11),
}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """The K strokes of one puppet at T moments, in its own space, in metres.

    start, stop: [T, K, 3].
    widths:      [T, K, 4], half widths.
    depth:       [T, K]; strokes are painted in ascending order of it.
    alpha:       [T, K], opacity.
    blunt:       [K], how flat the caps are.
    material:    [K], index into `MATERIALS`.
    head, feet:  [K] bool, whether it belongs to the head, to a shoe.
    detail:      [K] bool, whether it is too small to tell whether the body is visible.
    """

    start: np.ndarray
    stop: np.ndarray
    widths: np.ndarray
    depth: np.ndarray
    alpha: np.ndarray
    blunt: np.ndarray
    material: np.ndarray
    head: np.ndarray
    feet: np.ndarray
    detail: np.ndarray


def figure(build: Build, points: Points) -> Figure:
    """The strokes of the body that has these points."""
    points = points | _dress_points(points)
    parts = [*_trunk(build), *_limbs(build), *_heads(build)]
    start, stop = (np.stack([points[getattr(part, end)] for part in parts], 1) for end in ("start", "stop"))
    widths = np.stack([_seen_from(part, build, points) for part in parts], 1) * build.stature
    nearness = np.array([part.nearness for part in parts])
    depth = start[..., 2] + nearness * (stop - start)[..., 2] + [part.bias for part in parts]
    # From the side, the trunk is nearer to the camera than the near hip.
    depth += np.where([part.name in DEPTH for part in parts], 0.1 * _sideways(points, "hip"), 0.0)
    # How far the face is turned to the camera.
    turned = np.clip(4 * points["gaze"][:, 2:], 0, 1)
    names = [part.name for part in parts]
    return Figure(
        start=start,
        stop=stop,
        widths=widths,
        depth=depth,
        alpha=np.where([part.face for part in parts], turned, 1.0),
        blunt=np.array([part.blunt for part in parts]),
        material=np.array([MATERIALS.index(part.material) for part in parts]),
        head=np.isin(names, ("hair", "head")),
        feet=np.isin(names, ("shoe",)),
        detail=np.isin(names, ("nose", "lips", "eye", "brow", "ear")),
    )


def _dress_points(p: Points) -> Points:
    spine = p["chest"] - p["pelvis"]
    knees = (p["left_knee"] + p["right_knee"]) / 2
    return {
        "collar": p["chest"] - 0.1 * spine,
        "hem": p["pelvis"] - 0.04 * spine,
        "waist": p["pelvis"] + 0.25 * spine,
        "seat": p["pelvis"] - 0.1 * spine,
        "knees": p["pelvis"] + 0.9 * (knees - p["pelvis"]),
    }


def _seen_from(part: Part, build: Build, points: Points) -> np.ndarray:
    """[T, 4]: half widths in units of the stature; those of the trunk lie between its front's and its side's."""
    front = np.array(part.widths)
    if part.name not in DEPTH:
        return np.broadcast_to(front, (len(points["chest"]), 4))
    sideways = _sideways(points, "shoulder" if part.name in ("trunk", "yoke") else "hip")
    return np.sqrt((1 - sideways) * front**2 + sideways * (build.bulk * np.array(DEPTH[part.name])) ** 2)


def _sideways(points: Points, joint: str) -> np.ndarray:
    """[T, 1]: 0 if the line through both joints is parallel to the image, 1 if it points at the camera.

    Between these it is the square of the sine of the angle.
    """
    line = points[f"left_{joint}"] - points[f"right_{joint}"]
    return (line[:, 2] ** 2 / (line**2).sum(1))[:, None]
