"""eval.coco and eval.pck: poses on stills, against figures that can be worked out by hand."""

import copy
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dimofs import skeletons
from dimofs.cli import InputError
from dimofs.datasets.jhmdb import Jhmdb
from dimofs.datasets.people import People
from dimofs.datasets.sequences import LabelledVideo, Labels, annotate, jhmdb_videos
from dimofs.datasets.synthetic.clips import HELD_OUT, Synthetic
from dimofs.datasets.synthetic.stills import NUMBER, write_stills
from dimofs.detections import Detections
from dimofs.eval import coco, models, pck
from dimofs.eval.keypoints.coco_ap import CocoTruth, evaluate, parse_truth, read_results, read_truth
from dimofs.eval.keypoints.pck import ALPHAS, joint_errors, speed
from dimofs.eval.keypoints.pck import pck as rates
from dimofs.eval.tables.joints import JointOptions, person_errors
from dimofs.formats.coco_results import to_results
from dimofs.images import read_image
from dimofs.pixels import to_tensor
from dimofs.video import Frame
from dimofs.zoo.detection.detector import PoseDetector
from tests.support import scenes
from tests.support.clips import write_image


def person(x: float, image_id: int = 7, identity: int = 1) -> dict:
    """A labelled person of 100 x 200 pixels whose left edge is at x: 17 joints down the middle, all visible."""
    joints = [value for j in range(17) for value in (x + 50, 10 + 11 * j, 2)]
    box = {"bbox": [x, 0, 100, 200], "area": 12000.0, "iscrowd": 0}
    return {"id": identity, "image_id": image_id, "category_id": 1, "keypoints": joints, "num_keypoints": 17, **box}


def content(*people: dict) -> dict:
    """A COCO file of one image with these people."""
    image = {"id": 7, "file_name": "7.png", "width": 640, "height": 320}
    return {"images": [image], "annotations": list(people), "categories": [{"id": 1, "name": "person"}]}


def truth(*people: dict) -> CocoTruth:
    return parse_truth("gt.json", content(*people))


def result(label: dict, score: float) -> dict:
    return {"image_id": 7, "category_id": 1, "score": score, "bbox": label["bbox"], "keypoints": label["keypoints"]}


def detection(label: dict, names: tuple[str, ...]) -> Detections:
    """The label as a model with joints `names` would predict it, in our convention of pixel centres."""
    points = torch.tensor(label["keypoints"]).view(17, 3)[:, :2] + 0.5
    columns = torch.tensor(skeletons.indices(skeletons.COCO, names))
    x, y, w, h = label["bbox"]
    boxes = torch.tensor([[x, y, x + w, y + h]], dtype=torch.float32)
    return Detections(boxes, torch.tensor([0.9]), points[columns][None], torch.zeros(1, len(names)))


class Oracle:
    """Predicts what it was given, one list of people an image."""

    def __init__(self, people: list[Detections], names: tuple[str, ...] = skeletons.DIMOFS):
        self.people, self.keypoint_names = people, names

    def __call__(self, frame_a, frame_b=None):
        return [self.people.pop(0) for _ in frame_a]


def write(path: Path, content) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_average_precision_by_hand():
    """One of two people found, behind a false alarm: precision 1/2 at the 51 of 101 recalls up to 1/2."""
    labels = truth(person(0), person(300, identity=2))
    found = [result(person(0), 0.5), result(person(500), 0.9)]
    figures = evaluate(labels, found)
    assert figures["pose"]["AP"] == pytest.approx(0.5 * 51 / 101)
    assert figures["box"]["AP50"] == pytest.approx(0.5 * 51 / 101)
    assert figures["pose"]["APm"] is None, "nobody of medium size is labelled"


@pytest.mark.parametrize("names", [skeletons.COCO, skeletons.DIMOFS, skeletons.DIMOFS[::-1]])
def test_a_model_that_knows_the_labels_scores_one(names):
    labels = truth(person(20))
    found = to_results(detection(person(20), names), names, 7)
    assert found[0]["keypoints"][0::3] == person(20)["keypoints"][0::3], "pixel centres move back to integers"
    assert found[0]["keypoints"][2] == 1 and found[0]["scores"][0] == 0.5 and found[0]["bbox"] == [20, 0, 100, 200]
    assert all(figures["AP"] == pytest.approx(1) for figures in evaluate(labels, found).values())


