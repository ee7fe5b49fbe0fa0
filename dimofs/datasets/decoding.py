"""Pixels of images and of single frames of clips, through PyAV."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import av
import av.error
import torch
from torch import Tensor

from dimofs.cli import InputError


@contextmanager
def _video(path: str | Path):
    """The open container and its first video stream, decoded by one thread; FFmpeg's errors become InputError."""
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InputError(f"{path}: holds no video stream")
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            yield container, stream
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(f"{path}: cannot be decoded ({error.strerror}); download it again") from error


def _pixels(frame: av.VideoFrame) -> Tensor:
    return torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1).contiguous()


def read_clip(path: str | Path) -> Iterator[Tensor]:
    """Each frame [3, H, W] uint8 RGB in order of presentation. InputError: absent or damaged."""
    with _video(path) as (container, stream):
        yield from map(_pixels, container.decode(stream))


def count_frames(path: str | Path) -> int:
    """How many frames a clip has, without decoding them. InputError: absent, damaged or empty."""
    with _video(path) as (container, stream):
        count = sum(packet.pts is not None for packet in container.demux(stream))
    if not count:
        raise InputError(f"{path}: holds no frame; download it again")
    return count


def read_frames(path: str | Path, numbers: Sequence[int]) -> list[Tensor]:
    """The frames with these numbers, counted from 0 in order of presentation; decodes from the last keyframe before.

    InputError: absent or damaged, or the clip is shorter.
    """
    with _video(path) as (container, stream):
        packets = list(container.demux(stream))
        times = sorted(packet.pts for packet in packets if packet.pts is not None)
        if max(numbers) >= len(times):
            raise InputError(f"{path}: has {len(times)} frames, its labels name frame {max(numbers)}")
        wanted = {times[n] for n in numbers}
        keys = [i for i, p in enumerate(packets) if p.is_keyframe and p.pts is not None and p.pts <= min(wanted)]
        found = {}
        for packet in packets[keys[-1] if keys else 0 :]:
            found |= {frame.pts: _pixels(frame) for frame in packet.decode() if frame.pts in wanted}
            if len(found) == len(wanted):
                return [found[times[n]] for n in numbers]
    raise InputError(f"{path}: frame {max(numbers)} does not decode; download it again")
