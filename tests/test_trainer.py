"""One step of training by hand: gradients, averages, what freezes and thaws, what a step's batch is made of."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from dimofs.cli import InputError
from dimofs.datasets.people import Pair, People
from dimofs.skeletons import DIMOFS
from dimofs.zoo.backbones.resnet import resnet18
from dimofs.zoo.detection.losses import pose_losses
from dimofs.zoo.training import distributed
from dimofs.zoo.training.batches import loader
from dimofs.zoo.training.distributed import Process
from dimofs.zoo.training.poses import PairBatch, PoseTask
from dimofs.zoo.training.recipes import Recipe
from dimofs.zoo.training.terms import means
from dimofs.zoo.training.trainer import ALONE, Trainer, recompute_blocks
from tests.support.tiny import TINY, TINY_POSES, tiny_model

SGD = replace(TINY, optimizer="sgd", learning_rate=0.01, clip=None)
CPU = torch.device("cpu")


class Noise:
    """Two frames of noise with one person in the middle."""

    def __len__(self):
        return 4

    def pair(self, index, random):
        frames = torch.from_numpy(random.integers(0, 256, (2, 3, 64, 64), dtype="uint8"))
        joints = 16 + 32 * torch.from_numpy(random.random((1, len(DIMOFS), 2), dtype="float32"))
        labelled = torch.ones(1, len(DIMOFS), dtype=torch.bool)
        people = People(
            boxes=torch.tensor([[12.0, 12, 52, 52]]), keypoints=joints, labelled=labelled, ignore=torch.zeros(0, 4)
        )
        return Pair(frame_a=frames[0], frame_b=frames[1], people=people, delta=1, name=f"noise/{index}")

    def frames(self):
        yield from ()


def task(**changes) -> PoseTask:
    return PoseTask(
        recipe=TINY_POSES.changed(**{"mosaic": 0.0, "mix": {"noise": 1.0}, **changes}), sources={"noise": Noise()}
    )


def steps(
    recipe: Recipe, start: int = 0, process: Process = ALONE, learned: PoseTask | None = None
) -> list[list[PairBatch]]:
    return list(loader(learned or task(), recipe, start=start, workers=0, process=process))  # type: ignore[arg-type]


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}


def gradients(trainer: Trainer, batches: Sequence[PairBatch], single: bool) -> dict[str, torch.Tensor]:
    """Of the mean over the batches of the sums of their losses, at the trainer's weights, by another way."""
    model = tiny_model()
    model.load_state_dict(trainer.model.state_dict())
    for number, batch in enumerate(batches):
        random = trainer._randomness(number, len(batch)).samples
        a, b = batch.frames_a / 255, None if single else batch.frames_b / 255
        losses = means(pose_losses(model, a, b, batch.people, TINY_POSES.sampling, random))
        (sum(losses.values(), torch.zeros(())) / len(batches)).backward()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("single", [0.0, 1.0], ids=["pair", "single"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_of_sgd_by_hand(accumulate, single):
    """w -= rate (gradient + decay w), the gradient that of the mean of the batches' losses."""
    recipe = replace(SGD, accumulate=accumulate, frozen=())
    one = Trainer(task(single=single), tiny_model(), recipe)
    batches = steps(recipe)[0]
    assert len(batches) == accumulate
    before, expected = weights(one), gradients(one, batches, bool(single))
    one.update(batches)
    for name, after in weights(one).items():
        decay = 0 if single and name.startswith("offset_net") else 1e-4  # no gradient, no step
        wanted = before[name] - 0.01 * (expected[name] + decay * before[name])
        torch.testing.assert_close(after, wanted, rtol=1e-5, atol=1e-7, msg=name)


def test_the_average_by_hand():
    """Its decay is 2 / 11 after one step, 3 / 12 after two, and `average` in the long run."""
    one = Trainer(task(), tiny_model(), SGD)
    first, *_ = one.trained
    values = [first.detach().clone()]
    for batches in steps(SGD)[:2]:
        one.update(batches)
        values.append(first.detach().clone())
    once = values[0] * 2 / 11 + values[1] * 9 / 11
    torch.testing.assert_close(one.average[0], once * 3 / 12 + values[2] * 9 / 12)
    late = Trainer(task(), tiny_model(), replace(SGD, average=0.1))
    late.update(steps(SGD)[0])
    torch.testing.assert_close(late.average[0], values[0] * 0.1 + values[1] * 0.9)


def test_within_averaged_the_model_is_its_average():
    one = Trainer(task(), tiny_model(), SGD)
    one.update(steps(SGD)[0])
    before = weights(one)
    with one.averaged():
        assert not one.model.training
        assert all(torch.equal(p, mean) for p, mean in zip(one.trained, one.average, strict=True))
        assert not torch.equal(one.trained[0], before["backbone.down.0.weight"])
    assert one.model.training and all(torch.equal(p, before[name]) for name, p in weights(one).items())


def test_the_frozen_thaw_in_time_at_a_tenth_of_the_rate():
    recipe = replace(SGD, unfreeze=2)
    one = Trainer(task(single=0.0), tiny_model(), recipe)
    start = weights(one)
    for number, batches in enumerate(steps(recipe)[:3]):
        if number == 2:  # the step from which the stem trains
            before, expected = weights(one), gradients(one, batches, False)
            rate = recipe.rate(2)
        one.update(batches)
        moved = {name for name, p in weights(one).items() if not torch.equal(p, start[name])}
        assert "rpn.objectness.weight" in moved
        assert ("backbone.stem.weight" in moved) == (number >= 2)
    name = "backbone.stem.weight"
    wanted = before[name] - 0.1 * rate * (expected[name] + 1e-4 * before[name])
    torch.testing.assert_close(weights(one)[name], wanted, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("value", "scale"), [(0.2, 0.1), (0.05, 0.1), (0.01, 0.02), (-0.001, 0.002), (0.0, 0.1)], ids=str
)
def test_small_weights_are_unfrozen_at_a_lower_rate(value, scale):
    """A tenth of the rate, times rms / 0.05 below an rms of 0.05; a tensor of zeros can still learn."""
    model = tiny_model()
    stem = model.get_parameter("backbone.stem.weight")
    nn.init.constant_(stem, value)
    groups = Trainer(task(), model, replace(SGD, unfreeze=0)).optimizer.param_groups
    (group,) = [group for group in groups if any(p is stem for p in group["params"])]
    assert group["scale"] == pytest.approx(scale)
    assert groups[0]["scale"] == 1.0


def test_a_resumed_run_keeps_the_rates_of_its_start():
    """They follow from the weights at the first step, which a resumed run no longer has."""

    def scales(trainer: Trainer) -> list[float]:
        return [group["scale"] for group in trainer.optimizer.param_groups]

    recipe, other = replace(SGD, unfreeze=1), tiny_model(seed=9)
    nn.init.constant_(other.get_parameter("backbone.stem.weight"), 0.001)
    first, resumed = Trainer(task(), tiny_model(), recipe), Trainer(task(), other, recipe)
    first.update(steps(recipe)[0])
    assert scales(resumed) != scales(first)
    resumed.restore(first.state())
    assert scales(resumed) == scales(first)


def test_fixed_parameters_never_train():
    recipe = replace(SGD, unfreeze=0, frozen=("backbone.stem", "backbone.down.0"))
    recipe = replace(recipe, fixed=("backbone.stem", "rpn.objectness"))
    one = Trainer(task(single=0.0), tiny_model(), recipe)
    start = weights(one)
    one.update(steps(recipe)[0])
    moved = {name for name, p in weights(one).items() if not torch.equal(p, start[name])}
    assert "backbone.down.0.weight" in moved and "backbone.down.1.weight" in moved
    assert not any(name.startswith(recipe.fixed) for name in moved)


def test_motion_parts_can_train_alone():
    """A batch of single frames has no gradient for them, and changes nothing."""
    recipe = replace(SGD, fixed=("backbone", "deformable", "rpn", "box_head", "keypoint_head"))
    for single in (1.0, 0.0):
        one = Trainer(task(single=single), tiny_model(), recipe)
        start = weights(one)
        one.update(steps(recipe)[0])
        moved = {name.split(".")[0] for name, p in weights(one).items() if not torch.equal(p, start[name])}
        assert moved == (set() if single else {"offset_net"})


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        (("backbone.stm",), "--fixed backbone.stm: no parameter's name begins with this; the model's parts are"),
        (("",), "leaves nothing to train"),
        (("backbone.down", "offset", "deform", "rpn", "box", "keypoint"), "leaves nothing to train"),
    ],
    ids=["misspelt", "all", "all-but-frozen"],
)
def test_bad_prefixes_are_refused(fixed, message):
    with pytest.raises(InputError, match=message):
        Trainer(task(), tiny_model(), replace(SGD, fixed=fixed))


