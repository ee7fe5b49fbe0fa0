"""Pose clusters (section 5.2): joints and the PCA of their motion, clustered by K-means as in deep clustering
(Caron et al., ECCV 2018). The numbers of the clusters are the labels that the action network learns to predict."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from scipy.cluster.vq import kmeans2, vq
from torch import Tensor

# As in the paper: clusters, and numbers that a joint's motion is reduced to.
CLUSTERS, COMPONENTS = 100, 15
# Starts of K-means, of which the best is kept, and rounds of each.
RESTARTS, ROUNDS = 4, 30
# How often clusters that lost all rows are given new ones.
REFILLS = 10


@dataclass(frozen=True, kw_only=True)
class Components:
    """Principal components of J joints, each with its own. mean: [J, D]. axes: [J, D, n], orthonormal columns."""

    mean: Tensor
    axes: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """[P, J, D] -> [P, J, n]."""
        return torch.einsum("pjd,jdn->pjn", x.float() - self.mean, self.axes)


def principal_components(x: Tensor, count: int = COMPONENTS) -> Components:
    """The `count` directions of largest variance, or all D, of each joint in x [P, J, D], largest first.

    The largest entry of each axis is positive, so that the same data give the same components.
    """
    found = [_axes(joint.double(), count) for joint in x.unbind(1)]
    return Components(mean=torch.stack([mean for mean, _ in found]), axes=torch.stack([axes for _, axes in found]))


def _axes(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The mean [D] and the axes [D, n] of x [P, D]."""
    mean = x.mean(0)
    # Eigenvalues come in ascending order.
    axes = torch.linalg.eigh((x - mean).T @ (x - mean)).eigenvectors.flip(1)[:, :count]
    largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    return mean.float(), (axes * largest.sign()).float()


@dataclass(frozen=True, kw_only=True)
class PoseClusters:
    """Clusters of poses and motions.

    spreads: [2], the root of the total variance of poses and of reduced motions, which they are divided by so that both
    count alike. components: None for poses alone. centres: [K, width].
    """

    spreads: Tensor
    components: Components | None
    centres: Tensor

    def __len__(self) -> int:
        return len(self.centres)

    def vectors(self, poses: Tensor, motions: Tensor | None) -> Tensor:
        """What is clustered: poses [P, 2 J] and motions [P, J, D], without `components` unused -> [P, width]."""
        parts = [poses / self.spreads[0]]
        if self.components is not None:
            assert motions is not None
            parts.append(self.components(motions).flatten(1) / self.spreads[1])
        return torch.cat(parts, dim=1)

    def ids(self, poses: Tensor, motions: Tensor | None) -> Tensor:
        """The nearest cluster of each row, [P] int64."""
        return nearest(self.vectors(poses, motions), self.centres)


def fit_clusters(
    poses: Tensor, motions: Tensor | None, *, count: int = CLUSTERS, components: int = COMPONENTS, seed: int = 0
) -> PoseClusters:
    """Clusters of training data: poses [P, 2 J] and, unless poses alone are clustered, motions [P, J, D].

    There are fewer than `count` where the data have fewer distinct rows. ValueError: there are no rows, or some are
    not finite.
    """
    found = None if motions is None else principal_components(motions, components)
    reduced = None if found is None else found(motions).flatten(1)  # type: ignore[arg-type]
    spreads = torch.stack([_spread(poses), _spread(reduced) if reduced is not None else torch.tensor(1.0)])
    unfitted = PoseClusters(spreads=spreads, components=found, centres=torch.zeros(0, 0))
    vectors = unfitted.vectors(poses, motions)
    return PoseClusters(spreads=spreads, components=found, centres=kmeans(vectors, count, seed=seed))


def _spread(x: Tensor) -> Tensor:
    """The root of the total variance of the rows, 1 where they are all equal."""
    total = x.var(0, correction=0).sum().sqrt()
    return torch.where(total > 0, total, torch.ones_like(total))


def kmeans(x: Tensor, count: int, *, seed: int, restarts: int = RESTARTS, rounds: int = ROUNDS) -> Tensor:
    """Centres [K, D] of `count` clusters of x [P, D], the best of several starts by k-means++; K < `count` where x has
    fewer distinct rows. None of the clusters is empty.

    ValueError: x has no rows, or is not finite.
    """
    if not len(x) or not x.isfinite().all():
        raise ValueError(f"cannot cluster {len(x)} rows" + (" that are not all finite" if len(x) else ""))
    rows, random = x.float().numpy(), np.random.default_rng(seed)
    found = [_refined(rows, _spread_out(rows, count, random), rounds) for _ in range(restarts)]
    return torch.from_numpy(min(found, key=lambda centres: float((vq(rows, centres)[1] ** 2).sum())))


def nearest(x: Tensor, centres: Tensor) -> Tensor:
    """The nearest of the centres [K, D] for each row of x [P, D], the first of several: [P] int64."""
    return torch.cdist(x, centres).argmin(1)


def _spread_out(rows: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Distinct rows as first centres: each is drawn in proportion to its squared distance from those before it
    (k-means++, Arthur and Vassilvitskii, 2007)."""
    chosen = [int(random.integers(len(rows)))]
    squares = ((rows - rows[chosen[0]]) ** 2).sum(1).astype(np.float64)
    while len(chosen) < count and squares.max() > 0:
        chosen.append(int(random.choice(len(rows), p=squares / squares.sum())))
        squares = np.minimum(squares, ((rows - rows[chosen[-1]]) ** 2).sum(1))
    return rows[chosen]


def _refined(rows: np.ndarray, centres: np.ndarray, rounds: int) -> np.ndarray:
    """Centres after Lloyd's algorithm. A cluster that loses its rows starts again at the row that is farthest from all
    centres; one that stays empty is dropped."""
    for _ in range(REFILLS):
        with warnings.catch_warnings():
            # SciPy warns of empty clusters, whose centres it leaves as they are.
            warnings.simplefilter("ignore", UserWarning)
            centres, _ = kmeans2(rows, centres, iter=rounds, minit="matrix", missing="warn", check_finite=False)
        ids, distances = vq(rows, centres, check_finite=False)
        empty = np.setdiff1d(np.arange(len(centres)), ids)
        if not len(empty):
            return centres
        farthest = np.argsort(-distances, kind="stable")[: len(empty)]
        centres[empty] = rows[farthest]
    return centres[np.unique(vq(rows, centres, check_finite=False)[0])]
