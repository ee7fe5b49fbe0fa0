"""Synthetic clips of people with exact labels. They need no data.

    clip = synthetic_clip(7)                     # depends on the seed and the sizes alone
    source = Synthetic(1000, seed=0)             # pairs for training, from clips 0 to 999
    held_out = Synthetic(100, seed=HELD_OUT)     # other seeds: other people, places and movements

People of 0.17 to 0.92 of the frame's height walk, run and act on the spot, cross one another, pass behind posts, boxes
and cars, and enter and leave the frame, while the camera stands still, shakes, or pans and zooms.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from dimofs.datasets.people import Pair, People, draw_frames, labelled_numbers, moves_of
from dimofs.datasets.synthetic.casting import cast
from dimofs.datasets.synthetic.gaits import ACTIONS
from dimofs.datasets.synthetic.scenery import Camera, Scenery, Stage, paint_scenery
from dimofs.datasets.synthetic.strokes import Fragments, Strokes, paint, rasterize
from dimofs.datasets.synthetic.wardrobe import MATERIALS
from dimofs.skeletons import DIMOFS

__all__ = ["ACTIONS", "HELD_OUT", "Scene", "Synthetic", "SyntheticClip", "synthetic_clip"]

# The first seed of clips for testing. Seeds for training count from 0.
HELD_OUT = 1_000_000
FPS = 25.0
# The smallest side of a frame, in pixels.
LEAST_SIDE = 48
# A person is labelled if at least this share of the body's surface is visible.
SEEN = 0.25
# A pixel belongs to the person or thing that covers at least this share of it.
HIDDEN = 0.5
# The stored field of sensor noise exceeds the frame by this many pixels; each frame takes a random part of it.
NOISE = 64


@dataclass(frozen=True, kw_only=True)
class SyntheticClip:
    """T frames with P people. Continuous pixel coordinates: pixel i covers [i, i + 1), centres at integer + 0.5.

    name:      "synthetic_" and the seed.
    frames:    [T, H, W, 3] uint8 RGB, contiguous.
    fps:       frames a second.
    present:   [T, P] bool, whether at least a quarter of the body's surface is visible. Only then a detector should
               find the person.
    boxes:     [T, P, 4] float32, x1 y1 x2 y2 of the silhouette with its hidden parts, in whole pixels, clipped to the
               frame; zeros for people outside.
    heads:     [T, P, 4] float32, boxes of skull, face and short hair, not clipped.
    keypoints: [T, P, 19, 2] float32, x y of the joints of `dimofs.skeletons.DIMOFS`; exact for hidden joints and those
               outside the frame, too.
    visible:   [T, P, 19] bool, whether the joint is in the frame and not hidden by another person or a thing in front.
    actions:   P names of `ACTIONS`.
    """

    name: str
    frames: np.ndarray
    fps: float
    present: np.ndarray
    boxes: np.ndarray
    heads: np.ndarray
    keypoints: np.ndarray
    visible: np.ndarray
    actions: tuple[str, ...]

    def displacement(self, delta: int) -> np.ndarray:
        """[T, P, 19, 2] float32: how far each joint moves from frame t to frame t + delta, limited to the clip."""
        last = len(self.keypoints) - 1
        return self.keypoints[np.clip(np.arange(last + 1) + delta, 0, last)] - self.keypoints

    def people(self, number: int) -> People:
        """The people of a frame, for training.

        Joints inside the frame are labelled, hidden ones too, as in COCO. People in the frame who are not `present` are
        regions to ignore.
        """
        height, width = self.frames.shape[1:3]
        return _people(self.boxes[number], self.keypoints[number], self.present[number], height, width)


def _people(boxes: np.ndarray, keypoints: np.ndarray, present: np.ndarray, height: int, width: int) -> People:
    inside = np.all((keypoints >= 0) & (keypoints < (width, height)), -1)
    absent = ~present & (boxes[:, 2] > boxes[:, 0])
    return People(
        boxes=torch.from_numpy(boxes[present]),
        keypoints=torch.from_numpy(keypoints[present]),
        labelled=torch.from_numpy(inside[present]),
        ignore=torch.from_numpy(boxes[absent]),
    )


def synthetic_clip(
    seed: int, *, length: int = 40, height: int = 240, width: int = 320, people: tuple[int, int] = (1, 6)
) -> SyntheticClip:
    """The clip of `seed`: `length` frames with a random number of people in the range `people`, both ends included.

    The index of a person is also the track id. ValueError: a side is below 48 pixels, there is no frame, or `people`
    is not a range.
    """
    return Scene(seed, length=length, height=height, width=width, people=people).clip()


class Synthetic:
    """Pairs (A, A + delta) of the clips of seeds `seed` to `seed + count - 1`; a `dimofs.datasets.people.PairSource`.

    delta is uniform in -reach..reach, then clipped to the clip; with the reach None, B is any frame of the clip. Frame
    A is one of every `every`-th frame, or with `per_clip` one of so many frames of each clip. Sets whose seeds do not
    overlap have no person and no place in common.
    """

    def __init__(
        self,
        count: int,
        *,
        seed: int = 0,
        length: int = 40,
        height: int = 240,
        width: int = 320,
        people: tuple[int, int] = (1, 6),
        reach: int | None = 10,
        every: int = 1,
        per_clip: int | None = None,
    ):
        _check(length, height, width, people)
        self.count, self.seed, self.reach, self.every, self.per_clip = count, seed, reach, every, per_clip
        self.length, self.height, self.width, self.range = length, height, width, people

    def __len__(self) -> int:
        return self.count

    def scene(self, index: int) -> Scene:
        """The scene of clip `index`. IndexError: there is no such clip."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        sizes = {"length": self.length, "height": self.height, "width": self.width}
        return Scene(self.seed + index, **sizes, people=self.range)

    def pair(self, index: int, random: np.random.Generator) -> Pair:
        """Two frames of clip `index`; the name is "<clip>/<number of A>", with four digits."""
        scene = self.scene(index)
        a, b = draw_frames(self.length, random, reach=self.reach, every=self.every, labels=self.per_clip)
        shot = scene.shoot(a)
        frame_a = _tensor(shot.frame)
        then = shot if a == b else scene.shoot(b)
        frame_b = frame_a if a == b else _tensor(then.frame)
        people = _people(shot.boxes, scene.keypoints[a], shot.present, self.height, self.width)
        seen = torch.from_numpy(shot.visible & then.visible)
        moves = moves_of(torch.from_numpy(scene.keypoints[a]), torch.from_numpy(scene.keypoints[b]), seen)
        name = f"{scene.name}/{a:04d}"
        return Pair(frame_a=frame_a, frame_b=frame_b, people=people, delta=b - a, name=name, moves=moves)

    def frames(self) -> Iterator[tuple[str, Tensor]]:
        """Every possible Frame A of every clip, with the name that `pair` gives it."""
        for index in range(self.count):
            scene = self.scene(index)
            for number in labelled_numbers(self.length, self.every, self.per_clip):
                yield f"{scene.name}/{number:04d}", _tensor(scene.shoot(number).frame)


