#!/usr/bin/env bash
# PyAV cannot list the side data of a frame that holds EXIF: `frame.side_data` raises ValueError, since FFmpeg 8 attaches
# the EXIF data of JPEG, PNG, WebP and TIFF files to their frames as a kind that PyAV's enum lacks. So the display matrix
# of a photograph cannot be read; `frame.rotation` can, but does not tell a mirrored photograph from a turned one.
# This script fails once that has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q av==18.1.0 numpy==2.3.4 pillow==12.0.0
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys

import av
import numpy as np
from PIL import Image

print("PyAV", av.__version__, "libavcodec", av.library_versions["libavcodec"])
rotations = {}
for orientation in range(1, 9):
    path = f"{sys.argv[1]}/{orientation}.jpg"
    image = Image.fromarray(np.zeros((48, 64, 3), np.uint8))
    exif = image.getexif()
    exif[0x112] = orientation
    image.save(path, exif=exif)
    with av.open(path) as container:
        frame = next(container.decode(video=0))
    rotations[orientation] = frame.rotation
    try:
        list(frame.side_data)
    except ValueError as error:
        print(f"orientation {orientation}: rotation {frame.rotation}, side_data raises ValueError: {error}")
        assert "is not a valid Type" in str(error)
    else:
        raise SystemExit("side_data can be listed now")
assert rotations[5] in (rotations[6], rotations[8]) and rotations[2] in (0, 180, -180), rotations
print("mirrored orientations have the angle of turned ones:", rotations)
PYTHON
