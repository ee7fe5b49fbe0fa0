"""The detector's parts by hand, and its invariants: batched = single, delta 0, training without people."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dimofs import shrinking
from dimofs.datasets.people import People
from dimofs.skeletons import oks_sigmas
from dimofs.zoo.backbones.fpn import FeaturePyramid
from dimofs.zoo.detection import box_coder, keypoint_head
from dimofs.zoo.detection.box_detector import Boxes
from dimofs.zoo.detection.detector import PoseDetector, finish
from dimofs.zoo.detection.features import Features, Geometry
from dimofs.zoo.detection.keypoint_head import KeypointHead, _gaussian
from dimofs.zoo.detection.losses import Sampling, keypoint_loss, pose_losses
from dimofs.zoo.detection.matcher import BETWEEN, NEGATIVE, match, sample
from dimofs.zoo.detection.offsets import DeformableLayer, OffsetNet
from dimofs.zoo.detection.person_score import PersonScore
from dimofs.zoo.detection.pose_nms import distinct
from dimofs.zoo.detection.preprocess import Preprocess
from dimofs.zoo.detection.rpn import RegionProposals, grid_anchors
from dimofs.zoo.presets import dimofs_mobile
from dimofs.zoo.training.terms import means
from tests.support.tiny import tiny_model


@pytest.fixture(scope="module")
def mobile() -> PoseDetector:
    """An untrained model whose heads are loud, so that it finds people in noise."""
    torch.manual_seed(0)
    model = dimofs_mobile(min_size=128, max_size=128).eval()
    with torch.no_grad():
        for layer in (model.rpn.objectness, model.rpn.deltas, model.box_head.logits):
            layer.weight.mul_(30)
        assert isinstance(model.offset_net, OffsetNet)
        for conv in model.offset_net.convs:
            conv.weight.normal_(std=0.02)  # type: ignore[operator, union-attr]
    return model


def frames(n: int, height: int = 96, width: int = 128, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 3, height // 8, width // 8, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")


def assert_same_people(found, expected):
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert len(one) == len(other) > 0
        torch.testing.assert_close(one.boxes, other.boxes, atol=1e-3, rtol=0)
        torch.testing.assert_close(one.scores, other.scores, atol=1e-4, rtol=0)
        torch.testing.assert_close(one.keypoint_scores, other.keypoint_scores, atol=1e-3, rtol=1e-4)
        moved = (one.keypoints - other.keypoints).abs().amax(-1) > 1e-3
        assert moved.float().mean() < 0.01  # in noise two cells may tie for the peak


def test_box_coder_by_hand_and_back():
    reference, target = torch.tensor([[0.0, 0, 10, 20]]), torch.tensor([[5.0, 0, 25, 20]])
    weights = torch.tensor([1.0, 1, 1, 1])
    code = box_coder.encode(target, reference, weights)
    torch.testing.assert_close(code, torch.tensor([[1.0, 0, math.log(2), 0]]))
    torch.testing.assert_close(box_coder.decode(code, reference, weights), target)
    weights = torch.tensor([10.0, 10, 5, 5])
    torch.testing.assert_close(
        box_coder.decode(box_coder.encode(target, reference, weights), reference, weights), target
    )


def test_decode_of_a_wild_head_is_finite():
    boxes = box_coder.decode(torch.full((1, 4), 1e4), torch.tensor([[0.0, 0, 8, 8]]), torch.ones(4))
    assert boxes.isfinite().all()


def test_anchors_by_hand():
    anchors = grid_anchors(torch.zeros(1, 1, 1, 2), (16, 32), 32, (0.5, 2.0))
    expected = [[-23, -11, 23, 11], [-11, -23, 11, 23], [-7, -11, 39, 11], [5, -23, 27, 23]]
    assert anchors.tolist() == expected


def test_anchors_sit_on_the_cells_of_the_padded_input():
    anchors = grid_anchors(torch.zeros(1, 1, 3, 4), (96, 128), 32, (1.0,))
    centers = (anchors[:, :2] + anchors[:, 2:]) / 2
    assert centers[0].tolist() == [0, 0]
    assert centers[-1].tolist() == [96, 64]


def test_match_by_hand():
    candidates = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 6], [0, 0, 10, 4], [50, 50, 60, 60], [80, 80, 90, 90]])
    people, ignore = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[45.0, 45, 65, 65]])
    matched = match(candidates, people, ignore, positive=0.7, negative=0.5)
    assert matched.tolist() == [0, BETWEEN, NEGATIVE, BETWEEN, NEGATIVE]


def test_keep_best_gives_each_person_an_anchor():
    candidates, people = torch.tensor([[0.0, 0, 4, 4], [20, 20, 30, 30]]), torch.tensor([[0.0, 0, 10, 10]])
    assert match(candidates, people, torch.zeros(0, 4), positive=0.7, negative=0.3).tolist() == [NEGATIVE, NEGATIVE]
    kept = match(candidates, people, torch.zeros(0, 4), positive=0.7, negative=0.3, keep_best=True)
    assert kept.tolist() == [0, NEGATIVE]


def test_sample_balances_and_never_takes_what_lies_between():
    assert NEGATIVE != BETWEEN
    matched = torch.tensor([0] * 10 + [NEGATIVE] * 100 + [BETWEEN] * 100)
    chosen = matched[sample(matched, 16, 0.25, torch.Generator().manual_seed(0))]
    assert (chosen >= 0).sum() == 4
    assert (chosen == NEGATIVE).sum() == 12


def test_keypoint_encode_by_hand():
    region = torch.tensor([[10.0, 20, 30, 60]])  # cells of 5 x 10 pixels
    points = torch.tensor([[[10.0, 20], [17.6, 39.9], [30, 60], [9.9, 20], [math.nan, 30]]])
    cells, inside = keypoint_head.encode(points, region, 4)
    assert cells[0, :3].tolist() == [0, 4 + 1, 15]
    assert inside.tolist() == [[True, True, True, False, False]]


def test_keypoint_decode_by_hand():
    logits = torch.zeros(1, 2, 4, 4)
    logits[0, 0, 1, 2], logits[0, 1, 3, 0] = 5, 7
    points, peaks = keypoint_head.decode(logits, torch.tensor([[10.0, 20, 14, 24]]))  # one pixel a cell
    assert points.tolist() == [[[12.5, 21.5], [10.5, 23.5]]]
    assert peaks.tolist() == [[5, 7]]


def test_keypoint_decode_inverts_encode_within_a_cell():
    regions = torch.tensor([[3.0, 5, 83, 155], [0, 0, 30, 60.5]])
    points = regions[:, None, :2] + torch.rand(2, 7, 2, generator=torch.Generator().manual_seed(0)) * (
        regions[:, None, 2:] - regions[:, None, :2]
    )
    cells, _ = keypoint_head.encode(points, regions, 56)
    logits = torch.nn.functional.one_hot(cells, 56 * 56).float().view(2, 7, 56, 56) * 10
    found, _ = keypoint_head.decode(logits, regions)
    cell = (regions[:, 2:] - regions[:, :2]).amax(1) / 56
    assert ((found - points).abs().amax(dim=(1, 2)) < cell / 2 + 1).all()


@torch.no_grad()
@pytest.mark.parametrize("tracing", [False, True], ids=["a person at a time", "all people at once"])
def test_keypoint_decode_finds_the_peaks_of_resized_heatmaps(tracing, monkeypatch):
    """Of F.interpolate, for regions smaller and larger than their heatmaps, down to less than a pixel."""
    generator = torch.Generator().manual_seed(0)
    heatmaps = 5 * torch.randn(6, 3, 14, 14, generator=generator)
    size = torch.tensor([[0.4, 0.2], [1, 90], [9.3, 20], [14, 14], [61.5, 33.2], [200, 7]])
    regions = torch.cat((size, 2 * size), dim=1)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: tracing)
    points, peaks = keypoint_head.decode(heatmaps, regions)
    for maps, (w, h), place, found, values in zip(heatmaps, size.clamp(min=1), regions, points, peaks, strict=True):
        width, height = math.ceil(w), math.ceil(h)
        full = F.interpolate(maps[None], (height, width), mode="bicubic", align_corners=False)[0]
        value, where = full.flatten(1).max(dim=1)
        torch.testing.assert_close(values, value, atol=1e-4, rtol=1e-5)
        cell = torch.stack((where % width, where // width), dim=1) + 0.5
        torch.testing.assert_close(found, cell * torch.stack((w / width, h / height)) + place[:2], atol=1e-4, rtol=0)


def test_keypoint_decode_keeps_its_precision_under_autocast():
    heatmaps = torch.zeros(1, 1, 56, 56)
    heatmaps[0, 0, 30, 20], heatmaps[0, 0, 10, 40] = 5, 5.003  # equal in bfloat16
    region = torch.tensor([[0.0, 0, 56, 56]])
    with torch.autocast("cpu", torch.bfloat16):
        points, peaks = keypoint_head.decode(heatmaps, region)
    assert points.tolist() == [[[40.5, 10.5]]]
    assert peaks.item() == pytest.approx(5.003)


def gaussian_heatmaps(centres: torch.Tensor, deviation: float, cells: int = 56) -> torch.Tensor:
    """Logits [1, J, cells, cells] whose softmax is a Gaussian around each of the centres [J, 2], in cells."""
    place = torch.arange(cells) + 0.5
    x, y = (place - centres[:, i, None] for i in (0, 1))
    return -(x[:, None].square() + y[..., None].square())[None] / (2 * deviation**2)


def test_smoothing_has_no_numbers_that_slow_products_down():
    weights = _gaussian(56, 1.5)
    assert ((weights == 0) | (weights > 1e-13)).all() and (weights == 0).any()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(56))
    right = torch.exp(-((torch.arange(56.0) - 20) ** 2) / 4.5)
    torch.testing.assert_close(weights[20], right / right.sum(), rtol=1e-6, atol=1e-12)


def test_smooth_decode_finds_the_centre_of_a_gaussian():
    """Between the cells, where the largest cell is off by up to half a cell; the region has two pixels a cell."""
    centres = torch.tensor([[20.3, 30.9], [28.0, 28.0], [40.5, 11.75]])
    heatmaps = gaussian_heatmaps(centres, 2.0)
    region = torch.tensor([[10.0, 20, 10 + 112, 20 + 112]])
    points, peaks = keypoint_head.decode(heatmaps, region, smoothing=1.5)
    torch.testing.assert_close(points[0], 10 * torch.tensor([1.0, 2]) + 2 * centres, atol=0.01, rtol=0)
    assert torch.equal(peaks, heatmaps.flatten(2).amax(2))


def test_smooth_decode_prefers_a_wide_mode_to_a_single_cell():
    wide = gaussian_heatmaps(torch.tensor([[40.5, 40.5]]), 3.0)
    wide[0, 0, 10, 10] = 0.5
    assert wide.argmax() == 10 * 56 + 10
    points, _ = keypoint_head.decode(wide, torch.tensor([[0.0, 0, 56, 56]]), smoothing=1.5)
    torch.testing.assert_close(points, torch.tensor([[[40.5, 40.5]]]), atol=0.05, rtol=0)


@pytest.mark.parametrize("cells", [3, 4, 56])
def test_smooth_decode_stays_within_a_cell_of_the_largest(cells):
    """Also at corners, on flat heatmaps, and where one cell has all the probability."""
    region = torch.tensor([[0.0, 0, cells, cells]])
    heatmaps = torch.zeros(1, 5, cells, cells)
    corners = [(0, 0), (0, cells - 1), (cells - 1, 0), (cells - 1, cells - 1)]
    for joint, (y, x) in enumerate(corners):
        heatmaps[0, joint, y, x] = 1e4
    points, _ = keypoint_head.decode(heatmaps, region, smoothing=1.5)
    assert points.isfinite().all() and (points >= 0).all() and (points <= cells).all()
    expected = torch.tensor([(x + 0.5, y + 0.5) for y, x in corners])
    assert ((points[0, :4] - expected).abs() <= 1.5).all()


def test_decode_of_nobody():
    points, peaks = keypoint_head.decode(torch.zeros(0, 19, 56, 56), torch.zeros(0, 4), smoothing=1.5)
    assert points.shape == (0, 19, 2) and peaks.shape == (0, 19)
    points, peaks = keypoint_head.decode(torch.zeros(0, 19, 56, 56), torch.zeros(0, 4))
    assert points.shape == (0, 19, 2)
    assert peaks.shape == (0, 19)


def test_keypoint_loss_by_hand():
    heatmaps = torch.zeros(1, 3, 2, 2)
    assert keypoint_loss(heatmaps, torch.tensor([[0, 3, -1]])).mean().item() == pytest.approx(math.log(4))
    assert keypoint_loss(heatmaps, torch.tensor([[-1, -1, -1]])).mean().item() == 0


def test_a_duplicate_of_a_better_pose_is_suppressed_by_hand():
    """Two joints of sigma 0.1 and 0.05, a better box of 100 x 100: 20 pixels off give exp(-.5) and exp(-2)."""
    boxes = torch.tensor([[0.0, 0, 100, 100]]).repeat(3, 1)
    points = torch.tensor([[10.0, 10], [90, 90]]).repeat(3, 1, 1)
    points[1] += torch.tensor([20.0, 0])  # similarity (.6065 + .1353) / 2 = .3709
    points[2, 0] = torch.nan  # like nobody
    sigmas = (0.1, 0.05)
    assert distinct(points, boxes, sigmas, 0.3708).tolist() == [True, False, True]
    assert distinct(points, boxes, sigmas, 0.371).tolist() == [True, True, True]
    boxes[0, 2:] = 50  # the better one's box decides: exp(-2) and exp(-8), .0678
    assert distinct(points, boxes, sigmas, 0.0677).tolist() == [True, False, True]
    assert distinct(points, boxes, sigmas, 0.0679).tolist() == [True, True, True]
    assert distinct(points[:0], boxes[:0], sigmas, 0.5).shape == (0,)


def test_a_mixture_of_better_poses_is_suppressed_by_hand():
    """The left half of one person and the right half of another, whom it resembles by half each."""
    boxes = torch.tensor([[0.0, 0, 100, 100], [100, 0, 200, 100], [50, 0, 150, 100]])
    points = torch.tensor([[[10.0, 50], [90, 50]], [[110, 50], [190, 50]], [[10, 50], [190, 50]]])
    sigmas = (0.1, 0.1)
    assert distinct(points, boxes, sigmas, 0.7).tolist() == [True, True, False]
    # 13 pixels off in each joint is exp(-169 / 800) = .8096, 14 pixels exp(-196 / 800) = .7827.
    for off, stays in ((13, False), (14, True)):
        moved = points.clone()
        moved[2, :, 1] += off
        assert distinct(moved, boxes, sigmas, 0.7).tolist() == [True, True, stays]
    # Worse people make nobody a mixture.
    assert distinct(points.flip(0), boxes.flip(0), sigmas, 0.7).tolist() == [True, True, True]


def test_box_and_joints_score_a_person_by_hand():
    score = PersonScore(bias=-1.0, box=0.5, joints=0.5)
    peaks = torch.tensor([[1.0, -9, 1, 1, 1, 1], [0, 0, 0, 0, 0, -50]])
    # logit(.8) = 1.3863: -1 + .6931 + .5, and -1 + .6931
    expected = [1 / (1 + math.exp(-0.1931)), 1 / (1 + math.exp(0.3069))]
    assert score(torch.tensor([0.8, 0.8]), peaks).tolist() == pytest.approx(expected, abs=1e-4)
    assert score(torch.zeros(0), torch.zeros(0, 6)).shape == (0,)
    assert score(torch.ones(1), torch.ones(1, 2)).isfinite().all()
    for wanted in (0.05, 0.5, 0.9):
        least = score.least_box(wanted)
        best = torch.full((1, 6), 100.0)
        assert score(torch.tensor([least]), best).item() == pytest.approx(wanted, abs=1e-4)
    assert score.least_box(0) == 0


def test_a_person_score_ranks_and_filters_people(mobile, monkeypatch):
    x = torch.rand(1, 3, 96, 128)
    (boxes_only,) = mobile(x)
    monkeypatch.setattr(mobile, "person_score", PersonScore(0.5, 0.8, 0.6))
    (whole,) = mobile(x)
    expected = mobile.person_score(boxes_only.scores, boxes_only.keypoint_scores)
    assert whole.scores.tolist() == sorted(whole.scores.tolist(), reverse=True)
    assert set(whole.scores.tolist()) <= set(expected.tolist()) and len(whole) > 2
    middle = whole.scores[len(whole) // 2].item()
    (some,) = mobile(x, min_score=middle)
    assert torch.equal(some.scores, whole.scores[whole.scores > middle])
    with pytest.raises(ValueError, match="give bias, box"):
        dimofs_mobile(person_score=[0.0, 0.0, 1.0])


def test_duplicates_are_suppressed(mobile, monkeypatch):
    x, found = torch.rand(2, 3, 96, 128), {}
    for threshold in (None, 0.02):
        monkeypatch.setattr(mobile, "duplicate_oks", threshold)
        found[threshold] = mobile(x)
    for every, some in zip(*found.values(), strict=True):
        kept = distinct(every.keypoints, every.boxes, oks_sigmas(mobile.keypoint_names), 0.02)
        assert 0 < len(some) < len(every) and torch.equal(some.keypoints, every[kept].keypoints)


def test_joints_of_any_name_are_found(mobile, monkeypatch):
    """Joints whose spread nobody measured count as wide as a shoulder."""
    assert oks_sigmas(("left_shoulder", "tail", "right_wrist")) == [0.079, 0.079, 0.062]
    monkeypatch.setattr(mobile, "keypoint_names", ("tail", *mobile.keypoint_names[1:]))
    assert len(mobile(torch.rand(1, 3, 96, 128))[0]) > 0


def test_preprocess_sizes_as_torchvision_rounds_them():
    preprocess = Preprocess(800, 1333, (0.5,) * 3, (0.5,) * 3)
    assert preprocess.size(480, 640) == (800, 1066)
    assert preprocess.size(375, 1000) == (499, 1333)
    inputs, size = Preprocess(64, 64, (0.5,) * 3, (0.5,) * 3)(torch.ones(1, 3, 40, 64))
    assert size == (40, 64)
    assert inputs.shape == (1, 3, 64, 64)
    assert inputs[..., :40, :].eq(1).all()
    assert inputs[..., 40:, :].eq(0).all()


def test_deformable_layer_starts_as_the_identity_and_offsets_at_zero():
    a, b = ([torch.rand(1, 4, 5, 6)] for _ in range(2))
    offsets = OffsetNet(4, levels=1)(a, b)
    assert offsets[0].shape == (1, 8, 5, 6)
    assert offsets[0].eq(0).all()
    torch.testing.assert_close(DeformableLayer(4, levels=1)(b, offsets)[0], b[0])


def test_motion_by_hand(mobile, monkeypatch):
    """Channels of 1 and 3 cells to the right and 1 down; a cell of P2 is 2 pixels of a frame enlarged twice."""
    field = torch.tensor([1.0, 1, 1, 3]).view(1, 4, 1, 1).expand(1, 4, 32, 32)
    monkeypatch.setattr(mobile, "dimofs", lambda a, b: [field])
    geometry = Geometry(padded=(128, 128), resized=(96, 128), frame=(48, 64))
    features = Features([torch.zeros(1, 2, 32, 32)], geometry)
    (motion,) = mobile.motion(features, features)
    points = torch.tensor([[10.0, 10], [60, 40]])
    torch.testing.assert_close(motion.move(points), points + torch.tensor([4.0, 2]))
    assert (motion.height, motion.width) == (64, 64)


def test_equal_frames_have_not_moved(mobile):
    features = mobile.features(frames(1))
    assert all(offset.eq(0).all() for offset in mobile.dimofs(features, features))


@torch.no_grad()
def test_delta_zero_is_frame_b_equal_to_frame_a(mobile):
    images = frames(2)
    assert_same_people(mobile(images), mobile(images, images))


@torch.no_grad()
def test_frame_b_matters(mobile):
    a, b = frames(1), frames(1, seed=2)
    assert not torch.equal(mobile(a, b)[0].scores, mobile(a)[0].scores)


@torch.no_grad()
def test_heatmaps_of_frames_beside_are_averaged(mobile):
    """With A itself beside, twice, nothing changes; with another frame, joints and peaks do, boxes do not."""
    a, other = mobile.features(frames(1)), mobile.features(frames(1, seed=2))
    alone = mobile.detect(a)
    assert_same_people(mobile.detect(a, None, [a, a]), alone)
    mixed = mobile.detect(a, None, [other])
    assert torch.equal(mixed[0].boxes, alone[0].boxes)
    assert not torch.equal(mixed[0].keypoints, alone[0].keypoints)


@torch.no_grad()
def test_batched_equals_single(mobile):
    a, b = frames(3), frames(3, seed=2)
    single = [mobile(a[i : i + 1], b[i : i + 1])[0] for i in range(3)]
    assert_same_people(mobile(a, b), single)


@torch.no_grad()
def test_deterministic(mobile):
    first, second = (mobile(frames(1))[0] for _ in range(2))
    assert torch.equal(first.keypoints, second.keypoints)


@torch.no_grad()
@pytest.mark.parametrize("size", [(96, 128), (97, 61), (33, 200), (300, 20)], ids=str)
def test_results_are_inside_frames_of_awkward_sizes(mobile, size):
    height, width = size
    coarse = frames(1, 64, 64)
    images = torch.nn.functional.interpolate(coarse, size=size, mode="bilinear")
    people = mobile(images)[0]
    assert len(people) > 0
    assert people.boxes.isfinite().all()
    assert people.boxes.min() >= 0
    assert (people.boxes[:, 2] <= width + 1e-3).all()
    assert (people.boxes[:, 3] <= height + 1e-3).all()
    assert people.scores.diff().le(0).all()


@torch.no_grad()
def test_features_are_cut_and_joined(mobile):
    features = mobile.features(frames(3))
    joined = Features.cat([features[2:3], features[:1]])
    assert len(joined) == 2
    assert_same_people(mobile.detect(joined), mobile(frames(3)[[2, 0]]))


@torch.no_grad()
def test_nobody_found_is_no_error(mobile):
    people = mobile(frames(2), min_score=1.0)
    assert [p.keypoints.shape for p in people] == [(0, 19, 2)] * 2


@torch.no_grad()
def test_thresholds_and_limits_of_a_call(mobile):
    """They change nothing for the next call, and no threshold lies below the model's own."""
    image = frames(1)
    (every,) = mobile(image)
    assert len(every) > 10 and every.scores.min() > 0.05
    sure = float(every.scores[5])
    assert torch.equal(mobile(image, max_people=3)[0].boxes, every.boxes[:3])
    kept = mobile(image, min_score=sure)[0].scores
    assert kept.min() > sure and len(kept) <= 5
    assert_same_people(mobile(image, min_score=0.0), [every])


