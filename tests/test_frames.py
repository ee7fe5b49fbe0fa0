"""Each frame of a numbered video has the right index, time and picture: in order, from a time on, and by number."""

from __future__ import annotations

import random
from contextlib import closing
from fractions import Fraction

import av
import numpy as np
import pytest

from dimofs.reader import FrameReader, count_frames, read_clip
from dimofs.sources import sources
from dimofs.streams import Stream
from dimofs.timing import Clock, frame_rate
from dimofs.video import Frame, VideoClip, open_clip
from tests.support.numbered import FIRST, KINDS, RATE, Kind, number_of, numbered, write_numbered

FRAMES = 33


def read(path, *span) -> list[Frame]:
    (source,) = sources(str(path))
    with closing(open_clip(source)) as clip:
        return list(clip.frames(*span))


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.name)
def video(request, tmp_path_factory):
    kind = request.param
    try:
        av.Codec(kind.codec, "w")
    except ValueError:
        pytest.skip(f"FFmpeg has no {kind.codec} here")
    return write_numbered(tmp_path_factory.mktemp("videos") / kind.name, kind, FRAMES)


def test_every_frame_in_order(video):
    (source,) = sources(str(video))
    with closing(open_clip(source)) as clip:
        frames = list(clip.frames())
        assert [f.index for f in frames] == list(range(FRAMES))
        assert [number_of(f.pixels) - FIRST for f in frames] == list(range(FRAMES))
        # Some containers round times to milliseconds.
        assert [f.time for f in frames] == pytest.approx([k / RATE for k in range(FRAMES)], abs=1e-3)
        assert [f.duration for f in frames] == pytest.approx([1 / RATE] * FRAMES, abs=2e-3)
        assert clip.fps == pytest.approx(RATE, rel=1e-3) and clip.complaint == ""
    for frame in frames[::8]:
        # GIF has 8 bits a pixel.
        truth = numbered(FIRST + frame.index).astype(int)
        assert np.abs(frame.pixels - truth).mean() < (20 if video.suffix == ".gif" else 6)


def test_every_start_gives_what_a_full_read_has(video):
    whole = read(video)
    for start in (1e-4, 0.04, 0.25, 0.4, 0.4001, 0.79, 0.8, 1.17, 1.27):
        expected = [frame for frame in whole if frame.time >= start]
        found = read(video, start)
        assert [(f.index, f.time) for f in found] == [(f.index, f.time) for f in expected]
        assert all((a.pixels == b.pixels).all() for a, b in zip(found, expected, strict=True))


def test_frames_by_number(video):
    whole = read(video)
    reader = FrameReader(video)
    assert len(reader) == count_frames(video) == FRAMES
    generator = random.Random(0)
    for _ in range(8):
        numbers = generator.sample(range(FRAMES), 2)
        for number, pixels in zip(numbers, reader.read(numbers), strict=True):
            assert (pixels == whole[number].pixels).all()


def test_labels_and_frames_agree_in_training(tmp_path):
    """Pairs drawn of a clip that was cut without encoding carry the number that they are named by."""
    from dimofs.datasets.videos import Videos

    write_numbered(tmp_path / "x.mp4", Kind("x.mp4", options={"bf": "3"}, cut=16), FRAMES)
    source = Videos(str(tmp_path), reach=5)
    generator = np.random.default_rng(0)
    for _ in range(20):
        pair = source.pair(0, generator)
        a = int(pair.name.rpartition("/")[2])
        assert number_of(pair.frame_a.permute(1, 2, 0).numpy()) == FIRST + a
        assert number_of(pair.frame_b.permute(1, 2, 0).numpy()) == FIRST + a + pair.delta
    named = dict(source.frames())
    assert len(named) == source.length("x.mp4") == FRAMES


@pytest.mark.parametrize("name", ["x.ts", "x.mpg"])
def test_joined_recordings_go_on(tmp_path, name):
    kind = Kind(name, "mpeg2video", options={"bf": "2"})
    part = write_numbered(tmp_path / f"part.{name[2:]}", kind, FRAMES).read_bytes()
    (tmp_path / name).write_bytes(part + part)
    frames = read(tmp_path / name)
    assert [f.time for f in frames] == pytest.approx([k / RATE for k in range(2 * FRAMES)], abs=1e-3)
    assert [number_of(f.pixels) - FIRST for f in frames] == 2 * list(range(FRAMES))
    assert [f.index for f in read(tmp_path / name, 1.5)] == [k for k in range(2 * FRAMES) if frames[k].time >= 1.5]


