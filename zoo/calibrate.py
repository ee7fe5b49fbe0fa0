"""Make a model's joint confidences probabilities: the chance that a joint lies where the model says.

    python -m dimofs.zoo.calibrate --weights runs/first/model --out calibrated                   # on synthetic clips
    python -m dimofs.zoo.calibrate --weights runs/first/model --out calibrated --coco people.json --coco-images DIR

A joint counts as right within a tenth of the square root of the area of the person's box. Only confidences change, not
the places of the joints (see dimofs.zoo.training.calibration).
"""

from pathlib import Path
from typing import Annotated

from dimofs.cli import Range, run
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
    half: Annotated[bool, "write float16, at half the size"] = False,
) -> None:
    sources = taught(data.or_synthetic(count).sources(), teacher)
    checkpoints.save(calibrated(weights, sources, count), out, {"calibrated": "yes"}, half)


if __name__ == "__main__":
    run(main)
