"""Freed memory that malloc keeps, what is not to be held or made, and the memory that a 4K video takes."""

import gc
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dimofs import memory
from dimofs.reader import FrameReader, read_clip
from dimofs.shrinking import sampled
from dimofs.video import read_image
from dimofs.zoo.detection.preprocess import Preprocess
from tests.support.clips import write_image, write_video

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("library", [SimpleNamespace(), None], ids=["another C library", "no way to look for it"])
def test_without_glibc_nothing_happens(monkeypatch, library):
    asked = []

    def look(name):
        asked.append(name)
        if library is None:
            raise TypeError("a name is needed")
        return library

    monkeypatch.setattr(memory.ctypes, "CDLL", look)
    memory.keep_freed_memory()
    assert asked == [None]


FAULTS = """
import resource, threading, torch
from dimofs.memory import keep_freed_memory
{call}
def work():
    for i in range(24):
        if i == 16:  # before that, alignment leaves small pieces between blocks
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.full((2**24,), 1.0)  # 64 MiB, freed at once
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_used_again_in_every_thread():
    """Eight buffers that come from the system cost a page fault for each 2 MiB or, with small pages, each 4 KiB."""
    usual, kept = (int(python(FAULTS.format(call=call))) for call in ("", "keep_freed_memory()"))
    assert kept < 64 < usual


@pytest.mark.parametrize("read", [read_clip, lambda path: FrameReader(path).read(range(20))], ids=["clip", "reader"])
def test_decoded_frames_are_freed_without_a_garbage_collection(read, tmp_path):
    write_video(tmp_path / "x.mp4", [np.zeros((32, 48, 3), np.uint8)] * 20)
    gc.collect()
    gc.disable()
    try:
        assert len(list(read(tmp_path / "x.mp4"))) >= 20
        assert sum(type(one) is av.VideoFrame for one in gc.get_objects()) <= 2
    finally:
        gc.enable()


@pytest.mark.parametrize("size", [(1080, 1920), (700, 1300), (1001, 999)], ids=str)
def test_large_frames_are_sampled_as_pytorch_resizes_them(size):
    """Whatever the order in memory. Floating frames are those that PyTorch resizes itself."""
    torch.manual_seed(0)
    frames = torch.randint(0, 256, (2, *size, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    right = F.interpolate(frames / 255, (96, 128), mode="bilinear")
    for given in (frames, frames.contiguous()):
        torch.testing.assert_close(sampled(given, (96, 128)), right, rtol=0, atol=1e-6)
    preprocess = Preprocess(96, 128, mean=(0.5, 0.4, 0.3), std=(0.5, 0.2, 1.0))
    inputs, inside = preprocess(frames)
    assert inside == preprocess.size(*size) and inputs.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(inputs, preprocess(frames / 255)[0], rtol=0, atol=1e-5)


DETECTION = """
import sys, torch
from dimofs.zoo import checkpoints
checkpoints.load("dimofs_mobile")(torch.rand(1, 3, 96, 128))
print(*sorted({"triton", "torch._dynamo"} & set(sys.modules)))
"""


def test_finding_people_imports_no_compiler():
    """It takes seconds and 120 MB."""
    assert python(DETECTION).strip() == ""


PEAK = r"""
import re
from pathlib import Path
from dimofs.zoo import pose
pose.main(video=["x.mp4"], out=Path("out"), overlay=False, delta=5, aggregate=2, device="cpu", quiet=True)
print(1024 * int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]))  # getrusage adds the parent's
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_a_4k_video_fits_in_memory(tmp_path):
    """It takes 1.6 GB; the frames as floating point, were they all kept, would take as much again."""
    shade = np.random.default_rng(0).integers(0, 255, (27, 48, 3), np.uint8)
    frame = np.kron(shade, np.ones((80, 80, 1), np.uint8))
    write_video(tmp_path / "x.mp4", [np.roll(frame, 8 * i, axis=1) for i in range(16)])
    assert int(python(PEAK, tmp_path)) < 2.5e9
    assert len((tmp_path / "out/x.poses.jsonl").read_text().splitlines()) == 17


STILL = PEAK.replace("x.mp4", "x.png").replace("overlay=False, delta=5, aggregate=2, ", "")


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_a_huge_picture_fits_in_memory(tmp_path):
    """9000 x 9000 pixels are 243 MB; as floating point and resized at once they would take 3 GB."""
    shade = np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8)
    write_image(tmp_path / "x.png", shade.repeat(100, axis=0).repeat(100, axis=1))
    assert int(python(STILL, tmp_path)) < 2e9
    header, frame = (tmp_path / "out/x.poses.jsonl").read_text().splitlines()
    assert '"width": 9000, "height": 9000' in header and '"frame": 0' in frame
    # 2974 x 2974 are as many pixels as 4096 x 2160.
    assert read_image(tmp_path / "out/x.poses.png").shape == (2974, 2974, 3)


def python(script: str, folder: Path | None = None) -> str:
    """What a script prints that runs in a process of its own."""
    command = [sys.executable, "-c", script]
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": ""}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return result.stdout
