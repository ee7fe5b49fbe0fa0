"""Poses of many videos by the machines of a Ray cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from dimofs.cli import InputError
from dimofs.cluster import TaskSize, Work, all_done, connected
from dimofs.memory import keep_freed_memory
from dimofs.zoo import checkpoints
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.jobs import Job, PoseOptions, is_done, run_job
from dimofs.zoo.devices import pick_device

# Frames that go through the network together on a GPU.
GPU_BATCH = 8


@dataclass(frozen=True, kw_only=True)
class PoseWork:
    """Makes the work on jobs for a process of a cluster: it loads the model once.

    Jobs whose results are complete are passed over, since a task may be done again. weights, size: see
    `checkpoints.load`. device: see `pick_device`. threads: of the CPU.
    """

    weights: str
    size: int | None
    device: str | None
    threads: int
    options: PoseOptions

    def __call__(self) -> Work[Job]:
        torch.set_num_threads(self.threads)
        keep_freed_memory()
        detector = checkpoints.load_as(PoseDetector, self.weights, pick_device(self.device), self.size)

        def work(job: Job) -> None:
            if not is_done(job, self.options):
                run_job(job, detector, self.options)

        return work


def run_on_cluster(jobs: Sequence[Job], work: PoseWork, address: str, batch: int | None) -> bool:
    """Do all jobs on the cluster at an address; failures are printed. Returns whether there was none.

    A task has `work.threads` CPUs and, if the cluster has GPUs and the device allows it, a GPU. batch: None for the
    usual one. InputError: the cluster is not reached, or a job's source or results are not files.
    """
    for job in jobs:
        if job.streamed or job.source.live:
            raise InputError(f"{job.source.text}: other machines cannot read it; leave out --ray")
    with connected(address) as cluster:
        gpus = int(cluster.gpus > 0 and (work.device is None or work.device.startswith("cuda")))
        options = replace(work.options, quiet=True, batch=batch or (GPU_BATCH if gpus else 1))
        size = TaskSize(cpus=work.threads, gpus=gpus)
        outcomes = cluster.do(replace(work, options=options), jobs, size)
        return all_done(outcomes, [job.source.text for job in jobs], "video", quiet=work.options.quiet)
