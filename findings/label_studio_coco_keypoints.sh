#!/usr/bin/env bash
# Label Studio's COCO export gives an image one set of keypoints, and its joints under other joints' names.
#
# Two animals in one picture, each with a box and two joints whose regions point to their box (parentID): the export has
# both boxes as annotations without keypoints and a third annotation with the keypoints, those of the animal labelled
# last; the other's are gone. The three numbers of each joint stand in the order of model_index, but the category's
# "keypoints" names them in the order of the labelling interface, which a reader of COCO files must go by: the nose's place
# is read as the tail's. Nothing warns. The JSON export has all joints with their names; read that one.
#
# Prints the version and what comes out. Exits non-zero if the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check label-studio-sdk==2.1.2 2> "$folder/pip.log" \
    || { cat "$folder/pip.log"; exit 1; }
cat > "$folder/show.py" <<'PYTHON'
import json
import sys
from importlib.metadata import version
from pathlib import Path

from label_studio_sdk.converter import Converter
from PIL import Image

folder = Path(sys.argv[1])
(folder / "images").mkdir()
picture = folder / "images" / "mice.png"
Image.new("RGB", (100, 100)).save(picture)
INTERFACE = """<View><Image name="image" value="$image"/>
<RectangleLabels name="box" toName="image"><Label value="mouse"/></RectangleLabels>
<KeyPointLabels name="joint" toName="image">
<Label value="tail" model_index="1"/><Label value="nose" model_index="0"/>
</KeyPointLabels></View>"""


def region(identity, kind, name, label, **value):
    return {
        "id": identity, "type": kind, "from_name": name, "to_name": "image", "original_width": 100,
        "original_height": 100, "image_rotation": 0, "value": {kind: [label], "rotation": 0, **value},
    }


result = []
for mouse, x in (("first", 10), ("second", 60)):
    result.append(region(mouse, "rectanglelabels", "box", "mouse", x=x, y=10, width=30, height=30))
    for joint, dx in (("nose", 0), ("tail", 20)):
        point = region(f"{mouse}-{joint}", "keypointlabels", "joint", joint, x=x + dx, y=20, width=1)
        result.append(point | {"parentID": mouse})
task = {"id": 1, "data": {"image": str(picture)}, "annotations": [{"id": 1, "completed_by": 1, "result": result}]}
(folder / "tasks.json").write_text(json.dumps([task]))
converter = Converter(INTERFACE, project_dir=str(folder), upload_dir=str(folder / "images"))
converter.convert_to_coco(str(folder / "tasks.json"), str(folder / "coco"), output_image_dir=str(folder / "out"), is_dir=False)
found = json.loads((folder / "coco" / "result.json").read_text())
print("label-studio-sdk", version("label-studio-sdk"))
names = [category["keypoints"] for category in found["categories"] if "keypoints" in category]
print("joints of the category:", *names)
for annotation in found["annotations"]:
    print("annotation: box", annotation["bbox"], "keypoints", annotation.get("keypoints"))
joints = [a["keypoints"] for a in found["annotations"] if "keypoints" in a]
# The nose of the second mouse is at 60, its tail at 80; the first name is the tail's.
if len(found["annotations"]) != 3 or names != [["tail", "nose"]] or joints != [[60, 20, 2, 80, 20, 2]]:
    sys.exit("the behaviour has changed")
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "$folder"