def test_points_and_boxes_go_to_the_input_and_back_by_hand():
    """A frame of 200 x 100 (wide) shown in 50 x 50 of the input."""
    geometry = Geometry(frame=(100, 200), resized=(50, 50), padded=(64, 64))
    points, boxes = torch.tensor([[[200.0, 100], [4, 2]]]), torch.tensor([[8.0, 10, 100, 60]])
    assert geometry.to_input(points).tolist() == [[[50, 50], [1, 1]]]
    assert geometry.to_input(boxes).tolist() == [[2, 5, 25, 30]]
    assert torch.equal(geometry.to_frame(geometry.to_input(points)), points)
    assert torch.equal(geometry.to_frame(geometry.to_input(boxes)), boxes)


def test_finish_by_hand():
    """Two images: three people, the second a duplicate of the first; nobody."""
    geometry = Geometry(frame=(100, 200), resized=(50, 50), padded=(64, 64))
    boxes = torch.tensor([[0.0, 0, 10, 20], [0, 0, 10, 20], [20, 0, 30, 20]])
    people = [Boxes(boxes, torch.tensor([0.9, 0.8, 0.7])), Boxes(torch.zeros(0, 4), torch.zeros(0))]
    points = torch.tensor([[[5.0, 5]], [[5, 5]], [[25, 10]]])
    peaks = torch.tensor([[3.0], [2], [1]])
    first, second = finish(geometry, people, points, peaks, [0.1], 0.5)
    assert first.boxes.tolist() == [[0, 0, 40, 40], [80, 0, 120, 40]]
    assert first.keypoints.tolist() == [[[20, 10]], [[100, 20]]]
    assert first.scores.tolist() == pytest.approx([0.9, 0.7]) and first.keypoint_scores.tolist() == [[3], [1]]
    assert len(second) == 0 and second.keypoints.shape == (0, 1, 2)
    assert len(finish(geometry, people, points, peaks, [0.1], None)[0]) == 3


