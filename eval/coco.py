"""Keypoint AP and person box AP on COCO-format stills, of a model or of a results file, computed by pycocotools.

    python -m dimofs.eval.coco                                   # the shipped model on 60 synthetic stills
    python -m dimofs.eval.coco --gt person_keypoints_val2017.json --images val2017 --weights dimofs_mobile
    python -m dimofs.eval.coco --gt person_keypoints_val2017.json --images val2017 --weights MOVENET_FOLDER --size 512
    python -m dimofs.eval.coco --gt person_keypoints_val2017.json --pred results.json

Definition: COCO's, area range "all" unless the column says otherwise, 20 poses and 100 boxes per image. A model's boxes
are ranked by their scores, its poses by the box's score times the mean confidence of the joints above 0.2, for every
model alike. Every image of --gt counts. A results file is COCO's list of {"image_id", "category_id", "keypoints",
"score"} with 17 joints, of {"bbox", "score"}, or of both, then with "box_score" if boxes rank by another. COCO's labels
put pixel centres at integers, our models at integer + 0.5: predictions move by half a pixel on the way. Needs the extra
`dimofs[eval]`.
"""

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import torch
from tqdm import tqdm

from dimofs import skeletons
from dimofs.cli import InputError, run
from dimofs.datasets.synthetic.clips import HELD_OUT, Synthetic
from dimofs.datasets.synthetic.stills import write_stills
from dimofs.detections import Detections
from dimofs.eval.models import PoseModel, load_model
from dimofs.files import read_json, write_json
from dimofs.formats.records import MISSING, Records, as_list
from dimofs.images import read_image
from dimofs.pixels import to_tensor

Kind = Literal["keypoints", "bbox"]

PERSON = 1
STILLS = 60  # synthetic ones
SURE = 0.2  # confidence from which a joint counts in the score of its pose
# Column names in the order of COCOeval.stats.
KEYPOINT_STATS = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
BOX_STATS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def main(
    *,
    gt: Annotated[Path | None, "ground truth, COCO keypoint format (default: synthetic stills)"] = None,
    images: Annotated[Path | None, "folder of the images that the ground truth names"] = None,
    weights: Annotated[str, "model to run: a name or a checkpoint folder"] = "dimofs_mobile",
    pred: Annotated[Path | None, "evaluate this results file instead of a model"] = None,
    size: Annotated[int | None, "longer side of the model's input; without it the model's own choice"] = None,
    device: Annotated[str, "where the model runs"] = "cpu",
    save: Annotated[Path | None, "write the model's results here, COCO results format"] = None,
    json: Annotated[Path | None, "write the figures here"] = None,
) -> None:
    with TemporaryDirectory() as folder:
        if gt is None:
            if images is not None or pred is not None:
                raise InputError("--images and --pred belong to a ground truth; give --gt FILE")
            images = Path(folder)
            truth = write_stills(images, Synthetic(STILLS, seed=HELD_OUT))
        else:
            truth = read_truth(gt)
        if pred is not None:
            results = read_results(pred, truth)
        elif images is not None:
            results = predict(load_model(weights, size, device), truth["images"], images, device)
        else:
            raise InputError("--images DIR, the folder of the ground truth's images, or --pred FILE is needed")
    if save is not None:
        write_json(save, results)
    figures = evaluate(truth, results)
    stills = "COCO" if gt else "synthetic stills"
    print(f"{stills}, {len(truth['images'])} images, {weights if pred is None else pred}")
    for kind, stats in figures.items():
        print("".join(f"{name:>8}" for name in ("", *stats)))
        print(f"{kind:>8}" + "".join(f"{'-' if value is None else f'{value:.3f}':>8}" for value in stats.values()))
    if json is not None:
        write_json(json, {"definition": "coco", **figures})


def predict(model: PoseModel, entries: list[dict], folder: Path, device: str = "cpu") -> list[dict]:
    """The model's people in the images of `folder` that COCO's image `entries` name, as COCO results."""
    results = []
    with torch.inference_mode():
        for entry in tqdm(entries, desc="images", disable=None):
            image = to_tensor(read_image(folder / entry["file_name"])).to(device) / 255
            (people,) = model(image[None])
            results += to_results(people.to("cpu"), model.keypoint_names, entry["id"])
    return results


