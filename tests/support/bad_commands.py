"""The commands that `tests.bad_inputs` gives bad input to: what works, and the files that it reads."""

from __future__ import annotations

import importlib
import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dimofs.cli import run as run_command
from dimofs.skeletons import COCO
from dimofs.zoo import checkpoints
from tests.support import sandbox
from tests.support.clips import picture, write_clip, write_image
from tests.support.pose_sets import save, stand, video
from tests.support.posetrack_sets import file18, person
from tests.support.tiny import tiny_action, tiny_model, tiny_recognizer


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is tried. entry: the command, "api" or "kernels". must_fail: no result can be right."""

    entry: str
    name: str
    action: Callable[[], object]
    check: Callable[[Path], bool] | None = None
    must_fail: bool = False

    def run(self, template: Path) -> sandbox.Outcome:
        return sandbox.run(self.action, template, self.check, must_fail=self.must_fail)


# What each command is given: everything here works and ends within a second or two.
LINES = {
    "zoo.pose": "--video x.mp4 --weights model --device cpu --quiet",
    "zoo.action": "--video x.mp4 --weights acts --device cpu --quiet",
    "zoo.label": "--weights movenet --out made --coco people.json --coco-images images --size 64",
    "zoo.train": "pose --out made --synthetic 2 --steps 1 --batch 1 --canvas 64 --workers 0 --quiet",
    "zoo.calibrate": "--weights model --out made --coco people.json --coco-images images --count 2",
    "zoo.convert": "graph.json --out made",
    "zoo.export": "--weights model --out made.pt2 --height 64 --width 64",
    "eval.posetrack": "--gt gt.json --pred pred.json --json figures.json",
    "eval.coco": "--gt people.json --pred results.json --json figures.json",
    "eval.pck": "--weights model --size 64 --json figures.json",
    "eval.jhmdb": "--gt actions.json --pred acts.json --json figures.json",
    "eval.track": "--pred poses.jsonl --out made",
    "eval.claim": "--out made --steps 1 --batch 1 --size 64 --videos 1 --longer 64 --seeds 0 --runs dimofs",
    "eval.speed": "kernels --quick --only nothing",
    "eval.traffic": "",
    "zoo.recognize": "--video x.mp4 --weights clips --device cpu --quiet",
    "zoo.propagate": "--labels tracked.json --video x.mp4 --weights model --device cpu --quiet",
    "zoo.extract": "--clips classes --cache made --every 3 --device cpu --quiet",
    "zoo.negatives": "--images images --out made.json --weights model --size 64 --device cpu",
    "zoo.motion": "--video x.mp4 --weights model --device cpu --quiet",
    "zoo.models": "--card dimofs_mobile",
    "eval.diving48": "--clips classes --stage features --cache made --every 3",
    "eval.dives": "--out made --train 1 --test 1 --kinds 2 --length 8 --quiet",
    "eval.carry": "--weights model --size 64 --videos 1 --every 9 --device cpu --json figures.json",
    "eval.motion": "--weights model --figure 3 --video x.mp4 --deltas 2 --rows 2 --size 64 --device cpu --out made.png",
}
COMMANDS = {entry: shlex.split(line) for entry, line in LINES.items()}
# Options that say how much to do: a huge value is a wish, not a mistake.
AMOUNTS = {
    "--steps", "--count", "--videos", "--synthetic", "--seeds", "--longer", "--save-every", "--validate", "--held-out",
    "--benchmark", "--workers", "--batch", "--unfreeze", "--most", "--clips", "--starts", "--every",
}  # fmt: skip


def make_template(folder: Path) -> None:
    """The files that COMMANDS name."""
    write_clip(folder / "x.mp4", 8)
    (folder / "images").mkdir()
    for i in range(2):
        write_image(folder / f"images/{i + 1}.png", picture(i))
    (folder / "people.json").write_text(json.dumps(coco_labels()))
    (folder / "results.json").write_text(json.dumps(coco_results()))
    truth = [[person(0), person(1, y=500)]] * 3
    save(folder / "gt.json", file18(truth, True))
    save(folder / "pred.json", file18(truth, False))
    (folder / "actions.json").write_text(json.dumps(action_labels()))
    acts = [{"video": "x", "frame": 0, "label": 0, "score": 0.9, "box": [0, 0, 9, 9]}]
    (folder / "acts.json").write_text(json.dumps(acts))
    save(folder / "poses.jsonl", video("jsonl", [[stand(0), stand(100)]] * 3))
    (folder / "graph.json").write_text(json.dumps({"format": "graph-model", "weightsManifest": []}))
    checkpoints.save(tiny_model(), folder / "model", {})
    checkpoints.save(tiny_action(["wave", "sit"]), folder / "acts", {})
    checkpoints.save(tiny_recognizer(["wave", "sit"]), folder / "clips", {})
    (folder / "tracked.json").write_text(json.dumps(tracked_labels()))
    # Clips of equal bytes would be measured once.
    for length, name in enumerate(("train/wave/a", "train/sit/b", "test/wave/c"), 6):
        (folder / "classes" / name).parent.mkdir(parents=True, exist_ok=True)
        write_clip(folder / f"classes/{name}.mp4", length)
    torch.save({"backbone.body.conv1.weight": torch.zeros(64, 3, 7, 7)}, folder / "x.pth")
    np.savez(folder / "labels.npz", names=np.array(["1.png"]), counts=np.array([0]))


def action_labels() -> dict:
    """One frame with one person, whom acts.json finds exactly."""
    boxes = [{"label": 0, "box": [0, 0, 9, 9]}]
    return {"classes": ["wave"], "gt": [{"video": "x", "frame": 0, "boxes": boxes}]}


def coco_labels() -> dict:
    """Two images with a person each, whom `coco_results` finds exactly."""
    joints = [value for j in range(17) for value in (10 + 2 * j, 5 + 2 * j, 2)]
    person = {"category_id": 1, "bbox": [8, 4, 40, 40], "area": 1000.0, "iscrowd": 0, "num_keypoints": 17}
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 64, "height": 48} for i in (1, 2)],
        "annotations": [person | {"id": i, "image_id": i, "keypoints": joints} for i in (1, 2)],
        "categories": [{"id": 1, "name": "person"}],
    }


def tracked_labels() -> dict:
    """One person in the first and in the sixth frame of x.mp4."""
    labels = coco_labels()
    for number, (image, entry) in enumerate(zip(labels["images"], labels["annotations"], strict=True)):
        image |= {"file_name": f"{5 * number}.png", "width": 64, "height": 48}
        entry |= {"track_id": 7}
    labels["categories"][0]["keypoints"] = list(COCO)
    return labels


def coco_results() -> list[dict]:
    people = coco_labels()["annotations"]
    kept = ("image_id", "category_id", "bbox", "keypoints")
    return [{name: person[name] for name in kept} | {"score": 0.9} for person in people]


def command(entry: str, words: list[str]) -> Callable[[], object]:
    return lambda: run_command(importlib.import_module(f"dimofs.{entry}").main, words)


def without(words: list[str], option: str) -> list[str]:
    """The words without an option and its values."""
    if option not in words:
        return words
    start = words.index(option)
    end = next((i for i in range(start + 1, len(words)) if words[i].startswith("--")), len(words))
    return words[:start] + words[end:]


def replaced(words: list[str], option: str, *values: str) -> list[str]:
    """The words with other values of an option, which is added where it is absent."""
    return [*without(words, option), option, *values]


# Each file that a command reads, with the option that names it.
INPUTS = [
    ("zoo.pose", "--video", "x.mp4"),
    ("zoo.pose", "--video", "images/1.png"),
    ("zoo.pose", "--weights", "model/config.json"),
    ("zoo.pose", "--weights", "model/model.safetensors"),
    ("zoo.pose", "--weights", "x.pth"),
    ("zoo.convert", "", "graph.json"),
    ("zoo.convert", "", "x.pth"),
    ("zoo.calibrate", "--coco", "people.json"),
    ("zoo.train", "--coco", "people.json"),
    ("zoo.train", "--teacher", "labels.npz"),
    ("eval.posetrack", "--gt", "gt.json"),
    ("eval.posetrack", "--pred", "pred.json"),
    ("zoo.action", "--video", "x.mp4"),
    ("eval.jhmdb", "--gt", "actions.json"),
    ("eval.jhmdb", "--pred", "acts.json"),
    ("eval.coco", "--gt", "people.json"),
    ("eval.coco", "--pred", "results.json"),
    ("eval.track", "--pred", "poses.jsonl"),
    ("eval.track", "--pred", "pred.json"),
    ("zoo.recognize", "--video", "x.mp4"),
    ("zoo.recognize", "--weights", "clips/config.json"),
    ("zoo.recognize", "--weights", "clips/model.safetensors"),
    ("zoo.action", "--weights", "acts/config.json"),
    ("zoo.action", "--weights", "acts/model.safetensors"),
    ("zoo.propagate", "--labels", "tracked.json"),
    ("zoo.propagate", "--video", "x.mp4"),
    ("zoo.extract", "--clips", "classes/train/wave/a.mp4"),
    ("zoo.negatives", "--images", "images/1.png"),
    ("eval.diving48", "--clips", "classes/test/wave/c.mp4"),
    ("eval.motion", "--video", "x.mp4"),
    ("zoo.motion", "--video", "x.mp4"),
]


def given(entry: str, option: str, file: str) -> list[str]:
    """The command's words that make it read this file."""
    words = COMMANDS[entry]
    if not option:
        return [file, *words[1:]]
    # Files within what the command is given anyway.
    if file.startswith(("model/", "clips/", "acts/", "classes/", "images/")) and option != "--video":
        return words
    if option == "--teacher":
        return [*replaced(words, "--coco", "people.json"), "--coco-images", "images", "--teacher", "."]
    if (entry, option) == ("zoo.train", "--coco"):
        return [*replaced(words, option, file), "--coco-images", "images"]
    return replaced(words, option, file)
