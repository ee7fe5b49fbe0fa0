#!/usr/bin/env bash
# The weight gradient of a bfloat16 convolution of stride 2 on a 1 x 1 map is partly whatever was in memory.
#
# On CPUs with AMX, where PyTorch takes oneDNN's kernels for it. A 3 x 3 convolution with padding 1 touches such a map
# with its middle tap alone, so the gradients of the other eight are 0. Those of two of them are never written: they are
# often 0, as fresh memory is, and else hold numbers of what used the memory before, huge ones or NaN. float32, stride 1
# and maps of 2 x 2 are right. Detectors and 3-d networks come to maps of 1 x 1 on small inputs and in their last
# levels; training in mixed precision then diverges in some runs and not in others.
#
# Fills freed memory with bytes of 128 (MALLOC_PERTURB_ of glibc), so that every run shows it. Prints versions and what
# happens. Exits non-zero if the behaviour has changed, or without AMX.
set -euo pipefail
grep -q amx_bf16 /proc/cpuinfo || { echo "this CPU has no AMX; nothing to see"; exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6
cat > "$folder/show.py" <<'PYTHON'
import torch


def wrong_taps(side, stride, dtype):
    """Which of the nine taps have a gradient far from that of float32."""
    torch.manual_seed(0)
    image, weight = torch.randn(16, 64, side, side), torch.randn(64, 64, 3, 3)
    found = {}
    for kind in (torch.float32, dtype):
        w = weight.detach().to(kind).requires_grad_()
        torch.nn.functional.conv2d(image.to(kind), w, stride=stride, padding=1).float().square().mean().backward()
        found[kind] = w.grad.float()
    right = (found[dtype] - found[torch.float32]).abs() <= 0.05 * found[torch.float32].abs().max()
    return (~right).flatten(2).any(0).any(0).nonzero().flatten().tolist()


print("torch", torch.__version__)
seen = {}
for case in [(1, 2, torch.bfloat16), (1, 2, torch.float32), (1, 1, torch.bfloat16), (2, 2, torch.bfloat16)]:
    seen[case] = wrong_taps(*case)
    print("map of {0} x {0}, stride {1}, {2}: wrong taps {3}".format(*case, seen[case]))
if [bool(taps) for taps in seen.values()] != [True, False, False, False]:
    raise SystemExit("the behaviour has changed")
PYTHON
MALLOC_PERTURB_=128 OMP_NUM_THREADS=1 "$folder/venv/bin/python" "$folder/show.py"
