"""Kernels under PyTorch's and Triton's compilers: operators, tracing, and the machine code for GPUs that are not here.

Run as a script, without TRITON_INTERPRET, it prints what its argument asks for as JSON; the tests run it so.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from dimofs.kernels import batched_nms, deform_conv2d, deform_sample, roi_align

ROOT = Path(__file__).parents[1]
# A100, H100, B200, RTX 50; MI200, MI300, MI350, Radeon RX 9000.
TARGETS = ["sm_80", "sm_90", "sm_100", "sm_120", "gfx90a", "gfx942", "gfx950", "gfx1201"]
DEFAULT_TARGET = "sm_90"


def measured(what: str, *arguments: str):
    """What this file prints in a process that has chosen Triton's compiler, not its interpreter."""
    pytest.importorskip("triton")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, __file__, what, *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=environment | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


# Operators and tracing


def test_operators_are_registered_as_pytorch_asks():
    pytest.importorskip("triton")
    from dimofs.kernels.deform_conv_triton import _convolve
    from dimofs.kernels.deform_triton import gather
    from dimofs.kernels.nms import _batched_nms
    from dimofs.kernels.roi_align_triton import _pool

    x, offset, mask = (torch.randn(s, requires_grad=True) for s in ((1, 2, 3, 3), (1, 2, 3, 3), (1, 1, 3, 3)))
    geometry = [1, 1, 1, 1, 0, 0, 1, 1]
    torch.library.opcheck(gather, (x, offset, None, geometry))
    torch.library.opcheck(gather, (x, offset, mask, geometry))
    torch.library.opcheck(_convolve, (x, offset, mask, torch.randn(3, 2, 1, 1, requires_grad=True), geometry))
    box = torch.tensor([[[3.0, 3], [0.2, 0.3], [1.0, 1.0], [1, 1]]])
    torch.library.opcheck(_pool, (torch.randn(9, 4, requires_grad=True), torch.tensor([0]), box, 1, 2))
    torch.library.opcheck(_batched_nms, (torch.rand(5, 4), torch.rand(5), torch.zeros(5, dtype=torch.int64), 0.5))


ROIS = torch.tensor([[0, 1.0, 1, 9, 7], [0, 2, 0, 30, 30]])


def every_twin(x: torch.Tensor, offset: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    sampled = deform_sample(x, offset)
    convolved = deform_conv2d(sampled, offset[:, :2].repeat(1, 9, 1, 1), weight, padding=1)
    maps = [convolved, convolved[..., ::2, ::2]]
    return roi_align(maps, ROIS, 2, (0.5, 0.25), 2, canonical_scale=16)


def test_twins_compile_and_export_whole():
    # What other tests compiled, and the numbers that they drew, have no part in this one.
    torch._dynamo.reset()
    torch.manual_seed(0)
    inputs = torch.randn(1, 4, 6, 6), torch.randn(1, 8, 6, 6), torch.randn(4, 4, 3, 3)
    inputs[1][0, 0, 0, 0] = torch.nan
    leaves = [t.requires_grad_() for t in inputs]
    compiled = torch.compile(every_twin, fullgraph=True, backend="aot_eager")
    outs = [f(*leaves) for f in (every_twin, compiled)]
    grads = [torch.autograd.grad(out.square().sum(), leaves) for out in outs]
    torch.testing.assert_close(outs[1], outs[0])
    torch.testing.assert_close(grads[1], grads[0])

    class Module(torch.nn.Module):
        forward = staticmethod(every_twin)

    exported = torch.export.export(Module(), tuple(t.detach() for t in inputs)).module()
    torch.testing.assert_close(exported(*inputs), outs[0])


def test_suppression_compiles_whole():
    def best(boxes, scores):
        return boxes[batched_nms(boxes, scores, torch.zeros(len(boxes), dtype=torch.int64), 0.5)].sum(0)

    boxes, scores = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 3], [8, 0, 9, 1]]), torch.tensor([0.1, 0.9, 0.5])
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        compiled = torch.compile(best, fullgraph=True, backend="aot_eager")
        assert compiled(boxes, scores).tolist() == [8, 0, 13, 4]


def test_compilers_see_what_each_kernel_writes():
    """Traced with their backward as on a GPU, the operators become kernels that write their results alone."""
    assert measured("writes") == {
        "deform_columns": [["columns"], ["grad_x", "grad_offset", "grad_mask"]],
        "deform_sample": [["columns"], ["grad_x", "grad_offset"]],
        "deform_convolve": [["out"], ["columns"], ["grad_x", "grad_offset", "grad_mask"]],
        "roi_pool": [["out"], ["sums"]],
    }


