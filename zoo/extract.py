"""What recognition measures of every clip (section 5.2), by several processes or machines at once, kept on disk.

    python -m dimofs.zoo.extract --root DIVING48 --cache features
    torchrun --nproc-per-node 2 -m dimofs.zoo.extract --clips DIR --cache features
    python -m dimofs.zoo.extract --root /shared/DIVING48 --cache /shared/features --ray auto

Each clip is decoded and passes the backbone once: the main person's box and joints in every Frame A, and the DiMoFs to
the frame `--delta` later at each joint. `dimofs.eval.diving48` with the same options then finds them in --cache.

A clip's files appear whole under names that depend on all that they are made of. A run that was stopped or killed
continues where it was, and processes and machines can join or leave. With --ray the clips and the cache must be on
storage that all machines see under the same names (see dimofs.cluster).

The detector sees frames at 320 pixels, which takes two fifths of the time that its own 512 pixels take.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch

from dimofs.cli import InputError, Range, run
from dimofs.cluster import TaskSize, Work, all_done, connected, do_here
from dimofs.datasets.diving48 import open_clip_set
from dimofs.datasets.labelled_clips import ClipSet, LabelledClip, class_folders, jhmdb_clips
from dimofs.memory import keep_freed_memory
from dimofs.zoo.detection.action_localizer import ActionLocalizer
from dimofs.zoo.devices import await_ranks, pick_device, rank_and_world
from dimofs.zoo.presets import action_mobile
from dimofs.zoo.recognition.features import MOTIONS, STREAMS, ClipMeasures
from dimofs.zoo.recognition.pairs import DELTA, Pairing
from dimofs.zoo.training.actions import start
from dimofs.zoo.training.data import JhmdbClips, JhmdbLabels, need
from dimofs.zoo.training.initialize import variant_of

# What is measured unless told otherwise: what the rows "pose + DiMoFs" of Table 4 read.
USUAL = ("dimofs",)


@dataclass(frozen=True, kw_only=True)
class ExtractWork:
    """Makes the work on clips for a process: it loads the detector once. Fields: see `main`; strangers: see
    `ClipMeasures`."""

    weights: str
    cache: Path
    pairing: Pairing
    names: Sequence[str]
    cells: int
    device: str | None
    threads: int | None
    strangers: Sequence[LabelledClip] = ()

    def __call__(self) -> Work[LabelledClip]:
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        keep_freed_memory()
        measures = self.measures()

        def work(clip: LabelledClip) -> str | None:
            _, fault = measures.subject(clip, self.names)
            return None if fault is None or fault.used else f"{fault.kind}: {fault.reason}"

        return work

    def measures(self) -> ClipMeasures:
        """The measures that `dimofs.eval.diving48` makes with the same options. InputError: there are no such
        weights."""
        model = measuring_model(self.weights, self.cells).to(pick_device(self.device))
        return ClipMeasures(model, self.cache, pairing=self.pairing, strangers=self.strangers)


def main(
    *,
    root: Annotated[Path | None, "folder of Diving48, or any other of labelled clips"] = None,
    clips: Annotated[Path | None, "folder that holds a folder of videos for each class"] = None,
    jhmdb: JhmdbClips = None,
    jhmdb_labels: JhmdbLabels = None,
    split: Annotated[int, "which of JHMDB's splits", Range(1, 3)] = 1,
    cache: Annotated[Path, "folder of what is measured"] = Path("runs/features"),
    names: Annotated[list[str], f"what to measure: {', '.join((*MOTIONS, *STREAMS))}"] = USUAL,  # type: ignore[assignment]
    weights: Annotated[str, "the pose detector that measures"] = "dimofs_mobile_v2",
    every: Annotated[int, "Frame A is one of every N-th frame", Range(1)] = 1,
    delta: Annotated[int, "frames from A to B", Range(1, 1000)] = DELTA,
    cells: Annotated[int, "side of the pooled grid of each stream", Range(1, 7)] = 5,
    device: Annotated[str | None, "cpu, cuda, cuda:1, ... (default: a GPU if there is one)"] = None,
    threads: Annotated[int | None, "threads of the CPU for each process", Range(1, 1024)] = None,
    ray: Annotated[str | None, "address of a Ray cluster that does the clips: auto, HOST:PORT, local"] = None,
    quiet: Annotated[bool, "no progress bar"] = False,
) -> int:
    """Measure the clips of this rank. Returns the exit status: 2 if a clip cannot be used."""
    rank, world = rank_and_world()
    if ray is not None and world > 1:
        raise InputError("--ray: shares the clips itself; leave out torchrun")
    for name in names:
        if name not in (*MOTIONS, *STREAMS):
            raise InputError(f"--names {name}: not one of {', '.join((*MOTIONS, *STREAMS))}")
    data = read_clips(root, clips, jhmdb, jhmdb_labels, split)
    if rank == 0:
        print(data.described())
    make = ExtractWork(
        weights=weights,
        cache=cache,
        pairing=Pairing(every=every, delta=delta),
        names=names,
        cells=cells,
        device=device,
        threads=threads,
        strangers=data.part("train"),
    )
    mine = list(data.clips)[rank::world]
    titles = [clip.name for clip in mine]
    if ray is None:
        whole = all_done(do_here(make(), mine), titles, "clip", quiet=quiet)
    else:
        whole = on_cluster(make, mine, titles, ray, quiet=quiet)
    await_ranks(not whole, world)
    return 0 if whole and not data.missing else 2


def on_cluster(
    make: ExtractWork, clips: Sequence[LabelledClip], titles: Sequence[str], address: str, *, quiet: bool
) -> bool:
    """Measure the clips on the Ray cluster at an address; whether all could be."""
    with connected(address) as cluster:
        gpus = int(cluster.gpus > 0 and (make.device is None or make.device.startswith("cuda")))
        size = TaskSize(cpus=make.threads or 1, gpus=gpus)
        return all_done(cluster.do(make, clips, size), titles, "clip", quiet=quiet)


def measuring_model(weights: str, cells: int) -> ActionLocalizer:
    """A localizer on the parts of a pose detector, whose head is not used. InputError: there are no such weights."""
    model = action_mobile(["any"], cells=cells, variant=variant_of(weights) or "paper").eval()
    start(model, weights)
    return model


def read_clips(root: Path | None, clips: Path | None, jhmdb: str | None, labels: str | None, split: int) -> ClipSet:
    """The clips that the options name. InputError: none are named, or they cannot be read."""
    if root is not None:
        return open_clip_set(root)
    if clips is not None:
        return class_folders(clips)
    if jhmdb is None and labels is None:
        raise InputError("no data: give --root, --clips, or --jhmdb and --jhmdb-labels")
    return jhmdb_clips(need(jhmdb, "--jhmdb", "--jhmdb-labels"), need(labels, "--jhmdb-labels", "--jhmdb"), split)


if __name__ == "__main__":
    run(main)
