"""Motion twins: clips of nine actions that look exactly alike in their first frame.

Each limb has a random place on its circle at frame 0. In the clips of one seed the limb turns that the class names,
forward or backward, while all else stands still; in "still" nothing turns. The first frame is therefore the same, bit
for bit, in all nine clips, and only motion tells the classes apart. After a period of 40 frames the limb is back: what
frames 0 and 40 tell must be chance. After half a period a limb is in one place whichever way it turned.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.stream import VideoStream

from dimofs.datasets.synthetic import casting, puppets, wardrobe
from dimofs.datasets.synthetic.clips import FPS, Scene
from dimofs.datasets.synthetic.gaits import SIDES, Movement, Pose, Style, rest, set_leg
from dimofs.datasets.synthetic.puppets import Build
from dimofs.datasets.synthetic.scenery import Camera, Stage
from dimofs.datasets.synthetic.wardrobe import Dress
from dimofs.files import replacing
from dimofs.skeletons import DIMOFS

# Frames of a period, and of a clip, which ends with it.
PERIOD = 40
LENGTH = PERIOD + 1
# Height of the camera, in metres.
EYE = 1.2
LIMBS = tuple(f"{side}_{limb}" for limb in ("arm", "leg") for side in SIDES)
CLASSES = ("still", *(f"{limb}_{way}" for limb in LIMBS for way in ("forward", "backward")))


class TwinScene(Scene):
    """The clip of a seed in which one person does `action`, one of CLASSES, before a camera that stands still."""

    def __init__(self, seed: int, action: str, *, height: int = 240, width: int = 320):
        super().__init__(seed, length=LENGTH, height=height, width=width, people=(0, 0))
        self.camera = Camera(np.zeros((LENGTH, 2)), np.ones(LENGTH))
        random = np.random.default_rng((seed, 7))
        # The person fills 60 to 85 % of the frame's height and stands near its lower edge.
        scale = random.uniform(0.6, 0.85) * height / 1.72
        self.stage = Stage(height=height, width=width, horizon=0.96 * height - EYE * scale, eye=EYE, nearest=scale)
        build, dress = Build.sample(random), Dress.sample(random)
        still = np.ones(LENGTH)
        path = casting.Path(
            x=random.uniform(0.3, 0.7) * width * still,
            scale=scale * still,
            yaw=random.normal(0, 0.5) * still,
        )
        movement = turning(action, random.uniform(0, 2 * np.pi, len(LIMBS)))
        points = puppets.joints(build, movement, path.yaw)
        clothes = wardrobe.textures(dress, random)
        actor = casting.embodied(action, build, points, path, self.stage, self.camera, clothes)
        self.name, self.actors = f"{action}/{seed:06d}", [actor]
        self.keypoints = actor.keypoints[:, None].reshape(LENGTH, 1, len(DIMOFS), 2)
        self.heads = actor.heads[:, None]


def turning(action: str, places: np.ndarray) -> Movement:
    """The movement of a class over a clip; `places` [4] are those of LIMBS on their circles at frame 0, radians."""
    time, style = np.zeros(LENGTH), Style(rate=1.0, size=1.0, phase=0.0, active="left")
    pose, turn = rest(time, style), 2 * np.pi * np.arange(LENGTH) / PERIOD
    for limb, place in zip(LIMBS, places.tolist(), strict=True):
        ways = {f"{limb}_forward": 1.0, f"{limb}_backward": -1.0}
        _place(pose, limb, place + ways.get(action, 0.0) * turn)
    return Movement(pose=pose, lift=time, twist=time, gaze=time)


def _place(pose: Pose, limb: str, at: np.ndarray) -> None:
    """Put a straight limb where it points on its circle at the angles `at` [T]."""
    side, _, part = limb.partition("_")
    if part == "leg":
        set_leg(pose, side, 0.1 + 0.5 * np.sin(at), np.full(len(at), 0.05), 0.35 + 0.3 * np.cos(at))
        return
    pose[f"{side}_arm"] = np.stack((0.3 + 0.8 * np.sin(at), 0.8 + 0.6 * np.cos(at)), -1)
    pose[f"{side}_forearm"] = pose[f"{side}_arm"] + 0.1


def write_twins(folder: Path, seed: int, length: int = LENGTH) -> dict[str, np.ndarray]:
    """Write the first `length` frames of a seed's nine clips, without loss, to `twin_path`, unless they are there.

    Returns the boxes [length, 4] of each class, x1 y1 x2 y2 in pixels.
    """
    boxes = {}
    for action in CLASSES:
        scene = TwinScene(seed, action)
        path = twin_path(folder, action, seed, length)
        kept = path.with_suffix(".npy")
        if not kept.exists():
            shots = [scene.shoot(number) for number in range(length)]
            write_lossless(path, [shot.frame for shot in shots])
            with replacing(kept) as temporary, temporary.open("wb") as file:
                np.save(file, np.stack([shot.boxes[0] for shot in shots]))
        boxes[action] = np.load(kept, allow_pickle=False)
    return boxes


def twin_path(folder: Path, action: str, seed: int, length: int = LENGTH) -> Path:
    """The file of the first `length` frames of a clip."""
    return folder / action / f"{seed:06d}_{length}.mkv"


def write_lossless(path: Path, frames: list[np.ndarray]) -> None:
    """A video of RGB frames [H, W, 3] that reads back as it was. InputError: it cannot be written."""
    with replacing(path) as temporary, av.open(str(temporary), "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=Fraction(FPS))
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, _ = frames[0].shape
        stream.pix_fmt = "bgr0"
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
