"""eval.posetrack: figures worked out by hand, a naive second implementation, the official tool's cases, pycocotools."""

import copy
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from dimofs import skeletons
from dimofs.eval import posetrack
from dimofs.eval.keypoints import frames as pose_frames
from dimofs.eval.keypoints.polygons import in_any
from dimofs.eval.keypoints.scores import by_group
from dimofs.formats.posetrack import JOINTS
from tests.support.posetrack_sets import both, constant, evaluate, file17, file18, person

CASES = [
    Path(__file__).parent / "cases/posetrack",
    *sorted((Path(__file__).parents[2] / "shared/data/posetrack_cases").glob("case*")),
]


# --- by hand -------------------------------------------------------------------------------------------------------


def test_joints_within_half_a_head_are_right(tmp_path):
    """0.6 x the head box's diagonal of 50 is 30: at 15 pixels a joint is right, a little further it is not."""
    for distance, right in ((15.0, 100), (15.000001, 0)):
        result = both(tmp_path, [[person(0)]] * 3, [[person(0, x=distance)]] * 3)
        assert constant(result, "ap") == constant(result, "ap_recall") == constant(result, "mot_recall") == right


def test_lengths_are_numpys_to_the_last_bit(tmp_path):
    """A fused multiply-add rounds once where x * x + y * y rounds twice: what is at the limit of half a head would
    be right in one and wrong in the other. The official tool asks numpy for one norm at a time."""
    vectors = np.random.default_rng(0).normal(0, 50, (5000, 2))
    assert pose_frames._length(vectors).tolist() == [np.linalg.norm(v) for v in vectors]
    for number, (w, h) in enumerate(np.abs(vectors[:40])):
        head, limit = 0.6 * float(np.linalg.norm([w, h])), 0.3 * float(np.linalg.norm([w, h]))
        truth = [person(0) | {"head": (0.0, 0.0, w, h)}]
        result = both(tmp_path, [truth], [[person(0, x=limit)]])
        right = [abs(100 * j - (limit + 100 * j)) / head <= 0.5 for j in range(15)]
        assert result["ap_recall"][:15] == [100.0 * r for r in right], number


def test_average_precision_by_hand(tmp_path):
    """Best first: right, wrong, right; two of three people are found. AP = 1/3 + 2/3 * 1/3."""
    truth = [[person(0), person(1, y=500), person(2, y=1000)]]
    predicted = [[person(0, score=0.9), person(1, y=2000, score=0.8), person(2, y=500, score=0.7)]]
    result = both(tmp_path, truth, predicted)
    assert constant(result, "ap") == pytest.approx(100 * (1 / 3 + 2 / 9))
    assert constant(result, "ap_precision") == pytest.approx(200 / 3) == constant(result, "ap_recall")


def test_a_person_found_twice_counts_once(tmp_path):
    result = both(tmp_path, [[person(0)]], [[person(0, x=1, score=0.5), person(1, x=2, score=0.9)]])
    assert constant(result, "ap") == 50, "the first of equals is the match, although it has the lower score"


def test_switch_miss_and_false_positive(tmp_path):
    """Four frames, the last of which the official tool drops: match; switch to id 8; miss and false positive."""
    truth = [[person(0)]] * 4
    predicted = [[person(7)], [person(8, x=3)], [person(8, y=400)], [person(8)]]
    official, corrected = (both(tmp_path, truth, predicted, corrected=c) for c in (False, True))
    assert {k: v[0] for k, v in official["counts"].items()} == {
        "misses": 1, "switches": 1, "false_positives": 1, "objects": 3, "detections": 2
    }  # fmt: skip
    assert constant(official, "mota") == pytest.approx(0)
    # Events with a distance: 0 twice (raw, match); 0.1 as raw, switch and "ascend", for 8 is new.
    assert constant(official, "motp") == pytest.approx(100 * (1 - 0.3 / 2))
    assert corrected["counts"]["objects"] == [4] * 15 and constant(corrected, "mota") == 25
    assert constant(corrected, "motp") == pytest.approx(100 * (1 - 0.1 / 3))
    assert official["definition"] == "official" and corrected["definition"] == "corrected"


def test_a_hypothesis_is_kept_across_a_gap_although_another_is_nearer(tmp_path):
    predicted = [[person(5)], [], [person(5, x=10), person(6)], [person(5)]]
    result = both(tmp_path, [[person(0)]] * 4, predicted)
    assert result["counts"]["switches"] == [0] * 15
    assert result["counts"]["false_positives"] == [2] * 15, "the empty frame and the nearer person"


