"""Any videos as training pairs. They have no labels, so they need those of a teacher (`dimofs.datasets.teacher`)."""

from collections.abc import Iterator

import numpy as np
from torch import Tensor

from dimofs.cli import InputError
from dimofs.datasets.people import Pair, People, draw_frames
from dimofs.pixels import to_tensor
from dimofs.reader import count_frames, read_clip, read_frames
from dimofs.sources import sources


class Videos:
    """Pairs (A, A + delta) of the video files in a folder; delta is uniform in -reach..reach, then clipped to the clip.

    folder: a folder or a glob pattern.
    every:  Frame A is one of every `every`-th frame.
    InputError: there is no video, one is no regular file, or two have the same name; later, a video does not decode or
    holds no frame.
    """

    def __init__(self, folder: str, *, reach: int = 10, every: int = 1):
        self.reach, self.every = reach, every
        found = [source.file for source in sources(folder) if source.file is not None]
        self.paths = {path.name: path for path in found}
        self.names = list(self.paths)
        if not found:
            raise InputError(f"{folder}: no video there; give a folder of video files")
        if len(self.names) < len(found):
            twice = next(path for path in found if self.paths[path.name] != path)
            raise InputError(f"{folder}: two videos are called {twice.name}; rename one")
        if odd := [path for path in found if not path.is_file()]:
            raise InputError(f"{odd[0]}: not a file; remove it from the videos to train on")
        self._lengths: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.names)

    def pair(self, index: int, random: np.random.Generator) -> Pair:
        """Two frames of video `index`; the name is "<file name>/<number of A>", from 0, with six digits."""
        name = self.names[index]
        a, b = draw_frames(self.length(name), random, reach=self.reach, every=self.every)
        frame_a, frame_b = map(to_tensor, read_frames(self.paths[name], (a, b)))
        return Pair(frame_a=frame_a, frame_b=frame_b, people=People.empty(), delta=b - a, name=f"{name}/{a:06d}")

    def length(self, name: str) -> int:
        """The number of frames of a video."""
        if name not in self._lengths:
            self._lengths[name] = count_frames(self.paths[name])
        return self._lengths[name]

    def frames(self) -> Iterator[tuple[str, Tensor]]:
        """Every possible Frame A of every video, with the name that `pair` gives it."""
        for name, path in self.paths.items():
            for number, frame in enumerate(read_clip(path)):
                if number % self.every == 0:
                    yield f"{name}/{number:06d}", to_tensor(frame)
