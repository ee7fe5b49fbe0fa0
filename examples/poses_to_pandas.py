"""Poses of a video as a pandas table, one row per frame, person and joint.

    pip install pandas
    python examples/poses_to_pandas.py x.mp4 --out x.csv

It prints how many frames show people and how many people they are, the first rows,

       frame  time  person  score      joint       x       y  confidence
    0      0   0.0       0   0.99       nose  139.87  104.36        0.83
    1      0   0.0       0   0.99   left_eye  140.49  103.11        0.94

the number of people in each frame, and how many pixels each person's joints move from frame to frame on average.
"""

import argparse
from dataclasses import replace

import pandas as pd  # pyright: ignore[reportMissingImports]

from dimofs.sources import sources
from dimofs.tracking import NONE, TRACKERS, follow
from dimofs.video import open_clip
from dimofs.zoo import checkpoints
from dimofs.zoo.detection.detector import PoseDetector
from dimofs.zoo.detection.stream import poses


def table(video: str, weights: str = "dimofs_mobile") -> pd.DataFrame:
    """The people of a video as rows of frame, time, person, score, joint, x, y and confidence.

    Times are in seconds, coordinates in pixels of the upright frame; `person` is the number of a track.
    """
    detector = checkpoints.load_as(PoseDetector, weights)
    clip = open_clip(sources(video)[0])
    tracker = replace(TRACKERS["default"], score=0.5)
    tracks, rows = NONE, []
    for found in poses(detector, clip.frames()):
        height, width, _ = found.frame.pixels.shape
        tracks, people = follow(tracks, found.people, tracker, height, width)
        if people.ids is None:
            continue
        for i, person in enumerate(people.ids.tolist()):
            score = people.scores[i].item()
            for j, joint in enumerate(detector.keypoint_names):
                x, y = people.keypoints[i, j].tolist()
                confidence = people.confidences[i, j].item()
                rows.append((found.frame.index, found.frame.time, person, score, joint, x, y, confidence))
    return pd.DataFrame(rows, columns=["frame", "time", "person", "score", "joint", "x", "y", "confidence"])


def steps(poses: pd.DataFrame) -> pd.DataFrame:
    """Mean distance in pixels that each person's joints move between frames: a row per person, a column per joint."""
    ordered = poses.sort_values("frame")
    moved = ordered.groupby(["person", "joint"])[["x", "y"]].diff()
    distance = (moved["x"] ** 2 + moved["y"] ** 2) ** 0.5
    return ordered.assign(step=distance).pivot_table("step", "person", "joint")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("video", help="a video file, an image, a folder of images or a URL")
    arguments.add_argument("--out", help="also write the table to this CSV file")
    options = arguments.parse_args()
    found = table(options.video)
    print(f"{found['frame'].nunique()} frames with people, {found['person'].nunique()} people")
    print(found.head().round(2))
    print("people per frame:", found.groupby("frame")["person"].nunique().to_dict())
    print("pixels per frame, by joint:")
    print(steps(found).round(1))
    if options.out:
        found.to_csv(options.out, index=False)


if __name__ == "__main__":
    main()
