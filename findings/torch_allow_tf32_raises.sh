#!/usr/bin/env bash
# Reading torch.backends.cuda.matmul.allow_tf32 raises once anybody has used the newer fp32_precision switches.
#
# Libraries that only ask whether TF32 is allowed fail in programs that set torch.backends.fp32_precision = "tf32".
# Reading torch.backends.cuda.matmul.fp32_precision works after either way of setting it.
#
# Prints versions and what happens. Exits non-zero if the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6
cat > "$folder/show.py" <<'PYTHON'
import torch

matmul = torch.backends.cuda.matmul
print("torch", torch.__version__)
print("untouched: allow_tf32", matmul.allow_tf32, "fp32_precision", matmul.fp32_precision)
matmul.allow_tf32 = True
print("after allow_tf32 = True: fp32_precision", matmul.fp32_precision)
assert matmul.fp32_precision == "tf32"
matmul.allow_tf32 = False
torch.backends.fp32_precision = "tf32"
matmul.fp32_precision = "tf32"
print("after fp32_precision = 'tf32': fp32_precision", matmul.fp32_precision)
try:
    print("allow_tf32", matmul.allow_tf32)
except RuntimeError as error:
    print("allow_tf32 raises:", str(error)[:110])
else:
    raise SystemExit("allow_tf32 can be read now")
PYTHON
"$folder/venv/bin/python" "$folder/show.py"