def test_a_gradient_is_clipped():
    loose, tight = (Trainer(task(), tiny_model(), replace(SGD, clip=clip, weight_decay=0.0)) for clip in (None, 1e-3))
    for one in (loose, tight):
        one.update(steps(SGD)[0])
    norms = [torch.cat([p.grad.flatten() for p in one.trained if p.grad is not None]).norm() for one in (loose, tight)]
    assert norms[0] > 0.1 and norms[1].item() == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_near(dtype):
    """The losses, and the step that they lead to; small gradients of 16 bits would be 0 if they were not scaled."""
    full, half = (Trainer(task(), tiny_model(), replace(SGD, dtype=d, clip=0.1)) for d in ("float32", dtype))
    start = weights(full)
    losses = [one.update(steps(SGD)[0]) for one in (full, half)]
    assert losses[0] != losses[1]
    assert list(losses[1].values()) == pytest.approx(list(losses[0].values()), rel=0.05, abs=0.02)
    moves = [torch.cat([(p - start[n]).flatten() for n, p in weights(one).items()]) for one in (full, half)]
    assert torch.cosine_similarity(*moves, dim=0) > 0.9
    assert moves[1].norm().item() == pytest.approx(moves[0].norm().item(), rel=0.2)


def test_recomputing_changes_no_gradient():
    found = []
    for again in (False, True):
        torch.manual_seed(0)
        body = resnet18()
        if again:
            recompute_blocks(body)
        images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
        kept: list[torch.Size] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: (kept.append(t.shape), t)[1], lambda t: t):
            loss = sum((level.square().mean() for level in body(images)), torch.zeros(()))
        loss.backward()
        found.append(({n: p.grad for n, p in body.named_parameters()}, len(kept)))
    assert all(torch.equal(g, found[1][0][name]) for name, g in found[0][0].items())
    assert found[1][1] < found[0][1] / 2  # tensors kept


