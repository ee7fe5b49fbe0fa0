#!/usr/bin/env bash
# torchvision.ops.batched_nms lets boxes of different classes suppress one another.
#
# Up to 1,000 boxes on the CPU, it keeps classes apart by adding class * (largest coordinate + 1) to all coordinates.
# Boxes with negative coordinates, such as detections that leave the image, can then meet boxes of another class. The
# documentation asks for coordinates of at least 0, but nothing checks them. With more boxes, each class is suppressed by
# itself, so the same two boxes are kept.
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
from torchvision.ops import batched_nms

print("torch", torch.__version__, "torchvision", torchvision.__version__)
# A box of class 0 inside the image and one of class 1 that lies above and left of it.
boxes = torch.tensor([[0.0, 0, 10, 10], [-11, -11, -1, -1]])
scores, classes = torch.tensor([0.9, 0.8]), torch.tensor([0, 1])
alone = batched_nms(boxes, scores, classes, 0.5).tolist()
# The same two among 1,000 empty boxes elsewhere, which overlap nothing.
more = torch.cat((boxes, torch.full((1000, 4), 5.0)))
rest = torch.zeros(1000)
among = batched_nms(more, torch.cat((scores, rest)), torch.cat((classes, rest.long())), 0.5).tolist()
print("kept of two boxes of two classes that do not touch:", alone)
print("the same boxes among 1,000 others:", among[:2])
assert alone == [0] and among[:2] == [0, 1]
PYTHON
"$folder/venv/bin/python" "$folder/show.py"