@pytest.mark.parametrize("rate", [50, 60])
def test_raw_streams_keep_their_rate(tmp_path, rate):
    with av.open(str(tmp_path / "x.h264"), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        for i in range(20):
            frame = av.VideoFrame.from_ndarray(numbered(i), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    (source,) = sources(str(tmp_path / "x.h264"))
    with closing(open_clip(source)) as clip:
        assert clip.fps == rate
        assert [f.time for f in clip.frames()] == pytest.approx([k / rate for k in range(20)])


def test_empty_chunks_of_an_avi_are_time(tmp_path):
    """Frames 3 to 7 were dropped as they were recorded: frame 8 is shown at its time, and frame 2 until then."""
    with av.open(str(tmp_path / "x.avi"), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"bf": "0"})
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        for i in (0, 1, 2, 8, 9):
            frame = av.VideoFrame.from_ndarray(numbered(i), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    frames = read(tmp_path / "x.avi")
    assert [(f.index, number_of(f.pixels)) for f in frames] == [(0, 0), (1, 1), (2, 2), (3, 8), (4, 9)]
    assert [f.time for f in frames] == pytest.approx([0, 0.04, 0.08, 0.32, 0.36])
    assert frames[2].duration == pytest.approx(0.24)


def test_a_stream_that_begins_within_a_group(tmp_path):
    """Its first frames lack their references: they are not shown and not counted, whatever time one starts at."""
    whole = write_numbered(tmp_path / "whole.ts", Kind("x.ts", options={"bf": "3"}), FRAMES)
    with av.open(str(whole)) as source, av.open(str(tmp_path / "x.ts"), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        for number, packet in enumerate(source.demux(stream)):
            if packet.size and number >= 4:
                packet.stream = copy
                target.mux(packet)
    frames = read(tmp_path / "x.ts")
    assert [f.index for f in frames] == list(range(len(frames))) and len(frames) >= 2 * 10
    first = number_of(frames[0].pixels)
    assert frames[0].time == 0 and [number_of(f.pixels) for f in frames] == list(range(first, FIRST + FRAMES))
    assert len(FrameReader(tmp_path / "x.ts")) == len(frames)
    late = read(tmp_path / "x.ts", 0.6)
    assert [(f.index, f.time) for f in late] == [(f.index, f.time) for f in frames if f.time >= 0.6]


def test_a_long_video_is_numbered_without_being_decoded(tmp_path, monkeypatch):
    video = write_numbered(tmp_path / "x.mp4", Kind("x.mp4", options={"bf": "3"}), 200)
    monkeypatch.setattr("dimofs.reader.DECODED_WHOLE_PACKETS", 20)
    monkeypatch.setattr("dimofs.reader.READ_THROUGH_PACKETS", 20)
    monkeypatch.setattr("dimofs.reader._decoded_order", lambda source: pytest.fail("decoded whole"))
    reader = FrameReader(video)
    seeks = []
    monkeypatch.setattr(Stream, "seek", lambda self, stamp, seek=Stream.seek: (seeks.append(stamp), seek(self, stamp)))
    for number in (199, 0, 57, 120):
        (pixels,) = reader.read([number])
        assert number_of(pixels) == (FIRST + number) % 256
    assert len(reader) == 200 and len(seeks) == 3


def test_start_skips_what_packets_can_number(tmp_path):
    (source,) = sources(str(write_numbered(tmp_path / "x.mp4", Kind("x.mp4", options={"bf": "3"}, cut=16), FRAMES)))
    with closing(VideoClip(source)) as clip:
        assert next(clip.frames(1.0)).index == 25
        # Of the 40 packets before its keyframe, FFmpeg gives those from the keyframe that precedes the cut.
        assert clip.skipped == 30


def test_the_same_frames_as_an_iterator(tmp_path):
    video = write_numbered(tmp_path / "x.mp4", Kind("x.mp4"), 5)
    assert [number_of(pixels) - FIRST for pixels in read_clip(video)] == [0, 1, 2, 3, 4]


# Times


class Stamped:
    """A frame as a clock sees it."""

    def __init__(self, pts, duration=0, key_frame=False):
        self.pts, self.duration, self.key_frame = pts, duration, key_frame


def times(stamps) -> list[float]:
    clock = Clock("presentation", 0.001, 25.0)
    return [clock.time(Stamped(stamp), number) for number, stamp in enumerate(stamps)]  # type: ignore[arg-type]


def test_times_of_a_clock_by_hand():
    assert times([500, 540, 580]) == pytest.approx([0, 0.04, 0.08])
    # Without timestamps, frames follow at the usual distance.
    assert times([None, None, None, None]) == pytest.approx([0, 0.04, 0.08, 0.12])
    assert times([0, None, 100]) == pytest.approx([0, 0.04, 0.1])
    # Begun anew, twice.
    assert times([100, 140, 180, 100, 140, 100]) == pytest.approx([0, 0.04, 0.08, 0.12, 0.16, 0.2])
    # One timestamp too low.
    assert times([0, 40, 80, 70, 160]) == pytest.approx([0, 0.04, 0.08, 0.1, 0.16])
    # The same timestamp twice.
    assert times([0, 40, 40, 80]) == pytest.approx([0, 0.04, 0.06, 0.08])


def test_rates_by_hand():
    assert frame_rate([k / 25 for k in range(20)], [25.0, 26.25]) == 25.0
    # Milliseconds: 33, 67, 100 ...
    assert frame_rate([round(k / 30, 3) for k in range(40)], [600.0, 30.0]) == 30.0
    assert frame_rate([k / 24 for k in range(40)], [600.0]) == pytest.approx(24)
    # Variable: what the file states on average.
    assert frame_rate([0, 1, 1.1, 5, 9], [0.5]) == 0.5
    assert frame_rate([], []) is None and frame_rate([], [12.0]) == 12.0
