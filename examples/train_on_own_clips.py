"""Train on clips that you have labelled yourself.

    python examples/train_on_own_clips.py --out runs/own --steps 2

A labelled clip is a folder of images and one JSON file in PoseTrack's 2018 format, which is COCO's with a track id per
person. `write_labels` makes that file from plain arrays; replace `made_up_clips` by your own frames and joints. The
script starts from the model that ships, trains it on pairs of frames of those clips and finds the people of one frame
with the new weights. It prints the losses of each step, then how many people it found, and writes

    runs/own/data/annotations/train/clip0.json   labels
    runs/own/data/images/clip0/000000.png        frames
    runs/own/run/model                           the new weights: python -m dimofs.zoo.pose --weights runs/own/run/model
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from dimofs.datasets.synthetic.clips import synthetic_clip
from dimofs.picture import png
from dimofs.skeletons import DIMOFS, POSETRACK18, indices
from dimofs.zoo import checkpoints, train
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.training.action_options import ActionOptions
from dimofs.zoo.training.data import Paths


def made_up_clips(count: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Frames [T, H, W, 3] uint8, joints [T, P, 19, 2] in pixels and whether each is labelled [T, P, 19].

    Joints are in the order of `dimofs.skeletons.DIMOFS`; a person of whom no joint is labelled is not in the frame.
    """
    for seed in range(count):
        clip = synthetic_clip(seed, length=6, height=128, width=160)
        inside = ((clip.keypoints >= 0) & (clip.keypoints < (160, 128))).all(-1)
        yield clip.frames, clip.keypoints, inside & clip.present[..., None]


def write_labels(root: Path, name: str, frames: np.ndarray, joints: np.ndarray, labelled: np.ndarray) -> None:
    """Write one clip's images and its annotation file; see `made_up_clips` for the arrays."""
    folder = root / "images" / name
    folder.mkdir(parents=True, exist_ok=True)
    order = indices(DIMOFS, POSETRACK18)
    images, annotations = [], []
    for t, frame in enumerate(frames):
        file = folder / f"{t:06d}.png"
        file.write_bytes(png(frame))
        images.append({"id": t, "file_name": f"images/{name}/{file.name}"})
        for person in np.flatnonzero(labelled[t].any(1)):
            # PoseTrack counts pixels: the centre of pixel 0 is at 0, not at 0.5. An absent joint is 0, 0, 0.
            points = np.concatenate((joints[t, person] - 0.5, np.ones((len(DIMOFS), 1))), axis=1)
            points[~labelled[t, person]] = 0
            flat = points[order].flatten().tolist()
            annotations.append({"image_id": t, "track_id": int(person), "category_id": 1, "keypoints": flat})
    category = {"id": 1, "name": "person", "keypoints": list(POSETRACK18)}
    path = root / "annotations/train" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", default="runs/own", help="folder of the data and the run")
    arguments.add_argument("--clips", type=int, default=4, help="made-up clips to train on")
    arguments.add_argument("--steps", type=int, default=20, help="training steps; thousands for real use")
    options = arguments.parse_args()

    data = Path(options.out) / "data"
    for number, clip in enumerate(made_up_clips(options.clips)):
        write_labels(data, f"clip{number}", *clip)
    run = str(Path(options.out) / "run")
    paths = Paths(posetrack=str(data))
    own = {"data": paths, "actions": ActionOptions()}
    train.main("pose", out=run, init="dimofs_mobile", steps=options.steps, batch=2, workers=0, **own)

    detector = checkpoints.load_as(PoseDetector, f"{run}/model")
    frames, _, labelled = next(made_up_clips(1))
    first = torch.from_numpy(frames[:1]).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        (people,) = detector(first)
    print(
        f"{int((people.scores > 0.5).sum())} people found, {int(labelled[0].any(1).sum())} labelled in the first frame"
    )


if __name__ == "__main__":
    main()
