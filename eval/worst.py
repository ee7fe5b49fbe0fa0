"""A picture of the people for whom a model errs most: labelled poses on the left, found ones on the right."""

import heapq
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dimofs.boxes import area, clip, corners
from dimofs.datasets.people import People, to_dimofs
from dimofs.detections import Detections
from dimofs.drawing import draw
from dimofs.eval.keypoints.coco_ap import CocoTruth
from dimofs.eval.keypoints.coco_errors import match_people
from dimofs.files import replacing
from dimofs.formats.coco_images import CocoImages
from dimofs.picture import png
from dimofs.pixels import to_tensor
from dimofs.skeletons import COCO, DIMOFS, limbs

# Side of a tile, pixels.
SIDE = 192
# A tile shows this many times the longer side of the labelled box.
MARGIN = 1.5
# Tiles in a row.
COLUMNS = 3
# Found people of a lower score are not drawn.
DRAWN_SCORE = 0.5


class Worst:
    """Keeps the `most` people with the largest mean joint error; an error counts as at most 1, the size of the box."""

    def __init__(self, most: int = 9):
        self.most, self.number = most, count()
        # A heap of (error, number, tile), the smallest error first.
        self.tiles: list[tuple[float, int, np.ndarray]] = []

    def add(self, frame: Tensor, labelled: People, found: Detections, names: tuple[str, ...], errors: Tensor) -> None:
        """The P people of a frame [3, H, W] in [0, 1] and the `errors` [P, 19] of their joints, NaN without a label.

        Whoever has no labelled joint, or a box outside the frame, is left out.
        """
        logits = torch.where(labelled.labelled, torch.inf, -torch.inf)
        truth = Detections(labelled.boxes, torch.ones(len(labelled)), labelled.keypoints, logits)
        shown = found[found.scores >= DRAWN_SCORE]
        boxes = clip(labelled.boxes, *frame.shape[1:])
        for person, error in enumerate(errors.clamp(max=1).nanmean(dim=1).tolist()):
            box = boxes[person]
            if error != error or not area(box) or (len(self.tiles) == self.most and error <= self.tiles[0][0]):
                continue
            left, right = _tile(frame, box, truth[person : person + 1], DIMOFS), _tile(frame, box, shown, names)
            heapq.heappush(self.tiles, (error, next(self.number), np.concatenate((left, right), axis=1)))
            if len(self.tiles) > self.most:
                heapq.heappop(self.tiles)

    def write(self, path: Path) -> None:
        """Write the tiles as PNG, the largest error first, row by row; without one, print that there is no picture.

        InputError: the file cannot be written.
        """
        tiles = [tile for *_, tile in sorted(self.tiles, key=lambda entry: entry[:2], reverse=True)]
        if not tiles:
            print("note: no picture of the people found worst: nobody in the frames has a labelled joint")
            return
        tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % COLUMNS)
        rows = [np.concatenate(tiles[i : i + COLUMNS], axis=1) for i in range(0, len(tiles), COLUMNS)]
        with replacing(path) as temporary:
            temporary.write_bytes(png(np.concatenate(rows)))


def worst_stills(path: Path, truth: CocoTruth, results: Sequence[dict], images: CocoImages, most: int = 9) -> None:
    """Draw the `most` labelled people of COCO stills with the lowest OKS; that of people whom nobody found is 0.

    results: COCO's, with keypoints. InputError: as `Worst.write`, or an image cannot be read.
    """
    labels = [_joints(person) for person in truth.people]
    oks = {n: 0.0 for n, joints in enumerate(labels) if (joints[:, 2] > 0).any() and not truth.people[n].get("iscrowd")}
    oks |= {match.person: match.oks for match in match_people(truth, results)}
    worst, places = Worst(most), {identity: number for number, identity in enumerate(images.ids)}
    for number in sorted(oks, key=lambda n: oks[n]):
        if len(worst.tiles) == most:
            break
        image = truth.people[number]["image_id"]
        found = [result for result in results if result["image_id"] == image]
        marked = torch.from_numpy(labels[number]).float()[None]
        keypoints, labelled = to_dimofs(marked[..., :2] + 0.5, marked[..., 2] > 0, COCO)
        box = _corners([truth.people[number]])
        person = People(boxes=box, keypoints=keypoints, labelled=labelled, ignore=torch.zeros(0, 4))
        frame = to_tensor(images.read(places[image])) / 255
        worst.add(frame, person, _detections(found), COCO, torch.full((1, len(DIMOFS)), 1 - oks[number]))
    worst.write(path)


def _joints(entry: dict) -> np.ndarray:
    """[17, 3] the joints of a person or a result in COCO's form."""
    return np.reshape(entry["keypoints"], (-1, 3)).astype(np.float64)


def _corners(entries: Sequence[dict]) -> Tensor:
    """[N, 4] x1 y1 x2 y2 of the boxes of people or results."""
    return corners(torch.tensor([entry["bbox"] for entry in entries], dtype=torch.float32).reshape(-1, 4))


def _detections(results: Sequence[dict]) -> Detections:
    """The results of an image, which have boxes and joints, as found people."""
    joints = torch.from_numpy(np.array([_joints(result) for result in results]).reshape(-1, len(COCO), 3)).float()
    scores = torch.tensor([result.get("box_score", result["score"]) for result in results], dtype=torch.float32)
    logits = torch.where(joints[..., 2] > 0, torch.inf, -torch.inf)
    return Detections(_corners(results), scores, joints[..., :2] + 0.5, logits)


def _tile(frame: Tensor, box: Tensor, people: Detections, names: tuple[str, ...]) -> np.ndarray:
    """The part of a frame around `box`, which lies in it: [SIDE, SIDE, 3] uint8, black beyond the frame, with people
    drawn in."""
    # Not below 1, so that a pixel of the frame is in the tile.
    half = (MARGIN / 2 * (box[2:] - box[:2]).max()).clamp(min=1)
    origin = ((box[:2] + box[2:]) / 2 - half).round()
    x, y = origin.int().tolist()
    side = round(2 * half.item())
    height, width = frame.shape[1:]
    part = frame[:, max(y, 0) : min(y + side, height), max(x, 0) : min(x + side, width)]
    left, right = _in_tile(x, side, width)
    top, bottom = _in_tile(y, side, height)
    size = bottom - top, right - left
    part = F.interpolate(part[None], size, mode="bilinear", align_corners=False, antialias=True)[0]
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    image[top:bottom, left:right] = (part.clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy()
    zoom = SIDE / side
    boxes, keypoints = (people.boxes - origin.repeat(2)) * zoom, (people.keypoints - origin) * zoom
    draw(image, replace(people, boxes=boxes, keypoints=keypoints).to("cpu", torch.float32), limbs(names))
    return image


def _in_tile(start: int, side: int, length: int) -> tuple[int, int]:
    """First and last + 1 of the tile's pixels that show the frame, of `length` pixels, along an axis; the tile shows
    `side` pixels from `start`."""
    first, last = max(-start, 0), min(length - start, side)
    return first * SIDE // side, -(-last * SIDE // side)
