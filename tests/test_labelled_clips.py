"""Labelled clips: Diving48's lists, folders of classes, JHMDB's splits, and clips at fault."""

import json
import os
from pathlib import Path

import pytest

from dimofs.cli import InputError
from dimofs.datasets.diving48 import Dive, diving48_clips, open_clip_set, read_list, read_vocabulary
from dimofs.datasets.labelled_clips import ClipReader, LabelledClip, class_folders, jhmdb_clips, summary
from tests.support.clips import number, write_clip

REAL = Path(__file__).resolve().parents[2] / "shared/data/formats/diving48"

VOCABULARY = [[f"takeoff{i}", "15som", "NoTwis", "PIKE"] for i in range(48)]


def entry(name: str, label: int = 0, start: int = 0, end: int = 10) -> dict:
    return {"vid_name": name, "label": label, "start_frame": start, "end_frame": end}


def write_lists(root: Path, train: list, test: list, version: str = "_V2") -> Path:
    root.mkdir(exist_ok=True)
    (root / "Diving48_vocab.json").write_text(json.dumps(VOCABULARY))
    (root / f"Diving48{version}_train.json").write_text(json.dumps(train))
    (root / f"Diving48{version}_test.json").write_text(json.dumps(test))
    (root / "videos").mkdir(exist_ok=True)
    return root


def read(path: Path, start: int = 0, end: int | None = None, least: int = 1) -> tuple[list[int], ClipReader]:
    clip = LabelledClip(name="clip", path=path, label=0, part="train", start=start, end=end)
    reader = ClipReader(clip, least)
    return [number(frame.pixels) for frame in reader], reader


def test_diving48_lists_give_labels_parts_and_frames(tmp_path):
    root = write_lists(tmp_path, [entry("a", 3, end=7), entry("b", 47)], [entry("c", 3, 2, 9)])
    for name in "abc":
        write_clip(root / "videos" / f"{name}.mp4")
    clips = diving48_clips(root)
    assert [(c.name, c.label, c.part, c.start, c.end) for c in clips.clips] == [
        ("a", 3, "train", 0, 7),
        ("b", 47, "train", 0, 10),
        ("c", 3, "test", 2, 9),
    ]
    assert clips.classes[3] == "takeoff3 15som NoTwis PIKE"
    assert clips.counts("train")[[3, 30, 47]].tolist() == [1, 0, 1]
    assert 30 in clips.empty() and 47 not in clips.empty() and len(clips.empty()) == 46
    assert clips.described() == "Diving48 V2: 2 train clips and 1 test clips of 48 classes, 46 of them without a clip"


def test_absent_videos_are_listed_and_counted(tmp_path):
    root = write_lists(tmp_path, [entry("a"), entry("lost")], [entry("gone")])
    write_clip(root / "videos" / "a.mp4")
    clips = diving48_clips(root)
    assert [clip.name for clip in clips.clips] == ["a"]
    assert [(fault.name, fault.kind, fault.used) for fault in clips.missing] == [
        ("lost", "missing", False),
        ("gone", "missing", False),
    ]
    assert "2 missing" in clips.described()


@pytest.mark.parametrize("version", ["", "_V1"])
def test_version_1_is_read_where_version_2_is_absent_or_when_asked_for(tmp_path, version):
    root = write_lists(tmp_path, [entry("a", 1)], [entry("b")], version)
    write_clip(root / "videos" / "a.mp4")
    assert diving48_clips(root).title == "Diving48 V1"
    write_lists(tmp_path, [entry("a", 2)], [entry("b")])
    assert (diving48_clips(root).title, diving48_clips(root).clips[0].label) == ("Diving48 V2", 2)
    assert (diving48_clips(root, "V1").title, diving48_clips(root, "V1").clips[0].label) == ("Diving48 V1", 1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([], "not a list of videos"),
        ({"a": 1}, "not a list of videos"),
        ([3], "entry 0 is not an object"),
        ([entry("../a")], "entry 0: vid_name"),
        ([entry("a\ud800\n")], "entry 0: vid_name"),
        ([entry("a", 48)], "label 48 is not a number from 0 to 47"),
        ([entry("a", -1)], "label -1"),
        ([entry("a", True)], "label True"),
        ([entry("a", end=0)], "start_frame and end_frame are 0 and 0"),
        ([entry("a") | {"end_frame": None}], "0 and None"),
        ([entry("a"), entry("a")], "a is listed twice"),
        ([entry("b")], "b is listed twice"),
    ],
)
def test_malformed_lists_are_refused(tmp_path, wrong, message):
    root = write_lists(tmp_path, wrong, [entry("b")])
    with pytest.raises(InputError, match=message):
        diving48_clips(root)


def test_lists_without_any_video_or_vocabulary_are_refused(tmp_path):
    root = write_lists(tmp_path, [entry("a")], [entry("b")])
    with pytest.raises(InputError, match="holds none of the 2 videos"):
        diving48_clips(root)
    (root / "Diving48_vocab.json").write_text(json.dumps(VOCABULARY[:47]))
    with pytest.raises(InputError, match="48 lists of four words"):
        diving48_clips(root)
    with pytest.raises(InputError, match=r"holds no Diving48_V2_train\.json"):
        diving48_clips(root / "videos")


def test_real_lists_have_the_published_counts():
    if not REAL.is_dir():
        pytest.skip("needs ../shared/data")
    train = read_list(REAL / "Diving48_V2_train.json", Path("videos"), "train")
    test = read_list(REAL / "Diving48_V2_test.json", Path("videos"), "test")
    assert (len(train), len(test)) == (15_027, 1_970)
    assert {clip.label for clip in train + test} == set(range(48)) - {30}
    assert not {clip.name for clip in train} & {clip.name for clip in test}
    assert train[0].path == Path("videos/-mmq0PT-u8k_00155.mp4")
    assert read_vocabulary(REAL / "Diving48_vocab.json")[30] == Dive("Forward", "Dive", "NoTwis", "STR")