def test_poses_rank_by_their_sure_joints_and_boxes_by_their_own_score():
    """The better box, 0.8, has the worse joints: confidences 0.9 and 0.5 of two count, those of 0.1 do not."""
    labels = truth(person(20))
    names = skeletons.COCO
    one, other = detection(person(20), names), detection(person(500), names)
    for found, score, sure in ((one, 0.6, (0.9, 0.9)), (other, 0.8, (0.9, 0.5))):
        confidences = torch.full((1, 17), 0.1)
        confidences[0, :2] = torch.tensor(sure)
        found.scores[:], found.keypoint_scores[:] = score, confidences.logit()
    results = [r for found in (one, other) for r in to_results(found, names, 7)]
    assert [r["score"] for r in results] == pytest.approx([0.54, 0.56])
    assert [r["box_score"] for r in results] == pytest.approx([0.6, 0.8])
    other.keypoint_scores[:] = -5
    results[1:] = to_results(other, names, 7)
    assert results[1]["score"] == 0
    figures = evaluate(labels, results)
    assert figures["pose"]["AP"] == pytest.approx(1), "the right pose is first"
    assert figures["box"]["AP"] == pytest.approx(0.5), "the wrong box is first"


def test_joints_that_are_hidden_or_outside_are_marked_and_keep_their_guess():
    found = detection(person(20), skeletons.COCO)
    found.keypoint_scores[0] = torch.linspace(0.04, 0.84, 17).logit()
    (result,) = to_results(found, skeletons.COCO, 7)
    assert result["keypoints"][2::3] == [0] * 4 + [1] * 13, "confidences .04 .09 .14 .19 are those of absent joints"
    assert result["keypoints"][0::3] == person(20)["keypoints"][0::3]


def test_a_joint_the_model_lacks_is_far_away():
    names = skeletons.COCO[5:]
    (found,) = to_results(detection(person(20), names), names, 7)
    assert found["keypoints"][:15] == [0] * 15 and found["keypoints"][15] == 70


def test_results_of_one_kind_give_one_row():
    labels = truth(person(0))
    found = result(person(0), 0.5)
    assert set(evaluate(labels, [{k: v for k, v in found.items() if k != "bbox"}])) == {"pose"}
    assert set(evaluate(labels, [{k: v for k, v in found.items() if k != "keypoints"}])) == {"box"}
    assert evaluate(labels, [])["pose"]["AP"] == 0


def test_coco_command(tmp_path, capsys, monkeypatch):
    cv2 = pytest.importorskip("cv2")
    cv2.imwrite(str(tmp_path / "7.png"), torch.zeros(320, 640, 3).byte().numpy())
    gt = write(tmp_path / "gt.json", content(person(20)))
    oracle = Oracle([detection(person(20), skeletons.DIMOFS)])
    monkeypatch.setattr(coco, "load_model", lambda *_: oracle)
    coco.main(gt=gt, images=tmp_path, weights="oracle", save=tmp_path / "r.json", json=tmp_path / "figures.json")
    assert json.loads((tmp_path / "figures.json").read_text())["pose"]["AP"] == pytest.approx(1)
    coco.main(gt=gt, pred=tmp_path / "r.json")
    assert capsys.readouterr().out.count("1.000") > 6


