"""`Recognizer`: what a whole clip shows (section 5.2), and which frames and joints say so.

pairs (A, A + delta) -> the subject of A -> appearance and DiMoFs in its box -> pose clusters' logits -> mean -> class
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dimofs.video import Frame
from dimofs.zoo.detection.action_localizer import ActionLocalizer
from dimofs.zoo.recognition.classifier import ClipClassifier, activations
from dimofs.zoo.recognition.clip_pass import ClipPass
from dimofs.zoo.recognition.pairs import Pairing, alone
from dimofs.zoo.recognition.subject import Subject


@dataclass(frozen=True, kw_only=True)
class Recognition:
    """What a clip shows.

    probabilities: [C], of each class. subject: who was looked at, in P frames A.
    frames: [P], joints: [P, J], by how much the probability of the best class would fall without a pair, or without
    what is pooled around a joint in its Frame A and the motion there; negative where they speak against it.
    """

    probabilities: Tensor
    subject: Subject
    frames: Tensor
    joints: Tensor


class Recognizer(ActionLocalizer):
    """A classifier of clips above the parts of a pose detector.

    localizer: its head tells pose clusters, or classes themselves; its streams are "appearance" and "dimofs@<delta>".
    classifier: tells the class from the mean of its logits over a clip. class_names, keypoint_names: in order.
    """

    def __init__(
        self,
        localizer: ActionLocalizer,
        classifier: ClipClassifier,
        class_names: Sequence[str],
        keypoint_names: Sequence[str],
    ):
        super().__init__(
            preprocess=localizer.preprocess,
            backbone=localizer.backbone,
            offset_net=localizer.offset_net,
            mixing=localizer.mixing,
            rpn=localizer.rpn,
            box_head=localizer.box_head,
            keypoint_head=localizer.keypoint_head,
            head=localizer.head,
            streams=[kind if kind == "appearance" else f"{kind}@{delta}" for kind, delta in localizer.streams],
            cells=localizer.cells,
            action_names=localizer.action_names,
        )
        self.classifier = classifier
        self.class_names, self.keypoint_names = tuple(class_names), tuple(keypoint_names)

    @property
    def delta(self) -> int:
        """How many frames after Frame A each Frame B comes."""
        return max(self.deltas)

    @torch.inference_mode()
    def recognize(self, frames: Iterable[Frame], every: int = 1) -> Recognition | None:
        """What a clip shows, whose frames are numbered from 0, from its pairs with every `every`-th frame.

        None if these show nobody or are none.
        """
        pairing = Pairing(every=every, delta=self.delta)
        measuring = ClipPass(self, pairing, ["appearance", "pooled dimofs"])
        for frame in alone(self, (frame for frame in frames if pairing.reads(frame.index))):
            measuring.take(replace(frame, pixels=None))
        subject, measured = measuring.end()
        if not len(subject):
            return None
        device = next(self.parameters()).device
        streams = [measured[name].to(device) for name in measuring.names]
        clusters = self.clusters(streams)
        probabilities = self.classifier(clusters.mean(0, keepdim=True)).softmax(1)[0]
        best = int(probabilities.argmax())
        count = len(clusters)
        # Without its only pair a clip is judged by what is known of no clip: nothing.
        without = (clusters.sum(0) - clusters) / max(1, count - 1)
        weights = probabilities[best] - self.classifier(without).softmax(1)[:, best]
        joints = self._of_cells(streams, clusters, best).cpu().gather(1, self._cell(subject))
        return Recognition(probabilities=probabilities.cpu(), subject=subject, frames=weights.cpu(), joints=joints)

    def clusters(self, streams: Sequence[Tensor]) -> Tensor:
        """The logit of each pose cluster: streams [P, width] -> [P, K]."""
        return activations(self.head, streams)

    def _of_cells(self, streams: Sequence[Tensor], clusters: Tensor, best: int) -> Tensor:
        """How much the probability of class `best` falls without each cell of each pair's box, [P, cells * cells]."""
        whole = clusters.mean(0)
        known = self.classifier(whole[None]).softmax(1)[0, best]
        found = []
        for cell in range(self.cells**2):
            hidden = self.clusters([self._without(x, place, cell) for place, x in enumerate(streams)])
            changed = whole + (hidden - clusters) / len(clusters)
            found.append(known - self.classifier(changed).softmax(1)[:, best])
        return torch.stack(found, dim=1)

    def _without(self, x: Tensor, stream: int, cell: int) -> Tensor:
        """A stream [P, C * cells * cells] with the training data's mean in one cell."""
        mean: Tensor = self.head.standardize[stream].mean  # type: ignore[assignment]
        size = self.cells**2
        changed = x.view(len(x), -1, size).clone()
        changed[:, :, cell] = mean.view(-1, size)[:, cell]
        return changed.flatten(1)

    def _cell(self, subject: Subject) -> Tensor:
        """The cell in which each joint lies, the nearest one of joints outside the box: [P, J]."""
        place = (subject.poses().unflatten(1, (-1, 2)) * self.cells).long().clamp(0, self.cells - 1)
        return place[..., 1] * self.cells + place[..., 0]
