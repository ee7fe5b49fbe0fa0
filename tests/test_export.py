"""The whole detector under PyTorch's compilers and exporters: what eager finds, in any number of people."""

import os
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dimofs.boxes import iou
from dimofs.cli import InputError
from dimofs.datasets.synthetic.clips import synthetic_clip
from dimofs.detections import Detections
from dimofs.kernels import batched_nms
from dimofs.kernels.nms_traceable import nms_mask
from dimofs.skeletons import DIMOFS
from dimofs.zoo import checkpoints, export
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.presets import dimofs_mobile
from tests.support.tiny import tiny

HEIGHT, WIDTH = 96, 128
JOINTS = DIMOFS[:3]
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def mobile() -> PoseDetector:
    """The shipped weights for small frames and few joints, which saves time, with a higher threshold for people."""
    weights = checkpoints.load("dimofs_mobile").state_dict()
    weights["keypoint_head.deconv.weight"] = weights["keypoint_head.deconv.weight"][:, : len(JOINTS)]
    weights["keypoint_head.deconv.bias"] = weights["keypoint_head.deconv.bias"][: len(JOINTS)]
    model = dimofs_mobile(JOINTS, min_size=144, max_size=192, variant="matching")
    model.load_state_dict(weights)
    vars(model.box_head)["min_score"] = 0.4
    return model.eval()


@pytest.fixture(scope="module")
def clip() -> Tensor:
    """Frames [6, 3, H, W] of people who move."""
    drawn = synthetic_clip(3, length=6, height=HEIGHT, width=WIDTH, people=(3, 6)).frames
    return torch.from_numpy(drawn).permute(0, 3, 1, 2).contiguous() / 255


