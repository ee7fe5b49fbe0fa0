"""Pictures of drawn mice with four labelled points each, as COCO files have them: what an own category looks like."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from dimofs.picture import png

JOINTS = ["Nose", "left ear", "right ear", "tail base"]
SKELETON = [[1, 2], [1, 3], [1, 4]]


def write_mice(folder: Path, count: int, side: int = 64, seed: int = 0) -> Path:
    """`count` PNGs of `side` x `side` pixels with one or two mice each, and mice.json, whose path is returned."""
    random = np.random.default_rng(seed)
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for number in range(count):
        image = random.normal(150, 12, (side, side, 3))
        for half in range(random.integers(1, 3)):
            points = _mouse(image, random, half)
            low, high = points.min(0) - 3, points.max(0) + 3
            # COCO counts pixels: the centre of pixel 0 is at 0.
            triples = np.column_stack((points - 0.5, np.full(len(points), 2))).round(2).ravel().tolist()
            box = [*low.tolist(), *(high - low).tolist()]
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": 7, "bbox": box, "iscrowd": 0,
                "area": float(np.prod(high - low)), "keypoints": triples, "num_keypoints": len(points),
            })  # fmt: skip
        name = f"mouse_{number:03d}.png"
        (folder / "photos" / name).write_bytes(png(image.clip(0, 255).astype(np.uint8)))
        images.append({"id": number, "file_name": name, "width": side, "height": side})
    category: dict[str, Any] = {"id": 7, "name": "mouse", "keypoints": JOINTS, "skeleton": SKELETON}
    path = folder / "mice.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))
    return path


def _mouse(image: np.ndarray, random: np.random.Generator, half: int) -> np.ndarray:
    """Draw a mouse into the left (0) or right half of the image; its points [4, 2]."""
    side = len(image)
    length = side * random.uniform(0.22, 0.32)
    middle = np.array([side * (0.25 + 0.5 * half), side * random.uniform(0.3, 0.7)])
    angle = random.uniform(-0.6, 0.6) - np.pi / 2
    ahead = np.array([np.cos(angle), np.sin(angle)])
    right = np.array([-ahead[1], ahead[0]])
    nose, tail = middle + 0.5 * length * ahead, middle - 0.5 * length * ahead
    neck = middle + 0.25 * length * ahead
    ears = neck - 0.22 * length * right, neck + 0.22 * length * right
    ys, xs = np.mgrid[:side, :side] + 0.5
    places = np.stack((xs, ys), axis=2)
    for part in np.linspace(0, 1, 12):
        _dot(image, places, tail + part * (nose - tail), length * (0.16 - 0.1 * part), (90, 80, 75))
    for ear in ears:
        _dot(image, places, ear, 0.1 * length, (220, 150, 150))
    _dot(image, places, nose, 0.06 * length, (240, 90, 110))
    return np.stack((nose, *ears, tail))


def _dot(image: np.ndarray, places: np.ndarray, at: np.ndarray, radius: float, colour: tuple[int, int, int]) -> None:
    image[np.hypot(*np.moveaxis(places - at, 2, 0)) <= max(radius, 0.8)] = colour