@torch.no_grad()
def test_joints_of_known_boxes_are_those_of_the_detections(mobile):
    features = mobile.features(frames(2))
    people = mobile.detect(features)
    boxes = [features.geometry.to_input(found.boxes) for found in people]
    points, peaks = mobile.find_joints([mobile.align(features)], boxes)
    torch.testing.assert_close(peaks, torch.cat([found.keypoint_scores for found in people]), atol=1e-3, rtol=1e-4)
    found = features.geometry.to_frame(points)
    assert ((found - torch.cat([p.keypoints for p in people])).abs().amax(-1) > 1e-2).float().mean() < 0.01


@torch.no_grad()
def test_frames_of_other_types(mobile):
    """Bytes count as parts of 255; doubles as single precision."""
    image = frames(1)
    quantized = (image * 255).byte()
    assert_same_people(mobile(quantized), mobile(quantized / 255))
    assert_same_people(mobile(image.double()), mobile(image))


@torch.no_grad()
def test_nobody_in_no_frames(mobile):
    nothing = torch.zeros(0, 3, 96, 128)
    assert mobile(nothing) == [] == mobile(nothing, nothing) and mobile(nothing.byte()) == []
    features = mobile.features(nothing)
    assert len(features) == 0 and mobile.motion(features, features) == []


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(1, 3, 32, 32) * 255, "values from"),
        (torch.rand(1, 3, 32, 32) - 1, "values from"),
        (torch.full((1, 3, 32, 32), torch.nan), "values from nan to nan"),
        (torch.full((1, 3, 32, 32), torch.inf), "values from inf"),
        (torch.rand(3, 32, 32), r"shape \[3, 32, 32\]"),
        (torch.rand(1, 1, 32, 32), r"shape \[1, 1, 32, 32\]"),
        (torch.rand(1, 32, 32, 3), r"shape \[1, 32, 32, 3\]"),
        (torch.rand(1, 3, 0, 32), r"shape \[1, 3, 0, 32\]"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.int64), "are torch.int64"),
        (np.zeros((1, 3, 32, 32), np.uint8), "are a ndarray"),
    ],
)
def test_frames_that_are_something_else(mobile, images, message):
    for call in (mobile, mobile.features, lambda x: mobile(torch.rand(1, 3, 32, 32), x)):
        with pytest.raises(ValueError, match=message + r".* expected a torch\.Tensor \[N, 3, height, width\]"):
            call(images)


