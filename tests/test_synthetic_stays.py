"""Synthetic clips stay as they are: published figures, and the weights that ship, depend on every one of their numbers.

After a change that is meant, `python -m tests.test_synthetic_stays` writes the new figures; say so in CHANGELOG.md, and
measure the documented figures of synthetic clips again.
"""

import json
from pathlib import Path

import pytest

from dimofs.datasets.synthetic.clips import synthetic_clip

FIGURES = Path(__file__).parent / "cases/synthetic_clips.json"
CLIPS = 48


def figures(seed: int) -> list[float]:
    """Mean red, green and blue of a clip, then the mean x and y of the joints of everybody who is to be found."""
    clip = synthetic_clip(seed, length=2, height=96, width=128)
    joints = clip.keypoints[clip.present].reshape(-1, 2)
    means = [*clip.frames.mean((0, 1, 2)).tolist(), *(joints.mean(0).tolist() if len(joints) else ())]
    return [round(value, 3) for value in means]


@pytest.mark.parametrize("seed", range(CLIPS))
def test_clips_stay_as_they_are(seed):
    """A colour or a proportion that changes moves some mean by more; another processor's rounding by less."""
    assert figures(seed) == pytest.approx(json.loads(FIGURES.read_text())[seed], abs=0.02)


if __name__ == "__main__":
    FIGURES.write_text("[\n" + ",\n".join(f"  {figures(seed)}" for seed in range(CLIPS)) + "\n]\n")
