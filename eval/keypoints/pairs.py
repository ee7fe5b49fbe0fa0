"""Every video of the ground truth with its prediction: which files and videos belong together, read and scored."""

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from dimofs.cli import InputError
from dimofs.formats import posetrack
from dimofs.formats.posetrack import Video, folder, read_annotations, stem

Scored = TypeVar("Scored")
# Pairs of files that make it worth starting a process.
_FILES_PER_PROCESS = 4


def score_pairs(truth: Path, predicted: Path, score: Callable[[Video, Video], Scored]) -> list[Scored]:
    """`score(truth, prediction)` for each video of the ground truth, in the order of file names and videos.

    Two single files belong together whatever their names; in folders, files of the same name do (.json or .json.gz).
    Within files that hold several videos, videos of the same name do. Predictions without ground truth do not count.
    There are as many processes as cores, so `score` must be a function of a module; each holds one pair of files at a
    time.

    InputError: a path is absent or holds no JSON file, a ground truth has no prediction; and those of `score`.
    """
    pairs = _pairs(truth, predicted)
    work = partial(_score, score)
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    processes = min(cores, len(pairs) // _FILES_PER_PROCESS)
    if processes < 2:
        found = [work(pair) for pair in tqdm(pairs, disable=None)]
    else:
        found = _in_processes(work, pairs, processes)
    return [value for values in found for value in values]


def _in_processes(work: Callable, pairs: list[tuple[Path, Path]], processes: int) -> list[list]:
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    with ProcessPoolExecutor(processes, context) as pool:
        try:
            return list(tqdm(pool.map(work, pairs), total=len(pairs), disable=None))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _score(score: Callable[[Video, Video], Scored], pair: tuple[Path, Path]) -> list[Scored]:
    return [score(*videos) for videos in _videos(*pair)]


def _pairs(truth: Path, predicted: Path) -> list[tuple[Path, Path]]:
    """The files of the ground truth, each with its prediction."""
    truths, predictions = _files(truth), _files(predicted)
    if truth.is_file() and predicted.is_file():
        return [(truth, predicted)]
    for name, file in truths.items():
        if name not in predictions:
            raise InputError(f"{predicted}: has no {name}.json, the prediction for {file}")
    return [(file, predictions[name]) for name, file in truths.items()]


def _files(path: Path) -> dict[str, Path]:
    """The file, or the files of the folder, by name without extensions, sorted."""
    if path.is_file():
        return {stem(path): path}
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder")
    files: dict[str, Path] = {}
    for file in posetrack.files(path):
        if stem(file) in files:
            raise InputError(f"{file}: {files[stem(file)].name} is there too; remove one of them")
        files[stem(file)] = file
    if not files:
        raise InputError(f"{path}: holds no .json or .json.gz files")
    return files


def _videos(truth: Path, predicted: Path) -> Iterator[tuple[Video, Video]]:
    """The videos of a file of the ground truth, each with its prediction."""
    truths, predictions = read_annotations(truth), read_annotations(predicted)
    if len(truths) == len(predictions) == 1:
        yield truths[0], predictions[0]
        return
    folders = {_folder(video): video for video in predictions}
    for video in truths:
        if _folder(video) not in folders:
            raise InputError(f"{predicted}: has no images of the video {_folder(video)!r}, which is in {truth}")
        yield video, folders[_folder(video)]


def _folder(video: Video) -> str:
    """The video's name within its file: the folder of its images."""
    return folder(video.frames[0]) if video.frames else ""
