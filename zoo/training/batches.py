"""The batches of a run: what each step reads depends on the recipe's seed and the step alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from torch.utils.data import DataLoader, Dataset

from dimofs.cli import InputError
from dimofs.datasets.augment.mixture import Mixture, collate
from dimofs.datasets.people import Pair, PairSource
from dimofs.zoo.training.distributed import Process
from dimofs.zoo.training.recipes import Recipe
from dimofs.zoo.training.trainer import ALONE, Batch


def loader(
    sources: Mapping[str, PairSource], recipe: Recipe, *, start: int, workers: int, process: Process = ALONE
) -> Iterator[list[Batch]]:
    """For each step from `start` to the recipe's last, its batches, or this process's equal part of each.

    InputError: a file of the data sets is absent or damaged.
    """
    weights = dict(recipe.weights)
    size, count = (recipe.size, recipe.size), recipe.steps * recipe.accumulate
    mixture = Mixture(
        [(source, weights[name]) for name, source in sources.items()],
        size,
        count * recipe.batch,
        seed=recipe.seed,
        mosaic=recipe.mosaic,
        paste=recipe.paste,
    )
    share = recipe.batch // process.world
    first = process.rank * share
    numbers = [range(n, n + share) for n in range(first, len(mixture), recipe.batch)][start * recipe.accumulate :]
    loaded = iter(
        DataLoader(
            _Careful(mixture),
            batch_sampler=numbers,  # type: ignore[arg-type]
            num_workers=workers,
            collate_fn=_collate,
            pin_memory=process.device.type == "cuda",
        )
    )
    while batches := [_checked(batch) for batch in islice(loaded, recipe.accumulate)]:
        yield batches


class _Careful(Dataset):
    """A mixture that gives an InputError in place of a pair: a loader's processes would bury it in a traceback."""

    def __init__(self, mixture: Mixture):
        self.mixture = mixture

    def __len__(self) -> int:
        return len(self.mixture)

    def __getitem__(self, number: int) -> Pair | InputError:
        try:
            return self.mixture[number]
        except InputError as error:
            return error


def _collate(pairs: Sequence[Pair | InputError]) -> Batch | InputError:
    good = [pair for pair in pairs if not isinstance(pair, InputError)]
    faults = [pair for pair in pairs if isinstance(pair, InputError)]
    return faults[0] if faults else collate(good)


def _checked(batch: Batch | InputError) -> Batch:
    if isinstance(batch, InputError):
        raise batch
    return batch
