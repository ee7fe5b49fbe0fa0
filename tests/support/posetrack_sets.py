"""Made-up PoseTrack files for tests, and the figures of the command for them."""

import gzip
import json
from collections.abc import Iterable
from pathlib import Path

from dimofs.eval import posetrack
from dimofs.formats.posetrack import JOINTS

NAMES = ["head_bottom" if name == "neck" else name for name in JOINTS]
NAMES17 = [*NAMES[:3], "left_ear", "right_ear", *NAMES[3:]]
FOLDER = "000342_mpii_test"


def person(track: int, x: float = 0.0, y: float = 0.0, score: float = 0.9, joints: Iterable[int] = range(15)) -> dict:
    """Joint j at (x + 100 j, y); the head box has a diagonal of 50, so that 0.5 head sizes are 15 pixels."""
    return {"track": track, "points": {j: (x + 100 * j, y, score) for j in joints}, "head": (x, y, 30.0, 40.0)}


def file18(
    frames: list[list[dict]], truth: bool, regions=None, names=NAMES17, folders: str | list[str] = FOLDER
) -> dict:
    """A PoseTrack18 file of frames of people; `regions`: {frame: polygons}; `folders`: of all images, or of each."""
    images, annotations = [], []
    for f, people in enumerate(frames):
        folder = folders if isinstance(folders, str) else folders[f]
        images.append({"id": 100 + f, "file_name": f"images/{folder}/{f:06d}.jpg"})
        if regions and f in regions:
            for axis in (0, 1):
                images[-1][f"ignore_regions_{'xy'[axis]}"] = [[p[axis] for p in polygon] for polygon in regions[f]]
        for p in people:
            places = [p["points"].get(NAMES.index(n)) if n in NAMES else None for n in names]
            entry = {"image_id": 100 + f, "track_id": p["track"], "bbox": [p["head"][0], -20.0, 1500.0, 40.0]}
            entry["keypoints"] = [v for place in places for v in ((*place[:2], 1) if place else (0, 0, 0))]
            if truth:
                entry["bbox_head"] = list(p["head"])
            else:
                entry["scores"] = [place[2] if place else 0.0 for place in places]
            annotations.append(entry)
    return {"images": images, "annotations": annotations, "categories": [{"name": "person", "keypoints": list(names)}]}


def file17(frames: list[list[dict]], truth: bool, regions=None) -> dict:
    """The same as a PoseTrack17 file."""
    content = []
    for f, people in enumerate(frames):
        rects = []
        for p in people:
            points = [{"id": [j], "x": [x], "y": [y], "score": [s]} for j, (x, y, s) in p["points"].items()]
            rects.append({"track_id": [p["track"]], "annopoints": [{"point": points}]})
            if truth:
                x, y, w, h = p["head"]
                rects[-1] |= {"x1": [x], "y1": [y], "x2": [x + w], "y2": [y + h]}
        content.append({"image": [{"name": f"images/{FOLDER}/{f:06d}.jpg"}], "annorect": rects})
        if regions and f in regions:
            content[-1]["ignore_regions"] = [{"point": [{"x": [x], "y": [y]} for x, y in r]} for r in regions[f]]
    return {"annolist": content}


def write(path: Path, content) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def evaluate(tmp_path: Path, truth, predicted, **options) -> dict:
    """The JSON of the command for two files' contents."""
    gt, pred = write(tmp_path / "gt.json", truth), write(tmp_path / "pred.json", predicted)
    posetrack.main(gt=gt, pred=pred, json=tmp_path / "figures.json", **options)
    return json.loads((tmp_path / "figures.json").read_text())


def both(tmp_path: Path, truth: list[list[dict]], predicted: list[list[dict]], regions=None, **options) -> dict:
    return evaluate(tmp_path, file18(truth, True, regions), file18(predicted, False), **options)


def constant(result: dict, name: str) -> float:
    """A figure that is the same for all joints, and so for the total."""
    assert len(result[name]) == 16 and max(result[name]) - min(result[name]) < 1e-9
    return result[name][-1]
