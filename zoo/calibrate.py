"""Make a model's joint confidences probabilities: the chance that a joint lies where the model says.

    python -m dimofs.zoo.calibrate --weights runs/first/model --out calibrated                   # on synthetic clips
    python -m dimofs.zoo.calibrate --weights runs/first/model --out calibrated --coco people.json --coco-images DIR

A joint counts as right within a tenth of the square root of the area of the person's box. Only confidences change, not
the places of the joints (see dimofs.zoo.training.calibration).
"""

from pathlib import Path
from typing import Annotated

from dimofs.cli import run
from dimofs.zoo import checkpoints
from dimofs.zoo.training.calibration import calibrated
from dimofs.zoo.training.data import Coco, CocoImages, JhmdbClips, JhmdbLabels, LspetFolder, Paths, taught


def main(
    *,
    weights: Annotated[str, "checkpoint to calibrate"],
    out: Annotated[Path, "folder to write the calibrated checkpoint to"],
    jhmdb: JhmdbClips = None,
    jhmdb_labels: JhmdbLabels = None,
    coco: Coco = None,
    coco_images: CocoImages = None,
    lspet: LspetFolder = None,
    teacher: Annotated[str | None, "folder of labels written by python -m dimofs.zoo.label"] = None,
    every: Annotated[int, "JHMDB: one frame in so many, as labelled"] = 5,
    count: Annotated[int, "frames of each data set"] = 200,
    half: Annotated[bool, "write float16, at half the size"] = False,
) -> None:
    paths = Paths(jhmdb, jhmdb_labels, coco, coco_images, lspet).or_synthetic(count)
    sources = paths.sources(every=every)
    if teacher:
        sources = taught(sources, teacher)
    checkpoints.save(calibrated(weights, sources, count), out, {"calibrated": "yes"}, half)


if __name__ == "__main__":
    run(main)
