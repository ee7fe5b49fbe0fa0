"""Bad values and pairs of options, as cases of `tests.bad_inputs`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.support.bad_commands import COMMANDS, Case, command, without

# Options that exclude or need one another.
CLASHES = {
    "zoo.pose": (
        "--keyframe 3 --delta 2", "--keyframe 3 --aggregate 1", "--keyframe 3 --motion", "--keyframe 3 --no-clip",
        "--keyframe 3 --save-motion flo", "--keyframe 3 --tracker dimofs", "--save-motion flo --no-clip",
        "--motion --no-clip", "--motion --no-overlay", "--embed", "--ray auto --show", "--start 2 --end 1",
        "--region 5 5 1 1", "--region 1 2", "--dtype float16 --device mars", "--save-motion",
    ),
    "zoo.action": ("--html --embed", "--start 2 --end 1", "--delta"),
    "zoo.recognize": ("--start 2 --end 1", "--every"),
    "zoo.propagate": ("--out tracked.json", "--first 1", "--video images", "--video 0"),
    "zoo.extract": ("--jhmdb images", "--root images", "--names depth", "--names", "--clips images", "--clips none"),
    "eval.diving48": (
        "--table 4", "--root images", "--jhmdb images", "--kinetics x.pth", "--peers", "--seeds 1 1", "--table 5",
        "--clips images", "--clips none", "--split 2",
    ),
    "eval.dives": ("--kinds 49", "--length 7", "--seed 9999"),
    "eval.carry": ("--labelled", "--dense", "--every 1", "--jhmdb images", "--jhmdb-labels images"),
    "eval.motion": (
        "--fit", "--track", "--localize", "--carrier matching", "--masks images", "--channels 999", "--level 6",
        "--video images", "--json x.json", "--jhmdb images", "--out-video made.txt",
    ),
    "zoo.negatives": ("--images none", "--images model", "--images x.mp4", "--score 2"),
    "zoo.motion": (
        "--pair images/1.png images/2.png", "--delta 99", "--delta 0", "--format jpg", "--video images/1.png",
    ),
    "zoo.models": ("--card none",),
}  # fmt: skip


def clash_cases() -> Iterator[Case]:
    """Options that do not go together, or whose values are of another kind: told, and nothing is written."""

    def unchanged(folder: Path) -> bool:
        return not list(folder.glob("made*"))

    for entry, lines in CLASHES.items():
        for line in lines:
            option, *values = line.split()
            words = [*without(COMMANDS[entry], option), option, *values]
            yield Case(entry=entry, name=line, action=command(entry, words), check=unchanged, must_fail=True)


def newer_cases() -> Iterator[Case]:
    """What the options of `pose` that read neighbouring frames make of few frames and of files in the way."""

    def whole(folder: Path) -> bool:
        return len((folder / "x.poses.jsonl").read_text().splitlines()) == 9

    lines = "--keyframe 3", "--keyframe 1000", "--dtype auto", "--dtype bfloat16", "--delta 9999", "--aggregate 99"
    for line in lines:
        action = command("zoo.pose", COMMANDS["zoo.pose"] + line.split())
        yield Case(entry="zoo.pose", name=line, action=action, check=whole)
    for kind in ("flo", "png", "npz"):

        def fields(folder: Path, kind=kind) -> bool:
            return len(list((folder / "x.motion").glob(f"*.{kind}"))) == 7 and whole(folder)

        words = [*COMMANDS["zoo.pose"], "--save-motion", kind]
        yield Case(entry="zoo.pose", name=f"--save-motion {kind}", action=command("zoo.pose", words), check=fields)

        def in_the_way(words=words) -> None:
            Path("x.motion").write_text("mine")
            command("zoo.pose", words)()

        def kept(folder: Path) -> bool:
            return (folder / "x.motion").read_text() == "mine"

        name = f"--save-motion {kind}, a file in the way"
        yield Case(entry="zoo.pose", name=name, action=in_the_way, check=kept, must_fail=True)