def test_folders_of_parts(tmp_path):
    for name in ("train/wave/a.mp4", "train/clap/b.avi", "val/wave/c.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "train/wave/notes.txt").touch()
    clips = class_folders(tmp_path)
    assert clips.classes == ["clap", "wave"]
    assert [(c.name, c.label, c.part) for c in clips.clips] == [
        ("train/clap/b", 0, "train"),
        ("train/wave/a", 1, "train"),
        ("val/wave/c", 1, "test"),
    ]


def test_one_part_alone_is_refused(tmp_path):
    (tmp_path / "train/wave").mkdir(parents=True)
    (tmp_path / "train/wave/a.mp4").touch()
    with pytest.raises(InputError, match="add the folder test"):
        class_folders(tmp_path)


def test_two_folders_of_one_part_are_refused(tmp_path):
    for part in ("train", "val", "test"):
        (tmp_path / part / "wave").mkdir(parents=True)
        (tmp_path / part / "wave/a.mp4").touch()
    with pytest.raises(InputError, match="test and val both hold clips to test; move one"):
        class_folders(tmp_path)


def test_names_in_no_encoding_are_escaped(tmp_path):
    folder = tmp_path / os.fsdecode(b"wave\xe9")
    folder.mkdir()
    (folder / os.fsdecode(b"\xff.mp4")).touch()
    (folder / "größe.mp4").touch()
    clips = class_folders(tmp_path)
    assert clips.classes == [r"wave\udce9"]
    assert [clip.name for clip in clips.clips] == [r"wave\udce9/größe", r"wave\udce9/\udcff"]
    fault = read(clips.clips[1].path)[1].fault
    assert fault is not None and fault.reason.isprintable()


def test_parts_are_drawn_class_by_class_and_the_same_each_time(tmp_path):
    for action, count in (("one", 1), ("two", 2), ("many", 20)):
        (tmp_path / action).mkdir()
        for i in range(count):
            (tmp_path / action / f"{i:02d}.mp4").touch()
    clips = open_clip_set(tmp_path)
    assert clips.classes == ["many", "one", "two"]
    # A quarter of twenty; of two clips one, so that the class can be tested; a single clip is to train on.
    assert clips.counts("test").tolist() == [5, 0, 1]
    assert clips.counts("train").tolist() == [15, 1, 1]
    assert clips == class_folders(tmp_path)
    assert clips.part("test") != class_folders(tmp_path, seed=1).part("test")


def test_folders_without_videos_or_with_two_of_a_name_are_refused(tmp_path):
    with pytest.raises(InputError, match="holds no videos in folders of classes"):
        class_folders(tmp_path)
    with pytest.raises(InputError, match="holds no videos in folders of classes"):
        class_folders(tmp_path / "absent")
    (tmp_path / "wave").mkdir()
    (tmp_path / "wave/a.mp4").touch()
    (tmp_path / "wave/a.avi").touch()
    with pytest.raises(InputError, match="two videos are called wave/a"):
        class_folders(tmp_path)


def test_jhmdb_splits(tmp_path):
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits/clap_test_split1.txt").write_text("a.avi 1\nb.avi 2\n")
    (tmp_path / "splits/wave_test_split1.txt").write_text("c.avi 2\nd.avi 0\n")
    for name in ("clap/a", "wave/c"):
        (tmp_path / "clips" / name).parent.mkdir(parents=True)
        (tmp_path / "clips" / f"{name}.avi").touch()
    clips = jhmdb_clips(tmp_path / "clips", tmp_path)
    assert [(c.name, c.label, c.part) for c in clips.clips] == [("clap/a", 0, "train"), ("wave/c", 1, "test")]
    assert [fault.name for fault in clips.missing] == ["clap/b"]
    assert open_clip_set(tmp_path / "clips", labels=tmp_path) == clips


def test_frames_of_a_part_of_a_video(tmp_path):
    path = write_clip(tmp_path / "a.mp4")
    assert read(path)[0] == list(range(10))
    assert read(path, 2, 5)[0] == [2, 3, 4]
    assert read(path, 2, 5)[1].fault is None
    assert read(path, 0, 10)[1].fault is None


def test_missing_short_and_damaged_clips_are_told_apart(tmp_path):
    whole = write_clip(tmp_path / "a.mp4", key_every=1)
    bytes_ = whole.read_bytes()
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "cut.mp4").write_bytes(bytes_[: len(bytes_) * 2 // 3])
    cases = {
        "missing": read(tmp_path / "none.mp4")[1],
        "short": read(whole, 0, 12)[1],
        "unused": read(whole, least=11)[1],
        "damaged": read(tmp_path / "text.mp4")[1],
        "cut": read(tmp_path / "cut.mp4")[1],
    }
    faults = {name: reader.fault for name, reader in cases.items()}
    assert {name: (fault.kind, fault.used) for name, fault in faults.items() if fault} == {
        "missing": ("missing", False),
        "short": ("short", True),
        "unused": ("short", False),
        "damaged": ("damaged", False),
        "cut": ("damaged", True),
    }
    assert 0 < cases["cut"].frames < 10
    assert "10 of the 12 frames" in str(faults["short"])
    assert summary(fault for fault in faults.values() if fault) == (
        "1 damaged, 1 damaged (used), 1 missing, 1 short, 1 short (used)"
    )
    assert summary([]) == "no clip at fault"
