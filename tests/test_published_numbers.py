"""Numbers that other projects or our own documents fix: whoever changes one must change what depends on it.

OKS sigmas are COCO's, trackers are those of docs/tasks/track.md and the paper's baseline, shipped presets belong to
weights that exist.
"""

import numpy as np
import pytest

from dimofs import skeletons
from dimofs.tracking import TRACKERS
from dimofs.zoo.presets import VARIANTS


def test_oks_sigmas_are_cocos():
    params = pytest.importorskip("pycocotools.cocoeval").Params(iouType="keypoints")
    assert skeletons.oks_sigmas(skeletons.COCO) == pytest.approx(np.asarray(params.kpt_oks_sigmas))


def test_joints_that_coco_lacks_are_as_wide_as_a_shoulder():
    assert skeletons.oks_sigmas(["left_shoulder", "neck", "head_top", "tail"]) == [0.079] * 4


def test_mirror_swaps_sides_alone():
    names = ["nose", "left_eye", "right_eye", "leftover", "right_hip", "left_hip"]
    assert skeletons.mirror(names) == [0, 2, 1, 3, 5, 4]


def test_limbs_join_joints_that_are_there():
    assert skeletons.limbs(["nose", "right_knee", "right_ankle", "neck"]) == [(2, 1), (3, 0)]


def test_trackers():
    """gate, patience, weights of boxes, OKS and PCK, whether tracks move by velocity or motion, lowest score, least
    area; the thresholds of the sure, of births and of the second stage."""
    assert {
        name: (t.gate, t.patience, t.iou, t.oks, t.pck, t.velocity, t.motion, t.score, t.area)
        for name, t in TRACKERS.items()
    } == {
        "default": (0.9, 30, 1, 1, 0, True, False, 0, 0),
        "iou": (0.9, 10, 1, 0, 0, False, False, 0, 0),
        "oks": (0.9, 10, 0, 1, 0, False, False, 0, 0),
        "pck": (0.9, 10, 0, 0, 1, False, False, 0, 0),
        "iou+oks": (0.9, 10, 1, 1, 0, False, False, 0, 0),
        "dimofs": (0.9, 10, 0, 1, 0, False, True, 0, 0),
        "iou+dimofs": (0.9, 10, 1, 1, 0, False, True, 0, 0),
        "kalman": (0.9, 30, 1, 1, 0, True, False, 0, 0),
        "sure": (0.9, 30, 1, 1, 0, True, False, 0, 0),
        "default+dimofs": (0.9, 30, 1, 1, 0, False, True, 0, 0),
        "byte": (0.8, 30, 1, 0, 0, True, False, 0, 0),
        "byte+oks": (0.9, 30, 1, 1, 0, True, False, 0, 0),
        "detect-and-track": (1, 0, 1, 0, 0, False, False, 0.95, 50),
    }
    assert {name for name, t in TRACKERS.items() if t.exclusive} == {"default", "default+dimofs"}
    unsure = {name: (t.sure, t.birth, t.low) for name, t in TRACKERS.items() if t.sure or t.birth or t.low is not None}
    assert unsure == {
        "default": (0.7, 0, None),
        "default+dimofs": (0.7, 0, None),
        "sure": (0.7, 0, None),
        "byte": (0.6, 0.7, 0.1),
        "byte+oks": (0.6, 0.7, 0.1),
    }


def test_motion_parts():
    """The ablations of docs/reference/claims.md: arguments of the offset net and of the deformable layer."""
    assert {name: (v.kind.__name__, v.offsets, v.layer) for name, v in VARIANTS.items()} == {
        "paper": ("OffsetNet", {}, {}),
        "groups": ("OffsetNet", {"groups": 8}, {}),
        "pixel": ("OffsetNet", {"groups": 1}, {}),
        "shared": ("OffsetNet", {"shared": True}, {}),
        "wide": ("OffsetNet", {"dilation": 3}, {}),
        "random": ("OffsetNet", {"zero": False}, {}),
        "unmixed": ("OffsetNet", {}, {"mixing": False}),
        "border": ("OffsetNet", {}, {"border": True}),
        "matching": ("CoarseToFine", {}, {"border": True}),
        "softmax": ("CoarseToFine", {"hidden": 0}, {"border": True}),
        "deviating": ("CoarseToFine", {"deviation": 1.0}, {"border": True}),
        "refined": ("CoarseToFine", {"steps": ((2, 8), (1, 0))}, {"border": True}),
        "differences": (
            "CoarseToFine", {"steps": ((3, 0), (2, 0), (1, 0)), "confident": False}, {"border": True}
        ),
    }  # fmt: skip
