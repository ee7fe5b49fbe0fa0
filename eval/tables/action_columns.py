"""The columns of Table 3: which streams the heads of each one read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dimofs.cli import InputError
from dimofs.eval.tables.action_streams import LONGEST
from dimofs.flow import METHODS
from dimofs.zoo.backbones.inflated import FRAMES, STRIDE
from dimofs.zoo.detection.action_localizer import KINDS

# Kinds of streams that another offset net gives, those that only aligning detectors have, and others; see
# `StreamSources.named`.
ALIGNING_KINDS = ("untrained", "channels")
# Kinds with a delta.
MOVING = (*KINDS[1:], "random", *ALIGNING_KINDS, "stranger", *METHODS)
# Kinds without.
STILL = ("appearance", "inflated")


@dataclass(frozen=True)
class Column:
    """A column of Table 3. paper: its frame-mAP in the paper, if it is there. tracks: average actions along tracks."""

    name: str
    streams: Sequence[str]
    paper: float | None = None
    tracks: bool = False


# Those with a figure of the paper are its own.
TABLE3 = (
    Column("inflated 3D", ("inflated",), 43.8),
    Column("appearance", ("appearance",)),
    Column("random offsets, delta 0", ("appearance", "random@0"), 44.3),
    Column("random offsets", ("appearance", "random@10"), 44.7),
    Column("DiMoFs, delta 0", ("appearance", "dimofs@0"), 49.6),
    Column("DiMoFs", ("appearance", "dimofs@10"), 54.4),
    Column("Farneback", ("appearance", "farneback@10"), 50.6),
    Column("DIS", ("appearance", "dis@10"), 50.6),
    Column("|f_A - f_B|", ("appearance", "difference@10")),
    Column("f_B", ("appearance", "later@10")),
    Column("B of another clip", ("appearance", "stranger@10")),
    Column("pose", ("appearance", "pose@10")),
    Column("DiMoFs and pose", ("appearance", "dimofs@10", "pose@10")),
    Column("best", ("appearance", "dimofs@5", "dimofs@10", "dimofs@20", "pose@10"), tracks=True),
)
# More columns of a detector whose offset net aligns: the same net before training, which matches features as they are,
# and the paper's net with random weights.
ALIGNING = (
    Column("untrained matching", ("appearance", "untrained@10")),
    Column("random, per channel", ("appearance", "channels@10")),
)


def chosen_columns(names: Sequence[str] | None, aligning: bool) -> list[Column]:
    """Columns by name, None for all of them that a detector has, whose offset net is aligning or not.

    A name may also be streams joined by "+", as in "appearance+dimofs@5". InputError: it is neither.
    """
    known = {column.name: column for column in TABLE3 + ALIGNING}
    if names is None:
        return list(TABLE3 + ALIGNING if aligning else TABLE3)
    columns = []
    for name in names:
        if name not in known and not name.startswith(STILL):
            raise InputError(
                f"--columns {name!r}: is none of {', '.join(map(repr, known))}, nor like appearance+dimofs@5"
            )
        columns.append(known.get(name) or Column(name, name.split("+")))
        for stream in columns[-1].streams:
            check_stream("--columns", stream, aligning)
    return columns


def check_stream(option: str, text: str, aligning: bool) -> None:
    """InputError: the value of an option is no stream of a detector whose offset net is aligning or not."""
    kind, _, delta = text.partition("@")
    if text not in STILL and not (kind in MOVING and re.fullmatch(r"-?\d{1,3}|random", delta)):
        raise InputError(f"{option} {text[:40]!r}: expected appearance, inflated, or as in {'@10, '.join(MOVING)}@10")
    if text == "stranger@random":
        raise InputError(f"{option} {text}: a frame of another clip has no delta; write stranger@10")
    if kind in ALIGNING_KINDS and not aligning:
        raise InputError(f"{option} {text}: is of offset nets that align; give other --weights")


def check_kind(kind: str, aligning: bool) -> None:
    """InputError: a kind of --kinds is none whose delta varies."""
    kinds = [name for name in MOVING if name != "stranger"]
    if kind not in kinds:
        raise InputError(f"--kinds {kind[:40]!r}: is none of {', '.join(kinds)}")
    check_stream("--kinds", f"{kind}@random", aligning)


def reach(columns: Sequence[Column]) -> int:
    """How many frames after Frame A the streams of these columns read at most."""
    return max((_reach(*stream.partition("@")[::2]) for column in columns for stream in column.streams), default=0)


def _reach(kind: str, delta: str) -> int:
    if kind == "inflated":
        return STRIDE * (FRAMES - 1)
    return LONGEST if delta == "random" else int(delta or 0)
