"""MATLAB files: every type of number, compressed or not, equal to SciPy's reading; damaged files are refused."""

import io
import os
import struct

import numpy as np
import pytest
import scipy.io

from dimofs.cli import InputError
from dimofs.datasets.matlab import read_mat
from dimofs.datasets.npz import read_npz
from tests.test_datasets import needs

TYPES = ["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"]


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "compressed"])
def test_arrays_of_every_type(tmp_path, kind, packed):
    """The array stands between others, some of them of kinds that are not read."""
    values = np.arange(24).reshape(2, 3, 4).astype(kind)
    others = {"before": "some text", "made": {"x": np.ones(3)}, "mixed": np.array([1j]), "after": np.zeros((2, 2))}
    scipy.io.savemat(tmp_path / "a.mat", others | {"x": values}, do_compression=packed)
    found = read_mat(tmp_path / "a.mat", "x", 3)
    assert found.dtype == values.dtype and (found == values).all()
    assert read_mat(tmp_path / "a.mat", "after", 2).shape == (2, 2)
    for name in ("before", "made", "mixed", "absent"):
        with pytest.raises(InputError, match=f"a.mat: holds no numeric array '{name}'"):
            read_mat(tmp_path / "a.mat", name, 2)


def element(kind: int, data: bytes) -> bytes:
    return struct.pack(">II", kind, len(data)) + data + bytes(-len(data) % 8)


def test_big_endian_numbers_in_a_smaller_type_by_hand(tmp_path):
    """As MATLAB saves whole numbers on a big-endian machine: a double array [2, 1, 2], stored as int16."""
    parts = element(6, struct.pack(">II", 6, 0)) + element(5, struct.pack(">iii", 2, 1, 2))
    parts += struct.pack(">HH4s", 1, 1, b"x") + element(3, struct.pack(">4h", 1, -2, 3, 400))
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x01\x00MI"
    (tmp_path / "a.mat").write_bytes(header + element(14, parts))
    found = read_mat(tmp_path / "a.mat", "x", 3)
    assert found.dtype == np.int16 and found[:, 0].tolist() == [[1, 3], [-2, 400]]


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "compressed"])
def test_damaged_bytes_and_every_end_are_survived(tmp_path, packed):
    file = io.BytesIO()
    scipy.io.savemat(file, {"x": np.arange(4.0)}, do_compression=packed)
    whole, path = file.getvalue(), tmp_path / "a.mat"
    damaged = [whole[:end] for end in range(len(whole))]
    for place in range(124, len(whole), 3):
        for value in (0, 14, 127, 255):
            damaged.append(whole[:place] + bytes([value]) + whole[place + 1 :])
    for content in damaged:
        path.write_bytes(content)
        try:
            read_mat(path, "x", 2)
        except InputError as error:
            assert "\n" not in str(error) and "a.mat" in str(error)


def test_foreign_files_are_told(tmp_path):
    for content, message in (
        (b"", "not a MATLAB file of version 5 to 7"),
        (b"\x89HDF\r\n\x1a\n" + bytes(600), "is a MATLAB 7.3 file"),
        (b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM", "is a MATLAB 7.3 file .* save it again"),
    ):
        (tmp_path / "a.mat").write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_mat(tmp_path / "a.mat", "x", 2)
    with pytest.raises(InputError, match=r"none\.mat: cannot read"):
        read_mat(tmp_path / "none.mat", "x", 2)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("lspet/joints.mat", "joints"),
        ("formats/jhmdb/joint_positions.mat", "pos_img"),
        ("formats/jhmdb/puppet_mask.mat", "part_mask"),
    ],
)
def test_real_files_as_scipy_reads_them(path, name):
    found, expected = read_mat(needs(path), name, 3), scipy.io.loadmat(str(needs(path)))[name]
    assert found.dtype == expected.dtype and np.array_equal(found, expected)


def test_pipes_are_refused(tmp_path):
    """Reading one would wait forever."""
    os.mkfifo(tmp_path / "a.mat")
    for read in (lambda path: read_mat(path, "x", 2), read_npz):
        with pytest.raises(InputError, match=r"a\.mat: (is not a regular|no such) file"):
            read(tmp_path / "a.mat")
