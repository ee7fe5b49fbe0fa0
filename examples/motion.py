"""The motion between two frames, in five lines.

    python examples/motion.py

It reads two frames of a synthetic clip, estimates where everything has moved, moves points of the first frame to their
places in the second, and writes the motion in Middlebury's format. It prints the size of the field and how far the
fastest pixel has moved.
"""

import torch

from dimofs.datasets.synthetic.clips import synthetic_clip
from dimofs.flow_files import write_flow
from dimofs.zoo import checkpoints
from dimofs.zoo.detection.detector import PoseDetector


def main() -> None:
    frames = torch.from_numpy(synthetic_clip(3, length=6).frames).permute(0, 3, 1, 2)  # [T, 3, H, W] uint8, RGB

    detector = checkpoints.load_as(PoseDetector, "dimofs_mobile")
    with torch.inference_mode():
        a, b = detector.features(frames[:1]), detector.features(frames[5:])
        (motion,) = detector.motion(a, b)
    moved = motion.move(torch.tensor([[160.0, 120.0], [40.0, 200.0]]))
    write_flow("motion.flo", motion.dense(240, 320))

    print("field", list(motion.flow.shape), "of a frame of", motion.width, "x", motion.height, "pixels")
    print("points", moved.shape[0], "moved; the fastest pixel by", round(motion.flow.norm(dim=0).max().item(), 1))


if __name__ == "__main__":
    main()
