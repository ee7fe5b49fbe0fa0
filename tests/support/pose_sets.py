"""People who stand and walk, as pose files of every format, and eval.track run over them."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dimofs.eval import track
from dimofs.formats.posetrack import JOINTS
from tests.support.posetrack_sets import file17, file18, write

DATA = Path(__file__).parents[2] / "shared/data"
CASES, FORMATS = DATA / "posetrack_cases", ("posetrack17", "posetrack18", "jsonl")
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="the cases are not at ../shared/data/posetrack_cases")
NAME = {"posetrack17": "x.json", "posetrack18": "x.json", "jsonl": "x.jsonl"}


def stand(
    x: float, tall: float = 40.0, y: float = 0.0, score: float | None = 0.5, joints: Sequence[int] = range(15)
) -> dict:
    """A person 20 wide and `tall` high from (x, y); without scores if `score` is None."""
    points = {j: (x + 10 * (j % 3), y + tall * (j // 3) / 4, 0.0 if score is None else score) for j in joints}
    return {"track": 7, "points": points, "head": (x, y, 3.0, 4.0), "scored": score is not None}


def video(format: str, frames: list[list[dict]], **options) -> Any:
    """The content of a file of these people, without boxes; of JSON lines a list."""
    if format == "jsonl":
        return lines(frames)
    content = file17(frames, False) if format == "posetrack17" else file18(frames, False, **options)
    everyone = [person for people in frames for person in people]
    for entry, person in zip(entries(content), everyone, strict=True):
        entry.pop("bbox", None)
        if not person["scored"]:
            entry.pop("scores", None)
            for point in entry.get("annopoints", [{"point": []}])[0]["point"]:
                del point["score"]
    return content


def lines(frames: list[list[dict]]) -> list[dict]:
    lines: list[dict] = [{"source": "x.mp4", "width": 1000, "height": 1000, "keypoint_names": list(JOINTS)}]
    for f, people in enumerate(frames):
        lines.append({"frame": f, "time": f / 25, "people": []})
        for person in people:
            joints = [list(person["points"].get(j, (0.0, 0.0, 0.0))) for j in range(15)]
            lines[-1]["people"].append({"id": None, "keypoints": joints})
    return lines


def entries(content: Any) -> list[dict]:
    """The people's objects in the order of the file."""
    if isinstance(content, list):
        return [person for line in content[1:] for person in line["people"]]
    if "images" in content:
        return content["annotations"]
    return [person for frame in content["annolist"] for person in frame["annorect"]]


def save(path: Path, content: Any) -> Path:
    lines = isinstance(content, list)
    return write(path, "".join(json.dumps(line) + "\n" for line in content) if lines else content)


def load(path: Path) -> Any:
    binary = path.read_bytes()
    text = (gzip.decompress(binary) if binary[:2] == b"\x1f\x8b" else binary).decode()
    return [json.loads(line) for line in text.split("\n") if line] if path.suffix == ".jsonl" else json.loads(text)


NAME = {"posetrack17": "x.json", "posetrack18": "x.json", "jsonl": "x.jsonl"}


def tracked(folder: Path, content: Any, **options) -> Any:
    """The content of what the command makes of a file with this content."""
    name = "x.jsonl" if isinstance(content, list) else "x.json"
    track.main(pred=save(folder / "in" / name, content), out=folder / "out", **options)
    (result,) = (folder / "out").iterdir()
    found = load(result)
    result.unlink()
    return found


def ids(content: Any) -> list[int]:
    def one(person: dict) -> int:
        value = person["id" if isinstance(content, list) else "track_id"]
        return value[0] if isinstance(value, list) else value

    return [one(person) for person in entries(content)]


# A tall one goes right, 10 pixels a frame, and a small one left; the second frame lists them the other way round.
CROSSING = [[stand(10), stand(30, 20)], [stand(20, 20), stand(20)], [stand(30), stand(10, 20)]]


def furnished(format: str) -> Any:
    """A file with much that is not the tracker's."""
    content = video(format, CROSSING)
    for i, person in enumerate(entries(content)):
        person |= {"note": [i, {"é": None}], "num": 1.0}
    if format == "posetrack18":
        for person in content["annotations"]:
            person["keypoints"][9:15], person["scores"][3:5] = [1.5, 2, 1, 3, 4, 0], [0.125, None]
        content["images"][1] |= {"ignore_regions_x": [[1, 2, 3]], "ignore_regions_y": [[1, 2, 4]]}
        content["annotations"].reverse()
        content["licence"] = "x"
    elif format == "posetrack17":
        content["annolist"][1] |= {
            "imgnum": [2],
            "ignore_regions": [{"point": [{"x": [i], "y": [i * i]} for i in range(3)]}],
        }
        content["annolist"][0]["annorect"][0]["annopoints"][0]["point"].append({"id": [16], "x": [1], "y": [2]})
    else:
        content[0] |= {"fps": 29.97, "model": "ü\u2028\ud800", "delta": -3}
        content[1] |= {"file": "a b.jpg"}
    return content
