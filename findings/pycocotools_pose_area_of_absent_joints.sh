#!/usr/bin/env bash
# pycocotools takes joints that a model does not have, written as 0 0 0, for a part of the pose's area.
#
# COCO.loadRes computes the area of a result that has keypoints and no box from the extent of all 17 joints. COCO's format
# writes a joint that is not there as x = y = v = 0, and models of fewer joints do so in results. One such joint stretches
# the pose to the corner of the image. A wrong pose of medium size then counts as a false alarm among the large people
# and no longer among the medium ones, so that APm and APl change, although the pose is the same. With "bbox" in the
# results the area is that of the box.
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

SHARED = {"image_id": 1, "category_id": 1}


def pose(x: float, absent: bool = False) -> list[float]:
    """17 joints on a diagonal of 80 pixels that begins at (x, 300), of which the first may be absent."""
    joints = [value for j in range(17) for value in (x + 5.0 * j, 300 + 5.0 * j, 1)]
    return [0, 0, 0, *joints[3:]] if absent else joints


def average_precision(absent: bool, box: bool) -> tuple[float, float]:
    """APm and APl: a person of medium size who is found, behind a false alarm of the same size, and a large person."""
    people = [(pose(400), 80.0), ([v * 2 if i % 3 < 2 else v for i, v in enumerate(pose(50))], 160.0)]
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": 1}],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {"id": n, "bbox": [*joints[:2], side, side], "area": side * side, "iscrowd": 0, "keypoints": joints,
             "num_keypoints": 17, **SHARED}
            for n, (joints, side) in enumerate(people, 1)
        ],
    }
    truth.createIndex()
    alarm = {"keypoints": pose(900, absent), "score": 0.9, **SHARED}
    right = [{"keypoints": joints, "score": 0.8, **SHARED} for joints, _ in people]
    results = [alarm, *right]
    if box:
        for result, side in zip(results, (80.0, 80.0, 160.0), strict=True):
            result["bbox"] = [result["keypoints"][3], result["keypoints"][4], side, side]
    judge = COCOeval(truth, truth.loadRes(results), "keypoints")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    return float(judge.stats[3]), float(judge.stats[4])


print("pycocotools", importlib.metadata.version("pycocotools"), "numpy", importlib.metadata.version("numpy"))
figures = {}
for absent, box in ((False, False), (True, False), (True, True)):
    with contextlib.redirect_stdout(io.StringIO()):
        figures[absent, box] = average_precision(absent, box)
    what = f"{'one joint 0 0 0' if absent else 'all joints'} in the false alarm, {'with' if box else 'without'} boxes"
    print(f"{what}: APm {figures[absent, box][0]:.3f}, APl {figures[absent, box][1]:.3f}")
assert figures[False, False][0] < 0.6 and figures[False, False][1] > 0.99
assert figures[True, False][0] > 0.99 and figures[True, False][1] < 0.6
assert figures[True, True] == figures[False, False]
PYTHON
"$folder/venv/bin/python" "$folder/show.py"