@torch.no_grad()
@pytest.mark.parametrize("other", [(1, 96, 128), (2, 96, 120)], ids=["counts", "sizes"])
def test_frames_a_and_b_that_do_not_belong_together(mobile, other):
    a, b = mobile.features(frames(2)), mobile.features(frames(*other))
    calls = (mobile.detect, mobile.motion, mobile.dimofs, mobile.align, lambda a, b: mobile.detect(a, None, [b]))
    for call in calls:
        with pytest.raises(ValueError, match=r"Frame A is 2 frames of 96 x 128 pixels, Frame B .* as many of the same"):
            call(a, b)


@torch.no_grad()
def test_huge_frames_are_reduced_and_results_are_in_their_pixels(mobile, monkeypatch):
    """As if frames beyond 100 pixels were huge."""
    image = (frames(1, 192, 256) * 255).byte()
    usual = mobile(image)[0]
    monkeypatch.setattr(shrinking, "LONGEST", 200)
    seen = []
    monkeypatch.setattr(mobile, "backbone", Recording(mobile.backbone, seen))
    (reduced,) = mobile(image)
    assert seen[0] == (1, 3, 96, 128), "the network's input has its usual size"
    assert len(reduced) > 0 and reduced.boxes[:, 2].max() > 200
    assert abs(reduced.boxes[0] - usual.boxes[0]).max() < 10
    assert mobile.features(image).geometry.frame == (192, 256)
    small = shrinking.shrunk(image[0].permute(1, 2, 0).numpy())
    assert small.shape == (150, 200, 3) and small.dtype == np.uint8
    features = mobile.features(torch.from_numpy(small).permute(2, 0, 1)[None], frame_size=(192, 256))
    torch.testing.assert_close(mobile.detect(features)[0].boxes, reduced.boxes, atol=1e-3, rtol=0)


