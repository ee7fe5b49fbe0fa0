"""Synthetic clips and the training pairs made of them."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from dimofs.datasets.augment.mixture import Mixture
from dimofs.datasets.synthetic.clips import Synthetic, SyntheticClip, synthetic_clip
from dimofs.datasets.synthetic.gaits import ACTIONS
from tests.support.synthetic import SMALL

# --- clips ---


@pytest.mark.parametrize("height,width,length", [(240, 320, 2), (49, 111, 3), (48, 400, 2), (301, 50, 1)])
def test_shapes(height, width, length):
    clip = synthetic_clip(8, length=length, height=height, width=width, people=(4, 4))
    expected = {
        "frames": ((length, height, width, 3), np.uint8),
        "present": ((length, 4), np.bool_),
        "boxes": ((length, 4, 4), np.float32),
        "heads": ((length, 4, 4), np.float32),
        "keypoints": ((length, 4, 19, 2), np.float32),
        "visible": ((length, 4, 19), np.bool_),
    }
    for name, (shape, kind) in expected.items():
        value = getattr(clip, name)
        assert (value.shape, value.dtype) == (shape, kind), name
    assert clip.frames.flags.c_contiguous and clip.fps == 25 and clip.name == "synthetic_000008"
    assert len(clip.actions) == 4 and set(clip.actions) <= set(ACTIONS)
    assert np.isfinite(clip.keypoints).all() and np.isfinite(clip.heads).all()
    assert clip.displacement(1).dtype == np.float32 and clip.displacement(1).shape == (length, 4, 19, 2)
    assert clip.frames.std() > 10


def test_nobody():
    clip = synthetic_clip(1, **SMALL, people=(0, 0))
    assert clip.keypoints.shape == (12, 0, 19, 2) and clip.boxes.shape == (12, 0, 4) and clip.actions == ()
    assert len(clip.people(3)) == 0 and clip.people(3).labelled.shape == (0, 19)


def same(one: SyntheticClip, two: SyntheticClip) -> bool:
    return all(np.array_equal(getattr(one, f.name), getattr(two, f.name)) for f in fields(SyntheticClip))


def test_the_seed_decides_everything_and_nothing_else_does():
    first = synthetic_clip(11, **SMALL)
    np.random.seed(3)
    torch.manual_seed(3)
    synthetic_clip(12, **SMALL)
    assert same(first, synthetic_clip(11, **SMALL))
    assert not same(first, replace(synthetic_clip(12, **SMALL), name=first.name))


def test_seeds_vary_everything():
    clips = [synthetic_clip(seed, length=1, height=240, width=320) for seed in range(40)]
    assert {len(clip.actions) for clip in clips} == {1, 2, 3, 4, 5, 6}
    assert {action for clip in clips for action in clip.actions} == set(ACTIONS)
    tall = np.concatenate([clip.boxes[0, :, 3] - clip.boxes[0, :, 1] for clip in clips])
    assert 20 < tall[tall > 0].min() < 60 and tall.max() > 180
    assert len({clip.frames.mean().round(3) for clip in clips}) == 40


@pytest.mark.parametrize(
    "wrong", [{"length": 0}, {"height": 47}, {"width": 10}, {"people": (3, 2)}, {"people": (-1, 2)}]
)
def test_sizes_that_make_no_sense(wrong):
    with pytest.raises(ValueError, match=r"length 0|47 x|x 10|people"):
        synthetic_clip(0, **(SMALL | {"people": (1, 2)} | wrong))
    with pytest.raises(ValueError):
        Synthetic(3, **(SMALL | {"people": (1, 2)} | wrong))


def test_people_for_training():
    """Present people with the joints inside the frame; the others that show at all are regions to ignore."""
    seen = 0
    for seed in range(12):
        clip = synthetic_clip(seed, length=1, height=64, width=96)
        people = clip.people(0)
        here, area = clip.present[0], clip.boxes[0, :, 2] > clip.boxes[0, :, 0]
        inside = ((clip.keypoints[0] >= 0) & (clip.keypoints[0] < (96, 64))).all(-1)
        assert people.boxes.tolist() == clip.boxes[0, here].tolist()
        assert people.keypoints.tolist() == clip.keypoints[0, here].tolist()
        assert people.labelled.tolist() == inside[here].tolist()
        assert people.ignore.tolist() == clip.boxes[0, ~here & area].tolist()
        assert (people.boxes.dtype, people.labelled.dtype) == (torch.float32, torch.bool)
        seen += len(people.ignore)
    assert seen > 0


# --- the source ---


def test_pairs_equal_the_clip():
    """Bit for bit, frames and labels, at either end of the clip too."""
    source, random = Synthetic(3, seed=40, **SMALL, reach=4), np.random.default_rng(0)
    clips = [synthetic_clip(40 + i, **SMALL) for i in range(3)]
    deltas = set()
    for index in [0, 1, 2] * 8:
        pair = source.pair(index, random)
        clip, (name, a) = clips[index], pair.name.split("/")
        expected = clip.people(int(a))
        assert name == clip.name and len(a) == 4
        assert (pair.frame_a.permute(1, 2, 0).numpy() == clip.frames[int(a)]).all()
        assert (pair.frame_b.permute(1, 2, 0).numpy() == clip.frames[int(a) + pair.delta]).all()
        assert pair.frame_a.is_contiguous() and pair.frame_a.dtype == torch.uint8
        for part in ("boxes", "keypoints", "labelled", "ignore"):
            assert torch.equal(getattr(pair.people, part), getattr(expected, part)), part
        deltas.add(pair.delta)
    assert deltas >= {-4, 4} and max(deltas) == 4


def test_the_source_counts_its_frames():
    source = Synthetic(2, seed=7, **SMALL, every=5)
    frames = dict(source.frames())
    assert list(frames) == [f"synthetic_{n:06d}/{t:04d}" for n in (7, 8) for t in (0, 5, 10)]
    assert (frames["synthetic_000008/0005"].permute(1, 2, 0).numpy() == synthetic_clip(8, **SMALL).frames[5]).all()
    pairs = [source.pair(1, np.random.default_rng(seed)).name for seed in range(20)]
    assert set(pairs) == {"synthetic_000008/0000", "synthetic_000008/0005", "synthetic_000008/0010"}
    assert len(source) == 2
    with pytest.raises(IndexError):
        source.pair(2, np.random.default_rng(0))


def test_a_frame_paired_with_itself_is_one():
    pair = Synthetic(1, **SMALL, reach=0).pair(0, np.random.default_rng(0))
    assert pair.delta == 0 and pair.frame_b is pair.frame_a


def test_the_source_trains():
    mixture = Mixture([(Synthetic(4, **SMALL), 1.0)], size=(96, 128), length=6)
    pairs = [mixture[number] for number in range(6)]
    assert all(pair.frame_a.shape == (3, 96, 128) for pair in pairs)
    assert sum(len(pair.people) for pair in pairs) > 0