def test_frames_empty_on_one_side(tmp_path):
    """Officially one miss and one false positive a joint, whoever is there; corrected, the people count."""
    two = [person(0), person(1, y=500)]
    truth, predicted = file17([two] * 4, True), file17([two, [], two, two], False)
    for rect in truth["annolist"][2]["annorect"]:
        rect["annopoints"] = []  # people without a list of joints go, but their frame stays
    official, corrected = (evaluate(tmp_path, truth, predicted, corrected=c) for c in (False, True))
    assert [official["counts"][k][0] for k in ("misses", "false_positives", "objects")] == [2, 2, 4]
    assert [corrected["counts"][k][0] for k in ("misses", "false_positives", "objects")] == [2, 2, 6]
    assert constant(official, "ap") == constant(corrected, "ap") < 100


def test_frames_without_people_in_the_ground_truth_do_not_count(tmp_path):
    truth, predicted = [[person(0)], [], [person(0)], []], [[person(0)], [person(0)], [person(0)], [person(0)]]
    result = both(tmp_path, truth, predicted)
    assert result["frames"] == {"ap": 2, "mot": 1} and constant(result, "ap") == 100


def test_ignore_regions_take_joints_strictly_inside_on_both_sides(tmp_path):
    """The region covers joints 0 to 2 of a person; the joint on its border stays."""
    region = [(-50.0, -50.0), (300.0, -50.0), (300.0, 50.0), (-50.0, 50.0)]
    truth, predicted = [[person(0), person(1, y=500)]] * 2, [[person(0), person(1, y=20, joints=(0, 1))]] * 2
    result = both(tmp_path, truth, predicted, regions={0: [region], 1: [region]})
    assert result["counts"]["objects"] == [1] * 3 + [2] * 12
    assert result["counts"]["false_positives"] == [0] * 15, "a person all of whose joints are ignored goes"
    assert result["ap"][0] == 0 and result["ap"][3] == 50


def test_absent_joints_and_missing_scores(tmp_path):
    """Without a prediction AP is 0; with one but nothing annotated it is undefined and not in the mean."""
    truth = file18([[person(0, joints=range(1, 15))]] * 2, True)
    predicted = file18([[person(0, joints=[j for j in range(15) if j != 1])]] * 2, False)
    for annotation in predicted["annotations"]:
        annotation["scores"] = []
    result = evaluate(tmp_path, truth, predicted)
    assert result["ap"][:3] == [None, 0, 100] and result["ap"][15] == pytest.approx(1300 / 14)
    assert result["ties"] == 0, "all scores are the same, but so are the outcomes"


def test_nan_coordinates_are_joints_that_match_nothing(tmp_path):
    truth, predicted = [[person(0)]] * 2, [copy.deepcopy([person(0)]) for _ in range(2)]
    for frame in predicted:
        frame[0]["points"][4] = (float("nan"), 0.0, 0.9)
    result = both(tmp_path, truth, predicted)
    assert result["ap"][4] == 0 and result["counts"]["false_positives"][4] == 1 and result["mota"][3] == 100


def test_ties_with_different_outcomes_are_reported(tmp_path, capsys):
    truth, predicted = [[person(0)]] * 2, [[person(0), person(1, y=500)]] * 2
    result = both(tmp_path, truth, predicted)
    assert result["ties"] == pytest.approx(50), "AP is 1 with the right ones first, 1/2 with them last"
    assert "equal scores" in capsys.readouterr().out


@pytest.mark.parametrize(("corrected", "motp"), [(False, 0), (True, None)])
def test_motp_without_a_match(tmp_path, corrected, motp):
    """Nobody is near: the official tool says 0, the corrected definition that there is no mean distance."""
    result = both(tmp_path, [[person(0)]] * 3, [[person(0, y=500)]] * 3, corrected=corrected)
    assert result["motp"] == [motp] * 16 and constant(result, "mota") == -100


def test_hota_by_hand(tmp_path):
    """A person whose id changes in the middle of four frames: all found, DetA 1; each pair's tracks share 2 of 4."""
    result = both(tmp_path, [[person(0)]] * 4, [[person(i)] for i in (1, 1, 2, 2)], hota=True)
    assert constant(result, "deta") == 100 and constant(result, "assa") == pytest.approx(50)
    assert constant(result, "hota") == pytest.approx(100 * 0.5**0.5)
    half = both(tmp_path, [[person(0)]] * 2, [[person(1, x=7.5)]] * 2, hota=True)
    assert constant(half, "hota") == pytest.approx(100 * 10 / 19), "a similarity of 1/2 passes 10 of 19 thresholds"


