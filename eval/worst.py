"""A picture of the people for whom a model errs most: labelled poses on the left, found ones on the right."""

import heapq
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dimofs.cli import InputError
from dimofs.datasets.people import People
from dimofs.detections import Detections
from dimofs.drawing import draw
from dimofs.files import replacing
from dimofs.picture import png
from dimofs.skeletons import DIMOFS, limbs

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
        """The P people of a frame [3, H, W] in [0, 1] and the `errors` [P, 19] of their joints, NaN without a label."""
        logits = torch.where(labelled.labelled, torch.inf, -torch.inf)
        truth = Detections(labelled.boxes, torch.ones(len(labelled)), labelled.keypoints, logits)
        shown = found[found.scores >= DRAWN_SCORE]
        for person, error in enumerate(errors.clamp(max=1).nanmean(dim=1).tolist()):
            if error != error or (len(self.tiles) == self.most and error <= self.tiles[0][0]):
                continue
            box = labelled.boxes[person]
            left, right = _tile(frame, box, truth[person : person + 1], DIMOFS), _tile(frame, box, shown, names)
            heapq.heappush(self.tiles, (error, next(self.number), np.concatenate((left, right), axis=1)))
            if len(self.tiles) > self.most:
                heapq.heappop(self.tiles)

    def write(self, path: Path) -> None:
        """Write the tiles as PNG, the largest error first, row by row.

        InputError: nobody was added, or the file cannot be written.
        """
        tiles = [tile for *_, tile in sorted(self.tiles, key=lambda entry: entry[:2], reverse=True)]
        if not tiles:
            raise InputError(f"{path}: nobody with a labelled joint to draw")
        tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % COLUMNS)
        rows = [np.concatenate(tiles[i : i + COLUMNS], axis=1) for i in range(0, len(tiles), COLUMNS)]
        with replacing(path) as temporary:
            temporary.write_bytes(png(np.concatenate(rows)))


def _tile(frame: Tensor, box: Tensor, people: Detections, names: tuple[str, ...]) -> np.ndarray:
    """The part of a frame around `box`, [SIDE, SIDE, 3] uint8, black beyond the frame, with people drawn in."""
    half = MARGIN / 2 * (box[2:] - box[:2]).max()
    left, top = ((box[:2] + box[2:]) / 2 - half).round().int().tolist()
    side = max(1, round(2 * half.item()))
    height, width = frame.shape[1:]
    part = F.pad(frame, (-left, left + side - width, -top, top + side - height))
    part = F.interpolate(part[None], (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)[0]
    image = (part.clamp(0, 1) * 255).byte().permute(1, 2, 0).contiguous().numpy()
    zoom, origin = SIDE / side, torch.tensor([left, top])
    boxes, keypoints = (people.boxes - origin.repeat(2)) * zoom, (people.keypoints - origin) * zoom
    draw(image, replace(people, boxes=boxes, keypoints=keypoints).to("cpu", torch.float32), limbs(names))
    return image