def test_a_state_goes_on_bit_for_bit():
    recipe, mosaic = replace(TINY, unfreeze=2), task(mosaic=0.3)
    whole, cut = Trainer(mosaic, tiny_model(), recipe), Trainer(mosaic, tiny_model(), recipe)
    for batches in steps(recipe, learned=mosaic):
        whole.update(batches)
    for batches in steps(recipe, learned=mosaic)[:3]:
        cut.update(batches)
    again = Trainer(mosaic, tiny_model(seed=9), recipe)
    again.restore(cut.state())
    for batches in steps(recipe, start=3, learned=mosaic):
        again.update(batches)
    assert again.step == whole.step == 4
    assert all(torch.equal(p, weights(again)[name]) for name, p in weights(whole).items())
    assert all(torch.equal(a, b) for a, b in zip(whole.average, again.average, strict=True))


def test_a_loss_that_is_not_finite_names_the_samples():
    one = Trainer(task(), tiny_model(), SGD)
    with torch.no_grad():
        one.model.get_parameter("rpn.objectness.weight").fill_(torch.nan)
    batches = steps(SGD)[0]
    with pytest.raises(InputError) as fault:
        one.update(batches)
    assert str(fault.value).startswith(f"loss nan at step 0 on {', '.join(batches[0].names)}; try a lower --rate")


