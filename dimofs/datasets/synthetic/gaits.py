"""Actions of synthetic people: the angles of each part of the body over time.

A pose is a dict from the part to [T, 2] radians: how far the part turns forward (flexion) and away from the middle of
the body (abduction). Trunk and head are measured from upright, arms and legs from hanging, feet from level. All angles
are in the axes of the body, so the two angles of a part alone give its direction: with the knee bent by k, the calf has
the flexion of the thigh minus k.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Pose = dict[str, np.ndarray]
Angle = float | np.ndarray
SIDES = ("left", "right")


@dataclass(frozen=True, kw_only=True)
class Style:
    """How one person moves.

    rate:   cycles a second, in units of the action's usual rate.
    size:   of the movement, in units of the usual size.
    phase:  radians at time 0.
    active: the side that acts, in actions of one side.
    """

    rate: float
    size: float
    phase: float
    active: str

    @property
    def passive(self) -> str:
        return "left" if self.active == "right" else "right"


@dataclass(frozen=True, kw_only=True)
class Movement:
    """What a body does at T moments.

    pose:  the angles of its parts.
    lift:  [T] metres, the height of its jump.
    twist: [T] radians, the rotation of the shoulders against the hips.
    gaze:  [T] radians, how far the head turns to the left.
    """

    pose: Pose
    lift: np.ndarray
    twist: np.ndarray
    gaze: np.ndarray


def perform(action: str, time: np.ndarray, style: Style) -> Movement:
    """The movement of `action` at `time` [T] seconds. KeyError: not one of `ACTIONS`."""
    usual, act = _ACTS[action]
    phase = style.phase + 2 * np.pi * usual * style.rate * time
    pose = rest(time, style)
    lift, twist = np.zeros_like(time), np.zeros_like(time)
    act(pose, phase, style, lift, twist)
    return Movement(pose=pose, lift=lift, twist=twist, gaze=0.3 * np.sin(1.3 * time + 2 * style.phase))


def pace(action: str, style: Style) -> float:
    """The speed, in leg lengths a second, at which the feet do not slide; 0 for actions on the spot."""
    swing = {"walk": 0.42, "run": 0.75}.get(action, 0.0)
    return 4 * np.sin(swing * style.size) * _ACTS[action][0] * style.rate


def _angles(flexion: Angle, abduction: Angle = 0.0) -> np.ndarray:
    """[T, 2] from two arrays [T], or an array and a number."""
    return np.stack(np.broadcast_arrays(flexion, abduction), -1)


def rest(time: np.ndarray, style: Style) -> Pose:
    """Standing and swaying a little."""
    sway = 0.03 * np.sin(2.1 * time + style.phase)
    pose = {"trunk": _angles(0.02 + sway, 0.5 * sway), "head": _angles(0.05 + sway)}
    for side in SIDES:
        pose[f"{side}_arm"] = _angles(sway, 0.16 + sway)
        pose[f"{side}_forearm"] = _angles(0.25 + 2 * sway, 0.06)
        ahead = 0.08 if side == style.active else -0.04
        set_leg(pose, side, ahead + 0 * time, 0.06 + 0 * time)
    return pose


def set_leg(pose: Pose, side: str, thigh: np.ndarray, knee: np.ndarray, out: Angle = 0.06) -> None:
    """Set a leg by the angle of the thigh and the bend of the knee; the foot follows the calf in part."""
    calf = thigh - knee
    pose[f"{side}_thigh"], pose[f"{side}_calf"] = _angles(thigh, out), _angles(calf, out)
    pose[f"{side}_foot"] = _angles(np.where(calf < 0, 0.75, 0.5) * calf)


def _arm(pose: Pose, side: str, upper: np.ndarray, fore: np.ndarray) -> None:
    pose[f"{side}_arm"], pose[f"{side}_forearm"] = upper, fore


def _bump(phase: np.ndarray, power: float = 1.0) -> np.ndarray:
    """Rises from 0 to 1 and falls back once a cycle."""
    return (0.5 - 0.5 * np.cos(phase)) ** power


def _stride(pose: Pose, phase: np.ndarray, swing: float, bend: float, elbow: float) -> None:
    """Legs half a cycle apart, the knee bent while the leg moves forward; each arm moves opposite to its leg."""
    for side, shift in zip(SIDES, (0.0, np.pi), strict=True):
        p = phase + shift
        knee = 0.1 + bend * np.maximum(np.cos(p + 0.35), 0) ** 1.5
        set_leg(pose, side, 0.1 * swing + swing * np.sin(p), knee, 0.03)
        back = -0.85 * swing * np.sin(p)
        _arm(pose, side, _angles(back, 0.12), _angles(back + elbow + 0.25 * swing * (1 - np.sin(p)), -0.05))


def _walk(pose, phase, style, lift, twist) -> None:
    _stride(pose, phase, 0.42 * style.size, 0.95 * style.size, 0.25)
    twist += 0.1 * np.sin(phase)


def _run(pose, phase, style, lift, twist) -> None:
    _stride(pose, phase, 0.75 * style.size, 1.7 * style.size, 1.35)
    pose["trunk"] = _angles(0.18 + 0.03 * np.sin(2 * phase))
    lift += 0.08 * np.abs(np.cos(phase))
    twist += 0.2 * np.sin(phase)


def _stand(pose, phase, style, lift, twist) -> None:
    twist += 0.06 * np.sin(phase)


def _wave(pose, phase, style, lift, twist) -> None:
    swing = 0.55 * style.size * np.sin(phase)
    _arm(pose, style.active, _angles(0.25, 1.9 + 0.2 * swing), _angles(0.3, 2.9 + swing))
    pose["trunk"] = _angles(0.02, 0.05 * np.sin(phase))


def _jump(pose, phase, style, lift, twist) -> None:
    air = np.maximum(np.sin(phase), 0)
    crouch = np.maximum(-np.sin(phase), 0) ** 1.5 * style.size
    lift += 0.45 * style.size * air**1.2
    for side in SIDES:
        set_leg(pose, side, 0.05 + 0.95 * crouch + 0.25 * air, 0.1 + 1.6 * crouch + 0.6 * air, 0.07)
        raised = 1.2 + 1.3 * np.sin(phase + 0.4)
        _arm(pose, side, _angles(raised - 0.6, 0.2), _angles(raised - 0.2, 0.1))
    pose["trunk"] = _angles(0.05 + 0.5 * crouch)


def _clap(pose, phase, style, lift, twist) -> None:
    apart = _bump(phase) * style.size
    for side in SIDES:
        _arm(pose, side, _angles(0.55, 0.15 + 0.45 * apart), _angles(1.6, -0.62 + 1.0 * apart))


def _squat(pose, phase, style, lift, twist) -> None:
    deep = _bump(phase) * min(style.size, 1.1)
    for side in SIDES:
        set_leg(pose, side, 0.05 + 1.5 * deep, 0.1 + 2.05 * deep, 0.1 + 0.2 * deep)
        _arm(pose, side, _angles(1.5 * deep, 0.1), _angles(0.15 + 1.5 * deep, 0.02))
    pose["trunk"] = _angles(0.05 + 0.6 * deep)


def _kick(pose, phase, style, lift, twist) -> None:
    swing = np.sin(phase)
    thigh = 0.35 + 0.95 * style.size * swing
    set_leg(pose, style.active, thigh, 0.15 + 1.1 * np.maximum(np.cos(phase + 0.6), 0) ** 1.5, 0.05)
    set_leg(pose, style.passive, -0.05 - 0.1 * swing, 0.2 + 0.1 * swing, 0.05)
    for side, sign in ((style.active, -1), (style.passive, 1)):
        _arm(pose, side, _angles(0.6 * sign * swing, 0.6), _angles(0.3 + 0.6 * sign * swing, 0.5))
    pose["trunk"] = _angles(-0.15 * swing)


def _punch(pose, phase, style, lift, twist) -> None:
    turn = 1.0 if style.active == "left" else -1.0
    for side, shift, sign in ((style.active, 0.0, 1), (style.passive, np.pi, -1)):
        out = np.maximum(np.sin(phase + shift), 0) ** 1.5 * min(style.size, 1.1)
        _arm(pose, side, _angles(0.45 + 1.05 * out, 0.25 - 0.2 * out), _angles(2.5 - 0.95 * out, -0.15))
        set_leg(pose, side, 0.3 * sign + 0 * out, 0.3 + 0.1 * out, 0.1)
    pose["trunk"] = _angles(0.12 + 0 * phase)
    twist -= 0.4 * turn * np.sin(phase)


def _throw(pose, phase, style, lift, twist) -> None:
    """Wind up behind the head, then throw forward and down."""
    turn = 1.0 if style.active == "left" else -1.0
    wound = np.sin(phase)
    arm = 1.6 + 0.9 * style.size * np.sin(phase - 0.3)
    _arm(pose, style.active, _angles(arm, 0.45 + 0.25 * wound), _angles(arm + 0.9 + 0.9 * wound, 0.2))
    _arm(pose, style.passive, _angles(0.6 + 0.5 * wound, 0.35), _angles(1.0 + 0.5 * wound, 0.2))
    set_leg(pose, style.passive, 0.35 + 0.25 * wound, 0.25 + 0.2 * wound, 0.06)
    set_leg(pose, style.active, -0.25 + 0 * wound, 0.2 - 0.1 * wound, 0.06)
    pose["trunk"] = _angles(0.1 - 0.3 * wound)
    twist += 0.45 * turn * wound


def _bow(pose, phase, style, lift, twist) -> None:
    """Bend down to the floor with hanging arms."""
    low = _bump(phase) * min(style.size, 1.1)
    pose["trunk"] = _angles(0.02 + 1.45 * low)
    for side in SIDES:
        set_leg(pose, side, 0.02 - 0.15 * low + 0.2 * low, 0.06 + 0.35 * low)
        _arm(pose, side, _angles(1.35 * low, 0.14), _angles(0.2 + 1.4 * low, 0.06))
    pose["head"] = _angles(0.05 + 0.3 * low)


def _jack(pose, phase, style, lift, twist) -> None:
    """Jumping jack: legs and straight arms out and in."""
    wide = _bump(phase)
    for side in SIDES:
        set_leg(pose, side, 0.03 + 0 * wide, 0.12 + 0.1 * np.cos(2 * phase), 0.05 + 0.4 * style.size * wide)
        out = 0.2 + 2.6 * wide
        _arm(pose, side, _angles(0.05, out), _angles(0.1, out + 0.15 * wide))
    lift += 0.12 * style.size * np.abs(np.sin(phase))


Act = Callable[[Pose, np.ndarray, Style, np.ndarray, np.ndarray], None]
# For each action its usual cycles a second, and the function that changes the pose.
_ACTS: dict[str, tuple[float, Act]] = {
    "walk": (0.95, _walk),
    "run": (1.4, _run),
    "stand": (0.3, _stand),
    "wave": (1.5, _wave),
    "jump": (0.9, _jump),
    "clap": (1.8, _clap),
    "squat": (0.55, _squat),
    "kick": (0.8, _kick),
    "punch": (1.2, _punch),
    "throw": (0.8, _throw),
    "bow": (0.45, _bow),
    "jack": (0.9, _jack),
}
ACTIONS = tuple(_ACTS)
