#!/usr/bin/env bash
# A frame of PyAV whose side_data was read outlives its last reference until Python's cycle collector runs.
#
# Frames are freed at once, by their count of references, as long as nobody looks at frame.side_data, where rotation and
# motion vectors are. Reading it makes the frame and its side data refer to each other. The collector counts objects and
# not bytes, so that it sees no reason to run: a decoder that reads side_data holds one full-HD frame of 3 MB after
# another.
#
# Prints versions and what happens. Exits non-zero if the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6
cat > "$folder/show.py" <<'PYTHON'
import gc
import sys

import av
import numpy as np

with av.open(sys.argv[1], "w") as film:
    stream = film.add_stream("mpeg4", rate=25)
    stream.width, stream.height = 64, 48
    for number in range(30):
        frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 8 * number, np.uint8), format="rgb24")
        film.mux(stream.encode(frame))
    film.mux(stream.encode())


def alive(read):
    """Decoded frames that still exist after the film was read and no reference to them is left."""
    gc.collect()
    gc.disable()
    with av.open(sys.argv[1]) as film:
        for frame in film.decode(video=0):
            if read:
                len(frame.side_data)
        del frame
    return sum(isinstance(thing, av.VideoFrame) for thing in gc.get_objects())


print("av", av.__version__)
left = {"not read": alive(False), "read": alive(True)}
for name, count in left.items():
    print(f"side_data {name}: {count} of 30 frames are still there")
if left["not read"] > 1 or left["read"] < 29:
    raise SystemExit("the behaviour has changed")
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "$folder/film.mp4"