def test_gradients_of_two_processes_by_hand(monkeypatch):
    """The other process has gradients 10 and 20 for the second and third weight, none for the first and fourth."""
    own = [nn.Parameter(torch.zeros(1, 1)) for _ in range(4)]
    own[0].grad, own[2].grad = torch.tensor([[1.0]]), torch.tensor([[2.0]])
    theirs = iter((torch.tensor([0.0, 1, 1, 0]), torch.tensor([0.0, 10, 20])))
    monkeypatch.setattr(distributed.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "total", lambda values: values + next(theirs))
    distributed.sum_gradients(own)
    assert [None if p.grad is None else p.grad.tolist() for p in own] == [[[1]], [[10]], [[22]], None]


# --- batches ---


def test_processes_share_each_batch():
    """Two processes read the halves of what one reads, in order; a later start leaves out whole steps."""
    recipe = replace(SGD, steps=3, batch=4, accumulate=2)
    whole = steps(recipe)
    halves = [steps(recipe, process=Process(rank, 2, CPU)) for rank in (0, 1)]
    assert len(whole) == 3 and all(len(batches) == 2 for batches in whole)
    for step in range(3):
        for number in range(2):
            frames, left, right = (run[step][number].frames_a for run in (whole, *halves))
            assert torch.equal(frames, torch.cat((left, right))) and len(left) == 2
    assert torch.equal(steps(recipe, start=2)[0][1].frames_a, whole[2][1].frames_a) and len(steps(recipe, start=2)) == 1


def test_single_frames_get_no_motion():
    """If no batch reads Frame B, a still picture's Frame B is Frame A; one share of pairs, and it moves."""

    class Still(Noise):
        def pair(self, index, random):
            pair = super().pair(index, random)
            return replace(pair, frame_b=pair.frame_a, delta=0)

    for single, equal in ((1.0, True), (0.9, False)):
        recipe = TINY_POSES.changed(mosaic=0.0, mix={"still": 1.0}, single=single)
        learned = PoseTask(recipe=recipe, sources={"still": Still()})
        batches = [batch for batches in steps(SGD, learned=learned) for batch in batches]
        assert all(torch.equal(batch.frames_a, batch.frames_b) for batch in batches) == equal


def test_people_are_as_large_as_the_recipe_says():
    """At most 0.5 of 64 pixels, and a little more where a turned box is widened to hold its joints; 1.1 by default."""
    sides = []
    for learned in (task(largest=0.5), task()):
        pairs = learned.samples(40, 0)
        boxes = torch.cat([pairs[number].people.boxes for number in range(40)])
        sides.append(float((boxes[:, 2:] - boxes[:, :2]).max()))
    assert 25 < sides[0] < 37 and 50 < sides[1] <= 64


def test_shares_choose_the_source():
    class Other(Noise):
        def pair(self, index, random):
            return replace(super().pair(index, random), name="other")

    recipe = TINY_POSES.changed(mosaic=0.0, mix={"noise": 1.0, "other": 3.0})
    both = PoseTask(recipe=recipe, sources={"noise": Noise(), "other": Other()})
    drawn = list(loader(both, replace(SGD, steps=60), start=0, workers=0))
    names = [name for batches in drawn for name in batches[0].names]
    assert len(names) == 120 and 75 <= names.count("other") <= 105


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_file_is_one_line(workers):
    class Broken(Noise):
        def pair(self, index, random: np.random.Generator):
            raise InputError("x.avi: cannot be decoded; download it again")

    broken = PoseTask(recipe=TINY_POSES.changed(mosaic=0.0, mix={"noise": 1.0}), sources={"noise": Broken()})
    batches = loader(broken, SGD, start=0, workers=workers)
    with pytest.raises(InputError) as fault:
        next(batches)
    assert str(fault.value) == "x.avi: cannot be decoded; download it again"
