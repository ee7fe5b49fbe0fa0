"""Training pairs without end from several sources by weight, each a function of (seed, running number) alone.

    mixture = Mixture([(jhmdb, 3.0), (coco, 1.0)], size=(320, 320), length=100_000, seed=0)
    loader = DataLoader(mixture, batch_size=8, num_workers=2, collate_fn=collate)   # not shuffled: it is random already

To go on at pair `n`: `DataLoader(Subset(mixture, range(n, len(mixture))), ...)` gives exactly what would have come.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dimofs.datasets.pairs import Augmentation, augment, shifted
from dimofs.datasets.people import Pair, People, Source


class Mixture(Dataset[Pair]):
    """`length` augmented pairs of `size` = (height, width).

    sources: with the weight with which each is drawn; its items are drawn uniformly.
    mosaic:  share of canvases that hold four pairs, so that sources of one person give several and small ones.
    """

    def __init__(
        self,
        sources: Sequence[tuple[Source, float]],
        size: tuple[int, int],
        length: int,
        *,
        seed: int = 0,
        mosaic: float = 0.3,
        augmentation: Augmentation | None = None,
    ):
        self.sources, weights = [source for source, _ in sources], np.array([weight for _, weight in sources])
        self.shares = weights / weights.sum()
        self.size, self.length, self.seed, self.mosaic = size, length, seed, mosaic
        self.augmentation = augmentation or Augmentation()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> Pair:
        """The pair of running number `number`."""
        if not 0 <= number < self.length:
            raise IndexError(number)
        random = np.random.default_rng((self.seed, number))
        if random.random() >= self.mosaic:
            return self._draw(self.size, random)
        return self._mosaic(random)

    def _draw(self, size: tuple[int, int], random: np.random.Generator) -> Pair:
        source = self.sources[random.choice(len(self.sources), p=self.shares)]
        return augment(source.pair(int(random.integers(len(source))), random), size, random, self.augmentation)

    def _mosaic(self, random: np.random.Generator) -> Pair:
        """Four pairs around a random point near the middle; delta 0 if all four are, else the first other."""
        height, width = self.size
        y, x = round(height * random.uniform(0.35, 0.65)), round(width * random.uniform(0.35, 0.65))
        canvas = torch.empty(2, 3, height, width, dtype=torch.uint8)
        people, pairs = [], []
        for top, bottom in ((0, y), (y, height)):
            for left, right in ((0, x), (x, width)):
                pair = self._draw((bottom - top, right - left), random)
                canvas[0, :, top:bottom, left:right] = pair.frame_a
                canvas[1, :, top:bottom, left:right] = pair.frame_b
                people.append(shifted(pair.people, left, top))
                pairs.append(pair)
        delta = next((pair.delta for pair in pairs if pair.delta), 0)
        return Pair(canvas[0], canvas[1], People.join(people), delta, "+".join(pair.name for pair in pairs))


def collate(pairs: Sequence[Pair]) -> tuple[Tensor, Tensor, list[People], list[str]]:
    """N pairs -> frames A and B [N, 3, H, W] uint8, the people of each A, the names."""
    frames_a = torch.stack([pair.frame_a for pair in pairs])
    frames_b = torch.stack([pair.frame_b for pair in pairs])
    return frames_a, frames_b, [pair.people for pair in pairs], [pair.name for pair in pairs]
