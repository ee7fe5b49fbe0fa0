"""Data sets and teacher labels, from made-up files and from real ones."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch

from dimofs.cli import InputError
from dimofs.datasets import teacher
from dimofs.datasets.augment.mixture import Mixture
from dimofs.datasets.coco import CocoKeypoints
from dimofs.datasets.jhmdb import Jhmdb, read_joint_positions, read_puppet_boxes, read_split
from dimofs.datasets.lspet import Lspet
from dimofs.datasets.npz import read_npz
from dimofs.datasets.people import People, box_of_joints
from dimofs.datasets.teacher import Taught, merge
from dimofs.detections import Detections
from dimofs.images import read_image
from dimofs.reader import read_clip, read_frames
from dimofs.skeletons import DIMOFS
from tests.support.scenes import Dots, joint, person, write_clip, write_image

DATA = Path(__file__).resolve().parents[2] / "shared/data"


def needs(path: str) -> Path:
    if not (DATA / path).exists():
        pytest.skip(f"{DATA / path} is absent")
    return DATA / path


# --- teacher ---


def taught(*people: tuple) -> Detections:
    """The teacher's people: (box, score, {joint: (x, y, score)})."""
    found = Detections.empty(17)
    for box, score, joints in people:
        keypoints, scores = torch.zeros(1, 17, 2), torch.zeros(1, 17)
        for name, (x, y, s) in joints.items():
            keypoints[0, joint(name)], scores[0, joint(name)] = torch.tensor((x, y)), s
        one = Detections(torch.tensor([box]).float(), torch.tensor([score]), keypoints, scores)
        found = Detections(*(torch.cat((getattr(found, f), getattr(one, f))) for f in _FIELDS))
    return found


_FIELDS = ("boxes", "scores", "keypoints", "keypoint_scores")


def test_the_same_person_by_hand():
    """True joints win, sure teacher joints fill gaps; box area 400: a noisy joint 5 px off a sure teacher's is out."""
    truth = person((10, 10, 30, 30), nose=(15, 15), left_wrist=(20, 20), left_knee=(25, 25), neck=(12, 12))
    seen = {
        "nose": (19.9, 15, 0.9),  # 4.9 px off: too near to overrule
        "left_wrist": (25.1, 20, 0.9),  # 5.1 px off: overrules if noisy
        "left_knee": (10, 25, 0.45),  # far, but not sure enough to overrule
        "left_hip": (22, 22, 0.31),  # fills
        "right_hip": (24, 22, 0.29),  # too unsure
        "left_ankle": (28, 61, 0.9),  # outside the frame
    }
    merged = merge(truth, taught(((11, 10, 30, 30), 0.2, seen)), 60, 60)
    named = [DIMOFS[i] for i in merged.labelled[0].nonzero()[:, 0]]
    assert named == ["nose", "left_wrist", "left_hip", "left_knee", "neck"]
    assert merged.keypoints[0, joint("left_hip")].tolist() == [22, 22]
    assert torch.equal(merged.keypoints[truth.labelled], truth.keypoints[truth.labelled])
    assert torch.equal(merged.boxes, truth.boxes) and len(merged.ignore) == 0
    noisy = merge(truth, taught(((11, 10, 30, 30), 0.2, seen)), 60, 60, noisy=True)
    assert [DIMOFS[i] for i in noisy.labelled[0].nonzero()[:, 0]] == ["nose", "left_hip", "left_knee", "neck"]
    assert truth.labelled.sum() == 4  # merge changes nothing in place


