"""Small made-up people, images and clips for the tests of data sets. Pixel i covers [i, i + 1)."""

from pathlib import Path

import av
import numpy as np
import torch

from dimofs.datasets.people import Pair, People
from dimofs.skeletons import DIMOFS


def joint(name: str) -> int:
    return DIMOFS.index(name)


def person(box: tuple, **joints: tuple[float, float]) -> People:
    """One person with a box and named joints."""
    keypoints, labelled = torch.zeros(1, 19, 2), torch.zeros(1, 19, dtype=torch.bool)
    for name, point in joints.items():
        keypoints[0, joint(name)] = torch.tensor(point)
        labelled[0, joint(name)] = True
    return People(
        boxes=torch.tensor([box], dtype=torch.float32), keypoints=keypoints, labelled=labelled, ignore=torch.zeros(0, 4)
    )


def blob(x: float, y: float, height: int, width: int, sigma: float = 2.5) -> torch.Tensor:
    """[3, H, W] uint8: a red dot on black."""
    ys, xs = torch.arange(height)[:, None] + 0.5, torch.arange(width) + 0.5
    image = torch.zeros(3, height, width)
    image[0] = 255 * torch.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * sigma**2))
    return image.round().to(torch.uint8)


class Dots:
    """A source of images with one red dot, labelled as a left wrist; `apart` frames between A and B."""

    def __init__(self, apart: int = 0):
        self.apart = apart

    def __len__(self):
        return 3

    def pair(self, index, random):
        x, y = 50.0 + 10 * index, 40.0
        image = blob(x, y, 90, 120, sigma=4)
        people = person((x - 25, y - 30, x + 25, y + 30), left_wrist=(x, y))
        return Pair(
            frame_a=image,
            frame_b=image.clone() if self.apart else image,
            people=people,
            delta=self.apart,
            name=f"dot{index}",
        )

    def frames(self):
        return ((f"dot{i}", self.pair(i, None).frame_a) for i in range(3))


class Nobody(Dots):
    def pair(self, index, random):
        pair = super().pair(index, random)
        pair.people = People.empty()
        return pair


def write_image(path: Path, image: np.ndarray) -> None:
    """A PNG of [H, W, 3] uint8."""
    encoder = av.CodecContext.create("png", "w")
    encoder.height, encoder.width, encoder.pix_fmt = *image.shape[:2], "rgb24"
    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
    path.write_bytes(b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)]))


def write_clip(path: Path, frames: int, height: int = 48, width: int = 64) -> None:
    """An MPEG-4 AVI with a keyframe every four frames and times that skip; frame n has the grey value 8 n."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.codec_context.gop_size = 4
        for n in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 8 * n, np.uint8), format="rgb24")
            frame.pts = n + n // 3
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
