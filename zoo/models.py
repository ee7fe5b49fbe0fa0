"""The models that ship with dimofs: what they find, their sizes, licences and figures.

python -m dimofs.zoo.models
python -m dimofs.zoo.models --card dimofs_mobile
"""

from __future__ import annotations

import re
from itertools import dropwhile, takewhile
from math import prod
from typing import Annotated

from safetensors import safe_open

from dimofs.cli import InputError, run
from dimofs.files import read_json
from dimofs.zoo.checkpoints import CONFIG, SHIPPED, WEIGHTS, shipped
from dimofs.zoo.converters import keypointrcnn

CARD = "README.md"


def main(*, card: Annotated[str | None, "print the model card of this model"] = None) -> None:
    if card is not None:
        if card not in shipped():
            raise InputError(f"--card {card[:60]}: no such model; the models that ship are {', '.join(shipped())}")
        print((SHIPPED / card / CARD).read_text(encoding="utf-8"))
        return
    for name in shipped():
        print(f"{name}\n" + "\n".join(f"  {fact}" for fact in facts(name)))
    print(f"{keypointrcnn.PUBLIC}\n  torchvision's, converted; downloaded once, from {keypointrcnn.URL}")


def facts(name: str) -> list[str]:
    """What a shipped model's files say about it, in lines."""
    folder = SHIPPED / name
    card = (folder / CARD).read_text(encoding="utf-8")
    with safe_open(folder / WEIGHTS, "pt") as file:
        sizes = [file.get_slice(key).get_shape() for key in file.keys()]  # noqa: SIM118
    weights = sum(map(prod, sizes)) / 1e6
    names = read_json(folder / CONFIG)["keypoint_names"]
    licence = re.search(r"[Ll]icence: ([\w.-]*\w)", card)
    stated = licence[1] if licence else "see its card"
    title = card.splitlines()[0].lstrip("# ")
    megabytes = (folder / WEIGHTS).stat().st_size / 1e6
    joints = f"; {len(names)} joints" if names else ""
    lines = [f"{title}{joints}", f"{weights:.1f} million weights, {megabytes:.0f} MB, licence {stated}"]
    return lines + figures(card) + [f"card: {folder / CARD}"]


def figures(card: str) -> list[str]:
    """The first row of the first table of a model card, with the names of its columns; none without a table."""
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in _table(card)]
    if len(rows) < 3:
        return []
    head, _, first = rows[:3]
    cells = [f"{name} {value}" for name, value in zip(head, first, strict=False) if name and value]
    return [f"{first[0]}: {', '.join(cells)}"]


def _table(card: str) -> list[str]:
    """The lines of the first table."""
    lines = dropwhile(lambda line: not line.startswith("|"), card.splitlines())
    return list(takewhile(lambda line: line.startswith("|"), lines))


if __name__ == "__main__":
    run(main)
