"""PCK on JHMDB's test clips or synthetic ones: the share of joints that a model puts where they are labelled.

    python -m dimofs.eval.pck                                    # the shipped model on 12 synthetic clips
    python -m dimofs.eval.pck --jhmdb CLIPS --jhmdb-labels JHMDB --weights dimofs_mobile
    python -m dimofs.eval.pck --jhmdb CLIPS --jhmdb-labels JHMDB --weights dimofs_mobile --delta 5 --every 1
    python -m dimofs.eval.pck --jhmdb CLIPS --jhmdb-labels JHMDB --aggregate 2 --by-speed --blur 1
    python -m dimofs.eval.pck --worst failures.png

Definition: a joint is right if its prediction lies within alpha * max(height, width) of the person's labelled box,
JHMDB's convention; alpha is 0.2 and 0.1. JHMDB labels one actor per clip and others may be visible, so the detection
that overlaps a labelled box most (IoU) is the one that is judged; if none overlaps, all the person's joints are wrong.
Joints outside the frame and clips whose joints are not clean are left out (split 1). A row's mean is over the twelve
joints of arms and legs, each with the same weight; the neck is shown beside it if the model has one.

With --delta D the people of frame t are found in the features of frame t + D (limited to the clip); with --aggregate D
their joints are placed by frames t - D and t + D as well. --blur K shows frame t as a long exposure would, as the mean
of frames t - K to t + K; the other frames stay sharp. --by-speed groups people by the mean distance that their joints
move to the next frame, in units of max(height, width) of the box.
"""

from math import inf
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor
from tqdm import tqdm

from dimofs.cli import RESULT, InputError, Range, run
from dimofs.datasets.jhmdb import Jhmdb
from dimofs.datasets.sequences import LabelledVideo, jhmdb_videos, synthetic_videos
from dimofs.datasets.synthetic.clips import HELD_OUT, Synthetic
from dimofs.eval.keypoints.pck import ALPHAS, ARMS_AND_LEGS, LIMBS, pck
from dimofs.eval.models import check_joints, load_model
from dimofs.eval.tables.joints import JointOptions, person_errors
from dimofs.eval.worst import Worst
from dimofs.files import write_json
from dimofs.pages.report import recorded
from dimofs.zoo.devices import pick_device
from dimofs.zoo.training.data import JhmdbClips, JhmdbLabels, need

# Speeds of people's joints, in sides of their box per frame, by the name of the group.
SPEEDS = {"slow": (0.0, 0.01), "medium": (0.01, 0.03), "fast": (0.03, inf)}
# Synthetic clips that are judged where no data is given.
CLIPS = 12


def main(
    *,
    jhmdb: JhmdbClips = None,
    jhmdb_labels: JhmdbLabels = None,
    weights: Annotated[str, "model to run: a name or a checkpoint folder"] = "dimofs_mobile",
    delta: Annotated[int, "find the people of frame t in the features of frame t + DELTA"] = 0,
    aggregate: Annotated[
        int, "place joints by the frames AGGREGATE before and after, too (0: off)", Range(0, 1000)
    ] = 0,
    blur: Annotated[int, "show frame t as the mean of frames t - BLUR to t + BLUR (0: off)", Range(0, 1000)] = 0,
    every: Annotated[int, "judge every N-th frame of a clip", Range(1)] = 5,
    by_speed: Annotated[bool, "also print figures for slow, medium and fast people"] = False,
    size: Annotated[int | None, "longer side of the model's input (default: the model's own)", Range(32, 4096)] = None,
    device: Annotated[str | None, "cpu, cuda, cuda:1, ... (default: a GPU if there is one)"] = None,
    worst: Annotated[Path | None, "draw the nine people with the largest errors here (.png)", RESULT] = None,
    json: Annotated[Path | None, "write the figures here", RESULT] = None,
    html: Annotated[Path | None, "write tables and the largest errors here as a page", RESULT] = None,
) -> None:
    here = pick_device(device)
    videos, source = _videos(jhmdb, jhmdb_labels)
    with recorded(html, "PCK") as page:
        worst = page.picture(worst, "The people with the largest errors: labels left, poses found right", ".png")
        model, drawn = load_model(weights, size, here), None if worst is None else Worst()
        check_joints(model, ARMS_AND_LEGS, source)
        options = JointOptions(every=every, delta=delta, aggregate=aggregate, blur=blur, device=here)
        parts = [part for v in tqdm(videos, "clips", disable=None) for part in person_errors(model, v, options, drawn)]
        errors, speeds = torch.cat([error for error, _ in parts]), torch.cat([speed for _, speed in parts])
        if not len(errors):
            raise InputError(f"{source}: nobody is labelled in the frames that are judged; lower --every")
        print(f"{source}, PCK by max(h, w) of the box, {weights}, delta {delta}, aggregate {aggregate}, blur {blur}")
        result = {"all": _report("all", errors)}
        for name, (low, high) in SPEEDS.items() if by_speed else ():
            result[name] = _report(name, errors[(speeds >= low) & (speeds < high)], f", {low:g} to {high:g} a frame")
        if json is not None:
            content = {"definition": "pck", "delta": delta, "aggregate": aggregate, "blur": blur, "people": len(errors)}
            write_json(json, {**content, "pck": result.pop("all"), "speeds": result})
        if drawn is not None and worst is not None:
            drawn.write(worst)


def _videos(jhmdb: str | None, labels: str | None) -> tuple[list[LabelledVideo], str]:
    """The labelled clips and what they are called. InputError: no or malformed data."""
    if jhmdb is None and labels is None:
        return synthetic_videos(None, Synthetic(CLIPS, seed=HELD_OUT)), "synthetic clips"
    clips, labels = need(jhmdb, "--jhmdb", "--jhmdb-labels"), need(labels, "--jhmdb-labels", "--jhmdb")
    return jhmdb_videos(None, Jhmdb(clips, labels, part="test")), "JHMDB test, split 1"


def _report(group: str, errors: Tensor, limits: str = "") -> dict[str, dict[str, float | None]]:
    """Print the figures of a group of people, and return them by alpha."""
    figures = {str(alpha): pck(errors, alpha) for alpha in ALPHAS}
    columns = [*LIMBS, "mean", "neck"]
    print(f"{group}: {len(errors)} people{limits}")
    print("".join(f"{name:>9}" for name in ("alpha", *columns)))
    for alpha, figure in figures.items():
        cells = ["-" if figure[name] is None else f"{figure[name]:.1f}" for name in columns]
        print(f"{alpha:>9}" + "".join(f"{cell:>9}" for cell in cells))
    return figures


if __name__ == "__main__":
    run(main)