def writes() -> dict[str, list[list[str]]]:
    """For each operator the tensors that its forward and its backward kernel write, as torch.compile finds them."""
    import triton
    from torch._functorch.aot_autograd import aot_export_module
    from torch._subclasses.fake_tensor import FakeTensorMode
    from triton.backends.compiler import GPUTarget

    from dimofs.kernels.deform_conv_triton import convolve_triton
    from dimofs.kernels.deform_triton import deform_sample_triton, gather
    from dimofs.kernels.roi_align_triton import _pool

    class Driver:  # of a GPU that is not there
        def get_current_target(self):
            return GPUTarget("cuda", 90, 32)

    class Module(torch.nn.Module):
        def __init__(self, function):
            super().__init__()
            self.function = function

        def forward(self, *inputs):
            return (self.function(*inputs).sum(),)

    def trace(function, *inputs):
        joint, _ = aot_export_module(Module(function), inputs, trace_joint=True, output_loss_index=0)
        return [n.kwargs["tensors_to_clone"] for n in joint.graph.nodes if "triton_kernel" in str(n.target)]

    triton.runtime.driver.set_active(Driver())  # pyright: ignore[reportArgumentType]
    with FakeTensorMode():
        shapes = (1, 4, 9, 9), (1, 8, 9, 9), (1, 4, 9, 9), (99, 6), (5, 4, 1, 1)
        x, offset, mask, table, weight = (torch.empty(s, requires_grad=True) for s in shapes)
        origin, geometry = torch.empty(5, dtype=torch.int64), torch.empty(5, 4, 2)
        return {
            "deform_columns": trace(lambda *t: gather(*t, [1, 1, 1, 1, 0, 0, 1, 1]), x, offset, mask),
            "deform_sample": trace(deform_sample_triton, x, offset),
            "deform_convolve": trace(
                lambda x, o, m, k: convolve_triton(x, o, m, k, ((1, 1), (1, 1), (0, 0), (1, 1))),
                x,
                offset,
                mask,
                weight,
            ),
            "roi_pool": trace(lambda *t: _pool(*t, 7, 7), table, origin, geometry),
        }


# Machine code


class Usage(NamedTuple):
    """What a compiled kernel takes: registers a thread, spilled bytes (registers on AMD), shared bytes a block."""

    registers: int
    spilled: int
    shared: int
    warps: int  # a block


# The most registers on each of TARGETS.
BUDGET = {
    "gather_kernel": (40, 40, 40, 40, 24, 40, 24, 24),
    "scatter_kernel": (56, 56, 56, 56, 48, 64, 64, 48),
    "collect_kernel": (64, 64, 64, 64, 32, 64, 32, 32),
    "convolve_kernel": (136, 144, 136, 176, 96, 96, 96, 224),
    "pool_kernel": (64, 96, 64, 64, 48, 64, 48, 48),
    "spread_kernel": (64, 64, 64, 64, 48, 64, 48, 48),
    "overlap_kernel": (128, 128, 128, 128, 64, 128, 64, 80),
    "round_kernel": (128, 128, 128, 128, 64, 128, 32, 80),
    "correlate_kernel": (72, 64, 64, 64, 64, 64, 64, 56),
    "mix_kernel": (64, 64, 64, 64, 32, 64, 32, 32),
}
# The least share of a processor's warps in flight, on any target.
FLIGHT = dict.fromkeys(BUDGET, 0.25) | dict.fromkeys(("scatter_kernel", "collect_kernel", "spread_kernel"), 0.5)
FLIGHT |= {
    "gather_kernel": 0.75,
    "mix_kernel": 0.5,
    "correlate_kernel": 0.4,
    "pool_kernel": 0.3,
    "convolve_kernel": 0.12,
}
# Bytes that are spilled: where float32 is multiplied without TF32, two numbers once a program.
SPILLED = {("convolve_kernel fp32", "sm_100"): 8}


@pytest.mark.parametrize(
    "target", [pytest.param(t, marks=[] if t == DEFAULT_TARGET else pytest.mark.slow) for t in TARGETS]
)
def test_kernels_keep_to_their_budgets(target):
    """The table of registers, spills, shared memory and occupancy, printed by pytest -s."""
    over = []
    compiled = {name: Usage(*used) for name, used in measured("usage", target).items()}
    assert {name.split()[0] for name in compiled} == set(BUDGET)
    for name, used in compiled.items():
        most, least = BUDGET[name.split()[0]][TARGETS.index(target)], FLIGHT[name.split()[0]]
        share = occupancy(used, target)
        print(f"{target:7} {name:22} {used.registers:4} {used.spilled:3} {used.shared:6} {share:5.0%}")
        if used.spilled > SPILLED.get((name, target), 0) or used.registers > most or share < least:
            over.append(f"{name}: {used}, occupancy {share:.0%}")
    assert not over


