"""The cases of `dimofs.eval.speed train`: training steps beside torchvision's on the same synthetic images.

Both train a Keypoint R-CNN with a ResNet-50 whose batch norms and first stages are frozen: a forward pass, losses of
equally many sampled anchors and regions, a backward pass, and SGD. Ours also averages the weights. torchvision's model
takes single frames, so a step of ours on pairs is compared with its step on Frames A alone.
"""

from collections.abc import Iterator

import numpy as np
import torch

from dimofs.datasets.augment.mixture import collate
from dimofs.datasets.people import People
from dimofs.datasets.synthetic.clips import Synthetic
from dimofs.eval.timing.case import Case
from dimofs.eval.timing.torchvision_peer import keypointrcnn_resnet50_fpn, twin
from dimofs.skeletons import DIMOFS
from dimofs.zoo.detection.losses import Sampling
from dimofs.zoo.training.distributed import Process
from dimofs.zoo.training.poses import PairBatch, PoseRecipe, PoseTask
from dimofs.zoo.training.recipes import RECIPES
from dimofs.zoo.training.trainer import Trainer

RECIPE = RECIPES["paper"].changed(recompute=False, warmup=0)


def train_cases(device: str = "cpu", quick: bool = False) -> Iterator[Case]:
    """The cases of `train`. `quick` makes the images smaller."""
    side, count, regions = (96, 1, 64) if quick else (256, 2, 512)
    batch = synthetic_batch(side, count)
    for name, single in (("train, A = B", 1.0), ("train, pairs", 0.0)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            settings = {"num_keypoints": len(DIMOFS), "box_batch_size_per_image": regions}
            peer = keypointrcnn_resnet50_fpn(side, side, trainable=3, **settings).to(device)
            ours = twin(peer, side, side).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        task = PoseTask(recipe=PoseRecipe(single=single, sampling=Sampling(regions=regions)), sources={})
        trainer = Trainer(task, ours, RECIPE.changed(batch=count), Process(0, 1, torch.device(device)))
        # Weights are read, their gradients written, and the new weights written.
        size = 12 * sum(p.numel() for p in trainer.trained)
        shape = f"{count} of {side}x{side}"
        step = torchvision_step(peer.train(), batch, device)
        yield Case(
            name=name,
            shape=shape,
            dtype="fp32",
            ours=lambda t=trainer: t.update([batch]),
            peer="torchvision",
            theirs=step,
            size=size,
        )


def synthetic_batch(side: int, count: int) -> PairBatch:
    """A batch of `count` pairs of square synthetic frames with people."""
    source, random = Synthetic(count, height=side, width=side, people=(2, 4)), np.random.default_rng(0)
    return PairBatch(*collate([source.pair(i, random) for i in range(count)]))


def torchvision_step(model: torch.nn.Module, batch: PairBatch, device: str):
    """A function that performs torchvision's training step on the Frames A of a batch."""
    images = [frame.to(device) / 255 for frame in batch.frames_a]
    targets = [target(people.to(device)) for people in batch.people]
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, 1e-3, RECIPE.momentum, weight_decay=RECIPE.weight_decay)

    def step() -> float:
        optimizer.zero_grad()
        loss = torch.stack([*model(images, targets).values()]).sum()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def target(people: People) -> dict[str, torch.Tensor]:
    """People as a target of torchvision's detectors."""
    joints = torch.cat((people.keypoints, people.labelled[..., None].float()), dim=-1)
    labels = torch.ones(len(people), dtype=torch.int64, device=people.boxes.device)
    return {"boxes": people.boxes, "labels": labels, "keypoints": joints}