@pytest.mark.parametrize(
    ("change", "pictures"),
    [
        ({}, 1),
        ({"bbox": [9000, 9000, 50, 50]}, 0),
        ({"bbox": [0, 0, 40_000, 40_000]}, 1),
        ({"keypoints": [0] * 51}, 0),
        ({"keypoints": None}, 0),
        ({"iscrowd": 1}, 0),
    ],
    ids=str,
)
def test_the_page_and_the_figures_of_any_labels(tmp_path, monkeypatch, change, pictures):
    write_image(tmp_path / "7.png", np.zeros((320, 640, 3), np.uint8))
    gt = write(tmp_path / "gt.json", content({**person(20), **change}))
    monkeypatch.setattr(coco, "load_model", lambda *_: Oracle([detection(person(20), skeletons.DIMOFS)]))
    coco.main(gt=gt, images=tmp_path, json=tmp_path / "f.json", html=tmp_path / "f.html")
    assert set(json.loads((tmp_path / "f.json").read_text())) == {"definition", "pose", "box"}
    assert (tmp_path / "f.html").read_text().count("data:image/png") == pictures


def test_without_pycocotools_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    with pytest.raises(InputError, match=r"pip install 'dimofs\[eval\]'"):
        evaluate(truth(person(0)), [result(person(0), 1)])
    # The command says so before it reads or finds anything.
    monkeypatch.setattr("dimofs.eval.keypoints.coco_ap.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'dimofs\[eval\]'"):
        coco.main(gt=Path("absent.json"), pred=Path("absent.json"))


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (("images",), 3, "images is not a list"),
        (("images", 0, "id"), "7", r"images\[0\].id"),
        (("annotations", 0, "area"), None, r"annotations\[0\].area"),
        (("annotations", 0, "keypoints"), [1, 2], r"annotations\[0\].keypoints is not a list of 51 numbers"),
        (("annotations", 0, "image_id"), 8, r"annotations\[0\].image_id is the id of no image"),
    ],
)
def test_malformed_truth_is_named(tmp_path, where, value, message):
    broken = copy.deepcopy(content(person(0)))
    at = broken
    for key in where[:-1]:
        at = at[key]
    at[where[-1]] = value
    with pytest.raises(InputError, match=message):
        read_truth(write(tmp_path / "gt.json", broken))


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ("{", "not a JSON file"),
        ({}, "not a list"),
        ([{"image_id": 7, "category_id": 1, "score": 1}], "neither keypoints nor bbox"),
        ([{**result(person(0), 1), "score": "high"}], r"\[0\].score"),
        ([result(person(0), 1), 5], r"\[1\] is not an object"),
        ([{**result(person(0), 1), "box_score": "high"}], r"\[0\].box_score"),
        ([{**result(person(0), 1), "image_id": 8}], r"\[0\].image_id is the id of no image"),
        ([{**result(person(0), 1), "bbox": [0, 0, 1]}], "list of 4 numbers"),
    ],
)
def test_malformed_results_are_named(tmp_path, results, message):
    with pytest.raises(InputError, match=message):
        read_results(write(tmp_path / "r.json", results), truth(person(0)))


def actor() -> People:
    """One actor with a box of 100 x 200 pixels, joint j of 19 at (50, 10 j), the last two unlabelled."""
    joints = torch.tensor([[[50.0, 10.0 * j] for j in range(19)]])
    labelled = torch.arange(19)[None] < 17
    return People(
        boxes=torch.tensor([[0.0, 0, 100, 200]]), keypoints=joints, labelled=labelled, ignore=torch.zeros(0, 4)
    )


def found(shift: float, box: tuple[float, ...] = (0, 0, 100, 200), people: int = 1) -> Detections:
    boxes = torch.tensor([box] * people, dtype=torch.float32).view(people, 4)
    points = (actor().keypoints + torch.tensor([shift, 0.0])).expand(people, -1, -1)
    return Detections(boxes, torch.ones(people), points, torch.zeros(people, 19))


@pytest.mark.parametrize(("shift", "right"), [(0.0, (100, 100)), (30.0, (100, 0)), (40.0, (100, 0)), (41.0, (0, 0))])
def test_pck_by_hand(shift, right):
    """Of a box 200 high, 0.2 are 40 pixels and 0.1 are 20."""
    errors = joint_errors(actor(), found(shift), skeletons.DIMOFS)
    figures = [rates(errors, alpha) for alpha in ALPHAS]
    assert tuple(f["mean"] for f in figures) == right
    assert tuple(f["left_wrist"] for f in figures) == right
    assert all(f["neck"] is None for f in figures), "not labelled"