def test_people_that_only_the_teacher_sees():
    truth = person((10, 10, 30, 30), nose=(15, 15))
    truth.ignore = torch.tensor([[0.0, 50.0, 9.0, 59.0]])
    seen = taught(
        ((40, 10, 60, 30), 0.35, {"nose": (45, 15, 0.6), "left_eye": (46, 14, 0.2)}),  # joins
        ((40, 40, 60, 59), 0.34, {"nose": (45, 45, 0.9)}),  # ignored
        ((0, 40, 20, 49), 0.11, {"nose": (5, 45, 0.9)}),  # nothing
        ((10, 10, 30, 59), 0.9, {"nose": (15, 15, 0.9)}),  # IoU 400 / 980 with the labelled person: perhaps the same
    )
    merged = merge(truth, seen, 60, 60)
    assert merged.boxes.tolist() == [[10, 10, 30, 30], [40, 10, 60, 30]]
    assert [DIMOFS[i] for i in merged.labelled[1].nonzero()[:, 0]] == ["nose"]
    assert merged.ignore.tolist() == [[0, 50, 9, 59], [40, 40, 60, 59], [10, 10, 30, 59]]
    complete = merge(truth, seen, 60, 60, complete=True)
    assert len(complete) == 1 and torch.equal(complete.ignore, truth.ignore)


def test_matching_is_one_to_one_best_first():
    overlap = torch.tensor([[0.6, 0.9, 0.0], [0.8, 0.95, 0.0], [0.0, 0.0, 0.4]])
    assert [t.tolist() for t in teacher.match(overlap, 0.5)] == [[1, 0], [1, 0]]
    assert [t.tolist() for t in teacher.match(torch.zeros(0, 3), 0.5)] == [[], []]


def test_merging_with_nobody():
    everyone = taught(((5, 5, 25, 25), 0.9, {"nose": (9, 9, 0.9)}))
    assert len(merge(People.empty(), everyone, 60, 60)) == 1
    truth = person((10, 10, 30, 30), nose=(15, 15))
    assert torch.equal(merge(truth, Detections.empty(17), 60, 60, noisy=True).labelled, truth.labelled)
    assert len(merge(People.empty(), Detections.empty(17), 60, 60)) == 0


def test_teacher_labels_round_trip(tmp_path):
    labels = {"a/0": taught(((1, 2, 3, 4), 0.5, {"nose": (1, 1, 0.5)})), "b": Detections.empty(17)}
    teacher.save(tmp_path / "t.npz", labels)
    back = teacher.load(tmp_path / "t.npz")
    assert list(back) == ["a/0", "b"] and [len(d) for d in back.values()] == [1, 0]
    assert all(torch.equal(getattr(back["a/0"], f), getattr(labels["a/0"], f)) for f in _FIELDS)
    teacher.save(tmp_path / "none.npz", {})
    assert teacher.load(tmp_path / "none.npz") == {}


def test_taught_source_merges_and_names_what_is_missing():
    labels = {"dot0": taught(((100, 0, 118, 20), 0.9, {}))}
    source = Taught(Dots(), labels, noisy=True, file="labels/dots.npz")
    assert len(source.pair(0, np.random.default_rng(0)).people) == 2 and len(source) == 3
    with pytest.raises(InputError, match=r"^labels/dots.npz: frame dot1 is missing; label the data set again$"):
        source.pair(1, np.random.default_rng(0))


# --- files ---


def test_frames_by_number(tmp_path):
    write_clip(tmp_path / "c.avi", 14)
    every = list(read_clip(tmp_path / "c.avi"))
    assert len(every) == 14
    for numbers in ((0, 0), (3, 5), (9, 2), (13, 12), (4, 4)):
        found = read_frames(tmp_path / "c.avi", numbers)
        assert all((frame == every[n]).all() for frame, n in zip(found, numbers, strict=True))
        assert [frame.mean() for frame in found] == pytest.approx([8 * n for n in numbers], abs=4)
    with pytest.raises(InputError, match="has 14 frames"):
        read_frames(tmp_path / "c.avi", (0, 14))


