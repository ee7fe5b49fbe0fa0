#!/usr/bin/env bash
# pycocotools counts a person who is found perfectly as missed if the annotation's id is 0.
#
# COCOeval stores the id of the matched annotation for each detection and takes 0 for "not matched" when it sums up.
# COCO's format asks for unique ids only, and tools that number annotations from 0 are common. The first annotation of
# such a file then gives a miss and a false alarm, and no warning. With one id for all annotations, only the last of them
# is compared at all.
#
# Prints versions and what happens. Exits non-zero if the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pycocotools==2.0.11 numpy==2.4.6
cat > "$folder/show.py" <<'PYTHON'
import contextlib
import importlib.metadata
import io

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def average_precision(ids: list[int]) -> float:
    """AP of two boxes that are found exactly, annotated with these ids."""
    boxes = [[10.0, 10, 50, 100], [200.0, 10, 50, 100]]
    shared = {"image_id": 1, "category_id": 1}
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": 1}],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {"id": i, "bbox": box, "area": 5000.0, "iscrowd": 0, **shared} for i, box in zip(ids, boxes, strict=True)
        ],
    }
    truth.createIndex()
    found = truth.loadRes([{"bbox": box, "score": 0.9 - n / 10, **shared} for n, box in enumerate(boxes)])
    judge = COCOeval(truth, found, "bbox")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    return float(judge.stats[0])


print("pycocotools", importlib.metadata.version("pycocotools"), "numpy", importlib.metadata.version("numpy"))
figures = {}
for name, ids in {"1 and 2": [1, 2], "0 and 1": [0, 1], "7 and 7": [7, 7]}.items():
    with contextlib.redirect_stdout(io.StringIO()):
        figures[name] = average_precision(ids)
    print(f"AP of two boxes found exactly, annotation ids {name}: {figures[name]:.3f}")
assert figures["1 and 2"] > 0.999
assert figures["0 and 1"] < 0.6
assert figures["7 and 7"] < 0.6
PYTHON
"$folder/venv/bin/python" "$folder/show.py"
