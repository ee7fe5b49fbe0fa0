"""PoseTrack17 and PoseTrack18 as training pairs: videos with every person's joints in some of the frames.

ROOT holds annotations/train/*.json (either format, may be gzipped; see `dimofs.formats.posetrack`) and the images. The
files name images relative to ROOT.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from dimofs.boxes import area, clip
from dimofs.cli import InputError
from dimofs.datasets.people import Pair, People, box_of_joints, draw_partner, inside, to_dimofs
from dimofs.files import inside as inside_folder
from dimofs.formats import posetrack
from dimofs.formats.posetrack import JOINTS, Video
from dimofs.images import read_image
from dimofs.pixels import to_tensor

# PoseTrack's coordinates are numbers of pixels. Add this to reach the pixel's centre.
CENTRE = 0.5


class PoseTrack:
    """Pairs (A, A + delta) of a part's videos; delta is uniform in -reach..reach, then clipped to the video.

    Frame A is one of every `every`-th of the frames that have people. The other frames may be unlabelled, so they serve
    as Frame B only. The box is the file's or, without one, the extent of the labelled joints times 1.2; the head box of
    a person with neither is a region to ignore. The file's polygons are regions to ignore by their extents.

    InputError: there are no annotations, they are malformed, name no people, or name images outside `root`, or the
    first image is absent; later, an image is absent, damaged or of another size than its file says.
    """

    def __init__(self, root: str | Path, *, part: str = "train", reach: int = 10, every: int = 1):
        self.root, self.reach, self.every = Path(root), reach, every
        folder = self.root / "annotations" / part
        files = posetrack.files(folder)
        if not files:
            raise InputError(f"{folder}: holds no .json files; --posetrack is the folder of annotations and images")
        videos = [
            video for file in tqdm(files, "PoseTrack", disable=None) for video in posetrack.read_annotations(file)
        ]
        self.videos = [video for video in videos if len(video.frame)]
        if not self.videos:
            raise InputError(f"{folder}: annotates no person; are these the annotations of {part}?")
        for video in self.videos:
            check_names(self.root, video)
        first = self.root / self.videos[0].frames[0]
        if not first.exists():
            raise InputError(f"{first}: absent; images must lie where {self.videos[0].file} names them")

    def __len__(self) -> int:
        return len(self.videos)

    def pair(self, index: int, random: np.random.Generator) -> Pair:
        """Two frames of video `index`; the name is that of Frame A's image."""
        video = self.videos[index]
        a = int(random.choice(self.labelled(video)))
        b = draw_partner(a, len(video.frames), random, self.reach)
        frame_a = self._image(video, a)
        frame_b = frame_a if a == b else self._image(video, b)
        return Pair(
            frame_a=frame_a,
            frame_b=frame_b,
            people=people(video, a, *frame_a.shape[1:]),
            delta=b - a,
            name=video.frames[a],
        )

    def labelled(self, video: Video) -> np.ndarray:
        """The numbers of the frames that may be a Frame A."""
        return np.unique(video.frame)[:: self.every]

    def frames(self) -> Iterator[tuple[str, Tensor]]:
        """Every possible Frame A of every video, with the name that `pair` gives it."""
        for video in self.videos:
            for number in self.labelled(video):
                yield video.frames[number], self._image(video, number)

    def _image(self, video: Video, number: int) -> Tensor:
        return to_tensor(read_labelled_image(self.root, video, number))


def check_names(root: Path, video: Video) -> None:
    """InputError: an image's name leads out of the folder `root`."""
    for name in video.frames:
        try:
            inside_folder(root, name)
        except InputError as error:
            raise InputError(f"{video.file}: image {name!r} is not a file inside {root}; correct its name") from error


def read_labelled_image(root: Path, video: Video, number: int) -> np.ndarray:
    """The image of frame `number`, [H, W, 3] uint8.

    InputError: it is absent, damaged, or of another size than the file says.
    """
    try:
        return read_image(root / video.frames[number], video.sizes[number])
    except InputError as error:
        raise InputError(f"{error} ({video.file} names it)") from error


def people(video: Video, number: int, height: int, width: int) -> People:
    """The people of frame `number`, whose image has `height` x `width` pixels."""
    low, high = np.searchsorted(video.frame, (number, number + 1))
    chosen = slice(*np.searchsorted(video.person, (low, high)))
    keypoints, labelled = (
        torch.zeros(high - low, len(JOINTS), 2),
        torch.zeros(high - low, len(JOINTS), dtype=torch.bool),
    )
    known = video.joint[chosen] >= 0
    person, joint = (torch.from_numpy(x[chosen][known]) for x in (video.person - low, video.joint))
    keypoints[person, joint] = torch.from_numpy(video.xy[chosen][known] + CENTRE).float()
    labelled[person, joint] = True
    keypoints, labelled = to_dimofs(keypoints, labelled & inside(keypoints, height, width), JOINTS)

    boxes, heads = (_clipped(corners[low:high], height, width) for corners in (video.box, video.head))
    boxes = torch.where(area(boxes)[:, None] > 0, boxes, box_of_joints(keypoints, labelled, height, width))
    known = area(boxes) > 0
    polygons = [np.concatenate((p.min(0), p.max(0)))[None] for p in video.regions[number] if len(p)]
    regions = _clipped(np.concatenate(polygons) if polygons else np.zeros((0, 4)), height, width)
    ignore = torch.cat((heads[~known], regions))
    return People(
        boxes=boxes[known], keypoints=keypoints[known], labelled=labelled[known], ignore=ignore[area(ignore) > 0]
    )


def _clipped(corners: np.ndarray, height: int, width: int) -> Tensor:
    """[N, 4] float32: the part of each box inside the frame; zeros if it is empty or not finite."""
    boxes = clip(torch.from_numpy(corners + CENTRE).float(), height, width)
    good = boxes.isfinite().all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1)
    return torch.where(good[:, None], boxes, 0.0)