def _tensor(frame: np.ndarray) -> Tensor:
    return torch.from_numpy(frame).permute(2, 0, 1).contiguous()


def _check(length: int, height: int, width: int, people: tuple[int, int]) -> None:
    if length < 1:
        raise ValueError(f"length {length}: a clip has at least one frame")
    if min(height, width) < LEAST_SIDE:
        raise ValueError(f"{height} x {width}: a frame's sides are at least {LEAST_SIDE} pixels")
    if not 0 <= people[0] <= people[1]:
        raise ValueError(f"people {people}: not a range of numbers from 0")


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One frame [H, W, 3] uint8 with its boxes [P, 4], present [P] and visible [P, 19], as in `SyntheticClip`."""

    frame: np.ndarray
    boxes: np.ndarray
    present: np.ndarray
    visible: np.ndarray


class Scene:
    """Everything that happens in the clip of one seed. Each frame can be drawn alone, by its number.

    keypoints [T, P, 19, 2] and heads [T, P, 4]: as in `SyntheticClip`.
    """

    def __init__(self, seed: int, *, length: int, height: int, width: int, people: tuple[int, int]):
        _check(length, height, width, people)
        random = np.random.default_rng((seed, 0))
        self.name, self.seed = f"synthetic_{seed:06d}", seed
        self.length, self.height, self.width = length, height, width
        time = np.arange(length) / FPS
        self.stage = Stage.sample(random, height, width)
        self.camera = Camera.sample(random, time, height, width)
        number = int(random.integers(people[0], people[1] + 1))
        self.actors = cast(seed, number, self.stage, self.camera, time)
        self.keypoints = np.empty((length, number, len(DIMOFS), 2), np.float32)
        self.heads = np.empty((length, number, 4), np.float32)
        for person, actor in enumerate(self.actors):
            self.keypoints[:, person], self.heads[:, person] = actor.keypoints, actor.heads

    @cached_property
    def scenery(self) -> Scenery:
        """The backdrop and the things in front of it."""
        random = np.random.default_rng((self.seed, 1))
        things = int(random.choice(3, p=(0.45, 0.35, 0.2)))
        return paint_scenery(random, self.stage, things)

    @cached_property
    def _grain(self) -> np.ndarray:
        """Sensor noise for a frame somewhat larger than the scene's, [H + NOISE, W + NOISE, 3] float32."""
        random = np.random.default_rng((self.seed, 4))
        shape = (self.height + NOISE, self.width + NOISE, 3)
        return random.uniform(1, 5) * random.standard_normal(shape, dtype=np.float32) + np.float32(0.5)

    def clip(self) -> SyntheticClip:
        """All frames and their labels."""
        shots = [self.shoot(number) for number in range(self.length)]
        frames, boxes, present, visible = (
            np.stack([getattr(shot, name) for shot in shots]) for name in ("frame", "boxes", "present", "visible")
        )
        return SyntheticClip(
            name=self.name,
            frames=frames,
            fps=FPS,
            present=present,
            boxes=boxes,
            heads=self.heads,
            keypoints=self.keypoints,
            visible=visible,
            actions=tuple(actor.action for actor in self.actors),
        )

    def shoot(self, number: int, without: Collection[int] = ()) -> Shot:
        """Frame `number` and its labels. The people `without` are not drawn."""
        image = self.scenery.view(self.camera, number, self.height, self.width)
        playing = [person for person in range(len(self.actors)) if person not in without]
        if not playing:
            return self._deserted(image, number)
        # The nearest person has the largest scale and is drawn last.
        order = sorted(playing, key=lambda person: self.actors[person].scale[number])
        strokes, behind = self._strokes(number, order), self._things_before(number)
        covered = self.scenery.covered(self.camera, number, self.height, self.width)
        fragments = rasterize(strokes, self.height, self.width)
        boxes = self._boxes(strokes, fragments)
        fragments = _behind(fragments, behind[strokes.owner], covered)
        paint(image, strokes, fragments, np.concatenate([a.atlas for a in self.actors]), self.scenery.light)

        rank = np.full(len(self.actors) + 1, -1)
        rank[order] = np.arange(len(order))
        sight = _Sight(_owners(strokes, fragments, image.shape[:2]), rank, covered, behind)
        visible = sight(np.arange(len(self.actors))[:, None], self.keypoints[number]) & (rank[:-1, None] >= 0)
        present = self._present(sight, strokes)
        return Shot(frame=self._developed(image, number), boxes=boxes, present=present, visible=visible)

    def _deserted(self, image: np.ndarray, number: int) -> Shot:
        """The frame without people."""
        people = len(self.actors)
        return Shot(
            frame=self._developed(image, number),
            boxes=np.zeros((people, 4), np.float32),
            present=np.zeros(people, bool),
            visible=np.zeros((people, len(DIMOFS)), bool),
        )

    def _things_before(self, number: int) -> np.ndarray:
        """[P]: the number of things nearer to the camera than each person."""
        ground = np.array([actor.ground[number] for actor in self.actors])
        return sum((ground < thing.ground for thing in self.scenery.things), np.zeros(len(ground), np.int64))

    def _strokes(self, number: int, order: Sequence[int]) -> Strokes:
        """All strokes of a frame: shadows, then people from the farthest to the nearest."""
        groups = [(person, self.actors[person].shadow[number]) for person in order]
        groups += [(person, self.actors[person].body[number]) for person in order]
        joined = Strokes.join([strokes for _, strokes in groups])
        person = np.repeat([p for p, _ in groups], [len(strokes) for _, strokes in groups])
        return replace(joined, owner=person, texture=joined.texture + len(MATERIALS) * person)

    def _boxes(self, strokes: Strokes, fragments: Fragments) -> np.ndarray:
        """[P, 4] float32: the extent of the pixels of which each person covers half or more."""
        owner = strokes.owner[fragments.stroke]
        mine = np.flatnonzero((fragments.coverage >= HIDDEN) & strokes.solid[fragments.stroke])
        y, x = np.divmod(fragments.pixels[mine], self.width)
        boxes = np.zeros((len(self.actors), 4), np.float32)
        people, first = np.unique(owner[mine], return_index=True)
        # Fragments are grouped by person, so the first of each person starts a group.
        starts = np.sort(first)
        people = people[np.argsort(first)]
        if len(people):
            low = [np.minimum.reduceat(values, starts) for values in (x, y)]
            high = [np.maximum.reduceat(values, starts) + 1 for values in (x, y)]
            boxes[people] = np.stack((*low, *high), 1)
        return boxes

    def _present(self, sight: _Sight, strokes: Strokes) -> np.ndarray:
        """[P] bool: whether enough of the surface of each body is visible."""
        strokes = strokes.select(np.flatnonzero(strokes.large))
        points, areas = _surface(strokes)
        shown = sight(strokes.owner[:, None], points).mean(1) * areas
        shown, whole = (np.bincount(strokes.owner, what, len(self.actors)) for what in (shown, areas))
        return (shown >= SEEN * whole) & (whole > 0)

    def _developed(self, image: np.ndarray, number: int) -> np.ndarray:
        """[H, W, 3] uint8: the image with sensor noise."""
        y, x = np.random.default_rng((self.seed, 5, number)).integers(0, NOISE, 2)
        image += self._grain[y : y + self.height, x : x + self.width]
        return np.clip(image, 0, 255, out=image).astype(np.uint8)


