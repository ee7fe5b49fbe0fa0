"""Sources and clips: what inputs name, frames with their numbers, times and turns, damage in one line."""

import os
import random
import threading
import time
from contextlib import closing
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from dimofs.ahead import ahead, behind
from dimofs.cli import InputError
from dimofs.images import read_image
from dimofs.reader import FrameReader, read_clip
from dimofs.sources import sources
from dimofs.video import Frame, VideoClip, open_clip
from tests.support.clips import number, picture, write_clip, write_image, write_video


def read(path, *span) -> list[Frame]:
    (source,) = sources(str(path))
    return list(open_clip(source).frames(*span))


def error(path, *span) -> str:
    with pytest.raises(InputError) as caught:
        read(path, *span)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


# Sources


def test_inputs_by_kind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.mp4", "a.avi", "x.txt", "a.poses.mp4", "pics/f10.png", "pics/f9.PNG", "pics/deep/1.jpg"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    kinds = {text: [(s.name, s.folder, s.still) for s in sources(text)] for text in ("b.mp4", "pics/f10.png", ".")}
    assert kinds["b.mp4"] == [("b", Path(), False)]
    assert kinds["pics/f10.png"] == [("f10", Path("pics"), True)]
    assert [name for name, _, _ in kinds["."]] == ["a", "b"]  # no text, no overlay of ours
    assert [s.images for s in sources("pics")] == [(Path("pics/f9.PNG"), Path("pics/f10.png"))]
    assert [s.name for s in sources("**/*")] == ["a", "b", "deep", "pics"]
    assert [s.folder for s in sources("pics/*.png")] == [Path()]  # beside the folder, as `pics` itself
    (url,) = sources("https://host/path/walk.mp4?x=1")
    assert (url.name, url.live) == ("walk", False)


def test_webcam_is_live_and_absent_here():
    (source,) = sources("63")
    assert source.live and source.name == "webcam63"
    with pytest.raises(InputError, match="webcam 63"):
        open_clip(source)


@pytest.mark.parametrize("text", ["nothing.mp4", "nothing*.mp4", "empty"])
def test_inputs_that_name_nothing(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=text.replace("*", r"\*")):
        sources(text)


# Clips


@pytest.mark.parametrize("name", ["x.mp4", "x.avi", "x.mkv", "a:b 50%d[1].mp4"])
def test_frames_have_numbers_and_times(tmp_path, name):
    frames = read(write_clip(tmp_path / name, 10))
    assert [f.index for f in frames] == list(range(10)) == [number(f.pixels) for f in frames]
    assert [f.time for f in frames] == pytest.approx([i / 25 for i in range(10)], abs=1e-3)
    assert frames[0].pixels.shape == (48, 64, 3) and frames[0].duration == pytest.approx(0.04, abs=1e-3)
    assert np.abs(frames[3].pixels.astype(int) - picture(3)).mean() < 4


@pytest.mark.parametrize("codec, name", [("libx264", "x.mp4"), ("mpeg4", "x.avi")])
@pytest.mark.parametrize("span", [(0.0, 0.5, 1), (0.5, None, 1), (0.77, 1.3, 3), (1.0, 1.04, 1), (0.0, None, 7)])
def test_span_takes_what_a_full_read_has(tmp_path, codec, name, span):
    path = write_clip(tmp_path / name, 40, codec=codec)
    start, end, every = span
    chosen = [f for f in read(path) if f.time >= start and (end is None or f.time < end)][::every]
    taken = read(path, *span)
    assert [(f.index, f.time) for f in taken] == [(f.index, f.time) for f in chosen]
    assert [number(f.pixels) for f in taken] == [f.index for f in taken]
    (source,) = sources(str(path))
    assert open_clip(source).count(*span) == len(taken)


def test_start_decodes_from_the_last_keyframe(tmp_path):
    (source,) = sources(str(write_clip(tmp_path / "x.mp4", 40)))
    clip = VideoClip(source)
    assert next(clip.frames(1.2)).index == 30
    assert clip.skipped == 24  # keyframes at 0, 12, 24, 36


