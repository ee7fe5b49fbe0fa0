"""How well the DiMoFs follow motion, and what they cost: beside the control, what offset nets are compared by."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median

import torch
from torch import Tensor

from dimofs.datasets.people import People
from dimofs.zoo.detection.box_detector import in_frame, mean_motion
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.features import Features
from dimofs.zoo.detection.offsets import DeformableLayer
from dimofs.zoo.presets import motion_parts

# Weights of a random offset net.
SEED = 0


class Distances:
    """How far the mean DiMoF of P2 puts joints of A from where they are labelled in B, beside standing still.

    Joints of people who are alone in both frames, so that nobody is taken for another; pixels of the frame.
    """

    def __init__(self):
        self.errors, self.moved = [], []
        # Seconds of the processor, or of the GPU's clock, for a pair of frames.
        self.seconds: list[float] = []

    def align(self, detector: PoseDetector, a: Features, b: Features) -> tuple[list[Tensor], list[Tensor]]:
        """The DiMoFs, and B's features sampled with them, timed."""
        clock = _gpu_clock if a.levels[0].is_cuda else time.process_time
        began = clock()
        dimofs = detector.dimofs(a, b)
        levels = detector.deformable(b.levels, dimofs)
        self.seconds.append((clock() - began) / len(a))
        return dimofs, levels

    def add(self, dimofs: Sequence[Tensor], a: Features, people: Sequence[People], later: Sequence[People]) -> None:
        """Count the joints labelled in Frames A and, `later`, in Frames B."""
        motions = in_frame(mean_motion(dimofs).cpu(), a.geometry)
        for motion, here, there in zip(motions, people, later, strict=True):
            if len(here) == len(there) == 1:
                both = here.labelled & there.labelled
                moved = there.keypoints[both] - here.keypoints[both]
                self.errors += (motion.at(here.keypoints[both]) - moved).norm(dim=1).tolist()
                self.moved += moved.norm(dim=1).tolist()

    def mean(self) -> tuple[float, float]:
        """The mean distance, and that of standing still; NaN where nothing is labelled."""
        count = len(self.errors)
        return (sum(self.errors) / count, sum(self.moved) / count) if count else (float("nan"), float("nan"))

    def milliseconds(self) -> float:
        """The median time for a pair."""
        return 1000 * median(self.seconds) if self.seconds else float("nan")


def _gpu_clock() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


def motion_size(detector: PoseDetector) -> int:
    """The parameters of the offset net and of the convolutions after sampling."""
    return sum(p.numel() for part in (detector.offset_net, detector.deformable) for p in part.parameters())


def untrained(detector: PoseDetector, variant: str) -> PoseDetector:
    """The detector itself, changed: its motion parts become those of a variant of `dimofs.zoo.presets`, untrained.

    The convolutions after sampling stay as they are where the variant has them, and there is no read-out of motion.
    """
    old = detector.deformable
    channels = next(old.parameters()).shape[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        parts = motion_parts(channels, variant)
    layer: DeformableLayer = parts["deformable"]
    if layer.state_dict().keys() == old.state_dict().keys():
        layer.load_state_dict(old.state_dict())
    device = next(old.parameters()).device
    detector.offset_net, detector.deformable = parts["offset_net"].to(device).eval(), layer.to(device).eval()
    detector.readout = None
    return detector
