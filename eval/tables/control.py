"""The control of DiMoFs: are A's poses found because B shows them, or whatever B shows?

A's poses are looked for in the features of frames that have less and less to do with A: A itself, the frame delta
later, a frame of another clip, a picture in which nobody is. What an offset net finds in the last two is not motion.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from dimofs.cli import InputError
from dimofs.datasets.people import People
from dimofs.datasets.sequences import LabelledVideo
from dimofs.eval.keypoints.scores import VideoScores, figures
from dimofs.eval.tables.aligning import Distances, motion_size
from dimofs.eval.tables.compare import pose_scores
from dimofs.eval.tables.runs import Run
from dimofs.formats.posetrack import Video
from dimofs.images import read_image
from dimofs.skeletons import DIMOFS, indices
from dimofs.sources import sources
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.features import Features

# What Frame B is, in the order of the table, and what is told about each.
KINDS = {
    "same": "B = A",
    "true": "B = A + delta",
    "copied": "found in B, not moved",
    "other": "B of another clip",
    "nobody": "B with nobody",
}
# Kinds that are others at every delta.
MOVING = ("true", "copied")
# A joint is right within this share of the longer side of the person's labelled box.
ALPHA = 0.1
# Pictures of noise that hold nobody, where no pictures are given.
NOISE = 16


@dataclass(kw_only=True)
class Control:
    """PCK@0.1 in the labelled boxes and mAP, in percent, of each kind of Frame B at each of `deltas`.

    motion, still: mean distances of `aligning.Distances`, of the DiMoFs and of standing still, at each of `deltas`.
    parameters, milliseconds: of the motion parts, for a pair of frames.
    """

    deltas: list[int]
    frames: int
    nobody: str
    pck: dict[str, list[float]]
    ap: dict[str, list[float]]
    motion: list[float]
    still: list[float]
    parameters: int
    milliseconds: float


@dataclass(frozen=True, kw_only=True)
class ControlOptions:
    """every: each `every`-th frame is a Frame A, where B = A + delta is in the clip for every delta. seed: chooses the
    other clips, their frames, and the pictures. pictures: a folder of pictures in which nobody is; without, noise with
    the spectrum of photographs."""

    every: int = 10
    seed: int = 0
    pictures: str | None = None


@torch.inference_mode()
def control(
    detector: PoseDetector,
    videos: Sequence[LabelledVideo],
    deltas: Sequence[int],
    folder: Path,
    options: ControlOptions,
    device: str | torch.device = "cpu",
) -> Control:
    """Look for the poses of Frames A of `videos` in every kind of Frame B. `folder` gets the poses.

    InputError: there are fewer than two videos, `options.pictures` holds no picture, or all videos are too short.
    """
    if len(videos) < 2:
        raise InputError("--control: needs two videos or more, since Frame B is also taken from another clip")
    empty = _Empty(options.pictures, options.seed)
    # Only some kinds of Frame B depend on delta.
    tallies = {kind: {delta: _Tally(folder / kind) for delta in deltas} for kind in MOVING}
    tallies |= {kind: dict.fromkeys(deltas, _Tally(folder / kind)) for kind in KINDS if kind not in MOVING}
    distances = {delta: Distances() for delta in deltas}
    frames = 0
    for number, video in enumerate(tqdm(videos, "control", disable=None)):
        random = np.random.default_rng((options.seed, number))
        pixels = _pixels(video)
        # Frames A whose B would lie beyond the clip's ends are left out: it would be another delta.
        first, beyond = max(0, -min(deltas)), len(pixels) - max(0, max(deltas))
        chosen = list(range(first, beyond, options.every))
        if not chosen:
            continue
        frames += len(chosen)
        other = _stranger(videos, number, random, len(chosen), pixels.shape[2:])
        nobody = empty(random, len(chosen), (pixels.shape[2], pixels.shape[3]))
        a = _features(detector, pixels[chosen], device)
        truth = _only(video.truth, chosen)
        people = [video.people(frame, *pixels.shape[2:]) for frame in chosen]
        views: dict[str, tuple[list[Tensor], Features, Features | None]] = {
            "same": (detector.align(a), a, None),
            "other": _aligned(detector, a, _features(detector, other, device)),
            "nobody": _aligned(detector, a, _features(detector, nobody, device)),
        }
        for kind, view in views.items():
            tallies[kind][deltas[0]].add(detector, *view, truth, people)
        for delta in deltas:
            later = [frame + delta for frame in chosen]
            b = _features(detector, pixels[later], device)
            dimofs, levels = distances[delta].align(detector, a, b)
            distances[delta].add(dimofs, a, people, [video.people(frame, *pixels.shape[2:]) for frame in later])
            tallies["true"][delta].add(detector, levels, a, b, truth, people)
            tallies["copied"][delta].add(detector, detector.align(b), b, None, truth, people)
    if not frames:
        raise InputError(f"--deltas {max(deltas, key=abs)}: no video is that long; give smaller ones")
    means = [distances[delta].mean() for delta in deltas]
    return Control(
        deltas=list(deltas),
        frames=frames,
        nobody=empty.name,
        pck={kind: [tallies[kind][delta].pck() for delta in deltas] for kind in KINDS},
        ap={kind: [tallies[kind][delta].ap() for delta in deltas] for kind in KINDS},
        motion=[error for error, _ in means],
        still=[moved for _, moved in means],
        parameters=motion_size(detector),
        milliseconds=median(distances[delta].milliseconds() for delta in deltas),
    )


def _features(detector: PoseDetector, pixels: Tensor, device: str | torch.device) -> Features:
    return detector.features(pixels.to(device) / 255)


def _aligned(detector: PoseDetector, a: Features, b: Features) -> tuple[list[Tensor], Features, Features]:
    """What `_Tally.add` reads of one kind of Frame B."""
    return detector.align(a, b), a, b


def lines(found: Control, name: str) -> Iterator[str]:
    """The table, a line for each kind and a column for each delta: PCK@0.1, then mAP."""
    yield f"Control of {name}: {found.frames} frames A; nobody: {found.nobody}"
    for title, rows in (("PCK@0.1, labelled boxes", found.pck), ("mAP", found.ap)):
        yield f"{title + ', %, at delta':<34}" + "".join(f"{delta:>8}" for delta in found.deltas)
        for kind, row in rows.items():
            yield f"  {KINDS[kind]:<32}" + _cells(row)
    yield f"{'motion of joints, px, at delta':<34}" + "".join(f"{delta:>8}" for delta in found.deltas)
    yield f"  {'mean DiMoF of P2, distance':<32}" + _cells(found.motion)
    yield f"  {'standing still':<32}" + _cells(found.still)


def _cells(row: Sequence[float]) -> str:
    return "".join("       -" if np.isnan(x) else f"{x:>8.1f}" for x in row)


class _Tally:
    """What is found in one kind of Frame B at one delta."""

    def __init__(self, folder: Path):
        self.folder, self.right, self.labelled = folder, 0, 0
        self.scores: list[VideoScores] = []

    def add(
        self,
        detector: PoseDetector,
        levels: Sequence[Tensor],
        a: Features,
        b: Features | None,
        truth: Video,
        people: Sequence[People],
    ) -> None:
        """Count the people labelled in a video's Frames A, as found in `levels`: those of `b`, aligned to `a`, or of
        `a` itself."""
        boxes = [a.geometry.to_input(p.boxes.to(levels[0].device)) for p in people]
        points = a.geometry.to_frame(detector.find_joints([levels], boxes)[0]).cpu()
        everyone, columns = People.join(people), torch.tensor(indices(detector.keypoint_names, DIMOFS))
        side = (everyone.boxes[:, 2:] - everyone.boxes[:, :2]).amax(dim=1, keepdim=True)
        error = (points[:, columns] - everyone.keypoints).norm(dim=2) / side
        judged = everyone.labelled & (columns >= 0)
        self.right += int(((error <= ALPHA) & judged).sum())
        self.labelled += int(judged.sum())
        found = [one.to("cpu") for one in detector.detect(a, b)]
        run = Run(found, [None] * len(found), a.geometry.frame)
        self.scores.append(pose_scores(_video(truth), run, detector.keypoint_names, self.folder, "corrected"))

    def pck(self) -> float:
        return 100 * self.right / self.labelled if self.labelled else float("nan")

    def ap(self) -> float:
        return figures(self.scores, "corrected")["ap"][-1]


def _only(truth: Video, chosen: Sequence[int]) -> Video:
    """The labels of the chosen frames, which ascend, alone."""
    people = np.flatnonzero(np.isin(truth.frame, chosen))
    joints = np.flatnonzero(np.isin(truth.person, people))
    of_frames = {name: [getattr(truth, name)[i] for i in chosen] for name in ("frames", "sizes", "regions")}
    of_people = {name: getattr(truth, name)[people] for name in ("track", "head", "box", "score", "listed")}
    of_joints = {name: getattr(truth, name)[joints] for name in ("joint", "xy", "confidence")}
    return replace(
        truth,
        **of_frames,
        **of_people,
        **of_joints,
        ids=None if truth.ids is None else [truth.ids[i] for i in chosen],
        frame=np.searchsorted(np.asarray(chosen), truth.frame[people]),
        places=[truth.places[i] for i in people],
        person=np.searchsorted(people, truth.person[joints]),
    )


def _video(truth: Video) -> LabelledVideo:
    return LabelledVideo(truth=truth, frames=lambda: iter(()), people=lambda *_: People.empty())


def _pixels(video: LabelledVideo) -> Tensor:
    """All frames [T, 3, H, W] uint8."""
    return torch.stack([torch.from_numpy(frame.pixels) for frame in video.frames()]).permute(0, 3, 1, 2)


def _stranger(
    videos: Sequence[LabelledVideo], number: int, random: np.random.Generator, count: int, size: Sequence[int]
) -> Tensor:
    """`count` random frames of another video, cut and resized to `size` (height, width)."""
    other = (number + 1 + int(random.integers(len(videos) - 1))) % len(videos)
    frames = _pixels(videos[other])
    return _fitted(frames[random.integers(len(frames), size=count)], size)


def check_nobody(pictures: str | None) -> list[Path]:
    """The pictures of a folder, none without one. InputError: it holds none."""
    paths = [] if pictures is None else [path for source in sources(pictures) for path in source.images]
    if pictures is not None and not paths:
        raise InputError(f"--nobody {pictures}: holds no picture; give a folder of pictures in which nobody is")
    return paths


class _Empty:
    """Pictures in which nobody is. InputError: the folder `pictures` holds none."""

    def __init__(self, pictures: str | None, seed: int):
        self.paths = check_nobody(pictures)
        self.name = f"{len(self.paths)} pictures" if self.paths else "noise with the spectrum of photographs"
        self.seed = seed

    def __call__(self, random: np.random.Generator, count: int, size: tuple[int, int]) -> Tensor:
        """`count` of them, [count, 3, H, W] uint8 of `size`."""
        if not self.paths:
            seeds = [self.seed * NOISE + int(n) for n in random.integers(NOISE, size=count)]
            return torch.cat([photographic_noise(size, seed) for seed in seeds])
        chosen = [self.paths[int(n)] for n in random.integers(len(self.paths), size=count)]
        images = [torch.from_numpy(read_image(path)).permute(2, 0, 1)[None] for path in chosen]
        return torch.cat([_fitted(image, size) for image in images])


def photographic_noise(size: tuple[int, int], seed: int) -> Tensor:
    """[1, 3, H, W] uint8: random phases under the amplitudes of photographs, which fall as 1 / frequency (Field, 1987);
    brightness of mean 115 and deviation 55, colours that differ from it by a quarter of that."""
    random = torch.Generator().manual_seed(seed)
    height, width = size
    vertical, horizontal = torch.fft.fftfreq(height)[:, None] * height, torch.fft.rfftfreq(width)[None] * width
    amplitude = 1 / torch.hypot(vertical, horizontal).clamp(min=1)
    spectrum = amplitude * torch.fft.rfft2(torch.randn(4, height, width, generator=random))
    fields = torch.fft.irfft2(spectrum, s=size)
    fields = (fields - fields.mean((1, 2), keepdim=True)) / fields.std((1, 2), keepdim=True).clamp(min=1e-6)
    return (115 + 55 * (fields[:1] + 0.25 * fields[1:])).clamp(0, 255).to(torch.uint8)[None]


def _fitted(frames: Tensor, size: Sequence[int]) -> Tensor:
    """Frames [N, 3, h, w] uint8 resized to cover `size` (height, width), and cut to it around the middle."""
    height, width = size
    scale = max(height / frames.shape[2], width / frames.shape[3])
    covering = max(height, round(frames.shape[2] * scale)), max(width, round(frames.shape[3] * scale))
    if covering != tuple(frames.shape[2:]):
        frames = F.interpolate(frames.float(), covering, mode="bilinear", antialias=True).round().to(torch.uint8)
    top, left = (frames.shape[2] - height) // 2, (frames.shape[3] - width) // 2
    return frames[:, :, top : top + height, left : left + width]
