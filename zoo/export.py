"""Export a detector with its weights as one file that runs without dimofs, on a CPU.

    python -m dimofs.zoo.export --out mobile.pt2
    python -m dimofs.zoo.export --out mobile.pt2 --pair
    python -m dimofs.zoo.export --out mobile.pt2 --format aoti
    python -m dimofs.zoo.export --out mobile.onnx --format onnx

The program reads one frame, float RGB [1, 3, HEIGHT, WIDTH] in [0, 1]; with --pair it reads two and finds the people of
the first in the features of the second. It returns the frame's P people, best first: boxes [P, 4] and scores [P],
keypoints [P, J, 2] and keypoint_scores [P, J], in pixels of the frame. How to run it:

    pt2:  torch.export.load("mobile.pt2").module()(frame)["boxes"]
    aoti: torch._inductor.aoti_load_package("mobile.pt2")(frame)["boxes"], or from C++; exporting needs a C++ compiler
    onnx: onnxruntime.InferenceSession("mobile.onnx").run(None, {"frame_a": frame})
"""

import os
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from dimofs.cli import InputError, check_ranges, run
from dimofs.files import replacing
from dimofs.kernels.nms_traceable import batched_nms_traceable
from dimofs.zoo import checkpoints
from dimofs.zoo.detection.detector import PoseDetector

FIELDS = ("boxes", "scores", "keypoints", "keypoint_scores")
SUFFIX = {"pt2": ".pt2", "aoti": ".pt2", "onnx": ".onnx"}


def main(
    *,
    weights: Annotated[str, "checkpoint of a detector: a name, a folder or a file"] = "dimofs_mobile",
    out: Annotated[str, "file to write, .pt2 or .onnx"],
    format: Annotated[Literal["pt2", "aoti", "onnx"], "PyTorch program, compiled program, or ONNX"] = "pt2",
    height: Annotated[int, "height of the frames, pixels"] = 480,
    width: Annotated[int, "width of the frames, pixels"] = 640,
    pair: Annotated[bool, "find the people of a first frame in the features of a second one (delta != 0)"] = False,
) -> None:
    check_ranges(height=(height, 1, 2**14), width=(width, 1, 2**14))
    if Path(out).suffix != SUFFIX[format]:
        raise InputError(f"--out {out}: name a file {SUFFIX[format]} for --format {format}")
    _check_tools(format)
    detector = checkpoints.load_as(PoseDetector, weights)
    with replacing(out) as temporary, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{SUFFIX[format]}"
        program = export(detector, height, width, pair)
        if format == "onnx":
            to_onnx(program).save(path)
        elif format == "aoti":
            torch._inductor.aoti_compile_and_package(standalone(program), package_path=str(path))
        else:
            torch.export.save(standalone(program), path)
        shutil.copyfile(path, temporary)


class ExportedDetector(nn.Module):
    """A detector of one frame or pair that returns the fields of its `Detections` by name."""

    def __init__(self, detector: PoseDetector):
        super().__init__()
        self.detector = detector

    def forward(self, frame_a: Tensor, frame_b: Tensor | None = None) -> dict[str, Tensor]:
        (people,) = self.detector(frame_a, frame_b)
        return {name: getattr(people, name) for name in FIELDS}


@torch.no_grad()
def export(detector: PoseDetector, height: int, width: int, pair: bool = False) -> ExportedProgram:
    """The program of `detector` for one frame of `height` x `width` pixels, or a pair.

    It contains the operator `dimofs::batched_nms`, which exists only where dimofs is imported; `standalone` replaces
    it.
    """
    frames = tuple(torch.zeros(1, 3, height, width) for _ in range(1 + pair))
    return torch.export.export(ExportedDetector(detector), frames)


@torch.no_grad()
def standalone(program: ExportedProgram) -> ExportedProgram:
    """`program` with PyTorch's own operators only."""
    return program.run_decompositions({torch.ops.dimofs.batched_nms.default: batched_nms_traceable})


def to_onnx(program: ExportedProgram) -> "torch.onnx.ONNXProgram":
    """`program` as ONNX, with its suppression as NonMaxSuppression. Needs the packages onnx and onnxscript."""
    table: dict[Any, Any] = {
        torch.ops.dimofs.batched_nms.default: _onnx_batched_nms,
        torch.ops.aten.embedding_bag.padding_idx: _onnx_embedding_bag,
    }
    made = torch.onnx.export(
        program, dynamo=True, custom_translation_table=table, output_names=list(FIELDS), verbose=False
    )
    assert made is not None
    return made


def _onnx_batched_nms(boxes, scores, idxs, iou_threshold: float):
    """Suppression per class: each class is shifted by an offset, so that boxes of two classes never overlap."""
    from onnxscript import opset18 as op  # pyright: ignore[reportMissingImports]

    apart = op.Mul(op.CastLike(idxs, boxes), op.Add(op.ReduceMax(boxes, keepdims=0), op.Constant(value_float=1.0)))
    boxes = op.Add(boxes, op.Unsqueeze(apart, op.Constant(value_ints=[1])))
    boxes = op.Unsqueeze(boxes, op.Constant(value_ints=[0]))  # [1, K, 4]
    scores = op.Unsqueeze(scores, op.Constant(value_ints=[0, 1]))  # [1, 1, K]
    all_of_them = op.Constant(value_ints=[torch.iinfo(torch.int64).max])
    kept = op.NonMaxSuppression(boxes, scores, all_of_them, op.Constant(value_floats=[iou_threshold]))  # [P, 3]
    return op.Squeeze(op.Slice(kept, [2], [3], [1]), [1])


def _onnx_embedding_bag(
    weight, indices, offsets, scaled=False, mode=0, sparse=False, per_sample_weights=None, last=False, padding_idx=-1
):
    """`embedding_bag` as ONNX. Assumes equal-sized bags, which is what `roi_align` produces."""
    from onnxscript import opset18 as op  # pyright: ignore[reportMissingImports]

    one = op.Constant(value_ints=[1])
    rows = op.Mul(op.Gather(weight, indices), op.Unsqueeze(per_sample_weights, one))
    bags = op.Reshape(op.Size(offsets), one)
    entries = op.Div(op.Reshape(op.Size(indices), one), op.Max(bags, one))
    rows = op.Reshape(rows, op.Concat(bags, entries, op.Shape(weight, start=1), axis=0), allowzero=1)
    # The operator has four results; only the first one is used.
    return op.ReduceSum(rows, one, keepdims=0), offsets, offsets, offsets


def _check_tools(format: str) -> None:
    """InputError unless what `format` needs is installed."""
    missing = [name for name in ("onnx", "onnxscript") if format == "onnx" and find_spec(name) is None]
    if missing:
        raise InputError(f"--format onnx: needs packages that are not installed; pip install {' '.join(missing)}")
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if format == "aoti" and shutil.which(compiler) is None:
        raise InputError(f"--format aoti: needs a C++ compiler, {compiler} is not there; install it or set CXX")


if __name__ == "__main__":
    run(main)