@pytest.mark.slow
@pytest.mark.parametrize("target", [*TARGETS, "gfx1100"])
def test_float32_products_compile_where_tf32_is_allowed(target):
    """TF32 where the target has it: elsewhere Triton would not compile."""
    (used,) = (Usage(*used) for used in measured("usage_of_tf32", target).values())
    assert used.registers > 0


def test_which_targets_have_tf32():
    pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget

    from dimofs.kernels.deform_conv_triton import has_tf32

    amd = {"gfx90a": False, "gfx942": True, "gfx950": False, "gfx1100": False, "gfx1201": False}
    assert {name: has_tf32(GPUTarget("hip", name, 64)) for name in amd} == amd
    assert [has_tf32(GPUTarget("cuda", arch, 32)) for arch in (75, 80, 90, 120)] == [False, True, True, True]


@pytest.mark.parametrize("switch", ["allow_tf32", "fp32_precision", "fp32_precision of all"])
def test_precision_follows_either_switch(switch):
    """In a process of its own, as a switch once used changes what the others may do."""
    if switch != "allow_tf32" and not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        pytest.skip("PyTorch before 2.9 has one switch")
    assert measured("precisions", switch) == {"default": "ieee", "sm_90": "tf32", "gfx90a": "ieee"}


def precisions(switch: str) -> dict[str, str]:
    """The precision of float32 products before, and on two targets after TF32 is allowed by a switch."""
    import triton
    from triton.backends.compiler import GPUTarget

    from dimofs.kernels.deform_conv_triton import _precision

    class Driver:
        target = GPUTarget("cuda", 90, 32)

        def get_current_target(self):
            return self.target

    driver = Driver()
    triton.runtime.driver.set_active(driver)  # pyright: ignore[reportArgumentType]
    found = {"default": _precision()}
    if switch == "allow_tf32":
        torch.backends.cuda.matmul.allow_tf32 = True
    else:
        switched: Any = torch.backends if switch.endswith("all") else torch.backends.cuda.matmul
        switched.fp32_precision = "tf32"
    found["sm_90"] = _precision()
    driver.target = GPUTarget("hip", "gfx90a", 64)
    return found | {"gfx90a": _precision()}


def test_the_gate_sees_spills():
    """In 32 registers, where the kernel wants 40."""
    (used,) = (Usage(*used) for used in measured("usage_in_32_registers").values())
    assert used.registers == 32 and used.spilled > 0


def test_occupancy_by_hand():
    """Of 65536 registers, 128 for each of 128 threads hold 4 blocks; 100 KB of shared memory one on sm_80."""
    assert occupancy(Usage(128, 0, 0, 4), "sm_90") == 16 / 64
    assert occupancy(Usage(32, 0, 100_000, 4), "sm_80") == 4 / 64
    assert occupancy(Usage(128, 0, 0, 4), "sm_120") == 16 / 48
    assert occupancy(Usage(128, 0, 0, 4), "gfx942") == 4 / 8  # of 512 registers a lane
    assert occupancy(Usage(32, 0, 40_000, 4), "gfx942") == 4 / 32  # one block in 64 KB
    assert occupancy(Usage(32, 0, 40_000, 4), "gfx950") == 16 / 32  # four in 160 KB
    assert occupancy(Usage(200, 0, 0, 4), "gfx1201") == 28 / 64  # 216 of 1536 registers a lane: 7 waves