def test_group_columns():
    """Head is the mean of head top, neck and nose; a missing joint is not skipped."""
    row = [float(j) for j in range(15)] + [42.0]
    assert by_group(row) == [13, 8.5, 8.5, 8.5, 2.5, 2.5, 2.5, 42]
    row[JOINTS.index("nose")] = float("nan")
    assert np.isnan(by_group(row)[0])


# --- a second implementation, one joint of one pair at a time -------------------------------------------------------


def naive(truth: list[list[dict]], predicted: list[list[dict]]) -> dict:
    """Pooled labels, objects and events of a video without clean-up, by the definition's words."""
    labels, annotated = [[] for _ in JOINTS], [0] * 15
    events = [{"miss": 0, "switch": 0, "fp": 0, "objects": 0, "sum": 0.0} for _ in JOINTS]
    last: list[dict] = [{} for _ in JOINTS]
    owner: list[dict] = [{} for _ in JOINTS]
    for number, (gt, pr) in enumerate(zip(truth, predicted, strict=True)):

        def near(g, p, j):
            if j not in g["points"] or j not in p["points"]:
                return None
            (ax, ay, _), (bx, by, _) = g["points"][j], p["points"][j]
            d = ((ax - bx) ** 2 + (ay - by) ** 2) ** 0.5 / (0.6 * (g["head"][2] ** 2 + g["head"][3] ** 2) ** 0.5)
            return d if d <= 0.5 else None

        for j in range(15):
            annotated[j] += sum(j in g["points"] for g in gt)
        wish = {}
        for k, p in enumerate(pr):
            parts = [
                sum(near(g, p, j) is not None for j in range(15)) / len(g["points"]) if g["points"] else 0 for g in gt
            ]
            if parts and max(parts) > 0:
                wish[k] = (parts.index(max(parts)), max(parts))
        chosen = {}
        for i in range(len(gt)):
            rivals = [(part, -k) for k, (want, part) in wish.items() if want == i]
            if rivals:
                chosen[-max(rivals)[1]] = i
        for k, p in enumerate(pr):
            for j, (_, _, score) in p["points"].items():
                labels[j].append((score, k in chosen and near(gt[chosen[k]], p, j) is not None))
        if number == len(truth) - 1:
            continue
        for j, event in enumerate(events):
            if not gt or not pr:
                event["miss"] += 1
                event["fp"] += 1
                event["objects"] += 1
                continue
            objects = [g for g in gt if j in g["points"]]
            found = [p for p in pr if j in p["points"]]
            edges = {
                (a, b): d
                for a, g in enumerate(objects)
                for b, p in enumerate(found)
                if (d := near(g, p, j)) is not None
            }
            event["sum"] += sum(edges.values())
            pairs = {}
            for a, g in enumerate(objects):
                for b, p in enumerate(found):
                    if (a, b) in edges and last[j].get(g["track"]) == p["track"] and b not in pairs.values():
                        pairs[a] = b
            event["sum"] += sum(edges[pair] for pair in pairs.items())
            rest = [(a, b) for a, b in edges if a not in pairs and b not in pairs.values()]
            cost = np.full((len(objects), len(found)), 1e3)
            for edge in rest:
                cost[edge] = edges[edge]
            for a, b in zip(*linear_sum_assignment(cost), strict=True):
                if (a, b) not in rest:
                    continue
                pairs[a] = b
                o, h = objects[a]["track"], found[b]["track"]
                switch = o in last[j] and last[j][o] != h
                transfer = h in owner[j] and owner[j][h] != o
                times = 1 + (switch and h not in owner[j]) + transfer + (transfer and o not in last[j])
                event["switch"] += switch
                event["sum"] += times * edges[a, b]
                last[j][o], owner[j][h] = h, o
            event["objects"] += len(objects)
            event["miss"] += len(objects) - len(pairs)
            event["fp"] += len(found) - len(pairs)
    return {"labels": labels, "annotated": annotated, "events": events}


def naive_ap(labels: list[tuple[float, bool]], annotated: int) -> float:
    """The area under the envelope, exactly, from the distinct recalls."""
    if not labels:
        return 0.0
    ranked = sorted(labels, key=lambda label: -label[0])
    hits = [sum(right for _, right in ranked[: n + 1]) for n in range(len(ranked))]
    precision = [Fraction(h, n + 1) for n, h in enumerate(hits)]
    return float(sum(max(precision[n:]) for n, (_, right) in enumerate(ranked) if right) / annotated * 100)


