"""Figure 3 of the paper: two frames, single channels of DiMoFs as motion fields, their magnitude, Farneback, motion.

Every field of a picture has one scale: the length at which colours are saturated, written below the wheel.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from dimofs.cli import InputError
from dimofs.detections import Detections
from dimofs.eval.flow.maps import channel_lengths
from dimofs.files import replacing
from dimofs.flow import farneback, load_opencv
from dimofs.flow_colours import common_scale, flow_colours, legend, magnitude_colours
from dimofs.formats.writers import About
from dimofs.overlay import film, png
from dimofs.sources import sources
from dimofs.video import Frame, open_clip
from dimofs.zoo.detection.box_detector import in_frame
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.motion_readout import in_pixels

# Pixels: the width of a panel, the space between panels, the height of a line of text.
PANEL, GAP, TEXT = 240, 4, 18


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """What a contact sheet shows.

    level: the pyramid level, 2 to 5, whose channels are shown. channels: which of them; None for the first two, or the
    only one. delta: frames from A to B.
    """

    level: int = 2
    channels: Sequence[int] | None = None
    delta: int = 5


@torch.inference_mode()
def panels(detector: PoseDetector, a: np.ndarray, b: np.ndarray, sheet: Sheet) -> dict[str, np.ndarray]:
    """The pictures [H, W, 3] uint8 of two frames of one size, by title.

    InputError: the frames differ in size, or the level has no such channel.
    """
    if a.shape != b.shape:
        sizes = " and ".join(f"{frame.shape[1]} x {frame.shape[0]}" for frame in (a, b))
        raise InputError(f"--video: Frames A and B have {sizes} pixels; give a clip of one size")
    height, width, _ = a.shape
    seen = detector.features(torch.from_numpy(np.stack((a, b))).permute(0, 3, 1, 2))
    dimofs = detector.dimofs(seen[:1], seen[1:])
    fields = in_pixels(dimofs)[sheet.level - 2][0].unflatten(0, (-1, 2)).flip(1)  # [G, 2, h, w], (dx, dy)
    chosen = list(range(min(2, len(fields)))) if sheet.channels is None else list(sheet.channels)
    shown = {}
    for channel in chosen:
        if channel >= len(fields):
            has = f"channels 0 to {len(fields) - 1}" if len(fields) > 1 else "one field for all channels, number 0"
            raise InputError(f"--channels {channel}: P{sheet.level} has {has}")
        title = f"P{sheet.level} channel {channel}" if len(fields) > 1 else f"DiMoFs of P{sheet.level}"
        shown[title] = in_frame(fields[channel : channel + 1], seen.geometry)[0]
    flows = {"Farneback": farneback(a, b), "predicted motion": detector.motion(seen[:1], seen[1:])[0]}
    dense = {title: motion.dense(height, width).numpy() for title, motion in (shown | flows).items()}
    scale = common_scale(*(dense[title] for title in flows))
    coloured = {title: flow_colours(field, scale) for title, field in dense.items()}
    magnitude = in_frame(channel_lengths(dimofs).expand(1, 2, -1, -1), seen.geometry)[0].dense(height, width)[0].numpy()
    pictures = {"Frame A": a, f"Frame B, {sheet.delta} frames later": b}
    pictures |= {title: coloured[title] for title in shown}
    pictures["magnitude, all levels"] = magnitude_colours(magnitude, float(np.quantile(magnitude, 0.995)))
    pictures |= {title: coloured[title] for title in flows}
    pictures[f"scale {scale:.1f} px"] = _centred(legend(min(height, width) * 3 // 5), height, width)
    return pictures


def _centred(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    canvas = np.full((height, width, 3), 255, np.uint8)
    y, x = (height - picture.shape[0]) // 2, (width - picture.shape[1]) // 2
    canvas[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    return canvas


def row(pictures: dict[str, np.ndarray]) -> np.ndarray:
    """Pictures side by side, each PANEL pixels wide, under their titles, [h, w, 3] uint8."""
    columns = []
    for title, picture in pictures.items():
        height = max(1, round(picture.shape[0] * PANEL / picture.shape[1]))
        small = _resized(picture, height)
        head = _text(title)
        columns += [np.concatenate((head, small)), np.full((len(head) + height, GAP, 3), 255, np.uint8)]
    return np.concatenate(columns[:-1], axis=1)


def _resized(picture: np.ndarray, height: int) -> np.ndarray:
    pixels = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float()
    small = torch.nn.functional.interpolate(pixels, (height, PANEL), mode="bilinear", antialias=True)
    return small[0].permute(1, 2, 0).round().clamp(0, 255).byte().numpy()


def _text(title: str) -> np.ndarray:
    """A white line [TEXT, PANEL, 3] with the title in black."""
    cv2 = load_opencv()
    line = np.full((TEXT, PANEL, 3), 255, np.uint8)
    return cv2.putText(line, title, (2, TEXT - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)


def pairs(video: str, delta: int) -> Iterator[tuple[Frame, Frame]]:
    """Every Frame A of a video with the frame `delta` later.

    InputError: the video cannot be read, is several, or is too short.
    """
    found = sources(video)
    if len(found) > 1:
        raise InputError(f"--video {video}: names {len(found)} inputs; give one")
    kept: deque[Frame] = deque()
    count = 0
    with closing(open_clip(found[0])) as clip:
        for frame in clip.frames():
            count += 1
            kept.append(frame)
            if len(kept) > delta:
                yield kept.popleft(), frame
    if count <= delta:
        raise InputError(f"--video {video}: has {count} frames; pairs {delta} apart need at least {delta + 1}")


def contact_sheet(detector: PoseDetector, video: str, sheet: Sheet, rows: int) -> np.ndarray:
    """`rows` rows of panels, evenly spread over a video, [H, W, 3]. InputError: as `pairs` and `panels`."""
    count = sum(1 for _ in pairs(video, sheet.delta))
    places = {round(place) for place in np.linspace(0, count - 1, rows)}
    chosen = (pair for place, pair in enumerate(pairs(video, sheet.delta)) if place in places)
    return stacked([row(panels(detector, a.pixels, b.pixels, sheet)) for a, b in chosen])


def write_film(path: Path, detector: PoseDetector, video: str, sheet: Sheet) -> int:
    """Write a row of panels for every pair of a video as an mp4; returns how many. InputError: as `pairs`, `panels`, or
    the file cannot be written."""
    count, first = 0, next(pairs(video, sheet.delta))[0]
    height, width, _ = row(panels(detector, first.pixels, first.pixels, sheet)).shape
    about = About(
        source=video,
        name=path.stem,
        width=width,
        height=height,
        fps=1 / max(first.duration, 1e-3),
        keypoint_names=detector.keypoint_names,
        model="",
        delta=sheet.delta,
    )
    nobody = Detections.empty(len(detector.keypoint_names))
    with film(path, about) as write:
        for a, b in tqdm(pairs(video, sheet.delta), path.name, disable=None):
            picture = row(panels(detector, a.pixels, b.pixels, sheet))
            write(replace(a, pixels=picture, full_size=None), nobody)
            count += 1
    return count


def stacked(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Rows of one width, one below the other with space between, [H, W, 3]."""
    space = np.full((GAP, rows[0].shape[1], 3), 255, np.uint8)
    return np.concatenate([part for one in rows for part in (one, space)][:-1])


def check_sheet(path: Path) -> None:
    """InputError: the name of a picture does not end in .png."""
    if path.suffix.lower() != ".png":
        raise InputError(f"--out {path}: the picture is a PNG; give a name that ends in .png")


def check_film(path: Path) -> None:
    """InputError: the name of a film does not end in .mp4."""
    if path.suffix.lower() != ".mp4":
        raise InputError(f"--out-video {path}: the film is an MP4; give a name that ends in .mp4")


def write_sheet(path: Path, picture: np.ndarray) -> None:
    """Write [H, W, 3] as a PNG. InputError: as `check_sheet`, or it cannot be written."""
    check_sheet(path)
    with replacing(path) as temporary:
        temporary.write_bytes(png(picture))