class Recording(nn.Module):
    """A module that notes the shapes of what it reads."""

    def __init__(self, module: nn.Module, shapes: list):
        super().__init__()
        self.module, self.shapes = module, shapes

    def forward(self, x: torch.Tensor):
        self.shapes.append(tuple(x.shape))
        return self.module(x)


def person(x: float, y: float) -> People:
    box = torch.tensor([[x, y, x + 40, y + 60]])
    points = box[:, None, :2] + torch.rand(1, 19, 2, generator=torch.Generator().manual_seed(3)) * torch.tensor(
        [40, 60]
    )
    return People(boxes=box, keypoints=points, labelled=torch.ones(1, 19, dtype=torch.bool), ignore=torch.zeros(0, 4))


SAMPLING = Sampling(anchors=32, regions=16, keypoint_regions=4)


@pytest.mark.parametrize("pair", [False, True], ids=["delta 0", "pair"])
def test_every_trained_part_gets_a_gradient(pair):
    torch.manual_seed(0)
    model = dimofs_mobile()
    with torch.no_grad():  # from exact zeros nothing would flow back through the offsets
        assert isinstance(model.offset_net, OffsetNet)
        for conv in model.offset_net.convs:
            conv.weight.normal_(std=0.01)  # type: ignore[operator, union-attr]
    a, b = frames(2, 128, 128), frames(2, 128, 128, seed=5)
    every = Sampling(anchors=10_000, regions=16, keypoint_regions=4)  # so that each level trains
    losses = means(pose_losses(model, a, b if pair else None, [person(10, 20), person(60, 40)], every))
    assert set(losses) == {"objectness", "proposal", "person", "box", "keypoint"}
    torch.stack(list(losses.values())).sum().backward()
    silent = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    assert silent == (set() if pair else {n for n, _ in model.named_parameters() if n.startswith("offset_net")})


