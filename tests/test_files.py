"""Files read whole and within bounds; results that are whole or absent, and that replace files alone."""

import gzip
import os
import subprocess
import sys

import pytest

from dimofs import files
from dimofs.cli import InputError
from dimofs.files import read_bytes, read_json, replacing, write_json
from tests.support.bad_files import make_device


def test_reads_gzip_by_its_content(tmp_path):
    (tmp_path / "x.json").write_bytes(gzip.compress(b'{"a": [1, 2]}'))
    assert read_json(tmp_path / "x.json") == {"a": [1, 2]}
    (tmp_path / "x.json").write_bytes(gzip.compress(b"[1]") + gzip.compress(b"  "))
    assert read_json(tmp_path / "x.json") == [1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a JSON file"),
        (b"{", "not a JSON file"),
        (b"\xff\xfe\xff", "not a JSON file"),
        (b"[" * 200_000, "nested too deeply"),
        (b"[" + b"9" * 5000 + b"]", "not a JSON file"),
        (gzip.compress(b"[1]")[:-9], "damaged gzip"),
        (b"\x1f\x8bhello", "damaged gzip"),
    ],
)
def test_what_is_not_json_is_told(tmp_path, content, message):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(InputError, match=rf"x\.json: .*{message}"):
        read_json(tmp_path / "x.json")


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_files_that_are_too_large_are_refused(tmp_path, monkeypatch, pack):
    monkeypatch.setattr(files, "MOST_BYTES", 1000)
    path = tmp_path / "x.json"
    path.write_bytes(pack(bytes(1000)))
    assert read_bytes(path) == bytes(1000)
    path.write_bytes(pack(bytes(1001)))
    with pytest.raises(InputError, match=r"x\.json: holds more than .* MiB; split it"):
        read_bytes(path)


def test_only_regular_files_are_read(tmp_path):
    """A pipe that nobody writes to would never end, nor would a device of zeros."""
    os.mkfifo(tmp_path / "pipe")
    make_device(tmp_path / "zeros", 5)
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "zeros"):
        with pytest.raises(InputError, match="is not a regular file"):
            read_bytes(path)
    for path in (tmp_path / "absent", tmp_path / "no\0name", tmp_path / ("x" * 5000)):
        with pytest.raises(InputError, match="cannot read"):
            read_bytes(path)


def test_a_link_stays_and_its_file_is_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.json").symlink_to("folder/real.json")
    for value in (1, 2):
        write_json(tmp_path / "link.json", value)
        assert (tmp_path / "link.json").is_symlink() and read_json(tmp_path / "folder/real.json") == value
    assert os.listdir(tmp_path / "folder") == ["real.json"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("pipe", "pipe or a device"), ("folder", "is a folder"), ("loop", "cannot write"), ("no\0name", "cannot write")],
)
def test_results_replace_files_alone(tmp_path, name, message):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InputError, match=message), replacing(tmp_path / name):
        pytest.fail("it is told before anything is written")
    assert sorted(os.listdir(tmp_path)) == ["folder", "loop", "pipe"]
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("path", [".", ""])
def test_folders_are_no_results(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="is a folder; name a file"):
        write_json(path, 1)


@pytest.mark.parametrize("minor", [3, 7], ids=["null", "full"])
def test_devices_stay(minor, tmp_path):
    make_device(tmp_path / "device", minor)
    with pytest.raises(InputError, match="pipe or a device; name a file"):
        write_json(tmp_path / "device", 1)
    assert not (tmp_path / "device").is_file() and os.listdir(tmp_path) == ["device"]


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("new")
        raise RuntimeError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["x.json"]
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, float("nan"))
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["x.json"]


def test_leftovers_of_dead_processes_are_removed(tmp_path):
    """Only those of the same result; what another process still writes stays, and so does any other file."""
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    names = (
        f".x.json.{process.pid}.part",
        f".x.json.{os.getppid()}.part",
        f".y.json.{process.pid}.part",
        ".x.json.a.part",
    )
    for name in names:
        (tmp_path / name).touch()
    write_json(tmp_path / "x.json", 1)
    assert {path.name for path in tmp_path.iterdir()} == {"x.json", *names[1:]}