def occupancy(used: Usage, target: str) -> float:
    """The share of a processor's warps that fit at once by registers and shared memory."""
    if target.startswith("gfx"):
        # 4 units with so many registers a lane, given out in steps, and so many waves at most; KB of shared memory.
        registers, step, waves, memory = (1536, 24, 16, 128) if target.startswith("gfx1") else (512, 8, 8, 64)
        memory = 160 if target == "gfx950" else memory
        fits = registers // (max(1, -(-used.registers // step)) * step)
        blocks = min(min(fits, waves) * 4 // used.warps, memory * 1024 // max(used.shared, 1))
        return blocks * used.warps / (4 * waves)
    memory, warps = {"sm_80": (163, 64), "sm_90": (227, 64), "sm_100": (227, 64), "sm_120": (99, 48)}[target]
    registers = max(8, -(-used.registers // 8) * 8)
    blocks = min(65536 // (registers * 32 * used.warps), memory * 1024 // max(used.shared, 1))
    return min(blocks * used.warps, warps) / warps


def usage_in_32_registers() -> dict[str, Usage]:
    return usage(DEFAULT_TARGET, "scatter_kernel fp32", {"maxnreg": 32})


def usage_of_tf32(target: str) -> dict[str, Usage]:
    from dimofs.kernels.deform_conv_triton import has_tf32

    precision = "tf32" if has_tf32(gpu_target(target)) else "ieee"
    return usage(target, "convolve_kernel fp32", precision=precision)


def gpu_target(name: str):
    from triton.backends.compiler import GPUTarget

    if name.startswith("gfx"):
        # RDNA, gfx10 and later, runs waves of 32 lanes, CDNA of 64.
        return GPUTarget("hip", name, 32 if name.startswith("gfx1") else 64)
    return GPUTarget("cuda", int(name[3:]), 32)


def usage(
    target: str, only: str = "", limits: dict[str, int] | None = None, precision: str = "ieee"
) -> dict[str, Usage]:
    """Each kernel in the types in which it runs most."""
    from dimofs.kernels import correlate_triton, deform_conv_triton, deform_triton, nms_triton, roi_align_triton

    tile = {"DOUBLE": False, "TILE_H": deform_triton.TILE_H, "TILE_W": deform_triton.TILE_W}
    masked = tile | {"MASKED": True}
    product = {"WIDEN": False, "PRECISION": precision, "MASKED": True} | {k: tile[k] for k in ("TILE_H", "TILE_W")}
    product |= {"OUTPUTS": deform_conv_triton.OUTPUTS, "INPUTS": deform_conv_triton.INPUTS}
    block = {"BLOCK": roi_align_triton.CHANNELS}
    overlap = {"DOUBLE": False, "BOXES": nms_triton.BOXES}
    moving = [
        (deform_triton.gather_kernel, masked, {}),
        (deform_triton.scatter_kernel, masked | {"COLLECTED": False}, {}),
        (deform_triton.collect_kernel, tile, {}),
        (deform_conv_triton.convolve_kernel, product, deform_conv_triton.OPTIONS),
    ]
    pooling = [(roi_align_triton.pool_kernel, block, {}), (roi_align_triton.spread_kernel, block, {})]
    rows = {"DOUBLE": False, "PIXELS": correlate_triton.PIXELS}
    correlating = [
        (correlate_triton.correlate_kernel, rows | {"SPAN": 32}, {}),
        (correlate_triton.mix_kernel, rows | {"TURNED": True, "CHANNELS": correlate_triton.CHANNELS}, {}),
    ]
    suppressing = [
        (nms_triton.overlap_kernel, overlap, nms_triton.OPTIONS),
        (nms_triton.round_kernel, {"WORDS": nms_triton.WORDS}, {}),
    ]
    kernels = {(k[0].__name__, d): k for d in ("fp32", "bf16") for k in moving + pooling + correlating}
    kernels |= {(k[0].__name__, "fp32"): k for k in suppressing}
    return {
        f"{name} {data}": compiled_usage(kernel, data, target, constants, options | (limits or {}))
        for (name, data), (kernel, constants, options) in kernels.items()
        if only in f"{name} {data}"
    }


POINTERS = dict.fromkeys(("origin", "classes"), "*i64") | dict.fromkeys(("overlaps", "keep", "after"), "*i32")
POINTERS |= dict.fromkeys(("grad_x", "sums", "scale", "geometry"), "*fp32") | {"reach": "*i32"}
DATA = (
    "weight",
    "x",
    "offset",
    "mask",
    "columns",
    "grad",
    "grad_offset",
    "grad_mask",
    "table",
    "out",
    "boxes",
    "threshold",
    "a",
    "b",
    "volume",
    "other",
)


def compiled_usage(kernel, data: str, target: str, constants: dict, options: dict) -> Usage:
    import triton
    from triton.compiler import ASTSource

    types = POINTERS | dict.fromkeys(DATA, f"*{data}") | dict.fromkeys(constants, "constexpr")
    signature = {name: types.get(name, "i32") for name in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    compiled = triton.compile(source, target=gpu_target(target), options=options)
    code, shared, warps = compiled.asm, compiled.metadata.shared, compiled.metadata.num_warps
    if "amdgcn" in code:
        keys = ("vgpr_count", "vgpr_spill_count", "sgpr_spill_count")
        registers, *spilled = (int(re.findall(rf"\.{key}: *(\d+)", code["amdgcn"])[0]) for key in keys)
        return Usage(registers, sum(spilled), shared, warps)
    cuobjdump = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(code["cubin"])
        report = subprocess.run([cuobjdump, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    registers, stack, local = (int(re.findall(rf"{key}:(\d+)", report)[-1]) for key in ("REG", "STACK", "LOCAL"))
    return Usage(registers, stack + local, shared, warps)


if __name__ == "__main__":
    printed = {
        "usage": usage,
        "usage_in_32_registers": usage_in_32_registers,
        "usage_of_tf32": usage_of_tf32,
        "precisions": precisions,
        "writes": writes,
    }
    print(json.dumps(printed[sys.argv[1]](*sys.argv[2:])))