class _Sight:
    """Tells which points of people are visible: inside the frame and not behind a person or thing that is nearer."""

    def __init__(self, owners: np.ndarray, rank: np.ndarray, covered: np.ndarray, behind: np.ndarray):
        """owners:  [H, W], the person painted at each pixel, -1 for nobody.
        rank:    [P + 1], larger for nearer people; the last entry is that of nobody.
        covered: [N + 1, H, W], how far the n nearest things cover each pixel.
        behind:  [P], the number of things in front of each person.
        """
        self.owners, self.rank, self.covered, self.behind = owners, rank, covered, behind

    def __call__(self, person: np.ndarray, points: np.ndarray) -> np.ndarray:
        """person [...], points [..., 2] in pixels -> [...] bool."""
        height, width = self.owners.shape
        x, y = np.moveaxis(np.floor(points).astype(np.int64), -1, 0)
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
        clear = self.rank[self.owners[y, x]] <= self.rank[person]
        return inside & clear & (self.covered[self.behind[person], y, x] <= HIDDEN)


def _owners(strokes: Strokes, fragments: Fragments, size: tuple[int, int]) -> np.ndarray:
    """[H, W]: the person painted at each pixel, -1 for nobody."""
    owners = np.full(size, -1)
    showing = np.flatnonzero((fragments.coverage >= HIDDEN) & strokes.solid[fragments.stroke])
    owners.reshape(-1)[fragments.pixels[showing]] = strokes.owner[fragments.stroke[showing]]
    return owners


def _behind(fragments: Fragments, behind: np.ndarray, covered: np.ndarray) -> Fragments:
    """Fragments with their coverage reduced by the things in front; behind: [K], how many those are per stroke."""
    if len(covered) == 1:
        return fragments
    hidden = covered.reshape(len(covered), -1)[behind[fragments.stroke], fragments.pixels]
    return replace(fragments, coverage=fragments.coverage * (1 - hidden))


def _surface(strokes: Strokes) -> tuple[np.ndarray, np.ndarray]:
    """Points [K, 15, 2] spread over K strokes, and the area [K] of each."""
    d = strokes.stop - strokes.start
    half = strokes.widths.mean(1)
    length = np.maximum(np.sqrt((d * d).sum(1)), np.float32(1e-3))
    normal = np.stack((-d[:, 1], d[:, 0]), 1) / length[:, None]
    along = np.linspace(0.05, 0.95, 5, dtype=np.float32)[:, None, None]
    across = np.linspace(-0.7, 0.7, 3, dtype=np.float32)[:, None]
    points = strokes.start[:, None, None] + along * d[:, None, None] + across * (half[:, None] * normal)[:, None, None]
    return points.reshape(len(strokes), 15, 2), half * (length + half)
