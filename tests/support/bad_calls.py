"""Calls of the Python interface and of the kernels with arguments that do not fit, or that fit in an unusual way."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from dimofs.detections import Detections
from dimofs.kernels import batched_nms, deform_conv2d, deform_sample, roi_align
from tests.support.sandbox import Refused
from tests.support.tiny import tiny_model

NAN, INF = math.nan, math.inf


def refused(call: Callable[[], object]) -> Callable[[], None]:
    """A call that has to raise ValueError or TypeError with a message of its own."""

    def action() -> None:
        try:
            call()
        except (ValueError, TypeError) as error:
            raise Refused(str(error)) from error
        raise AssertionError("accepted")

    return action


def gives(call: Callable[[], Tensor], expected: object) -> Callable[[], None]:
    """A call that has to give these numbers."""

    def action() -> None:
        torch.testing.assert_close(call().double(), torch.tensor(expected, dtype=torch.float64), equal_nan=True)

    return action


def same(call: Callable[[], list[Detections]], other: Callable[[], list[Detections]]) -> Callable[[], None]:
    """Two calls that have to find the same people."""

    def action() -> None:
        for one, two in zip(call(), other(), strict=True):
            torch.testing.assert_close((one.boxes, one.scores, one.keypoints), (two.boxes, two.scores, two.keypoints))

    return action


def either(call: Callable[[], object]) -> Callable[[], None]:
    """A call that may be refused as by `refused`, or work."""

    def action() -> None:
        try:
            call()
        except (ValueError, TypeError) as error:
            raise Refused(str(error)) from error

    return action


def calls() -> Iterator[tuple[str, str, Callable[[], None]]]:
    """Entry, name and what to do."""
    for name, action in _kernels().items():
        yield "kernels", name, action
    for name, action in _api().items():
        yield "api", name, action


def _kernels() -> dict[str, Callable[[], None]]:
    ones, two = torch.ones(1, 2, 4, 4), torch.ones(2, 3, 8, 8)

    def box(*numbers: float) -> Tensor:
        return torch.tensor([numbers], dtype=torch.float32)

    def pooled(*numbers: float, maps: Tensor = two, **options) -> Tensor:
        return roi_align(maps, box(*numbers), 1, **options)

    def nms(boxes: list, scores: list, classes: list | None = None, limit: float = 0.5) -> Tensor:
        return batched_nms(
            torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            torch.tensor(scores, dtype=torch.float32),
            torch.zeros(len(scores), dtype=torch.int64) if classes is None else torch.tensor(classes),
            limit,
        )

    unit = [0, 0, 1, 1]
    return {
        "roi_align: image 2 of 2": refused(lambda: pooled(2, 0, 0, 4, 4)),
        "roi_align: image -1": refused(lambda: pooled(-1, 0, 0, 4, 4)),
        "roi_align: image NaN": refused(lambda: pooled(NAN, 0, 0, 4, 4)),
        "roi_align: image 10**9": refused(lambda: pooled(1e9, 0, 0, 4, 4)),
        "roi_align: image 2 of 2 of pyramids": refused(
            lambda: roi_align([two, two[..., ::2, ::2]], box(2, 0, 0, 4, 4), 1, (1.0, 0.5))
        ),
        "roi_align: a box far outside is 0": gives(
            lambda: pooled(0, 100, 100, 104, 104, sampling_ratio=2), [[[[0.0]]] * 3]
        ),
        "roi_align: a giant box ends": either(lambda: pooled(0, -1e6, -1e6, 1e6, 1e6)),
        "roi_align: a giant box trains": either(
            lambda: pooled(0, -1e5, -1e5, 1e5, 1e5, maps=two.clone().requires_grad_()).sum().backward()
        ),
        "roi_align: a box of infinities": either(lambda: pooled(0, -INF, 0, INF, 4)),
        "roi_align: a box of NaN": either(lambda: pooled(0, NAN, 0, 4, 4)),
        "roi_align: no channels": gives(lambda: roi_align(torch.zeros(1, 0, 4, 4), box(0, 0, 0, 2, 2), 2).sum(), 0.0),
        "roi_align: no boxes": gives(lambda: roi_align(two, torch.zeros(0, 5), 2).sum(), 0.0),
        "roi_align: no images": refused(lambda: roi_align(torch.zeros(0, 3, 4, 4), box(0, 0, 0, 2, 2), 2)),
        "roi_align: four columns": refused(lambda: roi_align(two, torch.zeros(1, 4), 2)),
        "roi_align: lists of other length": refused(lambda: roi_align(two, [torch.zeros(1, 4)], 2)),
        "roi_align: output of 0": either(lambda: roi_align(two, box(0, 0, 0, 2, 2), 0)),
        "roi_align: output of -1": refused(lambda: roi_align(two, box(0, 0, 0, 2, 2), -1)),
        "roi_align: whole numbers": either(lambda: roi_align(two.long(), box(0, 0, 0, 2, 2), 1)),
        "roi_align: float16": gives(lambda: pooled(0, 1, 1, 5, 5, maps=two.half(), sampling_ratio=2), [[[[1.0]]] * 3]),
        "roi_align: NaN stays in its cells": gives(
            lambda: pooled(0, 4, 4, 8, 8, maps=_with_nan(two), sampling_ratio=2, aligned=True), [[[[1.0]]] * 3]
        ),
        "roi_align: scale 0": either(lambda: pooled(0, 0, 0, 4, 4, spatial_scale=0.0)),
        "roi_align: scale NaN": either(lambda: pooled(0, 0, 0, 4, 4, spatial_scale=NAN)),
        "roi_align: three dimensions": refused(lambda: roi_align(two[0], box(0, 0, 0, 2, 2), 1)),
        "nms: nothing": gives(lambda: nms([], []), []),
        "nms: NaN box": gives(lambda: nms([unit, [NAN, 0, 1, 1], unit], [3, 2, 1]), [0, 1]),
        "nms: infinite box": either(lambda: nms([[-INF, -INF, INF, INF], unit], [2, 1])),
        "nms: NaN score": either(lambda: nms([unit, [5, 5, 6, 6]], [NAN, 1])),
        "nms: other counts": refused(
            lambda: batched_nms(torch.zeros(2, 4), torch.zeros(3), torch.zeros(2).long(), 0.5)
        ),
        "nms: five columns": refused(
            lambda: batched_nms(torch.zeros(2, 5), torch.zeros(2), torch.zeros(2).long(), 0.5)
        ),
        "nms: classes of other count": refused(
            lambda: batched_nms(torch.zeros(2, 4), torch.zeros(2), torch.zeros(1).long(), 0.5)
        ),
        "nms: huge classes": gives(lambda: nms([unit, unit], [2, 1], [2**62, -(2**62)]), [0, 1]),
        "nms: boxes inside out": gives(lambda: nms([[1, 1, 0, 0], [1, 1, 0, 0]], [2, 1]).numel() * torch.ones(()), 2.0),
        "nms: float16": either(
            lambda: batched_nms(torch.ones(2, 4).half(), torch.ones(2).half(), torch.zeros(2).long(), 0.5)
        ),
        "deform_sample: NaN offset is 0": gives(lambda: deform_sample(ones, torch.full((1, 2, 4, 4), NAN)).sum(), 0.0),
        "deform_sample: infinite offset is 0": gives(
            lambda: deform_sample(ones, torch.full((1, 2, 4, 4), INF)).sum(), 0.0
        ),
        "deform_sample: huge offset is 0": gives(
            lambda: deform_sample(ones, torch.full((1, 2, 4, 4), 1e30)).sum(), 0.0
        ),
        "deform_sample: odd offsets": refused(lambda: deform_sample(ones, torch.zeros(1, 3, 4, 4))),
        "deform_sample: other size": refused(lambda: deform_sample(ones, torch.zeros(1, 2, 4, 5))),
        "deform_sample: other batch": refused(lambda: deform_sample(ones, torch.zeros(2, 2, 4, 4))),
        "deform_sample: groups that do not divide": refused(lambda: deform_sample(ones, torch.zeros(1, 6, 4, 4))),
        "deform_sample: three dimensions": refused(lambda: deform_sample(ones[0], torch.zeros(1, 2, 4, 4))),
        "deform_sample: empty map": gives(
            lambda: deform_sample(torch.zeros(1, 2, 0, 4), torch.zeros(1, 2, 0, 4)).sum(), 0.0
        ),
        "deform_sample: empty batch": gives(
            lambda: deform_sample(torch.zeros(0, 2, 4, 4), torch.zeros(0, 2, 4, 4)).sum(), 0.0
        ),
        "deform_conv2d: weight of other channels": refused(
            lambda: deform_conv2d(ones, torch.zeros(1, 18, 4, 4), torch.zeros(2, 3, 3, 3), padding=1)
        ),
        "deform_conv2d: offset of other taps": refused(
            lambda: deform_conv2d(ones, torch.zeros(1, 8, 4, 4), torch.zeros(2, 2, 3, 3), padding=1)
        ),
        "deform_conv2d: kernel larger than the map": refused(
            lambda: deform_conv2d(ones, torch.zeros(1, 98, 0, 0), torch.zeros(2, 2, 7, 7))
        ),
        "deform_conv2d: stride 0": refused(
            lambda: deform_conv2d(ones, torch.zeros(1, 2, 4, 4), torch.zeros(2, 2, 1, 1), stride=0)
        ),
        "deform_conv2d: NaN offset": gives(
            lambda: deform_conv2d(ones, torch.full((1, 2, 4, 4), NAN), torch.ones(1, 2, 1, 1)).sum(), 0.0
        ),
    }


def _with_nan(maps: Tensor) -> Tensor:
    maps = maps.clone()
    maps[:, :, :2, :2] = NAN
    return maps


def _api() -> dict[str, Callable[[], None]]:
    def detect(*frames: Tensor) -> list[Detections]:
        return tiny_model().eval()(*frames)

    def counted(*frames: Tensor) -> Tensor:
        return torch.tensor(float(len(detect(*frames))))

    frames = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    return {
        "detector: bytes are as 0 to 1": same(
            lambda: detect((255 * frames).byte()), lambda: detect((255 * frames).byte() / 255)
        ),
        "detector: 0 to 255": refused(lambda: detect(255 * frames)),
        "detector: negative": refused(lambda: detect(-frames)),
        "detector: NaN": either(lambda: detect(frames * NAN)),
        "detector: no frames": gives(lambda: counted(frames[:0]), 0.0),
        "detector: one frame without a batch": refused(lambda: detect(frames[0])),
        "detector: channels last": refused(lambda: detect(frames.permute(0, 2, 3, 1))),
        "detector: grey": refused(lambda: detect(frames[:, :1])),
        "detector: with alpha": refused(lambda: detect(torch.cat((frames, frames[:, :1]), 1))),
        "detector: B of another size": refused(lambda: detect(frames, frames[..., :-8])),
        "detector: B of another count": refused(lambda: detect(frames, frames[:1])),
        "detector: B of another type": same(lambda: detect(frames, frames.double()), lambda: detect(frames, frames)),
        "detector: empty frames": refused(lambda: detect(torch.zeros(1, 3, 0, 10))),
        "detector: one pixel": gives(lambda: counted(torch.rand(1, 3, 1, 1)), 1.0),
        "detector: one row": gives(lambda: counted(torch.rand(1, 3, 1, 500)), 1.0),
        "detector: a list": refused(lambda: detect([frames[0]])),  # type: ignore[list-item]
        "detections: some with ids": refused(
            lambda: Detections.join([_one_person(), _one_person(ids=torch.zeros(1, dtype=torch.int64))])
        ),
        "detections: nobody joined": gives(
            lambda: torch.tensor(float(len(Detections.join([Detections.empty(3)])))), 0.0
        ),
    }


def _one_person(ids: Tensor | None = None) -> Detections:
    return Detections(torch.zeros(1, 4), torch.ones(1), torch.zeros(1, 3, 2), torch.zeros(1, 3), ids)