@pytest.mark.parametrize("rotation, corner", [(90, (-1, 0)), (-90, (0, -1)), (180, (-1, -1))])
def test_rotated_videos_are_upright(tmp_path, rotation, corner):
    """The red quarter, stored at the upper left, goes where a counterclockwise turn takes it."""
    path = write_video(tmp_path / "x.mp4", [picture(5)] * 3, rotation=rotation)
    pixels = read(path)[0].pixels
    assert pixels.shape == ((64, 48, 3) if rotation % 180 else (48, 64, 3)) and pixels.flags.c_contiguous
    assert pixels[corner][0] > 200 and pixels[corner][1] < 60
    assert abs(int(pixels[-1 - corner[0]][-1 - corner[1]][0]) - 41) < 8


@pytest.mark.parametrize("turned", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("name", ["x.mp4", "x.mov"])
def test_display_matrices_turn_and_mirror(tmp_path, turned, mirrored, name):
    """FFmpeg's own convention: turned counterclockwise first, then mirrored left to right."""
    path = write_video(tmp_path / name, [picture(5)] * 3, rotation=turned, mirrored=mirrored)
    truth = np.rot90(picture(5), turned // 90).astype(int)
    truth = truth[:, ::-1] if mirrored else truth
    for pixels in (read(path)[0].pixels, FrameReader(path).read([1])[0], next(read_clip(path))):
        assert pixels.shape == truth.shape and np.abs(pixels - truth).mean() < 4


def test_a_pixel_may_be_wider_than_high(tmp_path):
    for rotation, aspect in ((0, Fraction(64, 45)), (90, Fraction(45, 64))):
        path = write_video(tmp_path / f"x{rotation}.mp4", [picture(5)] * 3, rotation=rotation, aspect=Fraction(64, 45))
        clip = open_clip(*sources(str(path)))
        assert len(list(clip.frames())) == 3 and clip.pixel_aspect == aspect
    square = open_clip(*sources(str(write_clip(tmp_path / "square.mp4"))))
    assert len(list(square.frames())) == 10 and square.pixel_aspect == 1


def test_the_default_of_two_tracks_is_shown(tmp_path):
    with av.open(str(tmp_path / "x.mkv"), "w") as container:
        tracks = [container.add_stream("libx264", rate=25) for _ in range(2)]
        for track in tracks:
            track.height, track.width, track.pix_fmt = 48, 64, "yuv420p"
        tracks[0].disposition, tracks[1].disposition = Disposition(0), Disposition.default
        for value, track in zip((0, 200), tracks, strict=True):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), value, dtype=np.uint8), format="rgb24")
            frame.pts = 0
            container.mux(track.encode(frame))
            container.mux(track.encode())
    assert read(tmp_path / "x.mkv")[0].pixels.mean() == pytest.approx(200, abs=4)


@pytest.mark.parametrize("suffix", ["png", "avif", "gif"])
def test_animations_are_videos(tmp_path, suffix):
    images = [pytest.importorskip("PIL.Image").fromarray(picture(10 * i)) for i in range(3)]
    images[0].save(tmp_path / f"x.{suffix}", save_all=True, append_images=images[1:], duration=[100, 300, 200])
    frames = read(tmp_path / f"x.{suffix}")
    assert [f.time for f in frames] == pytest.approx([0, 0.1, 0.4]) and frames[2].index == 2
    assert [number(f.pixels) for f in frames] == pytest.approx([0, 10, 20], abs=1)
    write_image(tmp_path / "still.png", picture(1))
    assert [s.name for s in sources(str(tmp_path))] == ["x", tmp_path.name]


@pytest.mark.parametrize("name", [b"caf\xe9.mp4", b"a\nb.mp4", "\u4eba.mp4".encode(), b"http:x.mp4", b"concat:a|b.mkv"])
def test_names_of_any_kind(tmp_path, name):
    path = tmp_path / os.fsdecode(name)
    write_clip(tmp_path / f"plain{path.suffix}", 3).rename(path)
    for text in (path, tmp_path):
        (source,) = sources(str(text))
        with closing(open_clip(source)) as clip:
            assert len(list(clip.frames())) == 3 == len(FrameReader(path))
        source.text.encode()
        assert source.text.isprintable()


def test_a_title_in_any_encoding(tmp_path):
    path = write_video(tmp_path / "x.mkv", [picture(1)] * 3, title="TITLETITLE")
    path.write_bytes(path.read_bytes().replace(b"TITLETITLE", b"\xe9\xff\xfe\x80titles"))
    assert len(read(path)) == 3 == len(FrameReader(path))


