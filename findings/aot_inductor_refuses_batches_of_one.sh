#!/usr/bin/env bash
# A program exported for one image and more is compiled by AOTInductor to one for two images and more.
#
# torch.export takes Dim("n", min=1) and its program computes one image. AOTInductor assumes that a size which is not
# known is at least 2, and writes this as a check of the input into the compiled program, which then refuses one image
# with an error where input checks are switched on, although nothing that it computes needs two. Needs a C++ compiler.
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


class Sums(torch.nn.Module):
    def forward(self, images):
        return images.sum(dim=(1, 2, 3))


def result(program, count):
    try:
        return "right" if program(torch.ones(count, 3, 2, 2)).tolist() == [12.0] * count else "wrong"
    except (RuntimeError, AssertionError) as error:
        return f"refused: {str(error).strip().splitlines()[0][:150]}"


sizes = {"images": {0: torch.export.Dim("n", min=1, max=64)}}
exported = torch.export.export(Sums(), (torch.ones(2, 3, 2, 2),), dynamic_shapes=sizes)
torch._inductor.aoti_compile_and_package(exported, package_path=sys.argv[1])
compiled = torch._inductor.aoti_load_package(sys.argv[1])
print("torch", torch.__version__)
seen = {}
for name, program in (("exported", exported.module()), ("compiled", compiled)):
    for count in (1, 2, 5):
        seen[name, count] = result(program, count)
        print(f"{name}, {count}: {seen[name, count]}")
refused = [place for place, text in seen.items() if text.startswith("refused")]
if refused != [("compiled", 1)] or "wrong" in seen.values():
    raise SystemExit("the behaviour has changed")
PYTHON
AOTI_RUNTIME_CHECK_INPUTS=1 "$folder/venv/bin/python" "$folder/show.py" "$folder/sums.pt2"
