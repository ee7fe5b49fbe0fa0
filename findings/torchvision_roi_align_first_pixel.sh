#!/usr/bin/env bash
# torchvision.ops.roi_align on the CPU reads the first pixel of the map for samples that lie outside of it.
#
# It multiplies the value by a weight of 0, which changes nothing unless that pixel is NaN or infinite: then bins that lie
# outside of the map, and have nothing to do with the pixel, are NaN instead of 0.
#
# Prints versions and what happens. Exits non-zero if the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 numpy==2.4.6
cat > "$folder/show.py" <<'PYTHON'
import torch
import torchvision
from torchvision.ops import roi_align

print("torch", torch.__version__, "torchvision", torchvision.__version__)
features = torch.ones(1, 1, 6, 6)
# The left bin of the first box lies on the map, far from the first pixel; the right bin and the second box lie outside.
boxes = torch.tensor([[0, 3.0, 3, 9, 5], [0, 20, 20, 30, 30]])
clean = roi_align(features, boxes, (1, 2), sampling_ratio=2).flatten(1).tolist()
features[0, 0, 0, 0] = float("nan")
spoiled = roi_align(features, boxes, (1, 2), sampling_ratio=2).flatten(1)
print("bins of two boxes:", clean)
print("with NaN in the first pixel:", spoiled.tolist())
assert clean == [[1, 0], [0, 0]]
assert spoiled.isnan().tolist() == [[False, True], [True, True]]
PYTHON
"$folder/venv/bin/python" "$folder/show.py"
