#!/usr/bin/env bash
# A program compiled by AOTInductor reads any input as if it had the example's strides and type, and says nothing.
#
# An image that came from NumPy by permute(), or one in float64, gives other numbers than the model's. The checks are
# compiled in but run only where the environment variable AOTI_RUNTIME_CHECK_INPUTS is 1; then both are refused with an
# error. torch.export's own program reads any strides right. Needs a C++ compiler.
#
# Prints versions and what happens. Exits non-zero if the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6
cat > "$folder/show.py" <<'PYTHON'
import sys

import torch

image = torch.arange(24.0).reshape(1, 2, 3, 4)
inputs = {
    "as compiled": image,
    "interleaved": image.to(memory_format=torch.channels_last),
    "float64": image.double(),
}


class Twice(torch.nn.Module):
    def forward(self, image):
        return 2 * image


def results(program):
    for name, given in inputs.items():
        try:
            yield name, "right" if torch.equal(program(given), 2 * image) else "wrong, without an error"
        except RuntimeError as error:
            yield name, f"refused ({str(error).strip()})"


package = sys.argv[1]
if sys.argv[2] == "compile":
    exported = torch.export.export(Twice(), (image,))
    torch._inductor.aoti_compile_and_package(exported, package_path=package)
    print("torch", torch.__version__)
    print("exported program, interleaved:", "right" if exported.module()(inputs["interleaved"]).equal(2 * image) else "wrong")
seen = dict(results(torch._inductor.aoti_load_package(package)))
for name, result in seen.items():
    print(f"{sys.argv[2]:8} {name}: {result}")
expected = ["right", "wrong", "wrong"] if sys.argv[2] == "compile" else ["right", "refused", "refused"]
if [result.split(",")[0].split(" ")[0] for result in seen.values()] != expected:
    raise SystemExit("the behaviour has changed")
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "$folder/twice.pt2" compile
AOTI_RUNTIME_CHECK_INPUTS=1 "$folder/venv/bin/python" "$folder/show.py" "$folder/twice.pt2" checked
