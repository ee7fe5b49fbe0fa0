"""Synthetic dives as a folder of labelled clips, which `dimofs.eval.diving48 --clips` recognizes.

    python -m dimofs.eval.dives --out dives --train 8 --test 4
    python -m dimofs.eval.dives --out routines --routines --train 40 --test 20
    python -m dimofs.eval.diving48 --clips routines --table 4 --peers

The classes are Diving48's 48 kinds. With --routines they are four whose clips are made of the same 39 frames: in
order, reversed, with the limbs in another order, and twice as fast; the first frame is then held for five more. One
frame, or all 44 without their order, tell nothing there: chance is 25 %. Fewer frames at fixed places do tell
something, since other frames are there, so compare with `eval.diving48 --peers --segments 44`.

Clips that are there already are kept, so that a run that was stopped continues; a folder with clips of other options is
refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tqdm import tqdm

from dimofs.cli import Range, run
from dimofs.datasets.synthetic.dives import DIVES, LENGTH, ROUTINES, write_dives, write_routines

CLIPS = Range(1, 1000)


def main(
    *,
    out: Annotated[Path, "folder of the clips"],
    routines: Annotated[bool, "write routines in place of dives"] = False,
    train: Annotated[int, "clips of each class to train on", CLIPS] = 8,
    test: Annotated[int, "clips of each class to test on", CLIPS] = 4,
    kinds: Annotated[int, "dives: use so many of the 48 kinds, spread over all", Range(2, len(DIVES))] = len(DIVES),
    length: Annotated[int, "dives: frames of a clip", Range(8, 1000)] = LENGTH,
    seed: Annotated[int, "of divers, clothes and places", Range(0, 2000)] = 0,
    quiet: Annotated[bool, "no progress bar"] = False,
) -> None:
    if routines:
        paths = write_routines(out, train=train, test=test, seed=seed)
    else:
        chosen = [DIVES[place * len(DIVES) // kinds] for place in range(kinds)]
        paths = write_dives(out, chosen, train=train, test=test, seed=seed, length=length)
    total = (len(ROUTINES) if routines else kinds) * (train + test)
    for _ in tqdm(paths, total=total, unit="clip", disable=quiet):
        pass
    print(f"{out}: {total} clips")


if __name__ == "__main__":
    run(main)
