"""PCK on JHMDB's test clips or synthetic ones: how many of the people's joints a model puts where they are labelled.

    python -m dimofs.eval.pck                                    # the shipped model on 12 synthetic clips
    python -m dimofs.eval.pck --clips JHMDB --labels LABELS --weights dimofs_mobile
    python -m dimofs.eval.pck --clips JHMDB --labels LABELS --weights dimofs_mobile --delta 5 --every 1

Definition: a joint counts as right where its prediction lies within alpha * max(height, width) of the person's labelled
box, JHMDB's convention; alpha is 0.2 and 0.1. JHMDB labels one actor a clip and others may be visible, so the detection
that overlaps a labelled box most (IoU) is the one that is judged; where none does, all the person's joints are
wrong. Joints outside the frame and clips whose joints are not clean are left out (split 1). A row's mean is over the
twelve joints of arms and legs, each with the same weight; the neck is shown beside it where the model has one. With
--delta D the people of frame t are found in the features of frame t + D, D limited to the clip.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor
from tqdm import tqdm

from dimofs.boxes import iou
from dimofs.cli import InputError, run
from dimofs.datasets.decoding import read_clip
from dimofs.datasets.jhmdb import Jhmdb
from dimofs.datasets.people import People
from dimofs.datasets.synthetic import HELD_OUT, Synthetic
from dimofs.detections import Detections
from dimofs.eval.models import PoseModel, load_model
from dimofs.files import write_json
from dimofs.skeletons import DIMOFS, indices

ALPHAS = (0.2, 0.1)
LIMBS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
BATCH = 8  # frames
CLIPS = 12  # synthetic ones


def main(
    *,
    clips: Annotated[Path | None, "folder of JHMDB's <class>/<clip>.avi (default: synthetic clips)"] = None,
    labels: Annotated[Path | None, "folder of JHMDB's labels, official or compact"] = None,
    weights: Annotated[str, "model to run: a name or a checkpoint folder"] = "dimofs_mobile",
    delta: Annotated[int, "frames from A, whose poses are judged, to B, whose features are seen"] = 0,
    every: Annotated[int, "judge every N-th frame of a clip"] = 5,
    size: Annotated[int | None, "longer side of the model's input; without it the model's own choice"] = None,
    device: Annotated[str, "where the model runs"] = "cpu",
    json: Annotated[Path | None, "write the figures here"] = None,
) -> None:
    if every < 1:
        raise InputError(f"--every {every}: must be 1 or more")
    if clips is None and labels is None:
        source, name = synthetic_clips(), "synthetic clips"
    elif clips is None or labels is None:
        raise InputError("--clips and --labels belong together: JHMDB's videos and its labels")
    else:
        source, name = jhmdb_clips(Jhmdb(clips, labels, part="test")), "JHMDB test, split 1"
    model = load_model(weights, size, device)
    errors = torch.cat([e for clip in source for e in measure(model, clip, delta, every, device)])
    figures = {str(alpha): pck(errors, alpha) for alpha in ALPHAS}
    columns = [*LIMBS, "mean", "neck"]
    print(f"{name}, PCK by max(h, w) of the box, {len(errors)} people, {weights}, delta {delta}")
    print("".join(f"{name:>9}" for name in ("alpha", *columns)))
    for alpha, figure in figures.items():
        print(f"{alpha:>9}" + "".join("        -" if (v := figure[c]) is None else f"{v:9.1f}" for c in columns))
    if json is not None:
        write_json(json, {"definition": "pck", "delta": delta, "people": len(errors), "pck": figures})


@dataclass(frozen=True)
class Clip:
    """frames: [T, 3, H, W] uint8; people: those labelled in frame t, for t below `length`."""

    frames: Tensor
    length: int
    people: Callable[[int], People]


def jhmdb_clips(source: Jhmdb) -> Iterator[Clip]:
    """The clips with clean joints, one by one. InputError: there is none."""
    names = [name for name in source.names if source.labels.joints(name) is not None]
    if not names:
        raise InputError(f"{source.clips}: no test clip has clean joints; nothing can be measured")
    for name in tqdm(names, desc="clips", disable=None):
        frames = torch.stack(list(read_clip(source.clips / f"{name}.avi")))
        size = frames.shape[2:]
        yield Clip(frames, min(source.length(name), len(frames)), partial(_actor, source, name, *size))


def _actor(source: Jhmdb, name: str, height: int, width: int, number: int) -> People:
    return source.people(name, number, height, width)


def synthetic_clips() -> Iterator[Clip]:
    """Held-out synthetic clips, one by one."""
    clips = Synthetic(CLIPS, seed=HELD_OUT)
    for index in tqdm(range(len(clips)), desc="clips", disable=None):
        clip = clips.scene(index).clip()
        frames = torch.from_numpy(clip.frames).permute(0, 3, 1, 2)
        yield Clip(frames, len(frames), clip.people)


def measure(model: PoseModel, clip: Clip, delta: int, every: int, device: str = "cpu") -> Iterator[Tensor]:
    """`joint_errors` of the people of every `every`-th frame."""
    for chosen in torch.arange(0, clip.length, every).split(BATCH):
        found = _predict(model, clip.frames, chosen, delta, device)
        for number, people in zip(chosen.tolist(), found, strict=True):
            yield joint_errors(clip.people(number), people, model.keypoint_names)


@torch.inference_mode()
def _predict(model: PoseModel, frames: Tensor, chosen: Tensor, delta: int, device: str) -> list[Detections]:
    frame_a = frames[chosen].to(device) / 255
    if delta == 0:
        found = model(frame_a)
    else:
        found = model(frame_a, frames[(chosen + delta).clamp(0, len(frames) - 1)].to(device) / 255)
    return [people.to("cpu") for people in found]


def joint_errors(labelled: People, found: Detections, names: Sequence[str]) -> Tensor:
    """[P, 19] distances from labelled to predicted joint in units of max(h, w) of the person's labelled box.

    NaN where there is no label or the model (joints `names`) has no such joint; inf where nothing overlaps the person.
    """
    boxes = labelled.boxes
    columns = torch.tensor(indices(names, DIMOFS))
    points = torch.full_like(labelled.keypoints, torch.inf)
    if len(found):
        overlap, best = iou(boxes, found.boxes.float()).max(dim=1)
        hit = overlap > 0
        points[hit] = found.keypoints[best[hit]][:, columns].float()
    reference = (boxes[:, 2:] - boxes[:, :2]).amax(dim=1)
    errors = (points - labelled.keypoints).norm(dim=2) / reference[:, None]
    return errors.where(labelled.labelled & (columns >= 0), torch.nan)


def pck(errors: Tensor, alpha: float) -> dict[str, float | None]:
    """Percentages of `errors` [P, 19] up to `alpha`, by joint, by pair of joints and as "mean" over arms and legs.

    None for joints without a label or unknown to the model; they do not count in the mean.
    """
    known = ~errors.isnan()
    rates = 100 * (errors <= alpha).sum(dim=0) / known.sum(dim=0)  # NaN = 0 / 0
    rows: dict[str, float] = dict(zip(DIMOFS, rates.tolist(), strict=True))
    groups = {limb: [rows[f"left_{limb}"], rows[f"right_{limb}"]] for limb in LIMBS}
    rows |= {limb: _mean(values) for limb, values in groups.items()}
    rows["mean"] = _mean([value for values in groups.values() for value in values])
    return {name: None if value != value else value for name, value in rows.items()}


def _mean(values: list[float]) -> float:
    """The mean of those that are not NaN."""
    return torch.tensor(values).nanmean().item()


if __name__ == "__main__":
    run(main)