@pytest.mark.parametrize("seed", range(6))
def test_against_the_naive_implementation(tmp_path, seed):
    """Crowds with noise, misses, false alarms, switched ids and empty frames."""
    random = np.random.default_rng(seed)

    def one(track, place):
        points = {j: (*(place + random.normal(0, 6, 2) + (8 * j, 0)), random.random()) for j in range(15)}
        kept = {j: point for j, point in points.items() if random.random() < 0.85 or j == 0}
        return {"track": track, "points": kept, "head": (0.0, 0.0, *random.uniform(20, 60, 2))}

    truth, predicted, ids = [], [], np.arange(7)
    homes = random.uniform(0, 60, (7, 2))
    for _ in range(25):
        if random.random() < 0.4:
            swap = random.choice(7, 2, replace=False)
            ids[swap] = ids[swap[::-1]]
        there = [i for i in range(7) if random.random() < 0.9]
        truth.append([one(i, homes[i]) for i in there])
        predicted.append([one(int(ids[i]), homes[i]) for i in random.permutation(7) if random.random() < 0.8])
    predicted[3] = predicted[9] = []
    result, expected = both(tmp_path, truth, predicted), naive(truth, predicted)
    for j, event in enumerate(expected["events"]):
        assert result["ap"][j] == pytest.approx(naive_ap(expected["labels"][j], expected["annotated"][j]), abs=1e-9)
        found = event["objects"] - event["miss"]
        counts = {"misses": "miss", "switches": "switch", "false_positives": "fp", "objects": "objects"}
        assert {k: result["counts"][k][j] for k in counts} == {k: event[v] for k, v in counts.items()}
        wrong = event["miss"] + event["switch"] + event["fp"]
        assert result["mota"][j] == pytest.approx(100 * (1 - wrong / event["objects"]), abs=1e-9)
        assert result["motp"][j] == pytest.approx(100 * (1 - event["sum"] / found), abs=1e-9)
    assert result["mota"][15] == pytest.approx(np.mean(result["mota"][:15]))


# --- the official tool's own figures --------------------------------------------------------------------------------

OFFICIAL = (
    ("AP", {"ap": "ap", "pre": "ap_precision", "rec": "ap_recall"}),
    ("MOT", {"mota": "mota", "motp": "motp", "pre": "mot_precision", "rec": "mot_recall"}),
)