def test_no_people_and_no_joints_still_train():
    torch.manual_seed(0)
    model = dimofs_mobile()
    boxed = person(10, 20)
    boxed.labelled[:] = False
    for people in ([People.empty(), People.empty()], [boxed, People.empty()]):
        losses = means(pose_losses(model, frames(2, 128, 128), None, people, SAMPLING))
        total = torch.stack(list(losses.values())).sum()
        assert total.isfinite()
        assert losses["keypoint"].item() == 0
        total.backward()


class Strides(nn.Module):
    """Four levels of 64 channels, quick to train."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 64, 7, stride=4, padding=3)
        self.down = nn.ModuleList(nn.Conv2d(64, 64, 3, stride=2, padding=1) for _ in range(3))

    def forward(self, x):
        levels = [self.stem(x).relu()]
        for conv in self.down:
            levels.append(conv(levels[-1]).relu())
        return levels


def test_a_small_detector_learns_one_image():
    torch.manual_seed(0)
    model = dimofs_mobile(min_size=128, max_size=128).train()
    model.backbone = Strides()
    image, people = frames(1, 128, 128), [person(40, 30)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(80):
        losses = means(pose_losses(model, image, None, people, SAMPLING, [generator]))
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    with torch.no_grad():
        found = model.eval()(image)[0]
    assert found.scores[0] > 0.8
    assert (found.boxes[0] - people[0].boxes[0]).abs().max() < 5
    distance = (found.keypoints[0] - people[0].keypoints[0]).norm(dim=-1)
    assert distance.median() < 3  # of 40 x 60 pixels


@pytest.mark.parametrize("in_channels", [(4, 6), (3, 5, 7, 9)])
def test_pyramid_shapes(in_channels):
    maps = [torch.rand(2, c, 64 >> i, 48 >> i) for i, c in enumerate(in_channels)]
    levels = FeaturePyramid(in_channels, 8)(maps)
    assert [level.shape for level in levels] == [(2, 8, 64 >> i, 48 >> i) for i in range(len(in_channels))]


def test_rpn_keeps_at_most_what_it_should():
    torch.manual_seed(0)
    rpn = RegionProposals(8, anchor_sizes=(16, 32), before_nms=20, after_nms=5)
    prediction = rpn([torch.rand(2, 8, 16, 16), torch.rand(2, 8, 8, 8)], (64, 64))
    assert prediction.counts == [768, 192]
    assert all(0 < len(boxes) <= 5 for boxes in rpn.propose(prediction, (64, 64)))


def test_keypoint_head_of_no_region():
    head = KeypointHead(8, 19, hidden=8, dilations=(1,))
    levels = [torch.rand(1, 8, 32 >> i, 32 >> i) for i in range(4)]
    assert head(levels, [torch.zeros(0, 4)]).shape == (0, 19, 56, 56)


def test_frames_in_place_of_features_are_told():
    model, frames = tiny_model().eval(), torch.rand(1, 3, 64, 64)
    for call in (model.detect, model.dimofs, model.motion):
        with pytest.raises(TypeError, match=r"expected Features, not Tensor; call detector.features\(frames\) first"):
            call(frames, frames)  # pyright: ignore[reportArgumentType]
