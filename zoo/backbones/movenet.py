"""MoveNet MultiPose Lightning (Google, Apache-2.0): up to six people per image, 17 COCO joints each.

Its weights are not part of dimofs. Convert the graph model published for TensorFlow.js (model.json, .bin beside it):

    python -m dimofs.zoo.convert model.json --out movenet
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dimofs import skeletons
from dimofs.detections import Detections
from dimofs.zoo.backbones.activated import activated
from dimofs.zoo.backbones.mobilenet import MobileNetV2, MoveNetFPN, SeparableConv

STRIDE = 4
JOINTS = len(skeletons.COCO)

_COUNTED = 0.127  # a keypoint score below this does not count in the person's score
_SPREAD = 0.3  # of the map's shorter side: what the squared distance in the weight of a joint's heat is divided by


class Head(nn.Sequential):
    """One output map from the finest map of the pyramid."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(SeparableConv(inputs, 96), nn.Conv2d(96, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        separable, last = self
        assert isinstance(last, nn.Conv2d)
        return activated(last, separable(x))


class MoveNet(nn.Module):
    """[N, 3, H, W] RGB in [0, 1], H and W multiples of 32 -> one Detections per image, in its pixels.

    people: the most that are found in an image; the published graph has 6. MoveNet was trained on images whose longer
    side is 256.
    """

    def __init__(self, people: int = 6) -> None:
        super().__init__()
        self.people = people
        self.backbone = MobileNetV2()
        self.fpn = MoveNetFPN()
        sizes = {"center": 1, "box_scale": 2, "box_offset": 2}
        sizes |= {"kpt_heatmap": JOINTS, "kpt_regress": 2 * JOINTS, "kpt_offset": 2 * JOINTS}
        inputs = self.fpn.channels[0]
        self.heads = nn.ModuleDict({name: Head(inputs, n) for name, n in sizes.items()})

    def maps(self, images: Tensor) -> dict[str, Tensor]:
        """The six output maps by name, [N, C, H/4, W/4], before any sigmoid."""
        features = self.fpn(self.backbone((images * 2 - 1).contiguous(memory_format=torch.channels_last)))[0]
        return {name: head(features) for name, head in self.heads.items()}

    def forward(self, images: Tensor, people: int | None = None) -> list[Detections]:
        """`people` replaces the model's own limit. ValueError: a side is no multiple of 32."""
        height, width = images.shape[-2:]
        if height % 32 or width % 32:
            raise ValueError(f"images of {height} x {width} pixels; MoveNet needs multiples of 32")
        maps = {name: m.float() for name, m in self.maps(images).items()}
        limit = self.people if people is None else people
        return [decode({name: m[i] for name, m in maps.items()}, limit) for i in range(len(images))]


def decode(maps: dict[str, Tensor], people: int) -> Detections:
    """At most `people` people in one image's `maps` [C, h, w], best first, as the published graph decodes them.

    Cell (row, column) with its offset stands for (row + offset, column + offset) * 4 pixels, the corner of the image
    at 0 and pixel centres at integer + 0.5, as everywhere here. The network itself leans left by about a quarter of an
    input pixel (an image and its mirror, read by one convention, differ by twice that); this is left as it is. It
    learned from COCO's joints, which are given as indices of pixels.

    Keypoint scores are probabilities: the heat of the joint's cell times its nearness to where the person's centre
    expects it. A person's score is the centre's probability times the mean of the keypoint scores above 0.127.
    """
    center, cell = _peaks(maps["center"].sigmoid(), people)
    low, high = _boxes(maps, cell)
    keypoints, keypoint_scores = _keypoints(maps, cell, low, high)
    counted = keypoint_scores > _COUNTED
    scores = center * (keypoint_scores * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1)
    boxes = torch.cat((low.flip(1), high.flip(1)), dim=1)  # rows and columns become y and x
    detections = Detections(boxes * STRIDE, scores, keypoints.flip(2) * STRIDE, keypoint_scores)
    return detections[scores.argsort(descending=True, stable=True)]


def _peaks(center: Tensor, people: int) -> tuple[Tensor, Tensor]:
    """[1, h, w] -> probabilities [P] and cells [P, 2] of the centres that are the highest of 5x5 cells."""
    highest = F.max_pool2d(center, 5, stride=1, padding=2) - center < 1e-6
    values, index = (center * highest).flatten().topk(min(people, center.numel()))
    values, index = values[values > 0], index[values > 0]
    return values, torch.stack((index // center.shape[2], index % center.shape[2]), dim=1)


def _boxes(maps: dict[str, Tensor], cell: Tensor) -> tuple[Tensor, Tensor]:
    """Upper left and lower right corners [P, 2], in cells and within the map."""
    middle = cell + _at(maps["box_offset"], cell)
    half = _at(maps["box_scale"], cell).clamp(min=0) / 2
    least, most = middle.new_zeros(2), middle.new_tensor(maps["center"].shape[1:])
    return (middle - half).clamp(least, most), (middle + half).clamp(least, most)


def _keypoints(maps: dict[str, Tensor], cell: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Places [P, J, 2], in cells, and scores [P, J]: for each person and joint the cell with the most weighted heat.

    As in the graph, the score is the most that any of the people gives to the joint's cell.
    """
    heat = maps["kpt_heatmap"].sigmoid()
    if not len(cell):
        return heat.new_zeros(0, JOINTS, 2), heat.new_zeros(0, JOINTS)
    height, width = heat.shape[1:]
    spread = _SPREAD * min(height, width)
    guess = cell[:, None] + _at(maps["kpt_regress"], cell).unflatten(1, (JOINTS, 2))
    rows = _nearness(guess[..., 0], low[:, 0], high[:, 0], height, spread)
    columns = _nearness(guess[..., 1], low[:, 1], high[:, 1], width, spread)
    weighted = (heat * rows[..., None] * columns[..., None, :]).flatten(2)  # [P, J, hw]
    best, joint = weighted.argmax(dim=2), torch.arange(JOINTS, device=heat.device)
    offset = maps["kpt_offset"].unflatten(0, (JOINTS, 2)).flatten(2)[joint, :, best]  # [P, J, 2]
    places = torch.stack((best // width, best % width), dim=2) + offset
    return places, weighted.amax(dim=0)[joint, best]


def _at(values: Tensor, cell: Tensor) -> Tensor:
    """The columns of [C, h, w] `values` at cells [P, 2], [P, C]."""
    return values[:, cell[:, 0], cell[:, 1]].T


def _nearness(guess: Tensor, low: Tensor, high: Tensor, size: int, spread: float) -> Tensor:
    """One axis of the weight of every cell, [P, J, size]: Gaussian around `guess` [P, J], 0 outside [low, high)."""
    grid = torch.arange(size, device=guess.device)
    inside = (grid >= low[:, None]) & (grid < high[:, None])
    return torch.exp(-((grid - guess[..., None]) ** 2) / spread) * inside[:, None]
