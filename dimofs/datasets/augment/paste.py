"""Copy-paste augmentation (Ghiasi et al., CVPR 2021) with boxes: paste a person of one pair in front of another's.

Sources with one person an image then also show people who overlap, whose joints a detector must tell apart.
"""

import numpy as np
import torch

from dimofs.boxes import area, covered
from dimofs.datasets.augment.geometry import shifted, transform, within
from dimofs.datasets.people import Pair, People, inside

# People become ignore regions if a larger share of their box is hidden by the pasted window.
HIDDEN = 0.6


def paste(scene: Pair, other: Pair, window: tuple[int, int, int, int], x: int, y: int) -> Pair:
    """`scene` with the `window` (x1 y1 x2 y2, pixels) of `other` pasted over both frames, its corner at (x, y).

    Joints behind the window lose their label. The delta is the scene's or, if that is 0, the other's.
    """
    left, top, right, bottom = window
    width, height = right - left, bottom - top
    frame_a, frame_b = scene.frame_a.clone(), scene.frame_b.clone()
    for below, above in ((frame_a, other.frame_a), (frame_b, other.frame_b)):
        below[:, y : y + height, x : x + width] = above[:, top:bottom, left:right]
    move = torch.tensor(((1, 0, -left), (0, 1, -top)), dtype=torch.float64)
    front = shifted(transform(other.people, move, (height, width)), x, y)
    behind = hide(scene.people, torch.tensor((x, y, x + width, y + height), dtype=torch.float32))
    people = People.join((behind, front))
    overpainted = inside(scene.moves - torch.tensor((x, y)), height, width).any(dim=1)
    in_front = within(other.moves, window) + torch.tensor((x - left, y - top))
    return Pair(
        frame_a=frame_a,
        frame_b=frame_b,
        people=people,
        delta=scene.delta or other.delta,
        name=f"{scene.name}+{other.name}",
        moves=torch.cat((scene.moves[~overpainted], in_front)),
    )


def hide(people: People, window: torch.Tensor) -> People:
    """The labels of people who are partly hidden by `window` [4]."""
    width, height = (window[2:] - window[:2]).tolist()
    hidden = inside(people.keypoints - window[:2], height, width)
    kept = covered(people.boxes, window[None])[:, 0] <= HIDDEN
    ignore = torch.cat((people.ignore, people.boxes[~kept]))
    return People(
        boxes=people.boxes[kept],
        keypoints=people.keypoints[kept],
        labelled=(people.labelled & ~hidden)[kept],
        ignore=ignore,
    )


def largest(people: People) -> tuple[int, int, int, int]:
    """The box of the largest of the people, of whom there is at least one, rounded to whole pixels."""
    x1, y1, x2, y2 = people.boxes[area(people.boxes).argmax()].tolist()
    return round(x1), round(y1), round(x2), round(y2)


def beside(
    box: torch.Tensor, width: int, height: int, size: tuple[int, int], random: np.random.Generator
) -> tuple[int, int]:
    """A random corner (x, y) at which a window of `width` x `height` overlaps the left or right edge of `box` [4].

    The window stays on the canvas of `size` = (height, width).
    """
    cx, cy = ((box[:2] + box[2:]) / 2).tolist()
    across, down = (box[2:] - box[:2]).tolist()
    x = cx + random.choice((-1, 1)) * random.uniform(0.2, 0.5) * (across + width) - width / 2
    y = cy + random.uniform(-0.2, 0.2) * (down + height) - height / 2
    return round(min(max(x, 0), size[1] - width)), round(min(max(y, 0), size[0] - height))
