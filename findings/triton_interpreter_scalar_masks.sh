#!/usr/bin/env bash
# Triton's interpreter cannot combine a block mask with a scalar comparison of floats.
#
# Compiled kernels broadcast the scalar. In the interpreter (TRITON_INTERPRET=1) the comparison remembers float32 as its
# type, so that its broadcast is an array of floats, and `&` of a boolean and a float array is a TypeError.
#
# Prints versions and what happens. Exits non-zero if the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 triton==3.8.0 numpy==2.4.6
cat > "$folder/show.py" <<'PYTHON'
import os

os.environ["TRITON_INTERPRET"] = "1"

import torch
import triton
import triton.language as tl


@triton.jit
def store_if_positive(x, out, AS_BLOCK: tl.constexpr):
    lane = tl.arange(0, 4)
    positive = tl.load(x + lane * 0) > 0.0 if AS_BLOCK else tl.load(x) > 0.0
    tl.store(out + lane, 7.0, mask=(lane < 3) & positive)


print("torch", torch.__version__, "triton", triton.__version__)
out = torch.zeros(4)
store_if_positive[(1,)](torch.tensor([2.0]), out, True)
print("a block of comparisons as the mask:", out.tolist())
assert out.tolist() == [7, 7, 7, 0]
try:
    store_if_positive[(1,)](torch.tensor([2.0]), out, False)
except Exception as error:
    print("one scalar comparison as the mask:", type(error).__name__, str(error)[:120])
    assert "bitwise_and" in str(error)
else:
    raise SystemExit("a scalar comparison is accepted now")
PYTHON
"$folder/venv/bin/python" "$folder/show.py"
