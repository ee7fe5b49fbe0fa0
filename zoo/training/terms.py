"""Losses and figures that many processes and batches share: sums with their counts; the means are taken at the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor


class Term(NamedTuple):
    """A mean in the making. Terms of the parts of a batch add up to the term of the whole batch.

    total: the sum over everything that counts, a scalar; the gradient of a loss flows through it.
    count: how many values the sum has.
    """

    total: Tensor
    count: int

    def mean(self) -> Tensor:
        """The mean; 0 where nothing counts."""
        return self.total / max(self.count, 1)


def means(terms: Mapping[str, Term]) -> dict[str, Tensor]:
    """The mean of each term, scalars by name."""
    return {name: term.mean() for name, term in terms.items()}
