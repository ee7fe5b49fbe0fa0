"""Random training pairs from several sources by weight. Each pair is a function of the seed and its number alone.

    mixture = Mixture([(jhmdb, 3.0), (coco, 1.0)], size=(320, 320), length=100_000, seed=0)
    loader = DataLoader(mixture, batch_size=8, num_workers=2, collate_fn=collate)   # no shuffling: it is random already

To resume at pair `n`, use `DataLoader(Subset(mixture, range(n, len(mixture))), ...)`: it gives the same pairs that an
uninterrupted run would get.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dimofs.datasets.augment.geometry import Augmentation, augment, shifted
from dimofs.datasets.augment.paste import beside, largest, paste
from dimofs.datasets.people import Pair, PairSource, People

# Size of pasted people, in the unit of `Augmentation.person`.
FRONT = (0.8, 1.1)


class Mixture(Dataset[Pair]):
    """`length` augmented pairs of `size` = (height, width).

    sources: each with the weight with which it is drawn; items of a source are drawn uniformly.
    mosaic:  share of canvases that show four pairs, so that sources with one person an image give several small ones.
    paste:   share of canvases on which one more person is pasted in front of another.
    """

    def __init__(
        self,
        sources: Sequence[tuple[PairSource, float]],
        size: tuple[int, int],
        length: int,
        *,
        seed: int = 0,
        mosaic: float = 0.3,
        paste: float = 0.0,
        augmentation: Augmentation | None = None,
    ):
        self.sources, weights = [source for source, _ in sources], np.array([weight for _, weight in sources])
        self.shares = weights / weights.sum()
        self.size, self.length, self.seed, self.mosaic, self.paste = size, length, seed, mosaic, paste
        self.augmentation = augmentation or Augmentation()
        self.close = replace(self.augmentation, person=FRONT)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> Pair:
        """Pair `number`, counted from 0."""
        if not 0 <= number < self.length:
            raise IndexError(number)
        random = np.random.default_rng((self.seed, number))
        alone = random.random() >= self.mosaic
        pair = self._draw(self.size, random, self.augmentation) if alone else self._mosaic(random)
        return self._pasted(pair, random) if self.paste and random.random() < self.paste else pair

    def _draw(self, size: tuple[int, int], random: np.random.Generator, how: Augmentation) -> Pair:
        source = self.sources[random.choice(len(self.sources), p=self.shares)]
        return augment(source.pair(int(random.integers(len(source))), random), size, random, how)

    def _pasted(self, pair: Pair, random: np.random.Generator) -> Pair:
        """`pair` with another person of about the same size pasted in front of one of its people."""
        if not len(pair.people):
            return pair
        box = pair.people.boxes[random.integers(len(pair.people))]
        side = round(float((box[2:] - box[:2]).max()) * random.uniform(0.7, 1.2))
        side = min(max(side, 32), *self.size)
        other = self._draw((side, side), random, self.close)
        if not len(other.people):
            return pair
        window = largest(other.people)
        corner = beside(box, window[2] - window[0], window[3] - window[1], self.size, random)
        return paste(pair, other, window, *corner)

    def _mosaic(self, random: np.random.Generator) -> Pair:
        """Four pairs around a random point near the middle. Its delta is the first that is not 0, or 0."""
        height, width = self.size
        y, x = round(height * random.uniform(0.35, 0.65)), round(width * random.uniform(0.35, 0.65))
        canvas = torch.empty(2, 3, height, width, dtype=torch.uint8)
        people, pairs, moves = [], [], []
        for top, bottom in ((0, y), (y, height)):
            for left, right in ((0, x), (x, width)):
                pair = self._draw((bottom - top, right - left), random, self.augmentation)
                canvas[0, :, top:bottom, left:right] = pair.frame_a
                canvas[1, :, top:bottom, left:right] = pair.frame_b
                people.append(shifted(pair.people, left, top))
                moves.append(pair.moves + torch.tensor((left, top)))
                pairs.append(pair)
        delta = next((pair.delta for pair in pairs if pair.delta), 0)
        return Pair(
            frame_a=canvas[0],
            frame_b=canvas[1],
            people=People.join(people),
            delta=delta,
            name="+".join(pair.name for pair in pairs),
            moves=torch.cat(moves),
        )


def collate(pairs: Sequence[Pair]) -> tuple[Tensor, Tensor, list[People], list[str], list[Tensor]]:
    """N pairs -> frames A and frames B [N, 3, H, W] uint8, the people of each Frame A, the names, and the moves."""
    frames_a = torch.stack([pair.frame_a for pair in pairs])
    frames_b = torch.stack([pair.frame_b for pair in pairs])
    moves = [pair.moves for pair in pairs]
    return frames_a, frames_b, [pair.people for pair in pairs], [pair.name for pair in pairs], moves