def test_lspet_by_hand(tmp_path):
    joints = np.zeros((14, 3, 2))
    joints[0, :, 0], joints[13, :, 0] = (11, 31, 1), (21, 11, 1)  # right ankle, head top
    joints[1, :, 0], joints[2, :, 0] = (15, 90, 1), (15, 15, 0)  # outside the image; not labelled
    scipy.io.savemat(tmp_path / "joints.mat", {"joints": joints})
    for n in (1, 2):
        write_image(tmp_path / f"im{n:05d}.jpg", np.zeros((40, 60, 3), np.uint8))
    source = Lspet(tmp_path / "joints.mat", tmp_path)
    people = source.pair(0, np.random.default_rng(0)).people
    assert people.labelled[0].nonzero()[:, 0].tolist() == [joint("right_ankle"), joint("head_top")]
    assert people.keypoints[people.labelled].tolist() == [[10.5, 30.5], [20.5, 10.5]]
    assert people.boxes[0].tolist() == pytest.approx([9.5, 8.5, 21.5, 32.5])  # 10 x 20 px grown by a fifth
    assert len(source.pair(1, np.random.default_rng(0)).people) == 0 and len(source) == 2


def jhmdb(folder: Path, frames: int = 12) -> Path:
    """Two clips of one class in the official layout: `a` has joints and masks, `b` joints alone."""
    (folder / "splits").mkdir(parents=True)
    (folder / "splits/run_test_split1.txt").write_text("a.avi 1\nb.avi 1\nc.avi 2 \nd.avi 0\n")
    positions = np.full((2, 15, frames), 500.0)  # outside the frame
    positions[:, 0], positions[:, 4] = [[11.0], [21.0]], [[31.0], [41.0]]  # neck, left shoulder
    mask = np.zeros((48, 64, frames), np.uint8)
    mask[2:6, 3:8, :-1] = 1  # the last frame's silhouette is empty
    for clip in ("a", "b"):
        write_clip(folder / f"clips/run/{clip}.avi", frames)
        (folder / f"joint_positions/run/{clip}").mkdir(parents=True)
        scipy.io.savemat(folder / f"joint_positions/run/{clip}/joint_positions.mat", {"pos_img": positions})
    (folder / "puppet_mask/run/a").mkdir(parents=True)
    scipy.io.savemat(folder / "puppet_mask/run/a/puppet_mask.mat", {"part_mask": mask})
    return folder


def test_jhmdb_official_layout_by_hand(tmp_path):
    source = Jhmdb(jhmdb(tmp_path) / "clips", tmp_path)
    assert source.names == ["run/a", "run/b"] and read_split(tmp_path / "splits", 1, "test") == ["run/c"]
    people = source.people("run/a", 0, 48, 64)
    assert people.boxes.tolist() == [[3, 2, 8, 6]]
    assert people.labelled[0].nonzero()[:, 0].tolist() == [joint("left_shoulder"), joint("neck")]
    assert people.keypoints[people.labelled].tolist() == [[30.5, 40.5], [10.5, 20.5]]
    for name, number in (("run/a", 11), ("run/b", 0)):  # no silhouette: the joints' extent times 1.2
        assert source.people(name, number, 48, 64).boxes[0].tolist() == pytest.approx([8.5, 18.5, 32.5, 42.5])


def test_jhmdb_deltas(tmp_path):
    """Grey values tell the frames' numbers: B - A = delta, within the clip, every value of -3..3 met."""
    source = Jhmdb(jhmdb(tmp_path) / "clips", tmp_path, reach=3)
    random, seen = np.random.default_rng(0), set()
    for _ in range(80):
        pair = source.pair(0, random)
        a, b = (round(frame.float().mean().item() / 8) for frame in (pair.frame_a, pair.frame_b))
        assert pair.name == f"run/a/{a:04d}" and b - a == pair.delta
        seen.add(pair.delta)
    assert seen == set(range(-3, 4))
    assert [name for name, _ in source.frames()][10:14] == ["run/a/0010", "run/a/0011", "run/b/0000", "run/b/0001"]


