"""Bad and awkward inputs to every command, to the Python interface and to the kernels.

    python -m tests.bad_inputs                 # all, a table and a line for each that ends badly; exit status 1 then
    python -m tests.bad_inputs --only pose     # those whose name holds a word
    python -m tests.bad_inputs --list

A command must end with one clear line and exit status 2, or give the right result: no traceback, no crash, no run that
does not end, no more than 2.5 GB, nothing left behind and nothing silently wrong. A part runs in the test suite.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import random
import shutil
import struct
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from dimofs.cli import parser
from dimofs.cli import run as run_command
from dimofs.zoo import checkpoints
from tests.support import sandbox
from tests.support.bad_commands import (
    AMOUNTS,
    COMMANDS,
    INPUTS,
    Case,
    coco_labels,
    coco_results,
    command,
    given,
    make_template,
    replaced,
    without,
)
from tests.support.bad_files import BROKEN_BYTES, BROKEN_VALUES, STRANGE_NAMES, broken_json, make_device
from tests.support.bad_options import clash_cases, newer_cases
from tests.support.tiny import TINY, tiny, tiny_action, tiny_recognizer

# --- cases -----------------------------------------------------------------------------------------------------------


def number_cases() -> Iterator[Case]:
    """Every number of every command: not a number, infinite, negative, huge, and what only looks like one."""
    for entry, words in COMMANDS.items():
        for action in parser(importlib.import_module(f"dimofs.{entry}").main)._actions:
            if action.type not in (int, float) or not action.option_strings:
                continue
            option = action.option_strings[0]
            huge = "1e30" if action.type is float else "9" * 25
            for value in ("nan", "inf", "-1", "²", "", huge):
                if value == huge and option in AMOUNTS:
                    continue
                yield Case(
                    entry=entry,
                    name=f"{option} {value[:9]!r}",
                    action=command(entry, [*without(words, option), f"{option}={value}"]),
                    must_fail=value in ("nan", "inf", "²", ""),
                )


DEVICES = ("mars", "cuda:99", "cuda:-1", "cpu:7", "", "cuda:x", "meta", "mps")
CHOICES = (
    "--tracker", "--dtype", "--variant", "--recipe", "--model", "--mix", "--format", "--runs", "--save-motion", "--ray",
    "--stage", "--rows", "--names", "--carrier", "--card", "--init", "--weights",
)  # fmt: skip


def word_cases() -> Iterator[Case]:
    """Every choice and device of every command."""
    for entry, words in COMMANDS.items():
        for option in parser(importlib.import_module(f"dimofs.{entry}").main)._option_string_actions:
            values = DEVICES if option == "--device" else ("nothing", "", "²") if option in CHOICES else ()
            for value in values:
                yield Case(
                    entry=entry,
                    name=f"{option} {value!r}",
                    action=command(entry, replaced(words, option, value)),
                    # Files are scored without a model, so there the device does not matter.
                    must_fail=value != "cpu:7" and entry not in ("eval.posetrack", "eval.coco"),
                )


def file_cases() -> Iterator[Case]:
    """Every file damaged in every way of BROKEN_BYTES; what still opens may give a result."""
    for entry, option, file in INPUTS:
        for name, spoil in BROKEN_BYTES.items():

            def action(entry=entry, option=option, file=file, spoil=spoil, name=name) -> None:
                target = Path("coco.npz" if option == "--teacher" else file)
                shutil.copyfile(file, target) if target.name == "coco.npz" else None
                spoil(target, random.Random(name))
                command(entry, given(entry, option, file))()

            yield Case(entry=entry, name=f"{file}: {name}", action=action, must_fail=name in ("absent", "empty"))


def json_cases() -> Iterator[Case]:
    """Single values of JSON files replaced or removed, where in the file and by what drawn at random."""
    for entry, option, file in INPUTS:
        if not file.endswith((".json", ".jsonl")):
            continue
        for number in range(9):

            def action(entry=entry, option=option, file=file, number=number) -> None:
                broken_json(Path(file), random.Random(f"{file} {number}"))
                command(entry, given(entry, option, file))()

            yield Case(entry=entry, name=f"{file}: a value replaced, {number}", action=action)


NAMED = (
    ("eval.posetrack", "--gt"), ("eval.coco", "--gt"), ("eval.track", "--pred"), ("zoo.pose", "--weights"),
    ("zoo.train", "--init"),
)  # fmt: skip


def name_cases() -> Iterator[Case]:
    """Files of strange names hold the same as others; names that cannot exist are told."""

    def frames(folder: Path) -> bool:
        return any(len(path.read_text().splitlines()) == 9 for path in folder.rglob("*.poses.jsonl"))

    for label, name in STRANGE_NAMES.items():

        def pose(name=name) -> None:
            if "\0" not in name and len(name) < 200:
                os.rename("x.mp4", name)
            run_command(
                importlib.import_module("dimofs.zoo.pose").main, replaced(COMMANDS["zoo.pose"], "--video", name)
            )

        yield Case(entry="zoo.pose", name=f"--video {label}", action=pose, check=frames)
        for entry, option in NAMED:
            words = replaced(COMMANDS[entry], option, name)
            yield Case(entry=entry, name=f"{option} absent, {label}", action=command(entry, words), must_fail=True)
    for entry in ("eval.posetrack", "eval.coco"):
        for label, name in STRANGE_NAMES.items():
            words = replaced(COMMANDS[entry], "--json", name)
            yield Case(entry=entry, name=f"--json {label}", action=command(entry, words))


def output_cases() -> Iterator[Case]:
    """Results to folders, devices, pipes and files that are no folder: told, and never replaced."""
    places: dict[str, Callable[[Path], object]] = {
        "a file in the way": lambda path: path.write_text("mine"),
        "a pipe": os.mkfifo,
        "a link to nowhere": lambda path: path.symlink_to("no/where"),
        "a link to itself": lambda path: path.symlink_to(path.name),
        "a device": lambda path: make_device(path, 7),
    }
    for entry, words in COMMANDS.items():
        option = next((o for o in ("--json", "--out", "--cache") if o in words), "--out")
        if entry in ("eval.traffic", "eval.speed", "eval.claim", "zoo.models"):
            continue
        for label, make in places.items():

            def action(entry=entry, words=words, option=option, make=make) -> None:
                make(Path("target"))
                command(entry, replaced(words, option, "target"))()

            def kept(folder: Path, label=label) -> bool:
                path = folder / "target"
                if "link" in label:
                    return path.is_symlink()
                return path.is_fifo() if label == "a pipe" else label != "a device" or not path.is_file()

            yield Case(entry=entry, name=f"{option} {label}", action=action, check=kept)
        for value in (".", "no\0name", "x" * 5000, ""):
            words_ = replaced(words, option, value)
            yield Case(entry=entry, name=f"{option} {value[:12]!r}", action=command(entry, words_))


def environment_cases() -> Iterator[Case]:
    """What torchrun would set, set by somebody else."""
    for entry in ("zoo.pose", "zoo.train"):
        for names in (
            {"RANK": "x"}, {"RANK": "-1", "WORLD_SIZE": "2"}, {"RANK": "5", "WORLD_SIZE": "2"}, {"WORLD_SIZE": "0"},
            {"WORLD_SIZE": "²", "RANK": "0"}, {"RANK": "", "WORLD_SIZE": ""}, {"RANK": "1e3", "WORLD_SIZE": "2"},
        ):  # fmt: skip

            def action(entry=entry, names=names) -> None:
                os.environ.update(names)
                command(entry, COMMANDS[entry])()

            yield Case(entry=entry, name=f"environment {names}", action=action)


def stream_cases() -> Iterator[Case]:
    """Standard streams that are closed, full, or that nobody reads: results in files are as ever."""

    def close(number: int) -> None:
        os.close(number)
        setattr(sys, ("stdin", "stdout", "stderr")[number], None)

    def write_to(number: int) -> None:
        os.dup2(number, 1)
        sys.stdout = os.fdopen(1, "w", closefd=False)

    def fill() -> None:
        make_device(Path("full"), 7)
        if not Path("full").is_fifo():
            write_to(os.open("full", os.O_WRONLY))
        # Even the one line of an unforeseen error is right here.
        os.environ["DIMOFS_DEBUG"] = "0"

    def forsake() -> None:
        reader, writer = os.pipe()
        os.close(reader)
        write_to(writer)

    states: dict[str, Callable[[], object]] = {
        "stdout closed": lambda: close(1),
        "stderr closed": lambda: close(2),
        "both closed": lambda: (close(1), close(2)),
        "stdout full": fill,
        "stdout without a reader": forsake,
    }
    for entry, result in (
        ("eval.posetrack", "figures.json"), ("eval.coco", "figures.json"), ("eval.track", "made/poses.jsonl"),
        ("zoo.pose", "x.poses.jsonl"), ("zoo.train", "made/model/config.json"),
    ):  # fmt: skip
        for label, spoil in states.items():

            def action(entry=entry, spoil=spoil) -> None:
                spoil()
                command(entry, [word for word in COMMANDS[entry] if word != "--quiet"])()

            def there(folder: Path, result=result) -> bool:
                return (folder / result).stat().st_size > 0

            yield Case(entry=entry, name=label, action=action, check=there)


HUGE = 16_000  # pixels on either side


def huge_cases() -> Iterator[Case]:
    """A picture of 16,000 x 16,000 pixels, which takes 0.8 GB as bytes and 3 GB as float32."""
    words = replaced(COMMANDS["zoo.pose"], "--video", "huge.png")
    for name, line in (("huge picture", words), ("huge picture, no overlay", [*words, "--no-overlay"])):
        yield Case(entry="zoo.pose", name=name, action=command("zoo.pose", line))


def write_huge_picture(path: Path) -> None:
    """A black PNG, written row by row."""
    packer = zlib.compressobj(1)
    row = bytes(1 + 3 * HUGE)
    rows = b"".join(packer.compress(row) for _ in range(HUGE)) + packer.flush()
    header = struct.pack(">IIBBBBB", HUGE, HUGE, 8, 2, 0, 0, 0)
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, content in ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")):
            file.write(struct.pack(">I", len(content)) + kind + content)
            file.write(struct.pack(">I", zlib.crc32(kind + content)))


def coco_cases() -> Iterator[Case]:
    """What says the same in other words scores the same; what cannot be scored is told."""

    def figures(folder: Path) -> bool:
        content = json.loads((folder / "figures.json").read_text())
        return all(stats["AP"] == 1 for stats in content.values() if isinstance(stats, dict))

    def ids(content: dict, change: Callable[[int], Any]) -> None:
        for entry in content["annotations"]:
            entry["id"] = change(entry["id"])

    changes: dict[str, tuple[Callable[[dict], object], bool]] = {
        "ids from 0": (lambda c: ids(c, lambda i: i - 1), False),
        "repeated ids": (lambda c: ids(c, lambda i: 7), False),
        "ids of text": (lambda c: ids(c, str), False),
        "person is category 5": (
            lambda c: [e.update(category_id=5) for e in c["annotations"]] and c["categories"][0].update(id=5),
            False,
        ),
        "area of 0": (lambda c: [e.update(area=0) for e in c["annotations"]], False),
        "no area": (lambda c: [e.pop("area") for e in c["annotations"]], False),
        "area NaN": (lambda c: [e.update(area=float("nan")) for e in c["annotations"]], True),
        "joint NaN": (lambda c: c["annotations"][0]["keypoints"].__setitem__(0, float("nan")), True),
        "box NaN": (lambda c: c["annotations"][0]["bbox"].__setitem__(0, float("nan")), True),
        "box of three": (lambda c: c["annotations"][0]["bbox"].pop(), True),
        "no category": (lambda c: c["categories"].clear(), True),
        "image twice": (lambda c: c["images"].append(c["images"][0]), False),
        "unknown image": (lambda c: c["annotations"][0].update(image_id=99), True),
    }
    for label, (change, must_fail) in changes.items():

        def action(change=change) -> None:
            content = coco_labels()
            change(content)
            Path("people.json").write_text(json.dumps(content))
            for category in content["categories"]:
                results = [result | {"category_id": category["id"]} for result in coco_results()]
                Path("results.json").write_text(json.dumps(results))
            command("eval.coco", COMMANDS["eval.coco"])()

        yield Case(entry="eval.coco", name=f"labels: {label}", action=action, check=figures, must_fail=must_fail)
    for label, value in BROKEN_VALUES.items():
        for field in ("score", "bbox", "keypoints", "image_id"):

            def score(field=field, value=value) -> None:
                results = coco_results()
                results[0][field] = value
                Path("results.json").write_text(json.dumps(results))
                command("eval.coco", COMMANDS["eval.coco"])()

            yield Case(entry="eval.coco", name=f"results: {field} {label}", action=score)


def cases() -> list[Case]:
    """All, in an order that is the same everywhere."""
    from tests.support.bad_calls import calls

    parts = (
        number_cases, word_cases, clash_cases, newer_cases, file_cases, json_cases, name_cases, output_cases,
        environment_cases, stream_cases, coco_cases, huge_cases,
    )  # fmt: skip
    made = [case for part in parts for case in part()]
    made += [Case(entry=e, name=n, action=a) for e, n, a in calls()]
    return sorted(made, key=lambda case: hashlib.sha256(f"{case.entry} {case.name}".encode()).digest())


@contextmanager
def prepared(folder: Path) -> Iterator[Path]:
    """The folder with the files that the cases read; within the block a small model is known and trained by default."""
    from dimofs.zoo.presets import PRESETS, movenet_multipose
    from dimofs.zoo.training.recipes import RECIPES

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for entry in COMMANDS:
        importlib.import_module(f"dimofs.{entry}")
    small = {"tiny": tiny, "tiny_action": tiny_action, "tiny_recognizer": tiny_recognizer}
    with mock.patch.dict(PRESETS, small), mock.patch.dict(RECIPES, {"mobile": TINY}):
        folder.mkdir()
        make_template(folder)
        large = folder.parent / "large"
        checkpoints.save(movenet_multipose(), large, {})
        (folder / "movenet").symlink_to(large)
        yield folder
    torch.set_num_threads(threads)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", default="", help="cases whose command or name holds this")
    options.add_argument("--list", action="store_true", help="name the cases and run none")
    options.add_argument("--json", type=Path, help="write each case's outcome here")
    given = options.parse_args()
    chosen = [case for case in cases() if given.only in f"{case.entry} {case.name}"]
    if given.list:
        print(*(f"{case.entry}: {case.name}" for case in chosen), sep="\n")
        return 0
    table: dict[str, Counter] = {}
    rows, bad = [], 0
    with tempfile.TemporaryDirectory() as parent, prepared(Path(parent) / "template") as template:
        if any(case.name.startswith("huge") for case in chosen):
            write_huge_picture(template / "huge.png")
        for case in chosen:
            print(end=f"{len(rows)}/{len(chosen)}\r", file=sys.stderr)
            outcome = case.run(template)
            table.setdefault(case.entry, Counter())[outcome.kind] += 1
            rows.append({"entry": case.entry, "name": case.name, **vars(outcome)})
            if outcome.kind in sandbox.BUGS:
                bad += 1
                print(f"{outcome.kind}: {case.entry}: {case.name}: {outcome.reason}", flush=True)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1))
    print_table(table)
    return 1 if bad else 0


def print_table(table: dict[str, Counter]) -> None:
    kinds = ["clear error", "right result", *sandbox.BUGS]
    print(f"{'':16}" + "".join(f"{kind:>15}" for kind in kinds))
    total: Counter = sum(table.values(), Counter())
    for entry, counts in [*sorted(table.items()), ("all", total)]:
        print(f"{entry:16}" + "".join(f"{counts[kind]:>15}" for kind in kinds))
    print(f"{sum(total.values())} cases")


if __name__ == "__main__":
    sys.exit(main())