def to_results(people: Detections, names: Sequence[str], image_id: int) -> list[dict]:
    """COCO results, boxes x y w h and 17 joints; a joint that `names` lacks is 0 0 0, scores are probabilities.

    "score" is the pose's, "box_score" the box's.
    """
    columns = torch.tensor(skeletons.indices(names, skeletons.COCO))
    points = torch.cat((people.keypoints - 0.5, people.confidences[..., None]), dim=2)
    points = points[:, columns] * (columns >= 0)[:, None]  # [P, 17, 3]
    sure = points[..., 2] > SURE
    scores = people.scores * (points[..., 2] * sure).sum(dim=1) / sure.sum(dim=1).clamp(min=1)
    corners = torch.cat((people.boxes[:, :2], people.boxes[:, 2:] - people.boxes[:, :2]), dim=1)
    values = (x.tolist() for x in (corners, points.flatten(1), scores, people.scores))
    return [
        {
            "image_id": image_id,
            "category_id": PERSON,
            "bbox": box,
            "keypoints": joints,
            "score": pose,
            "box_score": score,
        }
        for box, joints, pose, score in zip(*values, strict=True)
    ]


def evaluate(truth: dict, results: list[dict]) -> dict[str, dict[str, float | None]]:
    """COCO's figures {"pose": .., "box": ..}, as fractions; None where nothing is labelled.

    Results without "keypoints" or without "bbox" leave out that row. InputError: pycocotools is missing.
    """
    kinds: dict[str, tuple[Kind, tuple[str, ...]]]
    kinds = {"pose": ("keypoints", KEYPOINT_STATS), "box": ("bbox", BOX_STATS)}
    return {
        name: _evaluate(truth, results, kind, stats)
        for name, (kind, stats) in kinds.items()
        if not results or kind in results[0]
    }


def _evaluate(truth: dict, results: list[dict], kind: Kind, names: tuple[str, ...]) -> dict[str, float | None]:
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise InputError("pycocotools is not installed: pip install 'dimofs[eval]'") from error
    if not results:
        return dict.fromkeys(names, 0.0)
    # Only one of bbox and keypoints: pycocotools takes areas from the box where there is one.
    kept: Any = [{key: r[key] for key in ("image_id", "category_id", "score", kind)} for r in results]
    if kind == "bbox":
        kept = [k | {"score": r.get("box_score", r["score"])} for k, r in zip(kept, results, strict=True)]
    content: Any = {**truth, "annotations": [dict(a) for a in truth["annotations"]]}
    with contextlib.redirect_stdout(io.StringIO()):
        labels = COCO()
        labels.dataset = content
        labels.createIndex()
        judge = COCOeval(labels, labels.loadRes(kept), kind)
        judge.params.catIds = [PERSON]
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return {name: None if value < 0 else float(value) for name, value in zip(names, judge.stats, strict=True)}


def read_truth(path: Path) -> dict:
    """COCO keypoint ground truth. InputError names the first entry that lacks a field."""
    truth = read_json(path)
    if not isinstance(truth, dict):
        raise InputError(f"{path}: not an object with images and annotations")
    images, annotations = (
        Records(path, as_list(path, truth.get(name, MISSING), name), (name + "[{}]").format)
        for name in ("images", "annotations")
    )
    images.column("file_name", {str}, "a text")
    for field in ("id", "category_id", "num_keypoints"):
        annotations.column(field, {int}, "a whole number")
    annotations.column("iscrowd", {int, bool}, "0 or 1")
    annotations.column("area", {int, float}, "a number")
    annotations.rows("bbox", 4)
    annotations.rows("keypoints", 51)
    _check_images(annotations, images.column("id", {int}, "a whole number"))
    return {"info": {}, "categories": [{"id": PERSON, "name": "person"}], **truth}


def read_results(path: Path, truth: dict) -> list[dict]:
    """COCO results for the images of `truth`. InputError names the first entry that cannot be used."""
    entries = as_list(path, read_json(path), "the file")
    results = Records(path, entries, "[{}]".format)
    kinds = [field for field in ("bbox", "keypoints") if entries and field in entries[0]]
    if entries and not kinds:
        raise results.error(0, " has neither keypoints nor bbox")
    for field in kinds:
        results.rows(field, {"bbox": 4, "keypoints": 51}[field])
    results.column("score", {int, float}, "a number")
    results.column("box_score", {int, float}, "a number", 0)
    results.column("category_id", {int}, "a whole number")
    _check_images(results, [image["id"] for image in truth["images"]])
    return entries


def _check_images(records: Records, ids: list[int]) -> None:
    known = set(ids)
    for i, image in enumerate(records.column("image_id", {int}, "a whole number")):
        if image not in known:
            raise records.error(i, ".image_id is the id of no image of the ground truth")


if __name__ == "__main__":
    run(main)
