"""Export a detector with its weights as one file that runs without dimofs, on a CPU.

    python -m dimofs.zoo.export --out mobile.pt2
    python -m dimofs.zoo.export --out mobile.pt2 --pair
    python -m dimofs.zoo.export --out mobile.pt2 --format aoti
    python -m dimofs.zoo.export --out mobile.onnx --format onnx --any-size

The program reads N frames, float RGB [N, 3, HEIGHT, WIDTH] in [0, 1]; with --pair it reads as many again and finds the
people of the first in the features of the second. It returns the P people of all frames: boxes [P, 4] and scores [P],
keypoints [P, J, 2] and keypoint_scores [P, J], in pixels of the frames, and frames [P], the number (0 to N - 1) of the
frame that each is in. Frames come in order, the people of each best first. How to run it:

    pt2:  torch.export.load("mobile.pt2").module()(frames)["boxes"]
    aoti: torch._inductor.aoti_load_package("mobile.pt2")(frames)["boxes"], or from C++; exporting needs a C++ compiler
    onnx: onnxruntime.InferenceSession("mobile.onnx").run(None, {"frame_a": frames})

With --any-size the program reads frames of any height and width, those of one call alike. Every other program refuses
frames of another size, and every program those of another type, with an error. The compiled one (aoti) also refuses
frames that are not contiguous in memory; an image [H, W, 3] becomes a frame by

    torch.from_numpy(image).permute(2, 0, 1)[None].contiguous().float() / 255

and it runs only on CPUs that have the vector instructions of the one it was exported on, which the command prints.
"""

import os
import re
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import ExportedProgram

from dimofs.cli import InputError, check_ranges, run
from dimofs.files import replacing
from dimofs.kernels.nms_traceable import nms_mask_traceable
from dimofs.zoo import checkpoints
from dimofs.zoo.detection.batched import detect_batch
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.preprocess import STRIDE

FIELDS = ("boxes", "scores", "keypoints", "keypoint_scores", "frames")
MOST_FRAMES = 2**16
# The smallest number of frames in the checks of a compiled program, and in their message.
_FEWEST_FRAMES = re.compile(r'(_size\[0\] < |too small at 0, "\s*<< "expected it to be >= )2\b')
SUFFIX = {"pt2": ".pt2", "aoti": ".pt2", "onnx": ".onnx"}


def main(
    *,
    weights: Annotated[str, "checkpoint of a detector: a name, a folder or a file"] = "dimofs_mobile",
    out: Annotated[str, "file to write, .pt2 or .onnx"],
    format: Annotated[Literal["pt2", "aoti", "onnx"], "PyTorch program, compiled program, or ONNX"] = "pt2",
    height: Annotated[int, "height of the frames, pixels"] = 480,
    width: Annotated[int, "width of the frames, pixels"] = 640,
    any_size: Annotated[bool, "read frames of any height and width"] = False,
    pair: Annotated[bool, "find the people of a first frame in the features of a second one (delta != 0)"] = False,
) -> None:
    check_ranges(height=(height, 1, 2**14), width=(width, 1, 2**14))
    if Path(out).suffix != SUFFIX[format]:
        raise InputError(f"--out {out}: name a file {SUFFIX[format]} for --format {format}")
    _check_tools(format)
    detector = checkpoints.load_as(PoseDetector, weights)
    with replacing(out) as temporary, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model{SUFFIX[format]}"
        program = export_any_size(detector, pair) if any_size else export(detector, height, width, pair)
        if format == "onnx":
            to_onnx(program).save(path)
        elif format == "aoti":
            compile_package(standalone(program), path)
            print(f"{out}: runs on CPUs with {vector_instructions()}", file=sys.stderr)
        else:
            torch.export.save(standalone(program), path)
        shutil.copyfile(path, temporary)


class ExportedDetector(nn.Module):
    """A detector of any number of frames or pairs that returns FIELDS by name: the people of all frames in one list."""

    def __init__(self, detector: PoseDetector):
        super().__init__()
        self.detector = detector

    def forward(self, frame_a: Tensor, frame_b: Tensor | None = None) -> dict[str, Tensor]:
        b = None if frame_b is None else self.detector.features(frame_b)
        people, frames = detect_batch(self.detector, self.detector.features(frame_a), b)
        return {
            "boxes": people.boxes,
            "scores": people.scores,
            "keypoints": people.keypoints,
            "keypoint_scores": people.keypoint_scores,
            "frames": frames,
        }


