"""Keypoint AP and person box AP on COCO-format stills, of a model or of a results file, computed by pycocotools.

    python -m dimofs.eval.coco                                   # the shipped model on 60 synthetic stills
    python -m dimofs.eval.coco --gt person_keypoints_val2017.json --images val2017 --weights dimofs_mobile
    python -m dimofs.eval.coco --gt person_keypoints_val2017.json --images val2017 --weights MOVENET_FOLDER --size 512
    python -m dimofs.eval.coco --gt person_keypoints_val2017.json --pred results.json
    python -m dimofs.eval.coco --gt person_keypoints_val2017.json --images val2017 --boxes labelled --errors
    python -m dimofs.eval.coco --gt people.json --images DIR --nobody PICTURES --score 0.4
    python -m dimofs.eval.coco --gt mice.json --images photos --weights runs/mice/best

Definition: COCO's, area range "all" unless the column says otherwise, 20 poses and 100 boxes per image. Every image of
--gt counts. Boxes are ranked by their scores, poses by the box's score times the mean confidence of the joints above
0.2, for every model alike; python -m dimofs.zoo.pose --format coco writes the same results as --save.

A results file is COCO's list of {"image_id", "category_id", "keypoints", "score"} with 17 joints, of {"bbox", "score"},
or of both. Where an entry has "box_score", its box is ranked by that. People are found by the name of their category
("person") in --gt. Another --category, or the only one with joints in a file without people, is scored with its own
joints and the sigmas of --sigmas or of the file's field "sigmas" (default: a shoulder's). Ids of annotations may start
anywhere and repeat. An area of 0, a coordinate or score that is no number, or an unknown image is an error. COCO puts
pixel centres at integers, our models at integer + 0.5: predictions are shifted by half a pixel. Needs the extra
`dimofs[eval]`.

--errors adds a table of what goes wrong with the joints (see dimofs.eval.keypoints.coco_errors) and what each kind of
error costs. To learn what bounds a model, compare it with --boxes labelled, where it only places joints in the labelled
boxes, and with a teacher's joints in the same boxes, as a results file of --pred. --nobody DIR counts the people that
are reported on pictures which show nobody, at --score and above, beside recall and precision on --gt at that score (a
box is right at an IoU of 0.5; it counts neither way if half of it lies in a crowd).
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

import torch
from tqdm import tqdm

from dimofs.cli import RESULT, InputError, Range, run
from dimofs.datasets.synthetic.clips import HELD_OUT, Synthetic
from dimofs.datasets.synthetic.stills import write_stills
from dimofs.eval.exclusions import check_options
from dimofs.eval.keypoints.coco_ap import (
    CocoTruth,
    check_installed,
    evaluate,
    parse_results,
    parse_truth,
    read_results,
    read_truth,
)
from dimofs.eval.keypoints.coco_errors import diagnose, error_lines
from dimofs.eval.keypoints.false_people import count_people, labelled_boxes, reported
from dimofs.eval.models import PoseModel, check_joints, in_boxes, load_model
from dimofs.eval.worst import worst_stills
from dimofs.files import write_json
from dimofs.formats.coco_images import CocoImages
from dimofs.formats.coco_results import to_results
from dimofs.pages.report import recorded
from dimofs.pixels import to_tensor
from dimofs.skeletons import COCO
from dimofs.zoo.devices import pick_device
from dimofs.zoo.negatives import pictures_in

# Synthetic stills that are made where no ground truth is given.
STILLS = 60
# The score from which `dimofs.zoo.pose` reports people.
REPORTED_SCORE = 0.5
SIGMAS = Range(1e-6, 1e6)
MODELS_OWN = ("images", "weights", "size", "device", "save", "boxes", "nobody")
CONFLICTS = (
    (("pred",), MODELS_OWN, "no model runs where a file is evaluated"),
    (("boxes",), ("nobody",), "given boxes say nothing about the people that a model reports"),
)
NEEDS = (
    (("images", "pred", "category", "sigmas"), ("gt",), "the ground truth"),
    (("score",), ("nobody",), "it is the score to report at"),
)


def main(
    *,
    gt: Annotated[Path | None, "ground truth: COCO keypoints, or as train's --coco (default: synthetic stills)"] = None,
    images: Annotated[Path | None, "folder of the images that the ground truth names"] = None,
    weights: Annotated[str, "model to run: a name or a checkpoint folder"] = "dimofs_mobile",
    category: Annotated[str | None, "what is evaluated (default: person, or the only one with joints)"] = None,
    sigmas: Annotated[list[float] | None, "of OKS, one for each joint (default: COCO's or the file's)", SIGMAS] = None,
    pred: Annotated[Path | None, "evaluate this results file instead of a model"] = None,
    size: Annotated[int | None, "longer side of the model's input (default: the model's own)", Range(32, 4096)] = None,
    boxes: Annotated[
        Literal["found", "labelled"], "place joints in the model's own boxes, or in the labelled"
    ] = "found",
    errors: Annotated[bool, "also print the kinds of errors and what each costs"] = False,
    nobody: Annotated[Path | None, "also count the people reported on this folder's pictures of nobody"] = None,
    score: Annotated[float, "lowest score of a person who is reported, for --nobody", Range(0, 1)] = REPORTED_SCORE,
    device: Annotated[str | None, "cpu, cuda, cuda:1, ... (default: a GPU if there is one)"] = None,
    save: Annotated[Path | None, "write the model's results here, COCO results format", RESULT] = None,
    json: Annotated[Path | None, "write the figures here", RESULT] = None,
    html: Annotated[Path | None, "write tables and the people found worst here as a page", RESULT] = None,
) -> None:
    check_options(main, locals(), conflicts=CONFLICTS, needs=NEEDS)
    check_installed()
    empty = [] if nobody is None else pictures_in(nobody, "--nobody", save=save, json=json, html=html)
    model = None
    with TemporaryDirectory() as folder, recorded(html, "Poses and boxes by COCO's definition") as page:
        if gt is None:
            images = Path(folder)
            truth = parse_truth("synthetic stills", write_stills(images, Synthetic(STILLS, seed=HELD_OUT)))
        else:
            truth = read_truth(gt, images, category, sigmas)
        if pred is not None:
            results = read_results(pred, truth)
        elif images is not None:
            here = pick_device(device)
            model = load_model(weights, size, here)
            found = predict(model, truth, images, here, labelled=boxes == "labelled")
            results = parse_results(weights, found, truth)
        else:
            raise InputError("--gt needs --images DIR, the folder of its images, or --pred FILE")
        if save is not None:
            write_json(save, results)
        people = truth.skeleton.joints == COCO
        if errors and not people:
            raise InputError(f"--errors: is about people, and {gt} labels {truth.skeleton.name}; leave it out")
        figures = evaluate(truth, results)
        stills = "COCO" if gt else "synthetic stills"
        print(f"{stills}, {len(truth.images)} images, {weights if pred is None else pred}")
        if truth.repeated:
            print(f"note: {truth.file}: {truth.repeated} people have the id of another one; all were numbered anew")
        for kind, stats in figures.items():
            print("".join(f"{name:>8}" for name in ("", *stats)))
            print(f"{kind:>8}" + "".join(f"{_figure(value):>8}" for value in stats.values()))
        content: dict = {"definition": "coco", **figures}
        if errors:
            content["errors"] = _errors(truth, results)
        if model is not None and empty:
            content["reported"] = _reported(model, truth, results, empty, score)
        if json is not None:
            write_json(json, content)
        drawn = (
            page.picture(None, "The people found worst: labels left, poses right", ".png")
            if images is not None and people
            else None
        )
        if drawn is not None and images is not None:
            worst_stills(drawn, truth, results, CocoImages(truth.file, truth.images, images))


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _errors(truth: CocoTruth, results: list[dict]) -> dict:
    """Print the kinds of errors; returns them for --json. InputError: the results have no joints."""
    if results and "keypoints" not in results[0]:
        raise InputError("--errors: the results have boxes only; give results with keypoints")
    table = diagnose(truth, results)
    print(*error_lines(table), sep="\n")
    return table


def _reported(model: PoseModel, truth: CocoTruth, results: list[dict], empty: list[Path], score: float) -> dict:
    """Print how many people are reported rightly and wrongly at a score; returns the figures for --json."""
    recall, precision = reported(truth, results, score)
    people = sum(count_people(model, tqdm(empty, desc="nobody", disable=None), score))
    shares = [f"{name} {_figure(value)}" for name, value in (("recall", recall), ("precision", precision))]
    print(f"score {score:g} and above: {', '.join(shares)}; {people} people on {len(empty)} pictures of nobody")
    return {"score": score, "recall": recall, "precision": precision, "pictures": len(empty), "false_people": people}


def predict(
    model: PoseModel, truth: CocoTruth, folder: Path, device: str | torch.device = "cpu", *, labelled: bool = False
) -> list[dict]:
    """COCO results of the model: its people in those images of `folder` that the ground truth names.

    labelled: take the boxes of the labelled people, crowds excepted, and only place their joints.
    InputError: an image is absent, damaged, outside the folder, or of another size than the ground truth states.
    """
    results, images = [], CocoImages(truth.file, truth.images, folder)
    names, joints = model.keypoint_names, truth.skeleton.joints
    check_joints(model, joints, truth.file)
    images.check_present(range(len(images)))
    boxes = labelled_boxes(truth)
    with torch.inference_mode():
        for number, identity in enumerate(tqdm(images.ids, desc="images", disable=None)):
            image = to_tensor(images.read(number)).to(device) / 255
            people = in_boxes(model, image, boxes[identity]) if labelled else model(image[None])[0]
            results += to_results(people.to("cpu"), names, identity, min(truth.person), joints)
    return results


if __name__ == "__main__":
    run(main)
