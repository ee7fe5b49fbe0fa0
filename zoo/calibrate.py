"""Make a model's scores probabilities: that a joint lies where the model says, that a person is there.

    python -m dimofs.zoo.calibrate --weights runs/first/model --out calibrated                   # on synthetic clips
    python -m dimofs.zoo.calibrate --weights runs/first/model --out calibrated --coco people.json --coco-images DIR
    python -m dimofs.zoo.calibrate --weights calibrated --out scored --no-joints --people \
        --coco people.json nobody.json --coco-images DIR PICTURES --coco-empty

A joint counts as right within a tenth of the square root of the area of the person's box. Only confidences change, not
the places of the joints. --people makes the score of a person one of the box and the joints together, so that who has
no sure joints is no person; it should see images of people and images of nobody which the model was not trained on. At
0.5 precision then equals recall on the images of people (see dimofs.zoo.training.calibration).
"""

from pathlib import Path
from typing import Annotated

from dimofs.cli import InputError, Range, run
from dimofs.files import check_writable
from dimofs.zoo import checkpoints
from dimofs.zoo.training.calibration import calibrated
from dimofs.zoo.training.data import Paths, Teacher, taught


def main(
    *,
    weights: Annotated[str, "checkpoint to calibrate"],
    out: Annotated[Path, "folder to write the calibrated checkpoint to"],
    data: Paths,
    teacher: Teacher = None,
    count: Annotated[int, "frames of each data set", Range(1)] = 200,
    joints: Annotated[bool, "calibrate the confidences of joints"] = True,
    people: Annotated[bool, "calibrate the scores of people, by box and joints"] = False,
    half: Annotated[bool, "write float16, at half the size"] = False,
) -> None:
    if not joints and not people:
        raise InputError("--no-joints: nothing is left to calibrate; add --people")
    check_writable(out / checkpoints.WEIGHTS)
    sources = taught(data.or_synthetic(count).sources(), teacher)
    model = calibrated(weights, sources, count, joints=joints, people=people)
    checkpoints.save(model, out, {"calibrated": "yes"}, half)


if __name__ == "__main__":
    run(main)