def test_pck_judges_the_detection_that_overlaps_most():
    far, near = found(60.0, (50, 0, 150, 200)), found(1.0, (0, 0, 90, 200))
    fields = ("boxes", "scores", "keypoints", "keypoint_scores")
    both = Detections(*(torch.cat((getattr(far, f), getattr(near, f))) for f in fields))
    errors = joint_errors(actor(), both, skeletons.DIMOFS)
    assert errors[0, 0] == pytest.approx(1 / 200)


def test_pck_of_nobody_and_of_missing_joints():
    for nobody in (found(0.0, people=0), found(0.0, (500, 0, 600, 200))):
        errors = joint_errors(actor(), nobody, skeletons.DIMOFS)
        assert errors[0, :17].isinf().all() and errors[0, 17:].isnan().all()
        assert rates(errors, 0.2)["mean"] == 0
    legs = [name for name in skeletons.DIMOFS if not name.endswith("wrist")]
    columns = skeletons.indices(skeletons.DIMOFS, legs)
    some = found(0.0)
    some.keypoints, some.keypoint_scores = some.keypoints[:, columns], some.keypoint_scores[:, columns]
    figures = rates(joint_errors(actor(), some, legs), 0.1)
    assert figures["wrist"] is None and figures["mean"] == 100


def test_pck_mean_gives_each_joint_the_same_weight():
    errors = torch.full((2, 19), torch.nan)
    errors[0, skeletons.DIMOFS.index("left_knee")] = 0
    errors[:, skeletons.DIMOFS.index("right_hip")] = torch.tensor([0, 1])
    figures = rates(errors, 0.2)
    assert figures["knee"] == 100 and figures["hip"] == 50 and figures["mean"] == 75


def test_pck_command_on_a_clip(tmp_path, monkeypatch, capsys):
    """A model that always sees the actor in the middle, on a clip of 12 frames: 6 are judged with --every 2."""
    import numpy as np

    from dimofs.datasets import jhmdb

    av = pytest.importorskip("av")
    (tmp_path / "clips/run").mkdir(parents=True)
    with av.open(str(tmp_path / "clips/run/a.avi"), "w") as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for _ in range(12):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((240, 320, 3), np.uint8), "rgb24")))
        out.mux(stream.encode())
    (tmp_path / "splits").mkdir()
    write(tmp_path / "splits/run_test_split1.txt", "a.avi 2\n")
    for name, track in (("boxes", np.tile([100, 50, 199, 149], (12, 1))), ("joints", np.full((12, 15, 2), 100.5))):
        np.savez(tmp_path / f"{name}.npz", allow_pickle=False, **{"run/a": track})
    write(tmp_path / "joints_meta.json", {"run/a": {"clean": True}})
    seen = []

    class Middle:
        keypoint_names = jhmdb.JOINTS

        def __call__(self, frame_a, frame_b=None):
            seen.append((len(frame_a), frame_b is not None))
            points = torch.full((1, 15, 2), 100.0) + torch.tensor([15.0, 0])
            person = Detections(torch.tensor([[100.0, 50, 200, 150]]), torch.ones(1), points, torch.zeros(1, 15))
            return [person for _ in frame_a]

    monkeypatch.setattr(pck, "load_model", lambda *_: Middle())
    pck.main(
        jhmdb=str(tmp_path / "clips"),
        jhmdb_labels=str(tmp_path),
        weights="middle",
        every=2,
        delta=3,
        json=tmp_path / "f.json",
    )
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["people"] == 6 and figures["pck"]["0.2"]["mean"] == 100 and figures["pck"]["0.1"]["mean"] == 0
    assert seen == [(6, True)] and "delta 3" in capsys.readouterr().out
    write(tmp_path / "joints_meta.json", {"run/a": {"clean": False}})
    with pytest.raises(InputError, match="no clip of the split has clean joints"):
        jhmdb_videos(None, Jhmdb(tmp_path / "clips", tmp_path, part="test"))