def test_jhmdb_compact_layout_by_hand(tmp_path):
    jhmdb(tmp_path)
    joints = np.tile(np.array([11, 21], np.float32), (12, 15, 1))
    arrays: dict = dict.fromkeys(("run/a", "run/b"), joints)
    np.savez(tmp_path / "joints.npz", **arrays)
    arrays = dict.fromkeys(("run/a", "run/b"), np.array([[3, 2, 7, 5]] * 12, np.int16))
    np.savez(tmp_path / "boxes.npz", **arrays)
    (tmp_path / "joints_meta.json").write_text('{"run/a": {"clean": true}, "run/b": {"clean": false}}')
    source = Jhmdb(tmp_path / "clips", tmp_path)
    clean, doubtful = source.people("run/a", 0, 48, 64), source.people("run/b", 0, 48, 64)
    assert clean.boxes.tolist() == doubtful.boxes.tolist() == [[3, 2, 8, 6]]
    assert clean.keypoints[0, joint("neck")].tolist() == [10.5, 20.5] and clean.labelled.sum() == 13
    assert doubtful.labelled.sum() == 0


def test_box_of_joints_needs_joints():
    boxes = box_of_joints(torch.rand(2, 19, 2), torch.zeros(2, 19, dtype=torch.bool), 10, 10)
    assert boxes.tolist() == [[0] * 4] * 2


def bad_sources(folder: Path) -> dict:
    """What a user may give by mistake -> a call that must refuse it."""
    broken, joints = folder / "broken", jhmdb(folder / "j")
    broken.write_bytes(b"PK\x03\x04 not what it seems" * 9)
    np.savez(folder / "other.npz", names=np.array(["a"]), counts=np.array([2]))
    np.savez(folder / "pickled.npz", names=np.array([{}], dtype=object))
    scipy.io.savemat(folder / "flat.mat", {"joints": np.zeros((14, 4)), "pos_img": np.zeros((2, 9, 4))})
    (folder / "lists").mkdir()
    (folder / "lists/run_test_split1.txt").write_text("a.avi\n")
    return {
        "image absent": lambda: read_image(folder / "none.png"),
        "image broken": lambda: read_image(broken),
        "clip broken": lambda: read_frames(broken, (0, 1)),
        "coco not json": lambda: CocoKeypoints(broken, folder),
        "lspet absent": lambda: Lspet(folder / "none.mat", folder),
        "lspet broken": lambda: Lspet(broken, folder),
        "lspet flat": lambda: Lspet(folder / "flat.mat", folder),
        "lspet other": lambda: Lspet(joints / "joint_positions/run/a/joint_positions.mat", folder),
        "jhmdb nothing": lambda: Jhmdb(folder, folder),
        "jhmdb list": lambda: read_split(folder / "lists", 1, "train"),
        "jhmdb joints": lambda: read_joint_positions(folder / "flat.mat"),
        "jhmdb clip": lambda: Jhmdb(folder, joints).pair(0, np.random.default_rng(0)),
        "teacher absent": lambda: teacher.load(folder / "none.npz"),
        "teacher broken": lambda: teacher.load(broken),
        "teacher other": lambda: teacher.load(folder / "other.npz"),
        "teacher pickled": lambda: teacher.load(folder / "pickled.npz"),
    }


def test_bad_files_give_one_line(tmp_path):
    for case, call in bad_sources(tmp_path).items():
        with pytest.raises(InputError) as error:
            call()
        message = str(error.value)
        assert "\n" not in message and str(tmp_path) in message, case


@pytest.mark.parametrize("name", ["a.mat", "b.mat"])
def test_one_image_or_frame_may_lack_its_axis(tmp_path, name):
    """MATLAB saves an array [14, 3, 1] as [14, 3]."""
    scipy.io.savemat(tmp_path / "joints.mat", {"joints": np.ones((14, 3))})
    assert len(Lspet(tmp_path / "joints.mat", tmp_path)) == 1
    scipy.io.savemat(tmp_path / name, {"pos_img": np.full((2, 15), 3.0), "part_mask": np.eye(4, dtype=np.uint8)})
    assert read_joint_positions(tmp_path / name).tolist() == [[[2.5, 2.5]] * 15]
    assert read_puppet_boxes(tmp_path / name).tolist() == [[0, 0, 4, 4]]


