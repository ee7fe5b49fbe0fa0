"""The cases of `dimofs.eval.speed train`: training steps beside torchvision's on the same synthetic images.

Both train a Keypoint R-CNN with a ResNet-50 whose batch norms and first stages are frozen: a forward pass, losses of
equally many sampled anchors and regions, a backward pass, and SGD. Ours also averages the weights. torchvision's model
takes single frames, so a step of ours on pairs is compared with its step on Frames A alone.

No other library has a model like `dimofs_mobile`. So a step of it on pairs of 384 x 384, with a frozen backbone and
with all of it trained, is compared with the same step by PyTorch's layers one after another in float32.
"""

from collections.abc import Callable, Iterator
from functools import partial
from unittest.mock import patch

import numpy as np
import torch

from dimofs.datasets.augment.mixture import collate
from dimofs.datasets.people import People
from dimofs.datasets.synthetic.clips import Synthetic
from dimofs.eval.timing.case import Case
from dimofs.eval.timing.torchvision_peer import keypointrcnn_resnet50_fpn, twin
from dimofs.skeletons import DIMOFS
from dimofs.zoo.backbones import activated
from dimofs.zoo.detection.losses import Sampling
from dimofs.zoo.training import initialize
from dimofs.zoo.training.distributed import Process
from dimofs.zoo.training.poses import PairBatch, PoseRecipe, PoseTask
from dimofs.zoo.training.recipes import RECIPES, Recipe
from dimofs.zoo.training.trainer import Trainer

RECIPE = RECIPES["paper"].changed(recompute=False, warmup=0)


def train_cases(device: str = "cpu", quick: bool = False) -> Iterator[Case]:
    """The cases of `train`. `quick` makes the images smaller."""
    yield from mobile_cases(device, quick)
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


def mobile_cases(device: str, quick: bool) -> Iterator[Case]:
    """Steps of the shipped model on pairs; those in bfloat16 only on a CPU."""
    side, count = (96, 2) if quick else (384, 8)
    batch = synthetic_batch(side, count)
    dtypes = {"fp32": "float32", "bf16": "bfloat16"} if device == "cpu" else {"fp32": "float32"}
    for name, frozen in (("frozen backbone", RECIPES["mobile"].frozen), ("all trained", ())):
        recipe = RECIPES["mobile"].changed(frozen=frozen, batch=count, learning_rate=0.0)
        for short, dtype in dtypes.items():
            trainer, plain = mobile_trainer(recipe.changed(dtype=dtype), device), mobile_trainer(recipe, device)
            yield Case(
                name=f"train, dimofs_mobile, {name}",
                shape=f"{count} pairs of {side}x{side}",
                dtype=short,
                ours=partial(trainer.update, [batch]),
                peer="layers fp32",
                theirs=layer_by_layer(partial(plain.update, [batch])),
                size=12 * sum(p.numel() for p in trainer.trained),
            )


def mobile_trainer(recipe: Recipe, device: str) -> Trainer:
    """A trainer of the shipped model, with its motion parts, on pairs alone."""
    arguments = {"variant": initialize.variant_of("dimofs_mobile")}
    task = PoseTask(recipe=PoseRecipe(single=0.0, arguments=arguments), sources={})
    model = task.build()
    task.start(model, "dimofs_mobile")
    return Trainer(task, model, recipe, Process(0, 1, torch.device(device)))


def layer_by_layer(call: Callable[[], object]) -> Callable[[], object]:
    """The call without what computes a convolution and its activation in one pass, or a block a few images at a time:
    as PyTorch computes the layers of a model."""

    def plain() -> object:
        with patch.object(activated, "_FUSED", None):
            return call()

    return plain


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
