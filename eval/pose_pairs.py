"""Which prediction belongs to which ground truth: files, folders and the videos in them."""

from collections.abc import Iterator
from pathlib import Path

from dimofs.cli import InputError
from dimofs.datasets.posetrack import Video, read, stem


def pairs(truth: Path, predicted: Path) -> Iterator[tuple[Video, Video]]:
    """Each video of the ground truth with its prediction; one pair of files is in memory at a time.

    Two files belong together whatever they are called; in folders, files of one name do (.json or .json.gz). Of files
    with several videos each, videos of one name do. Predictions without ground truth do not count.

    InputError: a path is absent or holds no JSON file, or a ground truth has no prediction.
    """
    truths, predictions = _files(truth), _files(predicted)
    if truth.is_file() and predicted.is_file():
        predictions = dict(zip(truths, predictions.values(), strict=True))
    for name, file in truths.items():
        if name not in predictions:
            raise InputError(f"{predicted}: has no {name}.json, the prediction for {file}")
        yield from _videos(file, predictions[name])


def count(truth: Path) -> int:
    """The files of the ground truth."""
    return len(_files(truth))


def _files(path: Path) -> dict[str, Path]:
    """By name without extensions, sorted."""
    if path.is_file():
        return {stem(path): path}
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder")
    files: dict[str, Path] = {}
    for file in sorted([*path.glob("*.json"), *path.glob("*.json.gz")]):
        if stem(file) in files:
            raise InputError(f"{file}: {files[stem(file)].name} is there too; remove one of them")
        files[stem(file)] = file
    if not files:
        raise InputError(f"{path}: holds no .json or .json.gz files")
    return files


def _videos(truth: Path, predicted: Path) -> Iterator[tuple[Video, Video]]:
    truths, predictions = read(truth), read(predicted)
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
    return Path(video.frames[0]).parent.name if video.frames else ""