@pytest.mark.parametrize(
    "text", ["\u00b2", "\u0663", "x" * 5000, "a\0b.mp4", "\ud800.mp4", "9" * 5000, "http://[x/y.mp4"]
)
def test_odd_texts_that_name_nothing(text):
    with pytest.raises(InputError) as caught:
        open_clip(*sources(text))
    assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


def test_secrets_of_a_url_stay_in_its_address():
    address = "https://me:secret@host:8080/live/walk.m3u8?token=abc&user=me#part"
    (source,) = sources(address)
    assert source.address == address and source.name == "walk"
    assert source.text == "https://host:8080/live/walk.m3u8"


def test_playlists_read_their_own_folder_only(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    write_clip(inside / "a.ts", 5)
    write_clip(tmp_path / "b.ts", 5)
    head = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.2,\n"
    (inside / "x.m3u8").write_text(f"{head}a.ts\n#EXT-X-ENDLIST\n")
    assert len(read(inside / "x.m3u8")) == 5
    requests = []

    class Handler(SilentHandler):
        def do_GET(self) -> None:
            requests.append(self.path)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        remote = f"http://127.0.0.1:{server.server_port}/b.ts"
        for entry in ("../b.ts", str(tmp_path / "b.ts"), f"file://{tmp_path}/b.ts", remote, f"concat:{tmp_path}/b.ts"):
            (inside / "x.m3u8").write_text(f"{head}{entry}\n#EXT-X-ENDLIST\n")
            error(inside / "x.m3u8")
            (inside / "x.mp4").write_text(f"ffconcat version 1.0\nfile '{entry}'\n")
            error(inside / "x.mp4")
        server.shutdown()
    assert not requests


def test_variable_rate_keeps_true_times(tmp_path):
    times = [0.0, 1.0, 1.1, 5.0, 9.0]
    frames = read(write_video(tmp_path / "x.mp4", [picture(i) for i in range(5)], times))
    assert [f.time for f in frames] == pytest.approx(times, abs=1e-3)


def test_times_count_from_the_first_frame(tmp_path):
    frames = read(write_clip(tmp_path / "x.ts", 5))  # the first timestamp of a transport stream is 1.4 s
    assert frames[0].time == 0.0 and frames[4].time == pytest.approx(0.16)


def test_images_of_a_folder_in_natural_order_and_any_size(tmp_path):
    for i in (10, 9, 2):
        write_image(tmp_path / f"f{i}.png", picture(i, height=40 + i))
    frames = read(tmp_path)
    assert [(number(f.pixels), f.file and f.file.name, f.index) for f in frames] == [
        (2, "f2.png", 0), (9, "f9.png", 1), (10, "f10.png", 2)
    ]  # fmt: skip
    assert [f.pixels.shape[0] for f in frames] == [42, 49, 50]
    assert [f.time for f in frames] == [0.0, 0.04, 0.08]


def test_damaged_image_is_left_out_and_named(tmp_path):
    write_image(tmp_path / "a.png", picture(1))
    (tmp_path / "b.png").write_bytes(b"no image")
    clip = open_clip(*sources(str(tmp_path)))
    assert len(list(clip.frames())) == 1
    assert "b.png" in clip.complaint and "\n" not in clip.complaint
    assert "image" in error(tmp_path / "b.png")


def test_camera_orientation_of_a_photograph(tmp_path):
    image = pytest.importorskip("PIL.Image").fromarray(picture(3))
    exif = image.getexif()
    exif[0x112] = 6  # turn clockwise to see it upright
    image.save(tmp_path / "x.jpg", exif=exif, quality=95)
    pixels = read_image(tmp_path / "x.jpg")
    assert pixels.shape == (64, 48, 3) and pixels[0, -1, 0] > 200 > pixels[0, 0, 0]


def test_url(tmp_path):
    write_clip(tmp_path / "walk.mp4", 6)
    handler = partial(SilentHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        assert [number(f.pixels) for f in read(f"{address}/walk.mp4")] == list(range(6))
        error(f"{address}/absent.mp4")
        server.shutdown()


class SilentHandler(SimpleHTTPRequestHandler):
    """Files, and no log."""

    def log_message(self, *_) -> None:
        pass


# Damage


def test_truncated_video_gives_what_decodes_and_says_so(tmp_path):
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 255, (48, 64, 3), dtype=np.uint8) for _ in range(50)]
    for name in ("x.mp4", "x.mkv", "x.avi"):
        whole = write_video(tmp_path / name, images, codec="mpeg4" if name == "x.avi" else "libx264").read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        clip = open_clip(*sources(str(tmp_path / name)))
        frames = list(clip.frames())
        assert 10 < len(frames) < 40
        assert "ends early" in clip.complaint and "of 2.0 s" in clip.complaint and name in clip.complaint


