"""A picture of the people whom a model gets most wrong: labelled poses on the left, found ones on the right."""

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
from dimofs.overlay import png
from dimofs.skeletons import DIMOFS, limbs

SIDE = 192  # pixels of a tile
AROUND = 1.5  # sides of the labelled box
COLUMNS = 3
SURE = 0.5  # people of lower score are not drawn


class Worst:
    """Keeps the `most` people with the largest mean error; an error counts as 1, the size of the box, at most."""

    def __init__(self, most: int = 9):
        self.most, self.number = most, count()
        self.tiles: list[tuple[float, int, np.ndarray]] = []  # a heap, the least bad first

    def add(self, frame: Tensor, labelled: People, found: Detections, names: tuple[str, ...], errors: Tensor) -> None:
        """The P people of a frame [3, H, W] in [0, 1] and the `errors` [P, 19] of their joints, NaN without a label."""
        logits = torch.where(labelled.labelled, torch.inf, -torch.inf)
        truth = Detections(labelled.boxes, torch.ones(len(labelled)), labelled.keypoints, logits)
        for person, bad in enumerate(errors.clamp(max=1).nanmean(dim=1).tolist()):
            if bad == bad and (len(self.tiles) < self.most or bad > self.tiles[0][0]):
                box = labelled.boxes[person]
                sides = (truth[person : person + 1], DIMOFS), (found[found.scores >= SURE], names)
                tile = np.concatenate([_tile(frame, box, *side) for side in sides], axis=1)
                heapq.heappush(self.tiles, (bad, next(self.number), tile))
                self.tiles = heapq.nlargest(self.most, self.tiles)[::-1]

    def write(self, path: Path) -> None:
        """The worst first, row by row, as PNG. InputError: nobody was added, or the file cannot be written."""
        tiles = [tile for *_, tile in reversed(self.tiles)]
        if not tiles:
            raise InputError(f"{path}: nobody with a labelled joint to draw")
        tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % COLUMNS)
        rows = [np.concatenate(tiles[i : i + COLUMNS], axis=1) for i in range(0, len(tiles), COLUMNS)]
        with replacing(path) as temporary:
            temporary.write_bytes(png(np.concatenate(rows)))


def _tile(frame: Tensor, box: Tensor, people: Detections, names: tuple[str, ...]) -> np.ndarray:
    """The part of a frame around `box`, [SIDE, SIDE, 3] uint8, black beyond the frame, with people."""
    half = AROUND / 2 * (box[2:] - box[:2]).max()
    left, top = ((box[:2] + box[2:]) / 2 - half).round().int().tolist()
    side = max(1, round(2 * half.item()))
    height, width = frame.shape[1:]
    part = F.pad(frame, (-left, left + side - width, -top, top + side - height))
    part = F.interpolate(part[None], (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)[0]
    image = (part.clamp(0, 1) * 255).byte().permute(1, 2, 0).contiguous().numpy()
    zoom, origin = SIDE / side, torch.tensor([left, top])
    moved = replace(
        people, boxes=(people.boxes - origin.repeat(2)) * zoom, keypoints=(people.keypoints - origin) * zoom
    )
    draw(image, moved.to("cpu", torch.float32), limbs(names))
    return image
