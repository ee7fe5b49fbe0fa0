"""What recognition measures of every clip (section 5.2), by several processes or machines at once, kept on disk.

    python -m dimofs.zoo.extract --root DIVING48 --cache features
    torchrun --nproc-per-node 2 -m dimofs.zoo.extract --clips DIR --cache features
    python -m dimofs.zoo.extract --root /shared/DIVING48 --cache /shared/features --ray auto

Each clip is decoded and passes the backbone once: the main person's box and joints in every Frame A, and the DiMoFs to
the frame `--delta` later at each joint. `dimofs.eval.diving48` with the same options then finds them in --cache. They
are what the row "init (pose + DiMoFs)" of Table 4 reads; for all rows give

    --names dimofs random stranger difference absolute farneback appearance 'pooled dimofs' 'pooled random' \\
        'pooled stranger' 'pooled difference' 'pooled absolute'

A clip's files appear whole under names that depend on all that they are made of. A run that was stopped or killed
continues where it was, and processes and machines can join or leave. With --ray the clips and the cache must be on
storage that all machines see under the same names (see dimofs.cluster).

The detector sees frames at 320 pixels, which takes two fifths of the time that its own 512 pixels take.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch

from dimofs.cli import InputError, Range, run
from dimofs.cluster import TaskSize, all_done, connected, do_here
from dimofs.datasets.labelled_clips import LabelledClip
from dimofs.files import check_writable
from dimofs.memory import keep_freed_memory
from dimofs.zoo.devices import await_ranks, pick_device, rank_and_world
from dimofs.zoo.recognition.clip_options import ClipOptions
from dimofs.zoo.recognition.clip_pass import MOTIONS, STREAMS
from dimofs.zoo.recognition.features import ClipMeasures, as_subject

# What is measured unless told otherwise: what the row "init (pose + DiMoFs)" of Table 4 reads.
USUAL = ("dimofs",)


@dataclass(frozen=True)
class Measuring:
    """The work of a process on clips: alone, or together so that frames of several pass the backbone at a time."""

    measures: ClipMeasures
    names: Sequence[str]

    def __call__(self, clip: LabelledClip) -> str | None:
        return next(self.together([clip]))

    def together(self, clips: Sequence[LabelledClip]) -> Iterator[str | None]:
        """Of each clip, in order, why it cannot be used."""
        for found in self.measures.measured_all(clips, self.names):
            if isinstance(found, InputError):
                yield " ".join(str(found).splitlines())
                continue
            _, fault = as_subject(found["subject"])
            yield None if fault is None or fault.used else f"{fault.kind}: {fault.reason}"


@dataclass(frozen=True, kw_only=True)
class ExtractWork:
    """Makes the work of a process, which loads the detector once; it measures what `dimofs.eval.diving48` does with the
    same options.

    For the other fields see `main` and, for strangers, `ClipMeasures`.
    """

    options: ClipOptions
    names: Sequence[str] = USUAL
    device: str | None = None
    threads: int | None = None
    strangers: Sequence[LabelledClip] = ()

    def __call__(self) -> Measuring:
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        keep_freed_memory()
        model, options = self.options.model().to(pick_device(self.device)), self.options
        measures = ClipMeasures(model, options.cache, pairing=options.pairing, strangers=self.strangers)
        return Measuring(measures, self.names)


def main(
    *,
    data: ClipOptions,
    names: Annotated[list[str], f"what to measure: {', '.join((*MOTIONS, *STREAMS))}"] = USUAL,  # type: ignore[assignment]
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
    listed = data.read()
    check_writable(data.cache / "clip.safetensors")
    if rank == 0:
        print(listed.described())
    make = ExtractWork(options=data, names=names, device=device, threads=threads, strangers=listed.part("train"))
    mine = list(listed.clips)[rank::world]
    titles = [clip.name for clip in mine]
    if ray is None:
        whole = all_done(do_here(make(), mine), titles, "clip", quiet=quiet)
    else:
        whole = on_cluster(make, mine, titles, ray, quiet=quiet)
    await_ranks(not whole, world)
    return 0 if whole and not listed.missing else 2


def on_cluster(
    make: ExtractWork, clips: Sequence[LabelledClip], titles: Sequence[str], address: str, *, quiet: bool
) -> bool:
    """Measure the clips on the Ray cluster at an address; whether all could be."""
    with connected(address) as cluster:
        gpus = int(cluster.gpus > 0 and (make.device is None or make.device.startswith("cuda")))
        size = TaskSize(cpus=make.threads or 1, gpus=gpus)
        return all_done(cluster.do(make, clips, size), titles, "clip", quiet=quiet)


if __name__ == "__main__":
    run(main)
