"""Find the pictures of nobody in which a model sees people, to train on: hard negatives.

    python -m dimofs.zoo.negatives --images PICTURES --weights runs/first/model --out hard.json
    python -m dimofs.zoo.train pose --out runs/second --init runs/first/model --coco people.json hard.json \
        --coco-images IMAGES PICTURES --coco-empty

Nobody may be seen on any picture of the folder and its subfolders. The file lists those in which the model reports a
person at --score or above, the surest first, in COCO's format and without annotations; each has its highest score as
`score`. If there are none, no file is written. A file that is named twice in --coco is drawn twice as often.

A model of something else needs the name of its category, as it stands in the file of its training:

    python -m dimofs.zoo.negatives --images PICTURES --weights runs/mice/best --category mouse --out hard.json
    python -m dimofs.zoo.train pose --out runs/second --init runs/mice/best --coco mice.json hard.json \
        --coco-images photos PICTURES --coco-empty
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import torch
from tqdm import tqdm

from dimofs.cli import RESULT, InputError, Range, run
from dimofs.files import write_json
from dimofs.formats.coco_results import PEOPLES_JOINTS, PERSON
from dimofs.images import read_image
from dimofs.pixels import to_tensor
from dimofs.skeletons import COCO_PERSON
from dimofs.sources import images_below
from dimofs.zoo import checkpoints
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.devices import pick_device


def main(
    *,
    images: Annotated[Path, "folder of pictures that show nobody"],
    out: Annotated[Path, "COCO file to write", RESULT],
    weights: Annotated[str, "model that must not see people there: a name or a checkpoint folder"] = "dimofs_mobile",
    score: Annotated[float, "lowest score of a person that makes a picture a hard one", Range(0, 1)] = 0.3,
    category: Annotated[str | None, "name of what the model finds (default: person)"] = None,
    most: Annotated[int | None, "keep at most this many pictures, the hardest ones", Range(1)] = None,
    size: Annotated[
        int | None, "longer side of the model's input, pixels (default: the model's own)", Range(32, 2**14)
    ] = None,
    device: Annotated[str | None, "cpu, cuda, ... (default: a GPU if there is one)"] = None,
) -> None:
    pictures = pictures_in(images, "--images", out=out)
    where = pick_device(device)
    model = checkpoints.load_as(PoseDetector, weights, where, size)
    found = _category(model, weights, category)
    seen = list(false_people(model, tqdm(pictures, unit="image", disable=None), images, where))
    hard = sorted((entry for entry in seen if entry["score"] >= score), key=lambda entry: -entry["score"])[:most]
    listed = [{"id": number, **entry} for number, entry in enumerate(hard, 1)]
    if listed:
        write_json(out, {"images": listed, "annotations": [], "categories": [found]})
    note = "" if listed else f"; {out} is not written"
    print(f"{len(listed)} of {len(pictures)} pictures are hard: a {found['name']} of score {score:g} or above{note}")


def pictures_in(folder: Path, option: str, **results: Path | None) -> list[Path]:
    """The images of the folder that an option names and of its subfolders, sorted.

    InputError: there are none, or one would be replaced by one of the `results`, by the names of their options.
    """
    if not folder.is_dir():
        raise InputError(f"{option} {folder}: no such folder; give one of pictures that show nobody")
    found = images_below(folder)
    if not found:
        raise InputError(f"{option} {folder}: no image there; give a folder of pictures that show nobody")
    real = {picture.resolve() for picture in found}
    for name, result in results.items():
        if result is not None and result.resolve() in real:
            raise InputError(f"--{name} {result}: is a picture of {option}; give another name")
    return found


def _category(model: PoseDetector, weights: str, name: str | None) -> dict:
    """COCO's entry of what the model finds. InputError: that is nothing with joints of people, and has no `name`."""
    joints = model.keypoint_names
    if name is None and not set(joints) <= PEOPLES_JOINTS:
        raise InputError(f"{weights}: does not find people; give the category of its training's file by --category")
    if name is None:
        return {"id": PERSON, "name": COCO_PERSON.name, "keypoints": [*COCO_PERSON.joints]}
    limbs = [[a + 1, b + 1] for a, b in model.limbs]
    return {"id": PERSON, "name": name, "keypoints": [*joints], "skeleton": limbs, "sigmas": [*model.sigmas]}


@torch.inference_mode()
def false_people(
    model: PoseDetector, pictures: list[Path] | tqdm, folder: Path, device: torch.device
) -> Iterator[dict]:
    """COCO's entry of each picture, its name relative to `folder`, with the highest score of a person as `score`."""
    for path in pictures:
        image = to_tensor(read_image(path)).to(device)
        (people,) = model(image[None], max_people=1)
        highest = float(people.scores[0]) if len(people) else 0.0
        name, (height, width) = path.relative_to(folder).as_posix(), image.shape[1:]
        yield {"file_name": name, "width": width, "height": height, "score": round(highest, 4)}


if __name__ == "__main__":
    run(main)
