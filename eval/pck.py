"""PCK on JHMDB's test clips or synthetic ones: how many of the people's joints a model puts where they are labelled.

    python -m dimofs.eval.pck                                    # the shipped model on 12 synthetic clips
    python -m dimofs.eval.pck --clips JHMDB --labels LABELS --weights dimofs_mobile
    python -m dimofs.eval.pck --clips JHMDB --labels LABELS --weights dimofs_mobile --delta 5 --every 1
    python -m dimofs.eval.pck --clips JHMDB --labels LABELS --aggregate 2 --by-speed --blur 1
    python -m dimofs.eval.pck --worst failures.png

Definition: a joint counts as right where its prediction lies within alpha * max(height, width) of the person's labelled
box, JHMDB's convention; alpha is 0.2 and 0.1. JHMDB labels one actor a clip and others may be visible, so the detection
that overlaps a labelled box most (IoU) is the one that is judged; where none does, all the person's joints are
wrong. Joints outside the frame and clips whose joints are not clean are left out (split 1). A row's mean is over the
twelve joints of arms and legs, each with the same weight; the neck is shown beside it where the model has one. With
--delta D the people of frame t are found in the features of frame t + D, D limited to the clip; with --aggregate D
their joints are placed by the frames t - D and t + D as well. --blur K shows frame t as a long exposure would, the
mean of the frames t - K to t + K; the other frames stay sharp. --by-speed tells people apart by how far their joints
move to the next frame on average, in units of max(height, width) of the box.
"""

from collections.abc import Iterator, Sequence
from math import inf
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor
from tqdm import tqdm

from dimofs.boxes import iou
from dimofs.cli import InputError, check_ranges, run
from dimofs.datasets.jhmdb import Jhmdb
from dimofs.datasets.people import People
from dimofs.datasets.sequences import LabelledVideo, jhmdb_videos, synthetic_videos
from dimofs.datasets.synthetic.clips import HELD_OUT, Synthetic
from dimofs.detections import Detections
from dimofs.eval.models import PoseModel, load_model
from dimofs.eval.worst import Worst
from dimofs.files import write_json
from dimofs.skeletons import DIMOFS, indices
from dimofs.zoo.detection.detector import PoseDetector

ALPHAS = (0.2, 0.1)
LIMBS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
SPEEDS = {"slow": (0.0, 0.01), "medium": (0.01, 0.03), "fast": (0.03, inf)}
BATCH = 8  # frames
CLIPS = 12  # synthetic ones


def main(
    *,
    clips: Annotated[Path | None, "folder of JHMDB's <class>/<clip>.avi (default: synthetic clips)"] = None,
    labels: Annotated[Path | None, "folder of JHMDB's labels, official or compact"] = None,
    weights: Annotated[str, "model to run: a name or a checkpoint folder"] = "dimofs_mobile",
    delta: Annotated[int, "frames from A, whose poses are judged, to B, whose features are seen"] = 0,
    aggregate: Annotated[int, "place joints by the frames so many before and after, too"] = 0,
    blur: Annotated[int, "show each Frame A as the mean of it and so many frames before and after"] = 0,
    every: Annotated[int, "judge every N-th frame of a clip"] = 5,
    by_speed: Annotated[bool, "figures of slow, medium and fast people too"] = False,
    size: Annotated[int | None, "longer side of the model's input; without it the model's own choice"] = None,
    device: Annotated[str, "where the model runs"] = "cpu",
    worst: Annotated[Path | None, "draw the nine people whom the model gets most wrong here (.png)"] = None,
    json: Annotated[Path | None, "write the figures here"] = None,
) -> None:
    check_ranges(every=(every, 1, inf), aggregate=(aggregate, 0, inf), blur=(blur, 0, inf))
    if clips is None and labels is None:
        videos, name = synthetic_videos(None, Synthetic(CLIPS, seed=HELD_OUT)), "synthetic clips"
    elif clips is None or labels is None:
        raise InputError("--clips and --labels belong together: JHMDB's videos and its labels")
    else:
        videos, name = jhmdb_videos(None, Jhmdb(clips, labels, part="test")), "JHMDB test, split 1"
    model = load_model(weights, size, device)
    seen = None if worst is None else Worst()
    found = [
        pair
        for video in tqdm(videos, "clips", disable=None)
        for pair in measure(model, video, delta, aggregate, every, device, blur, seen)
    ]
    errors, speeds = (torch.cat(values) for values in zip(*found, strict=True))
    groups = {"all": torch.ones_like(speeds, dtype=torch.bool)}
    if by_speed:
        groups |= {name: (speeds >= low) & (speeds < high) for name, (low, high) in SPEEDS.items()}
    print(f"{name}, PCK by max(h, w) of the box, {weights}, delta {delta}, aggregate {aggregate}, blur {blur}")
    results = {}
    for group, chosen in groups.items():
        limits = f", {' to '.join(f'{s:g}' for s in SPEEDS[group])} a frame" if group in SPEEDS else ""
        print(f"{group}: {int(chosen.sum())} people{limits}")
        results[group] = {str(alpha): pck(errors[chosen], alpha) for alpha in ALPHAS}
        _print(results[group])
    if seen is not None and worst is not None:
        seen.write(worst)
    if json is not None:
        content = {"definition": "pck", "delta": delta, "aggregate": aggregate, "blur": blur, "people": len(errors)}
        write_json(json, {**content, "pck": results.pop("all"), "speeds": results})