def test_whole_videos_give_no_complaint(tmp_path):
    variable = [0.0, 1.0, 1.1, 5.0]
    for name, times in (("x.mp4", None), ("x.mkv", None), ("x.avi", None), ("v.mp4", variable), ("x.ts", None)):
        path = write_video(tmp_path / name, [picture(i) for i in range(4)], times)
        clip = open_clip(*sources(str(path)))
        assert len(list(clip.frames())) == 4 and clip.complaint == ""


def test_damage_within_is_survived(tmp_path):
    path = write_clip(tmp_path / "x.mkv", 45, codec="mpeg4")
    content = bytearray(path.read_bytes())
    random.seed(0)
    for i in random.sample(range(len(content) // 3, len(content)), 40):
        content[i] ^= 255
    path.write_bytes(content)
    assert len(read(path)) > 15


@pytest.mark.parametrize("content", [b"", b"text\n" * 100, bytes(range(256)) * 40])
@pytest.mark.parametrize("name", ["x.mp4", "x.txt", "x.jpg"])
def test_what_is_no_video(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    error(tmp_path / name)


def test_sound_is_no_video(tmp_path):
    with av.open(str(tmp_path / "x.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), dtype=np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    assert "no video" in error(tmp_path / "x.wav")


def test_nothing_in_the_span(tmp_path):
    assert "no frame decodes in that time" in error(write_clip(tmp_path / "x.mp4", 5), 7.0)


def test_a_changing_size_is_refused(tmp_path):
    for name, height in (("a.h264", 48), ("b.h264", 64)):
        write_video(tmp_path / name, [picture(1, height=height)] * 3)
    (tmp_path / "x.h264").write_bytes((tmp_path / "a.h264").read_bytes() + (tmp_path / "b.h264").read_bytes())
    assert "size changes from 64x48 to 64x64 at frame 3" in error(tmp_path / "x.h264")


# Threads


def test_ahead_keeps_order_and_bounds():
    made = []

    def items():
        for i in range(100):
            made.append(i)
            yield i

    reader = ahead(items(), 4)
    assert next(reader) == 0
    time.sleep(0.1)
    assert len(made) <= 7
    assert list(reader) == list(range(1, 100))


def test_ahead_raises_in_place():
    def items():
        yield 1
        raise InputError("broken")

    reader = ahead(items(), 4)
    assert next(reader) == 1
    with pytest.raises(InputError, match="broken"):
        next(reader)


def test_ahead_stops_with_its_reader():
    closed = threading.Event()

    def items():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    before = threading.active_count()
    reader = ahead(items(), 2)
    next(reader)
    reader.close()
    assert closed.is_set() and threading.active_count() == before


def test_behind_keeps_order_and_bounds():
    """Two calls may wait: the fourth is handed over when the first is done, and the end waits for all."""
    done, go = [], threading.Event()

    def work(number: int) -> None:
        assert go.wait(10)
        done.append(number)

    with behind(work, 3) as hand_over:
        for number in range(3):
            hand_over(number)
        assert not done
        go.set()
        hand_over(3)
        assert done[:1] == [0]
    assert done == [0, 1, 2, 3]


@pytest.mark.parametrize("last", [2, 9], ids=["at the end", "by a later call"])
def test_behind_raises(last):
    handed = []
    with pytest.raises(ZeroDivisionError), behind(lambda number: 1 / (number - 2), 2) as hand_over:
        for number in range(last + 1):
            hand_over(number)
            handed.append(number)
    assert handed[-1] == min(last, 3)