def test_the_peer_is_resized_padded_and_brought_back():
    """A stand-in for MoveNet that points at the lower right corner of the unpadded part of its input."""

    class Corner(torch.nn.Module):
        def forward(self, images, people):
            assert people == 20
            assert images.shape[2] % 32 == images.shape[3] % 32 == 0
            corner = torch.tensor([128.0, 64.0])
            box = torch.cat((corner / 2, corner))[None]
            return [Detections(box, torch.ones(1), corner.expand(1, 17, 2), torch.full((1, 17), 0.5)) for _ in images]

    peer = models.Peer(Corner(), size=128)  # pyright: ignore[reportArgumentType]
    (person,) = peer(torch.zeros(1, 3, 150, 300))
    assert person.keypoints[0, 0].tolist() == [300, 150] and person.boxes.tolist() == [[150, 75, 300, 150]]
    assert person.keypoint_scores.eq(math.log(1)).all()
    with pytest.raises(InputError, match="--delta 0"):
        peer(torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64))


def test_a_size_too_small_for_any_model():
    with pytest.raises(InputError, match="at least 32"):
        models.load_model("dimofs_mobile", size=20)


def test_speed_by_hand():
    """Sides of 40: the wrist moves 3 and the elbow 5 of them; the next frame lists another person first."""
    one = scenes.person((0, 0, 20, 40), left_wrist=(5.0, 5.0), left_elbow=(9.0, 9.0), nose=(1.0, 1.0))
    then = scenes.person((2, 0, 22, 40), left_wrist=(8.0, 5.0), left_elbow=(9.0, 14.0))
    other = scenes.person((100, 0, 120, 40), left_wrist=(105.0, 5.0))
    assert speed(one, People.join([other, then])).tolist() == pytest.approx([4 / 40])
    assert speed(People.join([one, other]), then)[1].isnan(), "nobody overlaps"
    assert speed(one, People.empty()).isnan().all() and len(speed(People.empty(), one)) == 0


class Recorder(PoseDetector):
    """Features are the numbers that grey frames show; remembers which met."""

    def __init__(self):
        torch.nn.Module.__init__(self)
        self.keypoint_names, self.met = skeletons.DIMOFS, []

    def features(self, images):
        return (images[:, 0, 0, 0] * 255).round().int().tolist()

    def detect(self, a, b=None, beside=()):
        self.met.append((a, b, *beside))
        return [Detections.empty(19) for _ in a]  # type: ignore[attr-defined]


def walk(greys: list[int]) -> LabelledVideo:
    """Frames of 8 x 8 pixels of these greys; one person, whose nose moves right by a pixel a frame."""

    def frames():
        for number, grey in enumerate(greys):
            yield Frame(np.full((8, 8, 3), grey, np.uint8), number, number / 25, 0.04)

    nobody = Labels(Detections.empty(19), torch.zeros(0, 4))
    return LabelledVideo(
        truth=annotate(None, "walk", [nobody] * len(greys), (8, 8)),
        frames=frames,
        people=lambda number, *_: scenes.person((0, 0, 5, 5), nose=(1.0 + number, 1.0)),
    )


def test_pck_looks_before_and_after():
    clip = walk([0, 1, 2, 3, 4])
    model = Recorder()
    errors, speeds = zip(*person_errors(model, clip, JointOptions(every=3, delta=1, aggregate=2)), strict=True)
    assert model.met == [([0, 3], [1, 4], [0, 1], [2, 4])]
    assert torch.cat(speeds).tolist() == pytest.approx([0.2, 0.2])
    assert all(e[0, 0].isinf() for e in errors)
    with pytest.raises(InputError, match="--aggregate"):
        list(person_errors(Oracle([]), clip, JointOptions(every=1, aggregate=1)))


def test_pck_blurs_frame_a_alone():
    """Grey of 0, 16, 48, 48, 80: the mean around the first, itself twice, is 5.3, that around the last 69.3."""
    clip = walk([0, 16, 48, 48, 80])
    model = Recorder()
    list(person_errors(model, clip, JointOptions(every=4, aggregate=1, blur=1)))
    assert model.met == [([5, 69], None, [0, 48], [16, 80])]


