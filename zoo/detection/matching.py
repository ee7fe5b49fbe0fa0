"""Evidence of where features have moved, for `CoarseToFine`: matching, or differences.

Each kind is a module of one grid: f_A and f_B [N, C, h, w], with f_B already sampled at the displacement known so far,
-> `Found`. Equal maps give evidence and a guess of 0 everywhere, whatever they show, so that a network without biases
finds no motion between equal frames.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dimofs.kernels.correlate import correlate

# Initial temperature and pull towards standing still of matching with normalized features: log-likelihood per unit of
# cosine, and per squared cell.
SHARPNESS, PULL = 40.0, 0.03


class Found(NamedTuple):
    """What a kind of evidence finds.

    evidence: [N, K, h, w], 0 for equal maps. likeness: [N, L, h, w], cosines. guess: [N, 2, h, w], (dy, dx) in cells.
    """

    evidence: Tensor
    likeness: Tensor
    guess: Tensor


class Matching(nn.Module):
    """How much more every feature of A resembles those of B around it than those of A around it.

    Evidence: for each displacement u of up to `radius` cells, the cosine of f_A(p) with f_B(p + u) minus that with
    f_A(p + u), of features embedded in `width` channels. Likeness: the cosine at u = 0, the largest, and the mean.
    Guess: the mean of u under the softmax of SHARPNESS * cosine - PULL * |u|^2, minus the same of A with itself, which
    removes the bias of lopsided texture; both numbers are learned.
    """

    def __init__(self, channels: int, *, width: int, radius: int):
        super().__init__()
        self.embed, self.radius = Embedding(channels, width), radius
        self.logs = nn.Parameter(torch.empty(2))
        self.evidence, self.likeness = (2 * radius + 1) ** 2, 3
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Give sharpness and pull their initial values."""
        self.logs.copy_(torch.tensor([SHARPNESS, PULL]).log())

    def forward(self, a: Tensor, b: Tensor) -> Found:
        a, b = self.embed(a), self.embed(b)
        found, still = correlate(a, b, self.radius), correlate(a, a, self.radius)
        middle = found.shape[1] // 2
        likeness = torch.stack((found[:, middle], found.amax(dim=1), found.mean(dim=1)), dim=1)
        return Found(found - still, likeness, self.expected(found) - self.expected(still))

    def expected(self, cosines: Tensor) -> Tensor:
        """The mean displacement [N, 2, h, w] in cells, of cosines [N, (2 radius + 1)^2, h, w]."""
        line = torch.arange(-self.radius, self.radius + 1, device=cosines.device, dtype=torch.float32)
        moves = torch.stack(torch.meshgrid(line, line, indexing="ij")).flatten(1)  # [2, K], (dy, dx)
        sharpness, pull = self.logs.exp()
        scores = sharpness * cosines.float() - pull * moves.square().sum(dim=0)[:, None, None]
        return torch.einsum("mk,nkhw->nmhw", moves, scores.softmax(dim=1))


class Differences(nn.Module):
    """f_A - f_B of features embedded in `width` channels, and the cosine between them; its guess is 0."""

    def __init__(self, channels: int, *, width: int):
        super().__init__()
        self.embed = Embedding(channels, width)
        self.evidence, self.likeness = width, 1

    def forward(self, a: Tensor, b: Tensor) -> Found:
        a, b = self.embed(a), self.embed(b)
        return Found(a - b, (a * b).sum(dim=1, keepdim=True), a.new_zeros(a.shape[0], 2, *a.shape[2:]))


class Embedding(nn.Module):
    """What is compared: features [N, C, h, w] -> [N, width, h, w] of length 1.

    A 1x1 convolution that starts by keeping the cosines of features as well as so many channels can, then two residual
    3x3 convolutions, the second of which starts at 0.
    """

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.project = nn.Conv2d(channels, width, 1)
        self.around = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.context = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Give the convolutions their initial weights."""
        nn.init.orthogonal_(self.project.weight)
        nn.init.zeros_(self.project.bias)  # type: ignore[arg-type]
        nn.init.dirac_(self.around.weight, groups=self.around.groups)
        nn.init.zeros_(self.context.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.project(x)
        return F.normalize(x + self.context(self.around(x).relu()), dim=1, eps=1e-2)