def test_damaged_files_give_one_line(tmp_path):
    """Cut anywhere, and with bytes changed: a .mat and two .npz are read or refused in one line, never otherwise."""
    chance = np.random.default_rng(0)
    scipy.io.savemat(tmp_path / "a.mat", {"joints": chance.random((14, 3, 2))}, do_compression=True)
    teacher.save(tmp_path / "b.npz", {"a/0": taught(((1, 2, 3, 4), 0.5, {"nose": (1, 1, 0.5)}))})
    np.savez_compressed(tmp_path / "c.npz", boxes=np.ones((3, 4)))
    readers = {
        "a.mat": lambda path: Lspet(path, tmp_path),
        "b.npz": teacher.load,
        "c.npz": read_npz,
    }
    refused = 0
    for name, read in readers.items():
        whole = (tmp_path / name).read_bytes()
        for trial in range(150):
            content = bytearray(whole[: chance.integers(len(whole))] if trial % 2 else whole)
            for place in chance.integers(0, max(len(content), 1), 4 if content else 0):
                content[place] = chance.integers(256)
            (tmp_path / name).write_bytes(content)
            try:
                read(tmp_path / name)
            except InputError as error:
                refused += 1
                assert "\n" not in str(error) and name in str(error)
    assert refused > 225


ODD_LABELS = {
    "names of numbers": {"names": np.array([1, 2])},
    "names twice": {"names": np.array(["a", "a"])},
    "one name": {"names": np.array("a")},
    "negative count": {"counts": np.array([2, -1])},
    "broken count": {"counts": np.array([0.5, 0.5])},
    "too many": {"counts": np.array([1 << 62, 1])},
    "overflow": {"counts": np.array([(1 << 63) - 1] * 2)},
    "boxes of text": {"boxes": np.array([["a"] * 4])},
    "a flat box": {"boxes": np.zeros(4)},
    "no boxes": {"boxes": None},
    "a box of NaN": {"boxes": np.full((1, 4), np.nan)},
    "scores of objects": {"scores": np.array([{}], dtype=object)},
    "an infinite joint": {"keypoints": np.full((1, 17, 2), np.inf)},
    "a score of 7": {"scores": np.full(1, 7.0)},
    "a joint's score below 0": {"keypoint_scores": np.full((1, 17), -0.5)},
    "18 joints": {"keypoint_scores": np.zeros((1, 18))},
}


@pytest.mark.parametrize("change", ODD_LABELS.values(), ids=ODD_LABELS)
def test_odd_teacher_labels_are_refused(tmp_path, change):
    good: dict[str, Any] = {
        "names": np.array(["a", "b"]),
        "counts": np.array([1, 0]),
        "boxes": np.zeros((1, 4)),
        "scores": np.zeros(1),
        "keypoints": np.zeros((1, 17, 2)),
        "keypoint_scores": np.zeros((1, 17)),
    }
    np.savez(tmp_path / "t.npz", **good)
    assert [len(people) for people in teacher.load(tmp_path / "t.npz").values()] == [1, 0]
    np.savez(tmp_path / "t.npz", **{field: value for field, value in (good | change).items() if value is not None})
    with pytest.raises(InputError, match=r"t\.npz: ") as error:
        teacher.load(tmp_path / "t.npz")
    assert "\n" not in str(error.value)


def test_an_array_alone_is_no_npz(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3))
    (tmp_path / "empty.npz").write_bytes(b"")
    for name in ("a.npy", "empty.npz"):
        with pytest.raises(InputError, match=r"not an \.npz file of arrays; download it again, or"):
            read_npz(tmp_path / name)


def test_python_objects_are_refused_without_advice_to_load_them(tmp_path):
    np.savez(tmp_path / "x.npz", allow_pickle=True, x=np.array([{}]))
    with pytest.raises(InputError, match="it holds Python objects, which are never loaded"):
        read_npz(tmp_path / "x.npz")


def test_an_empty_list_of_clips_is_no_class_without_clips(tmp_path):
    (tmp_path / "run_test_split1.txt").write_text("a.avi 1\n")
    (tmp_path / "sit_test_split1.txt").write_text("\n")
    with pytest.raises(InputError, match=r"sit_test_split1.txt: lists no clip; download it again, or delete it"):
        read_split(tmp_path, 1, "train")