@torch.no_grad()
def export(detector: PoseDetector, height: int, width: int, pair: bool = False) -> ExportedProgram:
    """The program of `detector` for any number of frames of `height` x `width` pixels, or pairs.

    It contains the operator `dimofs::nms_mask`, which exists only where dimofs is imported; `standalone` replaces it.
    """
    return _traced(ExportedDetector(detector), pair, (height, width), {})


def _traced(module: nn.Module, pair: bool, size: tuple[int, int], sides: dict[int, Any]) -> ExportedProgram:
    """The program of `module` for any number of frames of this size, of which the `sides` (axis: Dim) may differ."""
    # One frame would make their number a constant.
    frames = tuple(torch.zeros(2, 3, *size) for _ in range(1 + pair))
    shapes = {0: torch.export.Dim("frames", min=1, max=MOST_FRAMES), **sides}
    return torch.export.export(module, frames, dynamic_shapes=tuple(shapes for _ in frames))


class AnySizeDetector(nn.Module):
    """An `ExportedDetector` of frames of any size, which fits them into one square canvas before all else.

    The network then has one size, as programs need it. The canvas costs more time than a frame that is not square, and
    people at the right or lower edge may be placed a little differently.
    """

    def __init__(self, detector: PoseDetector):
        super().__init__()
        self.detector = detector
        self.side = -(-detector.preprocess.max_size // STRIDE) * STRIDE

    def forward(self, frame_a: Tensor, frame_b: Tensor | None = None) -> dict[str, Tensor]:
        size, zoom = self._zoom(frame_a)
        a = self.detector.features(self._fitted(frame_a, size, zoom), resize=False)
        b = None if frame_b is None else self.detector.features(self._fitted(frame_b, size, zoom), resize=False)
        people, frames = detect_batch(self.detector, a, b)
        # From pixels of the canvas to pixels of the frame, x before y.
        back, limit = (1 / zoom).flip(0), size.flip(0)
        low, high = (people.boxes.unflatten(1, (2, 2)) * back).minimum(limit).unbind(1)
        return {
            "boxes": torch.cat((low, high), dim=1),
            "scores": people.scores,
            "keypoints": people.keypoints * back,
            "keypoint_scores": people.keypoint_scores,
            "frames": frames,
        }

    def _zoom(self, frame: Tensor) -> tuple[Tensor, Tensor]:
        """(height, width) of a frame, and how much it is enlarged in y and x: the arithmetic of `Preprocess.size`."""
        size = torch.stack([torch.scalar_tensor(side, dtype=torch.float64) for side in frame.shape[-2:]])
        preprocess = self.detector.preprocess
        scale = torch.minimum(preprocess.min_size / size.min(), preprocess.max_size / size.max())
        return size.float(), ((size * scale).floor().clamp(min=1) / size).float()

    def _fitted(self, frames: Tensor, size: Tensor, zoom: Tensor) -> Tensor:
        """Frames enlarged bilinearly into the upper left corner of a canvas whose rest becomes 0 when normalized."""
        centres = torch.arange(self.side, device=frames.device) + 0.5
        # `grid_sample` puts -1 and 1 on the outer edges of a frame.
        y, x = ((2 / size)[:, None] * (centres / zoom[:, None]) - 1).unbind(0)
        grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=2).expand(frames.shape[0], -1, -1, -1)
        inside = centres[None] < (size * zoom).round()[:, None]
        sampled = F.grid_sample(frames, grid, padding_mode="border", align_corners=False)
        return torch.where(inside[0][:, None] & inside[1], sampled, self.detector.preprocess.mean)


@torch.no_grad()
def export_any_size(detector: PoseDetector, pair: bool = False) -> ExportedProgram:
    """The program of `detector` for any number of frames, or pairs, of one height and width up to 16384; see
    `export`."""
    sides = {2: torch.export.Dim("height", min=2, max=2**14), 3: torch.export.Dim("width", min=2, max=2**14)}
    return _traced(AnySizeDetector(detector), pair, (480, 640), sides)


@torch.no_grad()
def standalone(program: ExportedProgram) -> ExportedProgram:
    """`program` with PyTorch's own operators only."""
    return program.run_decompositions({torch.ops.dimofs.nms_mask.default: nms_mask_traceable})


