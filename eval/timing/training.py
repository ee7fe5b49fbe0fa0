"""What `dimofs.eval.speed train` measures: training steps beside torchvision's on the same synthetic images.

Both train a Keypoint R-CNN of ResNet-50 with frozen batch norms and first stages: forward, losses of as many sampled
anchors and regions, backward, SGD. Ours also averages the weights. torchvision's knows single frames only: where ours
takes pairs, its step on Frame A alone stands beside.
"""

from collections.abc import Iterator

import numpy as np
import torch

from dimofs.datasets.augment.mixture import collate
from dimofs.datasets.people import People
from dimofs.datasets.synthetic.clips import Synthetic
from dimofs.eval.timing.kernels import Case
from dimofs.eval.timing.torchvision_peer import keypointrcnn_resnet50_fpn, twin
from dimofs.skeletons import DIMOFS
from dimofs.zoo.detection.losses import Sampling
from dimofs.zoo.training.distributed import Process
from dimofs.zoo.training.poses import PairBatch, PoseRecipe, PoseTask
from dimofs.zoo.training.recipes import RECIPES
from dimofs.zoo.training.trainer import Trainer

RECIPE = RECIPES["paper"].changed(recompute=False, warmup=0)


def train_cases(device: str = "cpu", quick: bool = False) -> Iterator[Case]:
    """The cases of `train`; a quick run has smaller images."""
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
        size = 12 * sum(p.numel() for p in trainer.trained)  # read, their gradients written, and changed
        shape = f"{count} of {side}x{side}"
        step = torchvision_step(peer.train(), batch, device)
        yield Case(name, shape, "fp32", lambda t=trainer: t.update([batch]), "torchvision", step, size)


def synthetic_batch(side: int, count: int) -> PairBatch:
    """`count` pairs of square frames with people."""
    source, random = Synthetic(count, height=side, width=side, people=(2, 4)), np.random.default_rng(0)
    return PairBatch(*collate([source.pair(i, random) for i in range(count)]))


def torchvision_step(model: torch.nn.Module, batch: PairBatch, device: str):
    """A function that makes torchvision's training step on the Frames A of a batch."""
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
    """People as torchvision's detectors learn them."""
    joints = torch.cat((people.keypoints, people.labelled[..., None].float()), dim=-1)
    labels = torch.ones(len(people), dtype=torch.int64, device=people.boxes.device)
    return {"boxes": people.boxes, "labels": labels, "keypoints": joints}
