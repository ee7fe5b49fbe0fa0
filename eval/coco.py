"""Keypoint AP and person box AP on COCO-format stills, of a model or of a results file, computed by pycocotools.

    python -m dimofs.eval.coco                                   # the shipped model on 60 synthetic stills
    python -m dimofs.eval.coco --gt person_keypoints_val2017.json --images val2017 --weights dimofs_mobile
    python -m dimofs.eval.coco --gt person_keypoints_val2017.json --images val2017 --weights MOVENET_FOLDER --size 512
    python -m dimofs.eval.coco --gt person_keypoints_val2017.json --pred results.json

Definition: COCO's, area range "all" unless the column says otherwise, 20 poses and 100 boxes per image. Every image of
--gt counts. Boxes are ranked by their scores, poses by the box's score times the mean confidence of the joints above
0.2, for every model alike; python -m dimofs.zoo.pose --format coco writes the same results as --save.

A results file is COCO's list of {"image_id", "category_id", "keypoints", "score"} with 17 joints, of {"bbox", "score"},
or of both. Where an entry has "box_score", its box is ranked by that. People are found by the name of their category
("person") in --gt; ids of annotations may start anywhere and repeat. An area of 0, a coordinate or score that is no
number, or an unknown image is an error. COCO puts pixel centres at integers, our models at integer + 0.5: predictions
are shifted by half a pixel. Needs the extra `dimofs[eval]`.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import torch
from tqdm import tqdm

from dimofs.cli import RESULT, InputError, Range, run
from dimofs.datasets.synthetic.clips import HELD_OUT, Synthetic
from dimofs.datasets.synthetic.stills import write_stills
from dimofs.eval.exclusions import check_options
from dimofs.eval.keypoints.coco_ap import CocoTruth, evaluate, parse_results, parse_truth, read_results, read_truth
from dimofs.eval.models import PoseModel, load_model
from dimofs.files import write_json
from dimofs.formats.coco_images import CocoImages
from dimofs.formats.coco_results import to_results
from dimofs.pixels import to_tensor
from dimofs.zoo.devices import pick_device

# Synthetic stills that are made where no ground truth is given.
STILLS = 60
CONFLICTS = ((("pred",), ("images", "weights", "size", "device", "save"), "no model runs where a file is evaluated"),)
NEEDS = ((("images", "pred"), ("gt",), "the ground truth"),)


def main(
    *,
    gt: Annotated[Path | None, "ground truth: COCO keypoints, or as train's --coco (default: synthetic stills)"] = None,
    images: Annotated[Path | None, "folder of the images that the ground truth names"] = None,
    weights: Annotated[str, "model to run: a name or a checkpoint folder"] = "dimofs_mobile",
    pred: Annotated[Path | None, "evaluate this results file instead of a model"] = None,
    size: Annotated[int | None, "longer side of the model's input (default: the model's own)", Range(32, 4096)] = None,
    device: Annotated[str | None, "cpu, cuda, cuda:1, ... (default: a GPU if there is one)"] = None,
    save: Annotated[Path | None, "write the model's results here, COCO results format", RESULT] = None,
    json: Annotated[Path | None, "write the figures here", RESULT] = None,
) -> None:
    check_options(main, locals(), conflicts=CONFLICTS, needs=NEEDS)
    with TemporaryDirectory() as folder:
        if gt is None:
            images = Path(folder)
            truth = parse_truth("synthetic stills", write_stills(images, Synthetic(STILLS, seed=HELD_OUT)))
        else:
            truth = read_truth(gt, images)
        if pred is not None:
            results = read_results(pred, truth)
        elif images is not None:
            here = pick_device(device)
            found = predict(load_model(weights, size, here), truth, images, here)
            results = parse_results(weights, found, truth)
        else:
            raise InputError("--gt needs --images DIR, the folder of its images, or --pred FILE")
    if save is not None:
        write_json(save, results)
    figures = evaluate(truth, results)
    stills = "COCO" if gt else "synthetic stills"
    print(f"{stills}, {len(truth.images)} images, {weights if pred is None else pred}")
    if truth.repeated:
        print(f"note: {truth.file}: {truth.repeated} people have the id of another one; all were numbered anew")
    for kind, stats in figures.items():
        print("".join(f"{name:>8}" for name in ("", *stats)))
        print(f"{kind:>8}" + "".join(f"{'-' if value is None else f'{value:.3f}':>8}" for value in stats.values()))
    if json is not None:
        write_json(json, {"definition": "coco", **figures})


def predict(model: PoseModel, truth: CocoTruth, folder: Path, device: str | torch.device = "cpu") -> list[dict]:
    """COCO results of the model: its people in those images of `folder` that the ground truth names.

    InputError: an image is absent, damaged, outside the folder, or of another size than the ground truth states.
    """
    results, images = [], CocoImages(truth.file, truth.images, folder)
    with torch.inference_mode():
        for number, identity in enumerate(tqdm(images.ids, desc="images", disable=None)):
            image = to_tensor(images.read(number)).to(device) / 255
            (people,) = model(image[None])
            results += to_results(people.to("cpu"), model.keypoint_names, identity, min(truth.person))
    return results


if __name__ == "__main__":
    run(main)