def inputs(clip: Tensor, pair: bool) -> list[tuple[Tensor, ...]]:
    """A frame of some people, one of another number of people, one of nobody; then two frames, and all three."""
    empty = torch.full_like(clip[:1], 0.5)
    frames = [(clip[:1], clip[5:]), (clip[3:4].roll(WIDTH // 2, 3), clip[4:5].roll(WIDTH // 2, 3)), (empty, empty)]
    batches = [*frames, *(tuple(torch.cat(same) for same in zip(*frames[:n], strict=True)) for n in (2, 3))]
    return [both[: 1 + pair] for both in batches]


def fields_of(people: list[Detections]) -> dict[str, Tensor]:
    """What a program returns of the people of some frames."""
    made = {name: torch.cat([getattr(image, name) for image in people]) for name in export.FIELDS[:-1]}
    frames = [torch.full((len(image),), number) for number, image in enumerate(people)]
    return {**made, export.FIELDS[-1]: torch.cat(frames)}


@torch.no_grad()
def assert_equals_eager(detector: PoseDetector, program, cases: list[tuple[Tensor, ...]]) -> None:
    """`program` gives the fields of eager's detections by name."""
    counts = []
    for frames in cases:
        expected, found = fields_of(detector(*frames)), program(*frames)
        for name in export.FIELDS:
            torch.testing.assert_close(found[name], expected[name], atol=1e-3, rtol=1e-4)
        counts.append(expected["frames"].bincount(minlength=len(frames[0])).tolist())
    assert len({tuple(count) for count in counts}) == len(cases)


def refused(frame: Tensor) -> dict[str, Tensor]:
    """Input that is not what the program was made for, from a frame [1, 3, H, W]."""
    return {
        "float64": frame.double(),
        "float16": frame.half(),
        "uint8": (255 * frame).byte(),
        "turned": frame.transpose(2, 3).contiguous(),
        "wider": torch.cat((frame, frame), dim=3),
        "no frame": frame[:0],
        "no batch": frame[0],
        "one channel": frame[:, :1].contiguous(),
    }


@torch.no_grad()
@pytest.mark.parametrize(
    ("pair", "backend"),
    [pytest.param(False, "aot_eager", marks=pytest.mark.slow, id="delta 0"), pytest.param(True, "eager", id="pair")],
)
def test_compiles_without_a_graph_break(mobile, clip, pair, backend):
    """For two frames at a time, once with nobody in one of them."""
    torch._dynamo.reset()
    compiled = torch.compile(mobile, fullgraph=True, backend=backend)
    batches = [torch.cat(same) for same in zip(*inputs(clip, pair)[1:3], strict=True)]
    for frames in [[clip[:2], clip[4:]][: 1 + pair], batches]:
        expected = mobile(*frames)
        for one, other in zip(compiled(*frames), expected, strict=True):
            for name in export.FIELDS[:-1]:
                torch.testing.assert_close(getattr(one, name), getattr(other, name), atol=1e-3, rtol=1e-4)
    assert [len(people) > 0 for people in expected] == [True, False]


@pytest.fixture(scope="module", params=[False, True], ids=["delta 0", "pair"])
def exported(request, mobile):
    """Whether of pairs, and the program."""
    return request.param, export.export(mobile, HEIGHT, WIDTH, request.param)


def test_exported_program_finds_any_number_of_people(mobile, clip, exported, tmp_path):
    pair, program = exported
    if not pair:
        program = export.standalone(program)
        assert not any("dimofs" in str(node.target) for node in program.graph.nodes)
        torch.export.save(program, tmp_path / "own.pt2")
        program = torch.export.load(tmp_path / "own.pt2")
    assert_equals_eager(mobile, program.module(), inputs(clip, pair))


@torch.no_grad()
def test_exported_program_refuses_other_input_and_reads_any_strides(mobile, clip, exported):
    pair, program = exported
    run, frames = program.module(), (clip[:1], clip[5:])[: 1 + pair]
    for case in refused(clip[:1]).values():
        with pytest.raises((AssertionError, RuntimeError, ValueError)):
            run(*(case for _ in frames))
    interleaved = tuple(frame.to(memory_format=torch.channels_last) for frame in frames)
    assert_equals_eager(mobile, run, [frames])
    assert torch.equal(run(*interleaved)["boxes"], run(*frames)["boxes"])


def test_onnx_suppression_keeps_classes_apart_at_negative_coordinates(tmp_path):
    pytest.importorskip("onnxscript", reason="needs pip install onnx onnxscript onnxruntime")
    onnxruntime = pytest.importorskip("onnxruntime")
    boxes = torch.tensor([[-21.0, -21.0, -1.0, -1.0], [-21.0, -21.0, -1.0, -1.0], [-22.0, -21.0, -2.0, -1.0]])
    # In the second image the scores, and so who suppresses whom, are the other way round.
    boxes, classes = torch.stack((boxes, boxes)), torch.tensor([0, 1, 0])
    scores = torch.tensor([[0.9, 0.8, 0.7], [0.7, 0.8, 0.9]])
    program = torch.export.export(Suppress(), (boxes, scores, classes))
    table: dict = {torch.ops.dimofs.nms_mask.default: export._onnx_nms_mask}
    made = torch.onnx.export(program, dynamo=True, custom_translation_table=table, verbose=False)
    assert made is not None
    made.save(tmp_path / "x.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "x.onnx")
    names = [entry.name for entry in session.get_inputs()]
    values = (boxes.numpy(), scores.numpy(), classes.numpy())
    (kept,) = session.run(None, dict(zip(names, values, strict=True)))
    assert kept.tolist() == [[True, True, False], [False, True, True]]


def as_onnx(program, path: Path) -> Callable[..., dict[str, Tensor]]:
    """`program` as ONNX in onnxruntime, called with frames as the program is. Skips where its packages are missing."""
    pytest.importorskip("onnxscript", reason="needs pip install 'dimofs[onnx]'")
    onnxruntime = pytest.importorskip("onnxruntime")
    export.to_onnx(program).save(path)
    session = onnxruntime.InferenceSession(path)

    def run(*frames: Tensor) -> dict[str, Tensor]:
        found = session.run(None, dict(zip(("frame_a", "frame_b"), (f.numpy() for f in frames), strict=False)))
        return dict(zip(export.FIELDS, map(torch.from_numpy, found), strict=True))

    return run


@pytest.mark.slow
def test_onnx_finds_any_number_of_people(mobile, clip, exported, tmp_path):
    pair, program = exported
    assert_equals_eager(mobile, as_onnx(program, tmp_path / "x.onnx"), inputs(clip, pair))


@pytest.fixture(
    scope="module", params=[pytest.param(False, id="delta 0"), pytest.param(True, marks=pytest.mark.slow, id="pair")]
)
def any_size(request, mobile):
    """Whether of pairs, and the program of frames of any size."""
    return request.param, export.export_any_size(mobile, request.param)


def assert_nearly_eager(detector: PoseDetector, program, clip: Tensor, pair: bool) -> None:
    """In frames of other sizes and shapes the same people are found. What lies beyond the frame differs, so at this
    small size boxes may be off by a few pixels, and matching too."""
    for count, size in ((1, (120, 160)), (2, (150, 90)), (3, (150, 90)), (3, (90, 151))):
        frames = [F.interpolate(clip[n : n + count], size, mode="bilinear") for n in ((0, 2) if pair else (0,))]
        with torch.no_grad():
            images, batch = detector(*frames), program(*frames)
        assert batch["frames"].unique_consecutive().tolist() == list(range(count))
        for number, expected in enumerate(images):
            found = {name: values[batch["frames"] == number] for name, values in batch.items()}
            sure = int((expected.scores > 0.5).sum())
            assert sure and (found["scores"][:sure] - expected.scores[:sure]).abs().max() < (0.25 if pair else 0.1)
            assert iou(found["boxes"], expected.boxes[:sure]).amax(dim=0).min() > (0.5 if pair else 0.7)
            assert (found["keypoints"][:sure] - expected.keypoints[:sure]).norm(dim=-1).median() < 2
            assert found["boxes"][:, 0::2].max() <= size[1] and found["boxes"][:, 1::2].max() <= size[0]


def test_a_program_reads_frames_of_any_size(mobile, clip, any_size):
    pair, program = any_size
    assert_nearly_eager(mobile, program.module(), clip, pair)


def test_onnx_reads_frames_of_any_size(mobile, clip, any_size, tmp_path):
    pair, program = any_size
    assert_nearly_eager(mobile, as_onnx(program, tmp_path / "x.onnx"), clip, pair)


@torch.no_grad()
def test_a_detector_exports_as_it_is(clip):
    """Its detections are a pytree."""
    detector = tiny(JOINTS).eval()
    (found,), (expected,) = torch.export.export(detector, (clip[:1],)).module()(clip[1:2]), detector(clip[1:2])
    assert isinstance(found, Detections)
    torch.testing.assert_close(found.keypoints, expected.keypoints)


@pytest.mark.slow
def test_command_compiles_a_program(clip, tmp_path, monkeypatch):
    """A small detector, compiled by AOTInductor, a compiler of C++."""
    if shutil.which(os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")) is None:
        pytest.skip("no C++ compiler: g++, or what CXX names")
    torch.manual_seed(0)
    detector = tiny(JOINTS).eval()
    monkeypatch.setattr(checkpoints, "load", lambda *_: detector)
    export.main(out=str(tmp_path / "x.pt2"), format="aoti", height=HEIGHT, width=WIDTH)
    assert os.listdir(tmp_path) == ["x.pt2"]
    program = torch._inductor.aoti_load_package(str(tmp_path / "x.pt2"))
    for count in (1, 2, 3):
        expected, found = fields_of(detector(clip[:count])), program(clip[:count])
        assert len(expected["frames"].unique()) == count
        for name in export.FIELDS:
            torch.testing.assert_close(found[name], expected[name], atol=1e-3, rtol=1e-4)
    interleaved = clip[:1].to(memory_format=torch.channels_last)
    for case in [*refused(clip[:1]).values(), interleaved]:
        with pytest.raises(RuntimeError):
            program(case)


def test_a_compiler_without_checks_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", lambda *_, **__: None)
    program = torch.export.export(torch.nn.Identity(), (torch.zeros(1),))
    with pytest.raises(InputError, match="compiles no checks of input; use --format pt2"):
        export.compile_package(program, tmp_path / "x.pt2")


class Suppress(torch.nn.Module):
    def forward(self, boxes: Tensor, scores: Tensor, classes: Tensor) -> Tensor:
        return nms_mask(boxes, scores, classes, 0.3)


def test_traceable_suppression_keeps_what_the_operator_keeps():
    generator = torch.Generator().manual_seed(0)
    corner, size = (torch.rand(300, 2, generator=generator) for _ in range(2))
    boxes = torch.cat((50 * corner, 50 * corner + 5 + 20 * size), dim=1)
    scores = torch.rand(300, generator=generator)
    scores[50:100] = scores[50]  # equal ones keep their order
    classes = torch.arange(300) % 3
    boxes, scores = boxes.expand(4, -1, -1), torch.stack((scores, scores.flip(0), 0.5 * scores, 0 * scores))
    program = torch.export.export(Suppress(), (boxes, scores, classes))
    kept = export.standalone(program).module()(boxes, scores, classes)
    assert torch.equal(kept, Suppress()(boxes, scores, classes))
    for mask, b, s in zip(kept, boxes, scores, strict=True):
        assert mask.nonzero()[:, 0].tolist() == sorted(batched_nms(b, s, classes, 0.3).tolist())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out": "x.onnx"}, "name a file .pt2 for --format pt2"),
        ({"out": "x.pt2", "format": "onnx"}, "name a file .onnx for --format onnx"),
        ({"out": "x.pt2", "height": 0}, "--height 0: must be at least 1"),
        ({"out": "x.pt2", "weights": "nothing"}, "nothing"),
        ({"out": "none/x.pt2", "height": 32, "width": 32}, "none/x.pt2: cannot write"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value,
)
def test_one_line_and_no_file(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "none").write_text("a file, not a folder")
    with pytest.raises(InputError, match=message):
        export.main(**options)
    assert os.listdir(tmp_path) == ["none"]


def test_tools_that_are_missing_are_named(monkeypatch):
    if find_spec("onnxscript") is None:
        with pytest.raises(InputError, match=r"pip install .*onnxscript"):
            export.main(out="x.onnx", format="onnx")
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InputError, match="no-such-compiler is not there"):
        export.main(out="x.pt2", format="aoti")