def same(expected: dict, result: dict) -> None:
    for part, fields in OFFICIAL:
        for theirs, ours in fields.items() if part in expected else ():
            assert [v is None for v in result[ours]] == [v is None for v in expected[part][theirs]]
            pairs = [(a, b) for a, b in zip(result[ours], expected[part][theirs], strict=True) if b is not None]
            assert all(abs(a - b) <= 1e-9 for a, b in pairs), ours
    for ours in ("misses", "switches", "false_positives", "objects", "detections"):
        counts = expected.get("MOT", {}).get("counts")
        assert not counts or result["counts"][ours] == counts[f"num_{ours}"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_official_cases(tmp_path, case):
    """A small case stands in this repository; larger ones, of real frames, are used where ../shared has them."""
    expected = json.loads((case / "expected.json").read_text())
    posetrack.main(gt=case / "gt", pred=case / "pred", json=tmp_path / "figures.json")
    result = json.loads((tmp_path / "figures.json").read_text())
    same(expected, result)
    assert set(result["sequences"]) == set(expected["per_sequence"])
    for name, figures in expected["per_sequence"].items():
        same(figures, result["sequences"][name])


# --- OKS ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_oks_ap_is_cocos(tmp_path, seed):
    """Against pycocotools on random people, with its sigmas set to ours and the box's area as the person's."""
    pytest.importorskip("pycocotools")
    random = np.random.default_rng(seed)
    truth, predicted = [], []
    for _ in range(12):
        homes = random.uniform(0, 300, (5, 2))
        truth.append([person(i, *home, joints=random.permutation(15)[:9].tolist()) for i, home in enumerate(homes)])
        predicted.append(
            [person(i, *(home + random.normal(0, 25, 2)), score=random.random()) for i, home in enumerate(homes)]
        )
        predicted[-1].append(person(9, *random.uniform(0, 300, 2), score=random.random()))
    ours = evaluate(tmp_path, file18(truth, True), file18(predicted, False), oks=True)
    theirs = _coco_ap(truth, predicted)
    assert ours["AP"] == pytest.approx(100 * theirs[0]) and ours["AP50"] == pytest.approx(100 * theirs[1])
    assert ours["AP75"] == pytest.approx(100 * theirs[2]) and ours["AR"] == pytest.approx(100 * theirs[5])
    assert 5 < ours["AP"] < 95


@pytest.mark.parametrize(("wrong", "found"), [(19, 100), (20, 0)])
def test_the_best_20_of_a_frame_count(tmp_path, wrong, found):
    """The one person who is right has the lowest score."""
    crowd = [person(i, y=1000 * (i + 1), score=0.9) for i in range(wrong)] + [person(99, score=0.1)]
    result = evaluate(tmp_path, file18([[person(0)]], True), file18([crowd], False), oks=True)
    assert result["AR"] == found


def _coco_ap(truth: list[list[dict]], predicted: list[list[dict]]) -> np.ndarray:
    import contextlib
    import io

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def entry(f, p):
        points = [p["points"].get(j) for j in range(15)]
        flat = [v for point in points for v in ((*point[:2], 2) if point else (0, 0, 0))]
        return {"image_id": f, "category_id": 1, "keypoints": flat, "num_keypoints": len(p["points"])}

    labels = [entry(f, p) for f, people in enumerate(truth) for p in people]
    box = {"area": 1500.0 * 40, "iscrowd": 0, "bbox": [0, 0, 1500, 40]}
    content: Any = {
        "info": {}, "images": [{"id": f} for f in range(len(truth))], "categories": [{"id": 1}],
        "annotations": [label | box | {"id": i + 1} for i, label in enumerate(labels)],
    }  # fmt: skip
    found: Any = [entry(f, p) | {"score": p["points"][0][2]} for f, people in enumerate(predicted) for p in people]
    with contextlib.redirect_stdout(io.StringIO()):
        labelled = COCO()
        labelled.dataset = content
        labelled.createIndex()
        judge = COCOeval(labelled, labelled.loadRes(found), "keypoints")
        judge.params.kpt_oks_sigmas = np.array(skeletons.oks_sigmas(JOINTS))
        judge.params.areaRng, judge.params.areaRngLbl = [[0, 1e10]] * 3, ["all", "medium", "large"]
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge.stats


# --- polygons -------------------------------------------------------------------------------------------------------


def test_points_in_polygons_by_hand():
    square = np.array([(0, 0), (4, 0), (4, 4), (0, 4)], float)
    bow = np.array([(0, 0), (4, 4), (4, 0), (0, 4)], float)  # crosses itself at (2, 2)
    points = np.array([(1, 2), (2, 1), (2, 2), (0, 0), (4, 2), (2, 0), (5, 2), (np.nan, 1)])
    assert in_any(points, [square]).tolist() == [True, True, True, False, False, False, False, False]
    assert in_any(points, [bow]).tolist() == [True, False, False, False, False, False, False, False]
    assert in_any(points, [bow, square])[:3].all() and not in_any(points, []).any()


@given(st.lists(st.tuples(st.integers(-8, 8), st.integers(-8, 8)), min_size=3, max_size=7), st.integers(0, 6))
def test_points_on_an_edge_are_not_inside(corners, edge):
    """Also where coordinates are not exact: thirds of a pixel, far from the origin."""
    a, b = corners[edge % len(corners)], corners[(edge + 1) % len(corners)]
    polygon = np.array(corners) / 4 + 1000
    for part in (0, 0.25, 0.5, 1):
        point = (np.array(a) + part * (np.array(b) - np.array(a))) / 4 + 1000
        assert not in_any(point[None], [polygon])[0]


def exactly_inside(point: np.ndarray, polygon: np.ndarray) -> bool:
    """By rational arithmetic on the same floats: strictly inside, by the even-odd rule."""
    corners = [tuple(map(Fraction, corner)) for corner in polygon.tolist()]
    px, py = map(Fraction, point.tolist())
    inside = False
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        side = (bx - ax) * (py - ay) - (by - ay) * (px - ax)
        if side == 0 and min(ax, bx) <= px <= max(ax, bx) and min(ay, by) <= py <= max(ay, by):
            return False
        if (ay > py) != (by > py):
            inside ^= px < ax + (py - ay) * (bx - ax) / (by - ay)
    return inside


def test_points_a_rounding_error_from_an_edge_are_told_apart():
    """Thirds of pixels: a point that is rounded from one on an edge lies on either side of it, or on it."""
    random = np.random.default_rng(0)
    outcomes = []
    for _ in range(40):
        polygon = random.integers(-20, 20, (5, 2)) / 3 + 1000
        parts = random.random((20, 1))
        points = polygon[0] + parts * (polygon[1] - polygon[0])
        expected = [exactly_inside(point, polygon) for point in points]
        assert in_any(points, [polygon]).tolist() == expected
        outcomes += expected
    assert 50 < sum(outcomes) < len(outcomes) - 50
