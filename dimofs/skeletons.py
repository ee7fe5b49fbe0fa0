"""Joint names, mirror pairs and limbs of the skeletons in use. Joints are matched between skeletons by name.

The shipped models predict `DIMOFS`: COCO's 17 joints, then neck and head top. Every data set can train some of these
joints, and every benchmark can be computed from them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

COCO = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
DIMOFS = (*COCO, "neck", "head_top")

# PoseTrack18 calls the neck "head_bottom".
POSETRACK18 = (
    "nose", "neck", "head_top", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip

JHMDB = (
    "neck", "belly", "face", "right_shoulder", "left_shoulder", "right_hip", "left_hip", "right_elbow", "left_elbow",
    "right_knee", "left_knee", "right_wrist", "left_wrist", "right_ankle", "left_ankle",
)  # fmt: skip

LSP = (
    "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "right_wrist", "right_elbow",
    "right_shoulder", "left_shoulder", "left_elbow", "left_wrist", "neck", "head_top",
)  # fmt: skip

_LIMBS = (
    ("left_ankle", "left_knee"), ("left_knee", "left_hip"), ("right_ankle", "right_knee"), ("right_knee", "right_hip"),
    ("left_hip", "right_hip"), ("left_shoulder", "left_hip"), ("right_shoulder", "right_hip"),
    ("left_shoulder", "right_shoulder"), ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist"),
    ("right_shoulder", "right_elbow"), ("right_elbow", "right_wrist"), ("left_eye", "right_eye"),
    ("nose", "left_eye"), ("nose", "right_eye"), ("left_eye", "left_ear"), ("right_eye", "right_ear"),
    ("neck", "nose"), ("neck", "head_top"),
)  # fmt: skip

# Standard deviation of each joint in the COCO keypoint challenge. COCO has no neck and no head top: they take the value
# of a shoulder.
OKS_SIGMAS = {
    "nose": 0.026, "eye": 0.025, "ear": 0.035, "shoulder": 0.079, "elbow": 0.072, "wrist": 0.062, "hip": 0.107,
    "knee": 0.087, "ankle": 0.089, "neck": 0.079, "head_top": 0.079,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Skeleton:
    """The joints of a kind of thing: people, or what a category of a COCO file describes.

    joints: names in order; those of a left and a right side begin with left_ and right_.
    limbs:  pairs of names to draw as lines. sigmas: the standard deviation of each joint, see `oks_sigmas`.
    """

    name: str
    joints: tuple[str, ...]
    limbs: tuple[tuple[str, str], ...]
    sigmas: tuple[float, ...]


def indices(source: Sequence[str], target: Sequence[str]) -> list[int]:
    """For each joint of `target` its index in `source`, or -1 where `source` lacks it."""
    where = {name: i for i, name in enumerate(source)}
    return [where.get(name, -1) for name in target]


def mirror(names: Sequence[str]) -> list[int]:
    """The permutation that swaps left and right joints, for horizontal flips."""
    return indices(names, [_other_side(name) for name in names])


def _other_side(name: str) -> str:
    if name.startswith("left_"):
        return "right_" + name.removeprefix("left_")
    if name.startswith("right_"):
        return "left_" + name.removeprefix("right_")
    return name


def limbs(names: Sequence[str], pairs: Sequence[Sequence[str]] = _LIMBS) -> list[tuple[int, int]]:
    """Pairs of joint indices to draw as lines, by default those of people. A limb is left out if `names` lacks one of
    its ends."""
    where = {name: i for i, name in enumerate(names)}
    return [(where[a], where[b]) for a, b in pairs if a in where and b in where]


def oks_sigmas(names: Sequence[str]) -> list[float]:
    """The standard deviation of each joint, in units of the square root of the person's area (COCO keypoint challenge).

    A joint that is not in OKS_SIGMAS takes the value of a shoulder.
    """
    bare = (name.removeprefix("left_").removeprefix("right_") for name in names)
    return [OKS_SIGMAS.get(name, OKS_SIGMAS["shoulder"]) for name in bare]


def _people(joints: tuple[str, ...]) -> Skeleton:
    drawn = tuple(pair for pair in _LIMBS if set(pair) <= set(joints))
    return Skeleton(name="person", joints=joints, limbs=drawn, sigmas=tuple(oks_sigmas(joints)))


# People with the joints that the shipped models predict, and with COCO's.
PEOPLE, COCO_PERSON = _people(DIMOFS), _people(COCO)