def _print(figures: dict[str, dict[str, float | None]]) -> None:
    columns = [*LIMBS, "mean", "neck"]
    print("".join(f"{name:>9}" for name in ("alpha", *columns)))
    for alpha, figure in figures.items():
        print(f"{alpha:>9}" + "".join("        -" if (v := figure[c]) is None else f"{v:9.1f}" for c in columns))


def measure(
    model: PoseModel,
    video: LabelledVideo,
    delta: int,
    aggregate: int,
    every: int,
    device: str = "cpu",
    blur: int = 0,
    worst: Worst | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """`joint_errors` and `speed` of the people of every `every`-th frame; `worst` sees them all."""
    frames = torch.stack([torch.from_numpy(frame.pixels) for frame in video.frames()]).permute(0, 3, 1, 2)
    last, size = len(frames) - 1, frames.shape[2:]
    for chosen in torch.arange(0, len(frames), every).split(BATCH):
        found = _predict(model, frames, chosen, delta, aggregate, device, blur)
        for number, people in zip(chosen.tolist(), found, strict=True):
            labelled = video.people(number, *size)
            then = video.people(number + 1 if number < last else max(number - 1, 0), *size)
            errors = joint_errors(labelled, people, model.keypoint_names)
            if worst is not None:
                worst.add(frames[number] / 255, labelled, people, tuple(model.keypoint_names), errors)
            yield errors, speed(labelled, then)


@torch.inference_mode()
def _predict(
    model: PoseModel, frames: Tensor, chosen: Tensor, delta: int, aggregate: int, device: str, blur: int
) -> list[Detections]:
    def at(shift: int) -> Tensor:
        return frames[(chosen + shift).clamp(0, len(frames) - 1)].to(device) / 255

    frame_a = torch.stack([at(shift) for shift in range(-blur, blur + 1)]).mean(dim=0)
    if not aggregate:
        found = model(frame_a, at(delta)) if delta else model(frame_a)
    elif isinstance(model, PoseDetector):
        a, *beside = map(model.features, (frame_a, at(-aggregate), at(aggregate)))
        found = model.detect(a, model.features(at(delta)) if delta else None, beside)
    else:
        raise InputError("--aggregate needs a model of this project; measure others without")
    return [people.to("cpu") for people in found]


def speed(labelled: People, then: People) -> Tensor:
    """[P] how far the joints of people move to the next frame, or from the last one: the mean in units of max(h, w) of
    the box. A person is the one whose box overlaps most; NaN without one, or a joint labelled in both frames."""
    if not len(labelled) or not len(then):
        return torch.full((len(labelled),), torch.nan)
    overlap, same = iou(labelled.boxes, then.boxes).max(dim=1)
    both = labelled.labelled & then.labelled[same] & (overlap > 0)[:, None]
    distance = (then.keypoints[same] - labelled.keypoints).norm(dim=2)
    sides = (labelled.boxes[:, 2:] - labelled.boxes[:, :2]).amax(dim=1)
    return torch.where(both, distance, torch.nan).nanmean(dim=1) / sides


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