def save_arrays(path: Path, arrays: dict[str, Any]) -> None:
    np.savez(path, **arrays)


def test_odd_jhmdb_labels_are_told(tmp_path):
    """A list that is not text, a clip outside its class, no clip, no frame; arrays of text; boxes partly unknown."""
    jhmdb(tmp_path)
    lists = tmp_path / "splits/run_test_split1.txt"
    for content, message in (
        (b"\xff\xfe\x00", "not a text file"),
        (b"../../secret.avi 1\n", "'../../secret.avi 1' is not '<clip>.avi 1'"),
        (b"a.avi 3\n", "'a.avi 3' is not"),
        (b"a.avi 1\nb.avi 1\na.avi 2\n", "lists a twice; leave one line out"),
        (b"\n", "lists no clip; download it again"),
        (b"a.avi 2\n", "lists no clip to train"),
    ):
        lists.write_bytes(content)
        with pytest.raises(InputError, match=message):
            Jhmdb(tmp_path / "clips", tmp_path)
    lists.write_text("a.avi 1\n")
    scipy.io.savemat(tmp_path / "joint_positions/run/a/joint_positions.mat", {"pos_img": np.zeros((2, 15, 0))})
    with pytest.raises(InputError, match="labels no frame of run/a"):
        Jhmdb(tmp_path / "clips", tmp_path).pair(0, np.random.default_rng(0))
    save_arrays(tmp_path / "joints.npz", {"run/a": np.full((12, 15, 2), 21.0)})
    save_arrays(tmp_path / "boxes.npz", {"run/a": np.full((12, 4), "x")})
    (tmp_path / "joints_meta.json").write_text('{"run/a": {"clean": true}}')
    with pytest.raises(InputError, match=r"boxes.npz: 'run/a' holds <U1 in place of numbers"):
        Jhmdb(tmp_path / "clips", tmp_path)
    boxes = np.full((12, 4), [3.0, 2, np.nan, 5])
    boxes[1] = 3, 2, 7, 5
    save_arrays(tmp_path / "boxes.npz", {"run/a": boxes})
    source = Jhmdb(tmp_path / "clips", tmp_path)
    assert len(source.people("run/a", 0, 48, 64)) == 0
    assert source.people("run/a", 1, 48, 64).boxes.tolist() == [[3, 2, 8, 6]]


# --- real files ---


def test_real_jhmdb_files():
    joints = read_joint_positions(needs("formats/jhmdb/joint_positions.mat"))
    assert joints.shape == (40, 15, 2) and joints[0, 0].tolist() == [286, 106]
    boxes = read_puppet_boxes(needs("formats/jhmdb/puppet_mask.mat"))
    assert boxes.shape == (30, 4) and boxes[0].tolist() == [117, 54, 171, 232]
    with np.load(needs("jhmdb/boxes.npz")) as compact:
        assert (compact["catch/Ballfangen_catch_u_cm_np1_fr_goo_0"] + [0, 0, 1, 1] == boxes).all()


def test_real_jhmdb_splits_and_compact_labels(tmp_path):
    folder = needs("jhmdb")
    parts = [Jhmdb(tmp_path, folder, part=part).names for part in ("train", "test")]
    assert [len(names) for names in parts] == [660, 268] and not set(parts[0]) & set(parts[1])
    source = Jhmdb(tmp_path, folder)
    people = [source.people(name, 0, 240, 320) for name in source.names]
    assert all(len(p) == 1 for p in people)
    for p in people:
        found = p.keypoints[p.labelled]
        assert (found >= 0).all() and (found < torch.tensor((320.0, 240.0))).all()


def test_real_coco_people():
    folder = needs("coco_people")
    source = CocoKeypoints(folder / "train.json", folder / "images")
    mixture = Mixture([(source, 1)], (256, 256), 4)
    assert len(source) == 102 and sum(len(people) for _, _, people in source.items) == 279
    assert all(pair.frame_a.float().std() > 1 for pair in mixture)
