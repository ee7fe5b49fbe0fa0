"""Still images: every orientation, the pixels that labels mean, and what is not one whole picture."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from dimofs import files
from dimofs.cli import InputError
from dimofs.images import is_animated, read_image
from dimofs.picture import png

# What is seen at each EXIF orientation of a stored picture [[1, 2, 3], [4, 5, 6]], by the EXIF standard.
SEEN = {
    1: [[1, 2, 3], [4, 5, 6]],
    2: [[3, 2, 1], [6, 5, 4]],
    3: [[6, 5, 4], [3, 2, 1]],
    4: [[4, 5, 6], [1, 2, 3]],
    5: [[1, 4], [2, 5], [3, 6]],
    6: [[4, 1], [5, 2], [6, 3]],
    7: [[6, 3], [5, 2], [4, 1]],
    8: [[3, 6], [2, 5], [1, 4]],
}
BLOCK = 16


def blocks(numbers) -> np.ndarray:
    """[H, W, 3] uint8: a grey block of 16 x 16 pixels for each number."""
    grey = np.kron(np.array(numbers, dtype=np.uint8) * 40, np.ones((BLOCK, BLOCK), dtype=np.uint8))
    return np.repeat(grey[..., None], 3, axis=2)


def read_blocks(image: np.ndarray) -> list[list[int]]:
    centres = image[BLOCK // 2 :: BLOCK, BLOCK // 2 :: BLOCK, 0]
    return np.round(centres / 40).astype(int).tolist()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(path: Path, image: np.ndarray, kind: bytes, data: bytes) -> Path:
    """A PNG that has another chunk behind its header."""
    content = png(image)
    path.write_bytes(content[:33] + png_chunk(kind, data) + content[33:])
    return path


def exif(orientation: int, order: str = "<") -> bytes:
    """A TIFF header and a directory with the tag of the orientation alone."""
    start = b"II*\0" if order == "<" else b"MM\0*"
    return start + struct.pack(order + "IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("orientation", SEEN)
def test_exif_orientations_of_png(tmp_path, orientation, order):
    image = read_image(png_with(tmp_path / "x.png", blocks(SEEN[1]), b"eXIf", exif(orientation, order)))
    assert read_blocks(image) == SEEN[orientation] and image.flags.c_contiguous


@pytest.mark.parametrize("suffix", ["jpg", "webp", "tiff", "avif"])
@pytest.mark.parametrize("orientation", SEEN)
def test_exif_orientations_as_cameras_write_them(tmp_path, orientation, suffix):
    image = pytest.importorskip("PIL.Image").fromarray(blocks(SEEN[1]))
    tags = image.getexif()
    tags[0x112] = orientation
    image.save(tmp_path / f"x.{suffix}", exif=tags)
    assert read_blocks(read_image(tmp_path / f"x.{suffix}")) == SEEN[orientation]


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_unknown_orientation_turns_nothing(tmp_path, value):
    image = read_image(png_with(tmp_path / "x.png", blocks(SEEN[1]), b"eXIf", exif(value)))
    assert read_blocks(image) == SEEN[1]


def test_the_size_of_the_annotations_decides_which_pixels_are_meant(tmp_path):
    path = png_with(tmp_path / "x.png", blocks(SEEN[1]), b"eXIf", exif(6))
    assert read_blocks(read_image(path, (48, 32))) == SEEN[6]
    assert read_blocks(read_image(path, (32, 48))) == SEEN[1]
    with pytest.raises(InputError, match=r"x.png: has 32 x 48 pixels, its annotations say 64 x 96"):
        read_image(path, (96, 64))


def test_a_half_turn_is_upright_at_the_size_of_the_annotations(tmp_path):
    path = png_with(tmp_path / "x.png", blocks(SEEN[1]), b"eXIf", exif(3))
    assert read_blocks(read_image(path, (32, 48))) == SEEN[3]


@pytest.mark.parametrize("suffix", ["png", "webp", "avif", "gif"])
def test_an_animation_is_not_one_image(tmp_path, suffix):
    images = [pytest.importorskip("PIL.Image").fromarray(np.full((48, 64, 3), 60 * i, np.uint8)) for i in range(3)]
    path = tmp_path / f"x.{suffix}"
    images[0].save(path, save_all=True, append_images=images[1:], duration=100)
    with pytest.raises(InputError, match="is an animation"):
        read_image(path)
    assert is_animated(path) == (suffix != "webp")


def test_a_jpeg_in_a_tiff_is_refused_and_a_black_tiff_is_not(tmp_path):
    image = pytest.importorskip("PIL.Image").fromarray(blocks(SEEN[1]))
    image.save(tmp_path / "x.tiff", compression="jpeg")
    with pytest.raises(InputError, match="JPEG within a TIFF"):
        read_image(tmp_path / "x.tiff")
    image.point(lambda _: 0).save(tmp_path / "black.tiff", compression="tiff_lzw")
    assert not read_image(tmp_path / "black.tiff").any()


def test_transparency_is_no_second_picture(tmp_path):
    alpha = np.full((32, 48, 1), 99, np.uint8)
    image = pytest.importorskip("PIL.Image").fromarray(np.concatenate((blocks(SEEN[1]), alpha), axis=2))
    image.save(tmp_path / "x.avif")
    assert read_blocks(read_image(tmp_path / "x.avif")) == SEEN[1]


def test_kinds_go_by_content(tmp_path):
    (tmp_path / "x.jpg").write_bytes(png(blocks(SEEN[1])))
    assert read_blocks(read_image(tmp_path / "x.jpg")) == SEEN[1]
    (tmp_path / "x.ppm").write_bytes(b"P6 48 32 255\n" + blocks(SEEN[1]).tobytes())
    assert (read_image(tmp_path / "x.ppm") == blocks(SEEN[1])).all()


@pytest.mark.parametrize(
    "content", [b"#EXTM3U\n", b"ffconcat version 1.0\nfile x.png\n", b"", b"II*\0", b"\x89PNG\r\n\x1a\n"]
)
def test_what_is_no_image(tmp_path, content):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_image(tmp_path / "x.png")
    assert str(tmp_path / "x.png") in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["none.png", ".", "a\0b.png", "x" * 5000, "\ud800.png"])
def test_names_that_name_no_image(tmp_path, name):
    with pytest.raises(InputError):
        read_image(tmp_path / name)


def test_tiles_are_refused():
    path = Path(__file__).parent.parent / "../shared/cases/tiled_avif/grid.avif"
    if not path.exists():
        pytest.skip("needs ../shared/cases")
    with pytest.raises(InputError, match="6 tiles"):
        read_image(path)


def test_names_in_data_files_stay_in_their_folder(tmp_path):
    for name in ("a.jpg", "b/c d.jpg", "2019:01.jpg", "50%d[1].png", "...png", "a..b/c.jpg"):
        assert files.inside(tmp_path, name) == tmp_path / name
    bad = (
        "",
        " ",
        "/etc/passwd",
        "../x.jpg",
        "a/../../x.jpg",
        "..\\x.jpg",
        "http://host/x.jpg",
        "http:x.mp4",
        "a\0.jpg",
    )
    for name in (*bad, "concat:a|b", "\\\\host\\x", "C:\\x.jpg", None, 3):
        with pytest.raises(InputError) as caught:
            files.inside(tmp_path, name)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["x.jpg", "progressive.jpg", "x.gif"])
@pytest.mark.parametrize("part", [0.4, 0.7, 0.99])
def test_a_cut_image_is_refused(tmp_path, name, part):
    """FFmpeg's decoders of JPEG and GIF fill in what is missing."""
    Image = pytest.importorskip("PIL.Image")
    noise = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / name, **({"progressive": True} if name == "progressive.jpg" else {}))
    content = (tmp_path / name).read_bytes()
    assert read_image(tmp_path / name).shape == (64, 96, 3)
    (tmp_path / name).write_bytes(content + bytes(3))
    assert read_image(tmp_path / name).shape == (64, 96, 3)
    (tmp_path / name).write_bytes(content[: int(part * len(content))])
    with pytest.raises(InputError, match=f"{name}: cannot be read as an image .it ends early"):
        read_image(tmp_path / name)
