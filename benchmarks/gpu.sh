#!/usr/bin/env bash
# All that wants a GPU, in under ten minutes: the kernels' tests on CUDA, and speed with predictions beside measurements.
#
#     benchmarks/gpu.sh [FOLDER]
#
# FOLDER (default: benchmarks) gets DATE-gpu-kernels.json, -model.json, -train.json and -batches.json. A part that fails
# or takes too long is named at the end, and the exit status is then 1; the others run.
set -u
cd "$(dirname "$0")/.."
out=${1:-benchmarks}
python=${PYTHON:-python}
name=$out/$(date +%F)-gpu
failed=()
mkdir -p "$out"

part() {
    local what=$1 limit=$2
    shift 2
    echo "== $what"
    timeout "$limit" "$@" || failed+=("$what")
}

"$python" -c 'import sys, torch; sys.exit(0 if torch.cuda.is_available() else "error: no CUDA device; run this on a GPU")' || exit 2
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || true

part "kernel tests" 150 "$python" -m pytest -q -m "" -p no:cacheprovider \
    tests/test_kernels.py tests/test_kernels_gradients.py tests/test_kernels_awkward.py tests/test_kernels_correlate.py
part "kernels" 150 "$python" -m dimofs.eval.speed kernels --device cuda --json "$name-kernels.json"
part "model" 90 "$python" -m dimofs.eval.speed model --quick --device cuda --json "$name-model.json"
part "training step" 90 "$python" -m dimofs.eval.speed train --quick --device cuda --json "$name-train.json"
part "batches" 60 "$python" - "$name-batches.json" <<'PYTHON'
"""Frames a second of the shipped model at batch 1, 8 and 32, and the memory that it takes."""
import json
import sys

import torch

from dimofs.eval.timing.case import median_and_spread, seconds
from dimofs.eval.timing.history import conditions
from dimofs.eval.timing.models import clip_frames
from dimofs.zoo import checkpoints
from dimofs.zoo.detection.detector import PoseDetector

detector = checkpoints.load_as(PoseDetector, "dimofs_mobile", "cuda")
frame, rows = clip_frames(1).cuda(), []
with torch.inference_mode():
    for batch in (1, 8, 32):
        frames = frame.expand(batch, -1, -1, -1)
        torch.cuda.reset_peak_memory_stats()
        times = [seconds(lambda: detector(frames, min_score=0.5), "cuda") for _ in range(13)][3:]
        milliseconds, spread = median_and_spread(times)
        memory = torch.cuda.max_memory_allocated() / 1e6
        row = {"batch": batch, "ms": milliseconds, "spread": spread, "frames_per_second": 1e3 * batch / milliseconds}
        rows.append(row | {"peak_mb": memory})
        print(row)
with open(sys.argv[1], "w", encoding="utf-8") as file:
    json.dump({"conditions": conditions("cuda", True), "rows": rows}, file, indent=1)
PYTHON

if [ ${#failed[@]} -gt 0 ]; then
    printf 'failed or out of time: %s\n' "${failed[@]}" >&2
    exit 1
fi
echo "-> $name-*.json"
