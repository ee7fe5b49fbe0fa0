"""`ActionLocalizer`: who does what in Frame A, from its appearance and its motion to other frames (section 5.1).

    frames -> backbone -> f_A, f_B -> people of A (RPN, box head) -> RoIAlign of f_A and of the DiMoFs -> box, action

The detector's backbone, offset net, RPN and box head are shared with `PoseDetector` by the names of their tensors. No
features are sampled: the deformable layer is left out, except for its 1x1 convolutions, which RPN and box head of a
pose detector were trained behind.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dimofs import boxes as box
from dimofs.actions import ActionDetections
from dimofs.camera import affine_motion
from dimofs.zoo.detection import box_coder, box_head
from dimofs.zoo.detection.action_head import ActionHead, pool
from dimofs.zoo.detection.box_detector import BoxDetector, Boxes, check_features
from dimofs.zoo.detection.box_head import BoxHead
from dimofs.zoo.detection.coarse_to_fine import CoarseToFine
from dimofs.zoo.detection.features import Features, Geometry
from dimofs.zoo.detection.keypoint_head import KeypointHead, decode
from dimofs.zoo.detection.offsets import OffsetNet
from dimofs.zoo.detection.preprocess import Preprocess
from dimofs.zoo.detection.rpn import RegionProposals

# Kinds of streams. The first reads Frame A alone, the others a Frame B too: its DiMoFs, DiMoFs without the camera's
# motion (`steadied`), |f_A - f_B|, f_B, and the joints of both.
KINDS = ("appearance", "dimofs", "steady", "difference", "later", "pose")


class Stream(NamedTuple):
    """One kind of feature of a region: the kind, one of KINDS, and how many frames after A its Frame B comes."""

    kind: str
    delta: int

    @staticmethod
    def parse(text: str) -> Stream:
        """ "appearance", or a kind and delta as in "dimofs@10". ValueError: it is neither."""
        found = re.fullmatch(r"([a-z]+)(?:@(-?\d{1,4}))?", text)
        kind, delta = found.groups() if found else ("", None)
        if kind not in KINDS or (delta is None) != (kind == "appearance"):
            others = ", ".join(f"{kind}@10" for kind in KINDS[1:])
            raise ValueError(f"stream {text[:40]!r}: expected appearance, or one of {others} or another delta")
        return Stream(kind, int(delta or 0))


class ActionLocalizer(BoxDetector):
    """A detector of people and their actions.

    mixing:       1x1 convolution of each level before RPN and box head.
    keypoint_head: gives the poses that "pose" streams read; None if there are none.
    streams:      what the head reads, as `Stream.parse` reads it. cells: side of each stream's RoIAlign.
    action_names: the classes of `head`, in order, without background.
    people:       the most people of a frame whose actions are judged.
    """

    def __init__(
        self,
        *,
        preprocess: Preprocess,
        backbone: nn.Module,
        offset_net: OffsetNet | CoarseToFine,
        mixing: nn.ModuleList,
        rpn: RegionProposals,
        box_head: BoxHead,
        keypoint_head: KeypointHead | None,
        head: ActionHead,
        streams: Sequence[str],
        cells: int,
        action_names: Sequence[str],
        people: int = 20,
    ):
        super().__init__()
        self.preprocess, self.backbone, self.offset_net = preprocess, backbone, offset_net
        self.mixing, self.rpn, self.box_head, self.keypoint_head = mixing, rpn, box_head, keypoint_head
        self.head, self.cells, self.people = head, cells, people
        self.streams = tuple(map(Stream.parse, streams))
        self.action_names = tuple(action_names)
        if keypoint_head is None and any(stream.kind == "pose" for stream in self.streams):
            raise ValueError("a pose stream needs a keypoint head")

    @property
    def deltas(self) -> tuple[int, ...]:
        """How many frames after Frame A each Frame B comes, ascending."""
        return tuple(sorted({stream.delta for stream in self.streams if stream.kind != "appearance"}))

    def forward(self, frame_a: Tensor, *frames_b: Tensor, min_score: float = 0.0) -> list[ActionDetections]:
        """RGB frames [N, 3, H, W], uint8 or float in [0, 1] -> the people of each Frame A and their actions.

        frames_b: one batch of frames for each of `deltas`, or none where each Frame A is its own Frame B.
        min_score: drop people below it. ValueError: the frames are something else, of other numbers or sizes.
        """
        a = self.features(frame_a)
        others = [self.features(frame) for frame in frames_b] if frames_b else [a] * len(self.deltas)
        if len(others) != len(self.deltas):
            raise ValueError(f"{len(others)} frames B; expected one for each delta of {list(self.deltas)}")
        return self.detect(a, dict(zip(self.deltas, others, strict=True)), min_score=min_score)

    def detect(self, a: Features, others: Mapping[int, Features], *, min_score: float = 0.0) -> list[ActionDetections]:
        """The people of each Frame A, best first; `others` holds the features of the Frame B of each delta."""
        check_features(a, *others.values())
        if not len(a):
            return []
        found = self.find_boxes(self.mixed(a), a.geometry, min_score=min_score, max_people=self.people)
        logits, deltas = self.head(self.pooled(a, others, [people.boxes for people in found]))
        counts = [len(people.boxes) for people in found]
        images = zip(found, logits.split(counts), deltas.split(counts), strict=True)
        return [self._finish(people, scores, moves, a.geometry) for people, scores, moves in images]

    def mixed(self, features: Features) -> list[Tensor]:
        """The levels as RPN, box head and keypoint head read them."""
        return [conv(level) for conv, level in zip(self.mixing, features.levels, strict=True)]

    def pooled(self, a: Features, others: Mapping[int, Features], regions: Sequence[Tensor]) -> list[Tensor]:
        """What each stream says about the regions [K_n, 4], in pixels of the input: [K, width] each."""
        return [self.stream(s.kind, a, others.get(s.delta, a), regions) for s in self.streams]

    def stream(self, kind: str, a: Features, b: Features, regions: Sequence[Tensor]) -> Tensor:
        """What one kind of stream, one of KINDS, says about the regions: [K, width]."""
        if kind == "pose":
            return self.poses(a, b, regions)
        maps = {
            "appearance": lambda: a.levels,
            "dimofs": lambda: self.dimofs(a, b),
            "steady": lambda: [steadied(field) for field in self.dimofs(a, b)],
            "difference": lambda: [(x - y).abs() for x, y in zip(a.levels, b.levels, strict=True)],
            "later": lambda: b.levels,
        }
        return pool(maps[kind](), regions, self.cells)

    def poses(self, a: Features, b: Features, regions: Sequence[Tensor]) -> Tensor:
        """The joints of Frame A in each region and how far they are from those of Frame B there, [K, 5 J].

        x and y from the region's centre, their displacements, all in units of half the region, and the confidence.
        """
        assert self.keypoint_head is not None
        whole = torch.cat(list(regions))
        half = (whole[:, None, 2:] - whole[:, None, :2]).clamp(min=1) / 2
        points, peaks = decode(self.keypoint_head(self.mixed(a), regions), whole)
        moved, _ = decode(self.keypoint_head(self.mixed(b), regions), whole)
        place = (points - (whole[:, None, :2] + whole[:, None, 2:]) / 2) / half
        return torch.cat((place, (moved - points) / half, peaks.sigmoid()[..., None]), dim=-1).flatten(1)

    def _finish(self, people: Boxes, logits: Tensor, deltas: Tensor, geometry: Geometry) -> ActionDetections:
        """The detections of one image, in pixels of its frame."""
        boxes = box_coder.decode(deltas, people.boxes, deltas.new_tensor(box_head.WEIGHTS))
        boxes = geometry.to_frame(box.clip(boxes, *geometry.resized))
        return ActionDetections(boxes, people.scores, logits.softmax(1)[:, 1:])


def stream_width(stream: Stream, channels: int, dimof_channels: int, joints: int, cells: int) -> int:
    """How many numbers a stream has for a region.

    channels: of a pyramid level. dimof_channels: of the offset net's output.
    """
    if stream.kind == "pose":
        return 5 * joints
    maps = {"dimofs": dimof_channels, "steady": dimof_channels + dimof_channels // 2}
    return maps.get(stream.kind, channels) * cells**2


def steadied(field: Tensor) -> Tensor:
    """DiMoFs [N, 2G, h, w] less the camera's motion, and the lengths of what is left: [N, 3G, h, w].

    The camera's motion is the affine one that most of each group's field agrees with. The lengths are there because
    the means over a cell of the RoIAlign cancel motions that differ within it.
    """
    pairs = field.unflatten(1, (-1, 2))
    moved = pairs - affine_motion(pairs)
    return torch.cat((moved.flatten(1, 2), moved.norm(dim=2)), dim=1)


def shared_with_pose(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a `PoseDetector` under the names that they have in an `ActionLocalizer`."""
    return {name.replace("deformable.convs.", "mixing."): tensor for name, tensor in tensors.items()}
