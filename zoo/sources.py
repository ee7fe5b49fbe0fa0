"""The data sets that the training and labelling commands read, from the paths given on their command lines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from dimofs.cli import InputError
from dimofs.datasets import teacher
from dimofs.datasets.coco import CocoKeypoints
from dimofs.datasets.jhmdb import Jhmdb
from dimofs.datasets.lspet import Lspet
from dimofs.datasets.people import Source

JhmdbClips = Annotated[str | None, "JHMDB: folder of <class>/<clip>.avi"]
JhmdbLabels = Annotated[str | None, "JHMDB: folder of splits, joints and masks (see dimofs.datasets.jhmdb)"]
Coco = Annotated[str | None, "COCO keypoints: the annotation file"]
CocoImages = Annotated[str | None, "COCO keypoints: the folder of images"]
LspetFolder = Annotated[str | None, "LSPET: the folder that holds joints.mat and images/"]


@dataclass(frozen=True)
class Paths:
    """Where the data sets lie; those not given are not used."""

    jhmdb: str | None = None
    jhmdb_labels: str | None = None
    coco: str | None = None
    coco_images: str | None = None
    lspet: str | None = None

    def sources(self, *, every: int) -> dict[str, Source]:
        """The data sets given, by name; of JHMDB (training part of split 1) every `every`-th frame is a Frame A."""
        found: dict[str, Source] = {}
        if self.jhmdb:
            labels = _need(self.jhmdb_labels, "--jhmdb-labels", "--jhmdb")
            found["jhmdb"] = Jhmdb(self.jhmdb, labels, every=every)
        if self.coco:
            found["coco"] = CocoKeypoints(self.coco, _need(self.coco_images, "--coco-images", "--coco"))
        if self.lspet:
            folder = Path(self.lspet)
            found["lspet"] = Lspet(folder / "joints.mat", folder / "images")
        if not found:
            raise InputError("no data: give --jhmdb and --jhmdb-labels, --coco and --coco-images, or --lspet")
        return found


def taught(sources: dict[str, Source], labels: str | Path) -> dict[str, Source]:
    """Each source merged with the teacher's `labels`/<name>.npz, where that file exists."""
    noisy, complete = {"jhmdb", "lspet"}, {"coco"}
    return {
        name: teacher.Taught(source, teacher.load(file), noisy=name in noisy, complete=name in complete)
        if (file := Path(labels) / f"{name}.npz").exists()
        else source
        for name, source in sources.items()
    }


def _need(value: str | None, option: str, other: str) -> str:
    if value is None:
        raise InputError(f"{other} needs {option} beside it")
    return value
