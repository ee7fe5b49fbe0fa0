"""Extraction of what recognition measures: each clip once, by any number of processes, with what is wrong told."""

from pathlib import Path

import pytest

from dimofs.cli import InputError, arguments
from dimofs.zoo import extract
from dimofs.zoo.recognition.clip_options import ClipOptions
from dimofs.zoo.recognition.features import OpenClip
from tests.support.clips import write_clip


@pytest.fixture
def clips(tmp_path, monkeypatch) -> Path:
    """Two clips of two classes, in a folder of which the test may break some. The working directory is empty."""
    # Clips of equal bytes would be measured once.
    for length, name in enumerate(("train/wave/a", "train/clap/b", "test/wave/c"), 6):
        (tmp_path / "clips" / name).parent.mkdir(parents=True, exist_ok=True)
        write_clip(tmp_path / "clips" / f"{name}.mp4", length)
    for name in ("RANK", "WORLD_SIZE", "TORCHELASTIC_USE_AGENT_STORE", "DIMOFS_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "clips"


def command(line: str) -> int:
    return extract.main(**arguments(extract.main, f"--clips clips --quiet --threads 1 {line}".split()))


def files(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).glob("??/*")}


def test_ranks_share_the_clips_and_find_what_one_process_finds(clips, monkeypatch, capsys):
    assert command("--cache alone") == 0
    assert "2 train clips and 1 test clips of 2 classes" in capsys.readouterr().out
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        assert command("--cache shared") == 0
        assert 0 < len(files("shared")) <= len(files("alone"))
    assert files("shared") == files("alone")


def test_a_run_continues_where_it_was(clips, monkeypatch):
    result = OpenClip.result
    begun: list[str] = []

    def measured(opened: OpenClip):
        if opened.running is not None:
            begun.append(opened.clip.name)
            if len(begun) == 2:
                raise KeyboardInterrupt
        return result(opened)

    monkeypatch.setattr(OpenClip, "result", measured)
    with pytest.raises(KeyboardInterrupt):
        command("--cache features")
    assert command("--cache features") == 0
    # The clip that was finished is not begun again.
    assert len(begun) == 4 and begun.count(begun[0]) == 1 and begun[1] == begun[2]


def test_clips_that_cannot_be_used_are_named(clips, capsys):
    write_clip(clips / "train/clap/short.mp4", 3)
    (clips / "test/wave/text.mp4").write_text("no video")
    assert command("--cache features") == 2
    lines = sorted(line for line in capsys.readouterr().err.splitlines() if line.startswith("error"))
    assert len(lines) == 2
    assert lines[0].startswith("error: damaged: clips/test/wave/text.mp4: cannot be read")
    assert lines[1] == "error: short: clips/train/clap/short.mp4: has 3 frames, 6 are needed"


def test_a_cache_that_cannot_be_written_is_told_before_clips_are_measured(clips, capsys):
    Path("file").touch()
    with pytest.raises(InputError, match=r"file/clip\.safetensors: cannot write"):
        command("--cache file")
    assert capsys.readouterr().err == ""


def test_what_cannot_be_measured_is_refused(clips, monkeypatch):
    with pytest.raises(InputError, match="--names depth: not one of dimofs"):
        command("--names depth")
    with pytest.raises(InputError, match="no data"):
        extract.main(data=ClipOptions())
    with pytest.raises(InputError, match="--root and --clips exclude each other"):
        command("--root clips")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(InputError, match="leave out torchrun"):
        command("--ray auto")
