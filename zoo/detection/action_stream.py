"""Actions of a clip as its frames arrive: each frame passes the backbone once, whatever the deltas are."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from functools import partial
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch

from dimofs.actions import ActionDetections
from dimofs.shrinking import shrunk
from dimofs.video import Frame
from dimofs.zoo.detection.action_localizer import ActionLocalizer
from dimofs.zoo.detection.features import Features
from dimofs.zoo.detection.stream import windows


class FoundActions(NamedTuple):
    """A frame, and its people with their actions, on the CPU."""

    frame: Frame
    people: ActionDetections


def actions(
    model: ActionLocalizer, frames: Iterable[Frame], *, batch: int = 1, min_score: float = 0.0
) -> Generator[FoundActions]:
    """The people of every frame, in order, and what they do; `batch` frames go through the network together.

    The frames B are those that the model's deltas name, or the clip's last (first) frame where it ends before that.
    Frames of another size begin a new clip. min_score: see `BoxDetector.find_boxes`.
    """
    ahead, behind = max(0, *model.deltas, 0), max(0, *(-delta for delta in model.deltas), 0)
    for _, clip in groupby(frames, key=lambda frame: frame.size):
        for window, now, group in windows(clip, partial(_features, model), batch, ahead, behind):
            with torch.inference_mode():
                others = {delta: window.at(now, delta) for delta in model.deltas}
                found = model.detect(window.at(now), others, min_score=min_score)
            for frame, people in zip(group, found, strict=True):
                yield FoundActions(frame, people.to("cpu", torch.float32))


@torch.inference_mode()
def _features(model: ActionLocalizer, frames: list[Frame]) -> Features:
    device = next(model.parameters()).device
    pixels = torch.from_numpy(np.stack([shrunk(frame.pixels) for frame in frames])).to(device)
    return model.features(pixels.permute(0, 3, 1, 2), frame_size=frames[0].size)