def compile_package(program: ExportedProgram, path: Path) -> None:
    """`program` compiled by AOTInductor for this CPU, as a package that raises RuntimeError where its input is of
    another size, stride or type than `program`'s.

    PyTorch compiles these checks in, but its programs run them only where the variable AOTI_RUNTIME_CHECK_INPUTS is
    set, and elsewhere read such input as if it were right. Here the source code sets it. They also refuse a single
    frame where the number of frames is unknown, as tracing assumes two or more; the code itself does not depend on it.
    InputError: the source code of this version of PyTorch does not read the variable.
    """
    from torch._inductor.codecache import AotCodeCompiler

    compile_source, switch = AotCodeCompiler.compile, 'getenv("AOTI_RUNTIME_CHECK_INPUTS")'
    found = []

    def compile_checked(graph: Any, source: str, *arguments: Any, **named: Any) -> Any:
        found.append(switch in source)
        source = _FEWEST_FRAMES.sub(r"\g<1>1", source.replace(switch, '"1"'))
        return compile_source(graph, source, *arguments, **named)

    with mock.patch.object(AotCodeCompiler, "compile", compile_checked):
        torch._inductor.aoti_compile_and_package(program, package_path=str(path))
    if found != [True]:
        raise InputError(f"--format aoti: PyTorch {torch.__version__} compiles no checks of input; use --format pt2")


def vector_instructions() -> str:
    """The vector instructions that AOTInductor uses on this CPU, such as "avx512"."""
    from torch._inductor.cpu_vec_isa import pick_vec_isa

    return str(pick_vec_isa()) or "no vector instructions"


def to_onnx(program: ExportedProgram) -> "torch.onnx.ONNXProgram":
    """`program` as ONNX, with its suppression as NonMaxSuppression. Needs the packages onnx and onnxscript."""
    table: dict[Any, Any] = {
        torch.ops.dimofs.nms_mask.default: _onnx_nms_mask,
        torch.ops.aten.embedding_bag.padding_idx: _onnx_embedding_bag,
        torch.ops.aten.sort.stable: _onnx_sort,
    }
    made = torch.onnx.export(
        program, dynamo=True, custom_translation_table=table, output_names=list(FIELDS), verbose=False
    )
    assert made is not None
    return made


# The number of the type bool in ONNX.
_ONNX_BOOL = 9


def _onnx_nms_mask(boxes, scores, idxs, iou_threshold: float):
    """Suppression per image and class: each class is shifted by more than the extent of all boxes, so that boxes of two
    classes never overlap, wherever they lie."""
    from onnxscript import opset18  # pyright: ignore[reportMissingImports]

    # The types that onnxscript gives its operators are those of its own language, not of Python.
    op: Any = opset18

    extent = op.Sub(op.ReduceMax(boxes, keepdims=0), op.ReduceMin(boxes, keepdims=0))
    apart = op.Mul(op.CastLike(idxs, boxes), op.Add(extent, op.Constant(value_float=1.0)))
    boxes = op.Add(boxes, op.Unsqueeze(apart, op.Constant(value_ints=[1])))
    all_of_them = op.Constant(value_ints=[torch.iinfo(torch.int64).max])
    threshold = op.Constant(value_floats=[iou_threshold])
    kept = op.NonMaxSuppression(boxes, op.Unsqueeze(scores, [1]), all_of_them, threshold)  # [P, (image, class, box)]
    place = op.Gather(kept, op.Constant(value_ints=[0, 2]), axis=1)
    ones = op.Expand(op.Constant(value_float=1.0), op.Shape(kept, end=1))
    return op.Cast(op.ScatterND(op.ConstantOfShape(op.Shape(scores)), place, ones), to=_ONNX_BOOL)


def _onnx_sort(values, stable=False, dim=-1, descending=False):
    """`sort` as ONNX, whose TopK keeps the order of equal values."""
    from onnxscript import opset18  # pyright: ignore[reportMissingImports]

    op: Any = opset18

    count = op.Gather(op.Shape(values), op.Constant(value_ints=[dim]))
    return op.TopK(values, count, axis=dim, largest=int(descending))


def _onnx_embedding_bag(
    weight, indices, offsets, scaled=False, mode=0, sparse=False, per_sample_weights=None, last=False, padding_idx=-1
):
    """`embedding_bag` as ONNX. Assumes equal-sized bags, which is what `roi_align` produces."""
    from onnxscript import opset18  # pyright: ignore[reportMissingImports]

    op: Any = opset18

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
        raise InputError(
            f"--format onnx: needs packages that are not installed; pip install {' '.join(missing)}, or dimofs[onnx]"
        )
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if format == "aoti" and shutil.which(compiler) is None:
        raise InputError(f"--format aoti: needs a C++ compiler, {compiler} is not there; install it or set CXX")


if __name__ == "__main__":
    run(main)
