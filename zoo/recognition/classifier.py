"""From what is known of each pair of a clip to the clip's class (section 5.2): a sum over pairs, then a shallow MLP."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dimofs.zoo.detection.action_head import ActionHead, Standardize

# Width of the MLP, and the share of it that training drops.
HIDDEN, DROPOUT = 128, 0.5
STEPS, RATE, DECAY, SMOOTHING = 300, 3e-3, 0.05, 0.1


class ClipClassifier(nn.Module):
    """What a clip's pairs sum up to, [N, width] -> class logits [N, classes]: two layers, or one with `hidden` = 0.

    The sum is divided by the number of pairs, so that long clips are judged as short ones.
    """

    def __init__(self, width: int, classes: int, hidden: int = HIDDEN):
        super().__init__()
        self.standardize = Standardize(width)
        layers = [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(DROPOUT)] if hidden else []
        self.layers = nn.Sequential(*layers, nn.Linear(hidden or width, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(self.standardize(x))


def activations(head: ActionHead, pooled: Sequence[Tensor]) -> Tensor:
    """The logits of a head, background left out: streams [P, width] -> [P, K].

    Not their softmax: a head is far surer of the pairs that it learned than of others, so that sums of probabilities
    differ between training and test clips.
    """
    return head(pooled)[0][:, 1:]


def summed(activations: Tensor, clips: Tensor, count: int) -> Tensor:
    """The mean over each clip's pairs: activations [P, K], the clip of each [P] -> [count, K]; 0 without pairs."""
    sums = activations.new_zeros(count, activations.shape[1]).index_add(0, clips, activations)
    return sums / torch.bincount(clips, minlength=count).clamp(min=1)[:, None]


def histograms(ids: Tensor, clips: Tensor, count: int, clusters: int) -> Tensor:
    """The share of each clip's pairs in each cluster: [count, clusters], 0 for clips without pairs."""
    return summed(F.one_hot(ids, clusters).float(), clips, count)


def fit_classifier(x: Tensor, labels: Tensor, classes: int, *, hidden: int = HIDDEN, seed: int = 0) -> ClipClassifier:
    """A classifier trained on clips x [N, width] of these labels [N], all in one batch."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ClipClassifier(x.shape[1], classes, hidden)
        model.standardize.fit(x)
        optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
        for _ in range(STEPS):
            loss = F.cross_entropy(model(x), labels, label_smoothing=SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def accuracies(scores: Tensor, labels: Tensor, classes: int) -> tuple[float, float]:
    """Top-1 and the mean over classes that have clips, percent: scores [N, classes], labels [N]."""
    right = (scores.argmax(1) == labels).double()
    counts = torch.bincount(labels, minlength=classes)
    sums = torch.zeros(classes, dtype=torch.float64).index_add(0, labels, right)
    return 100 * float(right.mean()), 100 * float((sums / counts)[counts > 0].mean())