# Nothing given: synthetic stills and clips.


class Painter:
    """Knows the synthetic scenes: finds in a frame the labelled people of the scene that shows exactly it."""

    keypoint_names = skeletons.DIMOFS

    def __init__(self, clips: int, numbers: range):
        self.shots = {}
        for index in range(clips):
            scene = Synthetic(clips, seed=HELD_OUT).scene(index)
            for number in numbers:
                shot = scene.shoot(number)
                self.shots[shot.frame.tobytes()] = shot, scene.keypoints[number]

    def __call__(self, frame_a, frame_b=None):
        return [self._people(frame) for frame in frame_a]

    def _people(self, frame) -> Detections:
        shot, points = self.shots[(frame.permute(1, 2, 0) * 255).round().byte().numpy().tobytes()]
        boxes, points = torch.from_numpy(shot.boxes[shot.present]), torch.from_numpy(points[shot.present])
        return Detections(boxes, torch.full((len(boxes),), 0.9), points, torch.full(points.shape[:2], 3.0))


def test_coco_without_arguments_takes_synthetic_stills(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(coco, "STILLS", 4)
    monkeypatch.setattr(coco, "load_model", lambda *_: Painter(4, range(NUMBER, NUMBER + 1)))
    coco.main(json=tmp_path / "f.json", html=tmp_path / "f.html")
    page = (tmp_path / "f.html").read_text()
    assert "<td>1.000</td>" in page and page.count("data:image/png") == 1 and "found worst" in page
    assert "synthetic stills, 4 images, dimofs_mobile" in capsys.readouterr().out
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["pose"]["AP"] == pytest.approx(1) and figures["box"]["AP"] == pytest.approx(1)
    with pytest.raises(InputError, match="--images needs --gt"):
        coco.main(images=tmp_path)


def test_pck_without_arguments_takes_synthetic_clips(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pck, "CLIPS", 2)
    monkeypatch.setattr(pck, "load_model", lambda *_: Painter(2, range(0, 40, 20)))
    pck.main(every=20, json=tmp_path / "f.json")
    assert "synthetic clips, PCK" in capsys.readouterr().out
    assert json.loads((tmp_path / "f.json").read_text())["pck"]["0.1"]["mean"] == 100
    monkeypatch.setattr(pck, "load_model", lambda *_: Painter(2, range(0, 40, 20)))
    pck.main(every=20, by_speed=True, json=tmp_path / "f.json", html=tmp_path / "f.html")
    page = (tmp_path / "f.html").read_text()
    assert page.count("<table>") == 4 and page.count("data:image/png") == 1 and "largest errors" in page
    speeds = json.loads((tmp_path / "f.json").read_text())["speeds"]
    assert set(speeds) == {"slow", "medium", "fast"} and "fast: " in capsys.readouterr().out
    with pytest.raises(InputError, match="--jhmdb needs --jhmdb-labels beside it"):
        pck.main(jhmdb=str(tmp_path))


def test_stills_are_labelled_by_hand(tmp_path):
    clips = Synthetic(3, seed=5, people=(2, 3))
    content = write_stills(tmp_path, clips)
    scene = clips.scene(1)
    shot = scene.shoot(NUMBER)
    people = [a for a in content["annotations"] if a["image_id"] == 1]
    assert [a["iscrowd"] == 0 for a in people] == shot.present[shot.boxes[:, 2] > 0].tolist()
    assert people[0]["bbox"][2] == shot.boxes[0, 2] - shot.boxes[0, 0]
    nose, flag = people[0]["keypoints"][:2], people[0]["keypoints"][2]
    assert nose == pytest.approx((scene.keypoints[NUMBER, 0, 0] - 0.5).tolist(), abs=0.006) or flag == 0
    assert flag == 1 + shot.visible[0, 0] or not (0 <= scene.keypoints[NUMBER, 0, 0, 0] < 320)
    image = to_tensor(read_image(tmp_path / content["images"][1]["file_name"]))
    assert torch.equal(image.permute(1, 2, 0), torch.from_numpy(shot.frame))
