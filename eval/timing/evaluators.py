"""The cases of `dimofs.eval.speed eval`: AP by OKS of made-up poses, beside pycocotools on the same poses, and actions.

AP and MOTA by head sizes have no peer here, because PoseTrack's own tool is in no package index.
"""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dimofs import skeletons
from dimofs.eval.keypoints import oks
from dimofs.eval.timing.actions import action_cases
from dimofs.eval.timing.case import Case
from dimofs.formats.posetrack import JOINTS, parse_annotations

# People per frame.
PEOPLE = 6
# Standard deviation in pixels of the predicted joints.
NOISE = 6.0


def eval_cases(device: str = "cpu", quick: bool = False) -> Iterator[Case]:
    """The cases of `eval`, which run on the CPU. Without pycocotools there is none of poses."""
    yield from action_cases(quick)
    try:
        import pycocotools  # noqa: F401
    except ImportError:
        return
    count = 20 if quick else 200
    truth, found = poses(count, 0.0), poses(count, NOISE)
    (labelled,), (predicted,) = (parse_annotations(Path("made-up.json"), posetrack18(p)) for p in (truth, found))
    ours, theirs = (lambda: oks.figures([oks.score_people(labelled, predicted)])), coco_judge(truth, found)
    note = f"AP {ours()['AP']:.1f}, differs by {abs(ours()['AP'] - 100 * theirs()):.1g}"
    shape, size = f"{count} frames, {PEOPLE} people", truth.nbytes + found.nbytes
    yield Case(
        name="AP by OKS",
        shape=shape,
        dtype="fp64",
        ours=ours,
        peer="pycocotools",
        theirs=theirs,
        size=size,
        count=count,
        note=note,
    )


def poses(frames: int, noise: float) -> np.ndarray:
    """Joints [frames, PEOPLE, 15, 2] in pixels. The people are the same for any noise."""
    middle = np.random.default_rng(0).uniform(100, 900, (frames, PEOPLE, 1, 2))
    limbs = np.random.default_rng(1).uniform(-60, 60, (frames, PEOPLE, len(JOINTS), 2))
    return middle + limbs + noise * np.random.default_rng(2).standard_normal(limbs.shape)


def entries(people: np.ndarray) -> list[dict]:
    """Poses [frames, PEOPLE, 15, 2] as COCO annotations with scores."""
    return [
        {
            "id": number + 1,
            "image_id": number // PEOPLE,
            "category_id": 1,
            "track_id": number % PEOPLE,
            "keypoints": np.insert(points, 2, 1, axis=1).ravel().tolist(),
            "num_keypoints": len(JOINTS),
            "bbox": [*points.min(0).tolist(), *np.ptp(points, axis=0).tolist()],
            "area": float(np.ptp(points, axis=0).prod()),
            "iscrowd": 0,
            "score": 1 / (2 + number),
            "scores": [1 / (2 + number)] * len(JOINTS),
        }
        for number, points in enumerate(people.reshape(-1, len(JOINTS), 2))
    ]


def posetrack18(people: np.ndarray) -> dict:
    """The content of a PoseTrack18 file."""
    images = [{"id": i, "file_name": f"images/made-up/{i:06d}.jpg"} for i in range(len(people))]
    names = ["head_bottom" if name == "neck" else name for name in JOINTS]
    return {"images": images, "annotations": entries(people), "categories": [{"name": "person", "keypoints": names}]}


def coco_judge(truth: np.ndarray, found: np.ndarray):
    """A function that computes AP by pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def judge() -> float:
        with contextlib.redirect_stdout(io.StringIO()):
            return _judge()

    labelled: Any = COCO()
    labelled.dataset = {**posetrack18(truth), "info": {}, "categories": [{"id": 1}]}
    fields = ("image_id", "category_id", "keypoints", "score")
    with contextlib.redirect_stdout(io.StringIO()):
        labelled.createIndex()
        predicted = labelled.loadRes([{field: entry[field] for field in fields} for entry in entries(found)])

    def _judge() -> float:
        judge: Any = COCOeval(labelled, predicted, "keypoints")
        judge.params.kpt_oks_sigmas = np.array(skeletons.oks_sigmas(JOINTS))
        judge.params.areaRng, judge.params.areaRngLbl = [[0, 1e10]] * 3, ["all", "medium", "large"]
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
        return float(judge.stats[0])

    return judge
